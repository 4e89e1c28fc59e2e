"""A recorded loss as a function of one vector, with its gradient: what minimisers of SciPy's kind take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable, operations
from viva_tensor.autograd.tape import node_of, several
from viva_tensor.error import DimensionError, InvalidValue
from viva_tensor.kernels.arrays import Array, Float64Array, as_numbers, same_shape
from viva_tensor.optim import leaves, replaced
from viva_tensor.program.forward import Forward, compile_forward
from viva_tensor.program.instructions import Shapes
from viva_tensor.program.lowering import needed


class Objective:
    """A loss and its gradient as a function of all parameters in one vector, made by :func:`compile_objective`.

    Attributes
    ----------
    start : ndarray of float64 [n]
        The recorded parameters.
    """

    def __init__(self, forward: Forward, params: Any, shapes: Shapes, fed: tuple[int, ...]) -> None:
        self._forward, self._params, self._leaves = forward, params, leaves(params)
        self._fed = fed  # the shape in which the program takes the vector
        self._shapes = shapes  # of the recorded inputs
        self.start: Float64Array = np.concatenate([one.data.ravel() for one in self._leaves]).astype(np.float64)

    def __call__(self, x: ArrayLike, *inputs: ArrayLike) -> tuple[float, Float64Array]:
        """Return the loss at x and its gradient, for a batch whose rows may be more or fewer than recorded.

        Raises
        ------
        ShapeMismatch, DimensionError, DtypeError
            If x is another vector than the parameters; if the inputs are not like the recorded ones.
        """
        flat = self._flat(x)
        if len(inputs) != len(self._shapes):  # the program would count the vector among its inputs
            wanted = f"{len(self._shapes)} of shapes {', '.join(map(str, self._shapes))}" if self._shapes else "none"
            got = f"got {len(inputs)} inputs after the vector of parameters, wanted {wanted}"
            raise DimensionError(got, operation="objective", hint="give those of compile_objective, in their order")
        loss, gradient = self._forward(*inputs, flat.reshape(self._fed))
        return loss.item(), gradient.astype(np.float64)

    def params(self, tape: Tape, x: ArrayLike) -> Traced[Any]:
        """Record the elements of x as parameters, in the tree that was given.

        Raises
        ------
        ShapeMismatch
            If x is another vector than the parameters.
        """
        flat = self._flat(x)
        made, start = {}, 0
        for one in self._leaves:
            end = start + one.data.size
            made[one.id], tape = autograd.new_variable(tape, flat[start:end].reshape(one.shape))
            start = end
        return Traced(replaced(self._params, lambda variable: made[variable.id]), tape)

    def _flat(self, x: ArrayLike) -> Array:
        """Return a vector of parameters in their dtype, checked."""
        flat = as_numbers("objective", "x", x, self._leaves[0].dtype)
        same_shape("objective", self.start.shape, flat.shape, "x has an element for each of the parameters")
        return flat


def compile_objective(tape: Tape, *, loss: Variable, params: Any, inputs: Sequence[Variable] = ()) -> Objective:
    """Compile a recorded loss as a function of its parameters, for :func:`viva_tensor.optim.lbfgs` or SciPy.

    Each call computes the loss and all gradients in one parallel region.

    Parameters
    ----------
    tape : Tape
    loss : Variable
        One number.
    params : Variable, or any tree of tuples, NamedTuples, lists and dicts of them
        One that is there twice has its elements in the vector once.
    inputs : sequence of Variable
        Leaves that each call replaces, at most 16; everything else stays as recorded.

    Returns
    -------
    Objective

    Raises
    ------
    DimensionError
        If the loss is not one number.
    ForeignVariable, InvalidValue, DtypeError, TensorError
        As :func:`compile_step`.

    Examples
    --------
    >>> from viva_tensor import nn, optim
    >>> X, Y = np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [3.0], [5.0]])
    >>> layer, tape = nn.linear(autograd.new_tape(), 1, 1, rng=np.random.default_rng(0), dtype="float64")
    >>> x, tape = autograd.new_constant(tape, X)
    >>> y, tape = autograd.new_constant(tape, Y)
    >>> pred, tape = nn.linear_forward(tape, layer, x)
    >>> loss, tape = nn.mse_loss(tape, pred, y)
    >>> objective = compile_objective(tape, loss=loss, params=layer, inputs=(x, y))
    >>> found = optim.lbfgs(lambda v: objective(v, X, Y), objective.start)
    >>> layer, tape = objective.params(autograd.new_tape(), found.x)
    >>> layer.w.data.round(3), layer.b.data.round(3)
    (array([[2.]]), array([1.]))
    """
    given = several("compile_objective", "inputs", inputs)
    variables = leaves(params)
    if isinstance(loss, tuple | list):
        hint = "give the loss itself, or add several with autograd.add"
        raise InvalidValue(
            f"loss is a {type(loss).__name__}, wanted one variable", operation="compile_objective", hint=hint
        )
    for one in (loss, *given):
        node_of(tape, one, "compile_objective")
    for one in variables:
        if node_of(tape, one, "compile_objective").operation is not operations.VARIABLE:
            hint = "make what is to be found with new_variable"
            raise InvalidValue(f"parameter {one.id} is none", operation="compile_objective", hint=hint)
    if len(set(given)) < len(given) or set(given) & set(variables):
        raise InvalidValue("a variable is named twice among inputs and parameters", operation="compile_objective")
    if loss.data.size != 1:
        raise DimensionError(f"a loss of shape {loss.shape}", operation="compile_objective", hint="reduce it first")
    if not variables:
        raise InvalidValue("no parameters", operation="compile_objective", hint="give a tree of variables")
    (vector, made), again = _of_one_vector(tape, (loss, *given), variables)
    gradients, again = autograd.gradient(again, made[loss.id], [made[one.id] for one in variables])
    rows = []
    for one in gradients:
        row, again = autograd.reshape(again, one, (-1,))
        rows.append(row)
    gradient, again = autograd.concatenate(again, rows)
    shapes = tuple(one.shape for one in given)
    fed = (*(made[one.id] for one in given), vector)
    program = compile_forward(again, output=(made[loss.id], gradient), inputs=fed)
    return Objective(program, params, shapes, vector.shape)


def _of_one_vector(
    tape: Tape, wanted: Sequence[Variable], params: Sequence[Variable]
) -> Traced[tuple[Variable, dict[int, Variable]]]:
    """Record again what is wanted, with parameters that are parts of one vector; return it and the new variables."""
    flat = np.concatenate([one.data.ravel() for one in params])
    rows = next((one.shape[:1] for one in wanted[1:] if one.shape), ())
    shape = (1, flat.size) if rows != (1,) else flat.shape  # so that no program takes the vector for rows of a batch
    vector, again = autograd.new_constant(autograd.new_tape(), flat.reshape(() if shape == rows else shape))
    line, again = autograd.reshape(again, vector, flat.shape)
    made: dict[int, Variable] = {}
    start = 0
    for one in params:
        end = start + one.data.size
        part, again = autograd.slice(again, line, np.s_[start:end])
        made[one.id], again = autograd.reshape(again, part, one.shape)
        start = end
    for node in needed(tape.nodes(), wanted):
        if node.output.id in made:
            continue
        if node.inputs:
            operands = [made[one.id] for one in node.inputs]
            made[node.output.id], again = autograd.record(again, node.operation, *operands, **node.attributes)
        else:
            made[node.output.id], again = autograd.new_constant(again, node.output.data)
    return Traced((vector, made), again)
