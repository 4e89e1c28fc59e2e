"""The operations of the tape, each defined once: name, shape rule, forward, and one gradient rule for each input.

A gradient rule is written in terms of operations: ``do(operation, *values, **attributes)``. When run eagerly, ``do``
computes; a compiler's ``do`` records. A rule is called as ``rule(do, grad, output, *inputs, **attributes)`` with the
gradient of the loss with respect to the output; it may look only at the shapes of its values.

Where a slope is infinite, such as the slope of sqrt at 0, a gradient of 0 stays 0: such rules multiply by CHAIN_MUL and
divide by CHAIN_DIV. In mul itself 0 · ∞ is NaN, as in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

import numpy as np

from viva_tensor import kernels
from viva_tensor.error import ShapeMismatch
from viva_tensor.kernels.arrays import Array, as_arrays, empty
from viva_tensor.kernels.elementwise import chain_div, chain_mul

Shape = tuple[int, ...]
Axis = int | Sequence[int] | None
Span = tuple[int, ...]  # start, count, step along one axis


class OpenSize(tuple[int, ...]):
    """A span whose count, or a shape whose first size, was left open when it was recorded: ``:`` or -1.

    Programs for other batch sizes derive it anew; a size that was spelled out they refuse to guess.

    Examples
    --------
    >>> OpenSize((0, 4, 1)) == (0, 4, 1)
    True
    """


class Value(Protocol):
    """An argument that rules pass to operations: an array, or a compiler's symbol for an array."""

    @property
    def shape(self) -> Shape: ...


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operation of the tape.

    Attributes
    ----------
    name : str
    shape : callable
        Takes the shapes of the inputs and the attributes, and returns the shape of the output. The forward kernel
        refuses inputs that do not fit.
    forward : callable
        Takes the arrays of the inputs and the attributes, and returns a new array (or a view of an input).
    gradients : tuple of callable
        One rule for each input.
    lower : callable, optional
        Adds the instructions of a compiled program: called as ``lower(build, *symbols, **attributes)`` with a builder
        whose methods are the kernels' primitives, it returns the symbol of the result.

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

    @property
    def broadcasts(self) -> bool:
        """Whether inputs are combined element by element, repeating axes of size 1."""
        return self.shape is _broadcast

    def __repr__(self) -> str:
        return f"Operation({self.name!r})"


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
    """Sum the gradient of a broadcast operand to the operand's shape."""
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
    count = math.prod(shape[i] for i in _axes(axis, len(shape)))
    return build.scaled(build.reshape(grad, _summed(shape, axis, True)), 1 / count if mean and count else 1.0, shape)


def _sliced(x: Array, spans: Sequence[Span]) -> Array:
    """Return a view of evenly spaced elements along each axis."""
    slices = (
        slice(start, None if step < 0 and start + count * step < 0 else start + count * step, step)
        for start, count, step in spans
    )
    return x[(*slices, ...)]  # a single element is a view, too


def _placed(grad: Array, shape: Shape, spans: Sequence[Span]) -> Array:
    """Return zeros, with grad where a slice was taken."""
    out = np.zeros(shape, grad.dtype)
    _sliced(out, spans)[...] = grad
    return out


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
    return tuple((start if i == axis else 0, size, 1) for i, size in enumerate(shapes[index]))


def _lower_unbroadcast(build: Any, grad: Value, shape: Shape) -> Any:
    lead = len(grad.shape) - len(shape)
    repeated = tuple(i for i, size in enumerate(shape, lead) if size == 1 and grad.shape[i] != 1)
    return build.reshape(build.sum(grad, (*range(lead), *repeated)), shape)


def _lowered(formula: str, factor: str = "", primitive: str = "elementwise") -> Callable[..., Any]:
    """Return the lowering to a formula of elements or rows; ``factor`` names the attribute that it takes."""

    def lower(build: Any, *symbols: Value, **attributes: Any) -> Any:
        chosen = {"factor": attributes[factor]} if factor else {}
        return getattr(build, primitive)(formula, *symbols, **chosen)

    return lower


def _elementwise(
    name: str, forward: Any, *rules: Callable[..., Any], shape: Callable[..., Shape] = _same, factor: str = ""
) -> Operation:
    """Return an elementwise operation with its gradient rules."""
    return Operation(name, shape, forward, rules, _lowered(name, factor))


_pairs = partial(_elementwise, shape=_broadcast)


def _curve(
    name: str, forward: Any, backward: Any, of_output: bool = False, factor: str = "", primitive: str = "elementwise"
) -> Operation:
    """Return an operation on x whose gradient is a formula of x, or of the output, with its own kernel."""
    back = Operation(f"{name}_backward", _same, backward, lower=_lowered(f"{name}_backward", factor, primitive))

    def gradient(do: Callable[..., Any], grad: Value, out: Value, x: Value, **attributes: Any) -> Any:
        return do(back, grad, out if of_output else x, **attributes)

    return Operation(name, _same, forward, (gradient,), _lowered(name, factor, primitive))


def _reduction(name: str, forward: Callable[..., Array], backward: Callable[..., Array], mean: bool) -> Operation:
    """Return a sum or mean over axes."""
    back = Operation(f"{name}_backward", _given, backward, lower=partial(_lower_sum_backward, mean=mean))

    def gradient(do: Callable[..., Any], grad: Value, out: Value, x: Value, axis: Axis, keepdims: bool) -> Any:
        return do(back, grad, shape=x.shape, axis=axis, keepdims=keepdims)

    return Operation(name, _summed, forward, (gradient,), partial(_lower_sum, mean=mean))


CONSTANT = Operation("constant", _leaf, _leaf)
VARIABLE = Operation("variable", _leaf, _leaf)

UNBROADCAST = Operation("unbroadcast", _given, kernels.add_backward, lower=_lower_unbroadcast)
SCALE: Operation = _elementwise(
    "scale", kernels.scale, lambda do, grad, out, x, factor: do(SCALE, grad, factor=factor), factor="factor"
)
SUM = _reduction("sum", kernels.sum, kernels.sum_backward, mean=False)
MEAN = _reduction("mean", kernels.mean, kernels.mean_backward, mean=True)
MEAN_SQUARED_ERROR_BACKWARD = Operation(
    "mean_squared_error_backward",
    lambda grad, pred, target: pred,
    kernels.mean_squared_error_backward,
    lower=lambda build, grad, pred, target: build.squared_error_backward(grad, pred, target),
)

ADD = _pairs(
    "add",
    kernels.add,
    lambda do, grad, out, a, b: _fit(do, grad, a),
    lambda do, grad, out, a, b: _fit(do, grad, b),
)
SUB = _pairs(
    "sub",
    kernels.sub,
    lambda do, grad, out, a, b: _fit(do, grad, a),
    lambda do, grad, out, a, b: _negative(do, _fit(do, grad, b)),
)
MUL: Operation = _pairs(
    "mul",
    kernels.mul,
    lambda do, grad, out, a, b: _fit(do, do(MUL, grad, b), a),
    lambda do, grad, out, a, b: _fit(do, do(MUL, grad, a), b),
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
GREATER = _pairs("greater", kernels.greater)
CHAIN_MUL = _pairs("chain_mul", chain_mul)
CHAIN_DIV = _pairs("chain_div", chain_div)
DIV: Operation = _pairs(
    "div",
    kernels.div,
    lambda do, grad, out, a, b: _fit(do, do(CHAIN_DIV, grad, b), a),
    lambda do, grad, out, a, b: _negative(do, _fit(do, do(CHAIN_DIV, do(CHAIN_MUL, grad, out), b), b)),
)
MAXIMUM = _pairs(
    "maximum",
    kernels.maximum,
    lambda do, grad, out, a, b: _fit(do, do(MUL, grad, do(GREATER, a, b)), a),
    lambda do, grad, out, a, b: _fit(do, do(MUL, grad, do(GREATER, b, a)), b),
)
SQRT = _elementwise("sqrt", kernels.sqrt, lambda do, grad, out, x: do(SCALE, do(CHAIN_DIV, grad, out), factor=0.5))
EXP = _elementwise("exp", kernels.exp, lambda do, grad, out, x: do(CHAIN_MUL, grad, out))
LOG = _elementwise("log", kernels.log, lambda do, grad, out, x: do(CHAIN_DIV, grad, x))
POW: Operation = _elementwise(
    "pow",
    kernels.pow,
    lambda do, grad, out, x, exponent: (
        do(CHAIN_MUL, grad, do(SCALE, do(POW, x, exponent=exponent - 1), factor=float(exponent)))
        if exponent
        else do(SCALE, grad, factor=0.0)  # 1 everywhere, also where x⁻¹ is infinite
    ),
    factor="exponent",
)
ABS = _curve("abs", kernels.abs, kernels.abs_backward)
RELU = _curve("relu", kernels.relu, kernels.relu_backward)
ERF = _curve("erf", kernels.erf, kernels.erf_backward)
LEAKY_RELU = _curve("leaky_relu", kernels.leaky_relu, kernels.leaky_relu_backward, factor="slope")
SIGMOID = _curve("sigmoid", kernels.sigmoid, kernels.sigmoid_backward, of_output=True)
TANH = _curve("tanh", kernels.tanh, kernels.tanh_backward, of_output=True)
SOFTPLUS = _curve("softplus", kernels.softplus, kernels.softplus_backward)
SILU = _curve("silu", kernels.silu, kernels.silu_backward)
GELU = _curve("gelu", kernels.gelu, kernels.gelu_backward)
GELU_TANH = _curve(
    "gelu_tanh", partial(kernels.gelu, approximate="tanh"), partial(kernels.gelu_backward, approximate="tanh")
)
HUBER = _curve("huber", kernels.huber, kernels.huber_backward, factor="delta")

_along_rows = partial(_curve, primitive="rows")
SOFTMAX = _along_rows("softmax", kernels.softmax, kernels.softmax_backward, of_output=True)
LOG_SOFTMAX = _along_rows("log_softmax", kernels.log_softmax, kernels.log_softmax_backward, of_output=True)
NORMALIZE = _along_rows("normalize", kernels.normalize, kernels.normalize_backward, factor="epsilon")

BINARY_CROSS_ENTROPY = Operation(
    "binary_cross_entropy",
    _same,
    kernels.binary_cross_entropy,
    (
        lambda do, grad, out, x, target: do(MUL, grad, do(SUB, do(SIGMOID, x), target)),
        lambda do, grad, out, x, target: _negative(do, do(MUL, grad, x)),
    ),
    lower=lambda build, x, target: build.elementwise("binary_cross_entropy", *build.alike(x, target)),
)
CROSS_ENTROPY_BACKWARD = Operation(
    "cross_entropy_backward",
    lambda grad, x, target: x,
    kernels.cross_entropy_backward,
    lower=lambda build, grad, x, target: build.elementwise(
        "mul", build.rows("cross_entropy_backward", x, target), build.reshape(grad, (*grad.shape, 1))
    ),
)
CROSS_ENTROPY = Operation(
    "cross_entropy",
    lambda x, target: x[:1],
    kernels.cross_entropy,
    (
        lambda do, grad, out, x, target: do(CROSS_ENTROPY_BACKWARD, grad, x, target),
        lambda do, grad, out, x, target: (
            _negative(do, do(MUL, do(LOG_SOFTMAX, x), do(RESHAPE, grad, shape=(*grad.shape, 1))))
            if len(target.shape) == 2
            else do(SCALE, grad, factor=0.0)  # a class has no slope
        ),
    ),
    lower=lambda build, x, target: build.rows("cross_entropy", x, target),
)
DROPOUT: Operation = Operation(
    "dropout",
    _same,
    kernels.dropout,
    (lambda do, grad, out, x, rate, seed: do(DROPOUT, grad, rate=rate, seed=seed),),
    lower=lambda build, x, rate, seed: build.dropout(x, rate, seed),
)
RESHAPE: Operation = Operation(
    "reshape",
    _given,
    lambda x, shape: x.reshape(shape),
    (lambda do, grad, out, x, shape: do(RESHAPE, grad, shape=x.shape),),
    lower=lambda build, x, shape: build.reshape(x, shape),
)
PLACE = Operation(
    "place", _given, _placed, lower=lambda build, grad, shape, spans: build.placed([(grad, spans)], shape)
)
SLICE: Operation = Operation(
    "slice",
    lambda x, spans: tuple(count for _, count, _ in spans),
    _sliced,
    (lambda do, grad, out, x, spans: do(PLACE, grad, shape=x.shape, spans=spans),),
    lower=lambda build, x, spans: build.slice(x, spans),
)

SQUEEZE: Operation = Operation(
    "squeeze",
    lambda x, axes: tuple(size for i, size in enumerate(x) if i not in axes),
    lambda x, axes: x.squeeze(axes),
    (lambda do, grad, out, x, axes: do(RESHAPE, grad, shape=x.shape),),
    lower=lambda build, x, axes: build.squeeze(x, axes),
)


@cache
def concatenation(count: int) -> Operation:
    """Return the operation that joins so many arrays along an axis."""

    def gradient(do: Callable[..., Any], grad: Value, out: Value, *arrays: Value, axis: int, index: int) -> Any:
        return do(SLICE, grad, spans=_joined_spans([array.shape for array in arrays], axis, index))

    def lower(build: Any, *symbols: Value, axis: int) -> Any:
        shapes = [symbol.shape for symbol in symbols]
        whole = _joined_shape(*shapes, axis=axis)
        return build.placed([(one, _joined_spans(shapes, axis, index)) for index, one in enumerate(symbols)], whole)

    rules = tuple(partial(gradient, index=index) for index in range(count))
    return Operation("concatenate", _joined_shape, _joined, rules, lower)
