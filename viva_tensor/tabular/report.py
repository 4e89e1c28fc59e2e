"""Reports of a run, with its columns, scores, speed and settings: for a terminal, as Markdown, and for JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from viva_tensor.distributed.clock import Times
from viva_tensor.tabular.boosting import MOST_CLASSES
from viva_tensor.tabular.data import number_of
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.losses import LOG_LOSS, OF_NUMBERS
from viva_tensor.tabular.metrics import METRICS, Metric
from viva_tensor.tabular.model import Model, Run
from viva_tensor.tabular.preparing import Prepared
from viva_tensor.tabular.presets import BEST
from viva_tensor.tabular.quantiles import Quantile, Several, percent
from viva_tensor.tabular.scores import HEADINGS, minimised, of_prediction
from viva_tensor.tabular.targets import Classes, Interval, Quantiles
from viva_tensor.train.network import sizes_of
from viva_tensor.train.settings import Loss

NAMES = {loss: name for name, loss in OF_NUMBERS.items()} | {"cross_entropy": LOG_LOSS}  # of losses
MOST_LINES = 40  # about columns, on a terminal
OF_CYCLES = ("epochs", "patience", "validation_fraction")  # which of several cycles are those of the last one
EXACT = ("r2", "accuracy", "log_loss")  # shown with four decimals, not four digits


def opening(prepared: Prepared | Run, source: str) -> str:
    """Return what a person should know before training starts, for a terminal."""
    lines = first_of(findings(prepared), "the report has all of them")
    return "\n".join([overview(prepared, source), *(f"  {line}" for line in lines)])


def first_of(lines: Sequence[str], rest: str = "") -> list[str]:
    """Return the first of many lines, and one that says how many more there are and where they are.

    Examples
    --------
    >>> first_of(["a is constant"] * 100, "see the report")[39:]
    ['and 61 lines more: see the report']
    """
    if len(lines) <= MOST_LINES:
        return list(lines)
    left = len(lines) - MOST_LINES + 1
    return [*lines[: MOST_LINES - 1], f"and {left:,} lines more" + (f": {rest}" if rest else "")]


def summary(run: Run) -> str:
    """Return the scores of a run, for a terminal."""
    table = score_table(run)
    widths = [max(len(row[i]) for row in table) for i in range(1, len(table[0]))]
    lines = []
    for row in table:
        cells = "".join(f" {cell:>{max(10, width)}}" for cell, width in zip(row[1:], widths, strict=True))
        lines.append(f"{row[0] if row is table[0] else '  ' + row[0]:<30}{cells}")
    lines += [f"  {line}" for line in remarks(run)]
    return "\n".join([*lines, "", speed(run), preset(run)])


def shares(times: Sequence[Times]) -> str:
    """Describe where the time of each rank went, one line per rank.

    Examples
    --------
    >>> print(shares([Times(3.0, 0.5, 0.5, 100), Times(3.25, 0.0, 0.75, 100)]))
    rank        compute           wait         reduce   of 100 steps
       0    3.000 s 75%    0.500 s 12%    0.500 s 12%
       1    3.250 s 81%    0.000 s  0%    0.750 s 19%
    """
    lines = [f"{'rank':>4}{'compute':>15}{'wait':>15}{'reduce':>15}   of {times[0].steps:,} steps"]
    for rank, one in enumerate(times):
        parts = (one.compute, one.wait, one.reduce)
        whole = sum(parts) or 1.0
        lines.append(f"{rank:>4}" + "".join(f"{part:>9.3f} s {part / whole:>3.0%}" for part in parts))
    return "\n".join(lines)


def markdown(run: Run, source: str) -> str:
    """Return a short report in Markdown."""
    head, *rows = score_table(run)
    lines = [f"# {run.target.name} of {source}", "", overview(run, source) + "."]
    lines += [*(f"- {line}" for line in findings(run)), ""]
    lines += [_markdown_row(head), "|---" * len(head) + "|", *map(_markdown_row, rows), ""]
    said = [f"- {line}" for line in remarks(run)]
    lines += [*said, ""] if said else []
    lines += [speed(run) + ".", "", preset(run) + ".", ""]
    lines += ["| setting | value |", "|---|---|"]
    lines += map(_markdown_row, settings_table(run))
    return "\n".join(lines) + "\n"


def record(run: Run) -> dict[str, Any]:
    """Return a full report as numbers, strings, lists and dicts; NaN, which JSON lacks, becomes None."""
    return {
        "target": run.target.name,
        "rows": dict(run.rows),
        "features": len(run.encoding.feature_names),
        "left_out": dict(run.encoding.left_out),
        "notes": list(run.notes),
        "test": {name: _finite(scores._asdict()) for name, scores in run.scores.items()},
        "settings": settings(run),
        "epochs": len(run.fit.history["epoch"]),
        "best_epoch": run.fit.best_epoch,
        "interrupted": run.fit.interrupted,
        "seconds": run.fit.seconds,
        "rows_per_second": run.fit.rows_per_second,
        "times": [one._asdict() for one in run.fit.times],
        "threads": run.threads,
        "ranks": run.ranks,
        "networks": run.members,
        "preset": run.preset._asdict(),
        "metric": _finite(run.metric),
    }


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def describe(model: Model) -> str:
    """Describe the target, the network and the columns of a model."""
    target = model.target
    gives = f"one of {', '.join(target.labels)}" if isinstance(target, Classes) else "a number"
    if isinstance(target, Interval):
        gives += f", with an interval meant to hold {target.coverage:.4g} of the rows"
    elif isinstance(target, Quantiles):
        gives += f", with the quantiles {', '.join(target.names)}"
    lines = [
        f"predicts  {target.name}: {gives}",
        f"network   {sizes_of(model.layers)}, {model.activation}: "
        f"{sum(layer.w.data.size + layer.b.data.size for layer in model.layers):,} weights",
        f"columns   {', '.join(_columns(model.encoding))}",
    ]
    if model.trees is not None:
        count, nodes = len(model.trees.root), len(model.trees.value)
        lines.insert(2, f"trees     {count:,}, whose outputs are added: {nodes:,} nodes")
    return "\n".join(lines + [f"left out  {name} ({reason})" for name, reason in model.encoding.left_out.items()])


def settings(run: Run) -> dict[str, Any]:
    """Return the settings of a run, with those of its optimiser, by name; with a preset without those of its cycles."""
    record = run.settings.plain()
    if run.preset.parts:
        record = {name: value for name, value in record.items() if name not in OF_CYCLES}
    optimizer = {"name": type(record["optimizer"]).__name__, **dataclasses.asdict(record.pop("optimizer"))}
    if not isinstance(run.settings.loss, str):
        record["loss"] = loss_in_words(run.settings.loss)
    return record | {"optimizer": optimizer, "test_fraction": run.test_fraction}


def settings_table(run: Run) -> list[list[str]]:
    """Return the name and value of each setting, for a person."""
    metric = run.settings.metric
    words = {
        "loss": loss_in_words(run.settings.loss),
        "hidden": ", ".join(map(str, run.settings.hidden)),
        "optimizer": repr(run.settings.optimizer),
        "metric": metric.name if isinstance(metric, Metric) else "the loss" if metric is None else str(metric),
    }
    return [[name, words.get(name, str(value))] for name, value in settings(run).items()]


def loss_in_words(loss: str | Loss) -> str:
    """Return a loss by the name that users give it, with its quantiles.

    Examples
    --------
    >>> from viva_tensor.tabular.quantiles import at, between
    >>> loss_in_words(between("mse", 0.9)), loss_in_words(at((0.9, 0.1, 0.5))), loss_in_words(Quantile(0.9))
    ('squared, with quantiles 5% and 95%', 'quantiles 10%, 50%, 90%', 'quantile 90%')
    """
    if isinstance(loss, Quantile):
        return f"quantile {percent(loss.quantile)}"
    if isinstance(loss, Several):
        if isinstance(loss.first, Quantile) and not loss.interval:
            return f"quantiles {', '.join(map(percent, sorted((loss.first.quantile, *loss.levels))))}"
        return f"{loss_in_words(loss.first)}, with quantiles {' and '.join(map(percent, loss.levels))}"
    return NAMES.get(loss, getattr(loss, "__qualname__", str(loss)))


def overview(run: Prepared | Run, source: str) -> str:
    """Return rows, target, columns and features in a line."""
    encoding = run.encoding
    return (
        f"{source}: {number_of(run.rows['read'], 'row')}; {run.target.name} from "
        f"{number_of(len(_columns(encoding)), 'column')} as {number_of(len(encoding.feature_names), 'feature')}"
    )


def findings(run: Prepared | Run) -> list[str]:
    """Return a line for each thing that was guessed or left out."""
    lines = list(run.notes)
    lines += [f"left out: {column} ({reason})" for column, reason in run.encoding.left_out.items()]
    if run.rows["without_target"]:
        lines.append(f"left out: {number_of(run.rows['without_target'], 'row')} without a value of {run.target.name}")
    return lines


def score_table(run: Run) -> list[list[str]]:
    """Return the heading and a row for the network and each baseline."""
    fields = next(iter(run.scores.values()))._fields
    scored = "On" if "accuracy" in fields else "Error on"
    table = [[f"{scored} {number_of(run.rows['test'], 'test row')}", *(HEADINGS[name] for name in fields)]]
    for kind, scores in run.scores.items():
        table.append([kind, *(_quantity(name, value) for name, value in scores._asdict().items())])
    return table


def remarks(run: Run) -> list[str]:
    """Return a line for each thing to know beside the scores: an interruption, what was asked for, the verdict."""
    lines = []
    if run.fit.interrupted:
        lines.append("Training was interrupted; these are the results up to then.")
    for name, value in run.metric.items():
        if name in METRICS:
            lines.append(f"{HEADINGS.get(name, name)} of the test rows: {value:.4g}")
    if isinstance(run.target, Interval | Quantiles):
        lines.append(held(run.metric, run.target))
    if run.target.outputs > MOST_CLASSES and isinstance(run.target, Classes):
        lines.append(
            f"With {run.target.outputs} classes, boosted trees and logistic regression are not fitted as baselines: "
            f"with more than {MOST_CLASSES} they take long."
        )
    return [*lines, *verdict(run)]


def held(metric: Mapping[str, float], target: Interval | Quantiles, outermost: bool = False) -> str:
    """Return how many test rows lie within intervals and how wide these are, or how many lie below quantiles.

    Examples
    --------
    >>> held({"coverage": 0.875, "width": 2.5}, Interval("price", mean=0.0, std=1.0))
    '87.5% of the test rows lie within their intervals (target: 90%); the mean width is 2.5.'
    >>> shares = {"below 10%": 0.125, "below 50%": 0.5, "below 90%": 0.875}
    >>> held(shares, Quantiles("price", mean=0.0, std=1.0, levels=(0.1, 0.9), level=0.5), outermost=True)
    'Of the test rows, 12.5% lie below the quantile 10% and 87.5% below 90%.'
    """
    if isinstance(target, Interval):
        wanted, width = percent(target.coverage), _quantity("width", metric["width"])
        within = f"{metric['coverage']:.1%} of the test rows lie within their intervals"
        return f"{within} (target: {wanted}); the mean width is {width}."
    first, *others = [target.names[0], target.names[-1]] if outermost else target.names
    shares = [f"{metric[f'below {first}']:.1%} lie below the quantile {first}"]
    shares += [f"{metric[f'below {name}']:.1%} below {name}" for name in others]
    return f"Of the test rows, {', '.join(shares[:-1])} and {shares[-1]}."


def verdict(run: Run) -> list[str]:
    """Say so if the network is no better than something simpler: by the error that was minimised, to a hundredth."""
    lines = []
    if run.fit.best_epoch == 0:
        lines.append(
            "The linear model that the network began as was kept: training made it no better for rows that it was not "
            "trained on."
        )
    loss = of_prediction(run.target.loss)
    if isinstance(loss, Quantile) and not isinstance(run.target, Quantiles):
        wanted = percent(loss.quantile)
        lines.append(
            f"{run.metric[f'below {wanted}']:.1%} of the test rows lie below the predictions (target: {wanted})."
        )
    if run.weighted:
        why = "it was trained with class weights, which these scores and the baselines ignore"
        return [*lines, f"The network is not compared with the baselines: {why}."]
    name = minimised(loss)
    network, *baselines = (getattr(scores, name) for scores in run.scores.values())
    if network > 1.01 * min(baselines, default=math.inf):
        better = "try more --epochs, or another --lr or --hidden"
        if run.preset.parts:
            better = "use the baseline" if run.preset.name == BEST else f"try --preset {BEST}"
        lines.append(f"The network is no better than a baseline: {better}.")
    return lines


def speed(run: Run) -> str:
    """Return rows, epochs, seconds and the epoch that was kept in a line."""
    epochs, kept = len(run.fit.history["epoch"]), run.fit.best_epoch
    best = f", kept the weights of epoch {kept}" if 0 < kept < epochs else ""
    if kept == 0:
        best = ", kept the linear model that it began as"
    ranks = f" on {run.ranks} ranks" if run.ranks > 1 else ""
    trained = f"Trained on {run.rows['train']:,} rows for {number_of(epochs, 'epoch')}{ranks}"
    if run.preset.parts and not run.rows["validation"]:  # of several networks, even if an interruption left but one
        part = f"{run.preset.parts - 1} of {run.preset.parts} parts of {run.rows['train']:,} rows"
        each = ", each on" if run.members > 1 else " on"
        trained = f"Trained {number_of(run.members, 'network')}{each} {part}, for up to {number_of(epochs, 'epoch')}"
        linear = "models that they" if run.members > 1 else "model that it"
        best = f", kept the linear {linear} began as" if kept == 0 else ""
    return f"{trained} in {run.fit.seconds:.1f} s{best}: {run.fit.rows_per_second:,.0f} rows/s"


def preset(run: Run) -> str:
    """Return the preset of a run, why it meant so many networks, and its numbers in a line."""
    name, why, networks, bins, epochs, _ = run.preset
    parts = [number_of(networks, "network")]
    parts += [f"at most {number_of(bins, 'bin')} of each number"] if bins else []
    parts += [f"at most {number_of(epochs, 'epoch')}"] if epochs else []
    return f"{f'Preset {name}' if name else 'No preset'} ({why}): {', '.join(parts)}"


def _columns(encoding: Encoding) -> list[str]:
    """Return the names of the columns of the table that are encoded, each once: some have an effect as well."""
    return list(dict.fromkeys(column.name for column in encoding.columns))


def _quantity(name: str, value: float) -> str:
    if name in EXACT:
        return f"{value:.4f}"
    return f"{value:,.0f}" if 1e3 <= value < 1e12 else f"{value:.4g}"


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
