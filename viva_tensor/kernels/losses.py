"""Losses of predictions and targets, each followed by its backward pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.error import DimensionError, IndexOutOfBounds, InvalidShape, InvalidValue
from viva_tensor.kernels import _sums
from viva_tensor.kernels._broadcasting import pairs, unary, unary_backward
from viva_tensor.kernels._elementwise import apply_rows
from viva_tensor.kernels.activations import sigmoid, tanh
from viva_tensor.kernels.arrays import UNSUITABLE, Array, as_array, as_arrays, read, same_shape
from viva_tensor.kernels.checks import positive
from viva_tensor.kernels.elementwise import mul, sub

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "huber",
    "huber_backward",
    "log_cosh",
    "log_cosh_backward",
    "mean_squared_error",
    "mean_squared_error_backward",
]

_NUMBERS = (float, np.float32, np.float64)


def mean_squared_error(pred: ArrayLike, target: ArrayLike) -> Array:
    r"""Return the mean squared error, :math:`\frac{1}{n} \sum_i (p_i - t_i)^2`, in one pass.

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
    except UNSUITABLE:
        p, t = _pair("mean_squared_error", pred, target)
        return _sums.squared_error(p.ravel()[None], t.ravel()[None])


def mean_squared_error_backward(grad: ArrayLike, pred: ArrayLike, target: ArrayLike) -> Array:
    r"""Return the gradient of :func:`mean_squared_error` with respect to ``pred``, :math:`\frac{2 g}{n} (p - t)`.

    The gradient with respect to ``target`` is its negative.

    Examples
    --------
    >>> mean_squared_error_backward(1.0, [1.0, 2.0], [1.0, 4.0])
    array([ 0., -2.], dtype=float32)
    """
    try:
        if (grad.ndim or grad.dtype.char not in "fd") if type(grad) is np.ndarray else type(grad) not in _NUMBERS:
            raise TypeError
        return _sums.squared_error_backward(pred, target, grad)
    except UNSUITABLE:
        p, t = _pair("mean_squared_error_backward", pred, target)
        scalar = as_array("mean_squared_error_backward", grad)
        same_shape("mean_squared_error_backward", (), scalar.shape, "grad is the gradient of a scalar")
        return _sums.squared_error_backward(p.ravel()[None], t.ravel()[None], float(scalar)).reshape(p.shape)


def _pair(operation: str, pred: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    p, t = as_arrays(operation, pred, target)
    same_shape(operation, p.shape, t.shape, "give one target for each prediction, of the same shape")
    return p, t


def huber(difference: ArrayLike, delta: float = 1.0) -> Array:
    r"""Return Huber's loss [1]_, :math:`d^2 / 2` where :math:`|d| \le \delta`, else :math:`\delta (|d| - \delta / 2)`.

    Parameters
    ----------
    difference : array_like, float32 or float64
        Predictions minus targets.
    delta : float
        δ, above 0.

    References
    ----------
    .. [1] P. J. Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35(1), 1964.

    Examples
    --------
    >>> huber([0.5, -3.0])
    array([0.125, 2.5  ], dtype=float32)
    """
    return unary("huber", difference, None, positive("huber", "delta", delta))


def huber_backward(grad: ArrayLike, difference: ArrayLike, delta: float = 1.0) -> Array:
    r"""Return the gradient of :func:`huber`: g times the difference clipped to :math:`\pm\delta`.

    Examples
    --------
    >>> huber_backward([1.0, 1.0], [0.5, -3.0])
    array([ 0.5, -1. ], dtype=float32)
    """
    return unary_backward("huber_backward", grad, difference, None, positive("huber_backward", "delta", delta))


def log_cosh(difference: ArrayLike) -> Array:
    r"""Return :math:`\ln \cosh d`: about :math:`d^2 / 2` of small differences, :math:`|d| - \ln 2` of large ones.

    Examples
    --------
    >>> log_cosh([0.0, 1.0]).round(4)
    array([0.    , 0.4338], dtype=float32)
    """
    return unary("log_cosh", difference, None)


def log_cosh_backward(grad: ArrayLike, difference: ArrayLike) -> Array:
    r"""Return the gradient of :func:`log_cosh`, :math:`g \tanh d`.

    Examples
    --------
    >>> log_cosh_backward([1.0], [1.0]).round(4)
    array([0.7616], dtype=float32)
    """
    return unary_backward("mul", grad, tanh(difference), operation="log_cosh_backward")


def binary_cross_entropy(logits: ArrayLike, target: ArrayLike) -> Array:
    r"""Return the cross-entropy of each logit x with its target t, :math:`\max(x, 0) - x t + \ln(1 + e^{-|x|})`.

    This is :math:`-t \ln \sigma(x) - (1 - t) \ln(1 - \sigma(x))` without overflow, and with 0 · ∞ = 0: the loss of
    an infinite logit is 0 if the target is the class that it predicts, else ∞.

    Parameters
    ----------
    logits, target : array_like, float32 or float64, of one shape and dtype
        Targets from 0 to 1.

    Raises
    ------
    InvalidValue
        If a target is NaN or not from 0 to 1.
    ShapeMismatch, DtypeError
        If the shapes or dtypes differ.

    Examples
    --------
    >>> binary_cross_entropy([0.0, 100.0], [1.0, 0.0]).round(4)
    array([  0.6931, 100.    ], dtype=float32)
    """
    x, t = _pair("binary_cross_entropy", logits, target)
    outside = ~((t >= 0) & (t <= 1))  # NaN too
    if outside.any():
        index = int(np.argmax(outside))
        raise InvalidValue(
            f"target {t.ravel()[index]} at {index}", operation="binary_cross_entropy", hint="targets are from 0 to 1"
        )
    return pairs("binary_cross_entropy", x, t)


def binary_cross_entropy_backward(grad: ArrayLike, logits: ArrayLike, target: ArrayLike) -> Array:
    r"""Return the gradient of :func:`binary_cross_entropy` with respect to the logits, :math:`g \cdot (\sigma(x) - t)`.

    Examples
    --------
    >>> binary_cross_entropy_backward([1.0], [0.0], [1.0])
    array([-0.5], dtype=float32)
    """
    x, t = _pair("binary_cross_entropy_backward", logits, target)
    return unary_backward("mul", grad, sub(sigmoid(x), t), operation="binary_cross_entropy_backward")


def cross_entropy(logits: ArrayLike, target: ArrayLike) -> Array:
    r"""Return each row's cross-entropy, :math:`-\sum_j t_j \ln \mathrm{softmax}(x)_j` with the target t; 0 · ∞ is 0.

    Parameters
    ----------
    logits : array_like [rows, classes], float32 or float64
    target : array_like
        [rows, classes]: the probabilities t of each row. [rows]: the index of each row's class, as an integer or as a
        floating-point number of the dtype of the logits.

    Returns
    -------
    ndarray [rows]

    Raises
    ------
    IndexOutOfBounds
        If a class has no logit.
    InvalidValue
        If the index of a class is not whole, or the probabilities of a row are negative, NaN or do not sum to 1.
    ShapeMismatch, DimensionError, DtypeError
        If the shapes do not fit, or the dtypes differ.

    Examples
    --------
    >>> cross_entropy([[0.0, 0.0], [0.0, 100.0]], [0, 0]).round(4)
    array([  0.6931, 100.    ], dtype=float32)
    """
    x, t = _classes("cross_entropy", logits, target)
    _check_target("cross_entropy", t, x.shape[1])
    return apply_rows("cross_entropy", x, t) if len(x) else np.empty(0, x.dtype)


def cross_entropy_backward(grad: ArrayLike, logits: ArrayLike, target: ArrayLike) -> Array:
    r"""Return the gradient of :func:`cross_entropy` at the logits, :math:`g (\mathrm{softmax}(x) \sum_j t_j - t)`.

    Parameters
    ----------
    grad : array_like [rows]
        Gradient of the loss with respect to each row's cross-entropy.
    logits, target : array_like
        As in :func:`cross_entropy`; the targets are not checked again.

    Examples
    --------
    >>> cross_entropy_backward([1.0], [[0.0, 0.0]], [1])
    array([[ 0.5, -0.5]], dtype=float32)
    """
    x, t = _classes("cross_entropy_backward", logits, target)
    g = as_arrays("cross_entropy_backward", grad, x)[0]
    same_shape("cross_entropy_backward", x.shape[:1], g.shape, "give one gradient for each row")
    if len(x) == 0:
        return np.empty(x.shape, x.dtype)
    slopes = apply_rows("cross_entropy_backward", x, t)
    return mul(slopes, g[:, None], slopes)


def _classes(operation: str, logits: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    x = as_array(operation, logits)
    whole = read(operation, target)
    t = whole.astype(x.dtype) if whole.ndim == 1 and whole.dtype.kind in "iu" else as_arrays(operation, x, target)[1]
    if x.ndim != 2 or t.ndim not in (1, 2):
        raise DimensionError(
            f"logits of shape {x.shape}, target of shape {t.shape}",
            operation=operation,
            hint="logits are [rows, classes], targets [rows] or [rows, classes]",
        )
    if x.shape[1] == 0:
        raise InvalidShape(f"logits of shape {x.shape} have no classes", operation=operation)
    same_shape(operation, x.shape[: t.ndim], t.shape, "give one target for each row of logits")
    return np.ascontiguousarray(x), np.ascontiguousarray(t)


def _check_target(operation: str, target: Array, classes: int) -> None:
    """Raise unless the targets are indices of classes, or probabilities."""
    if target.ndim == 1:
        outside = (target < 0) | (target >= classes)
        if outside.any():
            row = int(np.argmax(outside))
            index = int(target[row]) if np.isfinite(target[row]) else -1
            hint = "give a row without a class any class, and the weight 0"
            raise IndexOutOfBounds(index, classes, operation=operation, hint=hint)
        broken = target != np.floor(target)
        if broken.any():
            row = int(np.argmax(broken))
            raise InvalidValue(
                f"class {target[row]} in row {row}", operation=operation, hint="classes are whole numbers"
            )
        return
    with np.errstate(over="ignore", invalid="ignore"):
        totals = target.sum(axis=1, dtype=np.float64)
    wrong = ~((target >= 0).all(axis=1) & (np.abs(totals - 1) <= 1e-3))  # NaN is wrong too
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InvalidValue(
            f"probabilities of row {row} sum to {totals[row]:.6g}, the least is {target[row].min():.6g}",
            operation=operation,
            hint="they are at least 0 and sum to 1",
        )
