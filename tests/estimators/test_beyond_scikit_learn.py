"""Parameters that scikit-learn's networks lack: weights of classes, dropout, optimisers, scores and callbacks."""

import math
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import log_loss, mean_absolute_error
from sklearn.model_selection import GridSearchCV
from sklearn.utils.class_weight import compute_sample_weight
from support.estimators import SHORT, fitted

from viva_tensor import optim
from viva_tensor.error import InvalidValue
from viva_tensor.sklearn import MLPClassifier, MLPRegressor
from viva_tensor.sklearn.parameters import ACTIVATIONS, InvalidParameter

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
STOPPING = SHORT | {"early_stopping": True}
TORCH = ("logistic", "tanh", "softplus", "relu", "leaky_relu", "gelu", "silu", "elu", "selu", "mish")  # by its names


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="compares with PyTorch")


def same(a, b):
    """Both networks have the same weights, bit for bit."""
    return all(np.array_equal(x, y) for x, y in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True))


class TestWeightsOfClasses:
    @pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0, 2: 0.5}])
    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_are_weights_of_rows(self, wine, class_weight, solver):
        X, y = wine
        own = np.arange(len(y)) % 3 + 0.5
        of_classes = compute_sample_weight(class_weight, y)
        counted = (own.sum() / (3 * np.bincount(y, own)))[y]  # rows by their weights
        for weight, product in (
            (None, of_classes),
            (own, own * (counted if class_weight == "balanced" else of_classes)),
        ):
            weighted = fitted(MLPClassifier(**SHORT, solver=solver, class_weight=class_weight), X, y, weight)
            assert same(weighted, fitted(MLPClassifier(**SHORT, solver=solver), X, y, product))
        assert not same(weighted, fitted(MLPClassifier(**SHORT, solver=solver), X, y, own))

    def test_in_parts(self, wine):
        X, y = wine
        model = MLPClassifier(**SHORT, class_weight={1: 4.0}).partial_fit(X, y, classes=[0, 1, 2])
        weight = np.where(y == 1, 4.0, 1.0)
        assert same(model, MLPClassifier(**SHORT).partial_fit(X, y, weight, classes=[0, 1, 2]))
        model.partial_fit(X[y != 1], y[y != 1])  # these rows lack the class that has a weight
        assert len(model.loss_curve_) == 2
        with pytest.raises(InvalidValue, match="needs all rows at once"):
            MLPClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])

    def test_of_text_and_of_several_labels(self, wine):
        X, y = wine
        names = np.array(["good", "poor", "fair"])[y]
        model = fitted(MLPClassifier(**SHORT, class_weight={"poor": 2.0}), X, names)
        assert same(model, fitted(MLPClassifier(**SHORT), X, names, np.where(names == "poor", 2.0, 1.0)))
        labels = np.eye(3, dtype=int)[y][:, :2]
        model = fitted(MLPClassifier(**SHORT, class_weight=[{0: 1, 1: 2}, {0: 1, 1: 5}]), X, labels)
        assert same(model, fitted(MLPClassifier(**SHORT), X, labels, np.array([2.0, 5.0, 1.0])[y]))

    def test_of_validation_rows(self, cancer):
        X, y = cancer
        model = MLPClassifier(**STOPPING, class_weight={1: 5.0}).fit(X, y, validation_data=(X, y))
        expected = model.score(X, y, np.where(y == 1, 5.0, 1.0))
        assert model.best_validation_score_ == pytest.approx(expected, rel=1e-12)
        assert expected != pytest.approx(model.score(X, y), rel=1e-6)

    @pytest.mark.parametrize(("given", "known"), [({5: 2.0}, None), ({1: 3.0, 5: 2.0}, {1: 3.0})])
    def test_of_labels_that_y_lacks_do_nothing(self, wine, given, known):
        X, y = wine
        with pytest.warns(UserWarning, match=r"fit: class_weight has 5, which y has not; its classes are \[0, 1, 2\]"):
            model = MLPClassifier(**SHORT, class_weight=given).fit(X, y)
        assert same(model, fitted(MLPClassifier(**SHORT, class_weight=known), X, y))
        with pytest.warns(UserWarning, match=r"partial_fit: class_weight has 5"):
            MLPClassifier(**SHORT, class_weight=given).partial_fit(X, y, classes=[0, 1, 2])

    @pytest.mark.parametrize("wrong", ["even", {0: -1.0}, {0: np.nan}, {0: "two"}, 3])
    def test_refused(self, wine, wrong):
        with pytest.raises(InvalidValue, match="class_weight"):
            MLPClassifier(class_weight=wrong).fit(*wine)


class TestActivations:
    def test_all_are_known_to_torch(self):
        assert {*TORCH, "identity"} == set(ACTIVATIONS)

    @pytest.mark.parametrize("activation", ["identity", *TORCH])
    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_predictions_are_those_of_torch(self, diabetes, activation, solver, torch):
        X, y = diabetes
        model = fitted(MLPRegressor(**SHORT, activation=activation, solver=solver), X, y)
        functional = torch.nn.functional
        bent = functional.sigmoid if activation == "logistic" else getattr(functional, activation, lambda x: x)
        x = torch.tensor(X)
        for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
            x = (bent(x) if i else x) @ torch.tensor(w) + torch.tensor(b)
        np.testing.assert_allclose(model.predict(X), x.numpy()[:, 0], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(model.predict(sparse.csr_array(X)), model.predict(X), rtol=1e-9, atol=1e-9)
        assert model.score(X, y) > fitted(clone(model).set_params(max_iter=1), X, y).score(X, y)


class TestOptimisers:
    def test_an_object_is_what_its_name_is(self, diabetes):
        tiny = 1e-300  # an ε of which it does not matter where it is added
        named = fitted(MLPRegressor(**SHORT, learning_rate_init=0.01, epsilon=tiny), *diabetes)
        given = fitted(MLPRegressor(**SHORT, solver=optim.Adam(lr=0.01, eps=tiny)), *diabetes)
        assert same(named, given)
        named = fitted(MLPRegressor(**SHORT, solver="sgd", nesterovs_momentum=False), *diabetes)
        assert same(named, fitted(MLPRegressor(**SHORT, solver=optim.SGD(lr=0.001, momentum=0.9)), *diabetes))

    def test_steps_are_those_of_torch(self, diabetes, torch):
        X, y = diabetes
        settings = SHORT | {"hidden_layer_sizes": (), "shuffle": False, "batch_size": 442, "alpha": 0.0}
        model = MLPRegressor(**settings, solver=optim.AdamW(lr=0.05, weight_decay=0.3))
        first = fitted(clone(model).set_params(solver=optim.SGD(lr=1e-30), max_iter=1), X, y)
        w = torch.tensor(first.coefs_[0], requires_grad=True)
        b = torch.tensor(first.intercepts_[0], requires_grad=True)
        theirs = torch.optim.AdamW([w, b], lr=0.05, weight_decay=0.3)
        for _ in range(5):
            theirs.zero_grad()
            (torch.nn.functional.mse_loss(torch.tensor(X) @ w + b, torch.tensor(y)[:, None]) / 2).backward()
            theirs.step()
        np.testing.assert_allclose(fitted(model, X, y).coefs_[0], w.detach().numpy(), rtol=1e-9)

    def test_parts_go_on_with_their_moments(self, diabetes):
        settings = SHORT | {"shuffle": False, "solver": optim.RMSprop(lr=0.01)}
        parts = MLPRegressor(**settings)
        for _ in range(5):
            parts = pickle.loads(pickle.dumps(parts.partial_fit(*diabetes)))
        assert same(parts, fitted(MLPRegressor(**settings), *diabetes))

    def test_searched(self, wine):
        grid = {
            "solver": [optim.SGD(lr=1e-9), optim.AdamW(lr=0.05)],
            "activation": ["gelu"],
            "class_weight": ["balanced"],
        }
        search = fitted(GridSearchCV(MLPClassifier(**SHORT | {"max_iter": 20}), grid, cv=3), *wine)
        assert search.best_params_["solver"] == optim.AdamW(lr=0.05)
        assert search.best_score_ > 0.9


class TestDropout:
    @pytest.mark.parametrize("convert", [np.asarray, sparse.csr_array])
    def test_drawn_from_the_random_state(self, diabetes, convert):
        X, y = convert(diabetes[0]), diabetes[1]
        model = MLPRegressor(**SHORT, dropout=0.5)
        once = fitted(clone(model), X, y)
        assert same(once, fitted(clone(model), X, y))
        assert not same(once, fitted(clone(model).set_params(random_state=4), X, y))
        assert not same(once, fitted(clone(model).set_params(dropout=0.0), X, y))
        np.testing.assert_array_equal(once.predict(X), once.predict(X))

    def test_outputs_stay_and_vanish_in_turn(self):
        """Of one unit that passes 1 on, the loss of a row tells whether it was dropped: (2·1)² or 0."""
        X, y = np.ones((1, 1)), np.zeros(1)
        losses = []
        model = MLPRegressor(
            hidden_layer_sizes=(1,), solver=optim.SGD(lr=1e-12), alpha=0.0, dropout=0.5, random_state=0, max_iter=40,
            n_iter_no_change=100, activation="identity", callback=lambda values: losses.append(values["train_loss"]),
        )  # fmt: skip
        fitted(model, X, y)
        (w,), (v,) = model.coefs_[0][0], model.coefs_[1][0]
        (b,), (c,) = model.intercepts_
        kept, dropped = (2 * (w + b) * v + c) ** 2 / 2, c**2 / 2
        nearest = [min((kept, dropped), key=lambda one: abs(one - loss)) for loss in losses]
        np.testing.assert_allclose(losses, nearest, rtol=1e-6)
        assert 8 < sum(one == kept for one in nearest) < 32

    def test_parts_go_on_drawing(self, diabetes):
        settings = SHORT | {"shuffle": False, "dropout": 0.3}
        parts = MLPRegressor(**settings)
        for i in range(5):
            parts.partial_fit(*diabetes)
            parts = pickle.loads(pickle.dumps(parts)) if i % 2 else parts
        assert same(parts, fitted(MLPRegressor(**settings), *diabetes))

    def test_refused(self, diabetes):
        with pytest.raises(InvalidParameter, match=r"dropout=0\.2 has no effect with solver='lbfgs'"):
            MLPRegressor(solver="lbfgs", dropout=0.2).fit(*diabetes)
        for wrong in (1.0, -0.1, "much"):
            with pytest.raises(InvalidParameter, match="'dropout' parameter"):
                MLPRegressor(dropout=wrong).fit(*diabetes)


class TestValidation:
    def test_given_rows_take_the_place_of_a_split(self, diabetes):
        X, y = diabetes
        model = MLPRegressor(**STOPPING)
        kept = fitted(clone(model).set_params(early_stopping=False), X[:300], y[:300])
        model.fit(X[:300], y[:300], validation_data=(X[300:], y[300:]))
        assert model.loss_curve_ == kept.loss_curve_  # all rows are trained on
        best = np.argmax(model.validation_scores_)
        assert model.score(X[300:], y[300:]) == pytest.approx(model.validation_scores_[best], rel=1e-12)
        weight = np.arange(142) % 2 + 0.5
        model.fit(X[:300], y[:300], validation_data=(sparse.csr_array(X[300:]), y[300:], weight))
        expected = model.score(X[300:], y[300:], weight)
        assert model.best_validation_score_ == pytest.approx(expected, rel=1e-9)

    def test_through_a_search(self, wine):
        X, y = wine
        search = GridSearchCV(MLPClassifier(**STOPPING), {"alpha": [0.1, 1.0]}, cv=3)
        search.fit(X, y, validation_data=(X[::3], y[::3]))
        assert len(search.best_estimator_.validation_scores_) == 5

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (lambda X, y: X, "wanted .X, y. or"),
            (lambda X, y: (X,), "wanted .X, y. or"),
            (lambda X, y: (X[:, 1:], y), "features"),
            (lambda X, y: (X, y[1:]), "inconsistent"),
            (lambda X, y: (X, y + 1), "classes not in"),
            (lambda X, y: (X, np.eye(3, dtype=int)[y]), "validation_data|classes not in|multilabel"),
            (lambda X, y: (X, y, np.zeros(len(y))), "sum to 0|non-zero"),
        ],
    )
    def test_refused(self, wine, given, message):
        with pytest.raises(ValueError, match=message):
            MLPClassifier(**STOPPING).fit(*wine, validation_data=given(*wine))

    def test_refused_without_early_stopping(self, wine):
        with pytest.raises(InvalidValue, match="set early_stopping=True"):
            MLPClassifier(**SHORT).fit(*wine, validation_data=wine)

    def test_some_classes_are_enough_for_it(self, wine):
        X, y = wine
        model = MLPClassifier(**STOPPING, warm_start=True)
        for _ in range(2):
            model.fit(X, y, validation_data=(X[y < 2], y[y < 2]))
        assert model.classes_.tolist() == [0, 1, 2]
        assert len(model.validation_scores_) == 10


class TestScoring:
    def test_a_name(self, diabetes):
        X, y = diabetes
        model = MLPRegressor(**STOPPING, scoring="neg_mean_absolute_error")
        model.fit(X[:300], y[:300], validation_data=(X[300:], y[300:]))
        error = mean_absolute_error(y[300:], model.predict(X[300:]))
        assert model.best_validation_score_ == max(model.validation_scores_) == pytest.approx(-error, rel=1e-12)

    @pytest.mark.parametrize("weight", [None, "some"])
    def test_of_probabilities_and_text(self, wine, weight):
        X, y = wine[0], np.array(["good", "poor", "fair"])[wine[1]]
        weight = None if weight is None else np.arange(len(y)) % 3 + 0.5
        data = (X, y) if weight is None else (X, y, weight)
        model = MLPClassifier(**STOPPING, scoring="neg_log_loss").fit(X, y, validation_data=data)
        expected = -log_loss(y, model.predict_proba(X), sample_weight=weight)
        assert model.best_validation_score_ == pytest.approx(expected, rel=1e-12)

    def test_a_function_sees_the_labels_and_the_weights_of_the_epoch(self, wine):
        seen = []

        def score(estimator, X, y):
            seen.append(estimator.predict_proba(X))
            return float(len(seen) if set(y) <= {0, 1, 2} else -1)

        model = fitted(MLPClassifier(**STOPPING, scoring=score), *wine)
        assert model.validation_scores_ == [1, 2, 3, 4, 5]
        assert not np.array_equal(seen[0], seen[1])

    @pytest.mark.filterwarnings("error:X does not have valid feature names")
    def test_of_frames(self, diabetes):
        X, y = pd.DataFrame(diabetes[0]).add_prefix("c"), diabetes[1]
        model = MLPRegressor(**STOPPING, scoring="r2").fit(X[:300], y[:300], validation_data=(X[300:], y[300:]))
        assert model.best_validation_score_ == pytest.approx(model.score(X[300:], y[300:]), rel=1e-12)
        with pytest.raises(ValueError, match="feature names"):
            model.fit(X, y, validation_data=(X[X.columns[::-1]], y))

    def test_refused(self, wine):
        with pytest.raises(InvalidParameter, match="scoring='accuracy' has no effect with solver='adam'"):
            MLPClassifier(scoring="accuracy").fit(*wine)
        with pytest.raises(ValueError, match="nonsense"):
            MLPClassifier(**STOPPING, scoring="nonsense").fit(*wine)
        with pytest.raises(InvalidValue, match="returned 'good', wanted a number"):
            MLPClassifier(**STOPPING, scoring=lambda *_: "good").fit(*wine)
        with pytest.raises(InvalidValue, match="returned nan, wanted a number"):
            MLPClassifier(**STOPPING, scoring=lambda *_: math.nan).fit(*wine)

    def test_one_row_has_no_r2(self, diabetes):
        X, y = diabetes
        with (
            pytest.warns(UndefinedMetricWarning),
            pytest.raises(InvalidValue, match="the score of 1 validation rows is NaN"),
        ):
            MLPRegressor(**STOPPING).fit(X, y, validation_data=(X[:1], y[:1]))

    @pytest.mark.parametrize("scoring", ["neg_max_error", lambda model, X, y: model.score(X, y)])
    def test_without_weights_of_rows_where_it_takes_none(self, diabetes, scoring):
        X, y = diabetes
        weight = np.arange(len(y)) % 3 + 0.5
        model = fitted(MLPRegressor(**STOPPING, scoring=scoring), X, y, weight)
        assert len(model.validation_scores_) == 5


class TestCallback:
    @pytest.mark.parametrize("solver", ["adam", "lbfgs", optim.SGD(lr=0.01)])
    def test_told_of_each_epoch(self, diabetes, solver):
        told = []
        model = fitted(MLPRegressor(**SHORT, solver=solver, callback=told.append), *diabetes)
        assert [values["epoch"] for values in told] == [1, 2, 3, 4, 5]
        assert told[-1]["train_loss"] == pytest.approx(model.loss_, rel=1e-12)
        assert same(model, fitted(MLPRegressor(**SHORT, solver=solver), *diabetes))

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    @pytest.mark.filterwarnings("error")
    def test_stops_without_a_warning(self, diabetes, solver):
        model = MLPRegressor(**SHORT, solver=solver, callback=lambda values: values["epoch"] == 3).fit(*diabetes)
        assert model.n_iter_ == 3
        assert same(model, fitted(MLPRegressor(**SHORT | {"max_iter": 3}, solver=solver), *diabetes))

    def test_numpys_true_stops_too_but_nothing_else_does(self, diabetes):
        for value, epochs in ((np.True_, 1), (np.False_, 5), (1, 5), (None, 5)):
            model = fitted(MLPRegressor(**SHORT, callback=lambda values, value=value: value), *diabetes)
            assert model.n_iter_ == epochs

    @pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
    def test_sees_the_weights_of_the_epoch(self, diabetes, solver):
        X, y = diabetes
        scores = []
        model = MLPRegressor(**SHORT, solver=solver)
        fitted(model.set_params(callback=lambda values: scores.append(model.score(X, y))), X, y)
        for epochs, score in enumerate(scores, 1):
            whole = fitted(MLPRegressor(**SHORT | {"max_iter": epochs}, solver=solver), X, y)
            assert whole.score(X, y) == pytest.approx(score, rel=1e-12)

    def test_may_change_the_weights(self, diabetes):
        X, y = diabetes
        model = MLPRegressor(**SHORT | {"max_iter": 2}, solver="sgd", learning_rate_init=1e-30)

        def halve(values):
            if values["epoch"] == 1:
                model.coefs_[0] *= 0.5
                model.intercepts_ = [np.zeros_like(one) for one in model.intercepts_]

        before = fitted(clone(model), X, y)
        fitted(model.set_params(callback=halve), X, y)
        np.testing.assert_allclose(model.coefs_[0], 0.5 * before.coefs_[0], rtol=1e-12)
        np.testing.assert_allclose(np.concatenate(model.intercepts_), 0, atol=1e-25)

    def test_told_of_scores_and_parts(self, wine):
        told = []
        model = fitted(MLPClassifier(**STOPPING, callback=told.append), *wine)
        assert [values["validation_score"] for values in told] == model.validation_scores_
        model = MLPClassifier(**SHORT, callback=told.append).partial_fit(*wine, classes=[0, 1, 2])
        assert told[-1] == {"epoch": 1, "train_loss": model.loss_}

    def test_refused(self, wine):
        with pytest.raises(InvalidParameter, match="'callback' parameter"):
            MLPClassifier(callback="print").fit(*wine)
