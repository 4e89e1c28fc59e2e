"""Whether a loss is a mean over the rows of a batch, which parts of the batch can be averaged to."""

from __future__ import annotations

from collections.abc import Sequence
from operator import and_
from typing import NamedTuple

from viva_tensor.autograd import Node, Variable, operations
from viva_tensor.error import InvalidValue, TensorError
from viva_tensor.kernels.arrays import axes_of
from viva_tensor.program.source import Source
from viva_tensor.program.stretching import Stretching

_LINEAR = {
    operations.ADD, operations.SUB, operations.SCALE, operations.RESHAPE, operations.SQUEEZE, operations.EXPAND_DIMS,
    operations.TRANSPOSE, operations.PAD, operations.STOP_GRADIENT,
}  # fmt: skip
_QUOTIENTS = {operations.DIV, operations.CHAIN_DIV}
_REDUCTIONS = {operations.SUM, operations.MEAN, operations.MAX, operations.MIN, operations.NORM}
_MEANS = {operations.MEAN, operations.MEAN_SQUARED_ERROR}
_SHARES = {operations.MEAN_BACKWARD, operations.MEAN_SQUARED_ERROR_BACKWARD}
_PRODUCTS = {operations.MATMUL, operations.BATCH_MATMUL, operations.LINEAR}
_ALONG = {
    operations.SOFTMAX, operations.LOG_SOFTMAX, operations.NORMALIZE, operations.CROSS_ENTROPY, operations.CUMSUM,
    operations.TAKE, operations.EMBEDDING_BAG,
}  # fmt: skip
_BACK_ALONG = {
    operations.SOFTMAX_BACKWARD, operations.LOG_SOFTMAX_BACKWARD, operations.CROSS_ENTROPY_BACKWARD,
    operations.CUMSUM_BACKWARD,
}  # fmt: skip
_BACK_SUMS = {operations.UNBROADCAST, operations.TAKE_BACKWARD, operations.EMBEDDING_BAG_BACKWARD}
_SUMS = {operations.SUM, operations.SUM_OF_SQUARES, *_PRODUCTS, *_BACK_SUMS}
_OF_ONE_SHAPE = {  # the second input gives its shape alone
    operations.BROADCAST, operations.UNBROADCAST, operations.SUM_BACKWARD, operations.MEAN_BACKWARD,
    operations.RESHAPE_BACKWARD, operations.PLACE, operations.TAKE_BACKWARD,
}  # fmt: skip
Shapes = dict[int, tuple[int, ...]]  # by the ids of variables
_MICRO_BATCH = "micro_batch"
_LEAVE_OUT = "leave micro_batch out"
_AS_MEAN = f"reduce it by mean, or {_LEAVE_OUT}"
_AS_SUMS = f"make only sums and multiples of means over rows, or {_LEAVE_OUT}"
_OF_SUM = f"take the gradient of a sum over rows, or {_LEAVE_OUT}"


class _OfRows(NamedTuple):
    """How a variable depends on the rows of a batch.

    It grows with a power of their number: 1 if it is a sum over them, -1 if it is the share of a mean that is a row's;
    none if parts cannot be averaged to it. The refusal says why it is no loss if its power is not 0.
    """

    power: int | None = 0
    reduced: bool = False  # it is a linear function of what was reduced over rows, not of each row alone
    quotient: bool = False  # of two reductions, which parts may be averaged to once, as in a weighted mean
    refusal: InvalidValue | None = None


def check_loss(source: Source, ranks: int = 1) -> None:
    """Raise InvalidValue unless the loss is means over a batch's rows, and sums and multiples of them.

    The parts are those of ``micro_batch``, or those of several ranks.

    As gradients of parts are averaged, those of a sum would be divided by the number of parts; and each part has a mean
    of its own, which functions of it and of single rows would be given. Of a quotient of two reductions, as in a
    weighted mean, parts are averaged nevertheless. Raise it also for a tape that takes no other number of rows.
    """
    more = _shapes_of_more_rows(source)
    batch = zip(source.inputs, source.batched, strict=True)
    found = {variable.id: _OfRows() for variable, batched in batch if batched}
    for node in source.nodes:
        if node.output.id not in found and (of_rows := _of_rows(node, found, more)):
            found[node.output.id] = of_rows
    loss = found.get(source.outputs[0].id, _OfRows())
    if loss.power != 0 and loss.refusal:
        raise loss.refusal if ranks == 1 else _of_ranks(loss.refusal, ranks)


def _of_ranks(refusal: InvalidValue, ranks: int) -> InvalidValue:
    """Return the same refusal where ranks share out the rows."""
    hint = refusal.hint.replace(_LEAVE_OUT, "train on one process")
    return InvalidValue(refusal.reason.replace(_MICRO_BATCH, f"{ranks} ranks"), operation="compile_step", hint=hint)


def _of_rows(node: Node, found: dict[int, _OfRows], more: Shapes) -> _OfRows | None:
    """Return how a node's output depends on the rows; nothing if it does not."""
    operation = node.operation
    read = [*node.inputs]
    if operation in _OF_ONE_SHAPE:
        del read[1]
    known = [found.get(variable.id) for variable in read]
    if not any(known) and not any(_longer(node.output, more)):
        return None
    if mixed := _mixed_rows(node, read, more):
        return _OfRows(None, refusal=_refusal(node, mixed, _LEAVE_OUT))
    before, reduces = _row_by_row(node, known, more), _reduces_rows(node, more)
    if operation in _SHARES and reduces and before.power is not None:
        refusal = before.refusal if before.power else _refusal(node, "a gradient of a mean over rows", _OF_SUM)
        return before._replace(power=before.power - 1, refusal=refusal)
    if operation in _MEANS and reduces:
        return before._replace(reduced=True)
    if reduces and operation in _SUMS:
        power = None if before.power is None else before.power + 1
        return before._replace(power=power, reduced=True, refusal=_refusal(node, "a sum over rows", _AS_MEAN))
    if reduces:
        return _OfRows(None, refusal=_refusal(node, f"a {operation.name} over rows", _AS_MEAN))
    return before


def _row_by_row(node: Node, known: Sequence[_OfRows | None], more: Shapes) -> _OfRows:
    """Return how what a node makes of each row of its inputs depends on the rows."""
    operation = node.operation
    moving = [one for one in known if one]
    reduced = any(one.reduced for one in moving)
    refusal = next((one.refusal for one in moving if one.power != 0), None)
    refusal = refusal or _refusal(node, f"{operation.name} of a mean over rows", _AS_SUMS)
    quotient = any(one.quotient for one in moving)
    powers = [one.power if one else 0 for one in known]
    numbers = [power for power in powers if power is not None]
    if len(numbers) < len(powers):
        fits, power = False, 0
    elif operation in _LINEAR or operation.name == "concatenate":
        fits, power = len(set(numbers)) == 1, numbers[0]
    elif operation in _QUOTIENTS:
        of_two = all(one and one.reduced and not one.quotient for one in known) and not any(_longer(node.output, more))
        fits, power = not reduced or moving == [known[0]] or of_two, numbers[0] - numbers[1]
        quotient |= of_two
    elif operation.tangents and all(operation.tangents[i] == "linear" for i, one in enumerate(known) if one):
        fits, power = not reduced or len(moving) == 1, sum(numbers)
    else:
        fits, power = not reduced and not any(numbers), 0
    return _OfRows(power, reduced, quotient, refusal) if fits else _OfRows(None, refusal=refusal)


def _refusal(node: Node, what: str, hint: str) -> InvalidValue:
    got = f"the loss contains {what}, %{node.output.id} on the tape, which micro_batch would split"
    return InvalidValue(got, operation="compile_step", hint=hint)


def _reduces_rows(node: Node, more: Shapes) -> bool:
    """Return whether a node makes of the rows what has none, or spreads what such a node made of them."""
    operation, x = node.operation, node.inputs[0]
    if operation in _REDUCTIONS:
        axes = axes_of("sum", node.attributes["axis"], x.shape)
    elif operation in _SHARES:
        x = node.inputs[1]
        axes = axes_of("sum", node.attributes.get("axis"), x.shape)
    elif operation in _PRODUCTS:
        axes = (len(x.shape) - 1,)
    elif operation in _OF_ONE_SHAPE and operation not in _BACK_SUMS:
        return False
    else:
        return any(_longer(x, more)) and not any(_longer(node.output, more))
    return any(_longer(x, more)[axis] for axis in axes)


def _mixed_rows(node: Node, read: Sequence[Variable], more: Shapes) -> str:
    """Return words for what a node makes of several rows: pairs of them, or what it does along them; else none."""
    if sum(_longer(node.output, more)) > 1:
        return "pairs of rows"
    operation, given = node.operation, node.attributes
    x = node.output if operation in _BACK_ALONG else read[0]
    if operation is operations.SLICE:
        along = [span[2] < 0 for span in given["spans"]]
    elif operation is operations.PAD:
        along = [any(widths) for widths in given["widths"]]
    elif operation.name == "concatenate":
        rows = all(any(_longer(one, more)) for one in read)
        along = [axis == given["axis"] and not rows for axis in range(len(x.shape))]
        x = node.output
    elif operation in _ALONG or operation in _BACK_ALONG:
        along = [False] * len(x.shape)
        along[given.get("axis", 0 if operation is operations.EMBEDDING_BAG else -1)] = True
    else:
        return ""
    name = "flip" if operation is operations.SLICE else operation.name
    return f"{name} along the rows" if any(map(and_, along, _longer(x, more))) else ""


def _longer(variable: Variable, more: Shapes) -> list[bool]:
    """Return for each axis whether it is longer for one more row."""
    return [size != now for size, now in zip(variable.shape, more[variable.id], strict=True)]


def _shapes_of_more_rows(source: Source) -> Shapes:
    """Return the shape of each variable for a batch of one more row, or of twice as many where rows form groups."""
    (rows,) = source.batch or (0,)
    try:
        return _shapes_of(source, rows + 1)
    except (TensorError, ValueError, IndexError) as refused:
        try:
            return _shapes_of(source, 2 * rows)
        except (TensorError, ValueError, IndexError):
            why = f" ({refused})" if isinstance(refused, TensorError) else ""
            got = f"a tape for batches of {rows} rows alone{why}"
            raise InvalidValue(got, operation="compile_step", hint=_LEAVE_OUT) from refused


def _shapes_of(source: Source, rows: int) -> Shapes:
    shapes: Shapes = {}
    stretching = Stretching(source.nodes, shapes.__getitem__)
    for variable, batched in zip(source.inputs, source.batched, strict=True):
        shapes[variable.id] = (rows, *variable.shape[1:]) if batched else variable.shape
    for node in source.nodes:
        if node.output.id not in shapes:
            known, attributes = stretching.inputs(node), stretching.attributes(node)
            shapes[node.output.id] = node.operation.shape(*known, **attributes) if known else node.output.shape
    return shapes
