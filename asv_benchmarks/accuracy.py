"""Accuracy and fit time beside scikit-learn's own networks at the same settings, as a Markdown table.

usage: python asv_benchmarks/accuracy.py [--seeds N] [--tables FOLDER] [--epochs N] [NAME ...]
       (on a machine that does nothing else)

Both estimators get the same rows, the same parameters and the same ``random_state``, and make the same number of
epochs. For each seed a quarter of the rows is kept apart for the score: R² for numbers, the share of right labels for
classes. Features, and targets that are numbers, are standardised on the other rows. The two are fitted in turn, with a
pause in which the threads of the one before stop waiting for work; a time is that of ``fit`` alone, the ratio the
median over the seeds. The difference of the scores, ours less theirs, stands with its standard error over the seeds,
paired: beyond twice that it is not noise.

With --tables the data sets are ten of a folder, five for numbers and five for classes, or those named. It holds
NAME.train.csv and NAME.test.csv, and tables.json, which names each table's target and task, as
{"NAME": ["target", "regression"]} or "classification". Numbers are standardised, with medians for missing ones, other
columns one-hot encoded, both as the training rows say; the test rows are the same for every seed.
"""

# ruff: noqa: E402  # NumPy reads these variables while it is loaded

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple

for name in [name for name in os.environ if name.startswith("OPENBLAS_")]:
    del os.environ[name]  # on some machines they slow NumPy, and with it scikit-learn

import numpy as np
import pandas as pd
from sklearn import datasets, neural_network
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from viva_tensor import sklearn as compiled
from viva_tensor.tabular.column_choice import fit_encoding
from viva_tensor.tabular.data import diamonds_path
from viva_tensor.tabular.reading import read_table


class Rows(NamedTuple):
    """Rows to train and to test on, as both estimators get them."""

    X: Any
    y: Any
    X_test: Any
    y_test: Any


class Case(NamedTuple):
    """Rows for a seed, whether their target is classes, and the parameters of both estimators beside the defaults."""

    rows: Callable[[int], Rows]
    classes: bool
    parameters: dict[str, Any]


def split(load: Callable[[], tuple[Any, Any]], classes: bool, parameters: dict[str, Any]) -> Case:
    """A data set of which each seed keeps another quarter apart."""

    def rows(seed: int) -> Rows:
        X, y = load()
        X, X_test, y, y_test = train_test_split(X, y, random_state=seed, stratify=y if classes else None)
        scaler = StandardScaler().fit(X)
        return Rows(scaler.transform(X), y, scaler.transform(X_test), y_test)

    return Case(rows, classes, parameters)


def table(folder: Path, name: str, target: str, task: str, epochs: int) -> Case:
    """A table of a folder, with test rows of its own."""
    parts = [pd.read_csv(folder / f"{name}.{part}.csv").dropna(subset=[target]) for part in ("train", "test")]
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    others = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    coder = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (others, make_column_selector(dtype_exclude="number")),
    )
    coder.fit(parts[0].drop(columns=target))
    X, X_test = (coder.transform(part.drop(columns=target)) for part in parts)
    classes = task == "classification"
    y, y_test = (part[target].to_numpy(str if classes else float) for part in parts)
    return Case(lambda seed: Rows(X, y, X_test, y_test), classes, {"max_iter": epochs})


def tables(folder: Path, names: list[str], epochs: int) -> dict[str, Case]:
    """Tables of a folder by their names, or ten of them."""
    known = json.loads((folder / "tables.json").read_text(encoding="utf-8"))
    for task in () if names else ("regression", "classification"):
        names = names + [name for name, (_, its) in known.items() if its == task][:5]
    return {name: table(folder, name, *known[name], epochs) for name in names if name in known}


def diamonds() -> tuple[Any, Any]:
    table = read_table(diamonds_path())
    features = table.drop(columns="price")
    return fit_encoding(features).encode(features), table["price"].to_numpy(float)


CASES = {
    "diamonds": split(diamonds, False, {"max_iter": 20, "hidden_layer_sizes": (128, 64)}),
    "diabetes": split(lambda: datasets.load_diabetes(return_X_y=True), False, {"max_iter": 100}),
    "digits": split(lambda: datasets.load_digits(return_X_y=True), True, {"max_iter": 50}),
    "breast cancer": split(lambda: datasets.load_breast_cancer(return_X_y=True), True, {"max_iter": 100}),
    "wine": split(lambda: datasets.load_wine(return_X_y=True), True, {"max_iter": 100}),
}


PAUSE = 0.2  # seconds: OpenBLAS's threads look for work for some 25 ms, OpenMP's for a few


class Fitted(NamedTuple):
    """Score on the test rows, and seconds of the fit."""

    score: float
    seconds: float


def compare(case: Case, seed: int) -> tuple[Fitted, Fitted]:
    """scikit-learn's estimator and ours on the rows of a seed, in an order that changes with the seed."""
    X, y, X_test, y_test = case.rows(seed)
    if not case.classes:
        mean, std = y.mean(), y.std()
        y, y_test = (y - mean) / std, (y_test - mean) / std
    kind = "MLPClassifier" if case.classes else "MLPRegressor"
    fitted = {}
    for module in (neural_network, compiled) if seed % 2 else (compiled, neural_network):
        epochs = case.parameters["max_iter"]
        estimator = getattr(module, kind)(**case.parameters, random_state=seed, tol=0, n_iter_no_change=epochs)
        sleep(PAUSE)
        start = perf_counter()
        estimator.fit(X, y)
        seconds = perf_counter() - start
        if estimator.n_iter_ != epochs:
            raise RuntimeError(f"{module.__name__} made {estimator.n_iter_} epochs of {epochs}")
        fitted[module] = Fitted(estimator.score(X_test, y_test), seconds)
    return fitted[neural_network], fitted[compiled]


def row(name: str, case: Case, seeds: int) -> str:
    theirs, ours = zip(*(compare(case, seed) for seed in range(seeds)), strict=True)
    ratio = statistics.median(a.seconds / b.seconds for a, b in zip(theirs, ours, strict=True))
    scores = [np.array([one.score for one in fitted]) for fitted in (theirs, ours)]
    noise = seeds > 1  # of one seed none is known
    cells = [f"{score.mean():.4f}" + (f" ± {score.std(ddof=1):.4f}" if noise else "") for score in scores]
    difference = scores[1] - scores[0]
    error = f" ± {difference.std(ddof=1) / seeds**0.5:.4f}" if noise else ""
    cells.append(f"{difference.mean():+.4f}{error}")
    cells += [f"{statistics.median(one.seconds for one in fitted):.3f} s" for fitted in (theirs, ours)]
    return f"| {name}, {'accuracy' if case.classes else 'R²'} | {' | '.join(cells)} | ×{ratio:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="splits and random states of each data set (default: 5)")
    parser.add_argument("--tables", type=Path, metavar="FOLDER", help="take tables of this folder")
    parser.add_argument("--epochs", type=int, default=50, help="of tables (default: 50)")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}, or tables (default: all, ten)"
    )
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.epochs < 1:
        parser.error("--seeds and --epochs are at least 1")
    cases = CASES if arguments.tables is None else tables(arguments.tables, arguments.names, arguments.epochs)
    unknown = set(arguments.names) - set(cases)
    if unknown:
        parser.error(f"no data set {', '.join(sorted(unknown))}; there are {', '.join(cases) or 'none of these'}")
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed here
    print(
        "| data set, score | scikit-learn | viva_tensor | difference | scikit-learn, fit | viva_tensor, fit | faster |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in arguments.names or cases:
        print(row(name, cases[name], arguments.seeds))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
