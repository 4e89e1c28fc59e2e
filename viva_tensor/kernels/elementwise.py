"""Operations on each element, broadcast as in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from numpy.typing import ArrayLike

from viva_tensor.error import BroadcastError
from viva_tensor.kernels import _elementwise, _sums
from viva_tensor.kernels._arrays import Array, Unfit, as_array, as_arrays, broadcast, into, same_shape
from viva_tensor.kernels._broadcasting import in_rows, spread, sum_axes

__all__ = ["add", "add_backward", "mul", "mul_backward", "relu", "relu_backward", "scale", "sub", "sub_backward"]


def add(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    r"""Sum of each pair of elements under NumPy's broadcasting rules, :math:`c = a + b`.

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
    return _binary("add", _elementwise.add, a, b, out)


def add_backward(grad: ArrayLike, shape: Sequence[int]) -> Array:
    r"""Gradient of an operand of :func:`add`: ``grad`` summed over the axes along which it was broadcast.

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
    except Unfit:
        pass
    grad = as_array("add_backward", grad)
    shape = tuple(shape)
    if grad.shape == shape:
        return grad
    lead = grad.ndim - len(shape)
    if lead < 0 or any(own not in (1, whole) for own, whole in zip(shape, grad.shape[lead:], strict=True)):
        raise BroadcastError(shape, grad.shape, operation="add_backward", mend="give the shape of add's operand")
    spread = tuple(i for i, own in enumerate(shape, lead) if own == 1 and grad.shape[i] != 1)
    return sum_axes(grad, (*range(lead), *spread), 1).reshape(shape)


def sub(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    """Difference of each pair of elements under NumPy's broadcasting rules, c = a - b.

    Parameters, returns and errors are those of :func:`add`.

    Examples
    --------
    >>> sub([3.0, 4.0], 1.0)
    array([2., 3.], dtype=float32)
    """
    return _binary("sub", _elementwise.sub, a, b, out)


def sub_backward(grad: ArrayLike, shape_a: Sequence[int], shape_b: Sequence[int]) -> tuple[Array, Array]:
    """Gradients of both operands of :func:`sub`: ``grad`` and -``grad``, each summed to its operand's shape.

    Examples
    --------
    >>> sub_backward([[1.0, 2.0]], (1, 2), (1, 1))
    (array([[1., 2.]], dtype=float32), array([[-3.]], dtype=float32))
    """
    return add_backward(grad, shape_a), scale(add_backward(grad, shape_b), -1)


def mul(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    """Product of each pair of elements under NumPy's broadcasting rules, c = a · b.

    Parameters, returns and errors are those of :func:`add`.

    Examples
    --------
    >>> mul([3.0, 4.0], [2.0, 0.5])
    array([6., 2.], dtype=float32)
    """
    return _binary("mul", _elementwise.mul, a, b, out)


def mul_backward(grad: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Gradients of both operands of :func:`mul`: grad · b and grad · a, each summed to its operand's shape.

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
    try:
        return _elementwise.scale(x, factor, out)
    except Unfit:
        pass
    array = as_array("scale", x)
    return into("scale", out, array.shape, (array,), lambda result: spread(array, factor, result))


def relu(x: ArrayLike, out: Array | None = None) -> Array:
    r"""Rectified linear unit, :math:`\max(x, 0)`; NaN stays NaN.

    Parameters
    ----------
    x : array_like, float32 or float64
    out : ndarray of the same shape, optional
        Filled and returned; it may be x.

    Returns
    -------
    ndarray
        Of the shape of x.

    Raises
    ------
    DtypeError, ShapeMismatch
        If the dtype is neither float32 nor float64; if ``out`` has another shape.

    References
    ----------
    .. [1] V. Nair and G. E. Hinton, Rectified linear units improve restricted Boltzmann machines, ICML 2010.

    Examples
    --------
    >>> relu([-1.0, 0.0, 2.0])
    array([0., 0., 2.], dtype=float32)
    """
    try:
        return _elementwise.relu(x, out)
    except Unfit:
        return in_rows("relu", _elementwise.relu, as_arrays("relu", x), out)


def relu_backward(grad: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """Gradient of :func:`relu` at x: 0 where x ≤ 0, and ``grad`` everywhere else, also where x is NaN.

    Parameters
    ----------
    grad, x : array_like, float32 or float64, of one shape and dtype
        Gradient of the loss with respect to ``relu(x)``, and the input x.
    out : ndarray of the same shape, optional
        Filled and returned; it may be an operand.

    Returns
    -------
    ndarray
        Of the shape of x.

    Raises
    ------
    ShapeMismatch, DtypeError
        If the shapes or dtypes differ.

    Examples
    --------
    >>> relu_backward([1.0, 1.0, 1.0], [-1.0, 0.0, 2.0])
    array([0., 0., 1.], dtype=float32)
    """
    if getattr(grad, "shape", None) != getattr(x, "shape", ()):
        grad, x = as_arrays("relu_backward", grad, x)
        same_shape("relu_backward", x.shape, grad.shape, "grad has the shape of relu's input")
    return _binary("relu_backward", _elementwise.relu_backward, grad, x, out)


def _binary(operation: str, kernel: Callable[..., Array], a: ArrayLike, b: ArrayLike, out: Array | None) -> Array:
    try:
        return kernel(a, b, out)
    except Unfit:
        return in_rows(operation, kernel, as_arrays(operation, a, b), out)
