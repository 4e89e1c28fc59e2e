"""The features of a table in few bytes, spread only where they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.data import IndexArray, Table
from viva_tensor.tabular.packing import PIECE, Packing, Records
from viva_tensor.train import SparseRows

BLOCK = 8192  # rows whose features are held
F = TypeVar("F", bound=np.generic)


class Packed:
    """The features and targets of a table's rows in memory; an index gives features, spread.

    Examples
    --------
    >>> import pandas as pd
    >>> from viva_tensor.tabular.column_choice import fit_encoding
    >>> table = pd.DataFrame({"carat": [0.2, 0.3, 0.4, 0.5], "cut": ["Fair", "Ideal", "Fair", "Good"]})
    >>> encoding = fit_encoding(table)
    >>> features = Packed(Packing(encoding, (1,)), table, np.zeros((4, 1), np.float32))
    >>> features.shape, features[[1, 3]].tolist() == encoding.encode(table)[[1, 3]].tolist()
    ((4, 4), True)
    """

    def __init__(self, packing: Packing, table: Table, targets: Float32Array) -> None:
        self.packing, self.records = packing, packing.pack(table, targets)

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

    @property
    def bytes_to_learn(self) -> int:
        """How much memory takes what :meth:`to_learn` returns for all rows."""
        return 4 * len(self.records) * (2 * self.packing.entries if self.packing.sparse else self.packing.features)

    def to_learn(self, rows: IndexArray | slice = slice(None)) -> Float32Array | SparseRows:
        """Return the features of some rows as networks learn from them in less time."""
        return self.packing.to_learn(self.records[rows])


def in_blocks(
    function: Callable[[Float32Array], npt.NDArray[F]], features: Float32Array | Packed, rows: IndexArray
) -> npt.NDArray[F]:
    """Return what a function says of some rows, of so many at a time that their features take little memory."""
    starts = range(0, max(len(rows), 1), BLOCK)
    return np.concatenate([function(features[rows[start : start + BLOCK]]) for start in starts])


class PackedRows:
    """Some rows of a packed table as a source for training, perhaps with weights."""

    repeats = True

    def __init__(self, packed: Packed, rows: IndexArray, weights: Float64Array | None = None) -> None:
        self._packed, self._rows, self._weights = packed, rows, weights
        self.shape = len(rows), packed.shape[1]

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        """Yield all rows in a new order, a few at a time."""
        order, done = self._rows[rng.permutation(len(self._rows))], 0
        for x, y in in_pieces(self._packed.packing, self._packed.records, order):
            rows = order[done : done + len(x)]
            yield (x, y) if self._weights is None else (x, y, self._weights[rows])
            done += len(x)


def taken(records: Records, rows: IndexArray) -> Records:
    """Return some records, as ``records[rows]``, which moves one byte after another."""
    words = records.view(np.uint32).reshape(len(records), -1)
    return words.take(rows, axis=0).view(records.dtype)[:, 0]


def in_pieces(
    packing: Packing, records: Records, order: IndexArray
) -> Iterator[tuple[Float32Array | SparseRows, Float32Array]]:
    """Yield the features and targets of some records in an order, a few at a time."""
    for start in range(0, len(order), PIECE):
        some = taken(records, order[start : start + PIECE])
        yield packing.to_learn(some), np.ascontiguousarray(some["target"])
