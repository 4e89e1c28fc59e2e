"""Intervals and quantiles of numbers in tables: that they hold the share that they say, in files and on every way."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.metrics import mean_pinball_loss

from viva_tensor import autograd, tabular
from viva_tensor.cli import cli
from viva_tensor.sklearn import TabularRegressor
from viva_tensor.tabular.losses import Aim
from viva_tensor.tabular.quantiles import Quantile, Several, at, between
from viva_tensor.tabular.target_records import target_from_dict, target_to_dict
from viva_tensor.tabular.targets import Interval, Quantiles
from viva_tensor.train import Settings

SEVERAL = tabular.Members(3, 8, (16, 16), steps=60, cycles=2)
ONE = Settings(hidden=(32, 16), epochs=12, batch_size=32, validation_fraction=0.2)


def spreading(rows, seed=0):
    """Return a table whose target is normal with mean 3x and standard deviation 1 + x."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 4, rows)
    return pd.DataFrame({"x": x, "y": 3 * x + (1 + x) * rng.standard_normal(rows)})


@pytest.mark.parametrize("settings", [SEVERAL, ONE, tabular.Best(3, 8, (16, 16), steps=60, cycles=2, minutes=1e-9)])
def test_intervals_hold_their_share_of_new_rows_and_are_wider_where_the_noise_is(settings, tmp_path):
    run = tabular.run(spreading(2000), "y", settings, interval=0.8)
    new = spreading(4000, seed=1)
    found = run.model.predict(new)
    within = (found["lower"] <= new["y"]) & (new["y"] <= found["upper"])
    assert within.mean() == pytest.approx(0.8, abs=0.04)
    width = found["upper"] - found["lower"]
    ends = [width[new["x"].between(*part)].mean() for part in ((0, 1), (3, 4))]
    assert 1.5 < ends[1] / ends[0] < 4  # of the truth 4.5 / 1.5
    assert run.metric["coverage"] == pytest.approx(0.8, abs=0.06)
    assert run.metric["width"] == pytest.approx(2 * 1.2816 * 3, rel=0.15)
    tabular.save(run, tmp_path)
    pd.testing.assert_frame_equal(tabular.load(tmp_path).predict(new), found)
    told = (tmp_path / "report.md").read_text()
    assert "within their intervals (target: 80%); the mean width is " in tabular.report.summary(run)
    assert "| loss | squared, with quantiles 10% and 90% |" in told
    assert json.loads((tmp_path / "report.json").read_text())["metric"] == run.metric


def test_predictions_are_as_good_beside_an_interval():
    table, new = spreading(2000), spreading(4000, seed=1)
    errors = [
        np.sqrt(
            np.mean(
                (tabular.fit(table, "y", SEVERAL, interval=one).model.predict(new)["predicted"] - 3 * new["x"]) ** 2
            )
        )
        for one in (None, 0.9)
    ]
    assert errors[1] < errors[0] + 0.3


@pytest.mark.parametrize("settings", [SEVERAL, ONE])
def test_an_interval_costs_a_straight_line_nothing_of_its_exactness(settings):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.uniform(-1, 1, (400, 2)), columns=["a", "b"]).assign(y=lambda one: 2 * one["a"] - one["b"])
    found = tabular.fit(table, tabular.Task("y", interval=0.9), settings).model.predict(table)
    assert abs(found["predicted"] - table["y"]).max() < 1e-5
    assert (found["lower"] <= found["predicted"]).all()
    assert (found["predicted"] <= found["upper"]).all()


def test_the_margin_is_that_of_the_paper():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(99, 3)).astype(np.float32).repeat(1, axis=1)
    y[:, 1:] = y[:, :1]
    outputs = np.column_stack([np.zeros(99), -0.3 - rng.random(99), 0.2 + rng.random(99)]).astype(np.float32)
    target = Interval("y", 5.0, 2.0, levels=(0.1, 0.9))
    outside = np.maximum(outputs[:, 1] - y[:, 0], y[:, 0] - outputs[:, 2])
    wanted = np.sort(outside)[int(np.ceil(100 * 0.8)) - 1]  # the ⌈(n + 1)(1 - α)⌉-th smallest
    found = target.calibrated(outputs, y)
    assert found.margin == pytest.approx(wanted)
    np.testing.assert_allclose(found.decode(outputs)["lower"], (outputs[:, 1].astype(float) - wanted) * 2 + 5)
    assert target.calibrated(outputs, y, np.full(99, 0.25)).margin == found.margin
    heavy = np.where(np.arange(99) == np.argmax(outside), 1e6, 1.0)
    assert target.calibrated(outputs, y, heavy).margin == outside.max()


def test_the_prediction_lies_between_the_ends_whatever_the_margin():
    outputs = np.array([[3.0, -1.0, 1.0], [-3.0, -1.0, 1.0], [0.0, 1.0, 2.0]], np.float32)
    for margin in (-9.0, -0.5, 0.0, 1.0):
        found = Interval("y", mean=0.0, std=1.0, margin=margin).decode(outputs)
        assert (found["lower"] <= found["predicted"]).all()
        assert (found["predicted"] <= found["upper"]).all()


def test_ends_never_cross():
    target = Interval("y", 0.0, 1.0, margin=-1.0)
    found = target.decode(np.array([[0, 0.5, -0.5], [0, 4, 0]], np.float32))
    assert found[["lower", "upper"]].to_numpy().tolist() == [[0.0, 0.0], [0.0, 3.0]]


def test_several_quantiles_each_hold_their_share(tmp_path):
    table, new = spreading(3000), spreading(4000, seed=1)
    model = TabularRegressor(settings=SEVERAL, loss="quantile", quantile=[0.9, 0.1, 0.5]).fit(table[["x"]], table["y"])
    found = model.predict_quantiles(new[["x"]])
    assert (np.diff(found, axis=1) >= 0).all()
    np.testing.assert_allclose((new["y"].to_numpy()[:, None] < found).mean(axis=0), [0.1, 0.5, 0.9], atol=0.04)
    np.testing.assert_array_equal(model.predict(new[["x"]]), found[:, 1])
    truth = np.array([[-1.2816, 0, 1.2816]]) * (1 + new[["x"]].to_numpy()) + 3 * new[["x"]].to_numpy()
    for i, level in enumerate((0.1, 0.5, 0.9)):
        best = mean_pinball_loss(new["y"], truth[:, i], alpha=level)
        assert mean_pinball_loss(new["y"], found[:, i], alpha=level) < 1.08 * best
    model.model_.save(tmp_path)
    again = tabular.load(tmp_path).predict(new)
    assert again.columns.tolist() == ["row", "predicted", "10%", "50%", "90%"]
    np.testing.assert_array_equal(again[["10%", "50%", "90%"]], found)
    with pytest.raises(ValueError, match="predict_interval: fitted without an interval"):
        model.predict_interval(new[["x"]])


def test_estimators_have_intervals():
    table = spreading(400)
    model = TabularRegressor(settings=ONE, interval=0.9).fit(table[["x"]], table["y"])
    ends = model.predict_interval(table[["x"]])
    assert ends.shape == (400, 2)
    assert np.mean((ends[:, 0] <= table["y"]) & (table["y"] <= ends[:, 1])) > 0.8
    with pytest.raises(ValueError, match="predict_quantiles: fitted without several quantiles"):
        model.predict_quantiles(table[["x"]])


def test_the_loss_is_the_sum_of_its_parts_and_its_gradient(rng):
    outputs, wanted = rng.normal(size=(7, 3)), np.repeat(rng.normal(size=(7, 1)), 3, axis=1)
    for reduction, shape in (("mean", ()), ("none", (7, 1))):
        o, tape = autograd.new_variable(autograd.new_tape(), outputs)
        t, tape = autograd.new_constant(tape, wanted)
        loss, tape = between("mse", 0.8)(tape, o, t, reduction=reduction)
        assert loss.data.shape == shape
        apart = (outputs[:, :1] - wanted[:, :1]) ** 2
        for level, i in ((0.1, 1), (0.9, 2)):
            error = wanted[:, i : i + 1] - outputs[:, i : i + 1]
            apart = apart + np.maximum(level * error, (level - 1) * error)
        np.testing.assert_allclose(loss.data, apart.mean() if reduction == "mean" else apart, rtol=1e-6)
    assert at([0.2]) == Quantile(0.2)
    assert at((0.5, 0.1)) == Several(Quantile(0.5), (0.1,))


def test_names_of_rows_may_be_called_as_the_ends_of_intervals_where_there_are_none():
    table = spreading(80).assign(lower=[f"row {i}" for i in range(80)])
    task = tabular.Task("y", roles=tabular.Roles(id="lower"))
    assert tabular.run(table, task, ONE).test["lower"].str.startswith("row ").all()
    with pytest.raises(tabular.DataError, match="'lower', which names rows, is called like a column of predictions"):
        tabular.run(table, task, ONE, interval=0.5)


def test_a_name_of_rows_like_a_column_of_predictions_is_refused_before_training():
    table = spreading(80).assign(**{"50%": range(80), "kind=a": range(80), "kind": ["a", "b"] * 40})
    for given in (
        {"task": tabular.Task("y", roles=tabular.Roles(id="50%")), "loss": "quantile", "quantile": (0.1, 0.5)},
        {"task": tabular.Task("kind", roles=tabular.Roles(id="kind=a"))},
    ):
        started = []
        with pytest.raises(tabular.DataError, match="which names rows, is called like a column of predictions"):
            tabular.run(table, settings=ONE, started=started.append, **given)
        assert not started


def test_quantiles_may_be_arrays():
    found = [Aim("quantile", one).levels for one in (np.array(0.25), np.float32(0.25), np.array([0.25]), [0.25])]
    assert found == [(0.25,)] * 4
    with pytest.raises(tabular.DataError, match="wanted a number between 0 and 1, or several that differ"):
        _ = Aim("quantile", np.array([[0.25]])).levels


@pytest.mark.parametrize("tail", [0.05, 0.1, 0.2, 0.3, 0.45])
def test_of_quantiles_as_near_to_the_median_the_lower_is_the_prediction(tail):
    for given in ((tail, 1 - tail), (1 - tail, tail)):
        assert at(given) == Several(Quantile(tail), (1 - tail,))


def test_a_model_with_intervals_is_trained_on_and_gets_a_margin_of_its_own():
    table = spreading(400)
    earlier = tabular.run(table, "y", ONE, interval=0.8).model
    wide = replace(earlier, target=replace(earlier.target, margin=5.0))
    again = tabular.run(table, "y", ONE, interval=0.8, start=wide).model
    assert abs(again.target.margin) < 1
    assert replace(again.target, margin=5.0) == wide.target
    with pytest.raises(tabular.DataError, match="does not have this table's columns"):
        tabular.run(table, "y", ONE, interval=0.9, start=earlier)


def test_effects_of_values_are_those_of_a_number_alone_and_not_once_for_each_output():
    people = np.random.default_rng(1).integers(0, 300, 2000)
    table = spreading(2000).assign(who=[f"p{one}" for one in people])
    table["y"] += people % 7 * 3
    alone, beside = (tabular.fit(table, "y", SEVERAL, interval=one).model.encoding for one in (None, 0.8))
    assert "who: effect" in alone.feature_names
    assert beside == alone


def test_targets_come_back_from_their_description():
    for target in (
        Interval("y", 1.0, 2.0, levels=(0.1, 0.9), margin=-0.25),
        Quantiles("y", 1, 2, levels=(0.1, 0.7), level=0.5),
    ):
        assert target_from_dict(json.loads(json.dumps(target_to_dict(target)))) == target
    whole = target_to_dict(Interval("y", 1.0, 2.0))
    known = {
        "kind": "ranged",
        "name": "y",
        "mean": 1.0,
        "std": 2.0,
        "levels": (0.05, 0.95),
        "level": None,
        "margin": 0.0,
    }
    assert whole == known  # as files of earlier versions have it
    for wrong in ({"levels": [0.9, 0.1]}, {"levels": [0.1]}, {"levels": [0.1, 1.0]}, {"margin": None}, {"level": 0.05}):
        with pytest.raises(tabular.DataError, match="not the description of a target"):
            target_from_dict(whole | wrong)


def test_the_command_line_has_them(tmp_path):
    spreading(300).to_csv(tmp_path / "t.csv", index=False)
    flags = ["train", str(tmp_path / "t.csv"), "--target", "y", "--output", str(tmp_path / "run"), "--force"]
    result = CliRunner().invoke(cli, [*flags, "--interval", "0.9"])
    assert result.exit_code == 0, result.output
    assert " of the test rows lie within their intervals (target: 90%)" in result.stdout
    spreading(20, 1).to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "out.csv"
    result = CliRunner().invoke(cli, ["predict", str(tmp_path / "run"), str(tmp_path / "new.csv"), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert {"predicted", "lower", "upper"} <= set(pd.read_csv(out).columns)
    told = CliRunner().invoke(cli, ["info", str(tmp_path / "run")]).stdout
    assert "predicts  y: a number, with an interval meant to hold 0.9 of the rows\n" in told
    result = CliRunner().invoke(cli, [*flags, "--loss", "quantile", "--quantile", "0.1, 0.9,0.5"])
    assert result.exit_code == 0, result.output
    told = CliRunner().invoke(cli, ["info", str(tmp_path / "run")]).stdout
    assert "predicts  y: a number, with the quantiles 10%, 50%, 90%\n" in told
    assert "lie below the quantile 10%, " in result.stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"interval": 1.0}, r"interval=1\.0, wanted a number between 0 and 1"),
        ({"interval": "0.9"}, "interval='0.9', wanted a number between 0 and 1"),
        (
            {"loss": "quantile", "quantile": ()},
            r"quantile=\(\), wanted a number between 0 and 1, or",
        ),
        ({"loss": "quantile", "quantile": (0.1, 0.1)}, "or several that differ"),
        ({"loss": "quantile", "quantile": (0.5, 0.50000001)}, "or several that differ"),
        ({"loss": "quantile", "quantile": "0.5"}, "quantile='0.5', wanted a number"),
        ({"loss": "quantile", "quantile": (0.1, 0.5), "interval": 0.5}, "combined with several quantiles"),
        ({"loss": "poisson", "interval": 0.5}, "an interval cannot be combined with the loss poisson"),
        ({"task": "kind", "interval": 0.5}, "an interval is for a number, but 'kind' is learned as classes"),
        (
            {"interval": 0.5, "settings": Settings(validation_fraction=0.0)},
            "an interval needs rows held out",
        ),
    ],
)
def test_refused(given, message):
    table = spreading(80).assign(kind=["a", "b"] * 40)
    with pytest.raises(tabular.DataError, match=message):
        tabular.run(table, **{"task": "y", **given})
