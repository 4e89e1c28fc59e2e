"""Comparisons and choices of elements, broadcast as in NumPy. Comparisons give 1 and 0; they have no slope."""

from __future__ import annotations

from numpy.typing import ArrayLike

from viva_tensor.kernels._broadcasting import pairs, unary, unary_backward
from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.checks import real

__all__ = [
    "at_least",
    "at_least_backward",
    "at_most",
    "at_most_backward",
    "chosen",
    "equal",
    "greater",
    "less",
    "less_equal",
    "minimum",
    "rejected",
    "sign",
]


def minimum(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    """Return the smaller of each pair of elements under NumPy's broadcasting rules, and NaN where either is NaN.

    The gradient goes to the smaller operand, half to each where they are equal. Parameters, result and errors are those
    of :func:`add`.

    Examples
    --------
    >>> minimum([1.0, 5.0], [3.0, 4.0])
    array([1., 4.], dtype=float32)
    """
    return pairs("minimum", a, b, out)


def less(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    """Return 1 where a < b, else 0, of the operands' dtype.

    Examples
    --------
    >>> less([1.0, 2.0, 3.0], 2.0)
    array([1., 0., 0.], dtype=float32)
    """
    return pairs("less", a, b, out)


def less_equal(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    """Return 1 where a ≤ b, else 0, of the operands' dtype.

    Examples
    --------
    >>> less_equal([1.0, 2.0, 3.0], 2.0)
    array([1., 1., 0.], dtype=float32)
    """
    return pairs("less_equal", a, b, out)


def greater(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    """Return 1 where a > b, else 0, of the operands' dtype.

    Examples
    --------
    >>> greater([1.0, 2.0, 3.0], 2.0)
    array([0., 0., 1.], dtype=float32)
    """
    return pairs("less", b, a, out, "greater")


def equal(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    """Return 1 where a = b, else 0, of the operands' dtype; NaN equals nothing.

    Examples
    --------
    >>> equal([1.0, 2.0, 3.0], 2.0)
    array([0., 1., 0.], dtype=float32)
    """
    return pairs("equal", a, b, out)


def chosen(x: ArrayLike, condition: ArrayLike, out: Array | None = None) -> Array:
    """Return x where the condition is not 0, else -0: the sum of ``chosen(a, c)`` and ``rejected(b, c)`` chooses.

    Nothing of what is not chosen gets through, not even NaN; -0, added to any number, leaves it as it is.

    Examples
    --------
    >>> chosen([1.0, float("nan")], [1.0, 0.0])
    array([ 1., -0.], dtype=float32)
    """
    return pairs("chosen", x, condition, out)


def rejected(x: ArrayLike, condition: ArrayLike, out: Array | None = None) -> Array:
    """Return x where the condition is 0, else -0; see :func:`chosen`.

    Examples
    --------
    >>> rejected([1.0, 2.0], [1.0, 0.0])
    array([-0.,  2.], dtype=float32)
    """
    return pairs("rejected", x, condition, out)


def sign(x: ArrayLike, out: Array | None = None) -> Array:
    """Return -1, 0 or 1, the sign of each element; NaN stays NaN.

    Examples
    --------
    >>> sign([-3.0, 0.0, 2.0])
    array([-1.,  0.,  1.], dtype=float32)
    """
    return unary("sign", x, out)


def at_least(x: ArrayLike, bound: float, out: Array | None = None) -> Array:
    """Return the larger of each element and a bound; NaN stays NaN.

    Examples
    --------
    >>> at_least([-3.0, 2.0], 0.5)
    array([0.5, 2. ], dtype=float32)
    """
    return unary("at_least", x, out, real("at_least", "bound", bound))


def at_least_backward(grad: ArrayLike, x: ArrayLike, bound: float, out: Array | None = None) -> Array:
    """Return the gradient of :func:`at_least`: that of the output where x is not below the bound, else 0.

    Examples
    --------
    >>> at_least_backward([1.0, 1.0, 1.0], [0.0, 0.5, 2.0], 0.5)
    array([0., 1., 1.], dtype=float32)
    """
    return unary_backward("at_least_backward", grad, x, out, real("at_least_backward", "bound", bound))


def at_most(x: ArrayLike, bound: float, out: Array | None = None) -> Array:
    """Return the smaller of each element and a bound; NaN stays NaN.

    Examples
    --------
    >>> at_most([-3.0, 2.0], 0.5)
    array([-3. ,  0.5], dtype=float32)
    """
    return unary("at_most", x, out, real("at_most", "bound", bound))


def at_most_backward(grad: ArrayLike, x: ArrayLike, bound: float, out: Array | None = None) -> Array:
    """Return the gradient of :func:`at_most`: that of the output where x is not above the bound, else 0.

    Examples
    --------
    >>> at_most_backward([1.0, 1.0, 1.0], [0.0, 0.5, 2.0], 0.5)
    array([1., 1., 0.], dtype=float32)
    """
    return unary_backward("at_most_backward", grad, x, out, real("at_most_backward", "bound", bound))
