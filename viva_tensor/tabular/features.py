"""The features of a table, for training and for tests, in as little memory as they need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import Any, NamedTuple

import numpy as np

from viva_tensor.distributed import Ranks
from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.columns import Categorical
from viva_tensor.tabular.data import DataError, IndexArray, Table, rows_of
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.packed import Packed, PackedRows
from viva_tensor.tabular.packing import Packing
from viva_tensor.tabular.preparing import Prepared
from viva_tensor.tabular.streamed_rows import written
from viva_tensor.tabular.streaming import Stream
from viva_tensor.train import RowSource, SparseRows

DENSE = 64 << 20  # bytes of features that are held as networks take them
# This many float32 rows fill whole pages, whatever the number of features. Two ranks must not write to one page, since
# a file system of several hosts would not keep their writes apart.
TOGETHER = 1024
READ = 64 * TOGETHER  # rows encoded at a time


class Features(NamedTuple):
    """A table that is ready, its features, and its targets.

    Attributes
    ----------
    prepared : Prepared
        Of a stream its sample, with the rows of all.
    x : ndarray or Packed [rows, features]
    y : ndarray
        Targets.
    training : RowSource, optional
        The rows to train on, if these are not rows of x.
    """

    prepared: Prepared
    x: Float32Array | Packed
    y: Float32Array
    training: RowSource | None = None

    def to_fit(self) -> dict[str, Any]:
        """Return the rows to train on and those for validation, as arguments of :func:`viva_tensor.train.fit`."""
        train, validation, _ = self.prepared.split
        if self.training is None:
            return self.rows_to_fit(train, validation)
        return {"x": self.training, "validation": (self._to_learn(validation), self.y[validation])}

    def rows_to_fit(self, train: IndexArray, validation: IndexArray) -> dict[str, Any]:
        """Return some rows of x to train on and some for validation, as arguments of the same function."""
        weights = self.prepared.weights
        if isinstance(self.x, Packed) and self.x.bytes_to_learn > DENSE:
            held_out = () if weights is None else (weights[validation],)
            source = PackedRows(self.x, train, weights)
            return {"x": source, "validation": (self._to_learn(validation), self.y[validation], *held_out)}
        return {"x": self._to_learn(), "y": self.y, "weights": weights, "rows": train, "validation": validation}

    def weights_of(self, rows: IndexArray) -> Float64Array | None:
        """Return how much some rows count, or None if all count alike."""
        return None if self.prepared.weights is None else self.prepared.weights[rows]

    def _to_learn(self, rows: IndexArray | slice = slice(None)) -> Float32Array | SparseRows:
        return self.x.to_learn(rows) if isinstance(self.x, Packed) else self.x[rows]

    def copy(self) -> Features:
        """Return the same features in other memory."""
        return self._replace(x=self.x.copy())

    def put(self, column: int, rows: IndexArray, values: Float64Array) -> None:
        """Put other values in the features of a column, by its index in the encoding, of some rows."""
        if isinstance(self.x, Packed):
            self.x.put(column, rows, values)
            return
        begin = sum(len(one.feature_names) for one in self.prepared.encoding.columns[:column])
        self.x[rows, begin : begin + values.shape[1]] = values


@contextmanager
def encoded(prepared: Prepared, stream: Stream | None, ranks: Ranks, folder: str | Path | None) -> Iterator[Features]:
    """Yield the features of a table.

    Several ranks encode their shares of the rows into one file, which all of them then map. Tables with many bins, and
    large ones with categories, are packed, so that these are never spread over all rows. The training rows of a stream
    are written to a temporary file.
    """
    table, encoding, y = prepared.table, prepared.encoding, prepared.target.encode(prepared.values)
    if stream is not None:
        with written(stream, prepared, folder) as file:
            rows = {"read": stream.rows, "without_target": file.without_target, "train": file.rows.count}
            notes = (stream.note, *prepared.notes, *file.notes)
            told = prepared._replace(rows={**prepared.rows, **rows}, notes=notes)
            yield Features(told, Packed(file.rows.packing, table, y), y, file.rows)
    elif ranks.size > 1:
        with _shared(table, encoding, ranks, folder) as x:
            yield Features(prepared, x, y)
    else:
        packing = Packing(encoding, y.shape[1:])
        categories = any(isinstance(column, Categorical) for column in encoding.columns)
        much = categories and 4 * len(table) * packing.features > DENSE
        yield Features(prepared, Packed(packing, table, y) if much or packing.sparse else encoding.encode(table), y)


@contextmanager
def _shared(table: Table, encoding: Encoding, ranks: Ranks, folder: str | Path | None) -> Iterator[Float32Array]:
    """Yield features in a temporary file that ranks share; it has no name as soon as ranks of one host have opened it.

    On several hosts it keeps its name to the end, since what is removed on one of them could not be read on another.
    """
    if folder is None:
        raise DataError("several ranks need a folder that all of them see, for the features of the table")
    path = ranks.from_first("encode", lambda: _create(Path(folder)))
    shape = len(table), len(encoding.feature_names)
    try:
        with ranks.fail_together("encode"):
            if not path.exists():
                raise DataError(f"rank {ranks.rank} does not see {path}; give a folder that all ranks see (--output)")
            blocks = ranks.local_slice(-(-len(table) // TOGETHER))
            first, last = blocks.start * TOGETHER, min(blocks.stop * TOGETHER, len(table))
            with open(path, "r+b") as file:
                file.seek(first * shape[1] * 4)
                for start in range(first, last, READ):
                    file.write(encoding.encode(rows_of(table, start, min(start + READ, last))).data)
        with ranks.fail_together("encode"):  # all have written
            features = np.memmap(path, np.float32, "r", shape=shape)
        if ranks.on_one_host and ranks.first and os.name == "posix":
            path.unlink()
        yield features
    finally:
        if ranks.first:
            path.unlink(missing_ok=True)


def _create(folder: Path) -> Path:
    """Return a new, empty file in a folder, with a name that no other run has."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, path = mkstemp(prefix="features-", suffix=".f32", dir=folder)
    os.close(handle)
    return Path(path)
