"""Dropout; its backward pass is dropout of the gradient with the same seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.error import InvalidValue
from viva_tensor.kernels import _elementwise
from viva_tensor.kernels.arrays import UNSUITABLE, Array, as_array
from viva_tensor.kernels.checks import is_whole, share, shown

__all__ = ["dropout", "dropout_backward"]


def dropout(x: ArrayLike, rate: float, seed: int) -> Array:
    r"""Set each element to 0 with probability p, and scale the others to keep the mean, :math:`x_i / (1 - p)` [1]_.

    Parameters
    ----------
    x : array_like, float32 or float64
    rate : float
        The probability p, from 0 up to but not including 1.
    seed : int
        From 0 up to 2⁶⁴. Element i is kept if output i of SplitMix64 [2]_ with this seed is at least p · 2⁶⁴.

    Returns
    -------
    ndarray
        Of the shape of x.

    Raises
    ------
    InvalidValue
        If the rate or the seed is out of range.
    DtypeError
        If the dtype is neither float32 nor float64.

    References
    ----------
    .. [1] N. Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, Journal of Machine
       Learning Research 15, 2014; scaled while training, as is now usual.
    .. [2] G. L. Steele, D. Lea and C. H. Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.

    Examples
    --------
    >>> dropout([1.0, 2.0, 3.0, 4.0], 0.5, seed=1)
    array([2., 4., 6., 0.], dtype=float32)
    """
    return _dropped("dropout", x, rate, seed)


def dropout_backward(grad: ArrayLike, rate: float, seed: int) -> Array:
    """Return the gradient of :func:`dropout` with the same rate and seed.

    Examples
    --------
    >>> dropout_backward([1.0, 1.0], 0.0, seed=1)
    array([1., 1.], dtype=float32)
    """
    return _dropped("dropout_backward", grad, rate, seed)


def _dropped(operation: str, x: ArrayLike, rate: float, seed: int) -> Array:
    if rate.__class__ is not float or not 0 <= rate < 1:
        share(operation, "rate", rate)
    if not (is_whole(seed) and 0 <= seed < 1 << 64):
        raise InvalidValue(f"seed={shown(seed)}, wanted a whole number of 64 bits", operation=operation)
    try:
        return _elementwise.dropout(x, rate, seed)
    except UNSUITABLE:
        array = as_array(operation, x)
        return _elementwise.dropout(np.ascontiguousarray(array).reshape(1, -1), rate, seed).reshape(array.shape)
