"""The networks inside what scikit-learn and other packages have for any estimator."""

import io
import pickle
import shutil
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import neural_network
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import AdaBoostClassifier
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from support.estimators import SHORT, fitted

from viva_tensor.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
LONGER = SHORT | {"max_iter": 30, "learning_rate_init": 0.01}


OTHER_PYTHONS = [f"python3.{minor}" for minor in range(11, 16) if minor != sys.version_info.minor]


class Named(pickle.Unpickler):
    """Notes the modules whose names a pickle asks for."""

    def __init__(self, file):
        super().__init__(file)
        self.modules = set()

    def find_class(self, module, name):
        self.modules.add(module)
        return super().find_class(module, name)


def has_viva_tensor(python):
    return not subprocess.run([python, "-c", "import viva_tensor.sklearn"], capture_output=True, check=False).returncode


def both(kind, **parameters):
    """An estimator of ours, and scikit-learn's."""
    return kind(**LONGER | parameters), getattr(neural_network, kind.__name__)(**LONGER | parameters)


def skip_unless_names_are_read():
    """Skip where scikit-learn's own estimators see no names in frames of polars: before 1.9 with polars 2."""
    polars = pytest.importorskip("polars", reason="polars is not installed")
    if not hasattr(StandardScaler().fit(polars.DataFrame({"a": [0.0, 1.0]})), "feature_names_in_"):
        pytest.skip("this scikit-learn does not read the names of this polars")


class TestScikitLearn:
    def test_permutation_importance(self, diabetes):
        ours, theirs = (
            permutation_importance(fitted(model, *diabetes), *diabetes, n_repeats=2, random_state=0).importances
            for model in both(MLPRegressor)
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
    def test_calibration(self, cancer, method):
        X, y = cancer
        ours, theirs = (
            CalibratedClassifierCV(model, method=method, cv=3).fit(X, y).predict_proba(X)
            for model in both(MLPClassifier)
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-3)

    def test_boosting_hands_weights_on(self, wine):
        ours, theirs = (
            AdaBoostClassifier(model, n_estimators=3, random_state=0).fit(*wine) for model in both(MLPClassifier)
        )
        np.testing.assert_allclose(ours.estimator_weights_, theirs.estimator_weights_, rtol=1e-3)
        np.testing.assert_allclose(ours.predict_proba(wine[0]), theirs.predict_proba(wine[0]), atol=1e-3)

    @pytest.mark.parametrize("backend", ["loky", "threading"])
    def test_a_search_on_two_processors(self, wine, backend):
        searches = []
        for jobs in (1, 2):
            model = MLPClassifier(**LONGER)
            search = GridSearchCV(model, {"alpha": [1e-4, 1.0], "learning_rate_init": [1e-6, 0.01]}, cv=2, n_jobs=jobs)
            with joblib.parallel_config(backend=backend):
                searches.append(search.fit(*wine))
        one, two = (search.cv_results_["mean_test_score"] for search in searches)
        np.testing.assert_array_equal(two, one)
        assert searches[1].best_params_["learning_rate_init"] == 0.01

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_joblib(self, wine, solver):
        X, y = wine
        model, file = fitted(MLPClassifier(**LONGER, solver=solver), X, y), io.BytesIO()
        joblib.dump(model, file)
        file.seek(0)
        again = joblib.load(file)
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
        if solver == "adam":  # the moments are there
            np.testing.assert_array_equal(again.partial_fit(X, y).predict(X), model.partial_fit(X, y).predict(X))

    def test_sparse_columns_of_a_frame(self):
        kinds = np.array(["a", "b", "c"])[np.arange(90) % 3]
        X = pd.DataFrame({"kind": kinds, "size": np.linspace(-1, 1, 90)})
        y = X["size"] + (X["kind"] == "b")
        coder = make_column_transformer((OneHotEncoder(), ["kind"]), (StandardScaler(), ["size"]), sparse_threshold=1)
        ours, theirs = (
            fitted(make_pipeline(coder, model), X, y).predict(X) for model in both(MLPRegressor, max_iter=60)
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
    def test_a_dump_names_nothing_that_another_python_lacks(self, wine, solver):
        """Functions, closures and what else is bound to the code of one Python would be names of other modules."""
        model = fitted(MLPClassifier(**LONGER, solver=solver), *wine)
        named = Named(io.BytesIO(pickle.dumps(model, protocol=4)))
        named.load()
        assert {name.partition(".")[0] for name in named.modules} <= {"viva_tensor", "numpy", "builtins"}

    def test_joblib_across_pythons(self, wine, tmp_path):
        X, y = wine
        model = fitted(MLPClassifier(**LONGER), X, y)
        joblib.dump((model, X), tmp_path / "model")
        code = (
            "import joblib, sys; model, X = joblib.load(sys.argv[1]); joblib.dump(model.predict_proba(X), sys.argv[2])"
        )
        others = [other for other in map(shutil.which, OTHER_PYTHONS) if other and has_viva_tensor(other)]
        if not others:
            pytest.skip("no other Python with viva_tensor and scikit-learn is on the path")
        for other in others:
            subprocess.run([other, "-c", code, tmp_path / "model", tmp_path / "found"], check=True, timeout=120)
            np.testing.assert_allclose(joblib.load(tmp_path / "found"), model.predict_proba(X), rtol=1e-6)

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_frames_between_the_steps(self, diabetes, library):
        pytest.importorskip(library, reason=f"{library} is not installed")
        if library == "polars":
            skip_unless_names_are_read()
        X, y = diabetes
        names = [f"c{i}" for i in range(X.shape[1])]
        scaler = StandardScaler().set_output(transform=library)
        model = fitted(make_pipeline(scaler, MLPRegressor(**LONGER)), pd.DataFrame(X, columns=names), y)
        assert model[-1].feature_names_in_.tolist() == names
        plain = fitted(make_pipeline(StandardScaler(), MLPRegressor(**LONGER)), X, y)
        predicted = model.predict(pd.DataFrame(X, columns=names))  # scaled with sums in another order
        np.testing.assert_allclose(predicted, plain.predict(X), rtol=1e-9, atol=1e-9)


def test_polars(diabetes):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    skip_unless_names_are_read()
    X, y = diabetes
    frame = polars.DataFrame(X, schema=[f"c{i}" for i in range(X.shape[1])])
    model = fitted(MLPRegressor(**SHORT), frame, polars.Series(y))
    np.testing.assert_array_equal(model.predict(frame), fitted(MLPRegressor(**SHORT), X, y).predict(X))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[frame.columns[::-1]])


def test_mapie(diabetes):
    regression = pytest.importorskip("mapie.regression", reason="MAPIE is not installed")
    X, y = diabetes
    model = fitted(MLPRegressor(**LONGER), X[:200], y[:200])
    split = regression.SplitConformalRegressor(estimator=model, confidence_level=0.8, prefit=True)
    predicted, bounds = split.conformalize(X[200:320], y[200:320]).predict_interval(X[320:])
    np.testing.assert_array_equal(predicted, model.predict(X[320:]))
    residuals = np.sort(np.abs(y[200:320] - model.predict(X[200:320])))
    half = residuals[int(np.ceil(0.8 * 121)) - 1]  # of split conformal prediction
    np.testing.assert_allclose(bounds[:, 1, 0] - predicted, half, rtol=1e-6)


def test_shap(wine):
    shap = pytest.importorskip("shap", reason="SHAP is not installed")
    X, y = wine
    model = fitted(MLPClassifier(**LONGER), X, y)
    explainer = shap.KernelExplainer(model.predict_proba, X[::40])
    values = explainer.shap_values(X[:3], nsamples=100, silent=True)
    np.testing.assert_allclose(values.sum(axis=1) + explainer.expected_value, model.predict_proba(X[:3]), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("parameters", [{"solver": "adam"}, {"solver": "lbfgs"}, {"early_stopping": True}])
@pytest.mark.parametrize("kind", [MLPRegressor, MLPClassifier])
def test_pickles_are_no_larger_than_scikit_learns(wine, kind, parameters, dtype):
    settings = {"hidden_layer_sizes": 100, "max_iter": 20} | parameters
    sizes = []
    for model in both(kind, **settings):
        file = io.BytesIO()
        joblib.dump(fitted(model, wine[0].astype(dtype), wine[1]), file)
        sizes.append(file.tell())
    assert sizes[0] < 1.1 * sizes[1]
