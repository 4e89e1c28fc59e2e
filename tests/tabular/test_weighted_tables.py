"""Rows of tables that count more than others: linear models, what is kept of two, and rows that are packed."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import LeaveOneOut

from viva_tensor import tabular
from viva_tensor.tabular import features, linear_start
from viva_tensor.tabular.targets import Classes, Number
from viva_tensor.train import Settings

QUICK = Settings(hidden=(8,), epochs=8, batch_size=16, patience=8)


@pytest.fixture
def rows(rng):
    x = rng.standard_normal((60, 4)).astype("f4")
    return x, x @ [1.0, -2, 0.5, 0] + rng.standard_normal(60), rng.uniform(0.1, 4, 60)


def test_a_row_of_all_weight_leaves_the_mean(rows):
    x, y, w = rows
    w[3] = 1e30
    w, b = linear_start._ridge(x, y, w)
    assert not w.any()
    assert b == pytest.approx(y[3])


def test_ridge_is_that_of_scikit_learn_with_weights(rows, monkeypatch):
    x, y, w = (one[:30] for one in rows)
    share = w / w.mean()
    found = linear_start._ridge(x, y, w)
    centred = x - np.average(x, axis=0, weights=w)
    scale = np.linalg.eigvalsh((centred * share[:, None]).T @ centred / 30).mean()

    def error(penalty):
        alpha = 30 * penalty * scale
        left_out = [
            Ridge(alpha=alpha).fit(x[kept], y[kept], sample_weight=share[kept]).predict(x[out])[0] - y[out][0]
            for kept, out in LeaveOneOut().split(x)
        ]
        return np.mean(share * np.square(left_out))

    best = min(linear_start.PENALTIES, key=error)
    wanted = Ridge(alpha=30 * best * scale).fit(x.astype(float), y, sample_weight=share)
    np.testing.assert_allclose(found[0][0], wanted.coef_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], wanted.intercept_, rtol=1e-5, atol=1e-6)


def test_logistic_regression_is_about_that_of_scikit_learn_with_weights(rows):
    x, y, w = rows
    target = Classes("y", ("low", "high"))
    found = linear_start._descended(x, (y > 0).astype("f4"), target, 0, w)[0]
    wanted = LogisticRegression(C=2.0).fit(x, y > 0, sample_weight=w / w.mean()).coef_[0]
    np.testing.assert_allclose(found[1] - found[0], wanted, atol=0.35)
    apart = linear_start._descended(x, (y > 0).astype("f4"), target, 0, None)[0]
    assert np.abs(found - apart).max() > 0.01


def test_what_is_better_depends_on_the_heavy_rows(rng):
    y = rng.standard_normal((200, 1)).astype("f4")
    half = np.arange(200) < 100
    one, other = (np.where(half[:, None], y, y + shift).astype("f4") for shift in (0.0, 1.0))
    other[half] += 2
    target = Number("y", 0.0, 1.0)
    network, linear = np.where(half[:, None], other, one), np.where(half[:, None], one, y + 1).astype("f4")
    for heavy, better in ((half, False), (~half, True)):
        assert linear_start.is_better(network, linear, y, target, np.where(heavy, 1.0, 1e-3)) == better
    noise = rng.standard_normal((200, 1)).astype("f4")
    for count, better in ((4, False), (200, True)):  # four rows tell nothing
        heavy = np.where(np.arange(200) < count, 1.0, 1e-9)
        assert linear_start.is_better(y + noise / 2, y + noise, y, target, heavy) == better


def test_rows_of_weight_0_are_left_out_and_said():
    table = pd.DataFrame({"a": np.arange(100.0) % 7, "y": np.arange(100.0) % 7 * 3})
    fitted = tabular.fit(table, "y", QUICK, weights=np.arange(100) % 4 > 0)
    assert fitted.rows["train"] + fitted.rows["validation"] == 75
    assert fitted.rows["without_target"] == 0
    assert "left out: 25 rows of weight 0" in fitted.notes


@pytest.mark.parametrize("kind", ["number", "class"])
def test_large_tables_of_categories_are_weighted_packed(kind, rng, monkeypatch):
    table = pd.DataFrame({"a": rng.uniform(-1, 1, 300), "c": rng.choice(["u", "v"], 300)})
    up = rng.random(300) < 0.5
    sign = np.where(up, 1, -1) * table["a"]
    table["y"] = sign if kind == "number" else np.where(sign > 0, "right", "left")
    weights = np.where(up, 1.0, 1e-3)
    dense = tabular.fit(table, "y", QUICK, weights=weights).fit.history
    monkeypatch.setattr(features, "DENSE", 1)
    packed = tabular.fit(table, "y", QUICK, weights=weights).fit.history
    plain = tabular.fit(table, "y", QUICK).fit.history
    assert packed["validation_loss"][-1] == pytest.approx(dense["validation_loss"][-1], rel=0.2)
    assert packed["validation_loss"][-1] < 0.5 * plain["validation_loss"][-1]
