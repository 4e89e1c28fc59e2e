"""Reverse mode: from a loss back to its leaves, by the gradient rule of each operation."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from numbers import Integral
from time import perf_counter_ns

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor import telemetry
from viva_tensor.autograd import _tape
from viva_tensor.autograd.tape import Node, Tape, Unchanging, Variable, node_of, several
from viva_tensor.error import DimensionError, ForeignVariable, NoGradient
from viva_tensor.kernels.arrays import Array, as_arrays, freeze, same_shape


class Gradients(Unchanging, Mapping[int, Array]):
    """Gradients of a loss: ``grads[w]`` or ``grads[w.id]``, read-only, of the shape and dtype of ``w.data``.

    Iterating yields the ids of the variables. Variables on which the loss does not depend have gradients of zeros.
    """

    __slots__ = ("_arrays", "_variables")

    def __init__(self, variables: dict[int, Variable], arrays: dict[int, Array]) -> None:
        for array in arrays.values():
            freeze(array)  # also those from a pickle, which come out writeable
        self._variables = variables
        self._arrays = arrays

    def __getitem__(self, key: int | Variable) -> Array:
        index = key.id if isinstance(key, Variable) else key
        variable = self._variables.get(index) if type(index) is int or isinstance(index, Hashable) else None
        if variable is None:
            raise NoGradient(
                f"{f'variable {index}' if isinstance(index, Integral) else type(key).__name__} has no gradient",
                operation="backward",
                hint="only variables made by new_variable have one, and those named in wrt: grads[w] or grads[w.id]",
            )
        if isinstance(key, Variable) and key is not variable:
            raise ForeignVariable(
                f"variable {index} of shape {key.data.shape} is not the one of shape {variable.data.shape} on the tape",
                operation="backward",
                hint="look up variables of the tape that backward was given",
            )
        found = self._arrays.get(index)
        return np.broadcast_to(variable.data.dtype.type(0), variable.data.shape) if found is None else found

    def __iter__(self) -> Iterator[int]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __reduce__(self) -> tuple[type[Gradients], tuple[dict[int, Variable], dict[int, Array]]]:
        return Gradients, (self._variables, self._arrays)

    def __repr__(self) -> str:
        return f"Gradients({dict(self)})"


def backward(tape: Tape, loss: Variable, seed: ArrayLike | None = None, wrt: Iterable[Variable] = ()) -> Gradients:
    """Return the gradients of a loss with respect to every leaf that :func:`new_variable` made.

    Parameters
    ----------
    tape : Tape
        A tape that holds the loss.
    loss : Variable
        A scalar, unless a seed is given.
    seed : array_like, of the shape and dtype of the loss, optional
        Gradient of some final value with respect to ``loss``; 1 by default.
    wrt : iterable of Variable
        Intermediate variables and constants whose gradients are also wanted; other gradients are freed on the way.

    Raises
    ------
    DimensionError
        If the loss is not a scalar and there is no seed.
    ShapeMismatch, DtypeError
        If the seed does not have the shape or dtype of the loss.
    ForeignVariable
        If the loss or a variable in ``wrt`` is not on this tape.
    InvalidValue
        If ``wrt`` is a single variable or not iterable.

    Notes
    -----
    The latency is recorded in :mod:`viva_tensor.telemetry`, with the number of nodes visited.

    Examples
    --------
    >>> from viva_tensor.autograd import mul, new_tape, new_variable
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> y, tape = mul(tape, x, x)
    >>> backward(tape, y, seed=[1.0, 1.0])[x]
    array([2., 4.], dtype=float32)
    """
    start = perf_counter_ns()
    node_of(tape, loss, "backward")
    named = several("backward", "wrt", wrt)
    kept = {node.output.id: node.output for node in [node_of(tape, variable, "backward") for variable in named]}
    grads = {loss.id: _seed(loss, seed)}
    nodes = tape.nodes()
    leaves = _tape.leaves(nodes)
    visited = _tape.pulled(nodes, loss.id, grads, kept, _reached(nodes, kept, loss))
    gradients = Gradients(dict(sorted({**leaves, **kept}.items())) if kept else leaves, grads)
    telemetry.record("backward", perf_counter_ns() - start, visited)
    return gradients


def _reached(nodes: tuple[Node, ...], named: Iterable[int], loss: Variable) -> set[int]:
    """Return the ids of named variables that are not tracked, such as constants, and of all that depend on them."""
    found = {index for index in named if not nodes[index].tracked}
    if found:
        for node in nodes[min(found) : loss.id + 1]:
            if any(variable.id in found for variable in node.inputs):
                found.add(node.output.id)
    return found


def _seed(loss: Variable, seed: ArrayLike | None) -> Array:
    shape = loss.data.shape
    if seed is None:
        if loss.data.size != 1:
            raise DimensionError(
                f"the loss has shape {shape}, wanted a scalar",
                operation="backward",
                hint="reduce it with sum or mean, or give a seed gradient of its shape",
            )
        return np.array(1, loss.data.dtype, ndmin=loss.data.ndim)
    array = as_arrays("backward", loss.data, seed)[1]
    same_shape("backward", shape, array.shape, "the seed has the shape of the loss")
    return array.copy()
