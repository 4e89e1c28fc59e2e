"""The preset "best": networks of several kinds and boosted trees, blended by rows that each has not seen."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from viva_tensor import num_threads, tabular
from viva_tensor.cli import cli
from viva_tensor.error import InvalidValue
from viva_tensor.sklearn import TabularClassifier, TabularRegressor
from viva_tensor.tabular import blending, boosting, runs
from viva_tensor.tabular.blending import TREES, Best
from viva_tensor.tabular.data import Split
from viva_tensor.train import Settings

QUICK = Best(count=3, hidden=(8, 8), steps=30, cycles=1, minutes=1e-9)  # the first networks alone


def steps(rows, seed=0):
    """Return a table whose target is different things on either side of 0, which trees learn sooner than networks."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"a": rng.uniform(-1, 1, rows), "b": rng.normal(size=rows), "c": rng.integers(0, 3, rows)})
    y = np.where(table["b"] > 0, 3 * np.sign(np.sin(9 * table["a"])), table["c"] - 2) + 0.2 * table["b"]
    return table.assign(y=y, kind=np.where(y > 0.5, "up", "down"))


@pytest.fixture
def enough(monkeypatch):
    """Make time for the trees, and for the second kind of networks, but no more."""
    monkeypatch.setattr(blending, "KINDS", ((None, 1.0), ((6, 5), 3.0)))
    return Best(count=3, hidden=(8, 8), steps=30, cycles=1, minutes=10)


@pytest.mark.parametrize("target", ["y", "kind"])
def test_a_blend_is_what_its_parts_weigh_and_no_worse_than_each_on_rows_not_seen(target, enough, tmp_path):
    other = {"y": "kind", "kind": "y"}[target]  # which tells it
    table = steps(300).drop(columns=other)
    run = tabular.run(table, target, enough)
    shares = [one.split("% ") for one in run.preset.why.split("; ")[1].split(", ")]
    weights = {name: float(share) / 100 for share, name in shares}
    assert weights[TREES] > 0.1
    assert sum(weights.values()) == pytest.approx(1, abs=0.02)
    assert run.preset.networks == 3 * max(1, len(weights.keys() - {TREES}))
    score = "rmse" if target == "y" else "log_loss"
    alone = tabular.run(table, target, QUICK)
    assert alone.model.trees is None
    assert getattr(run.scores["network"], score) < getattr(alone.scores["network"], score)
    tabular.save(run, tmp_path)
    new = steps(50, seed=1)
    loaded = tabular.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.predict(new), run.model.predict(new))
    features = run.encoding.encode(new)
    network = tabular.Model(run.target, run.encoding, run.fit.layers, "relu").outputs(features)
    np.testing.assert_allclose(run.model.outputs(features), network + run.model.trees(features), rtol=1e-5, atol=1e-6)
    again = tabular.run(table, target, QUICK)
    tabular.save(again, tmp_path)  # in place of it
    assert not (tmp_path / "trees.safetensors").exists()
    pd.testing.assert_frame_equal(tabular.load(tmp_path).predict(new), again.model.predict(new))


def test_the_first_networks_are_trained_whatever_time_it_takes_and_nothing_after():
    best, several = (
        tabular.run(steps(200), "y", QUICK),
        tabular.run(steps(200), "y", tabular.Members(count=3, hidden=(8, 8), steps=30, cycles=1)),
    )
    assert best.preset.networks == 3
    np.testing.assert_allclose(best.test["predicted"], several.test["predicted"], rtol=1e-6)


def test_weights_are_those_of_least_loss_on_a_grid(enough):
    rng = np.random.default_rng(0)
    run = tabular.run(steps(200), "y", QUICK)
    y = rng.normal(size=(200, 1)).astype(np.float32)

    class Prepared:
        split, target, weights = Split(np.arange(150), np.arange(150, 200), np.empty(0, int)), run.target, None

    class Given:
        prepared = Prepared

    Given.y = y
    noise = rng.normal(size=(2, 200, 1))
    found = blending._weights({"one": y + noise[0], "other": y + 2 * noise[1], "wrong": y + 100.0}, Given)
    losses = [np.mean((share * noise[0] + 2 * (1 - share) * noise[1]) ** 2) for share in np.linspace(0, 1, 26)]
    assert set(found) == {"one", "other"}
    assert losses[round(25 * found["one"])] < 1.01 * min(losses)


@pytest.mark.parametrize("loss", ["squared", "absolute", "quantile", "huber", "poisson"])
def test_losses_that_trees_do_not_know_are_left_to_networks(loss, enough, monkeypatch):
    grow, grown = boosting.grow, []

    def seen(*arguments):
        grown.append(arguments[2].loss)
        return grow(*arguments)

    monkeypatch.setattr(boosting, "grow", seen)
    run = tabular.run(steps(200).assign(y=lambda one: one["y"] + 5), "y", enough, loss=loss)
    assert grown == [run.target.loss] * (0 if loss == "huber" else 3)


def test_counts_that_are_all_0_but_for_a_part_leave_no_trees(enough):
    table = steps(200).assign(y=0.0)
    table.loc[3, "y"] = 2.0
    fitted = tabular.fit(table, "y", enough, loss="poisson")
    assert TREES not in fitted.preset.why
    assert np.isfinite(fitted.model.predict(table)["predicted"]).all()


def test_a_class_of_one_row_leaves_no_trees(enough):
    table = steps(200)
    table.loc[0, "kind"] = "rare"
    run = tabular.fit(table, "kind", enough)
    assert TREES not in run.preset.why
    assert np.isfinite(run.model.predict(table).filter(like="kind=").to_numpy()).all()


def test_without_scikit_learn_networks_alone_are_blended(enough, monkeypatch):
    monkeypatch.setattr(blending, "find_spec", lambda _: None)
    assert TREES not in tabular.fit(steps(200), "y", enough).preset.why


@pytest.mark.parametrize("first", [KeyboardInterrupt, NameError])
def test_trees_and_baselines_are_left_out_if_scikit_learn_cannot_be_imported(first, enough, monkeypatch):
    raised = []

    class Broken:
        @staticmethod
        def find_spec(name, *_):
            if name == "sklearn.ensemble":
                raised.append(NameError if raised else first)
                raise raised[-1]("name '_api' is not defined")

    monkeypatch.delitem(sys.modules, "sklearn.ensemble")
    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    other = {KeyboardInterrupt: "interrupted; only what", NameError: "boosted trees of scikit-learn are left"}[first]
    with (
        pytest.warns(UserWarning, match=other),
        pytest.warns(UserWarning, match="baselines of scikit-learn are left out: name '_api' is not defined"),
    ):
        run = tabular.run(steps(200), "y", enough)
    assert run.fit.interrupted == (first is KeyboardInterrupt)
    assert TREES not in run.scores
    assert TREES not in run.preset.why
    assert np.isfinite(run.test["predicted"]).all()


def test_the_same_bits_on_any_number_of_threads(enough):
    outputs = []
    for threads in (1, 2):
        with num_threads(threads):
            outputs.append(tabular.fit(steps(200), "y", enough).model.predict(steps(20, 1))["predicted"])
    pd.testing.assert_series_equal(*outputs, check_exact=True)


def test_an_interruption_keeps_what_is_whole(enough, monkeypatch):
    trained = blending.train_members

    def interrupted(*arguments):
        found = trained(*arguments)
        return found._replace(interrupted=True) if arguments[2].hidden == (6, 5) else found

    monkeypatch.setattr(blending, "train_members", interrupted)
    with pytest.warns(
        UserWarning, match="interrupted; only what was finished is blended: networks of 8-8 units, boost"
    ):
        fitted = tabular.fit(steps(200), "y", enough)
    assert (fitted.preset.networks, "6-5" in fitted.preset.why, fitted.fit.interrupted) == (3, False, True)
    assert "8-8" in tabular.fit(steps(200), "y", replace(QUICK, seed=1)).preset.why


@pytest.mark.parametrize("during", ["train_members", "_grown"])
def test_an_interruption_before_anything_of_a_kind_is_done_ends_training_and_keeps_the_others(
    during, enough, monkeypatch
):
    before, trained = getattr(blending, during), []

    def interrupted(*arguments):
        trained.append(during)
        if during == "_grown" or len(trained) > 1:
            raise KeyboardInterrupt
        return before(*arguments)

    monkeypatch.setattr(blending, during, interrupted)
    with pytest.warns(UserWarning, match="interrupted; only what was finished is blended"):
        fitted = tabular.fit(steps(200), "y", enough)
    assert (fitted.preset.networks, fitted.fit.interrupted) == (3, True)
    assert (TREES in fitted.preset.why) == (during == "train_members")


def test_an_interruption_that_became_another_error_while_trees_grow_is_one(enough, monkeypatch):
    def press(*_, **__):
        raise ValueError("no valid PEP 3118 buffer format string") from KeyboardInterrupt()

    monkeypatch.setattr(boosting, "grow", press)
    with pytest.warns(UserWarning, match="interrupted; only what was finished is blended: networks of 8-8 units$"):
        assert tabular.fit(steps(200), "y", enough).fit.interrupted
    monkeypatch.setattr(runs, "boosted_trees", press)
    with pytest.warns(UserWarning, match="interrupted; the network is kept, without baselines"):
        assert tabular.run(steps(200), "y", QUICK).fit.interrupted


def test_an_interruption_of_the_first_networks_keeps_those_that_are_done(monkeypatch):
    trained = blending.train_members

    def interrupted(*arguments):
        found = trained(*arguments)
        rows = np.isin(found.rows, found.rows[: len(found.rows) // 2])
        return found._replace(
            interrupted=True, networks=found.networks[:2], rows=found.rows[rows], outputs=found.outputs[rows]
        )

    monkeypatch.setattr(blending, "train_members", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        fitted = tabular.fit(steps(200), "y", replace(QUICK, minutes=10))
    assert fitted.preset.networks == 2
    assert np.isfinite(fitted.model.predict(steps(20))["predicted"]).all()


def test_an_interruption_before_anything_is_done_is_one(monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(blending, "train_members", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tabular.fit(steps(200), "y", QUICK)


def test_leaves_of_sure_classes_stay_small():
    table = pd.DataFrame({"a": np.arange(400.0), "kind": np.where(np.arange(400) < 200, "low", "high")})
    target = tabular.run(table, "kind", Settings(epochs=1)).target
    x, y = table[["a"]].to_numpy(np.float32), (table["kind"] == "low").to_numpy(np.float32)
    trees = boosting.grow(boosting.Rows(x, y), boosting.Rows(x, y), target)
    assert np.abs(trees(x)).max() < 25


def test_weights_of_rows_count_in_trees_and_in_the_blend(enough):
    table = pd.concat([steps(200), steps(200).assign(y=50.0)])
    weights = np.repeat([1.0, 1e-9], 200)
    run = tabular.fit(table, "y", enough, weights=weights)
    assert TREES in run.preset.why
    assert abs(run.model.predict(steps(200))["predicted"]).max() < 10


@pytest.mark.parametrize("minutes", [0, -1.0, np.inf, np.nan, "10", True])
def test_minutes_that_are_none_are_refused(minutes):
    with pytest.raises(InvalidValue, match=r"Best: minutes=.*, wanted a number above 0"):
        Best(minutes=minutes)


def test_minutes_are_for_the_preset_best(tmp_path):
    steps(60).to_csv(tmp_path / "t.csv", index=False)
    for flags in (["--minutes", "1"], ["--minutes", "1", "--preset", "fast"]):
        result = CliRunner().invoke(cli, ["train", str(tmp_path / "t.csv"), "--target", "y", *flags])
        assert result.exit_code == 2
        assert "--minutes 1 is for --preset best" in result.stderr
    assert tabular.presets.choose("best", tabular.presets.Situation(5000), {"minutes": 2}).members.minutes == 2
    assert tabular.presets.choose("best", tabular.presets.Situation(250), {"minutes": 2}).members is None


def test_a_blend_cannot_be_trained_on():
    table = steps(200)
    one = tabular.run(table, "y", Settings(epochs=1))
    blended = replace(one.model, trees=blending.Trees.constant(np.zeros(1), 5))
    with pytest.raises(tabular.DataError, match="a blend with trees, which cannot be trained on"):
        tabular.run(table, "y", one.settings, start=blended)


@pytest.mark.parametrize("kind", [TabularRegressor, TabularClassifier])
def test_estimators_take_it(kind, enough):
    table = steps(200)
    y = table["y"] if kind is TabularRegressor else table["kind"]
    model = kind(settings=enough, random_state=3).fit(table[["a", "b", "c"]], y)
    assert TREES in model.preset_.why
    assert model.score(table[["a", "b", "c"]], y) > 0.7


def test_networks_that_count_are_those_with_a_weight_and_so_do_their_rows(enough, monkeypatch):
    before, rows = blending.train_members, {}

    def worse(*arguments):
        found = before(*arguments)
        rows[arguments[2].hidden] = sum(one.rows_per_second * one.seconds for one in found.networks)
        return found._replace(outputs=found.outputs + 100) if arguments[2].hidden == (6, 5) else found

    monkeypatch.setattr(blending, "train_members", worse)
    fitted = tabular.fit(steps(200), "y", enough)
    assert (set(rows), fitted.preset.networks, "6-5" in fitted.preset.why) == ({(8, 8), (6, 5)}, 3, False)
    assert fitted.fit.rows_per_second * fitted.fit.seconds == pytest.approx(rows[8, 8])
