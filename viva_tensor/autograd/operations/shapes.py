"""Operations that move elements: reshaping, slices, concatenation, and dropout, which moves some to 0."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from viva_tensor import kernels
from viva_tensor.autograd.operations.base import (
    Do,
    OpenSize,
    Operation,
    Shape,
    Span,
    Tangent,
    Value,
    like,
    own,
    same,
)
from viva_tensor.error import ShapeMismatch
from viva_tensor.kernels.arrays import Array, as_arrays, empty

__all__ = [
    "DROPOUT",
    "EXPAND_DIMS",
    "PAD",
    "PLACE",
    "RESHAPE",
    "RESHAPE_BACKWARD",
    "SLICE",
    "SQUEEZE",
    "TRANSPOSE",
    "concatenation",
]


def _sliced(x: Array, spans: Sequence[Span]) -> Array:
    """Return a view of evenly spaced elements along each axis."""
    slices = (
        slice(start, None if step < 0 and start + count * step < 0 else start + count * step, step)
        for start, count, step in spans
    )
    return x[(*slices, ...)]  # a single element is a view, too


def _placed(grad: Array, whole: Array, spans: Sequence[Span]) -> Array:
    """Return zeros of a shape, with grad where a slice was taken."""
    out = np.zeros(whole.shape, grad.dtype)
    _sliced(out, spans)[...] = grad
    return out


def _padded_shape(x: Shape, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Shape:
    return tuple(before + size + after for size, (before, after) in zip(x, widths, strict=True))


def _padded(x: Array, widths: Sequence[tuple[int, int]], value: float) -> Array:
    out = empty("pad", _padded_shape(x.shape, widths), x.dtype)
    out.fill(value)
    _sliced(out, _within(x.shape, widths))[...] = x
    return out


def _within(shape: Shape, widths: Sequence[tuple[int, int]]) -> tuple[Span, ...]:
    """Return the position of an array in what it is padded to."""
    return tuple(
        (before, size, 1) if before or after else OpenSize((0, size, 1))
        for size, (before, after) in zip(shape, widths, strict=True)
    )


def _joined_shape(*shapes: Shape, axis: int) -> Shape:
    """Return the shape of a concatenation, if all axes but one are alike."""
    first = shapes[0]
    for shape in shapes[1:]:
        if len(shape) != len(first) or (*shape[:axis], first[axis], *shape[axis + 1 :]) != first:
            hint = f"all axes but axis {axis} are alike"
            raise ShapeMismatch(first, shape, operation="concatenate", hint=hint)
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def _joined(*arrays: Array, axis: int) -> Array:
    shape = _joined_shape(*[array.shape for array in arrays], axis=axis)
    arrays = as_arrays("concatenate", *arrays)
    return np.concatenate(arrays, axis=axis, out=empty("concatenate", shape, arrays[0].dtype))


def _joined_spans(shapes: Sequence[Shape], axis: int, index: int) -> tuple[Span, ...]:
    """Return the position in a concatenation of the array of that index."""
    start = sum(shape[axis] for shape in shapes[:index])
    return tuple((start, size, 1) if i == axis else OpenSize((0, size, 1)) for i, size in enumerate(shapes[index]))


def _reshaping(name: str, shape: Any, forward: Any, lower: Any) -> Operation:
    """Return an operation that gives elements another shape, whose gradient gets the shape of its input back."""

    def gradient(do: Do, grad: Value, out: Value, x: Value, **attributes: Any) -> Any:
        return do(RESHAPE_BACKWARD, grad, x)

    return Operation(name, shape, forward, (gradient,), lower, ("linear",))


def _inverse(axes: Sequence[int] | None) -> tuple[int, ...] | None:
    if axes is None:
        return None
    positive = [axis % len(axes) for axis in axes]
    return tuple(positive.index(i) for i in range(len(axes)))


def _transposed(x: Array, axes: Sequence[int] | None) -> Array:
    return x.T if axes is None else x.transpose(axes)


TRANSPOSE: Operation = Operation(
    "transpose",
    lambda x, axes: tuple(x[i] for i in (axes if axes is not None else reversed(range(len(x))))),
    _transposed,
    (lambda do, grad, out, x, axes: do(TRANSPOSE, grad, axes=_inverse(axes)),),
    lambda build, x, axes: build.transpose(x, axes),
    ("linear",),
)
RESHAPE = _reshaping(
    "reshape",
    lambda x, shape: shape,
    lambda x, shape: x.reshape(shape),
    lambda build, x, shape: build.reshape(x, shape),
)
SQUEEZE = _reshaping(
    "squeeze",
    lambda x, axes: tuple(size for i, size in enumerate(x) if i not in axes),
    lambda x, axes: x.squeeze(axes),
    lambda build, x, axes: build.squeeze(x, axes),
)
EXPAND_DIMS = _reshaping(
    "expand_dims",
    lambda x, axis: (*x[:axis], 1, *x[axis:]),
    lambda x, axis: x.reshape((*x.shape[:axis], 1, *x.shape[axis:])),
    lambda build, x, axis: build.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:])),
)
RESHAPE_BACKWARD: Operation = Operation(
    "reshape_backward",
    like,
    lambda grad, x: grad.reshape(x.shape),
    (lambda do, upstream, out, grad, x: do(RESHAPE_BACKWARD, upstream, grad), None),
    lambda build, grad, x: build.reshape(grad, x.shape),
    ("linear", None),
)
PLACE: Operation = Operation(
    "place",
    like,
    _placed,
    (lambda do, upstream, out, grad, whole, spans: do(SLICE, upstream, spans=spans), None),
    lambda build, grad, whole, spans: build.placed([(grad, spans)], whole.shape),
    ("linear", None),
)
SLICE: Operation = Operation(
    "slice",
    lambda x, spans: tuple(count for _, count, _ in spans),
    _sliced,
    (lambda do, grad, out, x, spans: do(PLACE, grad, x, spans=spans),),
    lambda build, x, spans: build.slice(x, spans),
    ("linear",),
)
PAD: Operation = Operation(
    "pad",
    _padded_shape,
    _padded,
    (lambda do, grad, out, x, widths, value: do(SLICE, grad, spans=_within(x.shape, widths)),),
    lambda build, x, widths, value: build.placed(
        [(x, _within(x.shape, widths))], _padded_shape(x.shape, widths), value
    ),
    (lambda do, tangent, out, x, widths, value: do(PAD, tangent, widths=widths, value=0.0),),
)
DROPOUT: Operation = Operation(
    "dropout",
    same,
    kernels.dropout,
    (lambda do, grad, out, x, rate, seed: do(DROPOUT, grad, rate=rate, seed=seed),),
    lambda build, x, rate, seed: build.dropout(x, rate, seed),
    ("linear",),
)


@cache
def concatenation(count: int) -> Operation:
    """Return the operation that joins so many arrays along an axis."""

    def gradient(do: Do, grad: Value, out: Value, *arrays: Value, axis: int, index: int) -> Any:
        return do(SLICE, grad, spans=_joined_spans([array.shape for array in arrays], axis, index))

    def tangent(do: Do, change: Value, out: Value, *arrays: Value, axis: int, index: int) -> Any:
        return do(PLACE, change, out, spans=_joined_spans([array.shape for array in arrays], axis, index))

    def lower(build: Any, *symbols: Value, axis: int) -> Any:
        shapes = [symbol.shape for symbol in symbols]
        whole = _joined_shape(*shapes, axis=axis)
        return build.placed([(one, _joined_spans(shapes, axis, index)) for index, one in enumerate(symbols)], whole)

    rules = tuple(partial(gradient, index=index) for index in range(count))
    tangents: tuple[Tangent, ...] = tuple(partial(tangent, index=index) for index in range(count))
    return own(Operation("concatenate", _joined_shape, _joined, rules, lower, tangents))
