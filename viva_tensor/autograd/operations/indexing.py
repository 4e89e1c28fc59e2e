"""Operations that take elements by their indices, and their way back."""

from __future__ import annotations

from viva_tensor import kernels
from viva_tensor.autograd.operations.base import Operation, Shape

__all__ = ["TAKE", "TAKE_BACKWARD"]


def _taken(x: Shape, indices: Shape, axis: int) -> Shape:
    return (*x[:axis], *indices, *x[axis + 1 :])


TAKE: Operation = Operation(
    "take",
    _taken,
    kernels.take,
    (lambda do, grad, out, x, indices, axis: do(TAKE_BACKWARD, grad, x, indices, axis=axis), None),
    lambda build, x, indices, axis: build.take(x, indices, axis),
    ("linear", None),
)
TAKE_BACKWARD: Operation = Operation(
    "take_backward",
    lambda grad, x, indices, axis: x,
    kernels.take_backward,
    (lambda do, upstream, out, grad, x, indices, axis: do(TAKE, upstream, indices, axis=axis), None, None),
    lambda build, grad, x, indices, axis: build.taken_back(grad, x.shape, indices, axis),
    ("linear", None, None),
)
