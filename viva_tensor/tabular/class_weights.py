"""How much rows of each class of a table count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.kernels.checks import is_number
from viva_tensor.tabular.data import DataError, label_of
from viva_tensor.tabular.labels import index_among
from viva_tensor.tabular.targets import Classes, Target

BALANCED = "balanced"
SHOWN = 10  # classes that are named


class ClassWeights(NamedTuple):
    """The weight of rows of each class, by its index among the labels; as a string, what a person should know of it."""

    labels: tuple[str, ...]
    weights: Float64Array

    def of_rows(self, values: Float64Array) -> Float64Array:
        """Return the weights of rows by the indices of their classes; of NaN that of some class."""
        found: Float64Array = self.weights[np.where(np.isfinite(values), values, 0).astype(int)]
        return found

    def __str__(self) -> str:
        pairs = zip(self.labels, self.weights, strict=True)
        each = _some([f"{label} {weight:.4g}" for label, weight in pairs])
        return f"rows of a class count as {each}: probabilities are those of a table with that many"


def weights_of_classes(
    given: str | Mapping[Any, float], target: Target, values: Float64Array, rows: Float64Array | None = None
) -> ClassWeights:
    """Return the weight of each class of a target, by what a user says, the indices of the classes and rows' weights.

    Raises
    ------
    DataError
        If the target is a number, a label is none of its own or given twice, or a weight is not a number above 0.

    Examples
    --------
    >>> print(weights_of_classes({"Fair": 3}, Classes("cut", ("Fair", "Ideal")), np.array([0.0, 1.0, 1.0, 1.0])))
    rows of a class count as Fair 3, Ideal 1: probabilities are those of a table with that many
    """
    if not isinstance(target, Classes):
        hint = "to predict classes, give --task classification (in Python, kind='class')"
        raise DataError(f"class weights are for classes, and {target.name!r} is learned as a number; {hint}")
    if not isinstance(given, Mapping):
        if not (isinstance(given, str) and given == BALANCED):
            raise DataError(f"class_weight={given!r}, wanted {BALANCED!r} or a weight for each label")
        counts = np.bincount(values.astype(int), rows, minlength=target.outputs)
        total = len(values) if rows is None else rows.sum()
        return ClassWeights(target.labels, total / (target.outputs * np.where(counts > 0, counts, 1)))
    index, named = index_among(target.labels), {}
    for value, weight in given.items():
        label = label_of(value)
        named[target.labels[index(label)] if index(label) >= 0 else label] = weight
    if len(named) < len(given):
        raise DataError(f"class_weight={given!r} names a class twice; the classes named are {', '.join(named)}")
    unknown = [label for label in named if label not in target.labels]
    if unknown:
        labels = _some([repr(label) for label in target.labels])
        raise DataError(f"a class weight for {unknown[0]!r}; the classes of {target.name!r} are {labels}")
    for label, weight in named.items():
        if not (is_number(weight) and 0 < weight < np.inf):
            hint = "; leave the rows of that class out" if is_number(weight) and weight == 0 else ""
            raise DataError(f"the class weight of {label!r} is {weight!r}, wanted a number above 0{hint}")
    return ClassWeights(target.labels, np.array([float(named.get(label, 1.0)) for label in target.labels]))


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:SHOWN]) + (", ..." if len(words) > SHOWN else "")
