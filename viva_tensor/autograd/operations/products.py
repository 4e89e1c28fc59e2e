"""Matrix products, of two matrices, of batches of them, and the affine map of a layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from viva_tensor import kernels
from viva_tensor.autograd.operations.arithmetic import BROADCAST, fitted
from viva_tensor.autograd.operations.base import Do, OpenSize, Operation, Shape, Value
from viva_tensor.autograd.operations.reductions import SUM
from viva_tensor.autograd.operations.shapes import RESHAPE, TRANSPOSE

__all__ = ["BATCH_MATMUL", "LINEAR", "MATMUL"]


def _turned(do: Do, matrices: Value) -> Any:
    """Return each matrix transposed."""
    last = len(matrices.shape) - 1
    return do(TRANSPOSE, matrices, axes=(*range(last - 1), last, last - 1))


def _in_rows(do: Do, matrices: Value) -> Any:
    """Return a batch of matrices one below the other."""
    return do(RESHAPE, matrices, shape=OpenSize((math.prod(matrices.shape[:-1]), matrices.shape[-1])))


def _of_the_right(do: Do, grad: Value, out: Value, a: Value, b: Value) -> Any:
    """Return the gradient of the second operand; of one matrix for a whole batch it is one product, too."""
    if len(b.shape) == 2:
        return do(MATMUL, do(TRANSPOSE, _in_rows(do, a), axes=None), _in_rows(do, grad))
    return fitted(do, do(BATCH_MATMUL, _turned(do, a), grad), b)


def _batch_shape(a: Shape, b: Shape) -> Shape:
    return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])


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
BATCH_MATMUL: Operation = Operation(
    "batch_matmul",
    _batch_shape,
    kernels.matmul,
    (
        lambda do, grad, out, a, b: fitted(do, do(BATCH_MATMUL, grad, _turned(do, b)), a),
        _of_the_right,
    ),
    lambda build, a, b: build.batch_matmul(a, b),
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
