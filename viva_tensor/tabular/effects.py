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
from viva_tensor.tabular.column_choice import edges_of
from viva_tensor.tabular.columns import Categorical, Column, Effect, Numeric
from viva_tensor.tabular.data import IndexArray, labels_of, numbers_of
from viva_tensor.tabular.features import Features
from viva_tensor.tabular.labels import normal
from viva_tensor.tabular.linear_start import MOST_FEATURES
from viva_tensor.tabular.parts import firsts_among
from viva_tensor.tabular.preparing import Prepared
from viva_tensor.tabular.targets import Classes, Target

LEAST_VALUES = 65  # fewer are told apart by bins or by a feature for each category
ROWS_OF_VALUE = 3  # in the mean
ROWS_OF_CATEGORY = 2  # which has no other feature, unless it is among the most frequent
LEAST_PARTS = 3  # of the rows
MOST_CLASSES = 10
LEAST_EDGES = 32  # of bins; fewer are meant to be few, or are all values
MOST_BINS = 256
MOST_FINER = 16_000_000  # rows times bins of a column, of those few that tell much more
ROWS_OF_BIN = 10
LEAST_GAIN = 0.1  # variance between finer bins, of that within; less is not worth so many features
ROUNDS = 8  # of effects of several columns beside each other
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


def with_effects(prepared: Prepared, parts: int) -> Prepared:
    """Return a prepared table whose encoding also has effects of the columns of many values that tell something.

    Its rows are for :class:`CrossFitting` in so many parts; of fewer than three there are none that are neither a row's
    own nor held out, and nothing is added.

    The effect of a value is the mean of the target over its rows beyond the mean of all, shrunk to 0 as empirical
    Bayes does (Efron and Morris, Data analysis using Stein's estimator, 1975): n (mean − mean of all) / (n + σ²/τ²)
    for n rows of the value, σ² the variance within values and τ² that between them, estimated as in an analysis of
    variance. With weights, n is (Σ w)² / Σ w² (Kish, Survey sampling, 1965), as many rows as would vary as much. Only
    columns are taken whose values differ by more than chance; and of numbers only those whose neighbours do, such as
    the numbers that persons or places are known by (von Neumann's ratio of successive differences, 1941). Effects of
    several columns are each made of what the others leave (backfitting: Buja, Hastie and Tibshirani, Linear smoothers
    and additive models, 1989), and there are none of columns that tell nothing beside the others.
    """
    encoding, target = prepared.encoding, prepared.target
    if parts < LEAST_PARTS or (isinstance(target, Classes) and target.outputs > MOST_CLASSES):
        return prepared
    rows = prepared.split.given
    shares = _shares(prepared, rows)
    wanted = _centred(prepared.values[rows], target, shares)
    what = "the share of each class" if isinstance(target, Classes) else "the mean"
    effects, codes, ordered = [], [], []
    for column in encoding.columns:
        values = prepared.table[column.name].iloc[rows]
        effect = _effect(column, values, wanted, shares)
        if effect is not None:
            effects.append(effect)
            codes.append(effect.codes(values))
            ordered.append(isinstance(column, Numeric))
    effects = _beside_each_other(effects, _Rows(codes, wanted, shares), ordered)
    told = f"{what} of {target.name} for each is a feature"
    notes = [f"{one.name}: {len(one.values):,} values; {told}" for one in effects]
    made = replace(encoding, columns=(*encoding.columns, *effects))
    return prepared._replace(encoding=made, notes=(*prepared.notes, *notes))


def with_finer_bins(prepared: Prepared) -> Prepared:
    """Return a prepared table with finer bins of numbers of which the target tells more than the ramps of theirs can.

    That is so where the residuals of the target from a least-squares fit of these ramps differ between the finer bins
    by much more than chance, as of a wave that turns within a bin, or steps. They have ten rows each or more in the
    mean, and stay within the limits of the other features of a table. Numbers whose values have effects need none.
    """
    encoding, target = prepared.encoding, prepared.target
    if isinstance(target, Classes) and target.outputs > MOST_CLASSES:
        return prepared
    room, columns = MOST_FEATURES - len(encoding.feature_names), list(encoding.columns)
    told = {column.name for column in columns if isinstance(column, Effect)}
    binned = {
        i: column
        for i, column in enumerate(columns)
        if isinstance(column, Numeric) and len(column.edges) > LEAST_EDGES and column.name not in told
    }
    if not binned:
        return prepared
    rows, shares = _distinct(prepared)
    wanted = _centred(prepared.values[rows], target, shares)
    for i, column in binned.items():
        finer = _finer(column, numbers_of(prepared.table[column.name].iloc[rows]), wanted, shares, room)
        room -= len(finer.edges) - len(column.edges)
        columns[i] = finer
    return prepared._replace(encoding=replace(encoding, columns=tuple(columns)))


def _finer(column: Numeric, values: Float64Array, wanted: Float64Array, shares: Float64Array, room: int) -> Numeric:
    """Return a column with at most so many more and finer bins, or as it is if these tell no more."""
    present = ~np.isnan(values)
    values, wanted, shares = values[present], wanted[present], shares[present]
    own = len(column.edges)
    most = min(MOST_BINS, len(values) // ROWS_OF_BIN, MOST_FINER // max(len(values), 1), own - 1 + room)
    edges = edges_of(values, most) if most > own else ()  # room is negative in tables that are full as they are
    if len(edges) < 2 * own:
        return column
    ramps = np.column_stack([np.ones(len(values)), column.scale(values)[:, 1:own]])
    roots = np.sqrt(shares)[:, None]
    left = wanted - ramps @ np.linalg.lstsq(roots * ramps, roots * wanted, rcond=None)[0]
    codes = np.searchsorted(edges[1:-1], values, side="right")
    told = _estimated(_sums(codes, left, shares, len(edges) - 1), left, shares)
    much = (told.significance > SIGNIFICANT) & (told.shrinkage < 1 / LEAST_GAIN)
    return replace(column, edges=edges) if much.any() else column


def _distinct(prepared: Prepared) -> tuple[IndexArray, Float64Array]:
    """Return the rows that were given and how much each counts, copies as one that counts for all of them.

    They are no evidence of their own: what chance did to one of them it did to all. Here rows are alike in their cells,
    since features are not made yet.
    """
    rows = prepared.split.given
    shares = _shares(prepared, rows)
    names = dict.fromkeys(column.name for column in prepared.encoding.columns)
    some = pd.DataFrame({name: prepared.table[name].iloc[rows] for name in names})
    kinds = pd.util.hash_pandas_object(some, index=False).to_numpy().astype(np.uint64)
    firsts = firsts_among(rows, kinds, prepared.values)
    if firsts is None:
        return rows, shares
    counted = np.bincount(firsts, shares, minlength=len(prepared.values))
    rows = rows[firsts == rows]
    return rows, counted[rows] / max(float(counted[rows].mean()), 1e-300)


def _shares(prepared: Prepared, rows: IndexArray) -> Float64Array:
    """Return how much each of some rows counts: 1 in the mean."""
    if prepared.weights is None:
        return np.ones(len(rows))
    return prepared.weights[rows] / max(float(prepared.weights[rows].mean()), 1e-300)


def _centred(values: Float64Array, target: Target, shares: Float64Array) -> Float64Array:
    """Return what effects are means of, less the mean of all rows: a number, or whether a row is of each class."""
    if not isinstance(target, Classes):
        numbers = target.encode(values)[:, :1].astype(np.float64)  # the same for each output
    else:
        numbers = np.eye(target.outputs)[values.astype(int)]
        numbers = numbers[:, 1:] if target.outputs == 2 else numbers
    numbers -= np.average(numbers, axis=0, weights=shares)
    return numbers


def _effect(column: Column, values: pd.Series, wanted: Float64Array, shares: Float64Array) -> Effect | None:
    """Return the effects of a column's values, or None if they are few or tell nothing."""
    if not isinstance(column, Categorical | Numeric):
        return None
    if isinstance(column, Numeric) and not _whole(values):
        return None
    codes, labels = _coded(values)
    present = codes >= 0
    least = ROWS_OF_CATEGORY if isinstance(column, Categorical) else ROWS_OF_VALUE
    if len(labels) < LEAST_VALUES or present.sum() < least * len(labels):
        return None
    codes, wanted, shares = codes[present], wanted[present], shares[present]
    sums = _sums(codes, wanted, shares, len(labels))
    estimate = _estimated(sums, wanted, shares)
    if not estimate.tells(ordered=isinstance(column, Numeric)):
        return None
    return Effect(column.name, tuple(labels), _record(_shrunk(sums, estimate)))


def _record(means: Float64Array) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, means.tolist()))


def _whole(values: pd.Series) -> bool:
    if pd.api.types.is_bool_dtype(values):
        return False
    present = values.infer_objects().dropna().to_numpy(np.float64)  # objects may be durations
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
        number = float(form)
    except ValueError:
        return np.inf, form
    return (np.inf if np.isnan(number) else number), form


class _Sums(NamedTuple):
    """The sums over the rows of each value: of their shares and the squares of these, and of what effects are of."""

    shares: Float64Array  # [values]
    squares: Float64Array  # [values]
    wanted: Float64Array  # [values, outputs]

    @property
    def chance(self) -> Float64Array:
        """The variance of the sum over a value [values, 1], by that of a row and the shares: 1 where all are alike."""
        return (self.squares / self.shares)[:, None]


def _sums(codes: IndexArray, wanted: Float64Array, shares: Float64Array, values: int) -> _Sums:
    """Return the sums over the rows of each of so many values."""

    def summed(given: Float64Array) -> Float64Array:
        sums: Float64Array = np.bincount(codes, given, minlength=values).astype(np.float64)
        return sums

    return _Sums(summed(shares), summed(shares**2), np.stack([summed(shares * one) for one in wanted.T], axis=1))


def _added(parts: Sequence[_Sums]) -> _Sums:
    """Return the sums over the rows of several parts."""
    return _Sums(*(np.sum(one, axis=0) for one in zip(*parts, strict=True)))


def _estimated(sums: _Sums, wanted: Float64Array, shares: Float64Array) -> _Estimate:
    """Return what the sums over the rows of each value tell; rows vary alike, whatever their shares."""
    sums = _Sums(*(one[sums.shares > 0] for one in sums))
    counts, chance = sums.shares[:, None], sums.chance
    rows, neighbours = shares.sum(), len(counts) - 1
    means = sums.wanted / counts
    between = (counts * means**2).sum(axis=0) - sums.wanted.sum(axis=0) ** 2 / rows
    within = ((shares[:, None] * wanted**2).sum(axis=0) - (counts * means**2).sum(axis=0)) / max(rows - chance.sum(), 1)
    common = sums.squares.sum() / rows
    within = np.maximum(within, 0)  # which rounding may miss where values tell all of the target
    freedom = chance.sum() - common  # the mean of between by within, where only chance tells values apart
    spread = (chance**2).sum() - 2 * (counts * chance**2).sum() / rows + common**2  # and half its variance
    apart = 1 / (chance[1:] / counts[1:] + chance[:-1] / counts[:-1])  # rows that a difference of neighbours counts for
    steps = (apart * np.diff(means, axis=0) ** 2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        typical = (rows - (counts**2).sum() / rows) / freedom  # rows of a value
        variance = (between / freedom - within) / typical
        shrinkage = np.where(variance > 0, within / variance, np.inf)
        rough = (steps - neighbours * within) / (2 * apart.sum())
        effects = sums.wanted / (counts + chance * shrinkage)
        return _Estimate(
            shrinkage,
            np.sqrt((counts * effects**2).sum(axis=0) / rows),
            (between / within - freedom) / np.sqrt(2 * spread),
            np.where(variance > 0, rough / variance, 0.0),
            (steps / within - neighbours) / np.sqrt(3 * neighbours),  # neighbours' differences are correlated
        )


def _shrunk(sums: _Sums, estimate: _Estimate) -> Float64Array:
    """Return the effects of each value [values, outputs], so that those of all training rows have variance 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        effects = sums.wanted / (sums.shares[:, None] + sums.chance * estimate.shrinkage) / estimate.spread
    return np.nan_to_num(effects, nan=0.0, posinf=0.0, neginf=0.0)


class _Rows(NamedTuple):
    """Some rows: their codes in each column that has effects, what these are of, and how much each row counts."""

    codes: list[IndexArray]
    wanted: Float64Array
    shares: Float64Array


def _joint(
    parts: Sequence[_Rows], values: Sequence[int], estimates: Sequence[_Estimate] | None = None
) -> tuple[list[Float64Array], list[_Estimate]]:
    """Return the effects of columns of so many values, each of what the others leave, and the estimates for them.

    Columns of fewer values come first, so that places explain what they can before the persons in them do.
    """
    effects = [np.zeros((count, parts[0].wanted.shape[1])) for count in values]
    found = list(estimates or [_Estimate(*np.zeros((5, effects[0].shape[1])))] * len(values))
    left = [rows.wanted for rows in parts]  # by the effects of all columns

    def explained(rows: _Rows, column: int) -> Float64Array:
        return _with_none(effects[column] * np.nan_to_num(found[column].spread))[rows.codes[column]]

    for column in np.argsort(values, kind="stable").tolist() * (ROUNDS if len(values) > 1 else 1):
        left = [one + explained(rows, column) for one, rows in zip(left, parts, strict=True)]
        known = [_known(rows.codes[column], one, rows.shares) for one, rows in zip(left, parts, strict=True)]
        sums = _added([_sums(*one, values[column]) for one in known])
        if estimates is None:
            _, wanted, shares = map(np.concatenate, zip(*known, strict=True))
            found[column] = _estimated(sums, wanted, shares)
        effects[column] = _shrunk(sums, found[column])
        left = [one - explained(rows, column) for one, rows in zip(left, parts, strict=True)]
    return effects, found


def _known(
    codes: IndexArray, wanted: Float64Array, shares: Float64Array
) -> tuple[IndexArray, Float64Array, Float64Array]:
    """Return the codes of a column, what its effects are of, and shares, of rows whose code is known."""
    known = codes >= 0
    return codes[known], wanted[known], shares[known]


def _with_none(effects: Float64Array) -> Float64Array:
    """Return effects with one of 0 at the end, which code -1 finds."""
    return np.append(effects, np.zeros((1, effects.shape[1])), axis=0)


def _beside_each_other(effects: list[Effect], rows: _Rows, ordered: Sequence[bool]) -> list[Effect]:
    """Return effects as they are beside each other, without those that tell nothing then."""
    left = [*range(len(effects))]
    while len(left) > 1:
        codes = [rows.codes[i] for i in left]
        means, found = _joint([rows._replace(codes=codes)], [len(effects[i].values) for i in left])
        telling = [i for i, one in zip(left, found, strict=True) if one.tells(ordered[i])]
        if telling == left:
            return [replace(effects[i], means=_record(own)) for i, own in zip(left, means, strict=True)]
        left = telling
    return [effects[i] for i in left]


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
        prepared = features.prepared
        self._columns = {i: one for i, one in enumerate(prepared.encoding.columns) if isinstance(one, Effect)}
        if not self._columns:
            return
        rows, ends = np.concatenate(parts), np.cumsum([len(part) for part in parts])[:-1]
        shares = _shares(prepared, rows)
        wanted = _centred(prepared.values[rows], prepared.target, shares)
        codes = [np.split(one.codes(prepared.table[one.name].iloc[rows]), ends) for one in self._columns.values()]
        given = zip(zip(*codes, strict=True), np.split(wanted, ends), np.split(shares, ends), strict=True)
        self._rows = [_Rows(list(own), some, share) for own, some, share in given]
        self._values = [len(one.values) for one in self._columns.values()]
        _, self._estimates = _joint(self._rows, self._values)

    def without(self, held_out: int | None = None) -> Features:
        """Return features whose effects are, for each part, made of all parts but itself and one that is held out."""
        if not self._columns:
            return self._features
        features = self._features.copy()
        for number, rows in enumerate(self._parts):
            used = [some for i, some in enumerate(self._rows) if i not in (number, held_out)]
            effects, _ = _joint(used, self._values, self._estimates)
            for column, codes, own in zip(self._columns, self._rows[number].codes, effects, strict=True):
                features.put(column, rows, _with_none(own)[codes])
        return features
