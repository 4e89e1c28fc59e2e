"""The report as a page: in a browser where there is one, and what it may not let through."""

import dataclasses
import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import plotly.graph_objects
import pytest

from viva_tensor.tabular import page, runs, saving
from viva_tensor.train import Settings

QUICK = Settings(hidden=(8,), epochs=4, batch_size=16, patience=3)
NASTY = "<b>&amp;</script><script>console.error(1)"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

# Shows the page 400 pixels wide, and says in its own title what came of it.
FRAME = """<!doctype html><iframe id="f" src="report.html" width="400" height="6000"></iframe><script>
setTimeout(() => { const d = document.getElementById("f").contentDocument, all = [...d.querySelectorAll(".plot")];
document.title = JSON.stringify({plots: all.length, drawn: all.filter(p => p.querySelector(".main-svg")).length,
width: d.documentElement.scrollWidth, heading: d.querySelector("h1").textContent,
texts: [...d.querySelectorAll("text")].map(t => t.textContent)}) }, 4000)</script>"""


def trained(classes):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({
        NASTY: rng.normal(size=200),
        "day": pd.date_range("2020-01-01", periods=200, freq="7D"),
        "kind": rng.choice(["a", NASTY], 200),
    })  # fmt: skip
    table["y"] = table[NASTY] * 3 + (table["kind"] == "a")
    if classes:
        table["y"] = np.where(table["y"] > 2, NASTY, np.where(table["y"] > 0, "low", "none"))
    return runs.run(table, "y", QUICK)


def pictures(run):
    return {one.heading: one for one in page._pictures(run)}


@needs_browser
@pytest.mark.parametrize("classes", [False, True])
def test_a_browser_draws_everything_and_complains_of_nothing(tmp_path, classes):
    run = trained(classes)
    saving.save(run, tmp_path, NASTY, "viva-tensor train 'a b.csv'")
    (tmp_path / "frame.html").write_text(FRAME)
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--virtual-time-budget=9000",
    ]
    flags += ["--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    shown = subprocess.run(
        [CHROMIUM, *flags, (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    assert "CONSOLE" not in shown.stderr
    said = json.loads(
        shown.stdout.partition("<title>")[2]
        .partition("</title>")[0]
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
    )
    assert said["plots"] == said["drawn"] == len(pictures(run)) == (8 if classes else 7)
    assert said["width"] <= 400
    assert said["heading"] == f"y of {NASTY}"
    assert any(NASTY[:40] in text for text in said["texts"])  # a column's name, as it is


@pytest.mark.parametrize("classes", [False, True])
def test_figures_are_what_plotly_takes(classes):
    for one in pictures(trained(classes)).values():
        plotly.graph_objects.Figure({"data": one.data, "layout": one.layout})  # raises on unknown properties


def test_the_page_needs_no_network_and_no_data_ends_a_script():
    text = page.page(trained(True), "t.csv", "viva-tensor train t.csv").decode()
    head, _, body = text.partition("<body>")
    assert head.count("<script") == body.count("<script") == 1
    assert "src=" not in body
    assert "<link" not in text.partition("<script>")[0]
    assert "<pre>viva-tensor train t.csv</pre>" in body


def test_learning_marks_the_kept_epoch():
    run = trained(False)
    one = pictures(run)["Learning"]
    assert one.layout["shapes"][0]["x0"] == run.fit.best_epoch
    assert one.data[1]["y"] == run.fit.history["validation_loss"]


def test_pictures_of_numbers_show_the_test_rows():
    run = trained(False)
    both = pictures(run)["Predicted and actual"]
    np.testing.assert_array_equal(both.data[0]["x"], run.test["actual"])
    assert "actual" in both.layout["xaxis"]["title"]["text"]
    errors = pictures(run)["Residuals"].data[0]["y"]
    np.testing.assert_allclose(errors, run.test["predicted"] - run.test["actual"])


def spreading(rows, **asked):
    """Return the run of a table whose target scatters the more the larger it is."""
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 4, rows)
    table = pd.DataFrame({"x": x, "y": 3 * x + (1 + x) * rng.standard_normal(rows)})
    return runs.run(table, "y", QUICK, **asked)


@pytest.mark.parametrize(
    ("heading", "ends", "asked"),
    [
        ("Intervals", ("lower", "upper"), {"interval": 0.8}),
        ("Quantiles", ("10%", "95%"), {"loss": "quantile", "quantile": (0.95, 0.1, 0.5)}),
        ("Quantiles", ("20%", "70%"), {"loss": "quantile", "quantile": (0.2, 0.7)}),
    ],
)
def test_a_band_lies_between_the_ends_and_its_caption_tells_what_they_hold(heading, ends, asked):
    run = spreading(300, **asked)
    one = pictures(run)[heading]
    plotly.graph_objects.Figure({"data": one.data, "layout": one.layout})
    rows = run.test.sort_values("predicted", kind="stable")
    for trace, column in zip(one.data, (*ends, "predicted", "actual"), strict=True):
        assert trace["x"] == list(range(1, 61))
        np.testing.assert_array_equal(trace["y"], rows[column])
    lower, upper = (run.test[name] for name in ends)
    assert [trace.get("fill") for trace in one.data] == [None, "tonexty", None, None]
    assert one.data[3]["mode"] == "markers"
    if heading == "Intervals":
        within = ((lower <= run.test["actual"]) & (run.test["actual"] <= upper)).mean()
        assert f"{within:.1%} of the test rows lie within their intervals (target: 80%)" in one.caption
        assert f"the mean width is {(upper - lower).mean():.4g}." in one.caption
    else:
        below = [f"{(run.test['actual'] < run.test[name]).mean():.1%}" for name in ends]
        wanted = f"Of the test rows, {below[0]} lie below the quantile {ends[0]} and {below[1]} below {ends[1]}."
        assert one.caption.endswith(wanted)


def test_a_band_shows_no_more_rows_than_other_pictures_and_tells_of_all(monkeypatch):
    run = spreading(300, interval=0.8)
    monkeypatch.setattr(page, "POINTS", 20)
    one = pictures(run)["Intervals"]
    np.testing.assert_array_equal(one.data[3]["y"], run.test[:20].sort_values("predicted", kind="stable")["actual"])
    assert one.caption.startswith("20 test rows in the order of their predictions. ")
    assert f"{run.metric['coverage']:.1%} of the test rows" in one.caption


def test_a_prediction_alone_has_no_band():
    assert not {"Intervals", "Quantiles"} & set(pictures(spreading(100, loss="quantile", quantile=0.9)))


def test_curves_of_classes_agree_with_scikit_learn():
    from sklearn import metrics

    run = trained(True)
    shown = pictures(run)
    labels = list(run.target.labels)
    counts = metrics.confusion_matrix(run.test["actual"], run.test["predicted"], labels=labels)
    np.testing.assert_array_equal(shown["Confusion matrix"].data[0]["z"], counts)
    for label, curve in zip(labels, sorted(shown["ROC"].data[:-1], key=lambda one: one["name"]), strict=True):
        area = metrics.roc_auc_score(run.test["actual"] == label, run.test[f"y={label}"])
        assert curve["name"].endswith(f"(AUC {area:.3f})")
    chances = np.array([0.05, 0.15, 0.12, 0.95])
    curve = page._calibration(chances, np.array([False, True, False, True]), "c")
    assert curve["x"] == pytest.approx([0.05, 0.135, 0.95])
    assert curve["y"] == [0, 0.5, 1]


def test_importance_and_dependence_tell_what_the_target_follows():
    rng = np.random.default_rng(1)
    table = pd.DataFrame(rng.normal(size=(400, 3)), columns=["a", "b", "c"])
    run = runs.run(table.assign(y=3 * table["a"] - table["b"]), "y")
    first, second, last = run.insight.importances
    assert [first.column, second.column, last.column] == ["a", "b", "c"]
    # shuffled, a column of deviation s and factor f adds an error of f · s · √2
    assert first.mean == pytest.approx(3 * 2**0.5, rel=0.15)
    assert abs(last.mean) < 0.1
    curve = run.insight.dependences[0]
    slope = np.polyfit(curve.values, [one[0] for one in curve.predicted], 1)[0]
    assert slope == pytest.approx(3, rel=0.05)


def test_of_many_columns_the_last_ones_may_be_the_foremost():
    rng = np.random.default_rng(1)
    table = pd.DataFrame(rng.normal(size=(300, 130)), columns=[f"c{i}" for i in range(130)])
    run = runs.run(table.assign(y=table["c129"] + 0.5 * table["c70"]), "y", QUICK)
    assert [one.column for one in run.insight.importances[:2]] == ["c129", "c70"]
    assert len(run.insight.importances) == 60
    assert [one.column for one in run.insight.dependences[:2]] == ["c129", "c70"]
    assert "Of 130 columns, only those are shown that were found by first" in page.page(run, "a.csv").decode()


def test_names_that_begin_alike_stay_apart():
    rng = np.random.default_rng(0)
    long = "a name of many letters that others begin with: "
    numbers = pd.DataFrame(rng.normal(size=(300, 2)), columns=[f"{long}{one}" for one in "xy"])
    table = numbers.assign(kind=[f"{long}{one}" for one in rng.choice(list("uvw"), 300)])
    shift = table["kind"].str[-1].map({"u": -2.0, "v": 0.0, "w": 2.0})
    table["y"] = [f"{long}{one}" for one in np.digitize(numbers.sum(axis=1) + shift, [-1, 1])]
    shown = pictures(runs.run(table, "y", QUICK))
    matrix, bars = shown["Confusion matrix"], shown["Importance of columns"]
    by_kind = shown["Predictions by kind"]
    for values, axis in (
        (matrix.data[0]["x"], matrix.layout["xaxis"]),
        (matrix.data[0]["y"], matrix.layout["yaxis"]),
        (bars.data[0]["y"], bars.layout["yaxis"]),
        (by_kind.data[0]["x"], by_kind.layout["xaxis"]),
    ):
        assert values == axis["tickvals"] == [0, 1, 2]
        assert sum(text == f"{long[:40]}..." for text in axis["ticktext"]) >= 2


def test_what_of_many_classes_is_shown_is_said_and_the_most_frequent():
    rng = np.random.default_rng(0)
    code = np.concatenate([np.arange(40), rng.integers(20, 40, 360), np.repeat([38, 39], 100)])
    table = pd.DataFrame({"x": code + rng.normal(size=600), "y": [f"L{one:02d}" for one in code]})
    run = runs.run(table, "y", QUICK)
    shown = pictures(run)
    matrix = shown["Confusion matrix"]
    rows = np.sum(matrix.data[0]["z"])
    assert f"Only the 30 most frequent of 40 classes are shown, on both axes: {rows} of 120 " in matrix.caption
    common = set(run.test["actual"].value_counts().index[:3])
    for heading in ("ROC", "Calibration", "Predictions by x"):
        one = shown[heading]
        assert one.caption.endswith(" Only the 8 most frequent of 40 classes are shown.")
        assert common <= {line["name"].partition(" ")[0] for line in one.data}
    lines = [line for heading in ("ROC", "Calibration", "Predictions by x") for line in shown[heading].data]
    colors = {(line["name"].partition(" ")[0], line["line"]["color"]) for line in lines if "dash" not in line["line"]}
    assert len(colors) == len(dict(colors)) == len(set(dict(colors).values())) == 8  # one of each class everywhere
    assert not any("most frequent" in one.caption for one in pictures(trained(True)).values())


def test_learning_says_whose_weights_were_kept():
    run = spreading(300, metric="r2")
    learning = pictures(run)["Learning"]
    assert [line["name"] for line in learning.data] == ["train loss", "validation loss", "validation 1 - r2"]
    assert learning.data[2]["y"] == run.fit.history["validation_metric"]
    plotly.graph_objects.Figure({"data": learning.data, "layout": learning.layout})
    run = dataclasses.replace(run, fit=run.fit._replace(best_epoch=3))
    several = dataclasses.replace(run, preset=run.preset._replace(networks=5))
    linear = dataclasses.replace(run, fit=run.fit._replace(best_epoch=0))
    assert page._learning(run).caption == "The dotted line marks the epoch whose weights were kept, 3."
    assert page._learning(several).caption.endswith("the dotted line marks their mean, 3.")
    assert "at 0: instead of any epoch, the linear model that" in page._learning(linear).caption
