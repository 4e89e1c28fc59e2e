"""What the target tends to be for each value of a column that has many, as features that do not know their own row.

A feature made of the targets of all training rows would tell each of these rows its own target. So while a network is
trained, the feature of a row is made of the targets in other parts of the rows than its own (:class:`CrossFitting`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular.columns import Categorical, Column, Effect, Numeric
from viva_tensor.tabular.data import IndexArray, labels_of
from viva_tensor.tabular.features import Features
from viva_tensor.tabular.notation import normal
from viva_tensor.tabular.preparing import Prepared
from viva_tensor.tabular.targets import Classes, Target

LEAST_VALUES = 65  # fewer are told apart by bins or by a feature for each category
ROWS_OF_VALUE = 6
MOST_CLASSES = 10
SIGNIFICANT = 5.0  # standard deviations of chance
ROUGH = 0.2  # the share of the variance between values that lies between neighbours; 1 where their order tells nothing


class _Estimate(NamedTuple):
    """What was found out about a column: of each output the rows that its mean counts for, and the effects' spread."""

    shrinkage: Float64Array
    spread: Float64Array
    significance: Float64Array  # of the variance between values
    roughness: Float64Array  # as ROUGH
    rough_significance: Float64Array

    def tells(self, ordered: bool) -> bool:
        """Return whether the values tell something of the target; if they are ordered, other than by their order."""
        told = (self.significance > SIGNIFICANT) & np.isfinite(self.shrinkage) & (self.spread > 0)
        if ordered:
            told &= (self.rough_significance > SIGNIFICANT) & (self.roughness >= ROUGH)
        return bool(told.any())


def with_effects(prepared: Prepared) -> Prepared:
    """Return a prepared table whose encoding also has effects of the columns of many values that tell something.

    The effect of a value is the mean of the target over its rows beyond the mean of all, shrunk to 0 as empirical
    Bayes does (Efron and Morris, Data analysis using Stein's estimator, 1975): n (mean − mean of all) / (n + σ²/τ²)
    for n rows of the value, σ² the variance within values and τ² that between them, estimated as in an analysis of
    variance. Only columns are taken whose values differ by more than chance; and of numbers only those whose neighbours
    do, as numbers of persons or places (von Neumann's ratio of successive differences, 1941).
    """
    encoding, target = prepared.encoding, prepared.target
    if isinstance(target, Classes) and target.outputs > MOST_CLASSES:
        return prepared
    rows = np.concatenate(prepared.split[:2])
    wanted = _centred(prepared.values[rows], target)
    effects, notes = [], []
    for column in encoding.columns:
        effect = _effect(column, prepared.table[column.name].iloc[rows], wanted)
        if effect is not None:
            effects.append(effect)
            notes.append(
                f"{column.name}: {len(effect.values):,} values; the mean of {target.name} for each is a feature"
            )
    made = replace(encoding, columns=(*encoding.columns, *effects))
    return prepared._replace(encoding=made, notes=(*prepared.notes, *notes))


def _centred(values: Float64Array, target: Target) -> Float64Array:
    """Return what effects are means of, less the mean of all rows: a number, or whether a row is of each class."""
    if not isinstance(target, Classes):
        numbers = target.encode(values).astype(np.float64)
    else:
        numbers = np.eye(target.outputs)[values.astype(int)]
        numbers = numbers[:, 1:] if target.outputs == 2 else numbers
    numbers -= numbers.mean(axis=0)
    return numbers


def _effect(column: Column, values: pd.Series, wanted: Float64Array) -> Effect | None:
    """Return the effects of a column's values, or None if they are few or tell nothing."""
    if not isinstance(column, Categorical | Numeric):
        return None
    if isinstance(column, Numeric) and not _whole(values):
        return None
    codes, labels = _coded(values)
    present = codes >= 0
    if len(labels) < LEAST_VALUES or present.sum() < ROWS_OF_VALUE * len(labels):
        return None
    counts, sums = _sums(codes[present], wanted[present], len(labels))
    estimate = _estimated(counts, sums, wanted[present])
    if not estimate.tells(ordered=isinstance(column, Numeric)):
        return None
    means = _shrunk(counts, sums, estimate)
    return Effect(column.name, tuple(labels), tuple(map(tuple, means.tolist())))


def _whole(values: pd.Series) -> bool:
    if pd.api.types.is_bool_dtype(values):
        return False
    present = values.dropna().to_numpy(np.float64)
    return bool((present == np.floor(present)).all())  # infinity is whole, and a value like others


def _coded(values: pd.Series) -> tuple[IndexArray, list[str]]:
    """Return the code of each row, -1 where missing, and the normal form of each value; numbers in their order."""
    codes, labels = labels_of(values)
    forms = [normal(label) for label in labels]
    distinct = sorted(set(forms), key=_in_order)
    place = {form: i for i, form in enumerate(distinct)}
    return np.array([*(place[form] for form in forms), -1])[codes], distinct


def _in_order(form: str) -> tuple[float, str]:
    try:
        return float(form), form
    except ValueError:
        return np.inf, form


def _sums(codes: IndexArray, wanted: Float64Array, values: int) -> tuple[Float64Array, Float64Array]:
    """Return the rows of each value [values], and the sums over them [values, outputs]."""
    counts = np.bincount(codes, minlength=values).astype(np.float64)
    return counts, np.stack([np.bincount(codes, one, minlength=values) for one in wanted.T], axis=1)


def _estimated(counts: Float64Array, sums: Float64Array, wanted: Float64Array) -> _Estimate:
    """Return what the sums over the rows of each value, all of which have some, tell."""
    rows, values = len(wanted), len(counts)
    means = sums / counts[:, None]
    between = (counts[:, None] * means**2).sum(axis=0) - sums.sum(axis=0) ** 2 / rows
    within = ((wanted**2).sum(axis=0) - (counts[:, None] * means**2).sum(axis=0)) / max(rows - values, 1)
    freedom = values - 1
    typical = (rows - (counts**2).sum() / rows) / freedom  # rows of a value
    apart = 1 / (1 / counts[1:] + 1 / counts[:-1])  # rows that the difference of two neighbours counts for
    steps = (apart[:, None] * np.diff(means, axis=0) ** 2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (between / freedom - within) / typical
        shrinkage = np.where(variance > 0, within / variance, np.inf)
        rough = (steps - freedom * within) / (2 * apart.sum())
        effects = sums / (counts[:, None] + shrinkage)
        return _Estimate(
            shrinkage,
            np.sqrt((counts[:, None] * effects**2).sum(axis=0) / rows),
            (between / within - freedom) / np.sqrt(2 * freedom),
            np.where(variance > 0, rough / variance, 0.0),
            (steps / within - freedom) / np.sqrt(3 * freedom),  # neighbours' differences are correlated
        )


def _shrunk(counts: Float64Array, sums: Float64Array, estimate: _Estimate) -> Float64Array:
    """Return the effects of each value [values, outputs], so that those of all training rows have variance 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        effects = sums / (counts[:, None] + estimate.shrinkage) / estimate.spread
    return np.nan_to_num(effects, nan=0.0, posinf=0.0, neginf=0.0)


class CrossFitting:
    """The effects among features, made for each part of the rows without its own targets.

    Parameters
    ----------
    features : Features
    parts : sequence of ndarray
        The rows that effects are made of, in parts.
    """

    def __init__(self, features: Features, parts: Sequence[IndexArray]) -> None:
        self._features, self._parts = features, parts
        self._columns: list[tuple[int, list[IndexArray], Float64Array, Float64Array, _Estimate]] = []
        prepared = features.prepared
        effects = [i for i, one in enumerate(prepared.encoding.columns) if isinstance(one, Effect)]
        if not effects:
            return
        wanted = _centred(prepared.values[np.concatenate(parts)], prepared.target)
        each = np.split(wanted, np.cumsum([len(part) for part in parts])[:-1])
        for index in effects:
            column = prepared.encoding.columns[index]
            assert isinstance(column, Effect)
            codes = [column.codes(prepared.table[column.name].iloc[part]) for part in parts]
            of_parts = [
                _sums(own[own >= 0], some[own >= 0], len(column.values)) for own, some in zip(codes, each, strict=True)
            ]
            counts, sums = (np.array(one) for one in zip(*of_parts, strict=True))
            present = np.concatenate(codes) >= 0
            estimate = _estimated(counts.sum(axis=0), sums.sum(axis=0), wanted[present])
            self._columns.append((index, codes, counts, sums, estimate))

    def without(self, held_out: int | None = None) -> Features:
        """Return features whose effects are, for each part, made of all parts but itself and one that is held out."""
        if not self._columns:
            return self._features
        features = self._features.copy()
        for index, codes, counts, sums, estimate in self._columns:
            for number, rows in enumerate(self._parts):
                used = [i for i in range(len(self._parts)) if i not in (number, held_out)]
                means = _shrunk(counts[used].sum(axis=0), sums[used].sum(axis=0), estimate)
                features.put(index, rows, np.append(means, np.zeros((1, means.shape[1])), axis=0)[codes[number]])
        return features
