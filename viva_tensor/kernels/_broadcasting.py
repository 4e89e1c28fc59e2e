"""Broadcasting for kernels that take matrices: operands are repeated, and their gradients summed."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike

from viva_tensor.kernels import _sums
from viva_tensor.kernels._elementwise import apply
from viva_tensor.kernels.arrays import (
    UNSUITABLE,
    Array,
    as_array,
    as_arrays,
    broadcast,
    by_dtype,
    empty,
    into,
    row_views,
    same_shape,
)

_SUM = by_dtype(_sums.sum)


def pairs(formula: str, a: ArrayLike, b: ArrayLike, out: Array | None = None, operation: str = "") -> Array:
    """Apply a formula to each pair of elements, broadcast as in NumPy; operation as in :func:`unary`."""
    try:
        return apply(formula, a, b, out)
    except UNSUITABLE:
        operation = operation or formula
        return _in_rows(operation, formula, as_arrays(operation, a, b), out, 1)


def unary(formula: str, x: ArrayLike, out: Array | None = None, factor: float = 1.0, operation: str = "") -> Array:
    """Apply a formula to each element; the operation that errors name is by default named like the formula."""
    try:
        return apply(formula, x, x, out, factor)
    except UNSUITABLE:
        operation = operation or formula
        array = as_array(operation, x)
        return _in_rows(operation, formula, (array, array), out, factor)


def unary_backward(
    formula: str, grad: ArrayLike, x: ArrayLike, out: Array | None = None, factor: float = 1.0, operation: str = ""
) -> Array:
    """Apply a formula as :func:`unary` does to each gradient and element, of one shape: nothing is broadcast."""
    try:
        if grad.shape == x.shape:  # type: ignore[union-attr]
            return apply(formula, grad, x, out, factor)
    except UNSUITABLE:
        pass
    operation = operation or formula
    grad, x = as_arrays(operation, grad, x)
    same_shape(operation, x.shape, grad.shape, "give one gradient for each element")
    return _in_rows(operation, formula, (grad, x), out, factor)


def _in_rows(operation: str, formula: str, arrays: tuple[Array, ...], out: Array | None, factor: float) -> Array:
    """Broadcast operands of any rank, split into matrices that the kernel takes."""

    def work(result: Array) -> None:
        for a, b, target in row_views((*arrays, result)):
            apply(formula, a, b, target, factor)

    return into(operation, out, broadcast(operation, *arrays), arrays, work)


def broadcast_into(x: Array, factor: float, out: Array) -> None:
    """Set out = factor · x, with x repeated to the shape of out."""
    for source, target in row_views((x, out)):
        apply("scale", source, source, target, factor)


def sum_axes(x: Array, axes: tuple[int, ...], divisor: int) -> Array:
    """Sum over sorted axes, one run of adjacent axes after another, the last run first."""
    if not axes:
        out = empty("sum", x.shape, x.dtype)
        broadcast_into(x, 1, out)
        return out
    end = axes[-1] + 1
    start = end - 1
    while start - 1 in axes:
        start -= 1
    rest = tuple(i for i in axes if i < start)
    out = empty("sum", x.shape[:start] + x.shape[end:], x.dtype)
    outer, inner = math.prod(x.shape[:start]), math.prod(x.shape[end:])
    _SUM[x.dtype](
        x.reshape(outer, math.prod(x.shape[start:end]), inner), out.reshape(outer, inner), 1 if rest else divisor
    )
    return sum_axes(out, rest, divisor) if rest else out
