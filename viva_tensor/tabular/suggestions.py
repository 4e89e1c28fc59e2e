"""Columns that may mean something else: numbers that are categories, and labels alike that are one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular.columns import Categorical, Numeric
from viva_tensor.tabular.data import IndexArray, Table, numbers_of
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.targets import Classes, Target

FEW = 20  # distinct integers that may be the codes of categories
ROWS = 10  # for each of them
GAIN = 0.1  # of the target's variance that categories must explain beyond a curve


def suggestions(
    table: Table, encoding: Encoding, target: Target, values: Float64Array, rows: IndexArray
) -> Sequence[str]:
    """Return a line for the target and each feature that may be meant otherwise.

    These are few distinct integers that may be categories, of a feature if its values, as categories, explain more of
    the target's variance in the training rows than a parabola through them; and labels that are alike.
    """
    labelled = [(target.name, target.labels)] if isinstance(target, Classes) else []
    labelled += [(column.name, column.categories) for column in encoding.columns if isinstance(column, Categorical)]
    notes = [f"{name}: {alike}" for name, labels in labelled if (alike := _alike(labels))]
    if not isinstance(target, Classes) and (count := _few_integers(values[rows])):
        notes.append(
            f"{target.name}: predicted as a number, though the training rows have only {count} values of it; "
            "--task classification predicts them as classes"
        )
    wanted = (
        values[rows][:, None] == np.arange(target.outputs) if isinstance(target, Classes) else values[rows][:, None]
    )
    for column in encoding.columns:
        if not isinstance(column, Numeric) or not pd.api.types.is_integer_dtype(table[column.name]):
            continue
        numbers = numbers_of(table[column.name])[rows]
        count = _few_integers(numbers)
        if count > 2 and _gain(numbers, wanted.astype(np.float64)) > GAIN:
            notes.append(
                f"{column.name}: a number, though the order of its {count} values says little about {target.name}; "
                f"--categorical {column.name!r} treats them as categories"
            )
    return notes


def _alike(labels: Sequence[str]) -> str:
    """Return words about the first two labels that differ in letter case alone, if there are some."""
    known: dict[str, str] = {}
    for label in labels:
        if (other := known.setdefault(label.casefold(), label)) != label:
            return f"{other!r} and {label!r} are learned as two values; write them the same way if they mean one"
    return ""


def _few_integers(values: Float64Array) -> int:
    """Return how many distinct values there are, or 0 if they are many or not whole."""
    present = values[~np.isnan(values)]
    if len(np.unique(present[: 1 << 12])) > FEW:
        return 0
    distinct = np.unique(present)
    whole = bool((distinct == np.floor(distinct)).all())
    return len(distinct) if whole and 1 < len(distinct) <= min(FEW, len(present) // ROWS) else 0


def _gain(numbers: Float64Array, wanted: Float64Array) -> float:
    """Return by how much the share of explained variance grows from a parabola in the numbers to their categories."""
    present = ~np.isnan(numbers)
    numbers, wanted = numbers[present], wanted[present] - wanted[present].mean(axis=0)
    distinct, codes = np.unique(numbers, return_inverse=True)
    counts = np.bincount(codes)[:, None]
    means = np.array([np.bincount(codes, column) for column in wanted.T]).T / counts
    total = float((wanted**2).sum())
    # both are functions of the distinct values, so the curve is fitted to their means
    scaled = (distinct - distinct.mean()) / max(distinct.std(), 1e-300)
    root = np.sqrt(counts)
    curve = np.vander(scaled, 3)
    fitted = curve @ np.linalg.lstsq(curve * root, means * root)[0]
    return float((counts * (means - fitted) ** 2).sum() / total) if total else 0.0
