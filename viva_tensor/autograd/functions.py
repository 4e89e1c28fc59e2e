"""The operations of the tape as functions (tape, variables) -> Traced; offered as ``autograd.add`` and so on."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.autograd import operations
from viva_tensor.autograd.operations import Axis, Operation
from viva_tensor.autograd.tape import (
    Tape,
    Traced,
    Variable,
    new_constant,
    new_tape,  # noqa: F401  # in the examples
    new_variable,  # noqa: F401
    node_of,
    record,
    several,
)
from viva_tensor.error import DimensionError, IndexOutOfBounds, InvalidShape, InvalidValue
from viva_tensor.kernels.arrays import as_arrays, axes_of
from viva_tensor.kernels.checks import flag, is_whole, real, shown

__all__ = [
    "abs",
    "add",
    "concatenate",
    "div",
    "exp",
    "log",
    "matmul",
    "maximum",
    "mean",
    "mul",
    "pow",
    "relu",
    "reshape",
    "slice",
    "sqrt",
    "sub",
    "sum",
    "transpose",
]

Operand = Variable | ArrayLike  # not both of two

_Slice = builtins.slice
_ALL = _Slice(None)
_WHOLE = tuple(_Slice(start, None, step) for start in (None, 0) for step in (None, 1))  # for any size


def _of_two(tape: Tape, operation: Operation, a: Operand, b: Operand) -> Traced[Variable]:
    """Record an operation of two operands, of which one may be a constant that is not on the tape yet."""
    if isinstance(a, Variable) and not isinstance(b, Variable) and _is_number_or_array(b):
        b, tape = new_constant(tape, as_arrays(operation.name, node_of(tape, a, operation.name).output.data, b)[1])
    elif isinstance(b, Variable) and not isinstance(a, Variable) and _is_number_or_array(a):
        a, tape = new_constant(tape, as_arrays(operation.name, a, node_of(tape, b, operation.name).output.data)[0])
    return record(tape, operation, a, b)  # type: ignore[arg-type]  # which refuses whatever is no variable


def _is_number_or_array(value: Any) -> bool:
    return value is not None and not isinstance(value, (str, bytes, Tape))


def add(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record a + b, broadcast as in NumPy; see :func:`viva_tensor.kernels.add`.

    One of the operands may be a number or an array, which is recorded as a constant of the other's dtype; so in all
    functions of two operands.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> add(tape, x, x).value.data
    array([2., 4.], dtype=float32)
    >>> add(tape, x, 0.5).value.data
    array([1.5, 2.5], dtype=float32)
    """
    return _of_two(tape, operations.ADD, a, b)


def sub(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record a - b, broadcast as in NumPy; see :func:`viva_tensor.kernels.sub`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> sub(tape, x, x).value.data
    array([0., 0.], dtype=float32)
    """
    return _of_two(tape, operations.SUB, a, b)


def mul(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record a · b element by element, broadcast as in NumPy; see :func:`viva_tensor.kernels.mul`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> mul(tape, x, x).value.data
    array([1., 4.], dtype=float32)
    """
    return _of_two(tape, operations.MUL, a, b)


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
    return _of_two(tape, operations.DIV, a, b)


def maximum(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record the larger of each pair of elements, broadcast as in NumPy; equal elements each have half the gradient.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 5.0])
    >>> y, tape = new_variable(tape, 3.0)
    >>> maximum(tape, x, y).value.data
    array([3., 5.], dtype=float32)
    """
    return _of_two(tape, operations.MAXIMUM, a, b)


def pow(tape: Tape, x: Variable, exponent: float) -> Traced[Variable]:
    """Record each element to the power of one number; see :func:`viva_tensor.kernels.pow`.

    The gradient is ∂·p·xᵖ⁻¹, and 0 where ∂ is 0, even where the slope is infinite.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 3.0])
    >>> pow(tape, x, 2).value.data
    array([1., 9.], dtype=float32)
    """
    return record(tape, operations.POW, x, exponent=real("pow", "exponent", exponent))


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


def abs(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record |x|, with gradient 0 at 0; see :func:`viva_tensor.kernels.abs`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [-9.0])
    >>> abs(tape, x).value.data
    array([9.], dtype=float32)
    """
    return record(tape, operations.ABS, x)


def reshape(tape: Tape, x: Variable, shape: Sequence[int]) -> Traced[Variable]:
    """Record the elements of x in row-major order in another shape; the size of one axis may be -1, to be derived.

    Raises
    ------
    InvalidShape
        If the number of elements differs.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0, 3.0, 4.0])
    >>> reshape(tape, x, (2, -1)).value.data
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    data = node_of(tape, x, "reshape").output.data
    try:
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        if not all(is_whole(size) and size >= -1 for size in sizes):  # NumPy takes True for 1 and -2 for -1
            raise ValueError("sizes are whole numbers")
        wanted = np.empty(data.shape, data.dtype).reshape(sizes).shape
    except (OverflowError, ValueError, TypeError) as reason:
        hint = "one axis may be -1"
        raise InvalidShape(f"{data.shape} to {shown(shape)}: {reason}", operation="reshape", hint=hint) from None
    free = sizes[:1] == (-1,)
    return record(tape, operations.RESHAPE, x, shape=operations.OpenSize(wanted) if free else wanted)


def slice(tape: Tape, x: Variable, index: Any) -> Traced[Variable]:
    """Record ``x[index]``, basic indexing: integers, slices and an ellipsis, as ``np.s_`` makes them.

    Raises
    ------
    IndexOutOfBounds
        If there is no such element or axis.
    DimensionError
        If the index is of another kind, such as an array.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> slice(tape, x, np.s_[:, 1:]).value.data
    array([[2., 3.],
           [5., 6.]], dtype=float32)
    >>> slice(tape, x, (0, -1)).value.data
    array(3., dtype=float32)
    """
    spans, single = _spans(node_of(tape, x, "slice").output.data.shape, index)
    view, tape = record(tape, operations.SLICE, x, spans=spans)
    return record(tape, operations.SQUEEZE, view, axes=single) if single else Traced(view, tape)


def concatenate(tape: Tape, variables: Iterable[Variable], axis: int = 0) -> Traced[Variable]:
    """Join variables along an axis; see :func:`numpy.concatenate`.

    Raises
    ------
    ShapeMismatch, DimensionError
        If the other axes differ; if there is nothing to join.
    IndexOutOfBounds, InvalidValue
        If there is no such axis; if the axis is not a whole number, or ``variables`` is not a sequence of them.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> concatenate(tape, (x, x)).value.data
    array([1., 2., 1., 2.], dtype=float32)
    """
    variables = several("concatenate", "variables", variables)
    if not variables:
        raise DimensionError("nothing to join", operation="concatenate", hint="give at least one variable")
    shape = node_of(tape, variables[0], "concatenate").output.data.shape
    if not is_whole(axis):
        raise InvalidValue(f"axis={shown(axis)}", operation="concatenate", hint="give one whole number")
    (axis,) = axes_of("concatenate", axis, shape)
    return record(tape, operations.concatenation(len(variables)), *variables, axis=axis)


def _spans(shape: tuple[int, ...], index: Any) -> tuple[tuple[operations.Span, ...], tuple[int, ...]]:
    """Return start, count and step along each axis, and the axes from which an integer picks one element."""
    entries = list(index) if isinstance(index, tuple) else [index]
    ellipsis = next((i for i, entry in enumerate(entries) if entry is Ellipsis), len(entries))
    given = len(entries) - (ellipsis < len(entries))
    if given > len(shape):
        hint = f"shape {shape} has {len(shape)} axes"
        raise IndexOutOfBounds(given - 1, len(shape), operation="slice", hint=hint)
    entries[ellipsis : ellipsis + 1] = [_ALL] * (len(shape) - given)
    spans, single = [], []
    for axis, (entry, size) in enumerate(zip(entries, shape, strict=True)):
        if isinstance(entry, _Slice):
            try:
                indices = range(*entry.indices(size))
            except (TypeError, ValueError) as reason:
                hint = "bounds and steps are integers, and no step is 0"
                raise DimensionError(f"the index {entry!r}: {reason}", operation="slice", hint=hint) from None
            span = indices.start if len(indices) else 0, len(indices), indices.step
            spans.append(operations.OpenSize(span) if entry in _WHOLE else span)
        elif isinstance(entry, (int, np.integer)) and not isinstance(entry, bool):
            if not -size <= entry < size:
                raise IndexOutOfBounds(int(entry), size, operation="slice", hint=f"of shape {shape}")
            spans.append((int(entry) % size, 1, 1))
            single.append(axis)
        else:
            hint = "use integers, slices and one ellipsis"
            raise DimensionError(f"an index of type {type(entry).__name__}", operation="slice", hint=hint)
    return tuple(spans), tuple(single)


def matmul(tape: Tape, a: Operand, b: Operand) -> Traced[Variable]:
    """Record the matrix product of (m, k) and (k, n); see :func:`viva_tensor.kernels.matmul`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [[1.0, 2.0]])
    >>> xt, tape = transpose(tape, x)
    >>> matmul(tape, x, xt).value.data
    array([[5.]], dtype=float32)
    """
    return _of_two(tape, operations.MATMUL, a, b)


def transpose(tape: Tape, x: Variable, axes: Sequence[int] | None = None) -> Traced[Variable]:
    """Record x with its axes in another order, by default reversed; a view that costs nothing.

    Raises
    ------
    IndexOutOfBounds
        If x has no such axis.
    DimensionError
        If an axis of x is missing.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [[1.0, 2.0]])
    >>> transpose(tape, x).value.data.shape
    (2, 1)
    """
    if axes is not None:
        shape = node_of(tape, x, "transpose").output.data.shape
        axes = (axes,) if isinstance(axes, (int, np.integer)) else _frozen(axes)  # type: ignore[assignment]
        if len(axes_of("transpose", axes, shape)) != len(shape):
            hint = "name every axis once"
            raise DimensionError(f"axes {tuple(axes)} for shape {shape}", operation="transpose", hint=hint)
        axes = tuple(int(axis) % len(shape) for axis in axes)
    return record(tape, operations.TRANSPOSE, x, axes=axes)


def sum(tape: Tape, x: Variable, axis: Axis = None, keepdims: bool = False) -> Traced[Variable]:
    """Record the sum over all elements or over the given axes; see :func:`viva_tensor.kernels.sum`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [[1.0, 2.0], [3.0, 4.0]])
    >>> sum(tape, x, axis=0).value.data
    array([4., 6.], dtype=float32)
    """
    return record(tape, operations.SUM, x, axis=_frozen(axis), keepdims=flag("sum", "keepdims", keepdims))


def mean(tape: Tape, x: Variable, axis: Axis = None, keepdims: bool = False) -> Traced[Variable]:
    """Record the mean over all elements or over the given axes; see :func:`viva_tensor.kernels.mean`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [2.0, 4.0])
    >>> mean(tape, x).value.data
    array(3., dtype=float32)
    """
    return record(tape, operations.MEAN, x, axis=_frozen(axis), keepdims=flag("mean", "keepdims", keepdims))


def _frozen(axis: Axis) -> Axis:
    """Return an axis argument that its owner can no longer change."""
    if axis is None or isinstance(axis, int):
        return axis
    if isinstance(axis, np.integer):
        return int(axis)
    try:
        return tuple(int(one) if isinstance(one, np.integer) else one for one in axis)
    except TypeError:  # axes_of will refuse it with a message
        return axis


def relu(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record max(x, 0) element by element; see :func:`viva_tensor.kernels.relu`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [-1.0, 2.0])
    >>> relu(tape, x).value.data
    array([0., 2.], dtype=float32)
    """
    return record(tape, operations.RELU, x)
