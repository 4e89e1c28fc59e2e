"""Parts of the rows of a table, each of which one of several networks is trained without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from viva_tensor.kernels.arrays import Float32Array
from viva_tensor.tabular.data import IndexArray
from viva_tensor.tabular.features import Features
from viva_tensor.tabular.packed import in_blocks

LEAST_KINDS = 150  # of rows; of fewer some part would have none, or tell too little


def copies_among(rows: IndexArray, features: Features) -> IndexArray | None:
    """Return for each of some rows the first among them with the same features, or None if no rows are copies.

    Rows that are alike are no copies if any two of them differ in their targets, nor where there are few kinds of rows,
    as in tables of few categories: such rows will come again.

    Examples
    --------
    >>> import pandas as pd
    >>> from viva_tensor.distributed import Ranks
    >>> from viva_tensor.tabular import Task
    >>> from viva_tensor.tabular.features import encoded
    >>> from viva_tensor.tabular.preparing import prepare
    >>> from viva_tensor.train import Settings
    >>> table = pd.DataFrame({"x": [*range(200), 7], "y": [*range(200), 7]})
    >>> with encoded(prepare(table, Task("y", test_fraction=0), Settings()), None, Ranks(None), None) as features:
    ...     copies_among(np.arange(201), features)[[7, 8, 200]].tolist()
    [7, 8, 7]
    """
    unbinned = features.prepared.encoding.unbinned
    factors = np.random.default_rng(0).integers(1 << 63, size=len(unbinned), dtype=np.uint64) * 2 + 1

    def hashed(x: Float32Array) -> npt.NDArray[np.uint64]:
        hashes: npt.NDArray[np.uint64] = x[:, unbinned].view(np.uint32) @ factors
        return hashes

    _, first, kind = np.unique(in_blocks(hashed, features.x, rows), return_index=True, return_inverse=True)
    firsts = rows[first[kind]]
    alike = bool((features.y[rows] == features.y[firsts]).all())
    return firsts if LEAST_KINDS <= len(first) < len(rows) and alike else None


def parts_of(
    rows: IndexArray, count: int, seed: int, classes: Float32Array | None, firsts: IndexArray | None = None
) -> list[IndexArray]:
    """Return the rows in parts of equal size at random, each with its share of each class.

    Rows that are copies, which have the same one in `firsts`, are in one part: else networks would be judged by rows
    that they know. Parts also have their shares of rows with as many copies.

    Examples
    --------
    >>> sorted(map(len, parts_of(np.arange(7), 3, seed=0, classes=None)))
    [2, 2, 3]
    >>> parts = parts_of(np.arange(4), 2, seed=0, classes=None, firsts=np.array([0, 1, 1, 0]))
    >>> sorted(part.tolist() for part in parts)
    [[0, 3], [1, 2]]
    """
    alone, counts = (rows, None) if firsts is None else np.unique(firsts, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(alone))
    if counts is not None:
        order = order[np.argsort(counts[order], kind="stable")]
    if classes is not None:
        order = order[np.argsort(classes[alone[order]], kind="stable")]
    parts = [alone[order[number::count]] for number in range(count)]
    return parts if firsts is None else [rows[np.isin(firsts, part)] for part in parts]


def all_but(parts: Sequence[IndexArray], number: int) -> IndexArray:
    """Return the rows of all parts but one.

    Examples
    --------
    >>> all_but([np.array([1, 2]), np.array([0]), np.array([3])], 1).tolist()
    [1, 2, 3]
    """
    return np.concatenate([part for i, part in enumerate(parts) if i != number])
