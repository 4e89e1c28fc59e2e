"""The operations of the tape, each defined once: name, shape rule, forward, and one gradient rule for each input.

A gradient rule is written in terms of operations: ``do(operation, *values, **attributes)``. Run eagerly, ``do``
computes; a compiler can pass one that records. A rule is called as ``rule(do, grad, output, *inputs, **attributes)``
with the gradient of the loss with respect to the output; of its values it may look only at the shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from viva_tensor import kernels

__all__ = [
    "ADD",
    "CONSTANT",
    "LINEAR",
    "MATMUL",
    "MEAN",
    "MEAN_SQUARED_ERROR",
    "MUL",
    "RELU",
    "SUB",
    "SUM",
    "TRANSPOSE",
    "VARIABLE",
    "Array",
    "Axis",
    "Operation",
    "Value",
    "compute",
]

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]
Axis = int | Sequence[int] | None


class Value(Protocol):
    """What rules pass to operations: an array, or a compiler's symbol for one."""

    @property
    def shape(self) -> Shape: ...


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operation of the tape.

    Attributes
    ----------
    name : str
    shape : callable
        Shapes of the inputs, and the attributes, to the shape of the output. Inputs that do not fit are the forward
        kernel's to refuse.
    forward : callable
        Arrays of the inputs, and the attributes, to a new array (or a view of an input).
    gradients : tuple of callable
        One rule for each input.
    lower : callable, optional
        How the operation becomes instructions of a compiled program: called as ``lower(build, *symbols, **attributes)``
        with a builder whose methods are the kernels' primitives, it gives the symbol of the result.

    Examples
    --------
    >>> MATMUL
    Operation('matmul')
    >>> MATMUL.shape((2, 3), (3, 4))
    (2, 4)
    """

    name: str
    shape: Callable[..., Shape]
    forward: Callable[..., Array]
    gradients: tuple[Callable[..., Any], ...] = ()
    lower: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        return f"Operation({self.name!r})"


def compute(operation: Operation, *arrays: Array, **attributes: Any) -> Array:
    """The ``do`` of eager execution.

    Examples
    --------
    >>> import numpy as np
    >>> compute(SUM, np.ones((2, 2)), axis=0, keepdims=False)
    array([2., 2.])
    """
    return operation.forward(*arrays, **attributes)


def _same(x: Shape, *others: Shape, **attributes: Any) -> Shape:
    return x


def _broadcast(a: Shape, b: Shape) -> Shape:
    return np.broadcast_shapes(a, b)


def _axes(axis: Axis, dimensions: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(dimensions))
    return tuple(sorted(i % dimensions for i in ((axis,) if isinstance(axis, int) else axis)))


def _summed(x: Shape, axis: Axis, keepdims: bool) -> Shape:
    axes = _axes(axis, len(x))
    if keepdims:
        return tuple(1 if i in axes else size for i, size in enumerate(x))
    return tuple(size for i, size in enumerate(x) if i not in axes)


def _given(grad: Shape, shape: Shape, **attributes: Any) -> Shape:
    return shape


def _leaf(*inputs: Any) -> Any:
    raise TypeError("a leaf has no inputs to compute from")


def _fit(do: Callable[..., Any], grad: Value, operand: Value) -> Any:
    """The gradient of a broadcast operand: summed to its shape."""
    return grad if grad.shape == operand.shape else do(UNBROADCAST, grad, shape=operand.shape)


def _negative(do: Callable[..., Any], x: Value) -> Any:
    return do(SCALE, x, factor=-1.0)


def _inverse(axes: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if axes is None else tuple(int(i) for i in np.argsort([axis % len(axes) for axis in axes]))


def _lower_sum(build: Any, x: Value, axis: Axis, keepdims: bool, mean: bool) -> Any:
    axes = _axes(axis, len(x.shape))
    count = math.prod(x.shape[i] for i in axes)
    total = build.sum(x, axes, count if mean else 1)
    return build.reshape(total, _summed(x.shape, axis, keepdims)) if keepdims else total


def _lower_sum_backward(build: Any, grad: Value, shape: Shape, axis: Axis, keepdims: bool, mean: bool) -> Any:
    axes = _axes(axis, len(shape))
    count = math.prod(shape[i] for i in axes)
    kept = tuple(1 if i in axes else size for i, size in enumerate(shape))
    return build.scaled(build.reshape(grad, kept), 1 / count if mean and count else 1.0, shape)


def _lower_unbroadcast(build: Any, grad: Value, shape: Shape) -> Any:
    lead = len(grad.shape) - len(shape)
    spread = tuple(i for i, own in enumerate(shape, lead) if own == 1 and grad.shape[i] != 1)
    return build.reshape(build.sum(grad, (*range(lead), *spread)), shape)


CONSTANT = Operation("constant", _leaf, _leaf)
VARIABLE = Operation("variable", _leaf, _leaf)

UNBROADCAST = Operation("unbroadcast", _given, kernels.add_backward, lower=_lower_unbroadcast)
SCALE = Operation(
    "scale", _same, kernels.scale, lower=lambda build, x, factor: build.elementwise("scale", x, factor=factor)
)
SUM_BACKWARD = Operation("sum_backward", _given, kernels.sum_backward, lower=partial(_lower_sum_backward, mean=False))
MEAN_BACKWARD = Operation("mean_backward", _given, kernels.mean_backward, lower=partial(_lower_sum_backward, mean=True))
RELU_BACKWARD = Operation(
    "relu_backward",
    _same,
    kernels.relu_backward,
    lower=lambda build, grad, x: build.elementwise("relu_backward", grad, x),
)
MEAN_SQUARED_ERROR_BACKWARD = Operation(
    "mean_squared_error_backward",
    lambda grad, pred, target: pred,
    kernels.mean_squared_error_backward,
    lower=lambda build, grad, pred, target: build.squared_error_backward(grad, pred, target),
)

ADD = Operation(
    "add",
    _broadcast,
    kernels.add,
    (
        lambda do, grad, out, a, b: _fit(do, grad, a),
        lambda do, grad, out, a, b: _fit(do, grad, b),
    ),
    lower=lambda build, a, b: build.elementwise("add", a, b),
)
SUB = Operation(
    "sub",
    _broadcast,
    kernels.sub,
    (
        lambda do, grad, out, a, b: _fit(do, grad, a),
        lambda do, grad, out, a, b: _negative(do, _fit(do, grad, b)),
    ),
    lower=lambda build, a, b: build.elementwise("sub", a, b),
)
MUL: Operation = Operation(
    "mul",
    _broadcast,
    kernels.mul,
    (
        lambda do, grad, out, a, b: _fit(do, do(MUL, grad, b), a),
        lambda do, grad, out, a, b: _fit(do, do(MUL, grad, a), b),
    ),
    lower=lambda build, a, b: build.elementwise("mul", a, b),
)
TRANSPOSE: Operation = Operation(
    "transpose",
    lambda x, axes: tuple(x[i] for i in (axes if axes is not None else reversed(range(len(x))))),
    lambda x, axes: x.T if axes is None else x.transpose(axes),
    (lambda do, grad, out, x, axes: do(TRANSPOSE, grad, axes=_inverse(axes)),),
    lower=lambda build, x, axes: build.transpose(x, axes),
)
MATMUL: Operation = Operation(
    "matmul",
    lambda a, b: (a[0], b[1]),
    kernels.matmul,
    (
        lambda do, grad, out, a, b: do(MATMUL, grad, do(TRANSPOSE, b, axes=None)),
        lambda do, grad, out, a, b: do(MATMUL, do(TRANSPOSE, a, axes=None), grad),
    ),
    lower=lambda build, a, b: build.matmul(a, b),
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
    lower=lambda build, x, w, b: build.matmul(x, build.transpose(w, None), b),
)
SUM: Operation = Operation(
    "sum",
    _summed,
    kernels.sum,
    (lambda do, grad, out, x, axis, keepdims: do(SUM_BACKWARD, grad, shape=x.shape, axis=axis, keepdims=keepdims),),
    lower=partial(_lower_sum, mean=False),
)
MEAN = Operation(
    "mean",
    _summed,
    kernels.mean,
    (lambda do, grad, out, x, axis, keepdims: do(MEAN_BACKWARD, grad, shape=x.shape, axis=axis, keepdims=keepdims),),
    lower=partial(_lower_sum, mean=True),
)
RELU = Operation(
    "relu",
    _same,
    kernels.relu,
    (lambda do, grad, out, x: do(RELU_BACKWARD, grad, x),),
    lower=lambda build, x: build.elementwise("relu", x),
)
MEAN_SQUARED_ERROR = Operation(
    "mean_squared_error",
    lambda pred, target: (),
    kernels.mean_squared_error,
    (
        lambda do, grad, out, pred, target: do(MEAN_SQUARED_ERROR_BACKWARD, grad, pred, target),
        lambda do, grad, out, pred, target: _negative(do, do(MEAN_SQUARED_ERROR_BACKWARD, grad, pred, target)),
    ),
    lower=lambda build, pred, target: build.squared_error(pred, target),
)
