"""What tells which epoch is best: scikit-learn's metrics of the validation rows, and of the test rows in reports."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn import metrics

from viva_tensor import tabular
from viva_tensor.cli import cli
from viva_tensor.sklearn import TabularClassifier, TabularRegressor
from viva_tensor.tabular import runs
from viva_tensor.tabular.metrics import METRICS, OF_NUMBERS, metric_of
from viva_tensor.tabular.targets import Classes, Count, Number
from viva_tensor.train import Settings

SEVERAL = tabular.Members(2, 8, (8,), steps=40, cycles=2)


@pytest.fixture
def table(rng):
    x = rng.uniform(-1, 1, (400, 2))
    bent = np.sin(4 * x[:, 0]) + x[:, 1] + 0.3 * rng.normal(size=400)
    kind = np.select([bent < -0.6, bent < 0.6], ["low", "middle"], "high")
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": 10 + 5 * bent, "two": bent > 0, "three": kind})


def scores(name, test, target):
    if name in OF_NUMBERS:
        function = {"rmse": metrics.root_mean_squared_error, "mae": metrics.mean_absolute_error, "r2": metrics.r2_score}
        return function[name](test["actual"], test["predicted"])
    labels = sorted(test["actual"].unique())
    probabilities = test[[f"{target}={label}" for label in labels]].to_numpy()
    if name == "accuracy":
        return metrics.accuracy_score(test["actual"], test["predicted"])
    if name == "log-loss":
        return metrics.log_loss(test["actual"], probabilities, labels=labels)
    if len(labels) == 2:
        return metrics.roc_auc_score(test["actual"] == labels[1], probabilities[:, 1])
    return metrics.roc_auc_score(test["actual"], probabilities, multi_class="ovr", labels=labels)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("given", [{"preset": "fast"}, {"settings": SEVERAL}])
def test_the_best_epoch_is_that_of_the_metric_and_the_test_rows_are_told(table, name, given, tmp_path):
    for target in ["y"] if name in OF_NUMBERS else ["two", "three"]:
        run = tabular.run(table[["a", "b", target]], target, metric=name, **given)
        assert run.metric == {name: pytest.approx(scores(name, run.test, target), rel=1e-5)}
        watched = run.fit.history["validation_metric"]
        if "preset" in given and run.fit.best_epoch:
            assert run.fit.best_epoch == np.argmin(watched) + 1
            assert 0 <= min(watched) < (6 if name in ("rmse", "mae") else 1)  # in units of y
        assert " of the test rows: " in tabular.report.summary(run)
        tabular.save(run, tmp_path)
        assert json.loads((tmp_path / "report.json").read_text())["metric"] == run.metric


def test_values_with_weights_are_those_of_scikit_learn(rng):
    w = rng.uniform(0, 2, 50)
    output, y = rng.standard_normal((50, 1)).astype("f4"), rng.standard_normal((50, 1)).astype("f4")
    number = Number("y", 5.0, 3.0)
    actual, predicted = 5 + 3.0 * y[:, 0], 5 + 3.0 * output[:, 0]
    found = metric_of("mae", number).value(output, y, w)
    assert found == pytest.approx(metrics.mean_absolute_error(actual, predicted, sample_weight=w), rel=1e-6)
    count = Count("y", 4.0, 1.0)
    found = metric_of("rmse", count).value(output, count.encode(np.arange(50.0)), w)
    wanted = metrics.root_mean_squared_error(np.arange(50.0), 4 * np.exp(output[:, 0]), sample_weight=w)
    assert found == pytest.approx(wanted, rel=1e-5)
    classes, logits = np.arange(50) % 3, rng.standard_normal((50, 3)).astype("f4")
    three = Classes("y", ("a", "b", "c"))
    found = metric_of("auc", three).value(logits, classes.astype("f4"), w)
    shares = three.probabilities(logits)
    assert found == pytest.approx(metrics.roc_auc_score(classes, shares, multi_class="ovr", sample_weight=w))
    assert metric_of("auc", three).value(logits, np.zeros(50, "f4")) == 0.5


def test_estimators_and_the_command_line_have_them(table, tmp_path):
    X = table[["a", "b"]]
    weights = np.linspace(0, 1, 400)
    model = TabularRegressor("fast", metric="mae", random_state=0).fit(X, table["y"], sample_weight=weights)
    assert len(model.history_["validation_metric"]) == len(model.history_["epoch"])
    assert TabularClassifier("fast", metric="auc", random_state=0).fit(X, table["two"]).score(X, table["two"]) > 0.7
    table[["a", "b", "two"]].to_csv(tmp_path / "t.csv", index=False)
    flags = ["train", str(tmp_path / "t.csv"), "--target", "two", "--output", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, [*flags, "--metric", "auc"])
    assert result.exit_code == 0, result.output
    assert "AUC of the test rows: 0." in result.stdout


@pytest.mark.parametrize(
    ("target", "metric", "message"),
    [
        ("y", "rsme", r"no metric 'rsme'\. The metrics are: rmse, mae"),
        ("y", "auc", "the metric auc is for classes, and 'y' is learned as a number; choose one of rmse, mae, r2"),
        ("two", "r2", "the metric r2 is for numbers, and 'two' is learned as classes; choose one of accuracy"),
    ],
)
def test_refused(table, target, metric, message, monkeypatch):
    with pytest.raises(tabular.DataError, match=message):
        tabular.run(table, target, metric=metric)
    monkeypatch.setattr("viva_tensor.tabular.metrics.find_spec", lambda name: None)
    with pytest.raises(tabular.DataError, match="a metric needs scikit-learn"):
        tabular.run(table, target, metric="mae" if target == "y" else "auc")


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_what_is_told_of_test_rows_far_off_is_what_the_scores_say(table, name):
    settings = Settings(hidden=(8,), epochs=2, patience=2)
    row = tabular.run(table[["a", "b", "y"]], "y", settings).test["row"].iloc[0]
    far = table[["a", "b", "y"]].assign(y=table["y"].where(table.index != row, 1e12))
    run = tabular.run(far, "y", settings, metric=name)
    assert row in run.test["row"].to_numpy()
    assert run.metric == {name: getattr(run.scores["network"], name)}


def test_the_log_loss_that_is_told_is_that_of_the_scores():
    target, sure = Classes("y", ("a", "b")), np.float32([[60, 0], [60, 0]])
    scores = target.score(np.array([0.0, 1.0]), target.probabilities(sure))
    told = runs._told(metric_of("log-loss", target), scores, sure, np.float32([0, 1]))
    assert told == {"log-loss": scores.log_loss}
    assert runs._told(metric_of("auc", target), scores, sure, np.float32([0, 1])) == {"auc": 0.5}


def test_a_metric_that_is_nan_is_none_in_the_record(table):
    run = tabular.run(table[["a", "y"]], "y", Settings(hidden=(8,), epochs=1))
    run = dataclasses.replace(run, metric={"r2": np.nan})
    assert tabular.report.record(run)["metric"] == {"r2": None}
