"""Errors of tabular.Members on many tables at once, with some of its settings, as a Markdown table.

usage: python asv_benchmarks/table_settings.py FOLDER [--only NAME,...] [--repeats N] [SETTINGS ...]

FOLDER holds tables.json, {NAME: [target, "regression" or "classification"]}, and NAME.train.csv for each table.
SETTINGS are fields of Members, such as "bins=32, hidden=(64,)", or of its optimiser, "lr=0.002, weight_decay=0.01";
by default those of Members() alone. A fifth of the rows, another in each repeat, is kept apart for the error: root
mean squared error of numbers, log loss of classes, divided by that of scikit-learn's boosted trees on the same rows.
Shown are geometric means; in the last line over all tables, with the standard error of the mean ratio to the first
settings.

Settings are to be chosen by the last line alone: what is chosen for single tables is chosen by chance.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import sys
import warnings
from dataclasses import fields, replace
from math import exp, log, sqrt
from pathlib import Path
from typing import Any

from viva_tensor import tabular


def members_of(text: str) -> tabular.Members:
    """Return the settings that a text such as ``bins=32, lr=0.002`` describes."""
    call = ast.parse(f"f({text})", mode="eval").body
    assert isinstance(call, ast.Call)
    given: dict[str, Any] = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    own = {one.name for one in fields(tabular.Members)}
    usual = tabular.Members(**{name: value for name, value in given.items() if name in own})
    changed: Any = usual.optimizer
    changed = replace(changed, **{name: value for name, value in given.items() if name not in own})
    return replace(usual, optimizer=changed)


def error_of(table: Any, target: str, members: tabular.Members) -> float:
    """Return the error of a model of a table on a fifth of its rows over that of boosted trees."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = tabular.run(table, target, members).scores
    ours, trees = (scores[name][0 if hasattr(scores[name], "rmse") else 1] for name in ("network", "boosted trees"))
    return float(ours / trees)


def main() -> None:
    """Read the arguments, and print the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("settings", nargs="*", default=["bins=64"])
    parser.add_argument("--only", default="")
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_intermixed_args()
    tables = json.loads((given.folder / "tables.json").read_text(encoding="utf-8"))
    names = [name for name in given.only.split(",") if name] or list(tables)
    if unknown := set(names) - set(tables):
        sys.exit(f"no table {', '.join(sorted(unknown))} in {given.folder}; there are {', '.join(tables)}")

    members = [members_of(text) for text in given.settings]
    print("| table | " + " | ".join(given.settings) + " |")
    print("|---" * (1 + len(members)) + "|")
    ratios: list[list[float]] = []  # of logarithms, for each table
    for name in names:
        source = tabular.read(given.folder / f"{name}.train.csv")
        found = [
            [log(error_of(source, tables[name][0], replace(one, seed=seed))) for seed in range(given.repeats)]
            for one in members
        ]
        ratios.append([statistics.fmean(column) for column in found])
        print(f"| {name} | " + " | ".join(f"{exp(mean):.3f}" for mean in ratios[-1]) + " |", flush=True)
    columns = list(zip(*ratios, strict=True))
    print(f"| geometric mean of {len(names)} | " + " | ".join(summary(one, columns[0]) for one in columns) + " |")


def summary(column: tuple[float, ...], first: tuple[float, ...]) -> str:
    """Return the geometric mean of errors given by their logarithms, and the standard error beside the first ones."""
    beside = [one - other for one, other in zip(column, first, strict=True)]
    chance = statistics.stdev(beside) / sqrt(len(beside)) if any(beside) else 0.0
    return f"{exp(statistics.fmean(column)):.4f}" + f" ± {chance:.4f}" * bool(chance)


if __name__ == "__main__":
    main()
