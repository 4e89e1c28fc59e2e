"""Baselines that a network has to beat: plain models fitted on training rows.

With a preset these are all rows that are not for the test but one, whichever of them each network is trained without.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.boosting import tree_threads

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


def boosted_trees(x: Float32Array, y: Float64Array, classes: int = 0) -> Baseline:
    """Return scikit-learn's boosted trees with its defaults, for numbers or classes, fitted on x and y [rows]."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    with tree_threads(len(x)):
        if not classes:
            regressor = HistGradientBoostingRegressor(random_state=0).fit(x, y)
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
