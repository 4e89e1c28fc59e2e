"""Parts of the rows of a table, each of which one of several networks is trained without."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapreplace

import numpy as np
import numpy.typing as npt

from viva_tensor.kernels.arrays import Float32Array
from viva_tensor.tabular.data import DataError, IndexArray, number_of
from viva_tensor.tabular.features import Features
from viva_tensor.tabular.packed import in_blocks
from viva_tensor.tabular.targets import Classes

LEAST_KINDS = 150  # of rows; of fewer a part would tell too little
KINDS_OF_PART = 5  # at least, in the mean
FEW_COPIES = 0.01  # of the rows; of fewer, what networks are judged by says the same with them or without


def parts_of_table(features: Features, count: int, seed: int) -> list[IndexArray]:
    """Return the training and validation rows of a table in parts, as :func:`parts_of` does, copies together.

    Raises
    ------
    DataError
        If there are fewer rows than parts.

    Examples
    --------
    See :class:`viva_tensor.tabular.members.Members`, each network of which is trained without one of them.
    """
    rows = features.prepared.split.given
    if len(rows) < count:
        raise DataError(f"{len(rows)} rows cannot be in {count} parts; give Settings for one network, or fewer parts")
    classes = features.y if isinstance(features.prepared.target, Classes) else None
    return parts_of(rows, count, seed, classes, copies_among(rows, features))


def copies_in_test(features: Features) -> str:
    """Return how many test rows are copies of rows to learn from, if some are."""
    given, test = features.prepared.split.given, features.prepared.split.test
    firsts = copies_among(np.concatenate([given, test]), features) if len(test) else None
    known = 0 if firsts is None else int(np.isin(firsts[len(given) :], firsts[: len(given)]).sum())
    told = f"{known:,} of {number_of(len(test), 'test row')} are copies of rows that are trained on"
    return f"{told}; errors on new rows may be larger" if known else ""


def copies_among(rows: IndexArray, features: Features) -> IndexArray | None:
    """Return for each of some rows the first among them with the same features, or None if no rows are copies.

    Rows that are alike are no copies if any two of them differ in their targets, nor where there are few kinds of rows,
    as in tables of few categories: such rows will come again. Nor are fewer than one row in a hundred.

    Examples
    --------
    >>> import pandas as pd
    >>> from viva_tensor.distributed import Ranks
    >>> from viva_tensor.tabular import Task
    >>> from viva_tensor.tabular.features import encoded
    >>> from viva_tensor.tabular.preparing import prepare
    >>> from viva_tensor.train import Settings
    >>> table = pd.DataFrame({"x": [*range(200), 7, 8, 9], "y": [*range(200), 7, 8, 9]})
    >>> with encoded(prepare(table, Task("y", test_fraction=0), Settings()), None, Ranks(None), None) as features:
    ...     copies_among(np.arange(203), features)[[7, 8, 200]].tolist()
    [7, 8, 7]
    """
    unbinned = features.prepared.encoding.unbinned
    factors = np.random.default_rng(0).integers(1 << 63, size=len(unbinned), dtype=np.uint64) * 2 + 1

    def hashed(x: Float32Array) -> npt.NDArray[np.uint64]:
        hashes: npt.NDArray[np.uint64] = x[:, unbinned].view(np.uint32) @ factors
        return hashes

    return firsts_among(rows, in_blocks(hashed, features.x, rows), features.y)


def firsts_among(
    rows: IndexArray, kinds: npt.NDArray[np.uint64], targets: npt.NDArray[np.floating]
) -> IndexArray | None:
    """Return for each of some rows the first among them of its kind, or None if they are no copies.

    See :func:`copies_among`; `targets` are those of all rows.

    Examples
    --------
    >>> kinds = np.append(np.arange(200), [7, 8, 9]).astype(np.uint64)
    >>> firsts_among(np.arange(203), kinds, kinds.astype(float))[[7, 8, 200]].tolist()
    [7, 8, 7]
    """
    _, first, kind = np.unique(kinds, return_index=True, return_inverse=True)
    firsts = rows[first[kind]]
    alike = bool((targets[rows] == targets[firsts]).all())
    return firsts if LEAST_KINDS <= len(first) <= (1 - FEW_COPIES) * len(rows) and alike else None


def parts_of(
    rows: IndexArray, count: int, seed: int, classes: Float32Array | None, firsts: IndexArray | None = None
) -> list[IndexArray]:
    """Return the rows in parts of equal size at random, each with its share of each class.

    Rows that are copies, which have the same one in `firsts`, are in one part: else networks would be judged by rows
    that they know. Parts are then as equal as these leave them. Rows of more copies than half a part has are in all
    parts, and so are all copies if there are fewer than five kinds of rows for each part.

    Examples
    --------
    >>> sorted(map(len, parts_of(np.arange(7), 3, seed=0, classes=None)))
    [2, 2, 3]
    >>> firsts = np.arange(30) // 3 * 3
    >>> one, other = parts_of(np.arange(30), 2, seed=0, classes=None, firsts=firsts)
    >>> len(one), len(other), np.intersect1d(firsts[one], firsts[other]).size
    (15, 15, 0)
    """
    together = None if firsts is None else _together(rows, firsts, count)
    alone, sizes = (rows, None) if together is None else np.unique(together, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(alone))
    if sizes is not None:
        order = order[np.argsort(-sizes[order], kind="stable")]
    if classes is not None:
        order = order[np.argsort(classes[alone[order]], kind="stable")]
    if together is None or sizes is None:
        return [alone[order[number::count]] for number in range(count)]
    ends = np.flatnonzero(np.diff(np.zeros(len(order)) if classes is None else classes[alone[order]])) + 1
    dealt = _dealt(np.split(sizes[order], ends), count)
    return [rows[np.isin(together, alone[order[dealt == number]])] for number in range(count)]


def _together(rows: IndexArray, firsts: IndexArray, count: int) -> IndexArray | None:
    """Return the first row of those that each row is to be in one part with, or None if that suits no such parts."""
    kinds, kind, sizes = np.unique(firsts, return_inverse=True, return_counts=True)
    if len(kinds) < KINDS_OF_PART * count:
        return None
    return np.where(sizes[kind] > len(rows) / (2 * count), rows, firsts)


def _dealt(classes: Sequence[IndexArray], count: int) -> IndexArray:
    """Return the part of each kind of rows, of each class by falling size: that which has fewest of the class so far.

    Of several that with the fewest rows; so kinds of one size are dealt in turn.
    """
    rows, dealt = [0] * count, []
    for sizes in classes:
        smallest = sorted((0, own, number) for number, own in enumerate(rows))  # which is a heap
        for size in sizes.tolist():
            of_class, own, number = smallest[0]
            heapreplace(smallest, (of_class + size, own + size, number))
            dealt.append(number)
        for _, own, number in smallest:
            rows[number] = own
    return np.array(dealt)


def all_but(parts: Sequence[IndexArray], number: int) -> IndexArray:
    """Return the rows of all parts but one.

    Examples
    --------
    >>> all_but([np.array([1, 2]), np.array([0]), np.array([3])], 1).tolist()
    [1, 2, 3]
    """
    return np.concatenate([part for i, part in enumerate(parts) if i != number])
