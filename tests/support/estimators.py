"""Estimators beside scikit-learn's: fitted alike, and compared."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

SHORT: dict[str, Any] = {
    "max_iter": 5,
    "tol": 0,
    "n_iter_no_change": 5,
    "hidden_layer_sizes": (8, 6),
    "random_state": 3,
}


def standardised(load: Callable[..., Any]) -> tuple[Any, Any]:
    """The rows of a data set, standardised, and their targets."""
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def fitted(estimator: Any, X: Any, y: Any, weight: Any = None) -> Any:
    """The estimator, fitted without a word about convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, y) if weight is None else estimator.fit(X, y, sample_weight=weight)


def dense_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that will have the number of rows of each sparse array that is made dense."""
    counts: list[int] = []
    dense = sparse.csr_array.toarray

    def counting(x: Any, *arguments: Any, **options: Any) -> Any:
        counts.append(x.shape[0])
        return dense(x, *arguments, **options)

    monkeypatch.setattr(sparse.csr_array, "toarray", counting)
    return counts


def pair(kind: type, **parameters: Any) -> tuple[Any, Any]:
    """An estimator of ours, and scikit-learn's."""
    return kind(**SHORT | parameters), getattr(neural_network, kind.__name__)(**SHORT | parameters)


def both_fitted(kind: type, parameters: dict[str, Any], X: Any, y: Any, weight: Any = None) -> tuple[Any, Any]:
    """An estimator of ours, and scikit-learn's, fitted."""
    ours, theirs = (fitted(model, X, y, weight) for model in pair(kind, **parameters))
    return ours, theirs


def assert_same_course(ours: Any, theirs: Any) -> None:
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
