"""Records of features in few bytes: a float32 for a number and one for its bins, a byte for a category."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.columns import Categorical
from viva_tensor.tabular.data import IndexArray, Table
from viva_tensor.tabular.encoding import Encoding, pieces
from viva_tensor.train.sparse import CHEAPER, SparseRows

PIECE = 8192  # rows spread at a time, to stay in the caches
Records = npt.NDArray[np.void]


class Packing:
    """How the features and the target of a row are kept in a record.

    Parameters
    ----------
    encoding : Encoding
    target : tuple of int
        The shape of the target of one row.

    Attributes
    ----------
    dtype : numpy.dtype
        Fields ``numbers``, ``target`` and ``codes``. The bins of a number, of which the first are 1 and the last are 0,
        are one number, their sum.
    features : int
    """

    def __init__(self, encoding: Encoding, target: tuple[int, ...]) -> None:
        self._encoding = encoding
        self.features = len(encoding.feature_names)
        self._fields: list[tuple[str, slice | int]] = []  # of each column: where its part of a record is
        self._plain: list[int] = []  # of each number that is a feature, which feature that is
        self._numbers: list[int] = []  # and where it is among the numbers
        self._bins: list[_Bins] = []
        places: list[IndexArray] = []  # of each code of each column
        ones: list[npt.NDArray[np.bool_]] = []
        count = begin = 0
        for column in encoding.columns:
            if isinstance(column, Categorical):
                one_hot = np.asarray(column.one_hot)
                self._fields.append(("codes", len(places)))
                places.append(begin + one_hot.argmax(axis=1))
                ones.append(np.atleast_1d(one_hot.any(axis=1)))
            else:
                after = self._add_numbers(column.binned, begin, count)
                self._fields.append(("numbers", slice(count, after)))
                count = after
            begin += len(column.feature_names)
        fields = [("numbers", "<f4", (count,)), ("target", "<f4", target), ("codes", "u1", (len(places),))]
        self.dtype = np.dtype(fields, align=True)
        self._codes = np.cumsum([0, *map(len, places)], dtype=np.int32)[:-1]  # of a column, where among all codes
        self._places = np.concatenate([*places, []]).astype(np.int32)
        self._ones = np.concatenate([*ones, []]).astype(np.float32)
        self._runs = _runs(self._plain, self._numbers)
        firsts, sizes, self._sums = np.array(self._bins, np.int32).reshape(-1, 3).T
        self._firsts, self._lasts = firsts.astype(np.float32), (sizes - 1).astype(np.float32)
        inside = {bins.feature + i for bins in self._bins for i in range(1, bins.size)}
        self._starts = tuple(i for i in range(self.features) if i not in inside) if inside else None

    def _add_numbers(self, binned: Sequence[bool], feature: int, number: int) -> int:
        """Note where the features of a column, from this one on, are among the numbers; return where they end."""
        for is_bin, run in groupby(binned):
            size = len(list(run))
            if is_bin:
                self._bins.append(_Bins(feature, size, number))
                number += 1
            else:
                self._plain.extend(range(feature, feature + size))
                self._numbers.extend(range(number, number + size))
                number += size
            feature += size
        return number

    @property
    def entries(self) -> int:
        """How many entries a row has as one of :class:`SparseRows`."""
        return len(self._plain) + 2 * len(self._bins) + len(self._codes)

    @property
    def sparse(self) -> bool:
        """Whether networks learn faster from entries than from features."""
        return self.features >= CHEAPER * self.entries

    def pack(self, table: Table, targets: Float32Array) -> Records:
        """Return the records of a table's rows.

        Raises
        ------
        DataError
            As :meth:`Encoding.encode`.
        """
        records = np.zeros(len(table), self.dtype)
        records["target"] = targets
        for (column, blocks), (field, where) in zip(pieces(self._encoding, table), self._fields, strict=True):
            for rows, values in blocks:
                if isinstance(column, Categorical):
                    records[field][rows, where] = column.codes(values)
                else:
                    records[field][rows, where] = _summed(column.encode(values), column.binned)
        return records

    def put(self, records: Records, column: int, rows: IndexArray, values: Float64Array) -> None:
        """Put other values in the features of a column without bins, by its index in the encoding, of some records."""
        field, where = self._fields[column]
        records[field][rows, where] = values

    def spread(self, records: Records) -> Float32Array:
        """Return the features [rows, features] of some records, as :meth:`Encoding.encode` returns them."""
        features = np.zeros((len(records), self.features), np.float32)
        begins = np.arange(min(len(records), PIECE), dtype=np.int32)[:, None] * self.features
        for start in range(0, len(records), PIECE):
            some, part = records[start : start + PIECE], features[start : start + PIECE]
            for to, of in self._runs:
                part[:, to] = some["numbers"][:, of]
            for bins in self._bins:
                position = some["numbers"][:, bins.number, None]
                np.clip(position - np.arange(bins.size, dtype=np.float32), 0, 1, out=part[:, bins.features])
            codes = some["codes"] + self._codes
            np.put(part, self._places[codes] + begins[: len(some)], self._ones[codes])
        return features

    def to_learn(self, records: Records) -> Float32Array | SparseRows:
        """Return the features of some records as networks learn from them in less time."""
        return self.rows(records) if self.sparse else self.spread(records)

    def rows(self, records: Records) -> SparseRows:
        """Return the features of some records by their entries: of a number's bins those of the last two above 0."""
        numbers, codes = records["numbers"], records["codes"] + self._codes
        positions = numbers[:, self._sums]
        last = np.minimum(np.floor(positions), self._lasts)
        shares = positions - last
        before = np.where(last, 1 - shares, 0)
        plain = np.broadcast_to(np.array(self._plain, np.float32), (len(records), len(self._plain)))
        bins = self._firsts + last, self._firsts + np.maximum(last - 1, 0)
        indices = [plain, *bins, self._places[codes].astype(np.float32)]
        values = [numbers[:, self._numbers], shares, before, self._ones[codes]]
        return SparseRows(np.hstack(indices), np.hstack(values), self.features, self._starts)


class _Bins(NamedTuple):
    """The bins of a number: the first of their features, how many they are, and where their sum is kept."""

    feature: int
    size: int
    number: int

    @property
    def features(self) -> slice:
        return slice(self.feature, self.feature + self.size)


def _runs(features: Sequence[int], numbers: Sequence[int]) -> list[tuple[slice, slice]]:
    """Return where adjacent numbers are adjacent features, as slices of both."""
    runs: list[tuple[slice, slice]] = []
    for feature, number in zip(features, numbers, strict=True):
        if runs and (runs[-1][0].stop, runs[-1][1].stop) == (feature, number):
            to, of = runs.pop()
            runs.append((slice(to.start, feature + 1), slice(of.start, number + 1)))
        else:
            runs.append((slice(feature, feature + 1), slice(number, number + 1)))
    return runs


def _summed(features: Float64Array, binned: Sequence[bool]) -> Float64Array:
    """Return features of a column, with the sum of each run of bins in their place."""
    if not any(binned):
        return features
    ends = np.flatnonzero(np.diff(binned)) + 1
    runs = np.split(features, ends, axis=1)
    return np.hstack(
        [run.sum(axis=1, keepdims=True) if binned[begin] else run for begin, run in zip([0, *ends], runs, strict=True)]
    )
