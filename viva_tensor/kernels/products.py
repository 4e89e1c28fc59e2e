"""Matrix products, plain and as the affine map of a layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.error import ShapeMismatch
from viva_tensor.kernels import _matmul, _sums
from viva_tensor.kernels.arrays import UNSUITABLE, Array, as_arrays, into, same_shape, wants
from viva_tensor.kernels.sums import sum

__all__ = ["linear", "linear_backward", "matmul", "matmul_backward"]


def matmul(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    r"""Multiply two matrices, :math:`c_{ij} = \sum_k a_{ik} b_{kj}`.

    Parameters
    ----------
    a : array_like, shape (m, k), float32 or float64
        Any strides: a transposed view costs nothing.
    b : array_like, shape (k, n), of the same dtype
    out : ndarray, shape (m, n), optional
        Filled and returned; never read.

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
        If a dtype is neither float32 nor float64, or the dtypes differ.

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
        return _matmul.matmul(a, b, out)
    except UNSUITABLE:
        x, y = as_arrays("matmul", a, b)
        named = f"matmul of {x.shape} and {y.shape}"
        wants(named, 2, x, "the first operand")
        wants(named, 2, y, "the second operand")
        if x.shape[1] != y.shape[0]:
            raise ShapeMismatch(
                (x.shape[1], y.shape[1]),
                y.shape,
                operation=named,
                hint="the columns of the first operand must equal the rows of the second; perhaps transpose one",
            ) from None
        return into("matmul", out, (x.shape[0], y.shape[1]), (x, y), lambda result: _matmul.matmul(x, y, result))


def matmul_backward(grad: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    r"""Return the gradients of :func:`matmul`: :math:`\partial a = g b^\top`, :math:`\partial b = a^\top g`.

    Operands and errors are those of :func:`matmul`.

    Parameters
    ----------
    grad : array_like, shape (m, n)
        Gradient of the loss with respect to ``matmul(a, b)``.

    Examples
    --------
    >>> import numpy as np
    >>> da, db = matmul_backward(np.ones((1, 1)), np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
    >>> da, db
    (array([[3., 4.]]), array([[1.],
           [2.]]))
    """
    try:
        if (
            type(grad) is type(a) is type(b) is np.ndarray
            and grad.shape == (a.shape[0], b.shape[1])
            and a.shape[1] == b.shape[0]
        ):
            return _matmul.matmul(grad, b.T), _matmul.matmul(a.T, grad)
    except UNSUITABLE:
        pass
    grad, a, b = as_arrays("matmul_backward", grad, a, b)
    for array, name in ((grad, "grad"), (a, "the first operand"), (b, "the second operand")):
        wants(f"matmul_backward of {grad.shape}, {a.shape} and {b.shape}", 2, array, name)
    same_shape("matmul_backward", (a.shape[1], b.shape[1]), b.shape, f"the first operand has shape {a.shape}")
    same_shape("matmul_backward", (a.shape[0], b.shape[1]), grad.shape, "grad has the shape of the product")
    return matmul(grad, b.T), matmul(a.T, grad)


def linear(x: ArrayLike, w: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    r"""Apply an affine map to a batch in one pass, :math:`y = x W^\top + b`.

    Parameters
    ----------
    x : array_like, shape (batch, in), float32 or float64
    w : array_like, shape (out, in)
    b : array_like, shape (out,)
    out : ndarray, shape (batch, out), optional
        Filled and returned; never read.

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
        return _matmul.linear(x, w, b, out)
    except UNSUITABLE:
        x, w, b = as_arrays("linear", x, w, b)
        named = f"linear of {x.shape}, {w.shape} and {b.shape}"
        wants(named, 2, x, "the input")
        wants(named, 2, w, "the weight")
        wants(named, 1, b, "the bias")
        hint = f"the weight {w.shape} is [out, in], the input {x.shape} is [batch, in]"
        same_shape("linear", (x.shape[0], w.shape[1]), x.shape, hint)
        same_shape("linear", (w.shape[0],), b.shape, f"the bias has one element for each row of the weight {w.shape}")
        bias = np.ascontiguousarray(b)
        shape = (x.shape[0], w.shape[0])
        return into("linear", out, shape, (x, w, bias), lambda result: _matmul.linear(x, w, bias, result))


def linear_backward(grad: ArrayLike, x: ArrayLike, w: ArrayLike) -> tuple[Array, Array, Array]:
    r"""Return the gradients of :func:`linear`: :math:`\partial x = gW, \partial W = g^\top x, \partial b = Σ g`.

    Operands and errors are those of :func:`linear`; ``grad`` has the shape (batch, out).

    Examples
    --------
    >>> dx, dw, db = linear_backward([[1.0], [2.0]], [[1.0, 0.0], [0.0, 1.0]], [[3.0, 4.0]])
    >>> dw, db
    (array([[1., 2.]], dtype=float32), array([3.], dtype=float32))
    """
    try:
        if (
            type(grad) is type(x) is type(w) is np.ndarray
            and grad.shape == (x.shape[0], w.shape[0])
            and x.shape[1] == w.shape[1]
        ):
            return _matmul.matmul(grad, w), _matmul.matmul(grad.T, x), _sums.sum_rows(grad)
    except UNSUITABLE:
        pass
    grad, x, w = as_arrays("linear_backward", grad, x, w)
    for array, name in ((grad, "grad"), (x, "the input"), (w, "the weight")):
        wants(f"linear_backward of {grad.shape}, {x.shape} and {w.shape}", 2, array, name)
    same_shape("linear_backward", (x.shape[0], w.shape[0]), grad.shape, "grad has the shape of the output")
    same_shape("linear_backward", (x.shape[0], w.shape[1]), x.shape, f"the weight {w.shape} is [out, in]")
    return matmul(grad, w), matmul(grad.T, x), sum(grad, axis=0)
