"""Checks of numbers that callers give. A bool does not count as a number: where one belongs, a bool is a mistake."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np

from viva_tensor.error import InvalidValue


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    if value.__class__ is float:  # abstract classes cost as much as a small kernel
        return math.isfinite(value)
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int beyond float64
        return False


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number by its type."""
    return value.__class__ is int or (isinstance(value, Integral) and not isinstance(value, bool))


def flag(operation: str, name: str, value: Any) -> bool:
    """Return True or False, given as such, as NumPy's bool or as 1 or 0; the text "False" or an array is a mistake."""
    if value.__class__ is bool or (isinstance(value, Integral | np.bool_) and value in (0, 1)):
        return bool(value)
    raise InvalidValue(f"{name}={shown(value)}, wanted True or False", operation=operation)


def is_true(value: object) -> bool:
    """Return whether a value is True, Python's or NumPy's: what a function returns by chance is not.

    Examples
    --------
    >>> is_true(np.float64(1) < 2), is_true("yes"), is_true(1)
    (True, False, False)
    """
    return isinstance(value, bool | np.bool_) and bool(value)


def is_step_count(steps: Any, least: int = 0) -> bool:
    """Return whether a value is a number of steps, without abstract classes, which cost as much as a small kernel."""
    return isinstance(steps, (int, np.integer)) and steps.__class__ is not bool and bool(least <= steps < 1 << 62)


def real(operation: str, name: str, value: Any) -> float:
    """Return a number as a float; infinities and NaN pass."""
    try:
        if isinstance(value, Real) and not isinstance(value, bool):
            return float(value)
    except OverflowError:  # an int beyond float64
        pass
    raise InvalidValue(f"{name}={shown(value)}, wanted a number", operation=operation, hint="give a float")


def shown(value: Any) -> str:
    """Return a value as messages show it; Python refuses to write out an int of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an int of {value.bit_length()} bits"
    try:
        return repr(value)
    except ValueError:  # it contains such an int
        return f"a {type(value).__name__} of numbers too long to show"


def is_iterable(value: Any) -> bool:
    """Return whether a value can be iterated over; an array without axes claims that it can, but cannot."""
    return isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0


def check_number(
    operation: str, name: str, value: Any, wanted: str, fits: Callable[[float], bool], hint: str = ""
) -> Any:
    """Return the value, or raise unless it is a finite number that fits."""
    if not (is_number(value) and fits(float(value))):
        raise InvalidValue(f"{name}={shown(value)}, wanted {wanted}", operation=operation, hint=hint)
    return value


def check_count(operation: str, name: str, value: Any, least: int = 1) -> int:
    """Return a whole number of at least this as an int, whose sums do not overflow as those of NumPy's integers do."""
    wanted = f"a whole number of at least {least}"
    return int(check_number(operation, name, value, wanted, lambda number: is_whole(value) and number >= least))


def positive(operation: str, name: str, value: Any, hint: str = "") -> Any:
    """Return the value, or raise unless it is a number above 0."""
    return check_number(operation, name, value, "a number above 0", lambda number: number > 0, hint)


def at_least_0(operation: str, name: str, value: Any) -> Any:
    """Return the value, or raise unless it is a number of at least 0."""
    return check_number(operation, name, value, "a number of at least 0", lambda number: number >= 0)


def share(operation: str, name: str, value: Any, hint: str = "") -> None:
    """Raise unless the value is a share that a running mean may keep of itself, from 0 up to but not including 1."""
    check_number(operation, name, value, f"0 ≤ {name} < 1", lambda number: 0 <= number < 1, hint)


def generator(operation: str, rng: object) -> np.random.Generator:
    """Return ``rng``, or a new generator with fresh entropy for None; raise if it is neither."""
    if rng is None:
        return np.random.default_rng()
    if not isinstance(rng, np.random.Generator):
        raise InvalidValue(
            f"rng is {type(rng).__name__}, wanted a numpy.random.Generator",
            operation=operation,
            hint="pass rng=np.random.default_rng(seed)",
        )
    return rng
