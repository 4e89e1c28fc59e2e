"""Arithmetic of elements under broadcasting, sums and means over axes, and matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from viva_tensor import kernels
from viva_tensor.autograd.operations.base import (
    Axis,
    Do,
    Operation,
    Shape,
    Value,
    elementwise,
    leaf,
    like,
    pairs,
)
from viva_tensor.error import ShapeMismatch
from viva_tensor.kernels.arrays import Array, as_arrays
from viva_tensor.kernels.elementwise import chain_div, chain_mul

__all__ = [
    "ADD",
    "BROADCAST",
    "CHAIN_DIV",
    "CHAIN_MUL",
    "CHOSEN",
    "CONSTANT",
    "COS",
    "DIV",
    "EQUAL",
    "EXP",
    "GREATER",
    "LESS",
    "LESS_EQUAL",
    "LINEAR",
    "LOG",
    "MATMUL",
    "MAXIMUM",
    "MEAN",
    "MEAN_BACKWARD",
    "MINIMUM",
    "MUL",
    "POW",
    "REJECTED",
    "SCALE",
    "SIGN",
    "SIN",
    "SQRT",
    "SUB",
    "SUM",
    "SUM_BACKWARD",
    "TRANSPOSE",
    "UNBROADCAST",
    "VARIABLE",
    "negative",
]


def negative(do: Do, x: Value) -> Any:
    """Return -x."""
    return do(SCALE, x, factor=-1.0)


def _fit(do: Do, grad: Value, operand: Value) -> Any:
    """Sum the gradient of a broadcast operand to the operand's shape.

    An axis of size 1 may be one row of a batch that has more in a program, so it is always recorded.
    """
    return grad if grad.shape == operand.shape and 1 not in operand.shape else do(UNBROADCAST, grad, operand)


def _repeat(do: Do, tangent: Value, out: Value) -> Any:
    """Repeat the tangent of a broadcast operand to the output's shape."""
    return tangent if tangent.shape == out.shape and 1 not in out.shape else do(BROADCAST, tangent, out)


def _axes(axis: Axis, dimensions: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(dimensions))
    return tuple(sorted(i % dimensions for i in ((axis,) if isinstance(axis, int) else axis)))


def _summed(x: Shape, axis: Axis, keepdims: bool) -> Shape:
    axes = _axes(axis, len(x))
    if keepdims:
        return tuple(1 if i in axes else size for i, size in enumerate(x))
    return tuple(size for i, size in enumerate(x) if i not in axes)


def _lower_sum(build: Any, x: Value, axis: Axis, keepdims: bool, mean: bool) -> Any:
    axes = _axes(axis, len(x.shape))
    count = math.prod(x.shape[i] for i in axes)
    total = build.sum(x, axes, count if mean else 1)
    return build.reshape(total, _summed(x.shape, axis, keepdims)) if keepdims else total


def _lower_sum_backward(build: Any, grad: Value, x: Value, axis: Axis, keepdims: bool, mean: bool) -> Any:
    count = math.prod(x.shape[i] for i in _axes(axis, len(x.shape)))
    whole = build.reshape(grad, _summed(x.shape, axis, True))
    return build.scaled(whole, 1 / count if mean and count else 1.0, x.shape)


def _lower_unbroadcast(build: Any, grad: Value, operand: Value) -> Any:
    shape = operand.shape
    if grad.shape == shape:
        return grad
    if len(shape) > len(grad.shape) or any(
        size not in (1, whole) for size, whole in zip(shape[::-1], grad.shape[::-1], strict=False)
    ):
        raise ShapeMismatch(shape, grad.shape, operation="unbroadcast", hint="give as many rows as were recorded")
    lead = len(grad.shape) - len(shape)
    repeated = tuple(i for i, size in enumerate(shape, lead) if size == 1 and grad.shape[i] != 1)
    return build.reshape(build.sum(grad, (*range(lead), *repeated)), shape)


def _repeated(x: Array, other: Array) -> Array:
    """Return x repeated to the shape of another array."""
    x = as_arrays("broadcast", x, other)[0]
    return x if x.shape == other.shape else np.broadcast_to(x, other.shape).copy()


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
    reduction = Operation(name, _summed, forward, (repeat,), partial(_lower_sum, mean=mean), ("linear",))
    return reduction, back


CONSTANT = Operation("constant", leaf, leaf)
VARIABLE = Operation("variable", leaf, leaf)

SCALE: Operation = elementwise(
    "scale", kernels.scale, lambda do, grad, out, x, factor: do(SCALE, grad, factor=factor), factor="factor"
)
SUM, SUM_BACKWARD = _reduction("sum", kernels.sum, kernels.sum_backward, mean=False)
MEAN, MEAN_BACKWARD = _reduction("mean", kernels.mean, kernels.mean_backward, mean=True)
UNBROADCAST: Operation = Operation(
    "unbroadcast",
    like,
    lambda grad, operand: grad if grad.shape == operand.shape else kernels.add_backward(grad, operand.shape),
    (lambda do, upstream, out, grad, operand: do(BROADCAST, upstream, grad), None),
    _lower_unbroadcast,
    ("linear", None),
)
BROADCAST: Operation = Operation(
    "broadcast",
    like,
    _repeated,
    (lambda do, grad, out, x, other: do(UNBROADCAST, grad, x), None),
    lambda build, x, other: x if x.shape == other.shape else build.scaled(x, 1.0, other.shape),
    ("linear", None),
)

ADD = pairs(
    "add",
    kernels.add,
    lambda do, grad, out, a, b: _fit(do, grad, a),
    lambda do, grad, out, a, b: _fit(do, grad, b),
    tangents=(
        lambda do, tangent, out, a, b: _repeat(do, tangent, out),
        lambda do, tangent, out, a, b: _repeat(do, tangent, out),
    ),
)
SUB = pairs(
    "sub",
    kernels.sub,
    lambda do, grad, out, a, b: _fit(do, grad, a),
    lambda do, grad, out, a, b: negative(do, _fit(do, grad, b)),
    tangents=(
        lambda do, tangent, out, a, b: _repeat(do, tangent, out),
        lambda do, tangent, out, a, b: negative(do, _repeat(do, tangent, out)),
    ),
)


def _product(name: str, forward: Any) -> Operation:
    """Return a product of pairs: each operand is the other's slope."""
    operation: Operation = pairs(
        name,
        forward,
        lambda do, grad, out, a, b: _fit(do, do(operation, grad, b), a),
        lambda do, grad, out, a, b: _fit(do, do(operation, grad, a), b),
        tangents=("linear", "linear"),
    )
    return operation


def _quotient(name: str, forward: Any) -> Operation:
    """Return a quotient of pairs; a gradient of 0 stays 0 where the divisor is 0."""

    def by_divisor(do: Do, change: Value, out: Value, b: Value) -> Any:
        return do(CHAIN_DIV, do(CHAIN_MUL, change, out), b)

    return pairs(
        name,
        forward,
        lambda do, grad, out, a, b: _fit(do, do(CHAIN_DIV, grad, b), a),
        lambda do, grad, out, a, b: negative(do, _fit(do, by_divisor(do, grad, out, b), b)),
        tangents=(
            lambda do, tangent, out, a, b: do(CHAIN_DIV, tangent, b),
            lambda do, tangent, out, a, b: negative(do, by_divisor(do, tangent, out, b)),
        ),
    )


MUL = _product("mul", kernels.mul)
DIV = _quotient("div", kernels.div)
CHAIN_MUL = _product("chain_mul", chain_mul)
CHAIN_DIV = _quotient("chain_div", chain_div)


def _extreme(name: str, forward: Any, smaller: bool) -> Operation:
    """Return the larger or smaller of pairs; of a gradient, equal elements each have half."""

    def share(do: Do, change: Value, a: Value, b: Value) -> Any:
        return do(MUL, change, do(GREATER, b, a) if smaller else do(GREATER, a, b))

    return pairs(
        name,
        forward,
        lambda do, grad, out, a, b: _fit(do, share(do, grad, a, b), a),
        lambda do, grad, out, a, b: _fit(do, share(do, grad, b, a), b),
        tangents=(
            lambda do, tangent, out, a, b: share(do, tangent, a, b),
            lambda do, tangent, out, a, b: share(do, tangent, b, a),
        ),
    )


def _choice(name: str, forward: Any) -> Operation:
    """Return an operation that lets elements through by a condition."""
    operation: Operation = pairs(
        name,
        forward,
        lambda do, grad, out, x, condition: _fit(do, do(operation, grad, condition), x),
        None,
        tangents=("linear", None),
    )
    return operation


_without_slope = partial(pairs, tangents=(None, None))
GREATER = _without_slope("greater", kernels.greater, None, None)
LESS = _without_slope("less", kernels.less, None, None)
LESS_EQUAL = _without_slope("less_equal", kernels.less_equal, None, None)
EQUAL = _without_slope("equal", kernels.equal, None, None)
SIGN = elementwise("sign", kernels.sign, None)
MAXIMUM = _extreme("maximum", kernels.maximum, smaller=False)
MINIMUM = _extreme("minimum", kernels.minimum, smaller=True)
CHOSEN = _choice("chosen", kernels.chosen)
REJECTED = _choice("rejected", kernels.rejected)

SIN: Operation = elementwise("sin", kernels.sin, lambda do, grad, out, x: do(MUL, grad, do(COS, x)))
COS: Operation = elementwise("cos", kernels.cos, lambda do, grad, out, x: negative(do, do(MUL, grad, do(SIN, x))))
SQRT = elementwise("sqrt", kernels.sqrt, lambda do, grad, out, x: do(SCALE, do(CHAIN_DIV, grad, out), factor=0.5))
EXP = elementwise("exp", kernels.exp, lambda do, grad, out, x: do(CHAIN_MUL, grad, out))
LOG = elementwise("log", kernels.log, lambda do, grad, out, x: do(CHAIN_DIV, grad, x))
POW: Operation = elementwise(
    "pow",
    kernels.pow,
    lambda do, grad, out, x, exponent: (
        do(CHAIN_MUL, grad, do(SCALE, do(POW, x, exponent=exponent - 1), factor=float(exponent)))
        if exponent
        else do(SCALE, grad, factor=0.0)  # 1 everywhere, also where x⁻¹ is infinite
    ),
    factor="exponent",
)


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
MATMUL: Operation = Operation(
    "matmul",
    lambda a, b: (a[0], b[1]),
    kernels.matmul,
    (
        lambda do, grad, out, a, b: do(MATMUL, grad, do(TRANSPOSE, b, axes=None)),
        lambda do, grad, out, a, b: do(MATMUL, do(TRANSPOSE, a, axes=None), grad),
    ),
    lambda build, a, b: build.matmul(a, b),
    ("linear", "linear"),
)
LINEAR = Operation(
    "linear",
    lambda x, w, b: (x[0], w[0]),
    kernels.linear,
    (
        lambda do, grad, out, x, w, b: do(MATMUL, grad, w),
        lambda do, grad, out, x, w, b: do(MATMUL, do(TRANSPOSE, grad, axes=None), x),
        lambda do, grad, out, x, w, b: do(SUM, grad, axis=0, keepdims=False),
    ),
    lambda build, x, w, b: build.matmul(x, build.transpose(w, None), b),
    (
        lambda do, tangent, out, x, w, b: do(MATMUL, tangent, do(TRANSPOSE, w, axes=None)),
        lambda do, tangent, out, x, w, b: do(MATMUL, x, do(TRANSPOSE, tangent, axes=None)),
        lambda do, tangent, out, x, w, b: do(BROADCAST, tangent, out),
    ),
)
