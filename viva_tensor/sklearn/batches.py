"""Batches as a compiled step takes them: of sparse rows the entries alone, where that takes less time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from viva_tensor.kernels.arrays import Array
from viva_tensor.program import Step
from viva_tensor.sklearn.rows import Rows
from viva_tensor.train.sparse import CHEAPER, MOST_FEATURES, SparseRows

FEW_ZEROS = 3.0  # places for each entry, up to which many batches are laid out at once, with as many in each row
LAID_OUT_BYTES = 4 << 20  # of entries at a time


@dataclass(frozen=True, eq=False)
class Batches:
    """Rows to train on in batches.

    Attributes
    ----------
    rows : Rows
    size : int
        Rows of a batch; the last of an epoch may have fewer.
    by_entries : bool
        Whether features are given as the indices and values of their entries, so that they are never dense.
    stretch : int
        Rows of whole batches that are given to a compiled step at a time; 0 if each batch is laid out by itself.
    shuffled : bool
        Whether an epoch's order is not that of the rows.
    largest : int
        If above 0, batches of fewer rows than this get some more, of weight 0, so that few programs are planned for
        batches of many sizes.
    """

    rows: Rows
    size: int
    by_entries: bool
    stretch: int
    shuffled: bool = True
    largest: int = 0

    def __call__(self, indices: Array | slice) -> tuple[Array, ...]:
        """Return what a compiled step takes of some rows: features or entries, targets, weights if there are some."""
        return self._filled(self._laid_out(indices))

    def run(self, step: Step, order: Array) -> float:
        """Make a step with each batch of an order that holds all rows; return the sum of the losses of rows."""
        begin, end, total = 0, self._planned(len(order)), 0.0
        while begin < end:
            count = min(self.stretch, end - begin)
            indices, part = order[begin : begin + count], slice(begin, begin + count)
            dense = self.shuffled and not self.rows.sparse
            arrays = self.rows.all() if dense else self._laid_out(indices if self.shuffled else part)
            rows = indices if dense else None
            total += count * step.run(*arrays, batch_size=self.size, shuffle=False, rows=rows)[0]
            begin += count
        for start in range(begin, len(order), self.size):
            indices = order[start : start + self.size]
            total += len(indices) * step(*self(indices))
        return total

    def _planned(self, count: int) -> int:
        """Return how many of so many rows are in stretches of batches that stay as large as they are."""
        if not self.stretch or (self.largest and self.size < self.largest):
            return 0
        return count // self.size * self.size if self.largest else count

    def _laid_out(self, indices: Array | slice) -> tuple[Array, ...]:
        x, *others = (one[indices] for one in self.rows.all())
        features = padded(x) if self.by_entries else (x.toarray() if self.rows.sparse else x,)
        return (*features, *others)

    def _filled(self, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the arrays of a batch with copies of its last row, of weight 0, up to one of few numbers of rows."""
        count = len(arrays[0])
        more = min(_rounded(count, per_octave=2), self.largest) - count
        if more <= 0:
            return arrays
        *filled, weight = (np.concatenate([one, np.repeat(one[-1:], more, axis=0)]) for one in arrays)
        weight[count:] = 0
        return (*filled, weight)

    def first(self) -> tuple[Array | SparseRows, list[Array]]:
        """Return the features of the first batch to record with, and its targets, and weights if there are some.

        What is recorded stays in memory: of a batch of more than :data:`LAID_OUT_BYTES` it is one entry of each row.
        """
        x, *others = self(slice(self.size))
        if not self.by_entries:
            return x, others
        values, *others = others
        if x.nbytes + values.nbytes > LAID_OUT_BYTES:
            x, values = x[:, :1], values[:, :1]
        return SparseRows(x, values, self.rows.x.shape[1]), others


def batches_of(rows: Rows, size: int, shuffled: bool) -> Batches:
    """Return rows in batches of a size.

    Sparse rows are given by their entries if the features are at least :data:`viva_tensor.train.sparse.CHEAPER` times
    as many as the entries of a batch's fullest row, on average over the batches of an epoch. If all rows then take at
    most :data:`FEW_ZEROS` places for each entry, or up to a quarter more as their number is rounded, many batches are
    laid out at once.
    """
    made = partial(Batches, rows, size, shuffled=shuffled)
    if not rows.sparse:
        return made(by_entries=False, stretch=len(rows))
    counts = np.diff(rows.x.indptr)
    if shuffled:
        counts = np.random.default_rng(0).permutation(counts)  # any order, but always the same
    fullest = np.maximum.reduceat(counts, range(0, len(counts), size))
    features = rows.x.shape[1]
    if features > MOST_FEATURES or features < CHEAPER * max(fullest.mean(), 1):
        return made(by_entries=False, stretch=0)
    width = int(fullest.max())
    if len(rows) * width > FEW_ZEROS * max(rows.x.nnz, len(rows)):
        return made(by_entries=True, stretch=0)
    batch_bytes = 2 * rows.target.itemsize * size * max(width, 1)
    return made(by_entries=True, stretch=size * max(LAID_OUT_BYTES // batch_bytes, 1))


def padded(x: Any) -> tuple[Array, Array]:
    """Return indices and values [rows, places] of the entries of a matrix in CSR form, with 0 in places left over.

    There are a few more places than the fullest row needs, so that few programs are planned for batches that differ.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> indices, values = padded(csr_array([[0.0, 5.0, 6.0], [0.0, 0.0, 0.0], [7.0, 0.0, 0.0]]))
    >>> indices.tolist(), values.tolist()
    ([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]], [[5.0, 6.0], [0.0, 0.0], [7.0, 0.0]])
    """
    counts = np.diff(x.indptr)
    width = _rounded(int(counts.max()), per_octave=4)
    indices, values = x.indices[: x.nnz], x.data[: x.nnz]
    if x.nnz == len(counts) * width:  # of a coder of categories, say
        return indices.reshape(-1, width).astype(x.dtype), values.reshape(-1, width)
    there = np.arange(width) < counts[:, None]
    spread = np.zeros((2, *there.shape), x.dtype)
    spread[0][there], spread[1][there] = indices, values
    return spread[0], spread[1]


def _rounded(count: int, per_octave: int) -> int:
    """Return a number at least as large, and 1, of which there are so many from one power of 2 to the next."""
    unit = 1 << max(count.bit_length() - per_octave.bit_length(), 0)
    return max(-(-count // unit) * unit, 1)
