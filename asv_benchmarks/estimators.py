"""Calls of the networks of viva_tensor.sklearn beside scikit-learn's own, as a Markdown table.

usage: python asv_benchmarks/estimators.py [--rounds 15] [--rows 1000000]

Both learn from the same 40 features in float32 with the same parameters. Times are medians over rounds in which the two
take turns, and the ratio is the median of the rounds' own, so that other programs slow both. Memory is how much more a
process of its own needed at most while it fitted rows that it already held; Linux tells it. With OMP_NUM_THREADS=1 in
the environment both have one thread.
"""

# ruff: noqa: E402  # NumPy reads these variables while it is loaded

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

for name in [name for name in os.environ if name.startswith("OPENBLAS_")]:
    del os.environ[name]  # on some machines they slow NumPy, and with it scikit-learn

import numpy as np
from benchmarks.common import enough_calls, seconds_per_call
from scipy import sparse
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning

from viva_tensor import sklearn as compiled

FEATURES = 40
SETTINGS: dict[str, Any] = {"hidden_layer_sizes": (100,), "random_state": 0}
KINDS: dict[str, Any] = {"scikit-learn": neural_network.MLPRegressor, "viva_tensor": compiled.MLPRegressor}
ENOUGH = 0.02  # seconds of calls, so that the clock is fine enough
WIDE, MOST_ENTRIES = 50_000, 5_000  # features of sparse rows, and entries of the fullest
NARROW: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 2}  # for rows of so many features
Rows = tuple[Any, np.ndarray]
PARTS = (32, 100, 257, 1000, 61)  # rows of each call of partial_fit


def rows(count: int) -> Rows:
    """Features and a target, in float32."""
    X = np.random.default_rng(0).standard_normal((count, FEATURES), dtype=np.float32)
    return X, X[:, 0] - X[:, 1] * X[:, 2]


def sparse_rows(count: int, entries: np.ndarray) -> Rows:
    """Rows of 50,000 features with so many entries each, as a matrix in CSR form, and a target."""
    rng = np.random.default_rng(0)
    ends = np.concatenate([[0], np.cumsum(entries)]).astype(np.int32)
    columns = rng.integers(0, WIDE, ends[-1]).astype(np.int32)
    X = sparse.csr_matrix((np.ones(ends[-1]), columns, ends), shape=(count, WIDE))
    X.sum_duplicates()
    return X, rng.standard_normal(count)


def ten_entries(count: int) -> Rows:
    return sparse_rows(count, np.full(count, 10))


def geometric_entries(count: int) -> Rows:
    return sparse_rows(count, np.random.default_rng(1).geometric(0.1, count))


def pareto_entries(count: int) -> Rows:
    many = np.random.default_rng(1).pareto(1.2, count) * 4 + 1
    return sparse_rows(count, np.minimum(many, MOST_ENTRIES).astype(int))


CASES: dict[str, tuple[Callable[[int], Rows], dict[str, Any]]] = {  # rows whose fit takes memory, and other settings
    "": (rows, {}),
    " with 10 of 50,000 entries": (ten_entries, NARROW),
    " with 10 of 50,000 entries in the mean": (geometric_entries, NARROW),
    " with 1 to 5,000 of 50,000 entries": (pareto_entries, NARROW),
}


def fitted(kind: str, X: Any, y: np.ndarray, **settings: Any) -> Any:
    """The estimator of a package after one epoch, or more."""
    return KINDS[kind](**{**SETTINGS, "max_iter": 1, **settings}).fit(X, y)


def timed(name: str, calls: dict[str, Callable[[], object]], rounds: int) -> str:
    """A line of the table: microseconds of a call of each, and their ratio."""
    counts = {kind: enough_calls(call, ENOUGH)[0] for kind, call in calls.items()}
    seconds: dict[str, list[float]] = {kind: [] for kind in calls}
    for number in range(rounds):
        for kind in calls if number % 2 else reversed(calls):
            seconds[kind].append(seconds_per_call(calls[kind], counts[kind]))
    theirs, ours = seconds.values()
    faster = median(a / b for a, b in zip(theirs, ours, strict=True))
    return f"| {name} | {1e6 * median(theirs):,.0f} µs | {1e6 * median(ours):,.0f} µs | ×{faster:.1f} |"


def parts_of(model: Any, X: np.ndarray, y: np.ndarray) -> Callable[[], object]:
    """One call of ``partial_fit`` for each of some parts, as many rows as :data:`PARTS` says."""

    def call() -> None:
        start = 0
        for count in PARTS:
            model.partial_fit(X[start : start + count], y[start : start + count])
            start += count

    return call


def status(field: str) -> float:
    """A number of megabytes that Linux keeps about this process: VmRSS now, or VmHWM at most since it began."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(field)


def growth(kind: str, case: str, count: int) -> float:
    """Megabytes that this process needed to fit rows, beyond what it held."""
    make, settings = CASES[case]
    X, y = make(count)
    fitted(kind, X[:1000, :50], y[:1000], **settings)  # loads what is loaded late
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from now on
    before = status("VmRSS")
    fitted(kind, X, y, **settings)
    return status("VmHWM") - before


def growths(case: str, count: int) -> str:
    """A line of the table: the growth of a process for each package."""
    command = [sys.executable, __file__, "--rows", str(count), "--growth", case]
    theirs, ours = (float(subprocess.check_output([*command, kind], text=True)) for kind in KINDS)
    return f"| `fit` of {count:,} rows{case}, memory beyond them | {theirs:,.0f} MB | {ours:,.0f} MB | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="turns of each estimator (default: 15)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="to fit for the memory (default: 1,000,000)")
    parser.add_argument("--growth", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.rows < 1000:
        parser.error("--rounds is at least 1, and --rows at least 1000")
    warnings.simplefilter("ignore", ConvergenceWarning)  # one epoch is enough here
    if arguments.growth:
        case, kind = arguments.growth
        print(growth(kind, case, arguments.rows))
        return
    X, y = rows(10_000)
    models = {kind: fitted(kind, X, y) for kind in KINDS}
    print("| call | scikit-learn | viva_tensor | faster |\n|---|---|---|---|")
    calls: dict[str, Callable[[], object]]
    for count in (1, 100, 10_000):
        calls = {kind: partial(model.predict, X[:count]) for kind, model in models.items()}
        print(timed(f"`predict` of {count:,} row{'s' if count > 1 else ''}", calls, arguments.rounds), flush=True)
    calls = {kind: parts_of(model, X, y) for kind, model in models.items()}
    print(timed(f"`partial_fit` of {', '.join(map(str, PARTS))} rows", calls, arguments.rounds), flush=True)
    for count in (10, 1000):
        calls = {kind: partial(fitted, kind, X[:count], y[:count]) for kind in KINDS}
        print(timed(f"`fit` of {count:,} rows, one epoch", calls, arguments.rounds), flush=True)
    theirs, ours = (len(pickle.dumps(fitted(kind, X, y))) / 1e3 for kind in KINDS)
    print(f"| pickle | {theirs:,.0f} kB | {ours:,.0f} kB | |", flush=True)
    if Path("/proc/self/status").exists():
        for case in CASES:
            print(growths(case, arguments.rows // 10 if case else arguments.rows), flush=True)


if __name__ == "__main__":
    main()
