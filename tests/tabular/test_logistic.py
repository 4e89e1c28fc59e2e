"""The logistic regression of few rows, beside scikit-learn's."""

import warnings

import numpy as np
import pandas as pd
import pytest

from viva_tensor.sklearn import TabularClassifier
from viva_tensor.tabular.linear_start import linear_start
from viva_tensor.tabular.logistic import MOST_ROWS, PENALTIES, penalised
from viva_tensor.tabular.targets import Classes
from viva_tensor.train import Settings


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


def test_of_too_few_rows_and_of_many_numbers_there_is_none(rng):
    x = rng.normal(size=(MOST_ROWS + 1, 34)).astype(np.float32)
    assert penalised(x[:9], classes_of(x[:9], rng, 0.0), classes=3, seed=0) is None
    assert penalised(x, classes_of(x, rng, 1.0), classes=3, seed=0) is None  # of work that pays for few rows alone
    assert penalised(x[:, :4], classes_of(x, rng, 1.0), classes=3, seed=0) is not None


def test_classes_that_a_plane_parts_have_hardly_a_penalty(rng):
    x = rng.normal(size=(400, 8)).astype(np.float32)
    y = classes_of(x, rng, noise=0.0)
    w, b = penalised(x[:300], y[:300], classes=3, seed=0)
    logits = x[300:] @ w.T + b
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert -np.log(chances[np.arange(100), y[300:].astype(int)]).mean() < 0.12  # with the penalty 1 it is above 0.2


@pytest.mark.parametrize("weighed", [False, True])
def test_a_penalty_of_weights_makes_rare_classes_no_more_frequent(rng, weighed):
    x = rng.normal(size=(30_000, 8)).astype(np.float32)
    y = (x[:, 0] + rng.normal(size=len(x)) > 4.5).astype(np.float32)
    weights = rng.uniform(0.5, 2, size=len(x)) if weighed else None
    assert penalised(x, y, classes=2, seed=0, weights=weights) is None
    arrays = linear_start(x, y, Classes("y", ("a", "b")), Settings(hidden=()), np.arange(len(x)), weights=weights)
    logits = x @ arrays[0].T + arrays[1]
    chances = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    assert np.average(chances, weights=weights) == pytest.approx(np.average(y, weights=weights), rel=0.01)


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
