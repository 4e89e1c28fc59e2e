"""Kernels on NumPy arrays: each operation beside its backward pass, checked here and compiled below.

Every function takes float32 or float64 arrays of any strides and returns a new array, or fills ``out``. Python numbers
and nested lists become float32 (or the dtype of the arrays beside them). The same inputs give the same bits at every
number of threads.

Each function first tries its compiled kernel on the arguments as they are: plain arrays of fitting shapes cost one
call. What the kernel refuses is then converted where that is right, or explained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.error import BroadcastError, ShapeMismatch
from viva_tensor.kernels import _elementwise, _matmul, _sums, _updates
from viva_tensor.kernels._arrays import (
    Array,
    Unfit,
    as_array,
    as_arrays,
    axes_of,
    broadcast,
    by_dtype,
    into,
    row_views,
    wants,
)
from viva_tensor.kernels.threads import get_num_threads, num_threads, set_num_threads

__all__ = [
    "add",
    "add_backward",
    "get_num_threads",
    "linear",
    "linear_backward",
    "matmul",
    "matmul_backward",
    "mean",
    "mean_backward",
    "mean_squared_error",
    "mean_squared_error_backward",
    "mul",
    "mul_backward",
    "num_threads",
    "relu",
    "relu_backward",
    "scale",
    "set_num_threads",
    "sgd",
    "sub",
    "sub_backward",
    "sum",
    "sum_backward",
]

Shape = tuple[int, ...]

_MATMUL = by_dtype(_matmul.matmul)
_ADD = by_dtype(_elementwise.add)
_SUB = by_dtype(_elementwise.sub)
_MUL = by_dtype(_elementwise.mul)
_RELU = by_dtype(_elementwise.relu)
_RELU_BACKWARD = by_dtype(_elementwise.relu_backward)
_SCALE = by_dtype(_elementwise.scale)
_SUM = by_dtype(_sums.sum)
_SQUARED_ERROR = by_dtype(_sums.squared_error)
_SQUARED_ERROR_BACKWARD = by_dtype(_sums.squared_error_backward)
_SGD = by_dtype(_updates.sgd)


def matmul(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    r"""Matrix product, :math:`c_{ij} = \sum_k a_{ik} b_{kj}`.

    Parameters
    ----------
    a : array_like, shape (m, k), float32 or float64
        Any strides; a transpose costs nothing.
    b : array_like, shape (k, n), of the same dtype
    out : ndarray, shape (m, n), optional
        Filled and returned. It is never read.

    Returns
    -------
    ndarray, shape (m, n)
        Within γₖ·|a||b| of the exact product, where γₖ = k·u / (1 - k·u) [1]_.

    Raises
    ------
    DimensionError
        If an operand is not a matrix.
    ShapeMismatch
        If the inner dimensions differ, or ``out`` has another shape.
    DtypeError
        If a dtype is neither float32 nor float64, or they differ.

    References
    ----------
    .. [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM, 2002, section 3.5.

    Examples
    --------
    >>> import numpy as np
    >>> matmul(np.eye(2), np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[1., 2.],
           [3., 4.]])
    """
    try:
        result = np.empty((a.shape[0], b.shape[1]), a.dtype) if out is None else out  # type: ignore[union-attr]
        _MATMUL[a.dtype](a, b, result)  # type: ignore[union-attr]
        return result
    except Unfit:
        x, y = as_arrays("matmul", a, b)
        wants("matmul", 2, x, "the first operand")
        wants("matmul", 2, y, "the second operand")
        if x.shape[1] != y.shape[0]:
            raise ShapeMismatch(
                (x.shape[1], y.shape[1]),
                y.shape,
                operation=f"matmul of {x.shape} and {y.shape}",
                mend="the columns of the first operand must equal the rows of the second; perhaps transpose one",
            ) from None
        return into("matmul", out, (x.shape[0], y.shape[1]), (x, y), lambda result: _MATMUL[x.dtype](x, y, result))


def matmul_backward(grad: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    r"""Gradients of a matrix product: :math:`\partial a = g b^\top`, :math:`\partial b = a^\top g`.

    Parameters
    ----------
    grad : array_like, shape (m, n)
        Gradient of the loss with respect to ``matmul(a, b)``.
    a, b : array_like, shapes (m, k) and (k, n)
        The operands.

    Returns
    -------
    tuple of ndarray
        Gradients with respect to a and b, of their shapes.

    Raises
    ------
    DimensionError, ShapeMismatch, DtypeError
        As :func:`matmul`.

    Examples
    --------
    >>> import numpy as np
    >>> da, db = matmul_backward(np.ones((1, 1)), np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
    >>> da, db
    (array([[3., 4.]]), array([[1.],
           [2.]]))
    """
    grad, a, b = as_arrays("matmul_backward", grad, a, b)
    for array, name in ((grad, "grad"), (a, "the first operand"), (b, "the second operand")):
        wants("matmul_backward", 2, array, name)
    _same_shape("matmul_backward", (a.shape[0], b.shape[1]), grad.shape, "grad has the shape of the product")
    return matmul(grad, b.T), matmul(a.T, grad)


def linear(x: ArrayLike, w: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    r"""Affine map of a batch in one pass, :math:`y = x W^\top + b`.

    Parameters
    ----------
    x : array_like, shape (batch, in), float32 or float64
    w : array_like, shape (out, in)
    b : array_like, shape (out,)
    out : ndarray, shape (batch, out), optional
        Filled and returned. It is never read.

    Returns
    -------
    ndarray, shape (batch, out)
        The same bits as ``add(matmul(x, w.T), b)``.

    Raises
    ------
    DimensionError, ShapeMismatch, DtypeError
        If ranks, features or dtypes do not fit.

    Examples
    --------
    >>> linear([[1.0, 2.0]], [[3.0, 4.0]], [0.5])
    array([[11.5]], dtype=float32)
    """
    try:
        result = np.empty((x.shape[0], w.shape[0]), x.dtype) if out is None else out  # type: ignore[union-attr]
        _MATMUL[x.dtype](x, w.T, result, b)  # type: ignore[union-attr]
        return result
    except Unfit:
        x, w, b = as_arrays("linear", x, w, b)
        wants("linear", 2, x, "the input")
        wants("linear", 2, w, "the weight")
        wants("linear", 1, b, "the bias")
        mend = f"the weight {w.shape} is [out, in], the input {x.shape} is [batch, in]"
        _same_shape("linear", (x.shape[0], w.shape[1]), x.shape, mend)
        _same_shape("linear", (w.shape[0],), b.shape, f"the bias has one element for each row of the weight {w.shape}")
        bias = np.ascontiguousarray(b)
        transposed = w.T
        return into(
            "linear",
            out,
            (x.shape[0], w.shape[0]),
            (x, w, bias),
            lambda result: _MATMUL[x.dtype](x, transposed, result, bias),
        )


def linear_backward(grad: ArrayLike, x: ArrayLike, w: ArrayLike) -> tuple[Array, Array, Array]:
    r"""Gradients of the affine map: :math:`\partial x = g W`, :math:`\partial W = g^\top x`, :math:`\partial b = \sum_i g_i`.

    Parameters
    ----------
    grad : array_like, shape (batch, out)
    x : array_like, shape (batch, in)
    w : array_like, shape (out, in)

    Returns
    -------
    tuple of ndarray
        Gradients with respect to x, w and b.

    Raises
    ------
    DimensionError, ShapeMismatch, DtypeError
        If ranks, features or dtypes do not fit.

    Examples
    --------
    >>> dx, dw, db = linear_backward([[1.0], [2.0]], [[1.0, 0.0], [0.0, 1.0]], [[3.0, 4.0]])
    >>> dw, db
    (array([[1., 2.]], dtype=float32), array([3.], dtype=float32))
    """
    grad, x, w = as_arrays("linear_backward", grad, x, w)
    for array, name in ((grad, "grad"), (x, "the input"), (w, "the weight")):
        wants("linear_backward", 2, array, name)
    _same_shape("linear_backward", (x.shape[0], w.shape[0]), grad.shape, "grad has the shape of the output")
    _same_shape("linear_backward", (x.shape[0], w.shape[1]), x.shape, f"the weight {w.shape} is [out, in]")
    return matmul(grad, w), matmul(grad.T, x), sum(grad, axis=0)


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
    return _binary("add", _ADD, a, b, out)


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
    grad = as_array("add_backward", grad)
    shape = tuple(shape)
    if grad.shape == shape:
        return grad
    lead = grad.ndim - len(shape)
    if lead < 0 or any(own not in (1, whole) for own, whole in zip(shape, grad.shape[lead:], strict=True)):
        raise BroadcastError(shape, grad.shape, operation="add_backward", mend="give the shape of add's operand")
    spread = tuple(i for i, own in enumerate(shape, lead) if own == 1 and grad.shape[i] != 1)
    return _reduce(grad, (*range(lead), *spread), 1).reshape(shape)


def sub(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    """Difference of each pair of elements under NumPy's broadcasting rules, c = a - b.

    Parameters, returns and errors are those of :func:`add`.

    Examples
    --------
    >>> sub([3.0, 4.0], 1.0)
    array([2., 3.], dtype=float32)
    """
    return _binary("sub", _SUB, a, b, out)


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
    return _binary("mul", _MUL, a, b, out)


def mul_backward(grad: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Gradients of both operands of :func:`mul`: grad · b and grad · a, each summed to its operand's shape.

    Examples
    --------
    >>> mul_backward([1.0, 1.0], [3.0, 4.0], 2.0)
    (array([2., 2.], dtype=float32), array(7., dtype=float32))
    """
    grad, a, b = as_arrays("mul_backward", grad, a, b)
    _same_shape("mul_backward", broadcast("mul_backward", a, b), grad.shape, "grad has the shape of the product")
    return add_backward(mul(grad, b), a.shape), add_backward(mul(grad, a), b.shape)


def scale(x: ArrayLike, factor: float, out: Array | None = None) -> Array:
    """Multiply each element by one number, factor · x.

    Examples
    --------
    >>> scale([1.0, 2.0], -1)
    array([-1., -2.], dtype=float32)
    """
    array = as_array("scale", x)
    return into("scale", out, array.shape, (array,), lambda result: _spread(array, factor, result))


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
        result = np.empty(x.shape, x.dtype) if out is None else out  # type: ignore[union-attr]
        _RELU[x.dtype](x, result)  # type: ignore[union-attr]
        return result
    except Unfit:
        return _in_rows("relu", _RELU, as_arrays("relu", x), out)


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
    grad, x = as_arrays("relu_backward", grad, x)
    _same_shape("relu_backward", x.shape, grad.shape, "grad has the shape of relu's input")
    return _binary("relu_backward", _RELU_BACKWARD, grad, x, out)


def sum(x: ArrayLike, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
    """Sum over all elements or over the given axes, in an order that depends on the shape alone.

    Parameters
    ----------
    x : array_like, float32 or float64
    axis : int or sequence of int, optional
        All axes by default. Negative ones count from the last.
    keepdims : bool
        Keep summed axes, with size 1.

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
    DtypeError
        If the dtype is neither float32 nor float64.

    Examples
    --------
    >>> sum([[1.0, 2.0], [3.0, 4.0]], axis=0)
    array([4., 6.], dtype=float32)
    """
    return _sum("sum", x, axis, keepdims, divide=False)


def sum_backward(
    grad: ArrayLike, shape: Sequence[int], axis: int | Sequence[int] | None = None, keepdims: bool = False
) -> Array:
    """Gradient of :func:`sum`: ``grad`` repeated along the summed axes.

    Examples
    --------
    >>> sum_backward([1.0, 2.0], (2, 2), axis=0)
    array([[1., 2.],
           [1., 2.]], dtype=float32)
    """
    return _sum_backward("sum_backward", grad, shape, axis, keepdims, divide=False)


def mean(x: ArrayLike, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
    """Arithmetic mean over all elements or over the given axes; the mean of nothing is NaN.

    Parameters, returns and errors are those of :func:`sum`.

    Examples
    --------
    >>> mean([[1.0, 2.0], [3.0, 4.0]])
    array(2.5, dtype=float32)
    """
    return _sum("mean", x, axis, keepdims, divide=True)


def mean_backward(
    grad: ArrayLike, shape: Sequence[int], axis: int | Sequence[int] | None = None, keepdims: bool = False
) -> Array:
    """Gradient of :func:`mean`: ``grad`` divided by the number of elements, repeated along the averaged axes.

    Examples
    --------
    >>> mean_backward(1.0, (2,))
    array([0.5, 0.5], dtype=float32)
    """
    return _sum_backward("mean_backward", grad, shape, axis, keepdims, divide=True)


def mean_squared_error(pred: ArrayLike, target: ArrayLike) -> Array:
    r"""Mean squared error, :math:`\frac{1}{n} \sum_i (p_i - t_i)^2`, in one pass.

    Parameters
    ----------
    pred, target : array_like, float32 or float64, of one shape and dtype
        Nothing is broadcast here: (n, 1) against (n,) is an error, not n² differences.

    Returns
    -------
    ndarray, 0-d
        NaN if there are no elements.

    Raises
    ------
    ShapeMismatch, DtypeError
        If the shapes or dtypes differ.

    Examples
    --------
    >>> mean_squared_error([1.0, 2.0], [1.0, 4.0])
    array(2., dtype=float32)
    """
    p, t = _pair("mean_squared_error", pred, target)
    out = np.empty((), p.dtype)
    _SQUARED_ERROR[p.dtype](p.reshape(-1), t.reshape(-1), out.reshape(1, 1))
    return out


def mean_squared_error_backward(grad: ArrayLike, pred: ArrayLike, target: ArrayLike) -> Array:
    r"""Gradient of :func:`mean_squared_error` with respect to ``pred``, :math:`\frac{2 g}{n} (p - t)`.

    That with respect to ``target`` is its negative.

    Examples
    --------
    >>> mean_squared_error_backward(1.0, [1.0, 2.0], [1.0, 4.0])
    array([ 0., -2.], dtype=float32)
    """
    p, t = _pair("mean_squared_error_backward", pred, target)
    _same_shape("mean_squared_error_backward", (), np.shape(grad), "grad is the gradient of a scalar")
    out = np.empty(p.shape, p.dtype)
    _SQUARED_ERROR_BACKWARD[p.dtype](p.reshape(-1), t.reshape(-1), 2 * float(grad) / max(p.size, 1), out.reshape(-1))
    return out


def sgd(
    w: Array, grad: Array, lr: float, momentum: float = 0.0, velocity: Array | None = None
) -> tuple[Array, Array | None]:
    r"""One step of stochastic gradient descent: :math:`v' = \mu v + g`, :math:`w' = w - \eta v'`.

    Parameters
    ----------
    w, grad : ndarray, float32 or float64, of one shape and dtype
    lr, momentum : float
        η and μ.
    velocity : ndarray of the same shape, optional
        v; without it the step is w - η·g.

    Returns
    -------
    tuple
        The new weights, and the new velocity or None. The arguments stay as they were.

    Raises
    ------
    ShapeMismatch, DtypeError
        If the shapes or dtypes differ.

    References
    ----------
    .. [1] B. T. Polyak, Some methods of speeding up the convergence of iteration methods, USSR Computational
       Mathematics and Mathematical Physics 4(5), 1964; in the form of Sutskever et al., ICML 2013, without its factor
       of η in v.

    Examples
    --------
    >>> import numpy as np
    >>> sgd(np.array([1.0]), np.array([0.5]), lr=0.1)
    (array([0.95]), None)
    """
    arrays = as_arrays("sgd", w, grad, *(() if velocity is None else (velocity,)))
    for array in arrays[1:]:
        _same_shape("sgd", arrays[0].shape, array.shape, "weights, gradient and velocity have one shape")
    flat = [np.ascontiguousarray(array).reshape(-1) for array in arrays]
    new_w = np.empty(arrays[0].shape, arrays[0].dtype)
    if velocity is None:
        _SGD[new_w.dtype](flat[0], flat[1], new_w.reshape(-1), lr)
        return new_w, None
    new_velocity = np.empty_like(new_w)
    _SGD[new_w.dtype](flat[0], flat[1], new_w.reshape(-1), lr, momentum, flat[2], new_velocity.reshape(-1))
    return new_w, new_velocity


def _binary(operation: str, table: Any, a: ArrayLike, b: ArrayLike, out: Array | None) -> Array:
    try:
        result = np.empty(a.shape, a.dtype) if out is None else out  # type: ignore[union-attr]
        table[a.dtype](a, b, result)  # type: ignore[union-attr]
        return result
    except Unfit:
        return _in_rows(operation, table, as_arrays(operation, a, b), out)


def _in_rows(operation: str, table: Any, arrays: tuple[Array, ...], out: Array | None) -> Array:
    """Broadcast operands of any rank, as matrices that the kernel takes."""
    shape = broadcast(operation, arrays[0], arrays[-1])
    kernel = table[arrays[0].dtype]

    def work(result: Array) -> None:
        for views in row_views((*arrays, result)):
            kernel(*views)

    return into(operation, out, shape, arrays, work)


def _spread(x: Array, factor: float, out: Array) -> None:
    """out = factor · x, with x repeated to the shape of out."""
    for source, target in row_views((x, out)):
        _SCALE[x.dtype](source, factor, target)


def _sum(operation: str, x: ArrayLike, axis: int | Sequence[int] | None, keepdims: bool, divide: bool) -> Array:
    array = as_array(operation, x)
    axes = axes_of(operation, axis, array.shape)
    divisor = math.prod(array.shape[i] for i in axes) if divide else 1
    result = _reduce(array, axes, divisor)
    if keepdims:
        return result.reshape([1 if i in axes else size for i, size in enumerate(array.shape)])
    return result


def _reduce(x: Array, axes: tuple[int, ...], divisor: int) -> Array:
    """Sum over sorted axes, run by run of adjacent ones, the last run first."""
    if not axes:
        out = np.empty(x.shape, x.dtype)
        _spread(x, 1, out)
        return out
    end = axes[-1] + 1
    start = end - 1
    while start - 1 in axes:
        start -= 1
    rest = tuple(i for i in axes if i < start)
    out = np.empty(x.shape[:start] + x.shape[end:], x.dtype)
    outer, inner = math.prod(x.shape[:start]), math.prod(x.shape[end:])
    _SUM[x.dtype](
        x.reshape(outer, math.prod(x.shape[start:end]), inner), out.reshape(outer, inner), 1 if rest else divisor
    )
    return _reduce(out, rest, divisor) if rest else out


def _sum_backward(
    operation: str,
    grad: ArrayLike,
    shape: Sequence[int],
    axis: int | Sequence[int] | None,
    keepdims: bool,
    divide: bool,
) -> Array:
    grad = as_array(operation, grad)
    shape = tuple(shape)
    axes = axes_of(operation, axis, shape)
    kept = tuple(1 if i in axes else size for i, size in enumerate(shape))
    wanted = kept if keepdims else tuple(size for i, size in enumerate(shape) if i not in axes)
    _same_shape(operation, wanted, grad.shape, "grad has the shape of the sum")
    count = math.prod(shape[i] for i in axes)
    out = np.empty(shape, grad.dtype)
    _spread(grad.reshape(kept), 1 / count if divide and count else 1, out)
    return out


def _pair(operation: str, pred: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    p, t = as_arrays(operation, pred, target)
    _same_shape(operation, p.shape, t.shape, "give one target for each prediction, of the same shape")
    return np.ascontiguousarray(p), np.ascontiguousarray(t)


def _same_shape(operation: str, expected: Shape, got: Shape, mend: str) -> None:
    if expected != got:
        raise ShapeMismatch(expected, got, operation=operation, mend=mend)
