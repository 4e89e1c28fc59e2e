"""Operations that move elements to other places or shapes, as functions (tape, variables) -> Traced."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from viva_tensor.autograd import operations
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
from viva_tensor.error import BroadcastError, DimensionError, IndexOutOfBounds, InvalidShape, InvalidValue
from viva_tensor.kernels.arrays import Axes, IntegerArray, Whole, axes_of
from viva_tensor.kernels.checks import is_whole, real, shown

__all__ = [
    "broadcast_to",
    "concatenate",
    "expand_dims",
    "flip",
    "moveaxis",
    "pad",
    "reshape",
    "slice",
    "split",
    "squeeze",
    "stack",
    "transpose",
]

_Slice = builtins.slice
_ALL = _Slice(None)
# for any size
_WHOLE = (*(_Slice(start, None, step) for start in (None, 0) for step in (None, 1)), _Slice(None, None, -1))


def frozen(axis: Axes) -> Axes:
    """Return an axis argument that its owner can no longer change.

    Examples
    --------
    >>> frozen([0, 1])
    (0, 1)
    """
    if axis is None or isinstance(axis, int):
        return axis
    if isinstance(axis, np.integer):
        return int(axis)
    try:
        return tuple(int(one) if isinstance(one, np.integer) else one for one in axis)
    except TypeError:  # axes_of will refuse it with a message
        return axis


def reshape(tape: Tape, x: Variable, shape: Whole | Sequence[Whole] | IntegerArray) -> Traced[Variable]:
    """Record the elements of x in row-major order in another shape; the size of one axis may be -1, to be derived.

    Programs take other numbers of rows where it is plain which size has the rows: of four recorded rows in shapes such
    as ``(-1, 6)``, ``(4, 3, 2)``, ``(4, -1)`` and ``(8, 3)``, two for each row; not in ``(2, -1)`` or ``(8, -1)``, nor
    of one recorded row in ``(1, -1)``. Axes that were joined before are parted as they were. Other shapes are refused.

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
        sizes = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
        if not all(is_whole(size) and size >= -1 for size in sizes):  # NumPy takes True for 1 and -2 for -1
            raise ValueError("sizes are whole numbers")
        wanted = np.empty(data.shape, data.dtype).reshape(sizes).shape
    except (OverflowError, ValueError, TypeError) as reason:
        hint = "one axis may be -1"
        raise InvalidShape(f"{data.shape} to {shown(shape)}: {reason}", operation="reshape", hint=hint) from None
    if -1 in sizes:
        place = sizes.index(-1)
        wanted = operations.OpenLater(wanted, place) if place else operations.OpenSize(wanted)
    return record(tape, operations.RESHAPE, x, shape=wanted)


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


def concatenate(tape: Tape, variables: Iterable[Variable], axis: Whole = 0) -> Traced[Variable]:
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
    axis = _axis("concatenate", axis, shape)
    return record(tape, operations.concatenation(len(variables)), *variables, axis=axis)


def _spans(shape: tuple[int, ...], index: Any) -> tuple[tuple[operations.Span, ...], tuple[int, ...]]:
    """Return start, count and step along each axis, and the axes from which an integer picks one element."""
    entries = list(index) if isinstance(index, tuple) else [index]
    _check_kinds(entries)
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
        else:
            if not -size <= entry < size:
                raise IndexOutOfBounds(int(entry), size, operation="slice", hint=f"of shape {shape}")
            spans.append((int(entry) % size, 1, 1))
            single.append(axis)
    return tuple(spans), tuple(single)


def _check_kinds(entries: Sequence[Any]) -> None:
    """Raise unless an index has integers, slices and at most one ellipsis."""
    hint = "use integers, slices and one ellipsis"
    ellipses = 0
    for entry in entries:
        ellipses += entry is Ellipsis
        if entry is None:
            hint += "; expand_dims makes a new axis"
            raise DimensionError("an index of None, np.newaxis", operation="slice", hint=hint)
        if ellipses > 1 or not (entry is Ellipsis or isinstance(entry, _Slice) or is_whole(entry)):
            raise DimensionError(f"an index of type {type(entry).__name__}", operation="slice", hint=hint)


def transpose(tape: Tape, x: Variable, axes: Sequence[Whole] | None = None) -> Traced[Variable]:
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
        axes = (axes,) if isinstance(axes, (int, np.integer)) else frozen(axes)  # type: ignore[assignment]
        if len(axes_of("transpose", axes, shape)) != len(shape):
            hint = "name every axis once"
            raise DimensionError(f"axes {tuple(axes)} for shape {shape}", operation="transpose", hint=hint)
        axes = tuple(int(axis) % len(shape) for axis in axes)
    return record(tape, operations.TRANSPOSE, x, axes=axes)


def moveaxis(tape: Tape, x: Variable, source: Whole, destination: Whole) -> Traced[Variable]:
    """Record x with one axis moved to another place; a view, see :func:`numpy.moveaxis`.

    Raises
    ------
    IndexOutOfBounds, InvalidValue
        If x has no such axis; if an axis is not a whole number.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), np.zeros((2, 3, 4)))
    >>> moveaxis(tape, x, 0, -1).value.shape
    (3, 4, 2)
    """
    shape = node_of(tape, x, "moveaxis").output.data.shape
    start, end = (_axis("moveaxis", axis, shape) for axis in (source, destination))
    order = [axis for axis in range(len(shape)) if axis != start]
    order.insert(end, start)
    return transpose(tape, x, order)


def squeeze(tape: Tape, x: Variable, axis: Axes = None) -> Traced[Variable]:
    """Record x without some of its axes of size 1, by default without any of them; see :func:`numpy.squeeze`.

    Raises
    ------
    InvalidShape
        If an axis does not have the size 1.
    IndexOutOfBounds, DimensionError, InvalidValue
        If x has no such axis; if one is named twice; if it is not a whole number.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [[1.0], [2.0]])
    >>> squeeze(tape, x).value.data
    array([1., 2.], dtype=float32)
    """
    shape = node_of(tape, x, "squeeze").output.data.shape
    single = tuple(i for i, size in enumerate(shape) if size == 1)
    axes = single if axis is None else axes_of("squeeze", axis, shape)
    if not set(axes) <= set(single):
        hint = "only axes of size 1 can be left out"
        raise InvalidShape(f"axis {shown(axis)} of shape {shape}", operation="squeeze", hint=hint)
    return record(tape, operations.SQUEEZE, x, axes=axes)


def expand_dims(tape: Tape, x: Variable, axis: Whole) -> Traced[Variable]:
    """Record x with a new axis of size 1, which is at ``axis`` of the result; see :func:`numpy.expand_dims`.

    Raises
    ------
    IndexOutOfBounds, InvalidValue
        If the result has no such axis; if it is not a whole number.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> expand_dims(tape, x, 1).value.shape
    (2, 1)
    """
    shape = node_of(tape, x, "expand_dims").output.data.shape
    place = _axis("expand_dims", axis, (*shape, 1))
    return record(tape, operations.EXPAND_DIMS, x, axis=place)


def broadcast_to(tape: Tape, x: Variable, shape: int | Sequence[int]) -> Traced[Variable]:
    """Record x repeated to a shape, by NumPy's rules of broadcasting.

    Programs with other rows of x take sizes above 1 that x has itself for its own, and keep the others; they refuse as
    many as the recorded rows along an axis of size 1, of which they cannot know whether it has the rows.

    Raises
    ------
    BroadcastError, InvalidShape
        If x does not fit the shape; if its sizes are no whole numbers from 0 on, or more than NumPy can address.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> broadcast_to(tape, x, (2, 2)).value.data
    array([[1., 2.],
           [1., 2.]], dtype=float32)
    """
    data = node_of(tape, x, "broadcast_to").output.data
    try:
        whole = np.broadcast_to(data.dtype.type(0), shape)
    except (OverflowError, TypeError, ValueError) as reason:
        hint = "give a tuple of whole numbers from 0 on"
        raise InvalidShape(f"shape={shown(shape)}: {reason}", operation="broadcast_to", hint=hint) from None
    try:
        fits = np.broadcast_shapes(data.shape, whole.shape) == whole.shape
    except ValueError:
        fits = False
    if not fits:
        raise BroadcastError(data.shape, whole.shape, operation="broadcast_to")
    like, tape = new_constant(tape, whole)
    return record(tape, operations.BROADCAST, x, like)


def flip(tape: Tape, x: Variable, axis: Axes = None) -> Traced[Variable]:
    """Record x with the order of elements reversed along some axes, by default all; a view.

    Raises
    ------
    IndexOutOfBounds, DimensionError, InvalidValue
        If x has no such axis; if one is named twice; if it is not a whole number.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0, 3.0])
    >>> flip(tape, x).value.data
    array([3., 2., 1.], dtype=float32)
    """
    shape = node_of(tape, x, "flip").output.data.shape
    axes = axes_of("flip", axis, shape)
    return slice(tape, x, tuple(_Slice(None, None, -1) if i in axes else _ALL for i in range(len(shape))))


def stack(tape: Tape, variables: Iterable[Variable], axis: Whole = 0) -> Traced[Variable]:
    """Join variables of one shape along a new axis; see :func:`numpy.stack`.

    Raises
    ------
    ShapeMismatch, DimensionError
        If the shapes differ; if there is nothing to join.
    IndexOutOfBounds, InvalidValue
        If the result has no such axis; if it is not a whole number, or ``variables`` is not a sequence of them.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> stack(tape, (x, x), axis=1).value.data
    array([[1., 1.],
           [2., 2.]], dtype=float32)
    """
    parts = []
    variables = several("stack", "variables", variables)
    if not variables:
        raise DimensionError("nothing to join", operation="stack", hint="give at least one variable")
    place = _axis("stack", axis, (*node_of(tape, variables[0], "stack").output.data.shape, 1))
    for variable in variables:
        part, tape = expand_dims(tape, variable, place)
        parts.append(part)
    return concatenate(tape, parts, place)


def split(
    tape: Tape, x: Variable, parts: Whole | Sequence[Whole] | IntegerArray, axis: Whole = 0
) -> Traced[tuple[Variable, ...]]:
    """Record the parts of x along an axis, as views: so many equal ones, or of these sizes.

    Raises
    ------
    InvalidShape
        If the axis cannot be divided so.
    IndexOutOfBounds, InvalidValue
        If x has no such axis; if an argument is not a whole number.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0, 3.0])
    >>> (first, rest), tape = split(tape, x, (1, 2))
    >>> rest.data
    array([2., 3.], dtype=float32)
    """
    shape = node_of(tape, x, "split").output.data.shape
    along = _axis("split", axis, shape)
    whole = shape[along]
    parts = parts.tolist() if isinstance(parts, np.ndarray) else parts
    if is_whole(parts) and parts > 0 and whole % parts == 0:  # type: ignore[operator]
        sizes = [whole // parts] * parts  # type: ignore[operator]
    else:
        sizes = list(parts) if isinstance(parts, (tuple, list)) else [-1]
    if not all(is_whole(size) and size >= 0 for size in sizes) or sum(sizes) != whole:
        hint = "give a number of equal parts, or sizes that add up to the axis"
        raise InvalidShape(f"axis {along} of shape {shape} into {shown(parts)}", operation="split", hint=hint)
    found = []
    for start, end in itertools.pairwise(itertools.accumulate(sizes, initial=0)):
        part, tape = slice(tape, x, (*[_ALL] * along, _Slice(start, end)))
        found.append(part)
    return Traced(tuple(found), tape)


def pad(
    tape: Tape,
    x: Variable,
    widths: Whole | Sequence[Whole] | Sequence[Sequence[Whole]] | IntegerArray,
    value: float = 0.0,
) -> Traced[Variable]:
    """Record x with a value before and after its elements along each axis; see :func:`numpy.pad`.

    Parameters
    ----------
    tape : Tape
    x : Variable
    widths : int, (int, int), or (int, int) for each axis
        How many elements to put before and after.
    value : float

    Raises
    ------
    InvalidShape
        If the widths are no whole numbers from 0 on, or not for these axes.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0])
    >>> pad(tape, x, (1, 2)).value.data
    array([0., 1., 2., 0., 0.], dtype=float32)
    """
    dimensions = node_of(tape, x, "pad").output.data.ndim
    try:
        given = np.asarray(widths)
        if given.dtype.kind not in "iu" or (given.size and given.min() < 0):
            raise ValueError
        pairs = np.broadcast_to(given, (dimensions, 2))
    except ValueError:
        hint = "give one number, (before, after), or that for each axis"
        raise InvalidShape(f"widths {shown(widths)} of {dimensions} axes", operation="pad", hint=hint) from None
    around = tuple((int(before), int(after)) for before, after in pairs)
    return record(tape, operations.PAD, x, widths=around, value=real("pad", "value", value))


def _axis(operation: str, axis: Whole, shape: Sequence[int]) -> int:
    """Return an axis of a shape as a number from 0."""
    if not is_whole(axis):
        raise InvalidValue(f"axis={shown(axis)}", operation=operation, hint="give one whole number")
    (found,) = axes_of(operation, axis, tuple(shape))
    return found
