"""Operations that take elements by their indices, or weighted sums of them, and their way back."""

from __future__ import annotations

from typing import Any

from viva_tensor import kernels
from viva_tensor.autograd.operations.base import Do, Operation, Shape, Value
from viva_tensor.autograd.operations.products import BATCH_MATMUL
from viva_tensor.autograd.operations.shapes import EXPAND_DIMS, SQUEEZE

__all__ = ["EMBEDDING_BAG", "EMBEDDING_BAG_BACKWARD", "TAKE", "TAKE_BACKWARD"]


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


def _of_weights(do: Do, grad: Value, table: Value, indices: Value) -> Any:
    """Return the gradient of the weights of sums of rows: each row's product with the gradient of its sum."""
    rows = do(TAKE, table, indices, axis=0)
    return do(SQUEEZE, do(BATCH_MATMUL, rows, do(EXPAND_DIMS, grad, axis=2)), axes=(2,))


EMBEDDING_BAG: Operation = Operation(
    "embedding_bag",
    lambda table, indices, weights: (indices[0], table[1]),
    kernels.embedding_bag,
    (
        lambda do, grad, out, table, indices, weights: do(EMBEDDING_BAG_BACKWARD, grad, table, indices, weights),
        None,
        lambda do, grad, out, table, indices, weights: _of_weights(do, grad, table, indices),
    ),
    lambda build, table, indices, weights: build.embedding_bag(table, indices, weights),
    (
        lambda do, tangent, out, table, indices, weights: do(EMBEDDING_BAG, tangent, indices, weights),
        None,
        lambda do, tangent, out, table, indices, weights: do(EMBEDDING_BAG, table, indices, tangent),
    ),
)
EMBEDDING_BAG_BACKWARD: Operation = Operation(
    "embedding_bag_backward",
    lambda grad, table, indices, weights: table,
    kernels.embedding_bag_backward,
    (
        lambda do, upstream, out, grad, table, indices, weights: do(EMBEDDING_BAG, upstream, indices, weights),
        None,
        None,
        lambda do, upstream, out, grad, table, indices, weights: _of_weights(do, grad, upstream, indices),
    ),
    lambda build, grad, table, indices, weights: build.embedding_bag_back(grad, table.shape, indices, weights),
    (
        lambda do, tangent, out, grad, table, indices, weights: do(
            EMBEDDING_BAG_BACKWARD, tangent, table, indices, weights
        ),
        None,
        None,
        lambda do, tangent, out, grad, table, indices, weights: do(
            EMBEDDING_BAG_BACKWARD, grad, table, indices, tangent
        ),
    ),
)
