"""Operations on each element, broadcast as in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from viva_tensor.error import BroadcastError
from viva_tensor.kernels import _sums
from viva_tensor.kernels._broadcasting import pairs, sum_axes, unary, unary_backward
from viva_tensor.kernels.arrays import UNSUITABLE, Array, as_array, as_arrays, broadcast, same_shape
from viva_tensor.kernels.checks import real

__all__ = [
    "abs",
    "abs_backward",
    "add",
    "add_backward",
    "div",
    "div_backward",
    "erf",
    "erf_backward",
    "exp",
    "exp_backward",
    "log",
    "log_backward",
    "maximum",
    "maximum_backward",
    "maximum_slope",
    "mul",
    "mul_backward",
    "pow",
    "pow_backward",
    "scale",
    "sqrt",
    "sqrt_backward",
    "sub",
    "sub_backward",
]


def add(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    r"""Add each pair of elements under NumPy's broadcasting rules, :math:`c = a + b`.

    Parameters
    ----------
    a, b : array_like, float32 or float64, of one dtype
        Shapes that can be broadcast together.
    out : ndarray, optional
        Filled and returned; of the broadcast shape. It may be an operand.

    Returns
    -------
    ndarray
        Of the broadcast shape.

    Raises
    ------
    BroadcastError
        If the shapes do not fit.
    DtypeError
        If a dtype is neither float32 nor float64, or they differ.
    ShapeMismatch
        If ``out`` has another shape.

    Examples
    --------
    >>> add([[1.0, 2.0], [3.0, 4.0]], [10.0, 20.0])
    array([[11., 22.],
           [13., 24.]], dtype=float32)
    """
    return pairs("add", a, b, out)


def add_backward(grad: ArrayLike, shape: Sequence[int]) -> Array:
    r"""Return the gradient of an operand of :func:`add`: ``grad`` summed over the axes along which it was broadcast.

    Parameters
    ----------
    grad : array_like
        Gradient of the loss with respect to the sum.
    shape : sequence of int
        Shape of the operand.

    Returns
    -------
    ndarray
        Of the given shape; ``grad`` itself where nothing was broadcast.

    Raises
    ------
    BroadcastError
        If the shape does not broadcast to that of ``grad``.
    DtypeError
        If the dtype is neither float32 nor float64.

    Examples
    --------
    >>> add_backward([[1.0, 2.0], [3.0, 4.0]], (2,))
    array([4., 6.], dtype=float32)
    """
    try:
        if grad.shape[1:] == shape:  # type: ignore[union-attr]
            return _sums.sum_rows(grad)
    except UNSUITABLE:
        pass
    grad = as_array("add_backward", grad)
    shape = tuple(shape)
    if grad.shape == shape:
        return grad
    lead = grad.ndim - len(shape)
    if lead < 0 or any(size not in (1, whole) for size, whole in zip(shape, grad.shape[lead:], strict=True)):
        raise BroadcastError(shape, grad.shape, operation="add_backward", hint="give the shape of add's operand")
    repeated = (i for i, size in enumerate(shape, lead) if size == 1 and grad.shape[i] != 1)
    return sum_axes(grad, (*range(lead), *repeated), 1).reshape(shape)


def sub(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    """Subtract each pair of elements under NumPy's broadcasting rules, c = a - b.

    Parameters, result and errors are those of :func:`add`.

    Examples
    --------
    >>> sub([3.0, 4.0], 1.0)
    array([2., 3.], dtype=float32)
    """
    return pairs("sub", a, b, out)


def sub_backward(grad: ArrayLike, shape_a: Sequence[int], shape_b: Sequence[int]) -> tuple[Array, Array]:
    """Return the gradients of :func:`sub`: ``grad`` and -``grad``, each summed to its operand's shape.

    Examples
    --------
    >>> sub_backward([[1.0, 2.0]], (1, 2), (1, 1))
    (array([[1., 2.]], dtype=float32), array([[-3.]], dtype=float32))
    """
    return add_backward(grad, shape_a), scale(add_backward(grad, shape_b), -1)


def mul(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    """Multiply each pair of elements under NumPy's broadcasting rules, c = a · b.

    Parameters, result and errors are those of :func:`add`.

    Examples
    --------
    >>> mul([3.0, 4.0], [2.0, 0.5])
    array([6., 2.], dtype=float32)
    """
    return pairs("mul", a, b, out)


def mul_backward(grad: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Return the gradients of :func:`mul`: grad · b and grad · a, each summed to its operand's shape.

    Examples
    --------
    >>> mul_backward([1.0, 1.0], [3.0, 4.0], 2.0)
    (array([2., 2.], dtype=float32), array(7., dtype=float32))
    """
    grad, a, b = as_arrays("mul_backward", grad, a, b)
    same_shape("mul_backward", broadcast("mul_backward", a, b), grad.shape, "grad has the shape of the product")
    return add_backward(mul(grad, b), a.shape), add_backward(mul(grad, a), b.shape)


def scale(x: ArrayLike, factor: float, out: Array | None = None) -> Array:
    """Multiply each element by one number, factor · x.

    Examples
    --------
    >>> scale([1.0, 2.0], -1)
    array([-1., -2.], dtype=float32)
    """
    number = factor if factor.__class__ is float else real("scale", "factor", factor)
    return unary("scale", x, out, number)


def div(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    """Divide each pair of elements under NumPy's broadcasting rules, c = a / b; x / 0 is infinite, 0 / 0 NaN.

    Parameters, result and errors are those of :func:`add`.

    Examples
    --------
    >>> div([3.0, 4.0], [2.0, 0.5])
    array([1.5, 8. ], dtype=float32)
    """
    return pairs("div", a, b, out)


def div_backward(grad: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Return the gradients of :func:`div`: grad / b and -grad · (a / b) / b, each summed to its operand's shape.

    Both are 0 where grad is 0, even if b is.

    Examples
    --------
    >>> div_backward([1.0, 1.0], [3.0, 4.0], 2.0)
    (array([0.5, 0.5], dtype=float32), array(-1.75, dtype=float32))
    """
    grad, a, b = as_arrays("div_backward", grad, a, b)
    same_shape("div_backward", broadcast("div_backward", a, b), grad.shape, "grad has the shape of the quotient")
    quotient = chain_div(grad, b)
    return add_backward(quotient, a.shape), add_backward(scale(chain_mul(quotient, div(a, b)), -1), b.shape)


def chain_mul(grad: ArrayLike, slope: ArrayLike) -> Array:
    """Return a gradient times the slope of an operation; 0 where grad is 0, even if the slope is infinite.

    Examples
    --------
    >>> chain_mul([0.0, 2.0], [float("inf"), 3.0])
    array([0., 6.], dtype=float32)
    """
    return pairs("chain_mul", grad, slope)


def chain_div(grad: ArrayLike, x: ArrayLike) -> Array:
    """Return a gradient times the slope 1 / x of an operation; 0 where grad is 0, even if x is.

    Examples
    --------
    >>> chain_div([0.0, 2.0], [0.0, 4.0])
    array([0. , 0.5], dtype=float32)
    """
    return pairs("chain_div", grad, x)


def maximum(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    """Return the larger of each pair of elements under NumPy's broadcasting rules, and NaN where either is NaN.

    Parameters, result and errors are those of :func:`add`.

    Examples
    --------
    >>> maximum([1.0, 5.0], [3.0, 4.0])
    array([3., 5.], dtype=float32)
    """
    return pairs("maximum", a, b, out)


def maximum_slope(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    """Return the derivative of :func:`maximum` with respect to a: 1 where a > b, ½ where they are equal, 0 where a < b.

    It is 1 where either is NaN. :func:`greater` compares.

    Examples
    --------
    >>> maximum_slope([1.0, 2.0, 3.0], 2.0)
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return pairs("greater", a, b, out, "maximum_slope")


def maximum_backward(grad: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Return the gradients of :func:`maximum`: grad goes to the larger operand, half to each where they are equal.

    Examples
    --------
    >>> maximum_backward([1.0, 1.0], [3.0, 4.0], [3.0, 9.0])
    (array([0.5, 0. ], dtype=float32), array([0.5, 1. ], dtype=float32))
    """
    grad, a, b = as_arrays("maximum_backward", grad, a, b)
    shape = broadcast("maximum_backward", a, b)
    same_shape("maximum_backward", shape, grad.shape, "grad has the shape of the maximum")
    return add_backward(mul(grad, maximum_slope(a, b)), a.shape), add_backward(mul(grad, maximum_slope(b, a)), b.shape)


def abs(x: ArrayLike, out: Array | None = None) -> Array:
    """Return the absolute value, |x|.

    Examples
    --------
    >>> abs([-1.5, 2.0])
    array([1.5, 2. ], dtype=float32)
    """
    return unary("abs", x, out)


def abs_backward(grad: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """Return the gradient of :func:`abs` at x: grad · sign(x), with sign(0) = 0, and NaN where x is NaN.

    Examples
    --------
    >>> abs_backward([1.0, 1.0, 1.0], [-3.0, 0.0, 2.0])
    array([-1.,  0.,  1.], dtype=float32)
    """
    return unary_backward("abs_backward", grad, x, out)


def sqrt(x: ArrayLike, out: Array | None = None) -> Array:
    """Return the square root; NaN of negative numbers.

    Examples
    --------
    >>> sqrt([4.0, 9.0])
    array([2., 3.], dtype=float32)
    """
    return unary("sqrt", x, out)


def sqrt_backward(grad: ArrayLike, y: ArrayLike) -> Array:
    """Return the gradient of y = :func:`sqrt`, from its output: ½ · grad / y, and 0 where grad is 0, even if y is.

    Examples
    --------
    >>> sqrt_backward([1.0, 1.0], [2.0, 4.0])
    array([0.25 , 0.125], dtype=float32)
    """
    return scale(unary_backward("chain_div", grad, y, operation="sqrt_backward"), 0.5)


def exp(x: ArrayLike, out: Array | None = None) -> Array:
    """Return the exponential, eˣ, within 4 units in the last place of the rounded result.

    Examples
    --------
    >>> exp([0.0, 1.0]).round(4)
    array([1.    , 2.7183], dtype=float32)
    """
    return unary("exp", x, out)


def exp_backward(grad: ArrayLike, y: ArrayLike) -> Array:
    """Return the gradient of y = :func:`exp`, from its output: grad · y, and 0 where grad is 0, even if y is infinite.

    Examples
    --------
    >>> exp_backward([2.0], [3.0])
    array([6.], dtype=float32)
    """
    return unary_backward("chain_mul", grad, y, operation="exp_backward")


def log(x: ArrayLike, out: Array | None = None) -> Array:
    """Return the natural logarithm, within 4 units in the last place; -∞ at 0, NaN of negative numbers.

    Examples
    --------
    >>> log([1.0, 0.0])
    array([  0., -inf], dtype=float32)
    """
    return unary("log", x, out)


def log_backward(grad: ArrayLike, x: ArrayLike) -> Array:
    """Return the gradient of :func:`log` at x: grad / x, and 0 where grad is 0, even if x is.

    Examples
    --------
    >>> log_backward([1.0], [4.0])
    array([0.25], dtype=float32)
    """
    return unary_backward("chain_div", grad, x, operation="log_backward")


def pow(x: ArrayLike, exponent: float, out: Array | None = None) -> Array:
    """Raise each element to a power, xᵖ, by the C library; NaN where x is negative and p not whole.

    Examples
    --------
    >>> pow([2.0, 3.0], 2)
    array([4., 9.], dtype=float32)
    """
    power = exponent if exponent.__class__ is float else real("pow", "exponent", exponent)
    return unary("pow", x, out, power)


def pow_backward(grad: ArrayLike, x: ArrayLike, exponent: float) -> Array:
    """Return the gradient of :func:`pow` at x: grad · p · xᵖ⁻¹, but 0 if p = 0 or where grad is 0.

    Examples
    --------
    >>> pow_backward([1.0, 1.0], [2.0, 3.0], 2)
    array([4., 6.], dtype=float32)
    """
    exponent = real("pow_backward", "exponent", exponent)
    slope = scale(pow(x, exponent - 1), exponent) if exponent else scale(pow(x, 0), 0)
    return unary_backward("chain_mul", grad, slope, operation="pow_backward")


def erf(x: ArrayLike, out: Array | None = None) -> Array:
    r"""Return the error function [1]_, :math:`\frac{2}{\sqrt\pi} \int_0^x e^{-t^2} dt`.

    The result is within 4 units in the last place.

    References
    ----------
    .. [1] J. L. Schonfelder, Chebyshev expansions for the error and related functions, Mathematics of Computation
       32(144), 1978.

    Examples
    --------
    >>> erf([0.0, 1.0]).round(4)
    array([0.    , 0.8427], dtype=float32)
    """
    return unary("erf", x, out)


def erf_backward(grad: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    r"""Return the gradient of :func:`erf` at x, :math:`g \cdot \frac{2}{\sqrt\pi} e^{-x^2}`.

    Examples
    --------
    >>> erf_backward([1.0], [0.0]).round(4)
    array([1.1284], dtype=float32)
    """
    return unary_backward("erf_backward", grad, x, out)
