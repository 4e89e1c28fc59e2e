"""How many bins numbers have: more where the target tells more than their ramps can, and few where it does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular.column_choice import edges_of
from viva_tensor.tabular.columns import Effect, Numeric
from viva_tensor.tabular.data import IndexArray, numbers_of
from viva_tensor.tabular.estimates import MOST_CLASSES, SIGNIFICANT, Estimate, centred, estimated, shares_of, sums_of
from viva_tensor.tabular.linear_start import MOST_FEATURES
from viva_tensor.tabular.parts import firsts_among
from viva_tensor.tabular.preparing import Prepared
from viva_tensor.tabular.targets import Classes

LEAST_EDGES = 32  # of bins; fewer are meant to be few, or are all values
MOST_BINS = 256
MOST_FINER = 16_000_000  # rows times bins of a column, of those few that tell much more
ROWS_OF_BIN = 10
FEW = 12  # bins
LEAST_MANY = 2 * FEW  # edges; of fewer there is little to save
LIKELY = 2.0  # standard deviations of chance
LEAST_GAIN = 0.1  # variance between finer bins, of that within; less is not worth so many features


def with_finer_bins(prepared: Prepared) -> Prepared:
    """Return a prepared table with finer bins of numbers of which the target tells more than the ramps of theirs can.

    That is so where the residuals of the target from a least-squares fit of these ramps differ between the finer bins
    by much more than chance, as of a wave that turns within a bin, or steps. They have ten rows each or more in the
    mean, and stay within the limits of the other features of a table. Numbers whose values have effects need none.
    """
    room, columns = MOST_FEATURES - len(prepared.encoding.feature_names), list(prepared.encoding.columns)
    for i, one in _binned(prepared, LEAST_EDGES + 1):
        finer = _finer(one, room)
        room -= len(finer.edges) - len(one.column.edges)
        columns[i] = finer
    return prepared._replace(encoding=replace(prepared.encoding, columns=tuple(columns)))


def with_few_bins(prepared: Prepared) -> Prepared:
    """Return a prepared table with few bins of the numbers whose own tell no more of the target than ramps of few do.

    Networks learn smooth functions better from few, and rough ones of several columns worse. Numbers whose bins are
    their values keep them.
    """
    columns = list(prepared.encoding.columns)
    for i, one in _binned(prepared, LEAST_MANY):
        columns[i] = _coarser(one)
    return prepared._replace(encoding=replace(prepared.encoding, columns=tuple(columns)))


class _Binned(NamedTuple):
    """A number with bins, and of the rows that have it its values, what they are to tell, and how much each counts."""

    column: Numeric
    values: Float64Array
    wanted: Float64Array
    shares: Float64Array

    def told(self, edges: Sequence[float], ramps: Numeric) -> Estimate:
        """Return what bins with these edges tell beyond a least-squares fit of the ramps of a column."""
        own = ramps.scale(self.values)[:, 1 : len(ramps.edges)]
        own = np.column_stack([np.ones(len(own)), own])
        roots = np.sqrt(self.shares)[:, None]
        left = self.wanted - own @ np.linalg.lstsq(roots * own, roots * self.wanted, rcond=None)[0]
        codes = np.searchsorted(edges[1:-1], self.values, side="right")
        return estimated(sums_of(codes, left, self.shares, len(edges) - 1), left, self.shares)


def _binned(prepared: Prepared, least: int) -> Iterator[tuple[int, _Binned]]:
    """Yield the numbers with so many edges or more, and no effects, and which columns of the encoding they are."""
    columns, target = prepared.encoding.columns, prepared.target
    if isinstance(target, Classes) and target.outputs > MOST_CLASSES:
        return
    effects = {column.name for column in columns if isinstance(column, Effect)}
    binned = [
        (i, column)
        for i, column in enumerate(columns)
        if isinstance(column, Numeric) and len(column.edges) >= least and column.name not in effects
    ]
    if not binned:
        return
    rows, shares = _distinct(prepared)
    wanted = centred(prepared.values[rows], target, shares)
    for i, column in binned:
        values = numbers_of(prepared.table[column.name].iloc[rows])
        present = ~np.isnan(values)
        yield i, _Binned(column, values[present], wanted[present], shares[present])


def _finer(one: _Binned, room: int) -> Numeric:
    """Return a column with at most so many more and finer bins, or as it is if these tell no more."""
    own, rows = len(one.column.edges), len(one.values)
    most = min(MOST_BINS, rows // ROWS_OF_BIN, MOST_FINER // max(rows, 1), own - 1 + room)
    edges = edges_of(one.values, most) if most > own else ()  # room is negative in tables that are full as they are
    if len(edges) < 2 * own:
        return one.column
    told = one.told(edges, one.column)
    much = (told.significance > SIGNIFICANT) & (told.shrinkage < 1 / LEAST_GAIN)
    return replace(one.column, edges=edges) if much.any() else one.column


def _coarser(one: _Binned) -> Numeric:
    """Return a column with few bins, or as it is if its own tell more or are its values."""
    edges = one.column.edges
    if len(np.unique(one.values)) <= len(edges):
        return one.column
    few = replace(one.column, edges=edges_of(one.values, FEW))
    return few if few.edges and not (one.told(edges, few).significance > LIKELY).any() else one.column


def _distinct(prepared: Prepared) -> tuple[IndexArray, Float64Array]:
    """Return the rows that were given and how much each counts, copies as one that counts for all of them.

    They are no evidence of their own: what chance did to one of them it did to all. Here rows are alike in their cells,
    since features are not made yet.
    """
    rows = prepared.split.given
    shares = shares_of(prepared, rows)
    names = dict.fromkeys(column.name for column in prepared.encoding.columns)
    some = pd.DataFrame({name: prepared.table[name].iloc[rows] for name in names})
    kinds = pd.util.hash_pandas_object(some, index=False).to_numpy().astype(np.uint64)
    firsts = firsts_among(rows, kinds, prepared.values)
    if firsts is None:
        return rows, shares
    counted = np.bincount(firsts, shares, minlength=len(prepared.values))
    rows = rows[firsts == rows]
    return rows, counted[rows] / max(float(counted[rows].mean()), 1e-300)
