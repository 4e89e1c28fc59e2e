"""Losses of predictions and targets."""

from __future__ import annotations

from typing import Any

from viva_tensor import kernels
from viva_tensor.autograd.operations.arithmetic import BROADCAST, MUL, SCALE, SUB, negative
from viva_tensor.autograd.operations.base import Do, OpenSize, Operation, Value, like, same
from viva_tensor.autograd.operations.curves import LOG_SOFTMAX, SIGMOID, SOFTMAX, SOFTMAX_BACKWARD
from viva_tensor.autograd.operations.reductions import MEAN, MEAN_BACKWARD, SUM
from viva_tensor.autograd.operations.shapes import RESHAPE

__all__ = [
    "BINARY_CROSS_ENTROPY",
    "CROSS_ENTROPY",
    "CROSS_ENTROPY_BACKWARD",
    "MEAN_SQUARED_ERROR",
    "MEAN_SQUARED_ERROR_BACKWARD",
]


def _squared_error_of_grad(do: Do, upstream: Value, out: Value, grad: Value, pred: Value, target: Value) -> Any:
    """Of 2g(p - t)/n."""
    product = do(MUL, upstream, do(SUB, pred, target))
    return do(SCALE, do(MEAN, product, axis=None, keepdims=False), factor=2.0)


def _squared_error_of_pred(do: Do, upstream: Value, out: Value, grad: Value, pred: Value, target: Value) -> Any:
    """Of 2g(p - t)/n."""
    share = do(MEAN_BACKWARD, grad, pred, axis=None, keepdims=False)
    return do(SCALE, do(MUL, upstream, share), factor=2.0)


MEAN_SQUARED_ERROR_BACKWARD = Operation(
    "mean_squared_error_backward",
    like,
    kernels.mean_squared_error_backward,
    (
        _squared_error_of_grad,
        _squared_error_of_pred,
        lambda do, *operands: negative(do, _squared_error_of_pred(do, *operands)),
    ),
    lambda build, grad, pred, target: build.squared_error_backward(grad, pred, target),
    ("linear", "symmetric", "symmetric"),
)


def _squared_error_change(do: Do, tangent: Value, pred: Value, target: Value) -> Any:
    return do(SUM, do(MUL, tangent, do(MEAN_SQUARED_ERROR_BACKWARD, 1.0, pred, target)), axis=None, keepdims=False)


MEAN_SQUARED_ERROR = Operation(
    "mean_squared_error",
    lambda pred, target: (),
    kernels.mean_squared_error,
    (
        lambda do, grad, out, pred, target: do(MEAN_SQUARED_ERROR_BACKWARD, grad, pred, target),
        lambda do, grad, out, pred, target: negative(do, do(MEAN_SQUARED_ERROR_BACKWARD, grad, pred, target)),
    ),
    lambda build, pred, target: build.squared_error(pred, target),
    (
        lambda do, tangent, out, pred, target: _squared_error_change(do, tangent, pred, target),
        lambda do, tangent, out, pred, target: negative(do, _squared_error_change(do, tangent, pred, target)),
    ),
)
BINARY_CROSS_ENTROPY = Operation(
    "binary_cross_entropy",
    same,
    kernels.binary_cross_entropy,
    (
        lambda do, grad, out, x, target: do(MUL, grad, do(SUB, do(SIGMOID, x), target)),
        lambda do, grad, out, x, target: negative(do, do(MUL, grad, x)),
    ),
    lambda build, x, target: build.elementwise("binary_cross_entropy", *build.alike(x, target)),
    ("symmetric", "symmetric"),
    pointwise=True,
)


def _are_classes(target: Value) -> bool:
    """Return whether targets are the indices of classes, which have no slope."""
    return len(target.shape) == 1


def _column(do: Do, rows: Value) -> Any:
    return do(RESHAPE, rows, shape=OpenSize((*rows.shape, 1)))


def _along(do: Do, a: Value, b: Value, keepdims: bool = False) -> Any:
    return do(SUM, do(MUL, a, b), axis=-1, keepdims=keepdims)


def _entropy_of_grad(do: Do, upstream: Value, out: Value, grad: Value, x: Value, target: Value) -> Any:
    """Of g(softmax(x) Σt - t)."""
    return _along(do, upstream, do(CROSS_ENTROPY_BACKWARD, do(BROADCAST, 1.0, grad), x, target))


def _entropy_of_logits(do: Do, upstream: Value, out: Value, grad: Value, x: Value, target: Value) -> Any:
    """Of g(softmax(x) Σt - t)."""
    change = do(MUL, upstream, _column(do, grad))
    if not _are_classes(target):
        change = do(MUL, change, do(SUM, target, axis=-1, keepdims=True))
    return do(SOFTMAX_BACKWARD, change, do(SOFTMAX, x))


def _entropy_of_target(do: Do, upstream: Value, out: Value, grad: Value, x: Value, target: Value) -> Any:
    """Of g(softmax(x) Σt - t)."""
    if _are_classes(target):
        return None
    total = _along(do, upstream, do(SOFTMAX, x), keepdims=True)
    return do(MUL, do(SUB, total, upstream), _column(do, grad))


CROSS_ENTROPY_BACKWARD: Operation = Operation(
    "cross_entropy_backward",
    like,
    kernels.cross_entropy_backward,
    (_entropy_of_grad, _entropy_of_logits, _entropy_of_target),
    lambda build, grad, x, target: build.elementwise(
        "mul", build.rows("cross_entropy_backward", x, target), build.reshape(grad, (*grad.shape, 1))
    ),
    (
        "linear",
        "symmetric",
        lambda do, tangent, out, grad, x, target: (
            None if _are_classes(target) else do(CROSS_ENTROPY_BACKWARD, grad, x, tangent)
        ),
    ),
)
CROSS_ENTROPY = Operation(
    "cross_entropy",
    lambda x, target: x[:1],
    kernels.cross_entropy,
    (
        lambda do, grad, out, x, target: do(CROSS_ENTROPY_BACKWARD, grad, x, target),
        lambda do, grad, out, x, target: (
            None if _are_classes(target) else negative(do, do(MUL, do(LOG_SOFTMAX, x), _column(do, grad)))
        ),
    ),
    lambda build, x, target: build.rows("cross_entropy", x, target),
    (
        lambda do, tangent, out, x, target: _along(
            do, tangent, do(CROSS_ENTROPY_BACKWARD, do(BROADCAST, 1.0, out), x, target)
        ),
        lambda do, tangent, out, x, target: (
            None if _are_classes(target) else negative(do, _along(do, do(LOG_SOFTMAX, x), tangent))
        ),
    ),
)
