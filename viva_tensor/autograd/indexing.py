"""Operations on the elements at given indices, as functions (tape, variables) -> Traced."""

from __future__ import annotations

from numpy.typing import ArrayLike

from viva_tensor.autograd import operations
from viva_tensor.autograd.tape import (
    Tape,
    Traced,
    Variable,
    new_constant,
    new_tape,  # noqa: F401  # in the examples
    new_variable,  # noqa: F401
    node_of,
    record,
)
from viva_tensor.kernels.arrays import Whole, as_arrays, axes_of, wants
from viva_tensor.kernels.indexing import as_indices

__all__ = ["embedding_bag", "take"]


def embedding_bag(
    tape: Tape, table: Variable, indices: Variable | ArrayLike, weights: Variable | ArrayLike
) -> Traced[Variable]:
    """Record weighted sums of rows of a table, the product of a sparse matrix and the table.

    The sums and the gradient of the table are those of :func:`viva_tensor.kernels.embedding_bag` and
    ``embedding_bag_backward``; the gradient of a weight is the product of its row and the gradient of the sum.

    Parameters
    ----------
    tape : Tape
    table : Variable, shape (m, h)
    indices : Variable or array_like, shape (n, k)
        Whole numbers, of which negative ones count from the end. An array stays as it is in compiled programs. A
        variable of the dtype of the table may be an input, where an index that does not exist gives NaN.
    weights : Variable or array_like, shape (n, k)

    Returns
    -------
    Traced of Variable, shape (n, h)

    Raises
    ------
    DimensionError, ShapeMismatch, IndexOutOfBounds, InvalidValue, InvalidShape, DtypeError
        As :func:`viva_tensor.kernels.embedding_bag`.
    ForeignVariable
        If a variable is not on this tape.

    Examples
    --------
    >>> table, tape = new_variable(new_tape(), [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> embedding_bag(tape, table, [[0, 2]], [[1.0, 10.0]]).value.data
    array([[51., 62.]], dtype=float32)
    """
    data = node_of(tape, table, "embedding_bag").output.data
    wants("embedding_bag", 2, data, "the table")
    if not isinstance(indices, Variable):
        indices, tape = new_constant(tape, as_indices("embedding_bag", data, indices, len(data)))
    if not isinstance(weights, Variable):
        weights, tape = new_constant(tape, as_arrays("embedding_bag", data, weights)[1])
    return record(tape, operations.EMBEDDING_BAG, table, indices, weights)


def take(tape: Tape, x: Variable, indices: Variable | ArrayLike, axis: Whole = 0) -> Traced[Variable]:
    """Record the elements of x at some indices along an axis, such as rows of a table; see :func:`numpy.take`.

    The gradient adds up what was taken of each element, in the order of the indices.

    Parameters
    ----------
    tape : Tape
    x : Variable
    indices : Variable or array_like, of any shape
        Whole numbers, of which negative ones count from the end. An array stays as it is in compiled programs. A
        variable of the dtype of x may be an input, where an index that does not exist gives NaN.
    axis : int

    Returns
    -------
    Traced of Variable
        Of the shape of x, with that of the indices in place of the axis.

    Raises
    ------
    IndexOutOfBounds
        If there is no such element or axis.
    InvalidValue, InvalidShape, DtypeError, ForeignVariable
        As :func:`viva_tensor.kernels.take`; if a variable is not on this tape.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> take(tape, x, [2, 0]).value.data
    array([[5., 6.],
           [1., 2.]], dtype=float32)
    """
    data = node_of(tape, x, "take").output.data
    (axis,) = axes_of("take", (axis,), data.shape)
    if not isinstance(indices, Variable):
        indices, tape = new_constant(tape, as_indices("take", data, indices, data.shape[axis]))
    return record(tape, operations.TAKE, x, indices, axis=axis)
