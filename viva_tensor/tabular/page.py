"""The report of a run as one HTML file that needs no network: pictures, tables, and the command for the same again."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular import report
from viva_tensor.tabular.columns import Categorical
from viva_tensor.tabular.data import IndexArray, number_of
from viva_tensor.tabular.insight import CURVE_ROWS, MOST_CATEGORIES, Dependence, Importance, error_name
from viva_tensor.tabular.metrics import Metric
from viva_tensor.tabular.model import Run
from viva_tensor.tabular.quantiles import Quantile, percent
from viva_tensor.tabular.scores import HEADINGS, of_prediction
from viva_tensor.tabular.targets import Classes, Interval, Quantiles, Ranged

POINTS = 2000  # test rows in a picture
MOST_LABELS = 30  # in the confusion matrix
MOST_TICKS = 15  # in letters of the usual size
BINS = 10  # of a calibration curve
INK, GREY, PALE = "#1b4d89", "#9aa5b1", "rgba(27, 77, 137, 0.2)"
# of classes with curves of their own
COLORS = "#1b4d89", "#e8710a", "#2a9d4f", "#c62f3d", "#7d4fb5", "#8a5a44", "#d45fa8", "#5b7083"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2933; margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { line-height: 1.2; overflow-wrap: anywhere; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; max-width: 100%; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; border-bottom: 1px solid #e4e7eb; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
li, p { overflow-wrap: anywhere; } td { overflow-wrap: break-word; }
figure { margin: 1rem 0; } figcaption { color: #52606d; margin-top: .5rem; }
table + table { margin-top: 1.5rem; }
.plot { width: 100%; height: 22rem; } pre { overflow-x: auto; background: #f5f7fa; padding: .75rem; }
"""


class Picture(NamedTuple):
    """A Plotly figure as JSON has it, with a heading and what can be read from it."""

    heading: str
    caption: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]


def page(run: Run, source: str, command: str = "") -> bytes:
    """Return the report of a run as HTML."""
    from plotly.offline import get_plotlyjs

    root = Element("html", lang="en")
    head, body = SubElement(root, "head"), SubElement(root, "body")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    SubElement(head, "title").text = f"{run.target.name} of {source}"
    SubElement(head, "style").text = STYLE
    SubElement(head, "script").text = get_plotlyjs()
    SubElement(body, "h1").text = f"{run.target.name} of {source}"
    SubElement(body, "p").text = report.overview(run, source) + "."
    heading, *rows = report.score_table(run)
    _table(body, heading, rows, numbers=1)
    for line in (*report.remarks(run), report.speed(run) + ".", report.preset(run) + "."):
        SubElement(body, "p").text = line
    pictures = list(_pictures(run))
    for i, picture in enumerate(pictures):
        SubElement(body, "h2").text = picture.heading
        figure = SubElement(body, "figure")
        SubElement(figure, "div", {"class": "plot", "id": f"plot{i}"})
        SubElement(figure, "figcaption").text = picture.caption
    _findings(body, run)
    SubElement(body, "h2").text = "Settings"
    _table(body, ["setting", "value"], report.settings_table(run))
    if command:
        SubElement(body, "h2").text = "Command to repeat this run"
        SubElement(body, "pre").text = command
    SubElement(body, "script").text = _script(pictures)
    content: bytes = tostring(root, encoding="utf-8", method="html")
    return b"<!doctype html>\n" + content


def _table(parent: Element, heading: Sequence[str], rows: Iterable[Sequence[str]], numbers: int | None = None) -> None:
    """Append a table, with numbers in the columns from one on."""
    table = SubElement(parent, "table")
    for i, cells in enumerate((heading, *rows)):
        row = SubElement(table, "tr")
        for j, cell in enumerate(cells):
            number = {"class": "number"} if numbers is not None and j >= numbers else {}
            SubElement(row, "td" if i else "th", number).text = cell


def _findings(body: Element, run: Run) -> None:
    SubElement(body, "h2").text = "What was read"
    _table(body, ["rows", ""], [[name.replace("_", " "), f"{count:,}"] for name, count in run.rows.items()], numbers=1)
    lines = report.findings(run)
    if lines:
        SubElement(body, "p").text = "Guessed or left out; rows are counted from 0:"
        items = SubElement(body, "ul")
        for line in lines:
            SubElement(items, "li").text = line
    columns = [
        [column.name, type(column).__name__.lower(), str(len(column.feature_names))] for column in run.encoding.columns
    ]
    _table(body, ["column", "kind", "features"], columns, numbers=2)


def _script(pictures: Sequence[Picture]) -> str:
    """Return a script that draws the pictures; no text in it can end it."""
    usual = {
        "margin": {"l": 60, "r": 15, "t": 15, "b": 50},
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }
    drawn = [{"data": one.data, "layout": usual | one.layout} for one in pictures]
    text = (
        json.dumps(_plain(drawn), allow_nan=False)
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
    )
    return (
        f"const pictures = {text};\n"
        'pictures.forEach((one, i) => Plotly.newPlot("plot" + i, one.data, one.layout, '
        "{responsive: true, displayModeBar: false}));"
    )


def _plain(tree: Any) -> Any:
    """Return lists and objects with None for numbers that JSON lacks, which Plotly leaves out."""
    if isinstance(tree, dict):
        return {name: _plain(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return list(map(_plain, tree))
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _pictures(run: Run) -> Iterable[Picture]:
    yield _learning(run)
    if isinstance(run.target, Classes):
        yield from _of_classes(run, run.target)
    else:
        yield from _of_numbers(run)
    if run.insight is not None:
        yield _importances(run.insight.importances, error_name(run.target), len(run.encoding.places))
        for one in run.insight.dependences:
            if one.values:
                yield _dependence(one, run)


def _learning(run: Run) -> Picture:
    history, best, metric = run.fit.history, run.fit.best_epoch, run.settings.metric
    names = [name for name in ("train_loss", "validation_loss") if name in history]
    data: list[dict[str, Any]] = [
        {"x": history["epoch"], "y": history[name], "name": name.replace("_", " "), "mode": "lines"} for name in names
    ]
    positive = all(loss > 0 for name in names for loss in history[name])
    layout: dict[str, Any] = {"xaxis": _axis("epoch"), "yaxis": _axis("loss", type="log" if positive else "linear")}
    if "validation_metric" in history:
        title = f"validation {metric.error}" if isinstance(metric, Metric) else "validation metric"
        curve = {"x": history["epoch"], "y": history["validation_metric"], "name": title, "mode": "lines"}
        data.append(curve | {"yaxis": "y2"})
        layout["yaxis2"] = _axis(title, overlaying="y", side="right", showgrid=False, automargin=True)
    line = {"color": GREY, "dash": "dot"}
    layout["shapes"] = [{"type": "line", "x0": best, "x1": best, "y0": 0, "y1": 1, "yref": "paper", "line": line}]
    return Picture("Learning", _kept(run), data, layout)


def _kept(run: Run) -> str:
    """Return which weights were kept, and of several networks what the curves are."""
    best, several = run.fit.best_epoch, run.members > 1
    means = "Means over the networks that are still training. " if several else ""
    if not best:
        linear = "models that the networks" if several else "model that the network"
        return f"{means}The dotted line is at 0: instead of any epoch, the linear {linear} began as was kept."
    if several:
        return f"{means}Each kept the weights of its own best epoch; the dotted line marks their mean, {best}."
    return f"The dotted line marks the epoch whose weights were kept, {best}."


def _of_numbers(run: Run) -> Iterable[Picture]:
    some = run.test[:POINTS]
    actual, predicted = _floats(some["actual"]), _floats(some["predicted"])
    name = _text(run.target.name)
    ends = [min(actual.min(), predicted.min()), max(actual.max(), predicted.max())]
    points = {
        "x": actual.tolist(),
        "y": predicted.tolist(),
        "mode": "markers",
        "name": "test rows",
        "marker": _marker(),
    }
    ideal = {"x": ends, "y": ends, "mode": "lines", "name": "equal", "line": {"color": GREY}}
    layout = {"xaxis": _axis(f"actual {name}"), "yaxis": _axis(f"predicted {name}")}
    yield Picture(
        "Predicted and actual", f"{len(some):,} test rows; on the line, both are equal.", [points, ideal], layout
    )
    errors = {"x": predicted.tolist(), "y": (predicted - actual).tolist(), "mode": "markers", "marker": _marker()}
    layout = {"xaxis": _axis(f"predicted {name}"), "yaxis": _axis("predicted - actual")}
    loss = of_prediction(run.target.loss)
    caption = "A pattern here is something that the network has not learned."
    if isinstance(loss, Quantile) and loss.quantile != 0.5:
        caption = f"Predictions are the quantile {percent(loss.quantile)}, so that most lie on one side of the values."
    yield Picture("Residuals", caption, [errors], layout)
    if isinstance(run.target, Interval | Quantiles):
        yield _band(run, run.target)


def _band(run: Run, target: Interval | Quantiles) -> Picture:
    """Return the area between the ends of intervals, or the outermost quantiles, by prediction, with actual values."""
    ends = [target.names[0], target.names[-1]] if isinstance(target, Quantiles) else ["lower", "upper"]
    some = run.test[:POINTS].sort_values("predicted", kind="stable")
    x = list(range(1, len(some) + 1))

    def line(column: str, **more: Any) -> dict[str, Any]:
        return {"x": x, "y": _floats(some[column]).tolist(), "name": column, "mode": "lines", **more}

    data = [
        line(ends[0], line={"color": PALE, "width": 1}, showlegend=False),
        line(ends[1], line={"color": PALE, "width": 1}, fill="tonexty", fillcolor=PALE, name=f"{ends[0]} to {ends[1]}"),
        line("predicted", line={"color": GREY}),
        line("actual", mode="markers", marker=_marker()),
    ]
    layout = {"xaxis": _axis("test rows, sorted by prediction"), "yaxis": _axis(_text(target.name))}
    heading = "Quantiles" if isinstance(target, Quantiles) else "Intervals"
    caption = (
        f"{len(some):,} test rows in the order of their predictions. {report.held(run.metric, target, outermost=True)}"
    )
    return Picture(heading, caption, data, layout)


def _of_classes(run: Run, target: Classes) -> Iterable[Picture]:
    codes = {label: i for i, label in enumerate(target.labels)}
    actual = run.test["actual"].map(codes).to_numpy()
    predicted = run.test["predicted"].map(codes).to_numpy()
    chances = run.test[[f"{target.name}={label}" for label in target.labels]].to_numpy(np.float64)
    shown = np.sort(_frequent(run, target, MOST_LABELS))
    counts = np.array([[int(((actual == i) & (predicted == j)).sum()) for j in shown] for i in shown])
    labels = [target.labels[i] for i in shown]
    matrix = {
        "type": "heatmap", "z": counts.tolist(), "x": list(range(len(shown))), "y": list(range(len(shown))),
        "text": counts.tolist(),
        "texttemplate": "%{text}", "colorscale": "Blues", "reversescale": True, "showscale": False,
    }  # fmt: skip
    layout = {
        "xaxis": _axis("predicted", **_named(labels)),
        "yaxis": _axis("actual", autorange="reversed", **_named(labels)),
    }
    caption = "Test rows by class and prediction."
    if len(shown) < len(codes):
        rows = f"{counts.sum():,} of {number_of(len(actual), 'test row')}"
        caption += f" Only the {len(shown)} most frequent of {len(codes):,} classes are shown, on both axes: {rows}."
    yield Picture("Confusion matrix", caption, [matrix], layout)
    common = _colored(run, target)
    several = [i for i in common if 0 < (actual == i).sum() < len(actual)]
    several = [1] if len(codes) == 2 and several else several  # of two classes one says it all
    few = _few(target, common)
    data = [_roc(chances[:, i], actual == i, _text(target.labels[i])) | common[i] for i in several]
    data.append({"x": [0, 1], "y": [0, 1], "mode": "lines", "name": "chance", "line": {"color": GREY, "dash": "dot"}})
    layout = {"xaxis": _axis("false positive rate"), "yaxis": _axis("true positive rate")}
    yield Picture("ROC", f"Each class against the others; AUC is the area under the curve.{few}", data, layout)
    data = [_calibration(chances[:, i], actual == i, _text(target.labels[i])) | common[i] for i in several]
    data.append({"x": [0, 1], "y": [0, 1], "mode": "lines", "name": "exact", "line": {"color": GREY, "dash": "dot"}})
    layout = {"xaxis": _axis("predicted probability"), "yaxis": _axis("share of test rows")}
    caption = f"The share of test rows in a class, by its predicted probability.{few}"
    if run.weighted:
        caption += " With class weights, probabilities are those of a table with that many rows of each class."
    yield Picture("Calibration", caption, data, layout)


def _frequent(run: Run, target: Classes, most: int) -> IndexArray:
    """Return the indices of the most frequent classes of the test rows, the first of them first."""
    counts = run.test["actual"].value_counts().reindex(target.labels, fill_value=0).to_numpy()
    return np.argsort(-counts, kind="stable")[:most]


def _colored(run: Run, target: Classes) -> dict[int, dict[str, Any]]:
    """Return the indices of the most frequent classes in their order, each with its colour in all pictures."""
    indices = sorted(_frequent(run, target, len(COLORS)).tolist())
    return {i: _color(color) for i, color in zip(indices, COLORS, strict=False)}


def _color(color: str) -> dict[str, Any]:
    return {"line": {"color": color}, "marker": {"color": color}}


def _few(target: Classes, shown: Collection[int]) -> str:
    """Return a sentence that says how many classes are shown, if not all."""
    count = len(target.labels)
    return f" Only the {len(shown)} most frequent of {count:,} classes are shown." if len(shown) < count else ""


def _roc(chances: Float64Array, right: np.ndarray[Any, Any], name: str) -> dict[str, Any]:
    """Return the curve of a class and its area, by the trapezoidal rule; equal probabilities are one point."""
    order = np.argsort(-chances, kind="stable")
    last = np.append(np.diff(chances[order]) != 0, True)
    hits, misses = np.cumsum(right[order])[last], np.cumsum(~right[order])[last]
    x, y = np.append(0, misses / misses[-1]), np.append(0, hits / hits[-1])
    area = float(np.trapezoid(y, x))
    some = np.unique(np.linspace(0, len(x) - 1, 200).round().astype(int))
    return {"x": x[some].tolist(), "y": y[some].tolist(), "mode": "lines", "name": f"{name} (AUC {area:.3f})"}


def _calibration(chances: Float64Array, right: np.ndarray[Any, Any], name: str) -> dict[str, Any]:
    bins = np.minimum((chances * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    there = counts > 0
    means = [(np.bincount(bins, weights, BINS)[there] / counts[there]).tolist() for weights in (chances, right)]
    return {"x": means[0], "y": means[1], "mode": "lines+markers", "name": name}


def _importances(importances: Sequence[Importance], error: str, columns: int) -> Picture:
    shown = importances[:20][::-1]
    bars = {
        "type": "bar", "orientation": "h", "x": [one.mean for one in shown], "y": list(range(len(shown))),
        "error_x": {"type": "data", "array": [one.spread for one in shown], "color": GREY}, "marker": {"color": INK},
    }  # fmt: skip
    names = _named([one.column for one in shown])
    layout = {"xaxis": _axis(f"growth of the {HEADINGS[error]}"), "yaxis": _axis("", automargin=True, **names)}
    caption = "How much the error on up to 1,000 test rows grows when a column is shuffled, and how much that varies."
    if len(importances) < columns:
        caption += f" Of {columns:,} columns, only those are shown that were found by first shuffling groups."
    elif len(shown) < len(importances):
        caption += f" The {len(shown)} most important of {columns} columns are shown."
    return Picture("Importance of columns", caption, [bars], layout)


def _dependence(one: Dependence, run: Run) -> Picture:
    target, title, few = run.target, "mean prediction", ""
    names, colors = {0: target.name}, {0: _color(INK)}
    if isinstance(target, Classes):
        title, colors = "mean probability", _colored(run, target)
        names, few = {i: target.labels[i] for i in colors}, _few(target, colors)
    elif isinstance(target, Ranged):
        ends = list(target.quantile_columns)
        names |= {1: ends[0], len(ends): ends[-1]}
        colors |= {1: _color(GREY), len(ends): _color(GREY)}
    caption = f"The {title} over up to {CURVE_ROWS} test rows, if this column had the same value in all of them.{few}"
    categories = {column.name for column in run.encoding.columns if isinstance(column, Categorical)}
    mode = "markers" if one.column in categories else "lines+markers"
    if mode == "markers" and len(one.values) == MOST_CATEGORIES:
        caption += f" The {MOST_CATEGORIES} most frequent values are shown."
    values = list(range(len(one.values))) if mode == "markers" else one.values
    data = [
        {"x": values, "y": [outputs[i] for outputs in one.predicted], "name": _text(name), "mode": mode} | colors[i]
        for i, name in names.items()
    ]
    named = _named(one.values) if mode == "markers" else {}
    layout: dict[str, Any] = {"xaxis": _axis(_text(one.column), **named), "yaxis": _axis(title)}
    layout["showlegend"] = len(data) > 1
    return Picture(f"Predictions by {one.column}", caption, data, layout)


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": title}, "gridcolor": "#e4e7eb", "zeroline": False, **more}


def _named(names: Sequence[str]) -> dict[str, Any]:
    """Return what shows names at the positions 0, 1, ... of an axis: names that are alike when cut stay apart."""
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": list(map(_text, names))}
    return ticks | ({"tickfont": {"size": 9}} if len(names) > MOST_TICKS else {})


def _marker() -> dict[str, Any]:
    return {"color": INK, "size": 4, "opacity": 0.5}


def _text(text: str) -> str:
    """Return text so that Plotly, which takes some HTML, shows it as it is."""
    return html.escape(text if len(text) <= 40 else text[:40] + "...")


def _floats(column: Any) -> Float64Array:
    values: Float64Array = column.to_numpy(np.float64)
    return values
