"""Baselines that a network has to beat: plain models fitted on the same rows."""

from __future__ import annotations

import warnings

import numpy as np

from viva_tensor.kernels.arrays import Float32Array, Float64Array

FITTED = 50_000  # rows that baselines are fitted on
ROWS_FOR_THREADS = 10_000
MOST_CLASSES = 20  # for boosted trees, which grow as many in each iteration


def least_squares(x: Float32Array, y: Float64Array, x_new: Float32Array) -> Float64Array:
    """Return predictions [new rows] of ordinary least squares with an intercept, fitted on `x` and y [rows]."""
    coefficients = np.linalg.lstsq(_with_intercept(x), y)[0]
    predicted: Float64Array = _with_intercept(x_new) @ coefficients
    return predicted


def logistic_regression(x: Float32Array, y: Float64Array, x_new: Float32Array, classes: int) -> Float64Array:
    """Return probabilities [new rows, classes] of scikit-learn's logistic regression, fitted on `x` and y [rows]."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a baseline need not converge
        fitted = LogisticRegression(max_iter=200).fit(x, y.astype(int))
    probabilities = np.zeros((len(x_new), classes))
    probabilities[:, fitted.classes_] = fitted.predict_proba(x_new)
    return probabilities


def boosted_trees(x: Float32Array, y: Float64Array, x_new: Float32Array, classes: int = 0) -> Float64Array:
    """Return predictions [new rows], or probabilities [new rows, classes], of scikit-learn's boosted trees.

    They are fitted with its defaults on x and y [rows].
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    # on few rows its threads spend their time on waiting for each other
    with threadpool_limits(None if len(x) >= ROWS_FOR_THREADS else 1):
        if not classes:
            numbers: Float64Array = HistGradientBoostingRegressor(random_state=0).fit(x, y).predict(x_new)
            return numbers
        counts = np.bincount(y.astype(int))
        several = counts[counts > 0].min() > 1  # of each class it sets rows aside
        fitted = HistGradientBoostingClassifier(random_state=0, early_stopping="auto" if several else False)
        fitted.fit(x, y.astype(int))
        probabilities = np.zeros((len(x_new), classes))
        probabilities[:, fitted.classes_] = fitted.predict_proba(x_new)
    return probabilities


def _with_intercept(x: Float32Array) -> Float64Array:
    return np.column_stack([np.ones(len(x)), x])
