"""Scores by the loss that was asked for, of the network and of baselines that minimise the same."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from viva_tensor import tabular
from viva_tensor.tabular import page, report
from viva_tensor.tabular.scores import poisson_deviance, quantile_loss
from viva_tensor.train import Settings

QUICK = Settings(hidden=(16,), epochs=5, batch_size=16)


@pytest.fixture
def skewed():
    """A table whose target is noise with a long tail, but for a column that sets how far it spreads."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"spread": rng.uniform(0.1, 3, 600), "noise": rng.normal(size=600)})
    return table.assign(y=table["spread"] * rng.exponential(size=600), n=rng.poisson(np.exp(table["noise"])))


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_losses_are_those_of_scikit_learn(level):
    rng = np.random.default_rng(1)
    values, predicted = rng.poisson(2.0, 50).astype(float), rng.uniform(0.5, 4, 50)
    expected = metrics.mean_pinball_loss(values, predicted, alpha=level)
    assert quantile_loss(values, predicted, level) == pytest.approx(expected, rel=1e-12)
    expected = metrics.mean_poisson_deviance(values, predicted)
    assert poisson_deviance(values, predicted) == pytest.approx(expected, rel=1e-12)
    assert poisson_deviance(values, predicted - predicted.min()) == math.inf


@pytest.mark.parametrize(
    ("target", "aim", "score", "baselines", "typical"),
    [
        ("y", {}, "rmse", ["boosted trees", "least squares", "training mean"], np.mean),
        ("y", {"loss": "absolute"}, "mae", ["boosted trees", "least squares", "training median"], np.median),
        ("y", {"loss": "huber"}, "mae", ["boosted trees", "least squares", "training median"], np.median),
        ("n", {"loss": "poisson"}, "deviance", ["boosted trees", "Poisson regression", "training mean"], np.mean),
        (
            "y",
            {"loss": "quantile", "quantile": 0.9},
            "quantile_loss",
            ["boosted trees", "training quantile 90%"],
            lambda y: np.quantile(y, 0.9),
        ),
        (
            "y",
            {"loss": "quantile", "quantile": (0.1, 0.5, 0.9)},
            "quantile_loss",
            ["boosted trees", "training quantile 50%"],
            np.median,
        ),
    ],
)
def test_baselines_minimise_what_the_network_does(skewed, target, aim, score, baselines, typical):
    run = tabular.run(skewed[["spread", "noise", target]], target, QUICK, **aim)
    assert list(run.scores) == ["network", *baselines]
    test = run.test["row"]
    trained = np.setdiff1d(np.arange(600), test)
    found = run.scores[baselines[-1]].mae  # of training rows without those for validation
    wanted = np.abs(skewed[target][test] - typical(skewed[target][trained])).mean()
    assert found == pytest.approx(wanted, rel=0.05)
    assert report.HEADINGS[score] in report.score_table(run)[0]
    actual, predicted = run.test["actual"].to_numpy(float), run.test["predicted"].to_numpy(float)
    if score == "quantile_loss":
        level = 0.9 if aim["quantile"] == 0.9 else 0.5
        expected = metrics.mean_pinball_loss(actual, predicted, alpha=level)
        assert run.scores["network"].quantile_loss == pytest.approx(expected, rel=1e-6)
    if score == "deviance":
        expected = metrics.mean_poisson_deviance(actual, predicted)
        assert run.scores["network"].deviance == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "aim",
    [
        {"interval": 0.8},
        {"interval": 0.8, "loss": "quantile"},
        {"loss": "quantile", "quantile": (0.1, 0.9)},
        {"loss": "quantile", "quantile": 0.9},
    ],
)
def test_a_column_that_sets_the_spread_is_important_for_quantiles(skewed, aim):
    table = skewed.assign(y=np.random.default_rng(2).normal(size=600) * skewed["spread"])[["spread", "noise", "y"]]
    run = tabular.run(table, "y", Settings(hidden=(32,), epochs=60, batch_size=16), **aim)
    importances = {one.column: one.mean for one in run.insight.importances}
    assert importances["spread"] > 3 * abs(importances["noise"])
    assert report.record(run)["settings"]["loss"] == report.loss_in_words(run.settings.loss)
    if aim.get("loss") == "quantile":
        told = "below 90%" if aim.get("quantile") == 0.9 else "below 50%"
        assert (told in run.metric) == (aim.get("quantile") != (0.1, 0.9))
    assert report.verdict(run) is not None
    bars, dependence = list(page._pictures(run))[-3:-1]
    assert bars.layout["xaxis"]["title"]["text"] == "growth of the quantile loss"
    lines = ["y", "lower", "upper"] if "interval" in aim else ["y"]
    lines += ["10%", "90%"] if aim.get("quantile") == (0.1, 0.9) else []
    assert [line["name"] for line in dependence.data] == lines
