"""Classes that targets name: text as class numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from viva_tensor.error import InvalidValue

Labels = tuple[str, ...]


def labels_of(y: Any) -> Labels:
    """Return the distinct labels of targets that are text, sorted; none of others.

    Examples
    --------
    >>> labels_of(["b", "a", None, "b"]), labels_of([1.0, 2.0])
    (('a', 'b'), ())
    """
    array = _texts(y)
    return () if array is None else tuple(sorted({str(one) for one in array if not _absent(one)}))


def numbers_of(what: str, y: Any, labels: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the index of each label, NaN where it is missing.

    Raises
    ------
    InvalidValue
        If one is not among the labels.
    """
    array = _texts(y)
    if array is None:
        raise InvalidValue(
            f"targets are numbers, and others are text such as {labels[0]!r}", operation=f"fit on {what}"
        )
    index = {label: float(i) for i, label in enumerate(labels)}
    numbers = np.array([np.nan if _absent(one) else index.get(str(one), -1.0) for one in array])
    unknown = np.flatnonzero(numbers == -1)
    if len(unknown):
        row = int(unknown[0])
        hint = f"wanted one of {', '.join(map(repr, labels[:10]))}"
        raise InvalidValue(f"the target of row {row} is {str(array[row])!r}", operation=f"fit on {what}", hint=hint)
    return numbers


def _texts(y: Any) -> npt.NDArray[Any] | None:
    """Return targets [rows] or [rows, 1] as [rows] if some of them are text."""
    try:  # of a list as objects: as text, NumPy would make a label of what is missing
        array = np.array(y, dtype=object) if isinstance(y, list | tuple) else np.asarray(y)
    except (TypeError, ValueError, RuntimeError):  # which the conversion to numbers tells better
        return None
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    text = array.dtype.kind in "UT" or (array.dtype.kind == "O" and any(isinstance(one, str) for one in array.flat))
    return array if text and array.ndim == 1 else None


def _absent(value: Any) -> bool:
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas' NA
        return True
