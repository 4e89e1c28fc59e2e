"""Arithmetic of elements under broadcasting, comparisons and choices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from viva_tensor import kernels
from viva_tensor.autograd.operations.base import (
    Do,
    Operation,
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
    "LOG",
    "MAXIMUM",
    "MINIMUM",
    "MUL",
    "POW",
    "REJECTED",
    "SCALE",
    "SIGN",
    "SIN",
    "SQRT",
    "SUB",
    "UNBROADCAST",
    "VARIABLE",
    "fitted",
    "negative",
]


def negative(do: Do, x: Value) -> Any:
    """Return -x."""
    return do(SCALE, x, factor=-1.0)


def fitted(do: Do, grad: Value, operand: Value) -> Any:
    """Sum the gradient of a broadcast operand to the operand's shape.

    An axis of size 1 may be one row of a batch that has more in a program, so it is always recorded.
    """
    return grad if grad.shape == operand.shape and 1 not in operand.shape else do(UNBROADCAST, grad, operand)


def _repeat(do: Do, tangent: Value, out: Value) -> Any:
    """Repeat the tangent of a broadcast operand to the output's shape."""
    return tangent if tangent.shape == out.shape and 1 not in out.shape else do(BROADCAST, tangent, out)


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


def _repeated(x: Array, other: Array, exact: Sequence[str] = ()) -> Array:
    """Return x repeated to the shape of another array."""
    x = as_arrays("broadcast", x, other)[0]
    return x if x.shape == other.shape else np.broadcast_to(x, other.shape).copy()


def _lower_broadcast(build: Any, x: Value, other: Value, exact: Sequence[str] = ()) -> Any:
    return x if x.shape == other.shape else build.scaled(x, 1.0, other.shape)


CONSTANT = Operation("constant", leaf, leaf)
VARIABLE = Operation("variable", leaf, leaf)

SCALE: Operation = elementwise(
    "scale", kernels.scale, lambda do, grad, out, x, factor: do(SCALE, grad, factor=factor), factor="factor"
)
UNBROADCAST: Operation = Operation(
    "unbroadcast",
    like,
    lambda grad, operand: grad if grad.shape == operand.shape else kernels.add_backward(grad, operand.shape),
    (lambda do, upstream, out, grad, operand: do(BROADCAST, upstream, grad), None),
    _lower_unbroadcast,
    ("linear", None),
)
# With exact, programs refuse to repeat along an axis that has the size already, such as the single row of a recorded
# batch: the operation that the error names, and its hint.
BROADCAST: Operation = Operation(
    "broadcast",
    like,
    _repeated,
    (lambda do, grad, out, x, other, exact=(): do(UNBROADCAST, grad, x), None),
    _lower_broadcast,
    ("linear", None),
)

ADD = pairs(
    "add",
    kernels.add,
    lambda do, grad, out, a, b: fitted(do, grad, a),
    lambda do, grad, out, a, b: fitted(do, grad, b),
    tangents=(
        lambda do, tangent, out, a, b: _repeat(do, tangent, out),
        lambda do, tangent, out, a, b: _repeat(do, tangent, out),
    ),
)
SUB = pairs(
    "sub",
    kernels.sub,
    lambda do, grad, out, a, b: fitted(do, grad, a),
    lambda do, grad, out, a, b: negative(do, fitted(do, grad, b)),
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
        lambda do, grad, out, a, b: fitted(do, do(operation, grad, b), a),
        lambda do, grad, out, a, b: fitted(do, do(operation, grad, a), b),
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
        lambda do, grad, out, a, b: fitted(do, do(CHAIN_DIV, grad, b), a),
        lambda do, grad, out, a, b: negative(do, fitted(do, by_divisor(do, grad, out, b), b)),
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
        lambda do, grad, out, a, b: fitted(do, share(do, grad, a, b), a),
        lambda do, grad, out, a, b: fitted(do, share(do, grad, b, a), b),
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
        lambda do, grad, out, x, condition: fitted(do, do(operation, grad, condition), x),
        None,
        tangents=("linear", None),
    )
    return operation


_without_slope = partial(pairs, tangents=(None, None))
GREATER = _without_slope("greater", kernels.maximum_slope, None, None)  # named like its formula
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
