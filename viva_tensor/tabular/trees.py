"""Boosted trees as arrays: they predict and are saved without the library that grew them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from viva_tensor.kernels.arrays import Array, Float32Array, Float64Array
from viva_tensor.tabular.data import DataError

TOGETHER = 1 << 18  # rows times trees that are walked at a time
Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Trees:
    """The sum of trees of decisions: of each output, a base and what the leaves that a row falls into hold.

    A row goes to the left of a node if its feature is at most the threshold, else to the right; of a leaf, both are
    itself.

    Attributes
    ----------
    feature, left, right : ndarray of int32 [nodes]
    threshold, value : ndarray of float64 [nodes]
    root, output : ndarray of int32 [trees]
        The node at which each tree begins, and the output that it is a part of.
    base : ndarray of float64 [outputs]
    features : int
        The number of features of a row.
    depth : int
        The most decisions between a root and a leaf.

    Examples
    --------
    >>> whole = np.array
    >>> tree = Trees(
    ...     feature=whole([1, 0, 0]), left=whole([1, 1, 2]), right=whole([2, 1, 2]), threshold=whole([0.5, 0.0, 0.0]),
    ...     value=whole([0.0, -1.0, 2.0]), root=whole([0]), output=whole([0]), base=whole([10.0]), features=2, depth=1,
    ... )
    >>> tree(np.array([[9.0, 0.5], [9.0, 0.6]], np.float32)).tolist()
    [[9.0], [12.0]]
    """

    feature: Int32Array
    left: Int32Array
    right: Int32Array
    threshold: Float64Array
    value: Float64Array
    root: Int32Array
    output: Int32Array
    base: Float64Array
    features: int
    depth: int

    @classmethod
    def constant(cls, base: Float64Array, features: int) -> Self:
        """Return no trees, only a base of each output."""
        no, nothing = np.zeros(0, np.int32), np.zeros(0)
        return cls(no, no, no, nothing, nothing, no, no, np.asarray(base, np.float64), features, 0)

    def leaves(self, x: Float32Array) -> Float64Array:
        """Return what the leaf of each tree holds that a row falls into, [rows, trees], for x [rows, features]."""
        node = np.broadcast_to(self.root, (len(x), len(self.root)))
        rows = np.arange(len(x))[:, None]
        for _ in range(self.depth):
            node = np.where(x[rows, self.feature[node]] <= self.threshold[node], self.left[node], self.right[node])
        return self.value[node]

    def __call__(self, x: Float32Array) -> Float64Array:
        """Return outputs [rows, outputs] for features x [rows, features]; rows beside a row do not change its bits."""
        block = max(1, TOGETHER // max(1, len(self.root)))
        return np.concatenate([self._block(x[start : start + block]) for start in range(0, max(len(x), 1), block)])

    def _block(self, x: Float32Array) -> Float64Array:
        leaves, outputs = self.leaves(x), np.empty((len(x), len(self.base)))
        for output, base in enumerate(self.base):
            terms = np.column_stack([np.full(len(x), base), leaves[:, self.output == output]])
            outputs[:, output] = np.cumsum(terms, axis=1)[:, -1]  # one after another; a product's order is BLAS's own
        return outputs

    def scaled(self, factor: float) -> Trees:
        """Return trees whose outputs are a multiple."""
        return replace(self, value=self.value * factor, base=self.base * factor)

    def of_columns(self, columns: npt.NDArray[np.intp], features: int) -> Trees:
        """Return trees that find each of their features in a column of more features."""
        return replace(self, feature=columns[self.feature].astype(np.int32), features=features)

    def arrays(self) -> dict[str, Array]:
        """Return all that there is by name, as arrays."""
        return {one.name: np.asarray(getattr(self, one.name)) for one in fields(self)}


def sum_of(several: Sequence[Trees]) -> Trees:
    """Return trees whose outputs are the sum of those of others, which have the same features and outputs."""
    begins = np.cumsum([0, *(len(one.value) for one in several)])
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(one, name) for one in several])
        for name in ("feature", "threshold", "value", "output")
    }
    for name in ("left", "right", "root"):
        moved = [getattr(one, name) + begin for one, begin in zip(several, begins, strict=False)]
        joined[name] = np.concatenate(moved).astype(np.int32)
    base = np.sum([one.base for one in several], axis=0)
    return Trees(**joined, base=base, features=several[0].features, depth=max(one.depth for one in several))


def trees_of(arrays: Mapping[str, Array]) -> Trees:
    """Return the trees that :meth:`Trees.arrays` described.

    Raises
    ------
    DataError
        If they are not whole: an array is missing, or of another type or length, or an index points nowhere.

    Examples
    --------
    >>> none = Trees.constant(np.array([2.0]), features=1)
    >>> trees_of(none.arrays())(np.zeros((1, 1), np.float32)).tolist()
    [[2.0]]
    """
    names = {one.name: np.float64 if one.name in ("threshold", "value", "base") else np.int32 for one in fields(Trees)}
    numbers = ("features", "depth")
    given = {name: arrays[name] for name in names if name in arrays and (arrays[name].ndim == 0) == (name in numbers)}
    if set(given) != set(names) or any(
        not np.issubdtype(array.dtype, np.integer if names[name] is np.int32 else names[name])
        for name, array in given.items()
    ):
        raise DataError(f"trees need arrays {', '.join(names)}")
    whole: dict[str, Any] = {name: int(one) if name in numbers else one for name, one in given.items()}
    made = Trees(**whole)
    nodes, count = len(made.value), len(made.root)
    lengths = dict.fromkeys(("feature", "left", "right", "threshold", "value"), nodes) | {"output": count}
    for name, length in lengths.items():
        if len(given[name]) != length:
            raise DataError(f"trees of {nodes:,} nodes and {count:,} roots hold {len(given[name]):,} of {name}")
    bounds = {"feature": made.features, "left": nodes, "right": nodes, "root": nodes, "output": len(made.base)}
    for name, bound in bounds.items():
        if len(given[name]) and not (given[name].min() >= 0 and given[name].max() < bound):
            raise DataError(f"trees hold an index of {name} that is not below {bound:,}")
    if not 0 <= made.depth <= max(nodes, 1):
        raise DataError(f"trees of {nodes:,} nodes cannot be {made.depth:,} deep")
    return made
