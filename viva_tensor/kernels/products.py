"""Matrix products, plain and as the affine map of a layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.error import BroadcastError, DimensionError, ShapeMismatch
from viva_tensor.kernels import _matmul, _sums
from viva_tensor.kernels.arrays import UNSUITABLE, Array, as_arrays, empty, into, same_shape, wants
from viva_tensor.kernels.elementwise import add_backward
from viva_tensor.kernels.sums import sum

Offsets = np.ndarray[Any, np.dtype[np.int64]]

__all__ = ["linear", "linear_backward", "matmul", "matmul_backward"]


def matmul(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    r"""Multiply two matrices, :math:`c_{ij} = \sum_k a_{ik} b_{kj}`, or batches of them by the rules of NumPy.

    Parameters
    ----------
    a : array_like, shape (..., m, k), float32 or float64
        Any strides: a transposed view costs nothing. All axes but the last two are broadcast against those of b. A
        vector is one row, which the result lacks.
    b : array_like, shape (..., k, n), of the same dtype
        A vector is one column, which the result lacks.
    out : ndarray, shape (..., m, n), optional
        Filled and returned; never read.

    Returns
    -------
    ndarray, shape (..., m, n)
        Within γₖ·|a||b| of the exact product, where γₖ = k·u / (1 - k·u) [1]_.

    Raises
    ------
    DimensionError
        If an operand is a number.
    ShapeMismatch, BroadcastError
        If the inner dimensions differ, or ``out`` has another shape; if the batches do not fit together.
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
        if out is None and (product := _side_by_side(x, y)) is not None:
            return product
        first, second, shape = _as_matrices(x, y)
        whole = (*np.broadcast_shapes(first.shape[:-2], second.shape[:-2]), first.shape[-2], second.shape[-1])
        return into("matmul", out, shape, (x, y), lambda result: _multiply(first, second, result.reshape(whole)))


def _side_by_side(a: Array, b: Array) -> Array | None:
    """Return the products of two batches without gaps, of one size: a short cut. None for anything else."""
    batch, (rows, depth), columns = a.shape[:-2], a.shape[-2:] if a.ndim > 2 else (0, 0), b.shape[-1:]
    count = math.prod(batch)
    fits = b.shape == (*batch, depth, *columns) and a.flags.c_contiguous and b.flags.c_contiguous
    if not (fits and rows and count and b.size):
        return None
    out = empty("matmul", (*batch, rows, *columns), a.dtype)
    first, second = a.reshape(-1, depth)[:rows], b.reshape(-1, *columns)[:depth]
    offsets = _evenly(count, rows * depth), _evenly(count, second.size)
    _matmul.matmul_batch(first, second, out.reshape(-1, *columns), *offsets)
    return out


@lru_cache(maxsize=64)
def _evenly(count: int, step: int) -> Offsets:
    """Return so many offsets at equal distances."""
    offsets = np.arange(count) * step
    offsets.setflags(write=False)
    return offsets


def _as_matrices(a: Array, b: Array) -> tuple[Array, Array, tuple[int, ...]]:
    """Return operands as matrices that fit together, and the shape of their product."""
    named = f"matmul of {a.shape} and {b.shape}"
    if not (a.ndim and b.ndim):
        hint = "give vectors, matrices or batches of matrices, or multiply by a number with mul"
        raise DimensionError("got a number", operation=named, hint=hint)
    first, second = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    if first.shape[-1] != second.shape[-2]:
        raise ShapeMismatch(
            (*second.shape[:-2], first.shape[-1], second.shape[-1]),
            second.shape,
            operation=named,
            hint="the columns of the first operand must equal the rows of the second; perhaps transpose one",
        )
    try:
        batch = np.broadcast_shapes(first.shape[:-2], second.shape[:-2])
    except ValueError:
        raise BroadcastError(a.shape, b.shape, operation="matmul") from None
    rows, columns = (first.shape[-2],) * (a.ndim > 1), (second.shape[-1],) * (b.ndim > 1)
    return first, second, (*batch, *rows, *columns)


def _multiply(a: Array, b: Array, out: Array) -> None:
    """Set out, which may have any strides, to a product of matrices or batches of them."""
    if b.ndim == 2:
        rows = np.ascontiguousarray(a).reshape(math.prod(a.shape[:-1]), a.shape[-1]) if a.ndim > 2 else a
        if a.ndim == 2 or out.flags.c_contiguous:
            _matmul.matmul(rows, b, out.reshape(len(rows), b.shape[1]))
        else:
            out[...] = _matmul.matmul(rows, b).reshape(out.shape)
        return
    result = out if out.flags.c_contiguous else empty("matmul", out.shape, out.dtype)
    if out.size:
        (first, a_offsets), (second, b_offsets) = (_spread(x, out.shape[:-2]) for x in (a, b))
        _matmul.matmul_batch(first, second, result.reshape(-1, b.shape[-1]), a_offsets, b_offsets)
    if result is not out:
        out[...] = result


def _spread(x: Array, batch: tuple[int, ...]) -> tuple[Array, Offsets]:
    """Return the first matrix of a batch that is broadcast, and the offsets of all from it, in elements."""
    if any(step % x.itemsize for step in x.strides):
        x = np.ascontiguousarray(x)
    whole = np.broadcast_to(x, (*batch, *x.shape[-2:]))
    steps = [step // x.itemsize for step in whole.strides[: len(batch)]]
    return x[(0,) * (x.ndim - 2)], offsets_of(batch, steps)


def offsets_of(sizes: Sequence[int], steps: Sequence[int]) -> Offsets:
    """Return where each element of an array with these sizes and strides lies, from the first one, in row-major order.

    Examples
    --------
    >>> offsets_of((2, 3), (10, 1))
    array([ 0,  1,  2, 10, 11, 12])
    """
    found = np.zeros((), np.int64)
    for size, step in zip(sizes, steps, strict=True):
        found = found[..., None] + np.arange(size) * step
    return found.ravel()


def matmul_backward(grad: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    r"""Return the gradients of :func:`matmul`: :math:`\partial a = g b^\top`, :math:`\partial b = a^\top g`.

    Operands and errors are those of :func:`matmul`.

    Parameters
    ----------
    grad : array_like, shape (..., m, n)
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
    first, second, shape = _as_matrices(a, b)
    same_shape("matmul_backward", shape, grad.shape, "grad has the shape of the product")
    grads = grad.reshape(*np.broadcast_shapes(first.shape[:-2], second.shape[:-2]), first.shape[-2], second.shape[-1])
    found = matmul(grads, second.swapaxes(-1, -2)), matmul(first.swapaxes(-1, -2), grads)
    da, db = (add_backward(one, whole.shape) for one, whole in zip(found, (first, second), strict=True))
    return da.reshape(a.shape), db.reshape(b.shape)


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
