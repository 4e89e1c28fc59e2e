"""L-BFGS in the steps of scikit-learn; only the rows are summed in another order, which grows from step to step."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from support.estimators import SHORT, both_fitted, dense_rows, fitted

from viva_tensor.error import InvalidValue
from viva_tensor.sklearn import MLPClassifier, MLPRegressor

LONG = {"solver": "lbfgs", "max_iter": 40, "tol": 1e-4}


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.csc_matrix])
def test_steps_are_scikit_learns(diabetes, cancer, wine, activation, form):
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


@pytest.mark.parametrize("widths", [(16,), (5, 16), (16, 17, 18), (17, 16)], ids=str)
@pytest.mark.parametrize("rows", [16, 17, 200])
def test_sparse_rows_and_layers_as_wide_as_the_rows_recorded(diabetes, widths, rows):
    X, y = diabetes[0][:rows], diabetes[1][:rows]
    Y = np.column_stack([y * power for power in range(1, 17)])
    parameters = LONG | {"hidden_layer_sizes": widths, "max_iter": 3}
    ours, theirs = both_fitted(MLPRegressor, parameters, sparse.csr_array(X), y)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6, atol=1e-9)
    sparsely, densely = (
        fitted(MLPRegressor(**SHORT | parameters), form(X), Y) for form in (sparse.csr_array, np.array)
    )
    np.testing.assert_allclose(sparsely.predict(X), densely.predict(X), rtol=1e-6, atol=1e-9)


def test_several_outputs_end_where_scikit_learn_does(diabetes):
    X, y = diabetes
    Y = np.column_stack([y, X[:, 2] + y**2])
    ours, theirs = both_fitted(MLPRegressor, LONG | {"hidden_layer_sizes": (), "tol": 1e-9, "max_iter": 500}, X, Y)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-3)
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e6, 1e12])
def test_large_targets(scale):
    """The step after the first finds no way, and is made once more along the gradient."""
    X = np.random.default_rng(0).normal(size=(60, 4))
    y = scale * (2 * X[:, 0] + X[:, 1])
    parameters = LONG | {"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 10}
    ours, theirs = both_fitted(MLPRegressor, parameters, X, y)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6, atol=1e-6 * scale)


def test_float32_is_minimised_in_float64(diabetes):
    X = diabetes[0].astype("float32")
    parameters = SHORT | LONG | {"max_iter": 4}
    model, wide = (fitted(MLPRegressor(**parameters), x, diabetes[1]) for x in (X, X.astype("float64")))
    assert {one.dtype.name for one in (*model.coefs_, *model.intercepts_)} == {"float32"}
    assert model.predict(X).dtype == np.float32
    np.testing.assert_allclose(model.loss_, wide.loss_, rtol=1e-5)  # the initial weights are rounded


def test_it_stops_and_says_why(diabetes):
    with pytest.warns(ConvergenceWarning, match=r"after 3 iterations .* max_iter=3 or"):
        MLPRegressor(**SHORT | LONG | {"max_iter": 3}).fit(*diabetes)
    with pytest.warns(ConvergenceWarning, match=r"and 6 evaluations: .* or max_fun=5 was reached"):
        MLPRegressor(**SHORT | LONG | {"max_fun": 5}).fit(*diabetes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MLPRegressor(**SHORT | LONG | {"tol": 0.01}).fit(*diabetes)
    assert model.n_iter_ < 40


def test_it_goes_on_from_where_it_was(diabetes):
    model = MLPRegressor(**SHORT | LONG | {"max_iter": 5, "warm_start": True})
    losses = [fitted(model, *diabetes).loss_ for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
    model.set_params(solver="sgd", learning_rate_init=1e-6)
    assert fitted(model, *diabetes).loss_ == pytest.approx(losses[2], rel=0.1)
    assert len(model.loss_curve_) == 5


def test_verbose(diabetes, capsys):
    fitted(MLPRegressor(**SHORT | LONG | {"max_iter": 3, "verbose": True}), *diabetes)
    assert capsys.readouterr().out.count("Iteration") == 3


def test_a_start_that_is_not_finite_is_refused(diabetes):
    with pytest.raises(InvalidValue, match=r"at the initial weights, the .*; standardise"):
        MLPRegressor(**SHORT | LONG).fit(diabetes[0] * 1e200, diabetes[1])


def test_rows_stay_sparse(diabetes, monkeypatch):
    most = dense_rows(monkeypatch)
    fitted(MLPRegressor(**SHORT | LONG), sparse.csr_array(diabetes[0]), diabetes[1])
    assert most == []


def test_no_weight_at_all(diabetes):
    for weight, message in (
        (np.zeros(442), "at least one non-zero|sum to 0"),
        (np.repeat([1.0, -1.0], 221), "sum to 0"),
    ):
        with pytest.raises(ValueError, match=message):
            MLPRegressor(**SHORT | LONG).fit(*diabetes, weight)
