"""From a tape to instructions: the forward pass, the gradients by the rules of each operation, the update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from viva_tensor.autograd import Node, Variable, operations
from viva_tensor.autograd.operations import Operation
from viva_tensor.error import InvalidShape, ShapeMismatch, TensorError
from viva_tensor.optim import Optimizer
from viva_tensor.program.builder import Builder
from viva_tensor.program.instructions import Buffer, Instruction, Symbol, row_major
from viva_tensor.program.stretching import Stretching, check_exact


class Lowered(NamedTuple):
    """Instructions, the output, and its parts if several outputs share one buffer."""

    instructions: list[Instruction]
    output: Symbol
    parts: tuple[Symbol, ...]


def needed(nodes: Sequence[Node], outputs: Sequence[Variable]) -> list[Node]:
    """Return the nodes that outputs depend on, in order; all others are dead.

    Examples
    --------
    >>> from viva_tensor import autograd
    >>> x, tape = autograd.new_variable(autograd.new_tape(), 1.0)
    >>> unused, tape = autograd.mul(tape, x, x)
    >>> y, tape = autograd.add(tape, x, x)
    >>> [node.operation.name for node in needed(tape.nodes(), (y,))]
    ['variable', 'add']
    """
    wanted = {output.id for output in outputs}
    kept = []
    for node in reversed(nodes[: max(wanted) + 1]):
        if node.output.id in wanted:
            wanted.update(variable.id for variable in node.inputs)
            kept.append(node)
    return kept[::-1]


def _check_repeats(node: Node, values: Sequence[Symbol], result: Symbol) -> None:
    """Raise InvalidShape if an input's single row would be repeated, while as many as the result's were recorded."""
    kept = 2 if node.operation is operations.BATCH_MATMUL else 0  # last axes, which are not repeated
    for variable, value in zip(node.inputs, values, strict=True):
        whole_shapes = variable.data.shape, value.shape, node.output.data.shape, result.shape
        shapes = [shape[: len(shape) - kept] for shape in whole_shapes]
        axes = zip(*map(reversed, shapes), strict=False)
        if any(recorded == whole != 1 and now == 1 != wanted for recorded, now, whole, wanted in axes):
            raise _repeated(node, variable, value.shape, result.shape)


def _repeated(node: Node, variable: Variable, now: tuple[int, ...], wanted: tuple[int, ...]) -> InvalidShape:
    return InvalidShape(
        f"{now}, recorded as {variable.data.shape}, would be repeated to {wanted}",
        operation=node.operation.name,
        hint="give as many rows as were recorded, or make an input of what has that many",
    )


def _check_taken(node: Node, x: Symbol, indices: Symbol) -> None:
    """Raise InvalidShape if recorded indices are of an axis that has another size now."""
    axis, recorded = node.attributes["axis"], node.inputs[0].data.shape
    if indices.buffer.kind == "constant" and x.shape[axis] != recorded[axis]:
        hint = "give as many rows as were recorded, or make the indices an input"
        raise InvalidShape(f"{x.shape}, recorded as rows of {recorded}", operation="take", hint=hint)


def _check_bags(node: Node, table: Symbol, indices: Symbol, weights: Symbol) -> None:
    """Raise InvalidShape if recorded indices are of a table of another size now, or of as many rows as there were."""
    if indices.buffer.kind == "constant" and table.shape != node.inputs[0].data.shape:
        got, hint = f"a table of {table.shape}, recorded as {node.inputs[0].data.shape}", "make the indices an input"
        raise InvalidShape(got, operation="embedding_bag", hint=hint)
    if indices.shape != weights.shape:
        got, hint = f"indices of {indices.shape} and weights of {weights.shape}", "make both inputs, or neither"
        raise InvalidShape(got, operation="embedding_bag", hint=hint)


def _check_seed(node: Node, seed: Symbol, whole: Symbol) -> None:
    """Raise InvalidShape if a seed or tangent was recorded for other rows than there are now.

    One for a single row is repeated for all of them, but not the units of a Jacobian, which are for single elements.
    """
    given, recorded = (variable.data.shape for variable in node.inputs)
    check_exact(node, (seed.shape, whole.shape))
    pairs = zip(reversed(seed.shape), reversed(whole.shape), strict=False)
    if all(size in (1, now) for size, now in pairs):
        return
    if given != recorded or seed.buffer.kind != "constant":
        raise _repeated(node, node.inputs[0], seed.shape, whole.shape)
    raise InvalidShape(
        f"{whole.shape}, recorded with a seed or tangent of {recorded}",
        operation="gradient or jvp",
        hint="give as many rows as were recorded, or make the seed an input",
    )


def _check_before(node: Node, values: Sequence[Symbol]) -> None:
    """Raise InvalidShape if what was recorded cannot be done to inputs of these shapes, or would give nonsense."""
    axis = node.attributes.get("axis")
    if isinstance(axis, operations.Counted):
        axis.check(values[-1].shape)  # what is reduced, or was, comes last
    if node.operation is operations.TAKE:
        _check_taken(node, *values)
    if node.operation is operations.EMBEDDING_BAG:
        _check_bags(node, *values)
    if node.operation is operations.BROADCAST:
        _check_seed(node, *values)


def lower(
    nodes: Sequence[Node],
    outputs: Sequence[Variable],
    inputs: Sequence[Variable],
    shapes: Sequence[tuple[int, ...]],
    params: Sequence[Variable] = (),
    optimizer: Optimizer | None = None,
    seeds: Sequence[int] = (),
    weight: float = 1.0,
) -> Lowered:
    """Return nodes as instructions for inputs of the given shapes, and the outputs; with an optimiser, also updates.

    ``seeds`` are those of all dropouts, in the order in which each step draws new ones. The gradients are those of the
    only output times ``weight``.
    """
    build = Builder(outputs[0].data.dtype, seeds)
    symbols: dict[int, Symbol] = {}
    attributes: dict[int, Mapping[str, Any]] = {}
    stretching = Stretching(nodes, lambda number: symbols[number].shape)
    for index, (variable, shape) in enumerate(zip(inputs, shapes, strict=True)):
        symbols[variable.id] = _leaf(Buffer("input", 0, index, name=f"input{index}"), shape)
    parameters = []
    for index, variable in enumerate(params):
        symbol = _leaf(Buffer("parameter", variable.data.size, index, name=f"p{index}"), variable.data.shape)
        symbols[variable.id] = symbol
        parameters.append(symbol)
    for node in nodes:
        if node.output.id in symbols:
            continue
        if node.inputs:
            given = zip(node.inputs, stretching.inputs(node), strict=True)
            values = [_of_shape(symbols[variable.id], shape) for variable, shape in given]
            _check_before(node, values)
            attributes[node.output.id] = stretching.attributes(node)
            result = _lower(build, node.operation, *values, **attributes[node.output.id])
            if node.operation.broadcasts or node.operation in (operations.BROADCAST, operations.BATCH_MATMUL):
                _check_repeats(node, values, result)
            symbols[node.output.id] = result
        else:
            symbols[node.output.id] = _constant(node.output.data, f"c{node.output.id}")
    result, parts = _outputs(build, [symbols[output.id] for output in outputs], in_place=optimizer is None)
    if optimizer is not None:
        wanted = {variable.id for variable in params}
        known = _backward(build, nodes, attributes, outputs[0], symbols, wanted, weight)
        grads = []
        for variable, parameter in zip(params, parameters, strict=True):
            grad = known.get(variable.id)
            if grad is None:
                grad = _constant(np.zeros(parameter.shape, variable.data.dtype), "zeros")
            grads.append(build.whole(grad))
        clip = optimizer.clip_norm  # with it, all updates wait for the norm of all gradients
        build.updates(grads, parameters, None if clip is None else build.clipping(grads, clip), optimizer)
    return Lowered(build.instructions, result, parts)


def _outputs(build: Builder, symbols: Sequence[Symbol], in_place: bool) -> tuple[Symbol, tuple[Symbol, ...]]:
    """Return what stays in memory after a call: one output as it is, several one after another in one buffer."""
    if len(symbols) == 1:
        (result,) = symbols
        # inputs change, and updates overwrite parameters
        if not result.contiguous or result.buffer.kind != "temporary":
            result = build.scaled(result, 1.0, result.shape)
        return result, (result,)
    return build.joined(symbols, in_place)


def _of_shape(symbol: Symbol, shape: tuple[int, ...]) -> Symbol:
    """Return a symbol, or, of another shape, one that has this shape and no elements that count."""
    return symbol if symbol.shape == shape else Symbol(shape, (0,) * len(shape), symbol.buffer)


def _leaf(buffer: Buffer, shape: tuple[int, ...]) -> Symbol:
    return Symbol(shape, row_major(shape), buffer)


def _constant(array: np.ndarray[Any, Any], name: str) -> Symbol:
    array = np.ascontiguousarray(array).reshape(array.shape)
    return _leaf(Buffer("constant", array.size, array=array, name=name), array.shape)


def _lower(build: Builder, operation: Operation, *symbols: Symbol, **attributes: Any) -> Symbol:
    if operation.lower is None:
        raise TensorError(
            f"the operation {operation.name!r} has no compiled form", operation="compile", hint="train on the tape"
        )
    symbol: Symbol = operation.lower(build, *symbols, **attributes)
    expected = operation.shape(*(one.shape for one in symbols), **attributes)
    if symbol.shape != expected:
        raise ShapeMismatch(expected, symbol.shape, operation=operation.name, hint="the inputs do not fit together")
    return symbol


def _backward(
    build: Builder,
    nodes: Sequence[Node],
    attributes: Mapping[int, Mapping[str, Any]],
    loss: Variable,
    symbols: Mapping[int, Symbol],
    wanted: set[int],
    weight: float,
) -> dict[int, Symbol]:
    """Return the gradients of variables, computed in the order of ``autograd.backward`` and so with its bits."""
    tracked = set(wanted)
    for node in nodes:
        if any(variable.id in tracked for variable in node.inputs):
            tracked.add(node.output.id)

    def do(operation: Operation, *values: Symbol | float, **attributes: Any) -> Symbol:
        symbols = (
            value if isinstance(value, Symbol) else _constant(np.array(value, loss.data.dtype), f"{value:g}")
            for value in values
        )
        return _lower(build, operation, *symbols, **attributes)

    seed = np.full(symbols[loss.id].shape, weight, loss.data.dtype)
    grads = {loss.id: _constant(seed, "one" if weight == 1 else "seed")}
    for node in reversed(nodes):
        grad = grads.get(node.output.id)
        if grad is None or not node.inputs:
            continue
        arrays = [symbols[variable.id] for variable in node.inputs]
        for variable, rule in zip(node.inputs, node.operation.gradients, strict=True):
            more = None
            if rule is not None and variable.id in tracked:
                more = rule(do, grad, symbols[node.output.id], *arrays, **attributes[node.output.id])
            if more is not None:
                known = grads.get(variable.id)
                grads[variable.id] = more if known is None else do(operations.ADD, known, more)
    return grads
