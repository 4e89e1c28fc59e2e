"""What the target tends to be for each value of a column that has many, as features that do not know their own row.

A feature made of the targets of all training rows would tell each of these rows its own target. So while a network is
trained, the feature of a row is made of the targets of rows that are neither near it nor held out
(:class:`CrossFitting`).
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
from viva_tensor.tabular.estimates import MOST_CLASSES, Estimate, added, centred, estimated, shares_of, shrunk, sums_of
from viva_tensor.tabular.features import Features
from viva_tensor.tabular.labels import normal
from viva_tensor.tabular.parts import copies_among, parts_of_table
from viva_tensor.tabular.preparing import Prepared
from viva_tensor.tabular.targets import Classes
from viva_tensor.tabular.words import BoolArray

LEAST_VALUES = 65  # fewer are told apart by bins or by a feature for each category
ROWS_OF_VALUE = 3  # in the mean
ROWS_OF_CATEGORY = 2  # which has no other feature, unless it is among the most frequent
LEAST_PARTS = 3  # of the rows
ROUNDS = 8  # of effects of several columns beside each other
PARTS = 5  # of the rows, each of which others than networks are given the effects that the others tell
SLICES = 5  # of a part, the rows of which do not know each other: few, so that nearly as many are known as in the end


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
    shares = shares_of(prepared, rows)
    wanted = centred(prepared.values[rows], target, shares)
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
    told = f"{what} of {target.name} at each value is a feature"
    notes = [f"{one.name}: {len(one.values):,} values; {told}" for one in effects]
    made = replace(encoding, columns=(*encoding.columns, *effects))
    return prepared._replace(encoding=made, notes=(*prepared.notes, *notes))


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
    sums = sums_of(codes, wanted, shares, len(labels))
    estimate = estimated(sums, wanted, shares)
    if not estimate.tells(ordered=isinstance(column, Numeric)):
        return None
    return Effect(column.name, tuple(labels), _record(shrunk(sums, estimate)))


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


class _Rows(NamedTuple):
    """Some rows: their codes in each column that has effects, what these are of, and how much each row counts."""

    codes: list[IndexArray]
    wanted: Float64Array
    shares: Float64Array

    def of(self, which: BoolArray) -> _Rows:
        """Return some of the rows."""
        return _Rows([codes[which] for codes in self.codes], self.wanted[which], self.shares[which])


def _joint(
    parts: Sequence[_Rows], values: Sequence[int], estimates: Sequence[Estimate] | None = None
) -> tuple[list[Float64Array], list[Estimate]]:
    """Return the effects of columns of so many values, each of what the others leave, and the estimates for them.

    Columns of fewer values come first, so that places explain what they can before the persons in them do.
    """
    effects = [np.zeros((count, parts[0].wanted.shape[1])) for count in values]
    found = list(estimates or [Estimate(*np.zeros((5, effects[0].shape[1])))] * len(values))
    left = [rows.wanted for rows in parts]  # by the effects of all columns

    def explained(rows: _Rows, column: int) -> Float64Array:
        return _with_none(effects[column] * np.nan_to_num(found[column].spread))[rows.codes[column]]

    for column in np.argsort(values, kind="stable").tolist() * (ROUNDS if len(values) > 1 else 1):
        left = [one + explained(rows, column) for one, rows in zip(left, parts, strict=True)]
        known = [_known(rows.codes[column], one, rows.shares) for one, rows in zip(left, parts, strict=True)]
        sums = added([sums_of(*one, values[column]) for one in known])
        if estimates is None:
            _, wanted, shares = map(np.concatenate, zip(*known, strict=True))
            found[column] = estimated(sums, wanted, shares)
        effects[column] = shrunk(sums, found[column])
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

    While a network is trained without a part, each slice of another part knows that part's other slices, too: the
    fewer rows a value has, the more it matters that about as many are known then as when new rows are predicted.

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
        shares = shares_of(prepared, rows)
        wanted = centred(prepared.values[rows], prepared.target, shares)
        codes = [np.split(one.codes(prepared.table[one.name].iloc[rows]), ends) for one in self._columns.values()]
        given = zip(zip(*codes, strict=True), np.split(wanted, ends), np.split(shares, ends), strict=True)
        self._rows = [_Rows(list(own), some, share) for own, some, share in given]
        self._values = [len(one.values) for one in self._columns.values()]
        _, self._estimates = _joint(self._rows, self._values)
        copies = copies_among(rows, features)  # which would tell each other's target
        self._slices = [_slices(one) for one in np.split(np.arange(len(rows)) if copies is None else copies, ends)]

    def without(self, held_out: int | None = None) -> Features:
        """Return features whose effects are made of all parts but the one that is held out, and for it, too.

        Those of each slice of another part are made without this slice; if none is held out, without the whole part.
        """
        if not self._columns:
            return self._features
        features = self._features.copy()
        for number, rows in enumerate(self._parts):
            others = [some for i, some in enumerate(self._rows) if i not in (number, held_out)]
            own, slices = self._rows[number], self._slices[number]
            if held_out in (number, None):
                slices = np.zeros(len(rows), int)
            for inside in (slices == one for one in np.unique(slices)):
                rest = [] if inside.all() else [own.of(~inside)]
                effects, _ = _joint([*others, *rest], self._values, self._estimates)
                for column, codes, means in zip(self._columns, own.of(inside).codes, effects, strict=True):
                    features.put(column, rows[inside], _with_none(means)[codes])
        return features


def cross_fitted(features: Features) -> Features:
    """Return features whose effects are made for each fifth of the training rows of the others, to learn from at once.

    Examples
    --------
    See :func:`viva_tensor.tabular.run`, whose baselines learn from them.
    """
    if not any(isinstance(one, Effect) for one in features.prepared.encoding.columns):
        return features
    return CrossFitting(features, parts_of_table(features, PARTS, seed=0)).without()


def _slices(firsts: IndexArray) -> IndexArray:
    """Return the slice of each row of a part, by the first that it is a copy of: copies are in one slice."""
    return np.unique(firsts, return_inverse=True)[1] % SLICES
