"""Comparisons, choices between elements, and bounds, as functions (tape, variables) -> Traced.

Comparisons give 1 and 0 in the dtype of their operands and have no slope. One of two operands may be a number or an
array.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from viva_tensor.autograd import functions, operations  # noqa: F401  # the former in an example
from viva_tensor.autograd.functions import Operand, add, of_two, sub
from viva_tensor.autograd.tape import (
    Tape,
    Traced,
    Variable,
    new_constant,
    new_tape,  # noqa: F401  # in the examples
    new_variable,  # noqa: F401
    node_of,
    record,
)
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import as_array, read
from viva_tensor.kernels.checks import real

__all__ = [
    "clip",
    "equal",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "minimum",
    "not_equal",
    "sign",
    "stop_gradient",
    "where",
]


def minimum(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record the smaller of each pair of elements, broadcast as in NumPy; equal elements each have half the gradient.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 5.0])
    >>> minimum(tape, x, 3.0).value.data
    array([1., 3.], dtype=float32)
    """
    return of_two(tape, operations.MINIMUM, a, b)


def less(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record 1 where a < b, else 0.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0, 3.0])
    >>> less(tape, x, 2.0).value.data
    array([1., 0., 0.], dtype=float32)
    """
    return of_two(tape, operations.LESS, a, b)


def less_equal(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record 1 where a ≤ b, else 0.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0, 3.0])
    >>> less_equal(tape, x, 2.0).value.data
    array([1., 1., 0.], dtype=float32)
    """
    return of_two(tape, operations.LESS_EQUAL, a, b)


def greater(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record 1 where a > b, else 0.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0, 3.0])
    >>> greater(tape, x, 2.0).value.data
    array([0., 0., 1.], dtype=float32)
    """
    return of_two(tape, operations.LESS, b, a)


def greater_equal(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record 1 where a ≥ b, else 0.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0, 3.0])
    >>> greater_equal(tape, x, 2.0).value.data
    array([0., 1., 1.], dtype=float32)
    """
    return of_two(tape, operations.LESS_EQUAL, b, a)


def equal(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record 1 where a = b, else 0; NaN equals nothing.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0, 3.0])
    >>> equal(tape, x, 2.0).value.data
    array([0., 1., 0.], dtype=float32)
    """
    return of_two(tape, operations.EQUAL, a, b)


def not_equal(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record 0 where a = b, else 1, also where either is NaN.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0, 3.0])
    >>> not_equal(tape, x, 2.0).value.data
    array([1., 0., 1.], dtype=float32)
    """
    same, tape = equal(tape, a, b)
    return sub(tape, 1.0, same)


def where(tape: Tape, condition: Variable | ArrayLike, a: Operand, b: Operand) -> Traced[Variable]:
    """Record a where a condition holds, else b, broadcast as in NumPy.

    Nothing of what is not chosen gets through, neither to the result nor back to the gradients, not even NaN.

    Parameters
    ----------
    tape : Tape
    condition : Variable or array_like
        Holds where it is not 0, such as the result of :func:`less`, or an array of bools, which stays as it is in
        compiled programs. It has no gradient.
    a, b : Variable, or a number or array for one of them

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [4.0, -1.0])
    >>> root, tape = functions.sqrt(tape, x)
    >>> positive, tape = greater(tape, x, 0.0)
    >>> where(tape, positive, root, 0.0).value.data
    array([2., 0.], dtype=float32)
    """
    dtype = next((node_of(tape, one, "where").output.data.dtype for one in (a, b) if isinstance(one, Variable)), None)
    if dtype is None:
        raise InvalidValue("got no variable to choose from", operation="where", hint="record one with new_constant")
    if not isinstance(condition, Variable):
        holds = read("where", condition)
        holds = holds.astype(bool) if holds.dtype.kind in "biu" else as_array("where", condition) != 0
        condition, tape = new_constant(tape, holds.astype(dtype))
    chosen, tape = of_two(tape, operations.CHOSEN, a, condition)
    rejected, tape = of_two(tape, operations.REJECTED, b, condition)
    return add(tape, chosen, rejected)


def clip(tape: Tape, x: Variable, low: float | None = None, high: float | None = None) -> Traced[Variable]:
    """Record x within bounds, of which one may be None; the gradient is 0 beyond them, and that of x at them.

    Raises
    ------
    InvalidValue
        If there are no bounds, or the lower is above the upper.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [-3.0, 0.5, 2.0])
    >>> clip(tape, x, -1.0, 1.0).value.data
    array([-1. ,  0.5,  1. ], dtype=float32)
    """
    low, high = (None if one is None else real("clip", name, one) for name, one in (("low", low), ("high", high)))
    bounds = [one for one in (low, high) if one is not None]
    if not bounds or not bounds[0] <= bounds[-1]:  # NaN, too
        hint = "give a lower bound, an upper, or both in this order"
        raise InvalidValue(f"low={low}, high={high}", operation="clip", hint=hint)
    if low is not None:
        x, tape = record(tape, operations.AT_LEAST, x, bound=low)
    if high is None:
        return Traced(x, tape)
    return record(tape, operations.AT_MOST, x, bound=high)


def sign(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record -1, 0 or 1, the sign of each element, which has no slope.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [-3.0, 0.0, 2.0])
    >>> sign(tape, x).value.data
    array([-1.,  0.,  1.], dtype=float32)
    """
    return record(tape, operations.SIGN, x)


def stop_gradient(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record x as something that has no slope: gradients and tangents end here.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> stop_gradient(tape, x).value.data
    array([1., 2.], dtype=float32)
    """
    return record(tape, operations.STOP_GRADIENT, x)
