"""Elements of an axis by their indices, and the way back, which adds up what was taken several times."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.error import DtypeError, IndexOutOfBounds, InvalidShape, InvalidValue
from viva_tensor.kernels import _indexing
from viva_tensor.kernels.arrays import Array, Whole, as_array, as_arrays, axes_of, empty, read, same_shape, wants

__all__ = ["embedding_bag", "embedding_bag_backward", "take", "take_backward"]


def take(x: ArrayLike, indices: ArrayLike, axis: Whole = 0) -> Array:
    r"""Return the elements of x at some indices along an axis, :math:`y_{\ldots i \ldots} = x_{\ldots n_i \ldots}`.

    Parameters
    ----------
    x : array_like, float32 or float64
    indices : array_like, of any shape
        Whole numbers, as integers or in the dtype of x. Negative ones count from the end.
    axis : int

    Returns
    -------
    ndarray
        Of the shape of x, with that of the indices in place of the axis; see :func:`numpy.take`.

    Raises
    ------
    IndexOutOfBounds
        If there is no such element, or no such axis.
    InvalidValue
        If an index is not a whole number.
    InvalidShape
        If the axis has more elements than its dtype can count: 2²⁴ in float32.
    DtypeError

    Examples
    --------
    >>> take([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [2, 0, 2])
    array([[5., 6.],
           [1., 2.],
           [5., 6.]], dtype=float32)
    """
    x = as_array("take", x)
    (axis,) = axes_of("take", (axis,), x.shape)
    indices = as_indices("take", x, indices, x.shape[axis])
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return _moved("take", x, indices, shape, around(x.shape, axis))


def take_backward(grad: ArrayLike, x: ArrayLike, indices: ArrayLike, axis: Whole = 0) -> Array:
    r"""Return the gradient of :func:`take` with respect to x, :math:`\sum_{i: n_i = p} g_{\ldots i \ldots}`.

    The terms are added in the order of the indices, so that the bits do not depend on the number of threads.

    Parameters
    ----------
    grad : array_like
        Of the shape of the output.
    x : array_like
        Gives its shape alone.
    indices : array_like
    axis : int

    Raises
    ------
    ShapeMismatch
        If the gradient has another shape than the output; and as :func:`take`.

    Examples
    --------
    >>> take_backward([[1.0], [2.0], [3.0]], [[0.0], [0.0]], [1, 0, 1])
    array([[2.],
           [4.]], dtype=float32)
    """
    x, grad = as_arrays("take_backward", x, grad)
    (axis,) = axes_of("take_backward", (axis,), x.shape)
    indices = as_indices("take_backward", x, indices, x.shape[axis])
    expected = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    same_shape("take_backward", expected, grad.shape, "give one gradient for each element that was taken")
    return _moved("take_backward", grad, indices, x.shape, around(x.shape, axis), backward=True)


def embedding_bag(table: ArrayLike, indices: ArrayLike, weights: ArrayLike) -> Array:
    r"""Return weighted sums of rows of a table, :math:`y_{ih} = \sum_j w_{ij} t_{n_{ij} h}`, added in the order of j.

    It is the product of a sparse matrix, of which each row has as many entries, and the table.

    Parameters
    ----------
    table : array_like, shape (m, h), float32 or float64
    indices : array_like, shape (n, k)
        Whole numbers, as integers or in the dtype of the table. Negative ones count from the end. A row may have the
        same one several times.
    weights : array_like, shape (n, k)
        What is multiplied by 0 is still added: infinite and NaN rows make NaN, as in a product.

    Returns
    -------
    ndarray, shape (n, h)

    Raises
    ------
    DimensionError, ShapeMismatch
        If an operand is no matrix, or indices and weights differ in shape.
    IndexOutOfBounds, InvalidValue, InvalidShape, DtypeError
        As :func:`take`.

    Examples
    --------
    >>> embedding_bag([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[0, 2], [1, 1]], [[1.0, 10.0], [0.5, 0.25]])
    array([[51.  , 62.  ],
           [ 2.25,  3.  ]], dtype=float32)
    """
    table, indices, weights = _bags("embedding_bag", table, indices, weights)
    out = empty("embedding_bag", (len(indices), table.shape[1]), table.dtype)
    if out.size and indices.size:
        _indexing.embedding_bag(table, indices, weights, out)
    else:
        out.fill(0)
    return out


def embedding_bag_backward(grad: ArrayLike, table: ArrayLike, indices: ArrayLike, weights: ArrayLike) -> Array:
    r"""Return the gradient of the table of :func:`embedding_bag`, :math:`\sum_{ij: n_{ij} = p} w_{ij} g_{ih}`.

    The terms are added in the order of i, then of j, so that the bits do not depend on the number of threads.

    Parameters
    ----------
    grad : array_like, shape (n, h)
    table : array_like, shape (m, h)
        Gives its shape alone.
    indices, weights : array_like, shape (n, k)

    Raises
    ------
    ShapeMismatch
        If the gradient has another shape than the output; and as :func:`embedding_bag`.

    Examples
    --------
    >>> embedding_bag_backward([[1.0], [2.0]], [[0.0], [0.0]], [[0, 1], [1, 1]], [[1.0, 10.0], [0.5, 0.25]])
    array([[ 1. ],
           [11.5]], dtype=float32)
    """
    operation = "embedding_bag_backward"
    grad, table = as_arrays(operation, grad, table)
    table, indices, weights = _bags(operation, table, indices, weights)
    expected = (len(indices), table.shape[1])
    same_shape(operation, expected, grad.shape, "give one gradient for each sum")
    out = empty(operation, table.shape, table.dtype)
    if out.size and indices.size:
        _indexing.embedding_bag(np.ascontiguousarray(grad), indices, weights, out, True)
    else:
        out.fill(0)
    return out


def _bags(operation: str, table: ArrayLike, indices: ArrayLike, weights: ArrayLike) -> tuple[Array, Array, Array]:
    """Return a table, and indices and weights of its rows, as matrices without gaps."""
    table, weights = as_arrays(operation, table, weights)
    for array, name in ((table, "the table"), (weights, "weights")):
        wants(operation, 2, array, name)
    indices = as_indices(operation, table, indices, len(table))
    same_shape(operation, weights.shape, indices.shape, "give one index for each weight")
    return tuple(map(np.ascontiguousarray, (table, indices, weights)))  # type: ignore[return-value]


def as_indices(operation: str, x: Array, indices: ArrayLike, size: int) -> Array:
    """Return indices along an axis of so many elements in the dtype of x, checked.

    Examples
    --------
    >>> as_indices("take", np.zeros(3), [0, -1], 3)
    array([ 0., -1.])
    """
    whole = indices if type(indices) is np.ndarray else read(f"{operation}, indices", indices)
    if whole.dtype.kind == "b":
        hint = "give np.flatnonzero(mask)"
        raise DtypeError(f"a mask, bool of shape {whole.shape}, for indices", operation=operation, hint=hint)
    if size > 1 << np.finfo(x.dtype).nmant + 1:
        hint = "work in float64, or in parts"
        raise InvalidShape(f"{size} elements, more than {x.dtype} can count", operation=operation, hint=hint)
    found = whole if whole.dtype.kind in "iu" else as_arrays(operation, x, indices)[1]
    if found.size and not -size <= found.min() <= found.max() < size:  # NaN, too
        wrong = found.ravel()[int(np.argmax(~((found >= -size) & (found < size))))]
        if not np.isfinite(wrong):
            raise InvalidValue(f"the index {wrong}", operation=operation, hint="indices are whole numbers")
        raise IndexOutOfBounds(int(wrong), size, operation=operation, hint=f"of shape {x.shape}")
    if found.dtype.kind == "f" and (broken := found != np.floor(found)).any():
        wrong = found.ravel()[int(np.argmax(broken))]
        raise InvalidValue(f"the index {wrong}", operation=operation, hint="indices are whole numbers")
    return found.astype(x.dtype, copy=False)


def around(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """Return the numbers of elements before, along and after an axis.

    Examples
    --------
    >>> around((2, 3, 4, 5), 1)
    (2, 3, 20)
    """
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _moved(
    operation: str,
    x: Array,
    indices: Array,
    shape: tuple[int, ...],
    sizes: tuple[int, int, int],
    backward: bool = False,
) -> Array:
    out = empty(operation, shape, x.dtype)
    if x.size and indices.size:
        outer, size, inner = sizes
        flat = np.ascontiguousarray(indices).reshape(-1, 1)
        _indexing.take(
            np.ascontiguousarray(x).reshape(-1, inner), flat, out.reshape(-1, inner), outer, size, inner, backward
        )
    else:
        out.fill(0)
    return out
