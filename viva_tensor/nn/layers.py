"""Layers as records of variables, and functions (tape, layer, input) that return a value and a new tape."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from viva_tensor import autograd, telemetry
from viva_tensor.autograd import Tape, Traced, Variable, operations, relu
from viva_tensor.autograd.operators import ARITHMETIC, refuses
from viva_tensor.autograd.tape import node_of
from viva_tensor.error import DimensionError, InvalidShape, InvalidValue, TensorError
from viva_tensor.kernels.arrays import same_shape
from viva_tensor.kernels.checks import generator, is_iterable, real, shown
from viva_tensor.nn.activations import activation_of
from viva_tensor.nn.initializers import initial_weight
from viva_tensor.nn.losses import mse_loss

__all__ = [
    "Linear",
    "dropout",
    "linear",
    "linear_forward",
    "mlp",
    "mlp_forward",
    "mse_loss",
    "relu",
]


@refuses(ARITHMETIC)
class Linear(NamedTuple):
    """A fully connected layer; new weights make a new record.

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
    rng: np.random.Generator | None = None,
    init: str = "xavier",
    dtype: DTypeLike = "float32",
) -> Traced[Linear]:
    r"""Record a new fully connected layer with random weights and zero bias.

    Parameters
    ----------
    tape : Tape
    in_features, out_features : int
        At least 1.
    rng : numpy.random.Generator, optional
        The same generator state gives the same weights. By default one with fresh entropy.
    init : str
        "xavier", "he" (for layers before relu) or "lecun", which are uniform, "orthogonal", or any of them with
        "_uniform" or "_normal" appended; see :mod:`viva_tensor.nn.initializers`.
    dtype : {"float32", "float64"}

    Raises
    ------
    InvalidShape
        If there are no features, or more than memory holds.
    InvalidValue
        If ``init`` is unknown or ``rng`` is not a generator.
    DtypeError
        If the dtype is neither float32 nor float64.

    Examples
    --------
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
        Record one node (default), or transpose, matmul and add, with the same bits and the same gradients.

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
        If the dtypes differ.
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
        if 0 in w or not (fused or layer.b.data.shape == w[:1]):  # the operations would accept these
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
    """Raise the error that says why a batch does not fit a layer."""
    check_layer("linear_forward", layer, Linear)
    for variable in (x, layer.w, layer.b):
        node_of(tape, variable, "linear_forward")
    w, b = layer.w.data.shape, layer.b.data.shape
    for name, shape, wanted in (("x", x.data.shape, 2), ("w", w, 2), ("b", b, 1)):
        if len(shape) != wanted:
            raise DimensionError(
                f"{name} has shape {shape}, wanted {wanted} dimensions",
                operation=f"linear_forward of x {x.data.shape} with w {w}",
                hint="x is [batch, in], w is [out, in], b is [out]"
                + ("; reshape x to [rows, features] first" if len(x.data.shape) > 2 else ""),
            )
    if 0 in w:
        raise InvalidShape(
            f"w of shape {w} has no features, x has shape {x.data.shape}",
            operation="linear_forward",
            hint="a layer has at least one input and one output",
        )
    same_shape("linear_forward", (x.shape[0], w[1]), x.shape, f"w {w} is [out, in], x is [batch, in]")
    same_shape("linear_forward", w[:1], b, f"b has one element for each row of w {w}")


def is_linear(layer: object) -> bool:
    """Return whether it is a layer of variables, not of arrays or None."""
    return isinstance(layer, Linear) and all(isinstance(one, Variable) for one in layer)


def check_layer(operation: str, layer: object, kind: type) -> None:
    """Raise unless it is a layer of that kind."""
    if not isinstance(layer, kind):
        got = f"got {type(layer).__name__}, wanted a layer of {kind.__name__}"
        raise InvalidValue(got, operation=operation, hint="the tape comes first, then the layer, then its input")


def mlp(
    tape: Tape,
    sizes: Sequence[int],
    *,
    rng: np.random.Generator | None = None,
    activation: str = "relu",
    init: str | None = None,
    dtype: DTypeLike = "float32",
) -> Traced[tuple[Linear, ...]]:
    """Record the layers of a multilayer perceptron.

    Parameters
    ----------
    tape : Tape
    sizes : sequence of int
        Features of the input, of each hidden layer, and of the output.
    rng : numpy.random.Generator, optional
        By default one with fresh entropy.
    activation : str
        The activation that :func:`mlp_forward` will apply between the layers.
    init : str, optional
        For all layers; by default "he" before relu, leaky_relu, gelu, silu and softplus, and "xavier" before others
        and for the last layer.
    dtype : {"float32", "float64"}

    Raises
    ------
    InvalidShape
        If there are fewer than two sizes, or one is less than 1.
    InvalidValue, DtypeError
        As :func:`linear`, and if there is no such activation.

    Examples
    --------
    >>> layers, tape = mlp(autograd.new_tape(), (8, 64, 1), rng=np.random.default_rng(0))
    >>> [layer.w.data.shape for layer in layers]
    [(64, 8), (1, 64)]
    """
    activation_of("mlp", activation)
    if not is_iterable(sizes):
        hint = "give a tuple of whole numbers, from inputs to outputs"
        raise InvalidShape(f"sizes={shown(sizes)}", operation="mlp", hint=hint)
    sizes = tuple(sizes)
    if len(sizes) < 2:
        hint = "name the features of the input, of each hidden layer, and of the output"
        raise InvalidShape(f"sizes {sizes}", operation="mlp", hint=hint)
    if init is not None and not isinstance(init, str):
        raise InvalidValue(f"init={init!r}", operation="mlp", hint="give the name of an initialiser, or None")
    hidden = init or ("he" if activation in ("relu", "leaky_relu", "gelu", "silu", "softplus") else "xavier")
    layers = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes), 2):
        kind = hidden if number < len(sizes) else init or "xavier"
        layer, tape = linear(tape, inputs, outputs, rng=rng, init=kind, dtype=dtype)
        layers.append(layer)
    return Traced(tuple(layers), tape)


def mlp_forward(
    tape: Tape,
    layers: Sequence[Linear],
    x: Variable,
    *,
    activation: str = "relu",
    dropout_rate: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Traced[Variable]:
    """Apply layers to a batch, with an activation after each but the last.

    Parameters
    ----------
    tape : Tape
    layers : sequence of Linear
    x : Variable [batch, in]
    activation : str
        One of ``nn.ACTIVATIONS``.
    dropout_rate : float
        For training: the share of each hidden layer's outputs that :func:`dropout` sets to 0.
    rng : numpy.random.Generator, optional
        For dropout; by default one with fresh entropy.

    Returns
    -------
    Traced of Variable [batch, out]

    Raises
    ------
    InvalidValue
        If there is no such activation, or as :func:`dropout`.
    ShapeMismatch, DimensionError, DtypeError, ForeignVariable
        As :func:`linear_forward`.

    Examples
    --------
    >>> layers, tape = mlp(autograd.new_tape(), (3, 4, 2), rng=np.random.default_rng(0), activation="tanh")
    >>> x, tape = autograd.new_constant(tape, np.ones((5, 3), np.float32))
    >>> mlp_forward(tape, layers, x, activation="tanh").value.data.shape
    (5, 2)
    """
    bend = activation_of("mlp_forward", activation)
    if isinstance(layers, Linear) or not is_iterable(layers):
        hint = "give a tuple of layers, such as (layer,)"
        raise InvalidValue(f"layers are a {type(layers).__name__}", operation="mlp_forward", hint=hint)
    for i, layer in enumerate(layers):
        if i:
            x, tape = bend(tape, x)
            if dropout_rate:
                x, tape = dropout(tape, x, dropout_rate, rng=rng)
        x, tape = linear_forward(tape, layer, x)
    return Traced(x, tape)


def dropout(tape: Tape, x: Variable, rate: float, *, rng: np.random.Generator | None = None) -> Traced[Variable]:
    """Set elements to 0 with a probability, and scale the others up to keep the mean; for training only.

    Parameters
    ----------
    tape : Tape
    x : Variable
    rate : float
        From 0 up to but not including 1.
    rng : numpy.random.Generator, optional
        Draws one seed, by default from fresh entropy; see :func:`viva_tensor.kernels.dropout`. A compiled step draws
        its own seeds; see :func:`viva_tensor.program.compile_step`.

    Raises
    ------
    InvalidValue
        If the rate is out of its range or ``rng`` is not a generator.
    ForeignVariable
        If x is not on this tape.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), np.ones(1000))
    >>> y, tape = dropout(tape, x, 0.25, rng=np.random.default_rng(0))
    >>> sorted(set(y.data.round(4).tolist())), bool(abs((y.data == 0).mean() - 0.25) < 0.05)
    ([0.0, 1.3333], True)
    """
    rng = generator("dropout", rng)
    node_of(tape, x, "dropout")
    seed = int(rng.integers(1 << 64, dtype=np.uint64))
    return autograd.record(tape, operations.DROPOUT, x, rate=real("dropout", "rate", rate), seed=seed)
