"""What each recipe makes of a table: inputs, layers, outputs and a loss; and its outputs compiled for any weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from viva_tensor import autograd, program
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.autograd.tape import new_leaves
from viva_tensor.kernels.arrays import Array, Float32Array
from viva_tensor.optim import leaves, replaced
from viva_tensor.tabular.recipes.rows import Rows

RECORDED_ROWS = 2  # in a program of outputs: not the length of any vector of weights


class TableNetwork(ABC):
    """A recipe's network for one table. Layers are a tree of variables, as optimisers take it."""

    block = 1024  # rows in one forward pass, so that memory stays bounded

    @abstractmethod
    def inputs(self, rows: Rows) -> tuple[Float32Array, ...]:
        """Return what the network takes for some rows: arrays of as many rows each."""

    @abstractmethod
    def new(self, inputs: Sequence[Array], rng: np.random.Generator) -> Traced[Any]:
        """Record new layers, for training on these inputs."""

    @abstractmethod
    def forward(
        self, tape: Tape, layers: Any, inputs: Sequence[Variable], rng: np.random.Generator | None = None
    ) -> Traced[Variable]:
        """Record the outputs for a batch; with a generator as in training, with dropout."""

    @abstractmethod
    def loss(self, tape: Tape, outputs: Variable, target: Variable) -> Traced[Variable]:
        """Record what training minimises."""

    @abstractmethod
    def prediction(self, tape: Tape, outputs: Variable) -> Traced[Variable]:
        """Record what outputs predict [rows, columns]: a standardised number, or the probability of each class."""


class Predictor:
    """The predictions of a network for any weights, compiled once.

    Examples
    --------
    >>> from viva_tensor.tabular.recipes.realmlp import RealMLP
    >>> rows = Rows(np.ones((6, 2), np.float32), np.zeros((6, 0), np.int64))
    >>> network = RealMLP(hidden=(8,)).network(rows, None, np.random.default_rng(0))
    >>> layers = network.new(network.inputs(rows), np.random.default_rng(0)).value
    >>> Predictor(network, layers, network.inputs(rows))(flat(layers), network.inputs(rows)).shape
    (6, 1)
    """

    def __init__(self, network: TableNetwork, layers: Any, inputs: Sequence[Float32Array]) -> None:
        few = (np.resize(array, (RECORDED_ROWS, *array.shape[1:])) for array in inputs)
        recorded, tape = new_leaves(autograd.new_tape(), few, autograd.new_constant)
        weights, tape = autograd.new_constant(tape, flat(layers))
        unpacked, tape = _unpacked(tape, weights, layers)
        outputs, tape = network.forward(tape, unpacked, recorded)
        predicted, tape = network.prediction(tape, outputs)
        self._block = network.block
        self._forward = program.compile_forward(tape, output=predicted, inputs=(*recorded, weights))

    def __call__(self, weights: Float32Array, inputs: Sequence[Float32Array]) -> Float32Array:
        """Return predictions for inputs, with weights as :func:`flat` returns them."""
        count = len(inputs[0])
        parts = [
            self._forward(*(array[begin : begin + self._block] for array in inputs), weights)
            for begin in range(0, count, self._block)
        ]
        return np.concatenate(parts)


def flat(layers: Any) -> Float32Array:
    """Return the weights of all layers as one vector.

    Examples
    --------
    >>> w, tape = autograd.new_variable(autograd.new_tape(), [[1.0, 2.0]])
    >>> b, tape = autograd.new_variable(tape, [3.0])
    >>> flat((w, b))
    array([1., 2., 3.], dtype=float32)
    """
    return np.concatenate([variable.data.ravel() for variable in leaves(layers)])


def _unpacked(tape: Tape, weights: Variable, layers: Any) -> Traced[Any]:
    """Record layers whose weights are the parts of a vector."""
    begin, parts = 0, {}
    for variable in leaves(layers):
        shape = variable.data.shape
        part, tape = autograd.slice(tape, weights, np.s_[begin : begin + prod(shape)])
        parts[variable], tape = autograd.reshape(tape, part, shape)
        begin += prod(shape)
    return Traced(replaced(layers, parts.__getitem__), tape)
