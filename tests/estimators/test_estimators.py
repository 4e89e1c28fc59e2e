"""What users of scikit-learn do with an estimator: go on, pickle, search, and read warnings."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import neural_network
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.estimators import SHORT, fitted

from viva_tensor import program
from viva_tensor.program import planning
from viva_tensor.sklearn import MLPClassifier, MLPRegressor


class TestGoingOn:
    def test_partial_fits_are_the_epochs_of_a_fit(self, diabetes):
        whole = fitted(MLPRegressor(**SHORT, shuffle=False), *diabetes)
        parts = MLPRegressor(**SHORT, shuffle=False)
        for _ in range(5):
            parts = pickle.loads(pickle.dumps(parts.partial_fit(*diabetes)))  # the moments survive
        np.testing.assert_allclose(parts.loss_curve_, whole.loss_curve_, rtol=1e-12)
        np.testing.assert_allclose(parts.predict(diabetes[0]), whole.predict(diabetes[0]), rtol=1e-9)

    def test_batches_of_many_sizes_are_planned_in_few(self, diabetes, wine, monkeypatch):
        planned = []
        plan = planning.plan
        monkeypatch.setattr(planning, "plan", lambda *given, **more: planned.append(given[2]) or plan(*given, **more))
        sizes = [*range(1, 50), 100, 200, 201, 333]
        for kind, (X, y) in (
            (MLPRegressor, diabetes),
            (MLPClassifier, (np.tile(wine[0], (2, 1)), np.tile(wine[1], 2))),
        ):
            for rows in (X, sparse.csr_array(np.repeat(X, 30, axis=1) * (np.arange(30 * X.shape[1]) % 60 == 0))):
                ours, theirs = (kind(**SHORT, shuffle=False) for kind in (kind, getattr(neural_network, kind.__name__)))
                classes = {} if kind is MLPRegressor else {"classes": [0, 1, 2]}
                planned.clear()
                for size in sizes:
                    for model in (ours, theirs):
                        model.partial_fit(rows[:size], y[:size], **classes)
                assert len(planned) < 30
                np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-7)

    @pytest.mark.parametrize("parameters", [{}, {"solver": "sgd"}, {"dropout": 0.3}])
    def test_copies_go_on_apart_from_each_other(self, diabetes, parameters):
        X, y = diabetes
        model = MLPRegressor(**SHORT, **parameters).partial_fit(X, y)
        shallow, deep = copy.copy(model), copy.deepcopy(model)
        fitted(model, X, 1000 * y)
        for _ in range(2):
            shallow.partial_fit(X, y)
            deep.partial_fit(X, y)
        for one, other in zip(shallow.coefs_, deep.coefs_, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_one_that_was_pickled_before_it_kept_its_optimiser_goes_on(self, diabetes):
        model, same = (fitted(MLPRegressor(**SHORT), *diabetes) for _ in range(2))
        del model._optimizer.optimizer, model._optimizer.schedule
        for one in (model, same):
            one.partial_fit(*diabetes)
        np.testing.assert_array_equal(model.coefs_[0], same.coefs_[0])

    def test_pickles_do_not_grow(self, diabetes):
        model = MLPRegressor(**SHORT).partial_fit(*diabetes)
        first = len(pickle.dumps(model))
        for _ in range(3):
            model = pickle.loads(pickle.dumps(model)).partial_fit(*diabetes)
        assert len(pickle.dumps(model)) < first + 500

    @pytest.mark.parametrize("first", ["constant", "invscaling", "adaptive"])
    @pytest.mark.parametrize(
        "change", [{"learning_rate": "constant"}, {"learning_rate": "invscaling"}, {"power_t": 0.9}]
    )
    def test_parts_keep_the_first_schedule_as_in_scikit_learn(self, diabetes, first, change):
        found = []
        for kind in (MLPRegressor, neural_network.MLPRegressor):
            model = kind(**SHORT, solver="sgd", learning_rate=first).partial_fit(*diabetes)
            found.append(model.set_params(**change).partial_fit(*diabetes).partial_fit(*diabetes))
        np.testing.assert_allclose(found[0].coefs_[0], found[1].coefs_[0], rtol=1e-9)

    @pytest.mark.parametrize(
        "change",
        [
            {"momentum": 0.0},
            {"momentum": 0.5},
            {"momentum": 1},
            {"nesterovs_momentum": False},
            {"learning_rate_init": 1.0},
        ],
    )
    def test_parts_keep_the_first_optimiser_as_in_scikit_learn(self, diabetes, change):
        found = []
        for kind in (MLPRegressor, neural_network.MLPRegressor):
            model = kind(**SHORT, solver="sgd").partial_fit(*diabetes)
            found.append(model.set_params(**change).partial_fit(*diabetes).partial_fit(*diabetes))
        np.testing.assert_allclose(found[0].coefs_[0], found[1].coefs_[0], rtol=1e-9)

    def test_after_an_exception_of_a_callback_parts_go_on(self, diabetes):
        def failing(values):
            raise ZeroDivisionError

        model, same = MLPRegressor(**SHORT), MLPRegressor(**SHORT)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                model.set_params(callback=failing).partial_fit(*diabetes)
            same.partial_fit(*diabetes)
        np.testing.assert_array_equal(model.coefs_[0], same.coefs_[0])
        model.set_params(callback=None).partial_fit(*diabetes)
        np.testing.assert_array_equal(model.coefs_[0], same.partial_fit(*diabetes).coefs_[0])

    def test_rows_that_fill_a_batch_are_like_those_in_it(self):
        """Rows of zeros would be far from these, and the exponential of their output infinite."""
        X = np.random.default_rng(0).normal(1000, 1, (61, 1))
        model = MLPRegressor(hidden_layer_sizes=1, activation="identity", loss="poisson", alpha=0.0, random_state=0)
        model.partial_fit(X, np.ones(61))
        model.coefs_ = [np.array([[-0.8]]), np.array([[1.0]])]
        model.intercepts_ = [np.zeros(1), np.array([800.0])]
        assert np.isfinite(model.partial_fit(X, np.ones(61)).loss_)

    def test_weights_are_changed_in_place_where_scikit_learn_does(self, diabetes):
        model = MLPRegressor(**SHORT, warm_start=True).partial_fit(*diabetes)
        w, b = model.coefs_[0], model.intercepts_[0]
        before = w.copy()
        for call in (model.partial_fit, model.fit):
            fitted(model, *diabetes) if call == model.fit else call(*diabetes)
            assert model.coefs_[0] is w
            assert model.intercepts_[0] is b
            assert (w != before).any()
        for one in (w, b):
            one.setflags(write=False)  # as joblib maps them into memory
        model.partial_fit(*diabetes)
        assert model.coefs_[0] is not w

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
            probabilities = model.predict_proba(X)
            assert probabilities.min() == 0
            with np.errstate(divide="ignore"):
                np.testing.assert_array_equal(model.predict_log_proba(X), np.log(probabilities))

    def test_verbose(self, diabetes, capsys):
        fitted(MLPRegressor(**SHORT, verbose=True), *diabetes)
        assert capsys.readouterr().out.count("Iteration") == 5

    def test_not_converged_is_a_warning(self, diabetes):
        with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(5\)"):
            MLPRegressor(**SHORT).fit(*diabetes)
