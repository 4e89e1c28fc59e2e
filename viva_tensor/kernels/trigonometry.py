"""Sine and cosine, each followed by its backward pass."""

from __future__ import annotations

from numpy.typing import ArrayLike

from viva_tensor.kernels._broadcasting import unary
from viva_tensor.kernels.arrays import Array, as_arrays, same_shape
from viva_tensor.kernels.elementwise import mul, scale

__all__ = ["cos", "cos_backward", "sin", "sin_backward"]


def sin(x: ArrayLike, out: Array | None = None) -> Array:
    """Return the sine of angles in radians, within 2 units in the last place; NaN of infinite ones.

    Angles up to 10⁴ in float32, 10⁶ in float64 are reduced by multiples of π/2 in parts [1]_; beyond, each element is
    computed by the C library.

    References
    ----------
    .. [1] W. J. Cody and W. M. Waite, Software Manual for the Elementary Functions, Prentice-Hall 1980.

    Examples
    --------
    >>> sin([0.0, 1.0]).round(4)
    array([0.    , 0.8415], dtype=float32)
    """
    return unary("sin", x, out)


def sin_backward(grad: ArrayLike, x: ArrayLike) -> Array:
    """Return the gradient of :func:`sin` at x, grad · cos(x).

    Examples
    --------
    >>> sin_backward([2.0], [0.0])
    array([2.], dtype=float32)
    """
    grad, x = as_arrays("sin_backward", grad, x)
    same_shape("sin_backward", x.shape, grad.shape, "give one gradient for each element")
    return mul(grad, cos(x))


def cos(x: ArrayLike, out: Array | None = None) -> Array:
    """Return the cosine of angles in radians, within 2 units in the last place; see :func:`sin`.

    Examples
    --------
    >>> cos([0.0, 1.0]).round(4)
    array([1.    , 0.5403], dtype=float32)
    """
    return unary("cos", x, out)


def cos_backward(grad: ArrayLike, x: ArrayLike) -> Array:
    """Return the gradient of :func:`cos` at x, -grad · sin(x).

    Examples
    --------
    >>> cos_backward([2.0], [1.0]).round(4)
    array([-1.6829], dtype=float32)
    """
    grad, x = as_arrays("cos_backward", grad, x)
    same_shape("cos_backward", x.shape, grad.shape, "give one gradient for each element")
    return scale(mul(grad, sin(x)), -1.0)
