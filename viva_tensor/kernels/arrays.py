"""Checks and conversions of what kernels accept, off their fast path."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from itertools import dropwhile
from operator import methodcaller
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from viva_tensor.error import (
    BroadcastError,
    DimensionError,
    DtypeError,
    IndexOutOfBounds,
    InvalidShape,
    InvalidValue,
    NoOperator,
    ShapeMismatch,
)
from viva_tensor.kernels.checks import is_whole, shown

Array = np.ndarray[Any, np.dtype[Any]]
Float32Array = np.ndarray[Any, np.dtype[np.float32]]
Float64Array = np.ndarray[Any, np.dtype[np.float64]]
Whole = int | np.integer[Any]
Axes = Whole | Sequence[Whole] | None
IntegerArray = np.ndarray[Any, np.dtype[np.integer[Any]]]
# Arrays of these very objects have the buffer format "f" or "d", as wrappers want it. An equal dtype that is another
# object may come from a buffer that states its byte order, and then passes that on.
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
BEYOND_FLOAT32 = 2.0**128 - 2.0**103  # the least number that rounds to infinity
WIDER = "give an array of float64, such as np.array(..., np.float64)"
CAST = "cast it explicitly, for example with .astype(np.float32)"

NO_NUMBERS = (str, bytes, complex, np.complexfloating, np.datetime64, np.timedelta64, date, timedelta)
# The errors of a compiled wrapper, or of the fast path before it, for anything but plain aligned arrays of fitting
# shapes. The fast path accepts only np.ndarray itself: a wrapper would not see the mask of a masked array.
UNSUITABLE = (AttributeError, IndexError, KeyError, TypeError, ValueError)

freeze = methodcaller("setflags", False)  # write=False, by position because that takes half the time


def may_change(array: Array) -> bool:
    """Return whether the elements of an array can be written, by it or by what it is a view of.

    Examples
    --------
    >>> array = np.zeros((3, 1))
    >>> view = np.broadcast_to(array, (3, 2))
    >>> view.flags.writeable, may_change(view)
    (False, True)
    >>> freeze(array)
    >>> may_change(view)
    False
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return True
        owner = owner.base
    if owner is None:
        return False
    try:
        view = memoryview(owner)
        return not view.readonly or (view.obj is not owner and not memoryview(view.obj).readonly)
    except (TypeError, ValueError):  # no buffer: another library owns the memory, and may write to it
        return True


def by_dtype(kernel: Any) -> dict[np.dtype[Any], Callable[..., Any]]:
    """Return the specialisations of a compiled wrapper, keyed by the dtype of its arrays."""
    return {FLOAT32: kernel["float"], FLOAT64: kernel["double"]}


def as_array(operation: str, value: ArrayLike, dtype: DTypeLike | None = None) -> Array:
    """Return `value` as a native, aligned float32 or float64 array, copied only if necessary.

    Python numbers and nested lists become float32. Objects with the buffer protocol, an array interface or DLPack keep
    their dtype and are read in place.
    """
    if type(value) is np.ndarray and dtype is None and value.flags.aligned:
        given = value.dtype
        if given is FLOAT32 or given is FLOAT64:
            return value
    typed = _is_typed(value)
    array = read(operation, value)
    if not typed:
        array = _narrowed(operation, array, np.dtype(dtype or FLOAT32))
    native = array.dtype.newbyteorder("=")
    if native not in (FLOAT32, FLOAT64):
        wanted = "float32 or float64" if dtype is None else np.dtype(dtype)
        got = f"dtype {array.dtype} of shape {array.shape}"
        raise DtypeError(f"{got}, wanted {wanted}", operation=operation, hint=_cast(value, dtype))
    plain = FLOAT32 if native == FLOAT32 else FLOAT64
    if array.dtype != native or not array.flags.aligned:
        array = array.astype(plain)
    return array if array.dtype is plain else array.view(plain)


def read(operation: str, value: Any) -> Array:
    """Return a value as an array of any dtype.

    Examples
    --------
    >>> read("take", [2, 0])
    array([2, 0])
    """
    first = value[0] if type(value) in (list, tuple) and value else None  # NumPy would ignore its mask
    if isinstance(value, np.ma.MaskedArray) or np.ma.is_masked(first):
        raise DtypeError("a masked array, whose mask would be lost", operation=operation, hint="fill it with .filled()")
    try:
        exchanged = hasattr(value, "__dlpack__") and not hasattr(value, "__array__")
        return np.from_dlpack(value) if exchanged else np.asarray(value)
    except NoOperator:
        raise DtypeError(
            "got a variable, wanted an array", operation=operation, hint="take its values: .data"
        ) from None
    except ValueError as reason:
        raise InvalidShape(f"no array can be made of this input ({reason})", operation=operation) from None
    except (BufferError, RuntimeError, TypeError) as reason:
        raise DtypeError(
            f"no array can be made of this {type(value).__name__} ({str(reason).partition(chr(10))[0]})",
            operation=operation,
            hint=_hint(value),
        ) from None


def _narrowed(operation: str, array: Array, dtype: np.dtype[Any]) -> Array:
    """Return Python numbers in a dtype that must hold them; infinities and NaN are kept."""
    if array.dtype.kind in "iu":
        return array.astype(dtype)
    if array.dtype.kind == "O" and all(isinstance(one, int | float) for one in array.flat):  # some beyond 64 bits
        try:
            array = array.astype(np.float64)
        except OverflowError:
            beyond = next(one for one in array.flat if abs(one) > sys.float_info.max)
            raise InvalidValue(f"{shown(beyond)} is beyond float64", operation=operation) from None
    if array.dtype.kind != "f":
        return array
    if dtype == FLOAT32 and array.dtype != FLOAT32:
        lost = np.isfinite(array) & (abs(array) >= BEYOND_FLOAT32)
        if lost.any():
            number = float(array[lost][0])
            raise InvalidValue(f"{number!r} is beyond {dtype}", operation=operation, hint=WIDER)
    return array.astype(dtype)


def _is_typed(value: Any) -> bool:
    """Return whether a value has a dtype."""
    if any(hasattr(value, f"__{name}__") for name in ("array", "dlpack", "array_interface", "array_struct")):
        return True
    try:
        memoryview(value)
    except (BufferError, TypeError, ValueError):
        return False
    return True


def _named(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return str(tuple(shape)) if isinstance(shape, tuple) else type(value).__name__


def _hint(value: Any) -> str:
    """Return how to make a tensor of another library readable."""
    if getattr(value, "requires_grad", False):
        return "detach it first, with .detach()"
    device = getattr(value, "device", None)
    if getattr(device, "type", "cpu") != "cpu":
        return "copy it to the memory of the CPU first, with .cpu()"
    return _cast(value)


def _cast(value: Any, dtype: DTypeLike | None = None) -> str:
    if hasattr(value, "float"):
        wide = dtype is not None and np.dtype(dtype) == FLOAT64
        return f"cast it explicitly, for example with .{'double' if wide else 'float'}()"
    return CAST if dtype is None else f"cast it with .astype(np.{np.dtype(dtype)})"


def as_arrays(operation: str, *values: ArrayLike) -> tuple[Array, ...]:
    """Return operands of one dtype; Python numbers and lists take the dtype of the other operands."""
    dtype = getattr(values[0], "dtype", None)
    plain = dtype is FLOAT32 or dtype is FLOAT64
    for value in values:
        if type(value) is not np.ndarray or value.dtype is not dtype or not plain or not value.flags.aligned:
            break
    else:
        return values  # type: ignore[return-value]
    named = f"{operation} of {' and '.join(map(_named, values))}"
    typed = [value for value in values if _is_typed(value)]
    dtype = as_array(named, typed[0]).dtype if typed else None
    arrays = tuple(as_array(named, value, None if _is_typed(value) else dtype) for value in values)
    for array in arrays[1:]:
        if array.dtype != arrays[0].dtype:
            shapes = " and ".join(f"{one.dtype} {one.shape}" for one in (arrays[0], array))
            raise DtypeError(f"mixed dtypes: {shapes}", operation=operation, hint=CAST)
    return arrays


def as_numbers(operation: str, name: str, value: ArrayLike, dtype: DTypeLike = FLOAT32) -> Array:
    """Return a C-contiguous array of any real numbers, also integers and bools, copied only if necessary.

    Floats beyond `dtype` become infinite, and missing numbers of tables become NaN.

    Examples
    --------
    >>> as_numbers("fit", "y", [True, False])
    array([1., 0.], dtype=float32)
    >>> as_numbers("fit", "y", ["yes", "no"])
    Traceback (most recent call last):
    viva_tensor.error.DtypeError: fit: y is an array of <U3, wanted real numbers
    """
    try:
        if np.ma.is_masked(value):
            raise TypeError("masked, and its mask would be lost")
        array = np.asarray(value)
        objects = array.dtype.kind == "O"
        others = objects and any(isinstance(one, NO_NUMBERS) for one in array.flat)  # NumPy would convert them
        with np.errstate(over="ignore"):
            extension = array.dtype.kind == "V" and array.dtype.type is not np.void  # such as bfloat16 of ml_dtypes
            if (array.dtype.kind in "biufO" or extension) and not others:
                return np.asarray(value if objects else array, dtype, order="C")  # a table knows its missing numbers
    except (TypeError, ValueError, RuntimeError, OverflowError) as reason:
        got = f"{type(value).__name__} ({str(reason).partition(chr(10))[0]})"
        raise DtypeError(f"no array of {np.dtype(dtype)} can be made of {name}, a {got}", operation=operation) from None
    raise DtypeError(f"{name} is an array of {array.dtype}, wanted real numbers", operation=operation)


def wants(operation: str, dimensions: int, array: Array, name: str) -> None:
    """Raise unless an operand has this many dimensions."""
    if array.ndim != dimensions:
        raise DimensionError(
            f"{name} has shape {array.shape}, wanted {dimensions} dimensions",
            operation=operation,
            hint="reshape it first",
        )


def same_shape(operation: str, expected: tuple[int, ...], got: tuple[int, ...], hint: str) -> None:
    """Raise unless two shapes are equal."""
    if expected != got:
        raise ShapeMismatch(expected, got, operation=operation, hint=hint)


def broadcast(operation: str, a: Array, b: Array) -> tuple[int, ...]:
    """Return the shape to which a and b broadcast."""
    try:
        return np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise BroadcastError(a.shape, b.shape, operation=operation) from None


def axes_of(operation: str, axis: Axes, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes as sorted numbers from 0."""
    size = len(shape)
    if axis is None:
        return tuple(range(size))
    if type(axis) is int and 0 <= axis < size:
        return (axis,)
    axes = []
    try:
        given: tuple[Any, ...] = tuple(axis)  # type: ignore[arg-type]
    except TypeError:
        given = (axis,)
    for one in given:
        if not is_whole(one):
            hint = "give a whole number, or a tuple of them"
            raise InvalidValue(f"axis={shown(axis)}", operation=operation, hint=hint)
        if not -size <= one < size:
            hint = f"axes of shape {shape} run from {-size} to {size - 1}" if size else "a scalar has no axes"
            raise IndexOutOfBounds(int(one), size, operation=operation, hint=hint)
        axes.append(int(one) % size)
    if len(set(axes)) < len(axes):
        raise DimensionError(f"axis {axis} names an axis twice", operation=operation, hint="name each axis once")
    return tuple(sorted(axes))


def float_dtype(operation: str, dtype: DTypeLike) -> np.dtype[Any]:
    """Return the dtype that a caller names, float32 or float64. None is neither, though NumPy takes it for float64."""
    try:
        found = None if dtype is None else np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found not in (FLOAT32, FLOAT64):
        raise DtypeError(f"dtype {dtype!r}, wanted float32 or float64", operation=operation, hint='give "float32"')
    return found


def empty(operation: str, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Return an array of this shape, not filled."""
    try:
        return np.empty(shape, dtype)
    except ValueError:
        hint = "make it smaller, or work in parts"
        raise InvalidShape(f"no memory holds an array of shape {shape}", operation=operation, hint=hint) from None


def into(
    operation: str,
    out: Array | None,
    shape: tuple[int, ...],
    operands: Sequence[Array],
    work: Callable[[Array], object],
) -> Array:
    """Let `work` fill an array of this shape, or `out` if given, and return it.

    If `out` shares memory with an operand, or is not native and aligned, the result is copied there at the end.
    """
    dtype = operands[0].dtype
    if out is None:
        result = empty(operation, shape, dtype)
        work(result)
        return result
    if not isinstance(out, np.ndarray) or out.dtype.newbyteorder("=") != dtype:
        got = getattr(out, "dtype", type(out).__name__)
        raise DtypeError(f"out is {got}, wanted an array of {dtype}", operation=operation, hint="allocate it so")
    if out.shape != shape:
        raise ShapeMismatch(shape, out.shape, operation=operation, hint="give out the shape of the result")
    if not out.flags.writeable:
        raise InvalidValue(f"out {shape} is read-only", operation=operation, hint="give a writeable array, or none")
    if not _distinct(out):
        hint = "give an array whose elements each have memory of their own"
        raise InvalidValue(f"elements of out {shape} share memory", operation=operation, hint=hint)
    plain = out.dtype == dtype and out.flags.aligned
    if plain and not any(np.may_share_memory(out, one) for one in operands):
        work(out.view(dtype))
    else:
        result = empty(operation, shape, dtype)
        work(result)
        out[...] = result
    return out


def _distinct(array: Array) -> bool:
    """Return whether no two elements share memory; False also where axes interleave like combs."""
    reach = array.itemsize
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if size > 1 and stride < reach:
            return array.size == 0
        reach += (size - 1) * stride if size > 1 else 0
    return True


def row_views(arrays: Sequence[Array]) -> Iterator[tuple[Array, ...]]:
    """Yield views of rank 2 that together cover the broadcast arrays; the last array has the whole shape."""
    shape = arrays[-1].shape
    if math.prod(shape) == 0:
        return
    if len(shape) <= 2:
        yield tuple(array.reshape((1,) * (2 - array.ndim) + array.shape) for array in arrays)
        return
    trailing = [tuple(dropwhile(lambda size: size == 1, array.shape)) for array in arrays]
    if all(
        array.flags.c_contiguous and sizes == shape[len(shape) - len(sizes) :]
        for array, sizes in zip(arrays, trailing, strict=True)
    ):
        columns = min((array.size for array in arrays if array.size > 1), default=1)
        yield tuple(array.reshape((1, 1) if array.size == 1 else (-1, columns)) for array in arrays)
        return
    repeated = [np.broadcast_to(array, shape) for array in arrays[:-1]]
    for index in np.ndindex(*shape[:-2]):
        yield (*(array[index] for array in repeated), arrays[-1][index])
