"""What a network makes of its columns: how much worse it is without one, and how its outputs follow one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.columns import Categorical, Column, Date, Effect
from viva_tensor.tabular.data import IndexArray, Table, labels_of, numbers_of
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.scores import minimised, quantile_loss
from viva_tensor.tabular.targets import Classes, Ranged, Target

REPEATS = 5  # shuffles of a column
MOST_COLUMNS = 60
FOLLOWED = 4  # columns with a curve
POINTS = 24
MOST_CATEGORIES = 12
CURVE_ROWS = 300


class Importance(NamedTuple):
    """By how much the error on test rows grows when a column is shuffled: the one that :func:`error_name` names."""

    column: str
    mean: float
    spread: float  # standard deviation over the shuffles


class Dependence(NamedTuple):
    """The mean prediction over test rows, with a column set to each of some values.

    `predicted` is [values, outputs]: the number and its quantiles, or the probability of each class.
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
    """Return what a network makes of its columns, of many the foremost.

    Parameters
    ----------
    outputs : callable
        The network: its outputs for features.
    x, actual : ndarray
        Features and values of some of the test rows.
    target : Target
    encoding : Encoding
    table : DataFrame or ParquetRows
    rows : ndarray of int
        The indices of these rows in the table.
    seed : int
        Of the shuffles.

    Notes
    -----
    Importance by shuffling is that of Breiman, Random forests, 2001; partial dependence that of Friedman, Greedy
    function approximation, 2001.
    """
    rng = np.random.default_rng(seed)
    places = encoding.places
    base = _error(outputs(x), actual, target)

    def growth(names: Sequence[str]) -> float:
        """Return by how much the error grows when columns are shuffled, together."""
        features = np.concatenate([places[name] for name in names])
        shuffled = x.copy()
        shuffled[:, features] = x[np.ix_(rng.permutation(len(x)), features)]
        return _error(outputs(shuffled), actual, target) - base

    importances = []
    for name in foremost(list(places), MOST_COLUMNS, growth):
        grown = [growth([name]) for _ in range(REPEATS)]
        importances.append(Importance(name, float(np.mean(grown)), float(np.std(grown))))
    importances.sort(key=lambda one: -one.mean)
    curves = []
    for one in importances[:FOLLOWED]:
        columns = [column for column in encoding.columns if column.name == one.column]
        present = table[one.column].iloc[rows]
        curves.append(_dependence(outputs, x[:CURVE_ROWS], target, columns, places[one.column], present))
    return Insight(importances, curves)


def foremost(names: Sequence[str], most: int, growth: Callable[[Sequence[str]], float]) -> list[str]:
    """Return the names of the columns that matter most, in their order: of many, by groups that are halved [1]_.

    The groups without which the error grows most are halved until each has one column: 60 of a thousand columns are
    found by some 600 shuffles.

    References
    ----------
    .. [1] Bettonvil and Kleijnen, Searching for important factors in simulation models with many factors: sequential
       bifurcation, European Journal of Operational Research 96, 1997.

    Examples
    --------
    >>> foremost(list("abcdefgh"), 2, lambda group: 3.0 * ("b" in group) + ("g" in group))
    ['b', 'g']
    """
    if len(names) <= most:
        return list(names)
    groups, longest = _pieces(range(len(names)), 2 * most), len(names)
    while longest > 1:
        groups = sorted(groups, key=lambda group: -growth([names[i] for i in group]))[:most]
        longest = max(map(len, groups))
        groups = [half for group in groups for half in _pieces(group, 2)]
    return [names[i] for i in sorted(i for group in groups for i in group)]


def _pieces(indices: Sequence[int], count: int) -> list[Sequence[int]]:
    """Return runs of indices, nearly equal in length and none empty."""
    ends = [len(indices) * piece // count for piece in range(count + 1)]
    return [indices[low:high] for low, high in pairwise(ends) if low < high]


def error_name(target: Target) -> str:
    """Return the name of the score by which importances are measured: that of the loss; of quantiles, of all of them.

    Examples
    --------
    >>> error_name(Classes("cut", ("Fair", "Ideal")))
    'log_loss'
    """
    return "quantile_loss" if isinstance(target, Ranged) else minimised(target.loss)


def _error(outputs: Float32Array, actual: Float64Array, target: Target) -> float:
    if isinstance(target, Classes):
        return target.score(actual, target.probabilities(outputs)).log_loss
    decoded = target.decode(outputs)
    if isinstance(target, Ranged):
        columns = target.quantile_columns.items()
        return float(np.mean([quantile_loss(actual, decoded[name].to_numpy(), level) for name, level in columns]))
    error: float = getattr(target.score(actual, decoded["predicted"].to_numpy()), error_name(target))
    return error


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
