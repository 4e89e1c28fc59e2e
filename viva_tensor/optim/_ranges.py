"""Checks of hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from viva_tensor.error import InvalidValue

__all__ = ["at_least_0", "check_count", "check_number", "positive", "share"]


def check_number(
    operation: str, name: str, value: Any, wanted: str, fits: Callable[[float], bool], mend: str = ""
) -> None:
    """Raise unless the value is a finite number that fits."""
    if not (isinstance(value, Real) and math.isfinite(value) and fits(float(value))):
        raise InvalidValue(f"{name}={value!r}, wanted {wanted}", operation=operation, mend=mend)


def check_count(operation: str, name: str, value: Any) -> None:
    """Raise unless the value is a whole number of at least 1."""
    whole = isinstance(value, Integral)
    check_number(operation, name, value, "a whole number of at least 1", lambda number: whole and number >= 1)


def positive(operation: str, name: str, value: Any, mend: str = "") -> None:
    """Raise unless the value is a number above 0."""
    check_number(operation, name, value, "a number above 0", lambda number: number > 0, mend)


def at_least_0(operation: str, name: str, value: Any) -> None:
    """Raise unless the value is a number of at least 0."""
    check_number(operation, name, value, "a number of at least 0", lambda number: number >= 0)


def share(operation: str, name: str, value: Any, mend: str = "") -> None:
    """Raise unless the value is what a running mean keeps of itself, from 0 up to but not including 1."""
    check_number(operation, name, value, f"0 ≤ {name} < 1", lambda number: 0 <= number < 1, mend)
