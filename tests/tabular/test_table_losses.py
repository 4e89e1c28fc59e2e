"""What is minimised when a table is learned: what each loss aims at, beside scikit-learn, and what it is for."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.linear_model import PoissonRegressor, QuantileRegressor
from sklearn.metrics import mean_poisson_deviance

from viva_tensor import tabular
from viva_tensor.cli import cli
from viva_tensor.sklearn import TabularClassifier, TabularRegressor
from viva_tensor.tabular import linear_start
from viva_tensor.tabular.quantiles import Quantile
from viva_tensor.tabular.target_records import target_from_dict, target_to_dict
from viva_tensor.tabular.targets import Count, Number
from viva_tensor.train import Settings

SEVERAL = tabular.Members(2, 8, (16,), steps=80, cycles=2)


@pytest.fixture
def skewed(rng):
    """A target whose noise is exponential with mean 2: its median lies at 2 ln 2, its quantile q at -2 ln(1 - q)."""
    x = rng.uniform(0, 4, 1500)
    return pd.DataFrame({"x": x, "y": 3 * x + rng.exponential(2, 1500)})


AIMS = {"squared": 2.0, "absolute": 2 * np.log(2), "quantile": -2 * np.log(0.1), None: 2.0}


@pytest.mark.parametrize("loss", AIMS)
@pytest.mark.parametrize("given", [{"preset": "fast"}, {"settings": SEVERAL}])
def test_predictions_lie_where_the_loss_aims(skewed, loss, given):
    level = 0.9 if loss == "quantile" else 0.5
    model = TabularRegressor(loss=loss, quantile=level, random_state=0, **given).fit(skewed[["x"]], skewed["y"])
    inner = skewed[skewed["x"].between(0.5, 3.5)]
    found = model.predict(inner[["x"]]) - 3 * inner["x"]
    assert found.mean() == pytest.approx(AIMS[loss], abs=0.4)


@pytest.mark.parametrize("loss", [None, "squared", "poisson"])
def test_a_quantile_is_for_its_loss(skewed, loss):
    with pytest.raises(
        ValueError, match=r"quantile=0\.9 is for the loss quantile, but this is (squared|poisson|the usual)"
    ):
        TabularRegressor(loss=loss, quantile=0.9).fit(skewed[["x"]], skewed["y"])
    with pytest.raises(tabular.DataError, match="is for the loss quantile"):
        tabular.run(skewed, "y", loss=loss, quantile=0.9)


def test_huber_is_drawn_less_by_rows_far_out(skewed):
    skewed.loc[::25, "y"] += 300
    X, line = skewed[["x"]], 3 * skewed["x"] + 2
    models = [TabularRegressor("fast", loss=loss, random_state=0) for loss in ("squared", "huber", "absolute")]
    apart = [np.abs(model.fit(X, skewed["y"]).predict(X) - line).mean() for model in models]
    assert apart[0] > apart[1] > apart[2]


@pytest.mark.parametrize("given", [{"preset": "fast"}, {"settings": SEVERAL}])
def test_counts_as_well_as_scikit_learn(rng, given, tmp_path):
    X = pd.DataFrame({"a": rng.uniform(-1, 1, 1200), "b": rng.choice(["u", "v"], 1200)})
    rate = np.exp(1 + 1.5 * X["a"] - (X["b"] == "u"))
    y = rng.poisson(rate)
    model = TabularRegressor(loss="poisson", random_state=0, **given).fit(X[:900], y[:900])
    found = model.predict(X[900:])
    assert (found > 0).all()
    theirs = PoissonRegressor(alpha=0).fit(np.column_stack([X["a"], X["b"] == "u"])[:900], y[:900])
    wanted = mean_poisson_deviance(y[900:], theirs.predict(np.column_stack([X["a"], X["b"] == "u"])[900:]))
    assert mean_poisson_deviance(y[900:], found) < 1.1 * wanted
    model.model_.save(tmp_path)
    assert json.loads((tmp_path / "preprocessing.json").read_text())["target"]["kind"] == "count"
    np.testing.assert_array_equal(tabular.load(tmp_path).predict(X[900:])["predicted"], found)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X[900:]), found)


def test_linear_models_are_those_of_scikit_learn(rng):
    x = rng.standard_normal((400, 3)).astype("f4")
    y = (x @ [1.0, -1, 0] + rng.exponential(1, 400)).astype("f4")[:, None]
    w, b = linear_start._descended(x, y, Number("y", 0, 1, Quantile(0.8)), 0, None)
    theirs = QuantileRegressor(quantile=0.8, alpha=0).fit(x, y[:, 0])
    np.testing.assert_allclose([*w[0], *b], [*theirs.coef_, theirs.intercept_], atol=0.1)
    counts = rng.poisson(np.exp(x @ [0.5, -0.3, 0])).astype("f4")[:, None]
    w, b = linear_start._descended(x, counts, Count("y", 1, 1), 0, None)
    theirs = PoissonRegressor(alpha=1 / 400).fit(x, counts[:, 0])
    np.testing.assert_allclose([*w[0], *b], [*theirs.coef_, theirs.intercept_], atol=0.05)


def test_targets_are_kept_without_their_loss():
    for target in (Number("y", 1.0, 2.0, "mae"), Count("y", 3.0, 2.0)):
        kept = target_to_dict(target)
        assert "loss" not in kept
        assert target_from_dict(json.loads(json.dumps(kept))) == target
    with pytest.raises(tabular.DataError, match="not the description of a target"):
        target_from_dict({"kind": "count", "name": "y", "mean": 0.0, "std": 1.0})
    assert np.isfinite(Count("y", 3.0, 2.0).decode(np.array([[1e9]], "f4"))["predicted"]).all()


def test_the_loss_of_a_run_is_told(skewed, tmp_path):
    run = tabular.run(skewed, "y", preset="fast", loss="quantile", quantile=0.9)
    below = (run.test["actual"] < run.test["predicted"]).mean()
    tabular.save(run, tmp_path)
    assert f"{below:.1%} of the test rows lie below the predictions (target: 90%)." in tabular.report.summary(run)
    assert "| loss | quantile 90% |" in (tmp_path / "report.md").read_text()
    assert below == pytest.approx(0.9, abs=0.05)
    again = tabular.run(skewed, tabular.Task("y", loss="quantile", quantile=0.9), preset="fast")
    pd.testing.assert_frame_equal(again.test, run.test)


def test_the_command_line_has_them(skewed, tmp_path):
    skewed[:300].to_csv(tmp_path / "t.csv", index=False)
    flags = ["train", str(tmp_path / "t.csv"), "--target", "y", "--output", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, [*flags, "--loss", "quantile", "--quantile", "0.8"])
    assert result.exit_code == 0, result.output
    assert "(target: 80%)" in result.stdout
    result = CliRunner().invoke(cli, [*flags, "--quantile", "0.8", "--force"])
    assert (result.exit_code, result.stderr) == (2, "Error: --quantile 0.8 is for --loss quantile\n")
    result = CliRunner().invoke(cli, [*flags, "--loss", "log-loss", "--force"])
    assert result.exit_code == 2
    assert "the loss log-loss is for classes, and 'y' is learned as a number; choose one of squared" in result.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": "cubic"}, r"no loss 'cubic'\. The losses are: squared, absolute"),
        ({"loss": "quantile", "quantile": 1}, "quantile=1, wanted a number between 0 and 1"),
        ({"loss": "poisson"}, "column 'y' holds -1; the Poisson loss is for counts"),
        ({"task": "kind", "loss": "huber"}, "the loss huber is for numbers, and 'kind' is learned as classes"),
    ],
)
def test_refused(given, message):
    table = pd.DataFrame(
        {"x": np.arange(80.0) ** 2 % 11, "y": np.where(np.arange(80) % 9, 8.0, -1), "kind": ["a", "b"] * 40}
    )
    with pytest.raises(tabular.DataError, match=message):
        tabular.run(table, **{"task": "y", **given})


def test_classes_take_their_own_alone():
    X, y = pd.DataFrame({"a": np.arange(60.0) % 7}), np.arange(60) % 7 > 3
    quick = Settings(hidden=(4,), epochs=2)
    assert TabularClassifier(settings=quick, loss="log-loss").fit(X, y).predict_proba(X).shape == (60, 2)
    with pytest.raises(ValueError, match="the loss poisson is for numbers"):
        TabularClassifier(loss="poisson").fit(X, y)


def test_tasks_are_keys_whatever_they_ask_for():
    several = [tabular.Task("y", loss="quantile", quantile=levels) for levels in ([0.1, 0.5], [0.1, 0.5], [0.2, 0.5])]
    assert len({*several, tabular.Task("y", class_weight={1: 2.0})}) == 3
