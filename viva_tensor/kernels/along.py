"""Extremes and running sums along axes. NaN is the largest and the smallest of all, as in NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.error import InvalidShape
from viva_tensor.kernels import _along
from viva_tensor.kernels.arrays import Array, as_array, axes_of, empty
from viva_tensor.kernels.checks import flag

__all__ = ["cumsum", "cumsum_backward", "max", "min"]


def max(x: ArrayLike, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
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


def min(x: ArrayLike, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
    """Return the smallest element, or the smallest along the given axes; see :func:`max`.

    Examples
    --------
    >>> min([[1.0, 4.0], [3.0, 2.0]], axis=0)
    array([1., 2.], dtype=float32)
    """
    return _extreme("min", x, axis, keepdims)


def cumsum(x: ArrayLike, axis: int = 0) -> Array:
    r"""Return the sums up to each element along an axis, :math:`y_i = \sum_{j \le i} x_j`, added in this order.

    Raises
    ------
    IndexOutOfBounds, InvalidValue, DtypeError
        If x has no such axis; if it is not a whole number; if the dtype is neither float32 nor float64.

    Examples
    --------
    >>> cumsum([1.0, 2.0, 3.0])
    array([1., 3., 6.], dtype=float32)
    """
    return _sums("cumsum", x, axis)


def cumsum_backward(grad: ArrayLike, axis: int = 0) -> Array:
    r"""Return the gradient of :func:`cumsum`, the sums from each element on: :math:`\sum_{j \ge i} g_j`.

    Examples
    --------
    >>> cumsum_backward([1.0, 2.0, 3.0])
    array([6., 5., 3.], dtype=float32)
    """
    return _sums("cumsum_backward", grad, axis)


def check_elements(operation: str, shape: tuple[int, ...], axes: Sequence[int]) -> None:
    """Raise unless there are elements along all axes.

    Examples
    --------
    >>> check_elements("max", (0, 2), (1,))
    """
    if any(shape[i] == 0 for i in axes):
        hint = "give at least one element along each axis"
        raise InvalidShape(f"shape {shape} has none along axes {tuple(axes)}", operation=operation, hint=hint)


def _extreme(operation: str, x: ArrayLike, axis: int | Sequence[int] | None, keepdims: bool) -> Array:
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


def _sums(operation: str, x: ArrayLike, axis: int) -> Array:
    array = as_array(operation, x)
    (axis,) = axes_of(operation, (axis,), array.shape)
    return _along_axis(operation, array, axis, array.shape)


def _along_axis(operation: str, x: Array, axis: int, shape: tuple[int, ...]) -> Array:
    out = empty(operation, shape, x.dtype)
    if out.size:
        inner = math.prod(shape[axis + 1 :])
        _along.along(operation, np.ascontiguousarray(x).reshape(-1, inner), out.reshape(-1, inner), x.shape[axis])
    return out
