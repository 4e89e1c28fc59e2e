"""Optimiser updates: new arrays from old ones, one pass each."""

from __future__ import annotations

import numpy as np

from viva_tensor.kernels import _updates
from viva_tensor.kernels._arrays import Array, Unfit, as_arrays, same_shape

__all__ = ["sgd"]


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
    try:
        return _updates.descend(w, grad, lr, momentum, velocity)
    except Unfit:
        arrays = as_arrays("sgd", w, grad, *(() if velocity is None else (velocity,)))
        for array in arrays[1:]:
            same_shape("sgd", arrays[0].shape, array.shape, "weights, gradient and velocity have one shape")
        old, *others = [np.ascontiguousarray(array).reshape(array.shape) for array in arrays]
        return _updates.descend(old, others[0], lr, momentum, *others[1:])
