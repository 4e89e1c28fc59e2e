"""Features in few bytes: a float32 for each number and a byte for each category, spread only where they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from viva_tensor.kernels.arrays import Array, Float32Array, Float64Array
from viva_tensor.tabular.columns import Categorical
from viva_tensor.tabular.data import IndexArray, Table
from viva_tensor.tabular.encoding import Encoding, pieces

PIECE = 8192  # rows spread at a time, to stay in the caches
BLOCK = 65_536  # rows whose features are held
F = TypeVar("F", bound=np.generic)
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
        Fields ``numbers``, ``target`` and ``codes``.
    features : int
    """

    def __init__(self, encoding: Encoding, target: tuple[int, ...]) -> None:
        self._encoding = encoding
        self.features = len(encoding.feature_names)
        self._fields: list[tuple[str, slice | int]] = []  # of each column: where its part of a record is
        self._spread: list[tuple[slice, slice]] = []  # where features go to, and where they are among numbers
        self._codes: list[int] = [0]  # of each categorical column, where its codes begin among those of all
        places: list[IndexArray] = []  # of each code of each column
        ones: list[npt.NDArray[np.bool_]] = []
        count = begin = 0
        for column in encoding.columns:
            end = begin + len(column.feature_names)
            if isinstance(column, Categorical):
                one_hot = np.asarray(column.one_hot)
                self._fields.append(("codes", len(places)))
                self._codes.append(self._codes[-1] + len(one_hot))
                places.append(begin + one_hot.argmax(axis=1))
                ones.append(np.atleast_1d(one_hot.any(axis=1)))
            else:
                after = count + end - begin
                self._fields.append(("numbers", slice(count, after)))
                if self._spread and self._spread[-1][0].stop == begin:  # one run of features
                    to, of = self._spread.pop()
                    self._spread.append((slice(to.start, end), slice(of.start, after)))
                else:
                    self._spread.append((slice(begin, end), slice(count, after)))
                count = after
            begin = end
        fields = [("numbers", "<f4", (count,)), ("target", "<f4", target), ("codes", "u1", (len(places),))]
        self.dtype = np.dtype(fields, align=True)
        self._places = np.concatenate([*places, []]).astype(np.int32)
        self._ones = np.concatenate([*ones, []]).astype(np.float32)

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
            encode = column.codes if isinstance(column, Categorical) else column.encode
            for rows, values in blocks:
                records[field][rows, where] = encode(values)
        return records

    def put(self, records: Records, column: int, rows: IndexArray, values: Float64Array) -> None:
        """Put other values in the features of a column of numbers, by its index in the encoding, of some records."""
        field, where = self._fields[column]
        records[field][rows, where] = values

    def spread(self, records: Records) -> Float32Array:
        """Return the features [rows, features] of some records, as :meth:`Encoding.encode` returns them."""
        features = np.zeros((len(records), self.features), np.float32)
        begins = np.arange(min(len(records), PIECE), dtype=np.int32)[:, None] * self.features
        for start in range(0, len(records), PIECE):
            some, part = records[start : start + PIECE], features[start : start + PIECE]
            for to, of in self._spread:
                part[:, to] = some["numbers"][:, of]
            codes = some["codes"] + np.array(self._codes[:-1], np.int32)
            np.put(part, self._places[codes] + begins[: len(some)], self._ones[codes])
        return features


class Packed:
    """The features and targets of a table's rows in memory; an index gives features, spread.

    Examples
    --------
    >>> import pandas as pd
    >>> from viva_tensor.tabular.encoding import fit_encoding
    >>> table = pd.DataFrame({"carat": [0.2, 0.3, 0.4, 0.5], "cut": ["Fair", "Ideal", "Fair", "Good"]})
    >>> encoding = fit_encoding(table)
    >>> features = Packed(encoding, table, np.zeros((4, 1), np.float32))
    >>> features.shape, features[[1, 3]].tolist() == encoding.encode(table)[[1, 3]].tolist()
    ((4, 4), True)
    """

    def __init__(self, encoding: Encoding, table: Table, targets: Float32Array) -> None:
        self.packing = Packing(encoding, targets.shape[1:])
        self.records = self.packing.pack(table, targets)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.records), self.packing.features

    def copy(self) -> Packed:
        """Return the same features in other memory."""
        other = copy(self)
        other.records = self.records.copy()
        return other

    def put(self, column: int, rows: IndexArray, values: Float64Array) -> None:
        """Put other values in the features of a column of numbers, by its index in the encoding, of some rows."""
        self.packing.put(self.records, column, rows, values)

    def __getitem__(self, rows: IndexArray | slice | list[int]) -> Float32Array:
        return self.packing.spread(self.records[rows])


def in_blocks(
    function: Callable[[Float32Array], npt.NDArray[F]], features: Float32Array | Packed, rows: IndexArray
) -> npt.NDArray[F]:
    """Return what a function says of some rows, of so many at a time that their features take little memory."""
    starts = range(0, max(len(rows), 1), BLOCK)
    return np.concatenate([function(features[rows[start : start + BLOCK]]) for start in starts])


class PackedRows:
    """Some rows of a packed table as a source for training, perhaps with weights."""

    def __init__(self, packed: Packed, rows: IndexArray, weights: Float64Array | None = None) -> None:
        self._packed, self._rows, self._weights = packed, rows, weights
        self.shape = len(rows), packed.shape[1]

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[Array, ...]]:
        """Yield all rows in a new order, a few at a time."""
        order, done = self._rows[rng.permutation(len(self._rows))], 0
        for x, y in spread_pieces(self._packed.packing, self._packed.records, order):
            rows = order[done : done + len(x)]
            yield (x, y) if self._weights is None else (x, y, self._weights[rows])
            done += len(x)


def taken(records: Records, rows: IndexArray) -> Records:
    """Return some records, as ``records[rows]``, which moves one byte after another."""
    words = records.view(np.uint32).reshape(len(records), -1)
    return words.take(rows, axis=0).view(records.dtype)[:, 0]


def spread_pieces(packing: Packing, records: Records, order: IndexArray) -> Iterator[tuple[Float32Array, Float32Array]]:
    """Yield the features and targets of some records in an order, a few at a time."""
    for start in range(0, len(order), PIECE):
        some = taken(records, order[start : start + PIECE])
        yield packing.spread(some), np.ascontiguousarray(some["target"])
