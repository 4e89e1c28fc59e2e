"""Layers as values: records of variables, and functions (tape, layer, input) that return a value and a new tape."""

from __future__ import annotations

from time import perf_counter_ns
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from viva_tensor import autograd, operations, telemetry
from viva_tensor.autograd import Tape, Traced, Variable, relu
from viva_tensor.error import DimensionError, InvalidShape, ShapeMismatch, TensorError
from viva_tensor.nn.initializers import initial_weight

__all__ = ["Linear", "linear", "linear_forward", "mse_loss", "relu"]


class Linear(NamedTuple):
    """A fully connected layer. New weights are a new record.

    Attributes
    ----------
    w : Variable, shape [out, in]
    b : Variable, shape [out]
    """

    w: Variable
    b: Variable


def linear(
    tape: Tape,
    in_features: int,
    out_features: int,
    *,
    rng: np.random.Generator,
    init: str = "xavier",
    dtype: DTypeLike = "float32",
) -> Traced[Linear]:
    r"""Record a new fully connected layer with random weights and zero bias.

    Parameters
    ----------
    tape : Tape
    in_features, out_features : int
        At least 1.
    rng : numpy.random.Generator
        The same generator state gives the same weights.
    init : {"xavier", "he"}
        Uniform on :math:`\pm\sqrt{6 / (in + out)}`, or on :math:`\pm\sqrt{6 / in}` for layers before relu; see
        :mod:`viva_tensor.nn.initializers`.
    dtype : {"float32", "float64"}

    Returns
    -------
    Traced of Linear

    Raises
    ------
    InvalidShape
        If there are no features.
    InvalidValue
        If ``init`` is unknown or ``rng`` is not a generator.
    DtypeError
        If the dtype is another.

    Examples
    --------
    >>> import numpy as np
    >>> layer, tape = linear(autograd.new_tape(), 3, 2, rng=np.random.default_rng(0))
    >>> layer.w.data.shape, layer.b.data
    ((2, 3), array([0., 0.], dtype=float32))
    """
    weight = initial_weight("linear", rng, init, in_features, out_features, dtype)
    w, tape = autograd.new_variable(tape, weight)
    b, tape = autograd.new_variable(tape, np.zeros(out_features, weight.dtype))
    return Traced(Linear(w, b), tape)


def linear_forward(tape: Tape, layer: Linear, x: Variable, *, fused: bool = True) -> Traced[Variable]:
    r"""Apply a fully connected layer to a batch, :math:`y = x W^\top + b`.

    Parameters
    ----------
    tape : Tape
        Holds the layer's variables and the input.
    layer : Linear
        W of shape [out, in], b of shape [out].
    x : Variable, shape [batch, in]
    fused : bool
        Record one node (default), or transpose, matmul and add one by one: the same bits, the same gradients.

    Returns
    -------
    Traced of Variable, shape [batch, out]

    Raises
    ------
    DimensionError
        If the input or the weight is not a matrix, or the bias not a vector.
    ShapeMismatch
        If the features differ.
    InvalidShape
        If there are no features.
    DtypeError
        If dtypes are mixed.
    ForeignVariable
        If a variable is not on this tape.

    Notes
    -----
    The latency is recorded in :mod:`viva_tensor.telemetry`, with the number of nodes recorded.

    Examples
    --------
    >>> w, tape = autograd.new_variable(autograd.new_tape(), [[3.0, 4.0]])
    >>> b, tape = autograd.new_variable(tape, [0.5])
    >>> x, tape = autograd.new_constant(tape, [[1.0, 2.0]])
    >>> linear_forward(tape, Linear(w, b), x).value.data
    array([[11.5]], dtype=float32)
    """
    start = perf_counter_ns()
    try:
        w = layer.w.data.shape
        if 0 in w or not (fused or layer.b.data.shape == w[:1]):  # what the operations themselves would let through
            raise InvalidShape(f"w {w}, b {layer.b.data.shape}", operation="linear_forward")
        if fused:
            traced = autograd.record(tape, operations.LINEAR, x, layer.w, layer.b)
        else:
            wt, tape = autograd.transpose(tape, layer.w)
            product, tape = autograd.matmul(tape, x, wt)
            traced = autograd.add(tape, product, layer.b)
    except (TensorError, AttributeError):
        _explain(tape, layer, x)
        raise
    telemetry.record("linear_forward", perf_counter_ns() - start, 1 if fused else 3)
    return traced


def _explain(tape: Tape, layer: Linear, x: Variable) -> None:
    """Raise the error that tells why a batch does not fit a layer."""
    for variable in (x, layer.w, layer.b):
        tape._at("linear_forward", variable)
    w, b = layer.w.data.shape, layer.b.data.shape
    for name, shape, wanted in (("x", x.data.shape, 2), ("w", w, 2), ("b", b, 1)):
        if len(shape) != wanted:
            raise DimensionError(
                f"{name} has shape {shape}, wanted {wanted} dimensions",
                operation=f"linear_forward of x {x.data.shape} with w {w}",
                mend="x is [batch, in], w is [out, in], b is [out]",
            )
    if 0 in w:
        raise InvalidShape(
            f"w of shape {w} has no features, x has shape {x.data.shape}",
            operation="linear_forward",
            mend="a layer has at least one input and one output",
        )
    if x.data.shape[1] != w[1]:
        mend = f"w {w} is [out, in], x is [batch, in]"
        raise ShapeMismatch((x.data.shape[0], w[1]), x.data.shape, operation="linear_forward", mend=mend)
    if b != w[:1]:
        raise ShapeMismatch(w[:1], b, operation="linear_forward", mend=f"b has one element for each row of w {w}")


def mse_loss(tape: Tape, pred: Variable, target: Variable) -> Traced[Variable]:
    r"""Mean squared error, :math:`\frac{1}{n} \sum_i (p_i - t_i)^2` over all n elements, as one node.

    Parameters
    ----------
    tape : Tape
    pred, target : Variable, of one shape and dtype
        Nothing is broadcast: predictions (n, 1) against targets (n,) raise instead of comparing each with each.

    Returns
    -------
    Traced of Variable, 0-d
        ``float(loss.data)`` is the value; NaN for an empty batch.

    Raises
    ------
    ShapeMismatch, DtypeError
        If the shapes or dtypes differ.
    ForeignVariable
        If a variable is not on this tape.

    Examples
    --------
    >>> p, tape = autograd.new_variable(autograd.new_tape(), [1.0, 2.0])
    >>> t, tape = autograd.new_constant(tape, [1.0, 4.0])
    >>> loss, tape = mse_loss(tape, p, t)
    >>> float(loss.data), autograd.backward(tape, loss)[p]
    (2.0, array([ 0., -2.], dtype=float32))
    """
    return autograd.record(tape, operations.MEAN_SQUARED_ERROR, pred, target)
