"""Both take the same steps as scikit-learn's estimators, in float32 and float64."""

import inspect
import warnings

import numpy as np
import pytest
import sklearn
from scipy import sparse
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.fixes import parse_version
from support.estimators import SHORT, assert_same_course, both_fitted, dense_rows, fitted, pair

from viva_tensor.sklearn import MLPClassifier, MLPRegressor


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
def test_regression(diabetes, parameters, dtype):
    X, y = diabetes[0].astype(dtype), diabetes[1]
    ours, theirs = both_fitted(MLPRegressor, parameters, X, y)
    assert_same_course(ours, theirs)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-3, atol=1e-3)
    if "early_stopping" in parameters:
        np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=1e-3, atol=1e-4)


TEXT = ["good", "poor", "fair"]
since_1_9 = pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="early stopping with classes that are text ends in a TypeError before scikit-learn 1.9 (its issue 33760)",
)


@pytest.mark.parametrize("data", ["wine", "cancer"])
@pytest.mark.parametrize(
    ("names", "parameters"),
    [
        (TEXT, {}),
        (TEXT, {"solver": "sgd", "alpha": 0.1}),
        ([0, 1, 2], {"early_stopping": True}),
        pytest.param(TEXT, {"early_stopping": True}, marks=since_1_9),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_classification(request, data, names, parameters, dtype):
    X, y = request.getfixturevalue(data)
    X, y = X.astype(dtype), np.array(names)[y]
    ours, theirs = both_fitted(MLPClassifier, parameters, X, y)
    assert_same_course(ours, theirs)
    assert ours.out_activation_ == theirs.out_activation_
    assert ours.validation_scores_ == theirs.validation_scores_
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("epsilon", [1e-8, 1e-2, 10.0])
def test_epsilon_is_added_where_scikit_learn_adds_it(diabetes, epsilon):
    ours, theirs = both_fitted(MLPRegressor, {"epsilon": epsilon, "max_iter": 30}, *diabetes)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)


@pytest.mark.parametrize(("kind", "data"), [(MLPRegressor, "diabetes"), (MLPClassifier, "wine")])
def test_fits_that_go_on_without_a_better_score(request, kind, data):
    X, y = request.getfixturevalue(data)
    ours, theirs = pair(kind, early_stopping=True, warm_start=True, max_iter=1, learning_rate_init=0.01)
    best = []
    for _ in range(40):
        assert_same_course(*(fitted(model, X, y) for model in (ours, theirs)))
        best.append(ours.best_validation_score_)
    assert len(set(best)) < 40
    before = ours.coefs_[0].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours.fit(X, y, validation_data=(X[::-1], y))  # a harder task
    assert ours.best_validation_score_ == best[-1]
    assert not np.array_equal(before, ours.coefs_[0])


def test_labels_independent_of_each_other(wine):
    X, y = wine[0], np.column_stack([wine[1] == 0, wine[1] < 2, wine[0][:, 0] > 0]).astype(int)
    ours, theirs = both_fitted(MLPClassifier, {}, X, y)
    assert_same_course(ours, theirs)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    assert ours.predict(X).shape == y.shape


def test_several_outputs(diabetes):
    X, y = diabetes
    Y = np.column_stack([y, X[:, 2], -y])
    for parameters in ({}, {"solver": "sgd", "alpha": 0.0}, {"early_stopping": True}):
        ours, theirs = both_fitted(MLPRegressor, parameters, X, Y)
        assert_same_course(ours, theirs)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("parameters", [{}, {"solver": "sgd"}, {"early_stopping": True}, {"alpha": 0.0}])
def test_poisson(diabetes, parameters):
    X, Y = diabetes[0], np.random.default_rng(0).poisson([[1.0, 0.2]], (442, 2))
    assert (Y == 0).any()
    for y in (Y, Y[:, 0]):
        ours, theirs = both_fitted(MLPRegressor, parameters | {"loss": "poisson"}, X, y)
        assert_same_course(ours, theirs)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-3)
        np.testing.assert_allclose(ours.score(X, y), theirs.score(X, y), rtol=1e-3)


@pytest.mark.parametrize("parameters", [{}, {"solver": "sgd", "batch_size": 60}, {"early_stopping": True}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_rows(diabetes, cancer, wine, parameters, dtype):
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


def test_weights_in_partial_fit(diabetes):
    weight = np.arange(442.0)
    ours, theirs = (model.partial_fit(*diabetes, sample_weight=weight) for model in pair(MLPRegressor))
    ours, theirs = (model.partial_fit(*diabetes, weight) for model in (ours, theirs))
    assert_same_course(ours, theirs)


@pytest.mark.parametrize("parameters", [{}, {"solver": "sgd", "shuffle": False}, {"early_stopping": True}])
@pytest.mark.parametrize("form", ["csr_matrix", "csc_array", "coo_array", "lil_matrix"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparse(diabetes, cancer, parameters, form, dtype):
    for kind, (X, y), weight in ((MLPRegressor, diabetes, None), (MLPClassifier, cancer, np.arange(569.0))):
        X = getattr(sparse, form)(np.where(abs(X) > 0.7, X, 0).astype(dtype))
        ours, theirs = both_fitted(kind, parameters, X, y, weight)
        assert_same_course(ours, theirs)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(ours.predict(X), ours.predict(X.toarray()), rtol=1e-5, atol=1e-6)


def test_sparse_rows_are_never_dense_all_at_once(diabetes, monkeypatch):
    most = dense_rows(monkeypatch)
    X = sparse.csr_array(diabetes[0])
    fitted(MLPRegressor(**SHORT, batch_size=40), X, diabetes[1]).predict(X)
    assert max(most) == 40


def test_partial_fit(wine):
    X, y = wine
    ours, theirs = MLPClassifier(**SHORT), neural_network.MLPClassifier(**SHORT)
    for start in range(0, 160, 40):
        for one in (ours, theirs):
            one.partial_fit(X[start : start + 40], y[start : start + 40], classes=[0, 1, 2])
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    assert ours.t_ == theirs.t_


@pytest.mark.parametrize("kind", [MLPRegressor, MLPClassifier])
def test_parameters_and_defaults(kind):
    theirs = getattr(neural_network, kind.__name__)().get_params()
    more = {"dropout": 0.0, "scoring": None, "callback": None}
    more |= {"class_weight": None} if kind is MLPClassifier else {}
    assert kind().get_params() == theirs | more
    ours, theirs = (inspect.signature(one).parameters for one in (kind, getattr(neural_network, kind.__name__)))
    assert list(ours) == [*theirs, *more]
    assert all(ours[name].kind is inspect.Parameter.KEYWORD_ONLY for name in more)
