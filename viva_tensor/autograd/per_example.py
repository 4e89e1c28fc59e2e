"""Gradients of each example's loss, in one pass back over a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from viva_tensor.autograd import operations
from viva_tensor.autograd.derivatives import Recorder, between, named
from viva_tensor.autograd.operations import Operation
from viva_tensor.autograd.tape import Node, Tape, Traced, Variable
from viva_tensor.error import DimensionError, TensorError

Variables = Variable | Sequence[Variable]
Test = Callable[[Node, int], bool]

__all__ = ["per_example_gradients"]


def per_example_gradients(tape: Tape, losses: Variable, inputs: Variables) -> Traced[Any]:
    r"""Record the gradient of each example's loss, :math:`\partial \ell_i / \partial x` for all i.

    That is the Jacobian of the losses, for the price of about one gradient: where an input meets the batch, such as a
    weight in a layer, its gradient is not summed over the rows [1]_. Programs take other numbers of rows than were
    recorded, with inputs for all that has the rows.

    Parameters
    ----------
    tape : Tape
    losses : Variable [n]
        One for each example, such as losses with ``reduction="none"``. Each depends on its own row of the batch alone,
        which is the first axis of all that depends on the inputs.
    inputs : Variable, or a sequence of them
        What all examples share, such as the parameters of layers.

    Returns
    -------
    Traced
        One variable of shape ``(n, *input.shape)`` for a single input, a tuple for a sequence.

    Raises
    ------
    DimensionError
        If the losses are no vector.
    TensorError
        If an operation on the way mixes rows, or has no such rule: :func:`jacobian` computes the same, one by one.
    ForeignVariable, InvalidValue
        If a variable is not on this tape; if there are no inputs.

    References
    ----------
    .. [1] I. Goodfellow, Efficient per-example gradient computations, arXiv:1510.01799, 2015.

    Examples
    --------
    >>> from viva_tensor.autograd import matmul, new_constant, new_tape, new_variable, square
    >>> w, tape = new_variable(new_tape(), [1.0, -1.0])
    >>> x, tape = new_constant(tape, [[1.0, 2.0], [3.0, 5.0]])
    >>> y, tape = matmul(tape, x, w)
    >>> losses, tape = square(tape, y)
    >>> per_example_gradients(tape, losses, w).value.data    # 2 y x
    array([[ -2.,  -4.],
           [-12., -20.]], dtype=float32)
    """
    starts = named("per_example_gradients", "inputs", tape, inputs)
    named("per_example_gradients", "losses", tape, losses)
    if losses.ndim != 1:
        hint = "give a vector of losses, one for each row"
        raise DimensionError(f"losses of shape {losses.shape}", operation="per_example_gradients", hint=hint)
    nodes, _ = between(tape, starts, (losses,))
    walk = _Walk(tape, losses, {one.id for one in starts}, nodes)
    for node in reversed(nodes):
        walk.back(node)
    found = tuple(walk.gradient(one) for one in starts)
    return Traced(found[0] if isinstance(inputs, Variable) else found, walk.recorder.tape)


class _Walk:
    """What is known of each variable: whether it has a row for each example, and its gradients."""

    def __init__(self, tape: Tape, losses: Variable, shared: set[int], nodes: Sequence[Node]) -> None:
        self.recorder = Recorder(tape, losses.data.dtype)
        self._losses, self._count = losses, len(losses.data)
        self._shared = set(shared)  # the inputs, and what is made of them alone
        self._rows: set[int] = set()  # with a row for each example, of which loss i reads only row i
        self._found = {losses.id: self.recorder.do(operations.BROADCAST, 1.0, losses)}
        self._by_example: dict[int, Variable] = {}  # gradients of what is shared, with an axis of examples in front
        self._neither: set[int] = set()  # what no gradient may reach
        for node in nodes:
            output = node.output
            if all(one.id in self._shared for one in node.inputs):
                self._shared.add(output.id)
            else:
                has_rows = output.ndim and output.shape[0] == self._count
                (self._rows if has_rows else self._neither).add(output.id)
        if losses.id in self._shared:
            raise _mixed(tape.node(losses), "makes losses of what examples share alone")

    def gradient(self, variable: Variable) -> Variable:
        """Return the gradients of an input, zeros if there are none."""
        if variable.id in self._by_example:
            return self._by_example[variable.id]
        return self._zeros(variable, variable.ndim + 1)

    def _zeros(self, variable: Variable, dimensions: int) -> Variable:
        """Return zeros with a row for each loss, to the shape of which the variable would be repeated."""
        do = self.recorder.do  # of the losses and the variable, so that programs know how many rows there are
        column = self._column(self._losses, dimensions)
        return do(operations.ADD, do(operations.BROADCAST, 0.0, column), do(operations.BROADCAST, 0.0, variable))

    def _column(self, vector: Variable, dimensions: int) -> Variable:
        """Return one number for each loss with axes of size 1 behind."""
        shape = operations.OpenSize((self._count, *[1] * (dimensions - 1)))
        return self.recorder.do(operations.RESHAPE, vector, shape=shape)

    def back(self, node: Node) -> None:
        """Pass the gradient of a node's output on to its operands."""
        output = node.output
        if output.id in self._shared:
            grad = self._by_example.get(output.id)
            if grad is not None:
                self._through_shared(node, grad)
            return
        grad = self._found.get(output.id)
        if grad is None:
            return
        if self._count == 1:  # in programs, what stays a single row would have the sum over all of them
            exact = "per_example_gradients", "give as many rows as were recorded, or make inputs of what has that many"
            grad = self.recorder.do(operations.BROADCAST, grad, self._zeros(grad, grad.ndim), exact=exact)
        for index, (one, rule) in enumerate(zip(node.inputs, node.operation.gradients, strict=True)):
            if rule is None:
                continue
            if one.id in self._neither:
                raise _mixed(node, f"takes {one.shape}, which has no row for each example")
            if one.id in self._rows:
                self._check_rows(node, index)
                more = rule(self.recorder.do, grad, output, *node.inputs, **node.attributes)
                self.recorder.add(self._found, one, more)
            elif one.id in self._shared:
                self.recorder.add(self._by_example, one, self._of_shared(node, index, grad))

    def _check_rows(self, node: Node, index: int) -> None:
        """Raise if a row of the result depends on other rows of the operand."""
        operand, output = node.inputs[index], node.output
        joins = node.operation.name == "concatenate"
        test = _not_rows if joins else _KEEPS_ROWS.get(node.operation, _elementwise)
        if not (operand.ndim and output.ndim and operand.shape[0] == output.shape[0] == self._count) or not test(
            node, index
        ):
            raise _mixed(node, f"mixes the rows of {operand.shape} into {output.shape}")

    def _of_shared(self, node: Node, index: int, grad: Variable) -> Variable:
        """Return the gradient of an operand without rows for each row of the result."""
        do, operand, others = self.recorder.do, node.inputs[index], node.inputs
        if node.operation is operations.LINEAR and index:
            return grad if index == 2 else self._outer(grad, others[0])
        if node.operation is operations.MATMUL and index == 1:
            return self._outer(others[0], grad)
        if node.operation is operations.BATCH_MATMUL and index == 1 and (others[0].ndim, operand.ndim) == (3, 2):
            return do(operations.BATCH_MATMUL, do(operations.TRANSPOSE, others[0], axes=(0, 2, 1)), grad)
        if node.operation is operations.TAKE and index == 0 and node.attributes["axis"] == 0:
            return self._scattered(node, grad)
        if node.operation is operations.EMBEDDING_BAG and index == 0:
            return self._scattered(node, grad)
        if node.operation.broadcasts and node.output.ndim and node.output.shape[0] == self._count:
            if operand.ndim == node.output.ndim and operand.shape[0] != 1:
                raise _mixed(node, f"takes {operand.shape} for rows of {node.output.shape}")
            whole = do(operations.BROADCAST, operand, node.output)
            operands = [whole if i == index else one for i, one in enumerate(others)]
            rule = node.operation.gradients[index]
            assert rule is not None
            return self._summed(rule(do, grad, node.output, *operands, **node.attributes), operand)
        raise _mixed(node, f"has no rule for an operand {operand.shape} that examples share")

    def _outer(self, a: Variable, b: Variable) -> Variable:
        """Return the outer product of each pair of rows."""
        column = self.recorder.do(operations.EXPAND_DIMS, a, axis=2)
        row = self.recorder.do(operations.EXPAND_DIMS, b, axis=1)
        return self.recorder.do(operations.BATCH_MATMUL, column, row)

    def _summed(self, grad: Variable, operand: Variable) -> Variable:
        """Sum a gradient over the axes along which the operand was repeated, but not over the rows."""
        lead = grad.ndim - operand.ndim
        repeated = tuple(
            axis for axis in range(1, grad.ndim) if axis < lead or operand.shape[axis - lead] != grad.shape[axis]
        )
        if repeated:
            grad = self.recorder.do(operations.SUM, grad, axis=repeated, keepdims=False)
        shape = operations.OpenSize((self._count, *operand.shape))
        return grad if grad.shape == shape else self.recorder.do(operations.RESHAPE, grad, shape=shape)

    def _scattered(self, node: Node, grad: Variable) -> Variable:
        """Return the gradients of a table: each example's rows are added to a table of its own."""
        table, indices, *weights = node.inputs
        if not (indices.ndim and indices.shape[0] == self._count):
            raise _mixed(node, f"takes rows at indices of shape {indices.shape}")
        do, size = self.recorder.do, float(table.shape[0])
        ends = do(operations.CUMSUM, do(operations.BROADCAST, size, self._losses), axis=0, starts=())
        first = self._column(do(operations.SUB, ends, size), indices.ndim)
        wrapped = do(operations.SCALE, do(operations.LESS, indices, 0.0), factor=size)
        places = do(operations.ADD, do(operations.ADD, indices, wrapped), first)
        tables = self._zeros(table, table.ndim + 1)
        joined = [(0, 1), *((axis,) for axis in range(2, tables.ndim))]
        shape = operations.JoinedAxes((self._count * table.shape[0], *table.shape[1:]), tuple(joined))
        whole = do(operations.RESHAPE, tables, shape=shape)
        if weights:
            added = do(operations.EMBEDDING_BAG_BACKWARD, grad, whole, places, *weights)
        else:
            added = do(operations.TAKE_BACKWARD, grad, whole, places, axis=0)
        return do(operations.RESHAPE_BACKWARD, added, tables)

    def _through_shared(self, node: Node, grad: Variable) -> None:
        """Pass gradients on through an operation on what all examples share."""
        do, operand = self.recorder.do, node.inputs[0]
        if node.operation is operations.TRANSPOSE:
            axes = node.attributes["axes"] or tuple(reversed(range(operand.ndim)))
            more = do(operations.TRANSPOSE, grad, axes=(0, *(1 + axes.index(i) for i in range(len(axes)))))
        elif node.operation in (operations.RESHAPE, operations.SQUEEZE, operations.EXPAND_DIMS):
            more = do(operations.RESHAPE, grad, shape=operations.OpenSize((self._count, *operand.shape)))
        elif node.operation is operations.SCALE:
            more = do(operations.SCALE, grad, **node.attributes)
        else:
            raise _mixed(node, "is made of what examples share, and has no rule")
        self.recorder.add(self._by_example, operand, more)


def _elementwise(node: Node, index: int) -> bool:
    """Return whether an operation works element by element, with the rows of an operand as those of the result."""
    return node.operation.pointwise or (node.operation.broadcasts and node.inputs[index].ndim == node.output.ndim)


def _along_others(node: Node, index: int) -> bool:
    """Return whether the axis of an operation is not that of the rows, or its axes."""
    axis, dimensions = node.attributes["axis"], node.inputs[index].ndim
    axes = range(dimensions) if axis is None else [axis] if isinstance(axis, int) else axis
    return all(one % dimensions for one in axes)


def _not_rows(node: Node, index: int) -> bool:
    return bool(node.attributes["axis"] > 0)


def _whole_first(node: Node, index: int) -> bool:
    return tuple(node.attributes["spans"][0]) == (0, node.inputs[index].shape[0], 1)


_ROWS: Test = lambda node, index: node.inputs[index].ndim > 1  # noqa: E731
_LEFT: Test = lambda node, index: index == 0  # noqa: E731
_BATCH: Test = lambda node, index: node.inputs[index].ndim == node.output.ndim > 2  # noqa: E731
_ALWAYS: Test = lambda node, index: True  # noqa: E731

_KEEPS_ROWS: dict[Operation, Test] = {
    operations.LINEAR: _LEFT,
    operations.MATMUL: _LEFT,
    operations.BATCH_MATMUL: _BATCH,
    operations.SOFTMAX: _ROWS,
    operations.LOG_SOFTMAX: _ROWS,
    operations.NORMALIZE: _ROWS,
    operations.CROSS_ENTROPY: _LEFT,
    operations.SUM: _along_others,
    operations.MEAN: _along_others,
    operations.MAX: _along_others,
    operations.MIN: _along_others,
    operations.NORM: _along_others,
    operations.CUMSUM: _along_others,
    operations.TAKE: _along_others,
    operations.EMBEDDING_BAG: lambda node, index: index > 0,  # which row of the table is no matter of rows
    operations.BROADCAST: lambda node, index: node.inputs[index].ndim == node.output.ndim,
    operations.SLICE: _whole_first,
    operations.RESHAPE: _ALWAYS,  # the number of rows stays, and so what is in each
    operations.SQUEEZE: _ALWAYS,
    operations.EXPAND_DIMS: _not_rows,
    operations.TRANSPOSE: lambda node, index: (node.attributes["axes"] or (-1,))[0] == 0,
    operations.PAD: lambda node, index: node.attributes["widths"][0] == (0, 0),
    operations.DROPOUT: _ALWAYS,
    operations.STOP_GRADIENT: _ALWAYS,
}


def _mixed(node: Node, what: str) -> TensorError:
    hint = "use jacobian, which computes the same one by one"
    return TensorError(f"{node.operation.name} {what}", operation="per_example_gradients", hint=hint)
