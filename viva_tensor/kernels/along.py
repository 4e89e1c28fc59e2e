"""Extremes and running sums along axes. NaN is the largest and the smallest of all, as in NumPy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.error import IndexOutOfBounds, InvalidShape, InvalidValue
from viva_tensor.kernels import _along
from viva_tensor.kernels.arrays import Array, Axes, Whole, as_array, axes_of, empty
from viva_tensor.kernels.checks import flag, is_iterable, is_whole, shown

__all__ = ["cumsum", "cumsum_backward", "max", "min"]


def max(x: ArrayLike, axis: Axes = None, keepdims: bool = False) -> Array:
    """Return the largest element, or the largest along the given axes.

    Parameters
    ----------
    x : array_like, float32 or float64
    axis : int or sequence of int, optional
        All axes by default. Negative numbers count from the last.
    keepdims : bool
        Whether to keep reduced axes, with size 1.

    Returns
    -------
    ndarray
        0-d if all axes are reduced.

    Raises
    ------
    InvalidShape
        If there is nothing to choose from.
    IndexOutOfBounds, DimensionError, InvalidValue, DtypeError
        As :func:`sum`.

    Examples
    --------
    >>> max([[1.0, 4.0], [3.0, 2.0]], axis=0)
    array([3., 4.], dtype=float32)
    """
    return _extreme("max", x, axis, keepdims)


def min(x: ArrayLike, axis: Axes = None, keepdims: bool = False) -> Array:
    """Return the smallest element, or the smallest along the given axes; see :func:`max`.

    Examples
    --------
    >>> min([[1.0, 4.0], [3.0, 2.0]], axis=0)
    array([1., 2.], dtype=float32)
    """
    return _extreme("min", x, axis, keepdims)


def cumsum(x: ArrayLike, axis: Whole = 0, starts: Sequence[int] = ()) -> Array:
    r"""Return the sums up to each element along an axis, :math:`y_i = \sum_{s \le j \le i} x_j`, added in this order.

    Parameters
    ----------
    x : array_like, float32 or float64
    axis : int
    starts : sequence of int
        Where sums begin anew, in ascending order: s is the last of them up to i, or 0.

    Raises
    ------
    IndexOutOfBounds, InvalidValue, DtypeError
        If x has no such axis, or nothing to start at; if that is not a whole number, or starts do not ascend; if the
        dtype is neither float32 nor float64.

    Examples
    --------
    >>> cumsum([1.0, 2.0, 3.0])
    array([1., 3., 6.], dtype=float32)
    >>> cumsum([1.0, 2.0, 3.0, 4.0], starts=[2])
    array([1., 3., 3., 7.], dtype=float32)
    """
    return _sums("cumsum", x, axis, starts)


def cumsum_backward(grad: ArrayLike, axis: Whole = 0, starts: Sequence[int] = ()) -> Array:
    r"""Return the gradient of :func:`cumsum`, the sums from each element to the next start: :math:`\sum_{j \ge i} g_j`.

    Examples
    --------
    >>> cumsum_backward([1.0, 2.0, 3.0])
    array([6., 5., 3.], dtype=float32)
    """
    return _sums("cumsum_backward", grad, axis, starts)


def as_starts(operation: str, starts: Sequence[int], size: int) -> tuple[int, ...]:
    """Return where sums along an axis of so many elements begin anew, checked.

    Examples
    --------
    >>> as_starts("cumsum", np.array([0, 2]), 3)
    (0, 2)
    """
    if not is_iterable(starts):
        hint = "give whole numbers in ascending order, such as (2, 5)"
        raise InvalidValue(f"starts={starts!r}", operation=operation, hint=hint)
    numbers = tuple(starts)
    for last, one in itertools.pairwise((-1, *numbers)):
        if not is_whole(one) or one <= last:
            hint = "give strictly ascending whole numbers from 0 on"
            before = f" follows {shown(last)}" if last >= 0 else ""
            raise InvalidValue(f"the start {shown(one)}{before}", operation=operation, hint=hint)
        if one >= size:
            hint = "sums begin anew at elements that there are"
            raise IndexOutOfBounds(int(one), size, operation=operation, hint=hint)
    return tuple(map(int, numbers))


def check_elements(operation: str, shape: tuple[int, ...], axes: Sequence[int]) -> None:
    """Raise unless there are elements along all axes.

    Examples
    --------
    >>> check_elements("max", (0, 2), (1,))
    """
    if any(shape[i] == 0 for i in axes):
        hint = "give at least one element along each axis"
        raise InvalidShape(f"shape {shape} has none along axes {tuple(axes)}", operation=operation, hint=hint)


def _extreme(operation: str, x: ArrayLike, axis: Axes, keepdims: bool) -> Array:
    array = as_array(operation, x)
    axes = axes_of(operation, axis, array.shape)
    check_elements(operation, array.shape, axes)
    kept = tuple(1 if i in axes else size for i, size in enumerate(array.shape))
    for i in axes:
        array = _along_axis(operation, array, i, (*array.shape[:i], 1, *array.shape[i + 1 :]))
    if not axes:
        array = array.copy()
    dropped = tuple(size for i, size in enumerate(kept) if i not in axes)
    return array.reshape(kept if flag(operation, "keepdims", keepdims) else dropped)


def _sums(operation: str, x: ArrayLike, axis: Whole, starts: Sequence[int]) -> Array:
    array = as_array(operation, x)
    (axis,) = axes_of(operation, (axis,), array.shape)
    return _along_axis(operation, array, axis, array.shape, as_starts(operation, starts, array.shape[axis]))


def _along_axis(operation: str, x: Array, axis: int, shape: tuple[int, ...], starts: tuple[int, ...] = ()) -> Array:
    out = empty(operation, shape, x.dtype)
    if out.size:
        inner = math.prod(shape[axis + 1 :])
        rows, result = np.ascontiguousarray(x).reshape(-1, inner), out.reshape(-1, inner)
        _along.along(operation, rows, result, x.shape[axis], np.array(starts, np.intp))
    return out
