"""Derivatives as variables: gradients of any order, directional derivatives, Jacobians and Hessians.

They are recorded by the rules that :func:`viva_tensor.autograd.backward` computes with, on a tape that goes on from the
one given. So they can be differentiated again, be part of a loss, and be compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.autograd import operations
from viva_tensor.autograd.custom import check_rules
from viva_tensor.autograd.operations import Operation
from viva_tensor.autograd.shaping import concatenate, expand_dims, reshape, squeeze
from viva_tensor.autograd.tape import Node, Tape, Traced, Variable, new_constant, node_of, record, several
from viva_tensor.error import DimensionError, InvalidValue, TensorError
from viva_tensor.kernels.arrays import as_arrays, same_shape
from viva_tensor.kernels.checks import is_iterable

Variables = Variable | Iterable[Variable]
Values = Variable | ArrayLike
Found = dict[int, Variable]  # gradients or tangents, by the ids of their variables


class Recorder:
    """A tape that grows as rules call ``do``."""

    def __init__(self, tape: Tape, dtype: np.dtype[Any]) -> None:
        self.tape = tape
        self.dtype = dtype
        self._numbers: dict[float, Variable] = {}

    def do(self, operation: Operation, *values: Variable | float, **attributes: Any) -> Variable:
        """Record an operation of variables and numbers."""
        variables = [value if isinstance(value, Variable) else self._number(value) for value in values]
        output, self.tape = record(self.tape, operation, *variables, **attributes)
        return output

    def constant(self, array: ArrayLike) -> Variable:
        """Record a constant of the derivatives' dtype."""
        variable, self.tape = new_constant(self.tape, np.asarray(array, self.dtype))
        return variable

    def add(self, found: Found, variable: Variable, more: Variable | None) -> None:
        """Add to what was found for a variable."""
        if more is not None:
            known = found.get(variable.id)
            found[variable.id] = more if known is None else self.do(operations.ADD, known, more)

    def results(self, found: Found, variables: Iterable[Variable]) -> tuple[Variable, ...]:
        """Return what was found for some variables, and zeros where nothing was."""
        return tuple(found[one.id] if one.id in found else self._zeros(one) for one in variables)

    def _zeros(self, variable: Variable) -> Variable:
        zero, self.tape = new_constant(self.tape, np.zeros((), variable.data.dtype))
        return self.do(operations.BROADCAST, zero, variable)

    def _number(self, value: float) -> Variable:
        if value not in self._numbers:
            self._numbers[value] = self.constant(value)
        return self._numbers[value]


def gradient(
    tape: Tape, outputs: Variables, inputs: Variables, seeds: Values | Sequence[Values] | None = None
) -> Traced[Any]:
    r"""Record the gradients of outputs with respect to inputs, as variables of a longer tape.

    .. math:: \frac{\partial}{\partial x} \sum_i \langle s_i, y_i \rangle

    with the outputs :math:`y_i` and their seeds :math:`s_i`. The values have the bits of those of :func:`backward`.

    Parameters
    ----------
    tape : Tape
    outputs, inputs : Variable, or a sequence of them
        Inputs may be any variables on the tape: leaves, constants and intermediate results.
    seeds : Variable or array_like, or one for each output, of the shape and dtype of the output, optional
        1 for outputs of one element by default. Seeds that are variables are differentiated, too, later on.

    Returns
    -------
    Traced
        One variable for a single input, a tuple for a sequence; zeros where the outputs do not depend on the input.

    Raises
    ------
    DimensionError
        If an output has more than one element and no seed.
    ShapeMismatch, DtypeError
        If a seed does not have the shape and dtype of its output; if dtypes are mixed.
    ForeignVariable, InvalidValue
        If a variable is not on this tape; if there are more or fewer seeds than outputs, or none of either.

    Examples
    --------
    >>> from viva_tensor.autograd import mul, new_tape, new_variable
    >>> x, tape = new_variable(new_tape(), 2.0)
    >>> square, tape = mul(tape, x, x)
    >>> cube, tape = mul(tape, square, x)
    >>> first, tape = gradient(tape, cube, x)
    >>> second, tape = gradient(tape, first, x)
    >>> float(first.data), float(second.data)    # 3x² and 6x
    (12.0, 12.0)
    """
    ends, starts = named("gradient", "outputs", tape, outputs), named("gradient", "inputs", tape, inputs)
    recorder = Recorder(tape, ends[0].data.dtype)
    found: Found = {}
    for output, seed in zip(ends, _given("gradient", ends, outputs, seeds), strict=True):
        recorder.add(found, output, _valued(recorder, "gradient", output, seed))
    nodes, reached = between(tape, starts, ends)
    for node in reversed(nodes):
        grad = found.get(node.output.id)
        if grad is None:
            continue
        check_rules(node.operation, len(node.inputs))
        for variable, rule in zip(node.inputs, node.operation.gradients, strict=True):
            if variable.id in reached and rule is not None:
                more = rule(recorder.do, grad, node.output, *node.inputs, **node.attributes)
                recorder.add(found, variable, more)
    return _returned(recorder, inputs, recorder.results(found, starts))


def jvp(tape: Tape, outputs: Variables, inputs: Variables, tangents: Values | Sequence[Values]) -> Traced[Any]:
    r"""Record the directional derivatives of outputs as inputs move along tangents: Jacobian times vector.

    .. math:: t_y = \sum_i \frac{\partial y}{\partial x_i} t_i

    Forward mode [1]_: one walk over the tape from the inputs on, whatever the number of outputs.

    Parameters
    ----------
    tape : Tape
    outputs, inputs : Variable, or a sequence of them
    tangents : Variable or array_like, or one for each input, of its shape and dtype

    Returns
    -------
    Traced
        One variable for a single output, a tuple for a sequence, of the shapes of the outputs.

    Raises
    ------
    ShapeMismatch, DtypeError, ForeignVariable, InvalidValue
        As :func:`gradient`.
    TensorError
        If an operation on the way has no rule for tangents.

    References
    ----------
    .. [1] R. E. Wengert, A simple automatic derivative evaluation program, Communications of the ACM 7(8), 1964.

    Examples
    --------
    >>> from viva_tensor.autograd import mul, new_tape, new_variable
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> square, tape = mul(tape, x, x)
    >>> jvp(tape, square, x, [1.0, 10.0]).value.data
    array([ 2., 40.], dtype=float32)
    """
    ends, starts = named("jvp", "outputs", tape, outputs), named("jvp", "inputs", tape, inputs)
    recorder = Recorder(tape, starts[0].data.dtype)
    found: Found = {}
    for variable, tangent in zip(starts, _given("jvp", starts, inputs, tangents), strict=True):
        if tangent is None:
            raise InvalidValue("an input has no tangent", operation="jvp", hint="give one for each input")
        recorder.add(found, variable, _valued(recorder, "jvp", variable, tangent))
    for node in between(tape, starts, ends)[0]:
        for index, variable in enumerate(node.inputs):
            if variable.id in found:
                if not node.operation.tangents:
                    hint = "give the operation its tangents, or use gradient"
                    raise TensorError(f"the operation {node.operation.name!r} has none", operation="jvp", hint=hint)
                change = node.operation.tangent(
                    index, recorder.do, found[variable.id], node.output, *node.inputs, **node.attributes
                )
                recorder.add(found, node.output, change)
    return _returned(recorder, outputs, recorder.results(found, ends))


def hvp(tape: Tape, loss: Variable, inputs: Variables, vectors: Values | Sequence[Values]) -> Traced[Any]:
    r"""Record the product of a scalar's Hessian with vectors, :math:`\nabla^2 f(x) \, v`, without the Hessian.

    The directional derivative of the gradient [1]_: about the cost of two gradients.

    Parameters
    ----------
    tape : Tape
    loss : Variable
        Of one element.
    inputs : Variable, or a sequence of them
    vectors : Variable or array_like, or one for each input, of its shape and dtype

    Returns
    -------
    Traced
        One variable for a single input, a tuple for a sequence, of the shapes of the inputs.

    Raises
    ------
    DimensionError, ShapeMismatch, DtypeError, ForeignVariable, InvalidValue, TensorError
        As :func:`gradient` and :func:`jvp`.

    References
    ----------
    .. [1] B. A. Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6(1), 1994.

    Examples
    --------
    >>> from viva_tensor.autograd import mul, new_tape, new_variable, sum
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> square, tape = mul(tape, x, x)
    >>> cubes, tape = mul(tape, square, x)
    >>> total, tape = sum(tape, cubes)
    >>> hvp(tape, total, x, [1.0, 1.0]).value.data    # 6x
    array([ 6., 12.], dtype=float32)
    """
    if not isinstance(inputs, Variable):
        inputs = several("hvp", "inputs", inputs)
    grads, tape = gradient(tape, loss, inputs)
    return jvp(tape, grads, inputs, vectors)


def jacobian(tape: Tape, output: Variable, variable: Variable) -> Traced[Variable]:
    r"""Record all derivatives of an output's elements, :math:`J_{ij} = \partial y_i / \partial x_j`.

    Row by row in reverse mode if the output has fewer elements than the variable, else column by column in forward
    mode. One row or column is recorded for each element, so programs take no other number of rows where these are
    elements of the batch, as in a Jacobian of few rows for many parameters.

    Returns
    -------
    Traced
        A variable of shape ``output.shape + variable.shape``.

    Raises
    ------
    DtypeError, ForeignVariable, TensorError
        As :func:`gradient` and :func:`jvp`.

    Examples
    --------
    >>> from viva_tensor.autograd import mul, new_tape, new_variable
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> square, tape = mul(tape, x, x)
    >>> jacobian(tape, square, x).value.data
    array([[2., 0.],
           [0., 4.]], dtype=float32)
    """
    for one in (output, variable):
        node_of(tape, one, "jacobian")
    by_rows = output.data.size < variable.data.size
    whose = output if by_rows else variable
    parts, axis = [], 0 if by_rows else len(output.shape)
    for array in _units(whose):
        unit, tape = _of_shape(tape, array, whose)
        if by_rows:
            part, tape = gradient(tape, output, variable, unit)
        else:
            part, tape = jvp(tape, output, variable, unit)
        part, tape = expand_dims(tape, part, axis)
        parts.append(part)
    shape = output.shape + variable.shape
    if not parts:
        nothing, tape = _of_shape(tape, np.zeros(whose.shape, whose.dtype), whose)
        return reshape(tape, nothing, shape)
    whole, tape = concatenate(tape, parts, axis)
    if not whose.shape:
        return squeeze(tape, whole, axis)
    return Traced(whole, tape) if len(whose.shape) == 1 else reshape(tape, whole, shape)


def hessian(tape: Tape, loss: Variable, variable: Variable) -> Traced[Variable]:
    r"""Record all second derivatives of a scalar, :math:`H_{ij} = \partial^2 f / \partial x_i \partial x_j`.

    Returns
    -------
    Traced
        A variable of shape ``variable.shape * 2``.

    Raises
    ------
    DimensionError, DtypeError, ForeignVariable, TensorError
        As :func:`gradient` and :func:`jvp`.

    Examples
    --------
    >>> from viva_tensor.autograd import mul, new_tape, new_variable, sum
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> square, tape = mul(tape, x, x)
    >>> cubes, tape = mul(tape, square, x)
    >>> total, tape = sum(tape, cubes)
    >>> hessian(tape, total, x).value.data
    array([[ 6.,  0.],
           [ 0., 12.]], dtype=float32)
    """
    grad, tape = gradient(tape, loss, variable)
    return jacobian(tape, grad, variable)


def named(operation: str, name: str, tape: Tape, variables: Variables) -> tuple[Variable, ...]:
    """Return one or several variables as a tuple, checked."""
    found = (variables,) if isinstance(variables, Variable) else several(operation, name, variables)
    if not found:
        raise InvalidValue(f"no {name}", operation=operation, hint="give a variable, or a tuple of them")
    for variable in found:
        node_of(tape, variable, operation)
    return found


def _given(operation: str, variables: Sequence[Variable], given: Variables, values: Any) -> Sequence[Values | None]:
    """Return one value for each variable: `values` itself if a single variable was given, None for none."""
    if values is None:
        return [None] * len(variables)
    if isinstance(given, Variable):
        return [values]
    name, whose = ("seed", "output") if operation == "gradient" else ("tangent", "input")
    single = isinstance(values, (Variable, np.ndarray, dict, str)) or not is_iterable(values)
    found = [] if single else list(values)
    if single or len(found) != len(variables):
        got = f"a {type(values).__name__}" if single else f"{len(found)} {name}{'s' * (len(found) != 1)}"
        wanted = f"{len(variables)} {whose}{'s' * (len(variables) != 1)}"
        raise InvalidValue(f"got {got} for {wanted}", operation=operation, hint=f"give one {name} for each {whose}")
    return found


def _valued(recorder: Recorder, operation: str, variable: Variable, value: Values | None) -> Variable:
    """Return a seed or tangent of a variable, recorded; 1 if none is given for one element."""
    data = variable.data
    if value is None:
        if data.size != 1:
            raise DimensionError(
                f"an output has shape {data.shape}, wanted a scalar",
                operation=operation,
                hint="reduce it with sum or mean, or give a seed of its shape",
            )
        return recorder.do(operations.BROADCAST, 1.0, variable)
    if isinstance(value, Variable):
        node_of(recorder.tape, value, operation)
    array = as_arrays(operation, data, value.data if isinstance(value, Variable) else value)[1]
    same_shape(operation, data.shape, array.shape, "seeds and tangents have the shape of their variable")
    seed = value if isinstance(value, Variable) else recorder.constant(array)
    return recorder.do(operations.BROADCAST, seed, variable)  # so that programs know whose rows it has


def between(tape: Tape, inputs: Sequence[Variable], outputs: Sequence[Variable]) -> tuple[list[Node], set[int]]:
    """Return the nodes on the way from inputs to outputs, and the ids of all that depend on the inputs."""
    reached = {variable.id for variable in inputs}
    first, last = min(reached), max(variable.id for variable in outputs)
    found = []
    for node in tape.nodes()[first : last + 1]:
        if any(variable.id in reached for variable in node.inputs):
            reached.add(node.output.id)
            found.append(node)
    return found, reached


def _returned(recorder: Recorder, given: Variables, found: tuple[Variable, ...]) -> Traced[Any]:
    """Return one variable where one was given, else a tuple."""
    return Traced(found[0] if isinstance(given, Variable) else found, recorder.tape)


def _of_shape(tape: Tape, array: np.ndarray[Any, Any], variable: Variable) -> Traced[Variable]:
    """Record an array of the shape of a variable, which programs refuse if the variable has another shape there."""
    constant, tape = new_constant(tape, array)
    exact = "jacobian", "give as many rows as were recorded"
    return record(tape, operations.BROADCAST, constant, variable, exact=exact)


def _units(variable: Variable) -> Iterator[np.ndarray[Any, Any]]:
    """Yield an array for each element of a variable: 1 there, 0 elsewhere."""
    for index in np.ndindex(variable.data.shape):
        unit = np.zeros(variable.data.shape, variable.data.dtype)
        unit[index] = 1
        yield unit
