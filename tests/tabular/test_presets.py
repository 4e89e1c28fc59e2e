"""Which preset a table is learned with, and what a run says of it."""

import dataclasses
import json
import sys

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from viva_tensor import error, optim, tabular
from viva_tensor.cli import cli
from viva_tensor.tabular import presets
from viva_tensor.tabular.presets import Situation
from viva_tensor.tabular.reading import Source

QUICK = tabular.Members(count=2, hidden=(8,), steps=20, cycles=1)


def plane(rows):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=rows), "b": rng.normal(size=rows)})
    return table.assign(y=lambda one: one["a"] - 2 * one["b"])


@pytest.mark.parametrize(
    ("rows", "columns", "why"),
    [
        (149, 3, "fewer than 150 rows"),
        (150, 3, "150 to 100,000 rows"),
        (100_000, 1000, "150 to 100,000 rows"),
        (100_001, 99, "more than 100,000 rows, but at most 10,000,000 values"),
        (1_000_000, 10, "more than 100,000 rows, but at most 10,000,000 values"),
        (100_001, 100, "more than 100,000 rows and 10,000,000 values"),
    ],
)
def test_several_networks_learn_tables_of_some_size(rows, columns, why):
    choice = presets.choose("default", Situation(rows, columns))
    assert choice.why == why
    assert (choice.members is not None) == ("fewer" not in why and "rows and" not in why)
    assert presets.choose("", Situation(rows, columns)).settings == tabular.settings_for(rows)


def test_a_situation_is_that_of_the_table():
    table = pd.DataFrame(np.zeros((100_001, 100), np.float32), columns=[f"c{i}" for i in range(100)])
    assert Situation.of(Source(table), "c0") == Situation(100_001, 100)
    assert Situation.of(Source(table.assign(c0=np.nan)), "c0") == Situation(0, 100)


@pytest.mark.parametrize("rows", [149, 150])
def test_fast_is_one_network_that_is_validated_by_a_tenth_of_the_rows(rows):
    choice = presets.choose("fast", Situation(rows), {"seed": 3})
    if rows < 150:
        assert choice.settings == tabular.settings_for(rows, {"seed": 3})
    else:
        assert (choice.members.count, choice.members.shares, choice.members.seed) == (1, 10, 3)


def test_one_of_several_networks_is_trained_on_all_parts_of_the_rows_but_one(tmp_path):
    run = tabular.run(plane(200), "y", dataclasses.replace(QUICK, count=1, parts=4))
    assert run.rows == {"read": 200, "without_target": 0, "train": 120, "validation": 40, "test": 40}
    assert run.preset[2:4] == (1, 25)
    tabular.save(run, tmp_path)
    assert "Trained on 120 rows for" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("why", "situation"),
    [
        ("the table is read in blocks", {"streamed": True}),
        ("several processes train together", {"ranks": 2}),
        ("a checkpoint is kept", {"checkpoint": True}),
        ("training goes on from a model", {"start": True}),
    ],
)
def test_where_several_cannot_be_trained_it_is_one(why, situation):
    choice = presets.choose("default", Situation(5000, **situation))
    assert (choice.preset, choice.why, choice.members) == ("default", why, None)
    assert choice.settings == tabular.settings_for(5000)
    with pytest.raises(tabular.DataError, match=f"several networks cannot be trained where {why}"):
        presets.chosen(QUICK, None, Situation(5000, **situation))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("known", [3, 149, 150])
def test_rows_that_cannot_be_learned_from_do_not_count(known, weighted):
    table, weights = plane(400), np.ones(400)
    if weighted:
        weights[known:] = 0
    else:
        table.loc[known:, "y"] = np.nan
    situation = Situation.of(Source(table), "y", weights if weighted else None)
    assert situation.rows == known
    if known == 3:
        fitted = tabular.fit(table, "y", weights=weights)
        assert (fitted.preset.networks, fitted.preset.why) == (1, "fewer than 150 rows")


def test_more_parts_than_rows_are_refused():
    with pytest.raises(tabular.DataError, match="4 rows cannot be in 5 parts; give Settings for one network, or fewer"):
        tabular.fit(plane(4), "y", tabular.Members())


def test_what_is_said_of_one_network_reaches_it_and_the_seed_both():
    said = {"seed": 7, "epochs": 3, "optimizer": "adam", "lr": None}
    one = presets.choose("", Situation(5000), said).settings
    assert (one.seed, one.epochs, one.optimizer.lr) == (7, 3, 0.001)
    assert presets.choose("default", Situation(5000), said).members.seed == 7


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        ({"lr": 0.0}, error.InvalidValue, r"SGD: lr=0\.0, wanted"),
        ({"optimizer": "adam", "lr": 0.0}, error.InvalidValue, r"Adam: lr=0\.0, wanted"),
        ({"optimizer": "adan"}, tabular.DataError, "no optimizer 'adan'; did you mean 'adam'"),
        ({"optimizer": "adam", "momentum": 0.5}, tabular.DataError, r"momentum \(0\.5\) is for .*'sgd' only, .*'adam'"),
        ({"optimizer": optim.Adam(), "lr": 0.5}, tabular.DataError, r"lr=0\.5 beside optimizer=Adam.*in that record"),
        ({"optimizer": optim.SGD(), "momentum": 0.5}, tabular.DataError, r"momentum=0\.5 beside optimizer=SGD"),
    ],
)
def test_rates_that_no_optimiser_takes_are_not_lost(said, kind, message):
    for rows in (500, 50_000):
        with pytest.raises(kind, match=message):
            tabular.settings_for(rows, said)


@pytest.mark.parametrize("rows", [-5, 1.5, "9", None, True])
def test_settings_for_a_number_of_rows_that_is_none(rows):
    with pytest.raises(error.InvalidValue, match="settings_for: rows="):
        tabular.settings_for(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "fats"}, "no preset 'fats'; did you mean 'fast'"),
        ({"preset": "slow"}, r"no preset 'slow'\. The presets are: fast, default, best"),
        ({"preset": 3}, "no preset 3"),
        ({"preset": "fast", "settings": QUICK}, "preset='fast' and settings are both given; give one"),
        (
            {"settings": {"epochs": 3}},
            r"settings=\{'epochs': 3\}, wanted Settings, Members or a Choice; .*settings_for",
        ),
        ({"settings": 3}, "settings=3, wanted Settings, Members or a Choice"),
        ({"task": tabular.Task("y", test_fraction=0.0)}, r"no rows to test on; .* without a test: tabular\.fit"),
    ],
)
def test_refused_before_training(arguments, message):
    with pytest.raises(tabular.DataError, match=message):
        tabular.run(plane(100), **{"task": "y", **arguments})


@pytest.mark.parametrize("fraction", ["a", 2, 1.0, -0.1, float("nan"), True, None])
def test_shares_for_the_test_that_are_none(fraction):
    with pytest.raises(tabular.DataError, match=r"test_fraction=.*, wanted a share from 0 to below 1"):
        tabular.Task("y", test_fraction=fraction)


def test_a_run_and_its_reports_say_which_why_and_with_which_numbers(tmp_path):
    run = tabular.run(plane(100), "y", preset="fast")
    assert run.preset == ("fast", "fewer than 150 rows", 1, 0, run.settings.epochs, 0)
    tabular.save(run, tmp_path)
    line = f"Preset fast (fewer than 150 rows): 1 network, at most {run.settings.epochs} epochs"
    assert line in (tmp_path / "report.md").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["preset"]["why"] == "fewer than 150 rows"
    several = tabular.run(plane(200), "y", QUICK)
    assert several.preset == ("", "settings as given", 2, 25, several.settings.epochs, 2)


def test_the_preset_of_the_api_and_of_the_command_line_are_one(tmp_path, monkeypatch):
    plane(150).to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["viva-tensor"])
    for preset in tabular.PRESETS:
        flags = ["--target", "y", "--preset", preset, "--output", str(tmp_path / preset)]
        result = CliRunner().invoke(cli, ["train", str(tmp_path / "t.csv"), *flags])
        assert result.exit_code == 0, result.output
        assert f"Preset {preset} (" in result.stdout
        run = tabular.run(tabular.read(tmp_path / "t.csv"), "y", preset=preset)
        pd.testing.assert_frame_equal(tabular.load(tmp_path / preset).predict(plane(9)), run.model.predict(plane(9)))


def test_several_networks_beside_what_is_for_one(tmp_path):
    plane(50).to_csv(tmp_path / "t.csv", index=False)
    flags = ["--preset", "default", "--epochs", "3", "--lr", "0.1"]
    result = CliRunner().invoke(cli, ["train", str(tmp_path / "t.csv"), "--target", "y", *flags])
    assert result.exit_code == 2
    assert "--epochs, --lr is for one network, and the preset default" in result.stderr
