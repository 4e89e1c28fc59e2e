"""Sums, means, norms, extremes and running sums along axes."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from viva_tensor import kernels
from viva_tensor.autograd.operations.arithmetic import ADD, CHAIN_DIV, CHAIN_MUL, DIV, EQUAL, MUL, REJECTED, SCALE
from viva_tensor.autograd.operations.base import Axis, Do, Operation, Shape, Value, like, same
from viva_tensor.kernels.arrays import Array

__all__ = [
    "CUMSUM",
    "CUMSUM_BACKWARD",
    "MAX",
    "MEAN",
    "MEAN_BACKWARD",
    "MIN",
    "NORM",
    "STOP_GRADIENT",
    "SUM",
    "SUM_BACKWARD",
    "SUM_OF_SQUARES",
]


def axes_in(axis: Axis, dimensions: int) -> tuple[int, ...]:
    """Return the axes as sorted numbers from 0."""
    if axis is None:
        return tuple(range(dimensions))
    return tuple(sorted(i % dimensions for i in ((axis,) if isinstance(axis, int) else axis)))


def reduced_shape(x: Shape, axis: Axis, keepdims: bool) -> Shape:
    """Return the shape that is left when axes are reduced."""
    axes = axes_in(axis, len(x))
    if keepdims:
        return tuple(1 if i in axes else size for i, size in enumerate(x))
    return tuple(size for i, size in enumerate(x) if i not in axes)


def _lower_sum(build: Any, x: Value, axis: Axis, keepdims: bool, mean: bool) -> Any:
    axes = axes_in(axis, len(x.shape))
    count = math.prod(x.shape[i] for i in axes)
    total = build.sum(x, axes, count if mean else 1)
    return build.reshape(total, reduced_shape(x.shape, axis, keepdims)) if keepdims else total


def _lower_sum_backward(build: Any, grad: Value, x: Value, axis: Axis, keepdims: bool, mean: bool) -> Any:
    count = math.prod(x.shape[i] for i in axes_in(axis, len(x.shape)))
    whole = build.reshape(grad, reduced_shape(x.shape, axis, True))
    return build.scaled(whole, 1 / count if mean and count else 1.0, x.shape)


def _lower_extreme(build: Any, x: Value, axis: Axis, keepdims: bool, name: str) -> Any:
    found = build.extreme(name, x, axes_in(axis, len(x.shape)))
    return build.reshape(found, reduced_shape(x.shape, axis, keepdims))


def _lower_norm(build: Any, x: Value, axis: Axis, keepdims: bool) -> Any:
    return build.elementwise("sqrt", _lower_sum(build, build.elementwise("mul", x), axis, keepdims, mean=False))


def _reduction(name: str, forward: Any, backward: Any, mean: bool) -> tuple[Operation, Operation]:
    """Return a sum or mean over axes, and what repeats its gradient."""

    def repeat(do: Do, grad: Value, out: Value, x: Value, axis: Axis, keepdims: bool) -> Any:
        return do(back, grad, x, axis=axis, keepdims=keepdims)

    def reduce(do: Do, upstream: Value, out: Value, grad: Value, x: Value, axis: Axis, keepdims: bool) -> Any:
        return do(reduction, upstream, axis=axis, keepdims=keepdims)

    back = Operation(
        f"{name}_backward",
        like,
        lambda grad, x, axis, keepdims: backward(grad, x.shape, axis, keepdims),
        (reduce, None),
        partial(_lower_sum_backward, mean=mean),
        ("linear", None),
    )
    reduction = Operation(name, reduced_shape, forward, (repeat,), partial(_lower_sum, mean=mean), ("linear",))
    return reduction, back


def _extreme(name: str, forward: Any) -> Operation:
    """Return the largest or smallest element along axes, whose gradient equal ones share."""

    def chosen(do: Do, out: Value, x: Value, **reduced: Any) -> tuple[Any, Any]:
        """Return 1 where an element is the extreme, else 0, and how many are."""
        mask = do(EQUAL, x, do(SUM_BACKWARD, out, x, **reduced))
        return mask, do(SUM, mask, **reduced)

    def gradient(do: Do, grad: Value, out: Value, x: Value, **reduced: Any) -> Any:
        mask, count = chosen(do, out, x, **reduced)
        return do(MUL, mask, do(SUM_BACKWARD, do(DIV, grad, count), x, **reduced))

    def tangent(do: Do, change: Value, out: Value, x: Value, **reduced: Any) -> Any:
        mask, count = chosen(do, out, x, **reduced)
        return do(DIV, do(SUM, do(MUL, mask, change), **reduced), count)

    return Operation(name, reduced_shape, forward, (gradient,), partial(_lower_extreme, name=name), (tangent,))


def _norm(x: Array, axis: Axis, keepdims: bool) -> Array:
    return kernels.sqrt(kernels.sum(kernels.mul(x, x), axis, keepdims))


def _norm_gradient(do: Do, grad: Value, out: Value, x: Value, **reduced: Any) -> Any:
    """Return ∂·x/‖x‖, and 0 where the norm is 0, as it is if x is 0 or its squares vanish."""
    return do(CHAIN_MUL, x, do(SUM_BACKWARD, do(CHAIN_DIV, grad, _divisor(do, out)), x, **reduced))


def _norm_tangent(do: Do, change: Value, out: Value, x: Value, **reduced: Any) -> Any:
    whole = do(SUM_BACKWARD, _divisor(do, out), x, **reduced)
    return do(SUM, do(CHAIN_MUL, x, do(CHAIN_DIV, change, whole)), **reduced)


def _divisor(do: Do, norm: Value) -> Any:
    """Return a norm, ∞ where it is 0: what is divided by it is 0 there, and so are all derivatives of that."""
    return do(ADD, norm, do(REJECTED, math.inf, norm))


SUM, SUM_BACKWARD = _reduction("sum", kernels.sum, kernels.sum_backward, mean=False)
MEAN, MEAN_BACKWARD = _reduction("mean", kernels.mean, kernels.mean_backward, mean=True)
SUM_OF_SQUARES = Operation(
    "sum_of_squares",
    lambda x: (),
    kernels.sum_of_squares,
    (lambda do, grad, out, x: do(MUL, x, do(SCALE, grad, factor=2.0)),),
    lambda build, x: build.sum_of_squares(x),
    (lambda do, change, out, x: do(SCALE, do(SUM, do(MUL, x, change), axis=None, keepdims=False), factor=2.0),),
)
MAX = _extreme("max", kernels.max)
MIN = _extreme("min", kernels.min)
NORM = Operation("norm", reduced_shape, _norm, (_norm_gradient,), _lower_norm, (_norm_tangent,))
CUMSUM: Operation = Operation(
    "cumsum",
    same,
    kernels.cumsum,
    (lambda do, grad, out, x, axis, starts: do(CUMSUM_BACKWARD, grad, axis=axis, starts=starts),),
    lambda build, x, axis, starts: build.running_sums("cumsum", x, axis, starts),
    ("linear",),
)
CUMSUM_BACKWARD: Operation = Operation(
    "cumsum_backward",
    same,
    kernels.cumsum_backward,
    (lambda do, upstream, out, grad, axis, starts: do(CUMSUM, upstream, axis=axis, starts=starts),),
    lambda build, grad, axis, starts: build.running_sums("cumsum_backward", grad, axis, starts),
    ("linear",),
)
STOP_GRADIENT = Operation("stop_gradient", same, lambda x: x, (None,), lambda build, x: x, (None,))
