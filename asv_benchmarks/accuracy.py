"""Accuracy and fit time beside scikit-learn's own networks at the same settings, as a Markdown table.

usage: python asv_benchmarks/accuracy.py [--seeds N] [NAME ...]     (on a machine that does nothing else)

Both estimators get the same rows, the same parameters and the same ``random_state``, and make the same number of
epochs. For each seed a quarter of the rows is kept apart for the score: R² for numbers, the share of right labels for
classes. Features, and targets that are numbers, are standardised on the other rows. The two are fitted in turn, with a
pause in which the threads of the one before stop waiting for work; a time is that of ``fit`` alone, the ratio the
median over the seeds.
"""

# ruff: noqa: E402  # NumPy reads these variables while it is loaded

from __future__ import annotations

import argparse
import os
import statistics
import sys
import warnings
from collections.abc import Callable
from time import perf_counter, sleep
from typing import Any, NamedTuple

for name in [name for name in os.environ if name.startswith("OPENBLAS_")]:
    del os.environ[name]  # on some machines they slow NumPy, and with it scikit-learn

import numpy as np
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from viva_tensor import sklearn as compiled
from viva_tensor.tabular.data import diamonds_path
from viva_tensor.tabular.encoding import fit_encoding
from viva_tensor.tabular.reading import read_table


class Case(NamedTuple):
    """A data set, whether its target is classes, and the parameters of both estimators beside the defaults."""

    load: Callable[[], tuple[Any, Any]]
    classes: bool
    parameters: dict[str, Any]


def diamonds() -> tuple[Any, Any]:
    table = read_table(diamonds_path())
    features = table.drop(columns="price")
    return fit_encoding(features).encode(features), table["price"].to_numpy(float)


CASES = {
    "diamonds": Case(diamonds, False, {"max_iter": 20, "hidden_layer_sizes": (128, 64)}),
    "diabetes": Case(lambda: datasets.load_diabetes(return_X_y=True), False, {"max_iter": 100}),
    "digits": Case(lambda: datasets.load_digits(return_X_y=True), True, {"max_iter": 50}),
    "breast cancer": Case(lambda: datasets.load_breast_cancer(return_X_y=True), True, {"max_iter": 100}),
    "wine": Case(lambda: datasets.load_wine(return_X_y=True), True, {"max_iter": 100}),
}


PAUSE = 0.2  # seconds: OpenBLAS's threads look for work for some 25 ms, OpenMP's for a few


class Fitted(NamedTuple):
    """Score on the test rows, and seconds of the fit."""

    score: float
    seconds: float


def compare(case: Case, seed: int) -> tuple[Fitted, Fitted]:
    """scikit-learn's estimator and ours on one split, in an order that changes with the seed."""
    X, y = case.load()
    X, X_test, y, y_test = train_test_split(X, y, random_state=seed, stratify=y if case.classes else None)
    scaler = StandardScaler().fit(X)
    X, X_test = scaler.transform(X), scaler.transform(X_test)
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
    cells = [f"{score.mean():.4f} ± {score.std(ddof=1):.4f}" for score in scores]
    cells += [f"{statistics.median(one.seconds for one in fitted):.3f} s" for fitted in (theirs, ours)]
    return f"| {name}, {'accuracy' if case.classes else 'R²'} | {' | '.join(cells)} | ×{ratio:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="splits and random states of each data set (default: 5)")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)} (default: all)")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds is at least 2")
    unknown = set(arguments.names) - set(CASES)
    if unknown:
        parser.error(f"no data set {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed here
    print("| data set, score | scikit-learn | viva_tensor | scikit-learn, fit | viva_tensor, fit | faster |")
    print("|---|---|---|---|---|---|")
    for name in arguments.names or CASES:
        print(row(name, CASES[name], arguments.seeds))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
