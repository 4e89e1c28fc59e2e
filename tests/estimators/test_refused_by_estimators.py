"""Parameters and data that are refused, in words of scikit-learn."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from support.estimators import SHORT, fitted

from viva_tensor.error import InvalidValue
from viva_tensor.sklearn import MLPClassifier, MLPRegressor
from viva_tensor.sklearn.parameters import InvalidParameter


@pytest.mark.parametrize(
    "parameters",
    [
        {"hidden_layer_sizes": (0,)}, {"hidden_layer_sizes": -1}, {"hidden_layer_sizes": (2.5,)},
        {"activation": "step"}, {"solver": "newton"}, {"max_fun": 0}, {"learning_rate": "magic"}, {"batch_size": 0},
        {"batch_size": "all"}, {"batch_size": 1.5}, {"alpha": -1}, {"alpha": np.nan}, {"learning_rate_init": 0},
        {"learning_rate_init": -0.1}, {"max_iter": 0}, {"tol": -1},
        {"momentum": 1.1}, {"momentum": -0.1}, {"beta_1": 1}, {"beta_2": -1}, {"epsilon": 0},
        {"validation_fraction": -0.1}, {"validation_fraction": 1}, {"n_iter_no_change": 0}, {"power_t": -1},
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [MLPRegressor, MLPClassifier])
def test_parameters_out_of_range(kind, parameters):
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
def test_data_of_regression(X, y, message):
    with pytest.raises(ValueError, match=message):
        MLPRegressor(max_iter=1).fit(X, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_classes(wine):
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


@pytest.mark.parametrize(
    ("parameters", "given", "message"),
    [
        ({}, {"sample_weight": [1.0]}, "shape"),
        ({}, {"sample_weight": np.zeros(178)}, "sum to 0|one non-zero"),
        ({"batch_size": -1}, {}, "batch_size"),
        ({"early_stopping": True, "validation_fraction": 0.001}, {}, "too small"),
        ({"early_stopping": True}, {"validation_data": ([[0.0]], ["x"])}, "expecting 5 features"),
        ({"solver": "lbfgs", "class_weight": {"x": -1}}, {}, "at least 0"),
        ({"warm_start": True}, {}, "expecting 13 features"),
    ],
)
def test_an_estimator_is_as_before(wine, parameters, given, message):
    X, y = wine
    model = fitted(MLPClassifier(**SHORT), X, np.array(["a", "b", "c"])[y])
    predicted = model.predict(X)
    model.set_params(**parameters)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.fit(X[:, :5], np.array(["x", "y", "z"])[y[::-1]], **given)
    assert vars(model) == before
    np.testing.assert_array_equal(model.predict(X), predicted)


def test_layers_cannot_change_on_the_way(diabetes):
    model = MLPRegressor(**SHORT).partial_fit(*diabetes)
    model.hidden_layer_sizes = (9,)
    with pytest.raises(InvalidValue, match="those fitted before"):
        model.partial_fit(*diabetes)


def test_early_stopping(diabetes):
    with pytest.raises(ValueError, match="does not support early_stopping=True; use it with fit"):
        MLPRegressor(early_stopping=True).partial_fit(*diabetes)
    with pytest.raises(ValueError, match="validation set is too small"):
        MLPRegressor(early_stopping=True).fit(diabetes[0][:5], diabetes[1][:5])


def test_divergence(diabetes):
    with pytest.raises(InvalidValue, match="lower learning_rate_init"):
        fitted(MLPRegressor(**SHORT | {"solver": "sgd", "learning_rate_init": 1e6}), *diabetes)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_batch_larger_than_the_rows_is_clipped_with_a_warning(diabetes):
    with pytest.warns(UserWarning, match="batch_size=500 is larger than the 442 rows"):
        a = MLPRegressor(**SHORT, batch_size=500).fit(*diabetes)
    assert a.loss_curve_ == fitted(MLPRegressor(**SHORT, batch_size=442), *diabetes).loss_curve_


def test_weights(diabetes):
    weight = np.ones(442)
    weight[100:200] = 0
    with pytest.raises(InvalidValue, match="batch sum to 0; leave rows of weight 0 out"):
        MLPRegressor(**SHORT, batch_size=50, shuffle=False).fit(*diabetes, weight)
    with pytest.raises(ValueError, match="shape"):
        MLPRegressor(**SHORT).fit(*diabetes, weight[:5])


def test_counts(diabetes):
    with pytest.raises(InvalidValue, match="at least 0 for loss='poisson'; use loss='squared_error'"):
        MLPRegressor(loss="poisson").fit(*diabetes)


def test_not_fitted(wine):
    with pytest.raises(NotFittedError):
        clone(MLPClassifier()).predict(wine[0])


@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
@pytest.mark.parametrize("operation", ["fit", "partial_fit", "validation_data"])
def test_masks_are_not_lost(name, operation, rng):
    given = {"X": rng.normal(size=(20, 2)), "y": rng.normal(size=20), "sample_weight": np.ones(20)}
    masked = {**given, name: np.ma.masked_where(np.ones_like(given[name]) > 0, given[name])}
    model = MLPRegressor(**SHORT)
    if operation == "validation_data":
        model.set_params(early_stopping=True)
        operation, masked = "fit", {**given, "validation_data": tuple(masked.values())}
    with pytest.raises(InvalidValue, match=f"{operation}: {name} is masked, and its mask would be lost"):
        getattr(model, operation)(**masked)


def test_masks_are_not_lost_in_predictions(rng):
    x = rng.normal(size=(20, 2))
    model = MLPRegressor(max_iter=1, tol=0).partial_fit(x, x[:, 0])
    with pytest.raises(InvalidValue, match="predict: X is masked"):
        model.predict(np.ma.masked_less(x, 0))
