"""The features of a table: each rank encodes its share of the rows into one file, which all ranks then map."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from viva_tensor.distributed import Ranks
from viva_tensor.kernels.arrays import Float32Array
from viva_tensor.tabular.data import DataError, Table, rows_of
from viva_tensor.tabular.encoding import Encoding

FILE = "features.f32"
# This many float32 rows fill whole pages, whatever the number of features. Two ranks must not write to one page, since
# a file system of several hosts would not keep their writes apart.
TOGETHER = 1024
READ = 64 * TOGETHER  # rows encoded at a time


@contextmanager
def encoded(table: Table, encoding: Encoding, ranks: Ranks, folder: str | Path | None) -> Iterator[Float32Array]:
    """Yield the features [rows, features] of a whole table; several ranks share a temporary file."""
    if ranks.size == 1:
        yield encoding.encode(table)
        return
    if folder is None:
        raise DataError("several ranks need a folder that all of them see, for the features of the table")
    path = Path(folder) / FILE
    shape = len(table), len(encoding.feature_names)
    ranks.from_first("encode", lambda: _create(path))
    try:
        with ranks.fail_together("encode"):
            blocks = ranks.local_slice(-(-len(table) // TOGETHER))
            first, last = blocks.start * TOGETHER, min(blocks.stop * TOGETHER, len(table))
            with open(path, "r+b") as file:
                file.seek(first * shape[1] * 4)
                for start in range(first, last, READ):
                    file.write(encoding.encode(rows_of(table, start, min(start + READ, last))).data)
        with ranks.fail_together("encode"):  # all have written
            features = np.memmap(path, np.float32, "r", shape=shape)
        yield features
    finally:
        if ranks.first:
            path.unlink(missing_ok=True)


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
