"""Trained networks: their parameters as arrays, and their outputs for any number of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from viva_tensor import autograd, nn, program
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.autograd.tape import new_leaves
from viva_tensor.error import InvalidValue, ShapeMismatch
from viva_tensor.kernels.arrays import Array, Float32Array, wants
from viva_tensor.nn.layers import is_linear
from viva_tensor.train.sparse import SparseRows, arrays_of, forward, numbers_of_x, turned

Layers = tuple[nn.Linear, ...]

PREDICT_ROWS = 4096  # rows in one forward pass, so that memory stays bounded


def parameters(layers: Layers) -> list[Array]:
    """Return the weight and bias of each layer in turn."""
    return [variable.data for layer in layers for variable in layer]


def sizes_of(layers: Layers) -> str:
    """Return the numbers of a network's inputs, of the units of each layer, and of its outputs, as in 784-256-10."""
    return "-".join(map(str, [layers[0].w.shape[1], *(layer.w.shape[0] for layer in layers)]))


def record_layers(
    tape: Tape, arrays: Iterable[Array], leaf: Callable[[Tape, Array], Traced[Variable]] = autograd.new_variable
) -> Traced[Layers]:
    """Record arrays, the weight and bias of each layer in turn, as layers."""
    leaves, tape = new_leaves(tape, arrays, leaf)
    return Traced(tuple(nn.Linear(w, b) for w, b in zip(leaves[::2], leaves[1::2], strict=True)), tape)


class Network:
    """A network's forward passes, for any weights of the same shapes, compiled once for each number of rows.

    Rows are always arrays, or always sparse with runs of the same features.

    Examples
    --------
    >>> layers, tape = nn.mlp(autograd.new_tape(), (3, 4, 2), rng=np.random.default_rng(0))
    >>> Network("relu")(layers, np.ones((5, 3), np.float32)).shape
    (5, 2)
    """

    def __init__(self, activation: str) -> None:
        self.activation = activation
        self._compiled: dict[int, program.Forward] = {}

    def __call__(self, layers: Layers, x: Float32Array | SparseRows) -> Float32Array:
        """Return outputs [rows, out] for x [rows, in]."""
        weights = turned(parameters(layers), isinstance(x, SparseRows))
        parts = []
        for start in range(0, max(len(x), 1), PREDICT_ROWS):
            rows = x[start : start + PREDICT_ROWS]
            if len(rows) not in self._compiled:
                self._compiled[len(rows)] = self._compile(rows, weights)
            parts.append(self._compiled[len(rows)](*arrays_of(rows), *weights))
        return np.concatenate(parts)

    def _compile(self, rows: Float32Array | SparseRows, weights: list[Array]) -> program.Forward:
        x, tape = new_leaves(autograd.new_tape(), arrays_of(rows), autograd.new_constant)
        layers, tape = record_layers(tape, weights, autograd.new_constant)
        output, tape = forward(tape, layers, x, rows, self.activation)
        inputs = (*x, *(variable for layer in layers for variable in layer))
        return program.compile_forward(tape, output=output, inputs=inputs)


def predict(layers: Layers, x: npt.ArrayLike | SparseRows, activation: str | None = None) -> Float32Array:
    """Return the outputs of a network, computed in the dtype of its weights.

    Parameters
    ----------
    layers : sequence of Linear
    x : array_like [rows, in], or SparseRows
    activation : str
        The activation between the layers, as in training (``settings.activation``); a single layer needs none.

    Returns
    -------
    ndarray [rows, out]

    Raises
    ------
    DtypeError, DimensionError, ShapeMismatch
        If x does not hold numbers, or does not fit the first layer.
    InvalidValue
        If there are several layers and no activation is named: layers do not store the one they were trained with.

    Examples
    --------
    >>> from viva_tensor.train import Settings, fit
    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> settings = Settings(hidden=(4,), epochs=2, activation="tanh")
    >>> predict(fit(x, x, settings).layers, x, settings.activation).shape
    (64, 1)
    """
    if not (isinstance(layers, Sequence) and layers and all(map(is_linear, layers))):
        got = f"layers are a {type(layers).__name__}, wanted a sequence of nn.Linear"
        raise InvalidValue(got, operation="predict", hint="give the layers of a trained network, fit(...).layers")
    if activation is None and len(layers) > 1:
        raise InvalidValue(
            f"no activation between {len(layers)} layers",
            operation="predict",
            hint="give the one used in training, activation=settings.activation",
        )
    rows = numbers_of_x("predict", x, layers[0].w.data.dtype)
    wants("predict", 2, rows, "x")
    features = layers[0].w.data.shape[1]
    if isinstance(rows, SparseRows) and rows.features != features:
        hint = "give rows of as many features as the first layer has inputs"
        raise ShapeMismatch((len(rows), features), rows.shape, operation="predict", hint=hint)
    return Network("relu" if activation is None else activation)(layers, rows)
