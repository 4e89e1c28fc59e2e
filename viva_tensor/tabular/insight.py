"""What a network makes of its columns: how much worse it is without one, and how its outputs follow one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.columns import Categorical, Column, Date, Effect
from viva_tensor.tabular.data import IndexArray, Table, labels_of, numbers_of
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.targets import Classes, Target

REPEATS = 5  # shuffles of a column
EXAMINED = 1000  # rows
MOST_COLUMNS = 60
FOLLOWED = 4  # columns with a curve
POINTS = 24
MOST_CATEGORIES = 12
CURVE_ROWS = 300


class Importance(NamedTuple):
    """By how much the error on test rows grows when a column is shuffled: root mean squared error, or log loss."""

    column: str
    mean: float
    spread: float  # standard deviation over the shuffles


class Dependence(NamedTuple):
    """The mean prediction over test rows, with a column set to each of some values.

    `predicted` is [values, outputs]: the number, or the probability of each class.
    """

    column: str
    values: list[Any]
    predicted: list[list[float]]


class Insight(NamedTuple):
    """Importances, the largest first, and the dependence on the most important columns."""

    importances: list[Importance]
    dependences: list[Dependence]


Outputs = Callable[[Float32Array], Float32Array]


def examine(
    outputs: Outputs, x: Float32Array, actual: Float64Array, target: Target, encoding: Encoding, table: Table,
    rows: IndexArray, seed: int,
) -> Insight:  # fmt: skip
    """Return what a network makes of its columns, from some of the test rows.

    Parameters
    ----------
    outputs : callable
        The network: its outputs for features.
    x, actual : ndarray
        Features and values of the test rows.
    target : Target
    encoding : Encoding
    table : DataFrame or ParquetRows
    rows : ndarray of int
        The indices of the test rows in the table.
    seed : int
        Of the shuffles.

    Notes
    -----
    Importance by shuffling is that of Breiman, Random forests, 2001; partial dependence that of Friedman, Greedy
    function approximation, 2001.
    """
    x, actual, rows = np.array(x[:EXAMINED]), actual[:EXAMINED], rows[:EXAMINED]
    rng = np.random.default_rng(seed)
    places = encoding.places
    base = _error(outputs(x), actual, target)
    importances = []
    for name, features in list(places.items())[:MOST_COLUMNS]:
        grown = []
        for _ in range(REPEATS):
            shuffled = x.copy()
            shuffled[:, features] = x[rng.permutation(len(x))][:, features]
            grown.append(_error(outputs(shuffled), actual, target) - base)
        importances.append(Importance(name, float(np.mean(grown)), float(np.std(grown))))
    importances.sort(key=lambda one: -one.mean)
    curves = []
    for one in importances[:FOLLOWED]:
        columns = [column for column in encoding.columns if column.name == one.column]
        present = table[one.column].iloc[rows]
        curves.append(_dependence(outputs, x[:CURVE_ROWS], target, columns, places[one.column], present))
    return Insight(importances, curves)


def _error(outputs: Float32Array, actual: Float64Array, target: Target) -> float:
    if isinstance(target, Classes):
        return target.score(actual, target.probabilities(outputs)).log_loss
    return target.score(actual, target.decode(outputs)["predicted"].to_numpy()).rmse


def _dependence(
    outputs: Outputs,
    x: Float32Array,
    target: Target,
    columns: list[Column],
    features: IndexArray,
    present: pd.Series[Any],
) -> Dependence:
    column = columns[0]
    values = _grid(column, present)
    given = pd.Series(values, name=column.name)
    encoded = np.column_stack([one.encode(given) for one in columns])
    predicted = []
    for one in encoded:
        changed = x.copy()
        changed[:, features] = one
        result = outputs(changed)
        shown = target.probabilities(result) if isinstance(target, Classes) else target.decode(result).to_numpy()
        predicted.append(np.asarray(shown, np.float64).mean(axis=0).tolist())
    plain = [str(value)[:19] if isinstance(column, Date) else value for value in values]
    return Dependence(column.name, plain, predicted)


def _grid(column: Column, present: pd.Series[Any]) -> list[Any]:
    """Return values of a column from its first to its ninety-ninth percentile, or its most frequent categories."""
    if isinstance(column, Categorical):
        codes, labels = labels_of(present)
        counts = Counter(labels[code] for code in codes if code >= 0)
        return [label for label, _ in counts.most_common() if label in column.categories][:MOST_CATEGORIES]
    assert not isinstance(column, Effect)  # it comes after the column itself
    numbers = numbers_of(present, column.origin if isinstance(column, Date) else None)
    order = np.argsort(numbers, kind="stable")[: np.isfinite(numbers).sum()]
    if not len(order):
        return [] if isinstance(column, Date) else [column.median]
    places = (np.linspace(0.01, 0.99, POINTS) * (len(order) - 1)).round().astype(int)
    if isinstance(column, Date):
        return list(dict.fromkeys(present.iloc[order[places]].tolist()))
    return list(dict.fromkeys(numbers[order[places]].tolist()))
