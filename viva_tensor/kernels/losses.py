"""Losses in one pass over predictions and targets."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.kernels import _sums
from viva_tensor.kernels._arrays import Array, Unfit, as_array, as_arrays, same_shape

__all__ = ["mean_squared_error", "mean_squared_error_backward"]

_NUMBERS = (float, np.float32, np.float64)


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
    try:
        return _sums.squared_error(pred, target)
    except Unfit:
        p, t = _pair("mean_squared_error", pred, target)
        return _sums.squared_error(p.ravel()[None], t.ravel()[None])


def mean_squared_error_backward(grad: ArrayLike, pred: ArrayLike, target: ArrayLike) -> Array:
    r"""Gradient of :func:`mean_squared_error` with respect to ``pred``, :math:`\frac{2 g}{n} (p - t)`.

    That with respect to ``target`` is its negative.

    Examples
    --------
    >>> mean_squared_error_backward(1.0, [1.0, 2.0], [1.0, 4.0])
    array([ 0., -2.], dtype=float32)
    """
    try:
        if grad.ndim if type(grad) is np.ndarray else type(grad) not in _NUMBERS:
            raise TypeError
        return _sums.squared_error_backward(pred, target, grad)
    except Unfit:
        p, t = _pair("mean_squared_error_backward", pred, target)
        scalar = as_array("mean_squared_error_backward", grad)
        same_shape("mean_squared_error_backward", (), scalar.shape, "grad is the gradient of a scalar")
        return _sums.squared_error_backward(p.ravel()[None], t.ravel()[None], float(scalar)).reshape(p.shape)


def _pair(operation: str, pred: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    p, t = as_arrays(operation, pred, target)
    same_shape(operation, p.shape, t.shape, "give one target for each prediction, of the same shape")
    return p, t
