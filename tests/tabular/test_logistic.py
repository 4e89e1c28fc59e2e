"""The logistic regression of few rows, beside scikit-learn's."""

import warnings

import numpy as np
import pandas as pd
import pytest

from viva_tensor.sklearn import TabularClassifier
from viva_tensor.tabular.logistic import MOST_ROWS, PENALTIES, penalised


def classes_of(x, rng, noise):
    return (x[:, :3] + noise * rng.normal(size=(len(x), 3))).argmax(axis=1).astype(np.float32)


@pytest.mark.parametrize("weighed", [False, True])
def test_it_is_scikit_learns(rng, weighed):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x = (rng.normal(size=(150, 20)) + 3).astype(np.float32)
    y = classes_of(x, rng, noise=2.0)
    weights = rng.uniform(0.5, 2, size=len(x)) if weighed else None
    w, b = penalised(x, y, classes=3, seed=0, weights=weights)
    shares = None if weights is None else weights / weights.mean()
    for penalty in PENALTIES[1:]:
        fitted = linear_model.LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=10_000).fit(x, y, shares)
        if np.allclose(fitted.coef_, w, rtol=1e-2, atol=1e-3):
            logits, ours = fitted.decision_function(x), x @ w.T + b
            np.testing.assert_allclose(ours - ours.mean(axis=1, keepdims=True), logits, atol=2e-2)
            return
    raise AssertionError("no penalty of those gives these weights")


def test_many_rows_and_clear_ones_have_the_usual_penalty(rng):
    x = rng.normal(size=(MOST_ROWS + 1, 4)).astype(np.float32)
    assert penalised(x, classes_of(x, rng, 1.0), classes=3, seed=0) is None
    assert penalised(x[:1000], classes_of(x[:1000], rng, 1.0), classes=3, seed=0) is None  # for four columns
    assert penalised(x[:80], classes_of(x[:80], rng, 0.0), classes=3, seed=0) is None
    assert penalised(x[:9], classes_of(x[:9], rng, 0.0), classes=3, seed=0) is None


def test_a_class_that_is_in_one_part_alone(rng):
    x = rng.normal(size=(40, 10)).astype(np.float32)
    y = np.zeros(40, np.float32)
    y[:19], y[19] = 1, 2
    w, b = penalised(x, y, classes=3, seed=0)
    assert np.isfinite(w).all()
    assert np.isfinite(b).all()


def test_columns_of_noise_leave_the_shares_of_the_classes(rng):
    X = pd.DataFrame(rng.normal(size=(80, 40)), columns=[f"c{i}" for i in range(40)])
    y = np.arange(80) % 4 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probabilities = TabularClassifier(random_state=0).fit(X, y).predict_proba(-X)[:, 1]
    np.testing.assert_allclose(probabilities, 0.25, atol=0.15)
