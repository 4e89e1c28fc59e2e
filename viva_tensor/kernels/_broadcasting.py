"""Broadcasting on kernels that take matrices: operands repeated, and summed back."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from viva_tensor.kernels import _elementwise, _sums
from viva_tensor.kernels._arrays import Array, broadcast, by_dtype, into, row_views

__all__ = ["in_rows", "spread", "sum_axes"]

_SUM = by_dtype(_sums.sum)


def in_rows(operation: str, kernel: Callable[..., Array], arrays: tuple[Array, ...], out: Array | None) -> Array:
    """Broadcast operands of any rank, as matrices that the kernel takes."""
    shape = broadcast(operation, arrays[0], arrays[-1])

    def work(result: Array) -> None:
        for views in row_views((*arrays, result)):
            kernel(*views)

    return into(operation, out, shape, arrays, work)


def spread(x: Array, factor: float, out: Array) -> None:
    """out = factor · x, with x repeated to the shape of out."""
    for source, target in row_views((x, out)):
        _elementwise.scale(source, factor, target)


def sum_axes(x: Array, axes: tuple[int, ...], divisor: int) -> Array:
    """Sum over sorted axes, run by run of adjacent ones, the last run first."""
    if not axes:
        out = np.empty(x.shape, x.dtype)
        spread(x, 1, out)
        return out
    end = axes[-1] + 1
    start = end - 1
    while start - 1 in axes:
        start -= 1
    rest = tuple(i for i in axes if i < start)
    out = np.empty(x.shape[:start] + x.shape[end:], x.dtype)
    outer, inner = math.prod(x.shape[:start]), math.prod(x.shape[end:])
    _SUM[x.dtype](
        x.reshape(outer, math.prod(x.shape[start:end]), inner), out.reshape(outer, inner), 1 if rest else divisor
    )
    return sum_axes(out, rest, divisor) if rest else out
