"""The operations of the tape as functions (tape, variables) -> Traced; offered as ``autograd.add`` and so on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.autograd import operations
from viva_tensor.autograd.operations import Operation
from viva_tensor.autograd.tape import (
    Tape,
    Traced,
    Variable,
    holds_variables,
    new_constant,
    new_tape,  # noqa: F401  # in the examples
    new_variable,  # noqa: F401
    node_of,
    record,
)
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import as_arrays
from viva_tensor.kernels.checks import real

__all__ = [
    "abs",
    "add",
    "cos",
    "div",
    "exp",
    "log",
    "maximum",
    "mul",
    "pow",
    "relu",
    "sin",
    "sqrt",
    "square",
    "sub",
    "tan",
]

Operand = Variable | ArrayLike  # not both of two


def of_two(tape: Tape, operation: Operation, a: Operand, b: Operand) -> Traced[Variable]:
    """Record an operation of two operands, of which one may be a constant that is not on the tape yet."""
    (a, b), tape = both(tape, operation.name, a, b)
    return record(tape, operation, a, b)


def both(tape: Tape, operation: str, a: Operand, b: Operand) -> Traced[tuple[Variable, Variable]]:
    """Return two operands as variables; one of them may be a number or an array, which is recorded as a constant."""
    if isinstance(a, Variable) and not isinstance(b, Variable) and _is_number_or_array(b):
        b, tape = new_constant(tape, as_arrays(operation, node_of(tape, a, operation).output.data, _plain(b))[1])
    elif isinstance(b, Variable) and not isinstance(a, Variable) and _is_number_or_array(a):
        a, tape = new_constant(tape, as_arrays(operation, _plain(a), node_of(tape, b, operation).output.data)[0])
    return Traced((a, b), tape)  # type: ignore[arg-type]  # recording refuses whatever is no variable


def _is_number_or_array(value: Any) -> bool:
    return value is not None and not isinstance(value, (str, bytes, Tape)) and not holds_variables(value)


def _plain(value: Any) -> Any:
    """Return a number of NumPy, which would keep its own dtype, as one of Python."""
    scalar = isinstance(value, np.generic) or (type(value) is np.ndarray and value.ndim == 0)
    if scalar and value.dtype.kind in "iuf":
        return int(value) if value.dtype.kind in "iu" else float(value)
    return value


def add(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record a + b, broadcast as in NumPy; see :func:`viva_tensor.kernels.add`.

    One of the operands may be a number, or a list or an array of the other's dtype, which is recorded as a constant of
    that dtype; so in all functions of two operands.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> add(tape, x, x).value.data
    array([2., 4.], dtype=float32)
    >>> add(tape, x, 0.5).value.data
    array([1.5, 2.5], dtype=float32)
    """
    return of_two(tape, operations.ADD, a, b)


def sub(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record a - b, broadcast as in NumPy; see :func:`viva_tensor.kernels.sub`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> sub(tape, x, x).value.data
    array([0., 0.], dtype=float32)
    """
    return of_two(tape, operations.SUB, a, b)


def mul(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record a · b element by element, broadcast as in NumPy; see :func:`viva_tensor.kernels.mul`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> mul(tape, x, x).value.data
    array([1., 4.], dtype=float32)
    """
    return of_two(tape, operations.MUL, a, b)


def div(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record a / b element by element, broadcast as in NumPy; see :func:`viva_tensor.kernels.div`.

    The gradients are ∂/b and -∂·a/b², and 0 where ∂ is 0, even where b is 0.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 4.0])
    >>> y, tape = new_variable(tape, 2.0)
    >>> div(tape, x, y).value.data
    array([0.5, 2. ], dtype=float32)
    """
    return of_two(tape, operations.DIV, a, b)


def maximum(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record the larger of each pair of elements, broadcast as in NumPy; equal elements each have half the gradient.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 5.0])
    >>> y, tape = new_variable(tape, 3.0)
    >>> maximum(tape, x, y).value.data
    array([3., 5.], dtype=float32)
    """
    return of_two(tape, operations.MAXIMUM, a, b)


def pow(tape: Tape, x: Variable, exponent: float) -> Traced[Variable]:
    """Record each element to the power of one number; see :func:`viva_tensor.kernels.pow`.

    The gradient is ∂·p·xᵖ⁻¹, and 0 where ∂ is 0, even where the slope is infinite.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 3.0])
    >>> pow(tape, x, 2).value.data
    array([1., 9.], dtype=float32)
    """
    given = _plain(exponent)
    if isinstance(given, Variable | np.ndarray):
        got = f"exponent is a {type(given).__name__} of shape {given.shape}, wanted a number"
        raise InvalidValue(got, operation="pow", hint="aᵇ is exp(mul(b, log(a)))")
    return record(tape, operations.POW, x, exponent=real("pow", "exponent", given))


def exp(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record eˣ; see :func:`viva_tensor.kernels.exp`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [0.0])
    >>> exp(tape, x).value.data
    array([1.], dtype=float32)
    """
    return record(tape, operations.EXP, x)


def log(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record ln x, with the gradient ∂/x, and 0 where ∂ is 0, even at 0; see :func:`viva_tensor.kernels.log`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0])
    >>> log(tape, x).value.data
    array([0.], dtype=float32)
    """
    return record(tape, operations.LOG, x)


def sqrt(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record √x, with the gradient ∂/(2√x), and 0 where ∂ is 0, even at 0; see :func:`viva_tensor.kernels.sqrt`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [9.0])
    >>> sqrt(tape, x).value.data
    array([3.], dtype=float32)
    """
    return record(tape, operations.SQRT, x)


def square(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record x².

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [-3.0])
    >>> square(tape, x).value.data
    array([9.], dtype=float32)
    """
    return record(tape, operations.MUL, x, x)


def sin(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record the sine of angles in radians; see :func:`viva_tensor.kernels.sin`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [0.0, 1.0])
    >>> sin(tape, x).value.data.round(4)
    array([0.    , 0.8415], dtype=float32)
    """
    return record(tape, operations.SIN, x)


def cos(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record the cosine of angles in radians; see :func:`viva_tensor.kernels.cos`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [0.0, 1.0])
    >>> cos(tape, x).value.data.round(4)
    array([1.    , 0.5403], dtype=float32)
    """
    return record(tape, operations.COS, x)


def tan(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record the tangent of angles in radians, sin x / cos x.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [0.0, 1.0])
    >>> tan(tape, x).value.data.round(4)
    array([0.    , 1.5574], dtype=float32)
    """
    sine, tape = sin(tape, x)
    cosine, tape = cos(tape, x)
    return div(tape, sine, cosine)


def abs(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record |x|, with gradient 0 at 0; see :func:`viva_tensor.kernels.abs`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [-9.0])
    >>> abs(tape, x).value.data
    array([9.], dtype=float32)
    """
    return record(tape, operations.ABS, x)


def relu(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record max(x, 0) element by element; see :func:`viva_tensor.kernels.relu`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [-1.0, 2.0])
    >>> relu(tape, x).value.data
    array([0., 2.], dtype=float32)
    """
    return record(tape, operations.RELU, x)
