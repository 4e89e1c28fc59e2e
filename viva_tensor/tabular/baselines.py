"""Baselines that a network has to beat: plain models fitted on training rows.

With a preset these are all rows that are not for the test but one, whichever of them each network is trained without.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.boosting import LOSSES, tree_threads
from viva_tensor.tabular.quantiles import Quantile, percent
from viva_tensor.tabular.scores import minimised
from viva_tensor.train.settings import Loss

# predictions [rows], or probabilities [rows, classes], for features [rows, features]
Baseline = Callable[[Float32Array], Float64Array]

FITTED = 50_000  # rows that baselines are fitted on


def least_squares(x: Float32Array, y: Float64Array) -> Baseline:
    """Return ordinary least squares with an intercept, fitted on x [rows, features] and y [rows]."""
    middle, mean = x.mean(axis=0, dtype=np.float64), float(y.mean())  # without which a large mean hides the rest
    coefficients = np.linalg.lstsq(x - middle, y - mean)[0]
    return lambda x_new: (x_new - middle) @ coefficients + mean


def logistic_regression(x: Float32Array, y: Float64Array, classes: int) -> Baseline:
    """Return scikit-learn's logistic regression, fitted on x [rows, features] and y [rows]."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # threads would spin between its small products; for classes, nothing that runs meanwhile uses NumPy's
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore")  # a baseline need not converge
        fitted = LogisticRegression(max_iter=200).fit(x, y.astype(int))
    return lambda x_new: _all_classes(fitted, x_new, classes)


def poisson_regression(x: Float32Array, y: Float64Array) -> Baseline:
    """Return scikit-learn's Poisson regression with hardly any penalty, fitted on x [rows, features] and y [rows]."""
    from sklearn.linear_model import PoissonRegressor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a baseline need not converge
        fitted = PoissonRegressor(alpha=1e-4, max_iter=300).fit(x, y)
    return lambda x_new: np.asarray(fitted.predict(x_new), np.float64)


def typical(y: Float64Array, loss: str | Loss) -> tuple[str, float]:
    """Return the name and value of the one number that minimises a loss for all y [rows].

    Examples
    --------
    >>> y = np.array([0.0, 1.0, 8.0])
    >>> typical(y, "mse"), typical(y, "huber"), typical(y, Quantile(0.75))
    (('training mean', 3.0), ('training median', 1.0), ('training quantile 75%', 4.5))
    """
    if isinstance(loss, Quantile):
        return f"training quantile {percent(loss.quantile)}", float(np.quantile(y, loss.quantile))
    if minimised(loss) == "mae":
        return "training median", float(np.median(y))
    return "training mean", float(y.mean())


def boosted_trees(x: Float32Array, y: Float64Array, classes: int = 0, loss: str | Loss = "mse") -> Baseline:
    """Return scikit-learn's boosted trees with its defaults, for numbers or classes, fitted on x and y [rows].

    Those of numbers minimise the loss, if scikit-learn has it, else squared errors.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    with tree_threads(len(x)):
        if not classes:
            quantile = loss.quantile if isinstance(loss, Quantile) else None
            name = LOSSES.get(loss, "squared_error" if quantile is None else "quantile")
            regressor = HistGradientBoostingRegressor(loss=name, quantile=quantile, random_state=0).fit(x, y)
        else:
            counts = np.bincount(y.astype(int))
            several = counts[counts > 0].min() > 1  # of each class it sets rows aside
            classifier = HistGradientBoostingClassifier(random_state=0, early_stopping="auto" if several else False)
            classifier.fit(x, y.astype(int))

    def predicted(x_new: Float32Array) -> Float64Array:
        with tree_threads(len(x)):
            return _all_classes(classifier, x_new, classes) if classes else regressor.predict(x_new)

    return predicted


def _all_classes(fitted: Any, x: Float32Array, classes: int) -> Float64Array:
    """Return the probability of each class [rows, classes], 0 for those that a classifier has not seen."""
    probabilities = np.zeros((len(x), classes))
    probabilities[:, fitted.classes_] = fitted.predict_proba(x)
    return probabilities
