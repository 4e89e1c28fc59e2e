"""Normalisations as records of variables, and functions (tape, layer, input) that return a value and a new tape."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable, operations
from viva_tensor.autograd.operators import ARITHMETIC, refuses
from viva_tensor.autograd.tape import node_of
from viva_tensor.error import DimensionError, DtypeError, InvalidShape, InvalidValue
from viva_tensor.kernels.arrays import Array, empty, float_dtype, same_shape
from viva_tensor.kernels.checks import at_least_0, is_whole, real, shown
from viva_tensor.nn.initializers import check_sizes
from viva_tensor.nn.layers import check_layer

__all__ = [
    "BatchNorm",
    "BatchStatistics",
    "GroupNorm",
    "LayerNorm",
    "RMSNorm",
    "batch_norm",
    "batch_norm_apply",
    "batch_norm_forward",
    "group_norm",
    "group_norm_forward",
    "layer_norm",
    "layer_norm_forward",
    "rms_norm",
    "rms_norm_forward",
]


@refuses(ARITHMETIC)
class LayerNorm(NamedTuple):
    """Scale and shift of normalised features.

    Attributes
    ----------
    w, b : Variable, shape [features]
    """

    w: Variable
    b: Variable


def layer_norm(tape: Tape, features: int, *, dtype: DTypeLike = "float32") -> Traced[LayerNorm]:
    """Record a new layer normalisation, with scale 1 and shift 0.

    Raises
    ------
    InvalidShape
        If there are no features.
    DtypeError
        If the dtype is neither float32 nor float64.

    Examples
    --------
    >>> layer, tape = layer_norm(autograd.new_tape(), 2)
    >>> layer.w.data, layer.b.data
    (array([1., 1.], dtype=float32), array([0., 0.], dtype=float32))
    """
    (w, b), tape = _scale_and_shift("layer_norm", tape, features, dtype)
    return Traced(LayerNorm(w, b), tape)


def layer_norm_forward(tape: Tape, layer: LayerNorm, x: Variable, *, epsilon: float = 1e-5) -> Traced[Variable]:
    r"""Normalise along the last axis, :math:`w (x - \mu) / \sqrt{\sigma^2 + \varepsilon} + b` [1]_.

    Parameters
    ----------
    tape : Tape
    layer : LayerNorm
    x : Variable [..., features]
    epsilon : float
        ε, at least 0.

    Raises
    ------
    ShapeMismatch
        If the number of features differs.
    InvalidValue, DimensionError, DtypeError, ForeignVariable

    References
    ----------
    .. [1] J. L. Ba, J. R. Kiros and G. E. Hinton, Layer normalization, arXiv:1607.06450, 2016.

    Examples
    --------
    >>> layer, tape = layer_norm(autograd.new_tape(), 2)
    >>> x, tape = autograd.new_constant(tape, [[1.0, 3.0]])
    >>> layer_norm_forward(tape, layer, x, epsilon=0).value.data
    array([[-1.,  1.]], dtype=float32)
    """
    check_layer("layer_norm_forward", layer, LayerNorm)
    _check_features("layer_norm_forward", tape, layer, x, axis=-1)
    epsilon = real("layer_norm_forward", "epsilon", epsilon)
    normal, tape = autograd.record(tape, operations.NORMALIZE, x, epsilon=epsilon)
    return _scaled(tape, normal, layer.w, layer.b)


@refuses(ARITHMETIC)
class RMSNorm(NamedTuple):
    """Scale of features that are divided by their root mean square.

    Attributes
    ----------
    w : Variable, shape [features]
    """

    w: Variable


def rms_norm(tape: Tape, features: int, *, dtype: DTypeLike = "float32") -> Traced[RMSNorm]:
    """Record a new normalisation by the root mean square, with scale 1; errors as :func:`layer_norm`.

    Examples
    --------
    >>> layer, tape = rms_norm(autograd.new_tape(), 2)
    >>> layer.w.data
    array([1., 1.], dtype=float32)
    """
    _check_size("rms_norm", features, dtype)
    w, tape = autograd.new_variable(tape, np.ones(features, dtype))
    return Traced(RMSNorm(w), tape)


def rms_norm_forward(tape: Tape, layer: RMSNorm, x: Variable, *, epsilon: float = 1e-6) -> Traced[Variable]:
    r"""Divide by the root mean square of the last axis, :math:`w x / \sqrt{\overline{x^2} + \varepsilon}` [1]_.

    Parameters
    ----------
    tape : Tape
    layer : RMSNorm
    x : Variable [..., features]
    epsilon : float
        ε, at least 0.

    Raises
    ------
    ShapeMismatch, InvalidValue, DtypeError, ForeignVariable
        As :func:`layer_norm_forward`.

    References
    ----------
    .. [1] B. Zhang and R. Sennrich, Root mean square layer normalization, arXiv:1910.07467, 2019.

    Examples
    --------
    >>> layer, tape = rms_norm(autograd.new_tape(), 2)
    >>> x, tape = autograd.new_constant(tape, [[1.0, 7.0]])
    >>> rms_norm_forward(tape, layer, x, epsilon=0).value.data
    array([[0.2, 1.4]], dtype=float32)
    """
    check_layer("rms_norm_forward", layer, RMSNorm)
    _check_features("rms_norm_forward", tape, layer, x, axis=-1)
    squares, tape = autograd.square(tape, x)
    size, tape = autograd.mean(tape, squares, axis=-1, keepdims=True)
    root, tape = _deviation("rms_norm_forward", tape, size, epsilon)
    normal, tape = autograd.div(tape, x, root)
    return autograd.mul(tape, normal, layer.w)


@refuses(ARITHMETIC)
class GroupNorm(NamedTuple):
    """Scale and shift of channels that are normalised in groups.

    Attributes
    ----------
    w, b : Variable, shape [channels]
    """

    w: Variable
    b: Variable


def group_norm(tape: Tape, channels: int, *, dtype: DTypeLike = "float32") -> Traced[GroupNorm]:
    """Record a new normalisation of groups of channels, with scale 1 and shift 0; errors as :func:`layer_norm`.

    Examples
    --------
    >>> layer, tape = group_norm(autograd.new_tape(), 4)
    >>> layer.w.data
    array([1., 1., 1., 1.], dtype=float32)
    """
    (w, b), tape = _scale_and_shift("group_norm", tape, channels, dtype)
    return Traced(GroupNorm(w, b), tape)


def group_norm_forward(
    tape: Tape, layer: GroupNorm, x: Variable, groups: int, *, epsilon: float = 1e-5
) -> Traced[Variable]:
    r"""Normalise each group of channels of a row, :math:`w (x - \mu) / \sqrt{\sigma^2 + \varepsilon} + b` [1]_.

    Parameters
    ----------
    tape : Tape
    layer : GroupNorm
    x : Variable [batch, channels, ...]
        Mean and variance are those of a group's channels and of all axes after them.
    groups : int
        Divides the channels.
    epsilon : float
        ε, at least 0.

    Raises
    ------
    InvalidShape
        If the groups do not divide the channels.
    ShapeMismatch, DimensionError, InvalidValue, DtypeError, ForeignVariable
        As :func:`layer_norm_forward`; if x has fewer than two axes.

    References
    ----------
    .. [1] Y. Wu and K. He, Group normalization, arXiv:1803.08494, 2018.

    Examples
    --------
    >>> layer, tape = group_norm(autograd.new_tape(), 4)
    >>> x, tape = autograd.new_constant(tape, [[1.0, 3.0, 10.0, 30.0]])
    >>> group_norm_forward(tape, layer, x, 2, epsilon=0).value.data
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    check_layer("group_norm_forward", layer, GroupNorm)
    _check_features("group_norm_forward", tape, layer, x, axis=1)
    shape, epsilon = x.shape, real("group_norm_forward", "epsilon", epsilon)
    if not (is_whole(groups) and groups >= 1 and shape[1] % groups == 0):
        hint = "give a number that divides the channels"
        raise InvalidShape(f"groups={shown(groups)} of {shape[1]} channels", operation="group_norm_forward", hint=hint)
    rows, tape = autograd.reshape(tape, x, (-1, groups, math.prod(shape[1:]) // groups))
    normal, tape = autograd.record(tape, operations.NORMALIZE, rows, epsilon=epsilon)
    normal, tape = autograd.reshape(tape, normal, (-1, *shape[1:]))
    columns = (shape[1], *[1] * (len(shape) - 2))
    w, tape = autograd.reshape(tape, layer.w, columns)
    b, tape = autograd.reshape(tape, layer.b, columns)
    return _scaled(tape, normal, w, b)


@refuses(ARITHMETIC)
class BatchNorm(NamedTuple):
    """Scale and shift of features that are normalised over the rows of a batch.

    Attributes
    ----------
    w, b : Variable, shape [features]
    """

    w: Variable
    b: Variable


class BatchStatistics(NamedTuple):
    """The running mean and variance of each feature, a value that :func:`batch_norm_forward` takes and replaces.

    Attributes
    ----------
    mean, var : ndarray, shape [features]
    """

    mean: Array
    var: Array


def batch_norm(tape: Tape, features: int, *, dtype: DTypeLike = "float32") -> Traced[tuple[BatchNorm, BatchStatistics]]:
    """Record a new batch normalisation with scale 1 and shift 0, and return it with its first statistics, 0 and 1.

    Errors are those of :func:`layer_norm`.

    Examples
    --------
    >>> (layer, running), tape = batch_norm(autograd.new_tape(), 2)
    >>> layer.w.data, running.mean, running.var
    (array([1., 1.], dtype=float32), array([0., 0.], dtype=float32), array([1., 1.], dtype=float32))
    """
    (w, b), tape = _scale_and_shift("batch_norm", tape, features, dtype)
    return Traced((BatchNorm(w, b), BatchStatistics(np.zeros(features, dtype), np.ones(features, dtype))), tape)


def batch_norm_forward(
    tape: Tape,
    layer: BatchNorm,
    x: Variable,
    running: BatchStatistics,
    *,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
) -> Traced[tuple[Variable, BatchStatistics]]:
    r"""Normalise features over a batch for training, :math:`w (x - \mu) / \sqrt{\sigma^2 + \varepsilon} + b` [1]_.

    Parameters
    ----------
    tape : Tape
    layer : BatchNorm
    x : Variable [batch, features]
        At least two rows.
    running : BatchStatistics
        Moves towards the mean of this batch and its variance (with the divisor n - 1) by the share ``momentum``, as in
        PyTorch. That happens as the pass is recorded: a compiled step, which records none, leaves statistics to a
        pass over the data afterwards.
    momentum : float
        From 0 to 1.
    epsilon : float
        ε, at least 0.

    Returns
    -------
    Traced of (Variable [batch, features], BatchStatistics)

    Raises
    ------
    ShapeMismatch, DimensionError, InvalidShape, InvalidValue, DtypeError, ForeignVariable
        As :func:`layer_norm_forward`; if x is no matrix; if it has fewer than two rows.

    References
    ----------
    .. [1] S. Ioffe and C. Szegedy, Batch normalization, arXiv:1502.03167, 2015.

    Examples
    --------
    >>> (layer, running), tape = batch_norm(autograd.new_tape(), 1)
    >>> x, tape = autograd.new_constant(tape, [[1.0], [3.0]])
    >>> (y, running), tape = batch_norm_forward(tape, layer, x, running, epsilon=0)
    >>> y.data.ravel(), running.mean, running.var
    (array([-1.,  1.], dtype=float32), array([0.2], dtype=float32), array([1.1], dtype=float32))
    """
    _check_batch("batch_norm_forward", tape, layer, x, running)
    share = real("batch_norm_forward", "momentum", momentum)
    if not 0 <= share <= 1:
        raise InvalidValue(f"momentum={momentum}", operation="batch_norm_forward", hint="give a number from 0 to 1")
    hint = "a batch has at least two rows; for single ones use batch_norm_apply"
    rows = operations.Counted((0,), "batch_norm_forward", 2, hint)  # programs refuse single rows, too
    rows.check(x.shape)
    mean, tape = autograd.mean(tape, x, axis=0)
    off, tape = autograd.sub(tape, x, mean)
    squares, tape = autograd.square(tape, off)
    var, tape = autograd.record(tape, operations.MEAN, squares, axis=rows, keepdims=False)
    root, tape = _deviation("batch_norm_forward", tape, var, epsilon)
    normal, tape = autograd.div(tape, off, root)
    y, tape = _scaled(tape, normal, layer.w, layer.b)
    unbiased = var.data * x.dtype.type(len(x.data) / (len(x.data) - 1))
    kept, share = x.dtype.type(1 - share), x.dtype.type(share)
    moved = BatchStatistics(kept * running.mean + share * mean.data, kept * running.var + share * unbiased)
    return Traced((y, moved), tape)


def batch_norm_apply(
    tape: Tape, layer: BatchNorm, x: Variable, running: BatchStatistics, *, epsilon: float = 1e-5
) -> Traced[Variable]:
    r"""Normalise features by running statistics, for predictions; see :func:`batch_norm_forward`.

    Examples
    --------
    >>> (layer, _), tape = batch_norm(autograd.new_tape(), 1)
    >>> x, tape = autograd.new_constant(tape, [[1.0], [3.0]])
    >>> running = BatchStatistics(np.array([1.0], "f4"), np.array([4.0], "f4"))
    >>> batch_norm_apply(tape, layer, x, running, epsilon=0).value.data.ravel()
    array([0., 1.], dtype=float32)
    """
    _check_batch("batch_norm_apply", tape, layer, x, running)
    off, tape = autograd.sub(tape, x, running.mean)
    var, tape = autograd.new_constant(tape, running.var)
    root, tape = _deviation("batch_norm_apply", tape, var, epsilon)
    normal, tape = autograd.div(tape, off, root)
    return _scaled(tape, normal, layer.w, layer.b)


def _check_size(operation: str, features: int, dtype: DTypeLike) -> None:
    """Raise unless there are features, and memory for them."""
    sizes = check_sizes(operation, features=features)
    float_dtype(operation, dtype)
    empty(operation, sizes, dtype)


def _scale_and_shift(operation: str, tape: Tape, features: int, dtype: DTypeLike) -> Traced[tuple[Variable, Variable]]:
    _check_size(operation, features, dtype)
    w, tape = autograd.new_variable(tape, np.ones(features, dtype))
    b, tape = autograd.new_variable(tape, np.zeros(features, dtype))
    return Traced((w, b), tape)


def _check_features(operation: str, tape: Tape, layer: Any, x: Variable, axis: int) -> None:
    """Raise unless a layer has a scale, and a shift, for each feature along an axis."""
    shape = node_of(tape, x, operation).output.data.shape
    if len(shape) < 1 + max(axis, 0):
        raise DimensionError(f"x of shape {shape}", operation=operation, hint="x is [batch, features]")
    for name, variable in zip(layer._fields, layer, strict=True):
        got = node_of(tape, variable, operation).output.data.shape
        same_shape(operation, (shape[axis],), got, f"{name} has one element for each feature of x {shape}")


def _check_batch(operation: str, tape: Tape, layer: BatchNorm, x: Variable, running: BatchStatistics) -> None:
    check_layer(operation, layer, BatchNorm)
    _check_features(operation, tape, layer, x, axis=1)
    if x.ndim != 2:
        raise DimensionError(f"x of shape {x.shape}", operation=operation, hint="x is [batch, features]")
    if not isinstance(running, BatchStatistics):
        hint = "give the statistics that batch_norm or the last batch returned"
        raise InvalidValue(f"running is {type(running).__name__}", operation=operation, hint=hint)
    for one in running:
        if getattr(one, "dtype", None) != x.dtype:
            got = f"running statistics of {getattr(one, 'dtype', type(one).__name__)}, x of {x.dtype}"
            raise DtypeError(got, operation=operation, hint="give statistics of the dtype of x")
        same_shape(operation, x.shape[1:], np.shape(one), "running statistics have one number for each feature")


def _deviation(operation: str, tape: Tape, var: Variable, epsilon: float) -> Traced[Variable]:
    """Record √(variance + ε)."""
    more, tape = autograd.add(tape, var, at_least_0(operation, "epsilon", epsilon))
    return autograd.sqrt(tape, more)


def _scaled(tape: Tape, normal: Variable, w: Variable, b: Variable) -> Traced[Variable]:
    scaled, tape = autograd.mul(tape, normal, w)
    return autograd.add(tape, scaled, b)
