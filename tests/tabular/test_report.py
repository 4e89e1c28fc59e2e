"""Reports in words: what was asked for and what came of it, in Markdown, on the page and on the screen."""

import dataclasses
import html

import numpy as np
import pandas as pd
import pytest

from viva_tensor import nn, tabular
from viva_tensor.tabular import page, report
from viva_tensor.tabular.losses import Aim, loss_of
from viva_tensor.tabular.metrics import METRICS
from viva_tensor.train import Settings

QUICK = Settings(epochs=2, hidden=(8,))


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 2))
    y = x @ [2.0, -1.0] + rng.standard_normal(200)
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": y, "two": np.where(y > 0, "yes", "no")})


def everywhere(run):
    """Return each report of a run as text."""
    shown = html.unescape(page.page(run, "t.csv").decode().partition("<body>")[2])
    return report.summary(run), report.markdown(run, "t.csv"), shown


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("y", {"interval": 0.8}),
        ("y", {"loss": "quantile", "quantile": (0.1, 0.9)}),
        ("y", {"loss": "quantile", "quantile": 0.9}),
        ("y", {"metric": "mae", "interval": 0.8}),
        ("two", {"metric": "auc"}),
    ],
)
def test_what_was_asked_for_is_in_each_report_once(table, target, asked):
    run = tabular.run(table[["a", "b", target]], target, QUICK, **asked)
    lines = report.remarks(run)
    assert len(lines) >= len(asked.keys() - {"loss"})
    for text in everywhere(run)[:2]:
        assert [text.count(line) for line in lines] == [1] * len(lines)
    assert all(f"<p>{line}</p>" in everywhere(run)[2] for line in lines)
    for name in run.metric.keys() & set(METRICS):
        assert sum(line.endswith(f" of the test rows: {run.metric[name]:.4g}") for line in lines) == 1


@pytest.mark.parametrize("classes", [20, 21])
def test_of_many_classes_each_report_says_which_baselines_are_left_out(classes):
    many = pd.DataFrame({"a": np.arange(420.0) % classes, "kind": [f"k{i % classes}" for i in range(420)]})
    run = tabular.run(many, "kind", QUICK)
    said = "With 21 classes, boosted trees and logistic regression are not fitted as baselines: with more than 20 they"
    assert [said in text for text in everywhere(run)] == [classes > 20] * 3
    assert ("boosted trees" in run.scores) == (classes <= 20)


@pytest.mark.parametrize(
    ("kept", "remark"), [(0, "The linear model that the network began as was kept"), (1, "no better than a baseline")]
)
def test_a_network_that_is_no_better_is_called_so_in_each_report(table, kept, remark):
    run = tabular.run(table[["a", "b", "y"]], "y", QUICK)
    scores = dict(run.scores) | {"network": run.scores["training mean"]}
    run = dataclasses.replace(run, scores=scores, fit=run.fit._replace(best_epoch=kept))
    assert all(remark in text for text in everywhere(run))


def test_an_interruption_is_told_in_each_report_and_only_then(table):
    run = tabular.run(table[["a", "b", "y"]], "y", QUICK)
    stopped = dataclasses.replace(run, fit=run.fit._replace(interrupted=True))
    for text, whole in zip(everywhere(stopped), everywhere(run), strict=True):
        assert text.count("Training was interrupted") == 1
        assert "interrupted" not in whole.partition("Settings")[0]
    assert (report.record(stopped)["interrupted"], report.record(run)["interrupted"]) == (True, False)


def test_one_network_that_an_interruption_left_is_one(table):
    several = tabular.Members(2, 0, (4,), steps=5, cycles=1)
    run = tabular.run(table[["a", "b", "y"]], "y", several)
    assert "Trained 2 networks, each on 1 of 2 parts of 160 rows" in report.speed(run)
    left = dataclasses.replace(run, preset=run.preset._replace(networks=1))
    assert report.speed(left).startswith("Trained 1 network on 1 of 2 parts of 160 rows, for up to ")
    assert "1 networks" not in "".join(everywhere(left))
    alone = tabular.run(table[["a", "b", "y"]], "y", dataclasses.replace(several, count=1, parts=4))
    assert report.speed(alone).startswith("Trained on 120 rows for ")


def test_a_column_with_an_effect_counts_once():
    rng = np.random.default_rng(0)
    place = np.arange(1600) % 80
    table = pd.DataFrame({"place": [f"p{i}" for i in place], "x": rng.standard_normal(1600)})
    table["y"] = rng.standard_normal(80)[place] + 0.1 * table["x"]
    run = tabular.run(table, "y", tabular.Members(3, 0, (4,), steps=5, cycles=1))
    assert [column.name for column in run.encoding.columns] == ["place", "x", "place"]
    assert "y from 2 columns as " in report.overview(run, "t.csv")
    assert "columns   place, x" in report.describe(run.model).splitlines()


@pytest.mark.parametrize(
    ("aim", "words"),
    [
        (Aim(), "squared"),
        (Aim("absolute"), "absolute"),
        (Aim("huber", interval=0.5), "huber, with quantiles 25% and 75%"),
        (Aim("poisson"), "poisson"),
        (Aim("quantile", 0.025), "quantile 2.5%"),
        (Aim("quantile", (0.9, 0.1, 0.5)), "quantiles 10%, 50%, 90%"),
        (Aim("quantile", 0.5, interval=0.9), "quantile 50%, with quantiles 5% and 95%"),
    ],
)
def test_a_loss_goes_by_the_name_that_users_give_it(aim, words):
    assert report.loss_in_words(loss_of(aim, classes=False, target="y")) == words


def test_losses_and_metrics_of_classes_and_functions_have_names_in_the_table_of_settings(table):
    run = tabular.run(table[["a", "b", "two"]], "two", QUICK, metric="auc")
    shown = dict(report.settings_table(run))
    assert {("loss", "log-loss"), ("metric", "auc")} <= set(shown.items())
    assert shown["hidden"] == ", ".join(map(str, run.settings.hidden))
    assert shown["optimizer"].startswith(f"{type(run.settings.optimizer).__name__}(lr=")
    assert dict(report.settings_table(tabular.run(table[["a", "y"]], "y", QUICK)))["metric"] == "the loss"
    assert report.loss_in_words(nn.gamma_loss) == "gamma_loss"
    assert not any("viva_tensor." in text for text in everywhere(run)[:2])


def test_the_share_that_a_quantile_wants_is_not_rounded(table):
    run = tabular.run(table[["a", "b", "y"]], "y", QUICK, loss="quantile", quantile=0.9996)
    assert any(line.endswith(" (target: 99.96%).") for line in report.verdict(run))


@pytest.mark.parametrize("count", [1, 2])
def test_settings_of_the_last_cycle_are_not_shown_as_those_of_all(table, count):
    cycles = {"epochs", "patience", "validation_fraction"}
    several = tabular.Members(count, 0, (4,), steps=5, cycles=2, parts=4)
    run = tabular.run(table[["a", "b", "y"]], "y", several)
    assert not cycles & report.record(run)["settings"].keys()
    assert not cycles & {name for name, _ in report.settings_table(run)}
    assert {"hidden", "optimizer", "batch_size", "test_fraction"} <= report.record(run)["settings"].keys()
    one = tabular.run(table[["a", "b", "y"]], "y", QUICK)
    assert cycles <= report.record(one)["settings"].keys()
