"""Sums and means over axes, in an order that depends on shapes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.kernels import _sums, _updates
from viva_tensor.kernels._broadcasting import broadcast_into, sum_axes
from viva_tensor.kernels.arrays import UNSUITABLE, Array, Axes, as_array, as_arrays, axes_of, empty, same_shape
from viva_tensor.kernels.checks import flag
from viva_tensor.kernels.elementwise import mul, scale

__all__ = ["mean", "mean_backward", "sum", "sum_backward", "sum_of_squares", "sum_of_squares_backward"]


def sum(x: ArrayLike, axis: Axes = None, keepdims: bool = False) -> Array:
    """Sum all elements, or along the given axes, in an order that depends on the shape alone.

    Parameters
    ----------
    x : array_like, float32 or float64
    axis : int or sequence of int, optional
        All axes by default. Negative numbers count from the last.
    keepdims : bool
        Whether to keep summed axes, with size 1.

    Returns
    -------
    ndarray
        0-d if all axes are summed. The sum of nothing is 0.

    Raises
    ------
    IndexOutOfBounds
        If x has no such axis.
    DimensionError
        If an axis is named twice.
    InvalidValue
        If an axis is not a whole number.
    DtypeError
        If the dtype is neither float32 nor float64.

    Examples
    --------
    >>> sum([[1.0, 2.0], [3.0, 4.0]], axis=0)
    array([4., 6.], dtype=float32)
    """
    if keepdims is False and (axis is None or (axis.__class__ is int and axis == 0)):
        try:
            return _sums.sum_all(x) if axis is None else _sums.sum_rows(x)
        except UNSUITABLE:
            pass
    return _sum("sum", x, axis, keepdims, divide=False)


def sum_backward(grad: ArrayLike, shape: Sequence[int], axis: Axes = None, keepdims: bool = False) -> Array:
    """Return the gradient of :func:`sum`: ``grad`` repeated along the summed axes.

    Examples
    --------
    >>> sum_backward([1.0, 2.0], (2, 2), axis=0)
    array([[1., 2.],
           [1., 2.]], dtype=float32)
    """
    return _sum_backward("sum_backward", grad, shape, axis, keepdims, divide=False)


def sum_of_squares(x: ArrayLike) -> Array:
    r"""Sum the squares of all elements, :math:`\sum x^2`, in an order that depends on their number alone.

    Parameters
    ----------
    x : array_like, float32 or float64

    Returns
    -------
    ndarray
        0-d. Squares are added in the dtype of x, without rounding each of them first.

    Raises
    ------
    DtypeError
        If the dtype is neither float32 nor float64.

    Examples
    --------
    >>> sum_of_squares([3.0, 4.0])
    array(25., dtype=float32)
    """
    return sum(chunk_squares("sum_of_squares", x))


def sum_of_squares_backward(grad: ArrayLike, x: ArrayLike) -> Array:
    """Return the gradient of :func:`sum_of_squares`, 2 · grad · x.

    Raises
    ------
    ShapeMismatch
        If grad is not a single number.

    Examples
    --------
    >>> sum_of_squares_backward(0.5, [3.0, 4.0])
    array([3., 4.], dtype=float32)
    """
    grad, x = as_arrays("sum_of_squares_backward", grad, x)
    same_shape("sum_of_squares_backward", (), grad.shape, "the gradient of a sum over all elements is one number")
    return mul(x, scale(grad, 2.0))


def chunk_squares(operation: str, x: ArrayLike) -> Array:
    """Return the sum of the squares of each chunk of x, of which there are as many as its size wants.

    Examples
    --------
    >>> chunk_squares("norm", [3.0, 4.0])
    array([25.], dtype=float32)
    """
    try:
        return _updates.chunk_squares(x)
    except UNSUITABLE:
        return _updates.chunk_squares(np.ascontiguousarray(as_array(operation, x)))


def mean(x: ArrayLike, axis: Axes = None, keepdims: bool = False) -> Array:
    """Return the mean of all elements, or along the given axes; the mean of nothing is NaN.

    Parameters, result and errors are those of :func:`sum`.

    Examples
    --------
    >>> mean([[1.0, 2.0], [3.0, 4.0]])
    array(2.5, dtype=float32)
    """
    if keepdims is False and axis is None:
        try:
            return _sums.sum_all(x, x.size)  # type: ignore[union-attr]
        except UNSUITABLE:
            pass
    return _sum("mean", x, axis, keepdims, divide=True)


def mean_backward(grad: ArrayLike, shape: Sequence[int], axis: Axes = None, keepdims: bool = False) -> Array:
    """Return the gradient of :func:`mean`: that of :func:`sum`, divided by the number of elements that were averaged.

    Examples
    --------
    >>> mean_backward(1.0, (2,))
    array([0.5, 0.5], dtype=float32)
    """
    return _sum_backward("mean_backward", grad, shape, axis, keepdims, divide=True)


def _sum(operation: str, x: ArrayLike, axis: Axes, keepdims: bool, divide: bool) -> Array:
    array = as_array(operation, x)
    axes = axes_of(operation, axis, array.shape)
    divisor = math.prod([array.shape[i] for i in axes]) if divide else 1
    result = sum_axes(array, axes, divisor)
    if flag(operation, "keepdims", keepdims):
        return result.reshape([1 if i in axes else size for i, size in enumerate(array.shape)])
    return result


def _sum_backward(
    operation: str,
    grad: ArrayLike,
    shape: Sequence[int],
    axis: Axes,
    keepdims: bool,
    divide: bool,
) -> Array:
    grad = as_array(operation, grad)
    shape = tuple(shape)
    axes = axes_of(operation, axis, shape)
    kept = tuple(1 if i in axes else size for i, size in enumerate(shape))
    dropped = tuple(size for i, size in enumerate(shape) if i not in axes)
    wanted = kept if flag(operation, "keepdims", keepdims) else dropped
    same_shape(operation, wanted, grad.shape, "grad has the shape of the sum")
    count = math.prod(shape[i] for i in axes)
    out = empty(operation, shape, grad.dtype)
    broadcast_into(grad.reshape(kept), 1 / count if divide and count else 1, out)
    return out
