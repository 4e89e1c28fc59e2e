"""Operations along the last axis, each followed by its backward pass: softmax, its logarithm, and normalisation.

They take float32 or float64 arrays of any rank from 1 and return a new array of that shape. They raise
:class:`DtypeError` for other dtypes, :class:`DimensionError` for a number, and :class:`ShapeMismatch` if a gradient has
another shape. The sums have a fixed order, so the bits are the same at every number of threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.error import DimensionError
from viva_tensor.kernels._elementwise import apply_rows
from viva_tensor.kernels.arrays import UNSUITABLE, Array, as_array, as_arrays, same_shape
from viva_tensor.kernels.checks import at_least_0

__all__ = [
    "log_softmax",
    "log_softmax_backward",
    "normalize",
    "normalize_backward",
    "softmax",
    "softmax_backward",
]


def softmax(x: ArrayLike) -> Array:
    r"""Return the softmax along the last axis [1]_, :math:`e^{x_i - m} / \sum_j e^{x_j - m}`.

    In it, :math:`m = \max_j x_j`.

    References
    ----------
    .. [1] J. S. Bridle, Probabilistic interpretation of feedforward classification network outputs, in
       Neurocomputing, Springer 1990.

    Examples
    --------
    >>> softmax([[0.0, 0.0], [1000.0, 0.0]])
    array([[0.5, 0.5],
           [1. , 0. ]], dtype=float32)
    """
    return _along("softmax", x, x)


def softmax_backward(grad: ArrayLike, y: ArrayLike) -> Array:
    r"""Return the gradient of y = :func:`softmax`, from its output: :math:`y_i (g_i - \sum_j g_j y_j)`.

    Examples
    --------
    >>> softmax_backward([1.0, 0.0], [0.5, 0.5])
    array([ 0.25, -0.25], dtype=float32)
    """
    return _along("softmax_backward", grad, y)


def log_softmax(x: ArrayLike) -> Array:
    r"""Return the logarithm of the softmax along the last axis, :math:`x_i - m - \ln \sum_j e^{x_j - m}`.

    Examples
    --------
    >>> log_softmax([1000.0, 0.0])
    array([    0., -1000.], dtype=float32)
    """
    return _along("log_softmax", x, x)


def log_softmax_backward(grad: ArrayLike, y: ArrayLike) -> Array:
    r"""Return the gradient of y = :func:`log_softmax`, from its output: :math:`g_i - e^{y_i} \sum_j g_j`.

    Examples
    --------
    >>> log_softmax_backward([1.0, 0.0], [-0.6931472, -0.6931472])
    array([ 0.5, -0.5], dtype=float32)
    """
    return _along("log_softmax_backward", grad, y)


def normalize(x: ArrayLike, epsilon: float = 1e-5) -> Array:
    r"""Scale rows to mean 0 and variance 1 [1]_, :math:`(x_i - \mu) / \sqrt{\sigma^2 + \varepsilon}`.

    σ² has the divisor n.

    Parameters
    ----------
    x : array_like, float32 or float64
    epsilon : float
        ε, at least 0.

    References
    ----------
    .. [1] J. L. Ba, J. R. Kiros and G. E. Hinton, Layer normalization, arXiv:1607.06450, 2016.

    Examples
    --------
    >>> normalize([[1.0, 3.0]], epsilon=0)
    array([[-1.,  1.]], dtype=float32)
    """
    return _along("normalize", x, x, at_least_0("normalize", "epsilon", epsilon))


def normalize_backward(grad: ArrayLike, x: ArrayLike, epsilon: float = 1e-5) -> Array:
    r"""Return the gradient of y = :func:`normalize` at x.

    .. math:: (g_i - \bar g - y_i \overline{g y}) / \sqrt{\sigma^2 + \varepsilon}

    Examples
    --------
    >>> normalize_backward([[1.0, 0.0, 0.0]], [[1.0, 2.0, 3.0]], epsilon=0).round(4)
    array([[ 0.2041, -0.4082,  0.2041]], dtype=float32)
    """
    return _along("normalize_backward", grad, x, at_least_0("normalize_backward", "epsilon", epsilon))


def _along(operation: str, a: ArrayLike, b: ArrayLike, factor: float = 0) -> Array:
    """Apply the formula of this name to each pair of rows."""
    try:
        return apply_rows(operation, a, b, factor)
    except UNSUITABLE:
        pass
    if a is b:
        first = second = as_array(operation, a)
    else:
        first, second = as_arrays(operation, a, b)
        same_shape(operation, second.shape, first.shape, "give one gradient for each element")
    if first.ndim == 0:
        raise DimensionError("got a number", operation=operation, hint="give an array with at least one axis")
    if first.size == 0:
        return np.empty(first.shape, first.dtype)
    a, b = (np.ascontiguousarray(array).reshape(-1, array.shape[-1]) for array in (first, second))
    return apply_rows(operation, a, b, factor).reshape(first.shape)
