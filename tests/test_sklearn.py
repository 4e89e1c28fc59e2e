import inspect
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from viva_tensor import program
from viva_tensor.error import InvalidValue
from viva_tensor.sklearn import MLPClassifier, MLPRegressor
from viva_tensor.sklearn.parameters import InvalidParameter

SHORT = {"max_iter": 5, "tol": 0, "n_iter_no_change": 5, "hidden_layer_sizes": (8, 6), "random_state": 3}
# Adam's ε stands beside the root before its correction in scikit-learn, after it here, which units feel that no row
# reaches; small enough, nobody feels it
SHORT["epsilon"] = 1e-20


@pytest.mark.filterwarnings("ignore")  # the suite provokes warnings and tests for those that matter itself
@parametrize_with_checks([MLPRegressor(), MLPClassifier()])
def test_suite_of_scikit_learn(estimator, check):
    check(estimator)


def standardised(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def diabetes():
    X, y = standardised(load_diabetes)
    return X, (y - y.mean()) / y.std()


@pytest.fixture(scope="module")
def wine():
    return standardised(load_wine)


@pytest.fixture(scope="module")
def cancer():
    return standardised(load_breast_cancer)


def fitted(estimator, X, y, weight=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, y) if weight is None else estimator.fit(X, y, sample_weight=weight)


def dense_rows(monkeypatch):
    """A list that will have the number of rows of each sparse array that is made dense."""
    counts, dense = [], sparse.csr_array.toarray

    def counting(x, *arguments, **options):
        counts.append(x.shape[0])
        return dense(x, *arguments, **options)

    monkeypatch.setattr(sparse.csr_array, "toarray", counting)
    return counts


def pair(kind, **parameters):
    """An estimator of ours, and scikit-learn's."""
    return kind(**SHORT | parameters), getattr(neural_network, kind.__name__)(**SHORT | parameters)


def both_fitted(kind, parameters, X, y, weight=None):
    return tuple(fitted(model, X, y, weight) for model in pair(kind, **parameters))


def assert_same_course(ours, theirs):
    """Both took the same steps.

    Within what rounding does to them: 2⁻²⁴ or 2⁻⁵³ a step, grown over some hundred; and with Adam what is left of ε.
    """
    double = theirs.coefs_[0].dtype == np.float64
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.t_ == theirs.t_
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-7 if double else 1e-4)
    rtol, atol = (1e-5, 2e-5) if double else (2e-3, 2e-4)
    if double and ours.solver == "sgd":
        rtol, atol = 1e-11, 1e-13
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


class TestSameCourseAsScikitLearn:
    @pytest.mark.parametrize(
        "parameters",
        [
            {},
            {"activation": "tanh", "batch_size": 50},
            {"activation": "logistic"},
            {"activation": "identity", "shuffle": False},
            {"alpha": 1.0, "batch_size": 100},  # a short last batch feels the penalty more
            {"alpha": 0.0},
            {"solver": "sgd", "learning_rate_init": 0.01},
            {"solver": "sgd", "learning_rate_init": 0.01, "momentum": 0.0},
            {"solver": "sgd", "learning_rate_init": 0.01, "nesterovs_momentum": False},
            {"solver": "sgd", "learning_rate_init": 0.1, "learning_rate": "invscaling", "batch_size": 40},
            {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1, "max_iter": 12},
            {"beta_1": 0.5, "beta_2": 0.9},
            {"early_stopping": True, "validation_fraction": 0.3},
            {"hidden_layer_sizes": 7},
            {"hidden_layer_sizes": ()},
        ],
    )
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_regression(self, diabetes, parameters, dtype):
        X, y = diabetes[0].astype(dtype), diabetes[1]
        ours, theirs = both_fitted(MLPRegressor, parameters, X, y)
        assert_same_course(ours, theirs)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-3, atol=1e-3)
        if "early_stopping" in parameters:
            np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("data", ["wine", "cancer"])
    @pytest.mark.parametrize("parameters", [{}, {"early_stopping": True}, {"solver": "sgd", "alpha": 0.1}])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_classification(self, request, data, parameters, dtype):
        X, y = request.getfixturevalue(data)
        X, y = X.astype(dtype), np.array(["good", "poor", "fair"])[y]
        ours, theirs = both_fitted(MLPClassifier, parameters, X, y)
        assert_same_course(ours, theirs)
        assert ours.out_activation_ == theirs.out_activation_
        assert ours.validation_scores_ == theirs.validation_scores_
        np.testing.assert_array_equal(ours.classes_, theirs.classes_)
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)

    @pytest.mark.parametrize("epsilon", [1e-8, 1e-4])
    def test_place_of_epsilon_hardly_matters(self, diabetes, epsilon):
        ours, theirs = both_fitted(MLPRegressor, {"epsilon": epsilon, "max_iter": 30}, *diabetes)
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=3e-2)

    def test_labels_independent_of_each_other(self, wine):
        X, y = wine[0], np.column_stack([wine[1] == 0, wine[1] < 2, wine[0][:, 0] > 0]).astype(int)
        ours, theirs = both_fitted(MLPClassifier, {}, X, y)
        assert_same_course(ours, theirs)
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
        assert ours.predict(X).shape == y.shape

    def test_several_outputs(self, diabetes):
        X, y = diabetes
        Y = np.column_stack([y, X[:, 2], -y])
        for parameters in ({}, {"solver": "sgd", "alpha": 0.0}, {"early_stopping": True}):
            ours, theirs = both_fitted(MLPRegressor, parameters, X, Y)
            assert_same_course(ours, theirs)
            np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("parameters", [{}, {"solver": "sgd"}, {"early_stopping": True}, {"alpha": 0.0}])
    def test_poisson(self, diabetes, parameters):
        X, Y = diabetes[0], np.random.default_rng(0).poisson([[1.0, 0.2]], (442, 2))
        assert (Y == 0).any()
        for y in (Y, Y[:, 0]):
            ours, theirs = both_fitted(MLPRegressor, parameters | {"loss": "poisson"}, X, y)
            assert_same_course(ours, theirs)
            np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-3)
            np.testing.assert_allclose(ours.score(X, y), theirs.score(X, y), rtol=1e-3)

    @pytest.mark.parametrize("parameters", [{}, {"solver": "sgd", "batch_size": 60}, {"early_stopping": True}])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_weights_of_rows(self, diabetes, cancer, wine, parameters, dtype):
        rng = np.random.default_rng(1)
        X, y = diabetes
        counts = rng.poisson(1.0, len(X))
        labels = (X[:, :3] > 0.3).astype(int)
        for kind, more, data in (
            (MLPRegressor, {}, (X, y)), (MLPRegressor, {}, (X, np.column_stack([y, -y]))),
            (MLPRegressor, {"loss": "poisson"}, (X, counts)), (MLPClassifier, {}, cancer), (MLPClassifier, {}, wine),
            (MLPClassifier, {}, (X, labels)),
        ):  # fmt: skip
            weight = rng.integers(0, 4, len(data[0])) * 1.5
            X_typed = data[0].astype(dtype)
            ours, theirs = both_fitted(kind, parameters | more, X_typed, data[1], weight)
            assert_same_course(ours, theirs)
            for scores in zip(*(model.validation_scores_ or [] for model in (ours, theirs)), strict=True):
                np.testing.assert_allclose(*scores, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(*(one.score(X_typed, data[1], weight) for one in (ours, theirs)), rtol=1e-3)

    def test_weights_in_partial_fit(self, diabetes):
        weight = np.arange(442.0)
        ours, theirs = (model.partial_fit(*diabetes, sample_weight=weight) for model in pair(MLPRegressor))
        ours, theirs = (model.partial_fit(*diabetes, weight) for model in (ours, theirs))
        assert_same_course(ours, theirs)

    @pytest.mark.parametrize("parameters", [{}, {"solver": "sgd", "shuffle": False}, {"early_stopping": True}])
    @pytest.mark.parametrize("form", ["csr_matrix", "csc_array", "coo_array", "lil_matrix"])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_sparse(self, diabetes, cancer, parameters, form, dtype):
        for kind, (X, y), weight in ((MLPRegressor, diabetes, None), (MLPClassifier, cancer, np.arange(569.0))):
            X = getattr(sparse, form)(np.where(abs(X) > 0.7, X, 0).astype(dtype))
            ours, theirs = both_fitted(kind, parameters, X, y, weight)
            assert_same_course(ours, theirs)
            np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(ours.predict(X), ours.predict(X.toarray()), rtol=1e-5, atol=1e-6)

    def test_sparse_rows_are_never_dense_all_at_once(self, diabetes, monkeypatch):
        most = dense_rows(monkeypatch)
        X = sparse.csr_array(diabetes[0])
        fitted(MLPRegressor(**SHORT, batch_size=40), X, diabetes[1]).predict(X)
        assert max(most) == 40

    def test_partial_fit(self, wine):
        X, y = wine
        ours, theirs = MLPClassifier(**SHORT), neural_network.MLPClassifier(**SHORT)
        for start in range(0, 160, 40):
            for one in (ours, theirs):
                one.partial_fit(X[start : start + 40], y[start : start + 40], classes=[0, 1, 2])
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-4)
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
        assert ours.t_ == theirs.t_

    @pytest.mark.parametrize("kind", [MLPRegressor, MLPClassifier])
    def test_parameters_and_defaults(self, kind):
        theirs = getattr(neural_network, kind.__name__)().get_params()
        assert kind().get_params() == theirs
        ours, theirs = (
            list(inspect.signature(one).parameters) for one in (kind, getattr(neural_network, kind.__name__))
        )
        assert ours == theirs


LONG = {"solver": "lbfgs", "max_iter": 40, "tol": 1e-4}


class TestQuasiNewton:
    """Also the rows are summed in another order than in scikit-learn, which grows from step to step."""

    @pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
    @pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.csc_matrix])
    def test_steps_are_scikit_learns(self, diabetes, cancer, wine, activation, form):
        counts = np.random.default_rng(0).poisson(1.0, 442)
        labels = (diabetes[0][:, :3] > 0.3).astype(int)
        for kind, more, (X, y) in (
            (MLPRegressor, {}, diabetes), (MLPRegressor, {"alpha": 0, "loss": "poisson"}, (diabetes[0], counts)),
            (MLPClassifier, {"alpha": 0.5}, cancer), (MLPClassifier, {}, wine),
            (MLPClassifier, {"hidden_layer_sizes": ()}, (diabetes[0], labels)),
        ):  # fmt: skip
            X = form(np.where(abs(X) > 0.5, X, 0))
            for weight in (None, np.arange(X.shape[0]) % 5):
                parameters = LONG | {"activation": activation, "max_iter": 8} | more
                ours, theirs = both_fitted(kind, parameters, X, y, weight)
                assert ours.n_iter_ == theirs.n_iter_
                np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-6)
                for a, b in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(ours.score(X, y), theirs.score(X, y), rtol=1e-6)

    def test_several_outputs_end_where_scikit_learn_does(self, diabetes):
        X, y = diabetes
        Y = np.column_stack([y, X[:, 2] + y**2])
        ours, theirs = both_fitted(MLPRegressor, LONG | {"hidden_layer_sizes": (), "tol": 1e-9, "max_iter": 500}, X, Y)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-3)
        np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-6)

    def test_float32_is_minimised_in_float64(self, diabetes):
        X = diabetes[0].astype("float32")
        parameters = SHORT | LONG | {"max_iter": 4}
        model, wide = (fitted(MLPRegressor(**parameters), x, diabetes[1]) for x in (X, X.astype("float64")))
        assert {one.dtype.name for one in (*model.coefs_, *model.intercepts_)} == {"float32"}
        assert model.predict(X).dtype == np.float32
        np.testing.assert_allclose(model.loss_, wide.loss_, rtol=1e-5)  # the initial weights are rounded

    def test_it_stops_and_says_why(self, diabetes):
        with pytest.warns(ConvergenceWarning, match=r"after 3 iterations .* max_iter=3 or"):
            MLPRegressor(**SHORT | LONG | {"max_iter": 3}).fit(*diabetes)
        with pytest.warns(ConvergenceWarning, match=r"and 6 evaluations: .* or max_fun=5 was reached"):
            MLPRegressor(**SHORT | LONG | {"max_fun": 5}).fit(*diabetes)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = MLPRegressor(**SHORT | LONG | {"tol": 0.01}).fit(*diabetes)
        assert model.n_iter_ < 40

    def test_it_goes_on_from_where_it_was(self, diabetes):
        model = MLPRegressor(**SHORT | LONG | {"max_iter": 5, "warm_start": True})
        losses = [fitted(model, *diabetes).loss_ for _ in range(3)]
        assert losses[0] > losses[1] > losses[2]
        model.set_params(solver="sgd", learning_rate_init=1e-6)
        assert fitted(model, *diabetes).loss_ == pytest.approx(losses[2], rel=0.1)
        assert len(model.loss_curve_) == 5

    def test_verbose(self, diabetes, capsys):
        fitted(MLPRegressor(**SHORT | LONG | {"max_iter": 3, "verbose": True}), *diabetes)
        assert capsys.readouterr().out.count("Iteration") == 3

    def test_a_start_that_is_not_finite_is_refused(self, diabetes):
        with pytest.raises(InvalidValue, match=r"at the initial weights, the .*; standardise"):
            MLPRegressor(**SHORT | LONG).fit(diabetes[0] * 1e200, diabetes[1])

    def test_rows_stay_sparse(self, diabetes, monkeypatch):
        monkeypatch.setattr("viva_tensor.sklearn.quasi_newton.RECORDED_ROWS", 7)
        most = dense_rows(monkeypatch)
        fitted(MLPRegressor(**SHORT | LONG), sparse.csr_array(diabetes[0]), diabetes[1])
        assert most == [7]

    def test_no_weight_at_all(self, diabetes):
        for weight, message in ((np.zeros(442), "at least one non-zero"), (np.repeat([1.0, -1.0], 221), "sum to 0")):
            with pytest.raises(ValueError, match=message):
                MLPRegressor(**SHORT | LONG).fit(*diabetes, weight)


class TestGoingOn:
    def test_partial_fits_are_the_epochs_of_a_fit(self, diabetes):
        whole = fitted(MLPRegressor(**SHORT, shuffle=False), *diabetes)
        parts = MLPRegressor(**SHORT, shuffle=False)
        for _ in range(5):
            parts = pickle.loads(pickle.dumps(parts.partial_fit(*diabetes)))  # the moments survive, bit for bit
        assert parts.loss_curve_ == whole.loss_curve_
        np.testing.assert_array_equal(parts.predict(diabetes[0]), whole.predict(diabetes[0]))

    def test_fit_begins_anew_unless_warm(self, diabetes):
        cold = fitted(fitted(MLPRegressor(**SHORT), *diabetes), *diabetes)
        assert cold.loss_curve_ == fitted(MLPRegressor(**SHORT), *diabetes).loss_curve_
        warm = fitted(fitted(MLPRegressor(**SHORT, warm_start=True), *diabetes), *diabetes)
        assert len(warm.loss_curve_) == 10
        assert warm.loss_curve_[5] < warm.loss_curve_[0] / 1.1

    def test_another_kind_of_target_of_the_same_size(self, wine):
        X, y = wine
        model = fitted(MLPClassifier(**SHORT), X, np.eye(3, dtype=int)[y])
        assert fitted(model, X, y).loss_curve_ == fitted(MLPClassifier(**SHORT), X, y).loss_curve_

    def test_pickles_predict_the_same(self, wine):
        model = fitted(MLPClassifier(**SHORT), *wine)
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.predict_proba(wine[0]), model.predict_proba(wine[0]))

    def test_interruption_keeps_what_was_learned(self, diabetes, monkeypatch):
        run, calls = program.Step.run, []

        def press(step, *arguments, **options):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return run(step, *arguments, **options)

        monkeypatch.setattr(program.Step, "run", press)
        with pytest.warns(UserWarning, match="interrupted"):
            model = MLPRegressor(**SHORT).fit(*diabetes)
        assert len(model.loss_curve_) == 2
        monkeypatch.undo()
        two = fitted(MLPRegressor(**SHORT | {"max_iter": 2}), *diabetes)
        np.testing.assert_array_equal(model.predict(diabetes[0]), two.predict(diabetes[0]))


class TestHabits:
    def test_grid_search_over_a_pipeline(self, wine):
        pipeline = make_pipeline(StandardScaler(), MLPClassifier(**SHORT | {"max_iter": 20}, batch_size=8))
        search = GridSearchCV(pipeline, {"mlpclassifier__learning_rate_init": [1e-6, 0.01]}, cv=3)
        fitted(search, *load_wine(return_X_y=True))
        assert search.best_params_ == {"mlpclassifier__learning_rate_init": 0.01}
        assert search.best_score_ > 0.9

    def test_cross_validation_of_a_regressor(self, diabetes):
        model = MLPRegressor(max_iter=40, learning_rate_init=0.005, random_state=0, tol=0.01)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            assert cross_val_score(model, *diabetes, cv=3).mean() > 0.4

    def test_data_frames_give_their_names(self, diabetes):
        X = pd.DataFrame(diabetes[0]).add_prefix("c")
        model = fitted(MLPRegressor(**SHORT), X, pd.Series(diabetes[1]))
        assert model.feature_names_in_.tolist() == list(X)
        with pytest.raises(ValueError, match="feature names"):
            model.predict(X[X.columns[::-1]])

    @pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "float16"])
    def test_dtypes(self, diabetes, wine, dtype):
        """Weights have the dtype of X, results the wider one of both, as in scikit-learn."""
        for ours, theirs, (X, y) in (
            (MLPRegressor, neural_network.MLPRegressor, diabetes),
            (MLPClassifier, neural_network.MLPClassifier, wine),
        ):
            ours, theirs = (fitted(kind(**SHORT), X.astype(dtype), y) for kind in (ours, theirs))
            assert {array.dtype for array in (*ours.coefs_, *ours.intercepts_)} == {theirs.coefs_[0].dtype}
            for other in ("float32", "float64", "int64", "float16"):
                one, two = (getattr(model, "predict_proba", model.predict)(X.astype(other)) for model in (ours, theirs))
                assert one.dtype == two.dtype, other
        assert [coef.shape for coef in ours.coefs_] == [(13, 8), (8, 6), (6, 3)]

    def test_logarithms_of_probabilities_that_round_to_zero(self, cancer, wine):
        for X, y in (cancer, wine):
            model = fitted(MLPClassifier(**SHORT), X, y)
            model.coefs_[-1] = model.coefs_[-1] * 10_000
            logs = model.predict_log_proba(X)
            assert np.isfinite(logs).all()
            assert logs.min() < -1000
            assert model.predict_proba(X).min() == 0

    def test_verbose(self, diabetes, capsys):
        fitted(MLPRegressor(**SHORT, verbose=True), *diabetes)
        assert capsys.readouterr().out.count("Iteration") == 5

    def test_not_converged_is_a_warning(self, diabetes):
        with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(5\)"):
            MLPRegressor(**SHORT).fit(*diabetes)


class TestRefused:
    @pytest.mark.parametrize(
        "parameters",
        [
            {"hidden_layer_sizes": (0,)}, {"hidden_layer_sizes": -1}, {"hidden_layer_sizes": (2.5,)},
            {"activation": "step"}, {"solver": "newton"}, {"max_fun": 0}, {"learning_rate": "magic"}, {"batch_size": 0},
            {"batch_size": "all"}, {"batch_size": 1.5}, {"alpha": -1}, {"alpha": np.nan}, {"learning_rate_init": 0},
            {"learning_rate_init": -0.1}, {"max_iter": 0}, {"tol": -1},
            {"momentum": 1}, {"momentum": -0.1}, {"beta_1": 1}, {"beta_2": -1}, {"epsilon": 0},
            {"validation_fraction": -0.1}, {"validation_fraction": 1}, {"n_iter_no_change": 0}, {"power_t": -1},
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("kind", [MLPRegressor, MLPClassifier])
    def test_parameters_out_of_range(self, kind, parameters):
        (name,) = parameters
        with pytest.raises(InvalidParameter, match=f"fit: The '{name}' parameter of|fit: {name} must be"):
            kind(**parameters).fit([[0.0], [1.0]], [0, 1])

    @pytest.mark.parametrize(
        ("X", "y", "message"),
        [
            ([[0.0], [np.nan]], [0, 1], "NaN"),
            ([[0.0], [np.inf]], [0, 1], "infinity"),
            ([[0.0], [1.0]], [0.0, np.nan], "NaN"),
            (np.float32([[0.0], [1.0]]), [0.0, 1e300], "too large for float32"),
            ([[0.0], [1.0]], [0, 1, 2], "inconsistent"),
            ([0.0, 1.0], [0, 1], "2D"),
        ],
    )
    def test_data_of_regression(self, X, y, message):
        with pytest.raises(ValueError, match=message):
            MLPRegressor(max_iter=1).fit(X, y)

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_classes(self, wine):
        X, y = wine
        with pytest.raises(ValueError, match="continuous"):
            MLPClassifier().fit(X, y + 0.5)
        with pytest.raises(ValueError, match="classes must be passed on the first call"):
            MLPClassifier().partial_fit(X, y)
        model = MLPClassifier(**SHORT).partial_fit(X, y, classes=[0, 1, 2])
        with pytest.raises(ValueError, match="classes not in"):
            model.partial_fit(X, y + 1)
        with pytest.raises(ValueError, match="not the same as on last call"):
            model.partial_fit(X, y, classes=[0, 1])
        np.testing.assert_array_equal(model.classes_, [0, 1, 2])

    def test_layers_cannot_change_on_the_way(self, diabetes):
        model = MLPRegressor(**SHORT).partial_fit(*diabetes)
        model.hidden_layer_sizes = (9,)
        with pytest.raises(InvalidValue, match="those fitted before"):
            model.partial_fit(*diabetes)

    def test_early_stopping(self, diabetes):
        with pytest.raises(ValueError, match="does not support early_stopping=True; use it with fit"):
            MLPRegressor(early_stopping=True).partial_fit(*diabetes)
        with pytest.raises(ValueError, match="validation set is too small"):
            MLPRegressor(early_stopping=True).fit(diabetes[0][:5], diabetes[1][:5])

    def test_divergence(self, diabetes):
        with pytest.raises(InvalidValue, match="lower learning_rate_init"):
            fitted(MLPRegressor(**SHORT | {"solver": "sgd", "learning_rate_init": 1e6}), *diabetes)

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_batch_larger_than_the_rows_is_clipped_with_a_warning(self, diabetes):
        with pytest.warns(UserWarning, match="batch_size=500 is larger than the 442 rows"):
            a = MLPRegressor(**SHORT, batch_size=500).fit(*diabetes)
        assert a.loss_curve_ == fitted(MLPRegressor(**SHORT, batch_size=442), *diabetes).loss_curve_

    def test_weights(self, diabetes):
        weight = np.ones(442)
        weight[100:200] = 0
        with pytest.raises(InvalidValue, match="batch sum to 0; leave rows of weight 0 out"):
            MLPRegressor(**SHORT, batch_size=50, shuffle=False).fit(*diabetes, weight)
        with pytest.raises(ValueError, match="shape"):
            MLPRegressor(**SHORT).fit(*diabetes, weight[:5])

    def test_counts(self, diabetes):
        with pytest.raises(InvalidValue, match="at least 0 for loss='poisson'; use loss='squared_error'"):
            MLPRegressor(loss="poisson").fit(*diabetes)

    def test_not_fitted(self, wine):
        with pytest.raises(NotFittedError):
            clone(MLPClassifier()).predict(wine[0])
