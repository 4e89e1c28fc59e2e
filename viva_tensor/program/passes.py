"""Passes over instructions, each from a list to a shorter or better one. None of them changes a bit of the results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from viva_tensor.program.instructions import (
    Buffer,
    Elementwise,
    Instruction,
    Matmul,
    SquaredError,
    SquaredErrorBackward,
    Sum,
    Symbol,
    Update,
)

Instructions = list[Instruction]
Updating = TypeVar("Updating", Matmul, Sum)
Pass = Callable[[Instructions, Symbol], Instructions]


def dead(instructions: Instructions, output: Symbol) -> Instructions:
    """Leave out what nobody reads: neither an update nor the output depends on it."""
    wanted = {output.buffer}
    kept = []
    for one in reversed(instructions):
        if isinstance(one, Update) or any(symbol.buffer in wanted for symbol in one.results.values()):
            wanted.update(symbol.buffer for symbol in one.operands.values())
            kept.append(one)
    return kept[::-1]


def loss_with_gradient(instructions: Instructions, output: Symbol) -> Instructions:
    """Make a squared error and its gradient one pass over predictions and targets."""
    losses: dict[tuple[object, ...], Instruction] = {}
    kept: Instructions = []
    for one in instructions:
        if isinstance(one, SquaredError):
            losses[_slots(one, "pred", "target")] = one
        elif isinstance(one, SquaredErrorBackward):
            loss = losses.pop(_slots(one, "pred", "target"), None)
            if loss is not None and one.operands["grad"].buffer.kind == "constant":
                both = SquaredError(operands=one.operands, results={**loss.results, **one.results})
                kept[kept.index(loss)] = both
                continue
        kept.append(one)
    return kept


def relu_in_product(instructions: Instructions, output: Symbol) -> Instructions:
    """Move relu(a · b + bias) to the write-back. Masks read relu's output instead of its input, with the same zeros."""
    made = _products(instructions)
    read_by = _readers(instructions)
    kept: Instructions = []
    renamed: dict[Buffer, Buffer] = {}  # what masks read, and read now
    for one in instructions:
        source = one.operands.get("a")
        if _is_formula(one, "relu") and source is not None and source.buffer in made:
            product, out = made[source.buffer], one.results["out"]
            readers = [other for other in read_by[source.buffer] if other is not one]
            if (
                all(_masks_by(other, source) for other in readers)
                and source.buffer is not output.buffer
                and _same_elements(product, source, out)
            ):
                made_out = replace(product.results["out"], buffer=out.buffer)
                kept[kept.index(product)] = replace(
                    product, results={**product.results, "out": made_out}, fused=(*product.fused, "relu")
                )
                renamed[source.buffer] = out.buffer
                continue
        kept.append(one)
    return [_reading(one, renamed) for one in kept]


def mask_in_product(instructions: Instructions, output: Symbol) -> Instructions:
    """Move the mask of a relu's gradient to the write-back of the product that makes the gradient."""
    made = _products(instructions)
    read_by = _readers(instructions)
    kept: Instructions = []
    for one in instructions:
        if _is_formula(one, "relu_backward"):
            grad, mask, out = one.operands["a"], one.operands["b"], one.results["out"]
            product = made.get(grad.buffer)
            if (
                product
                and _read_once(grad, read_by, output)
                and not product.fused
                and _same_elements(product, grad, mask, out)
            ):
                made_out = product.results["out"]
                kept[kept.index(product)] = replace(
                    product,
                    operands={**product.operands, "mask": replace(made_out, buffer=mask.buffer)},
                    results={**product.results, "out": replace(made_out, buffer=out.buffer)},
                    fused=("mask",),
                )
                continue
        kept.append(one)
    return kept


def update_in_product(instructions: Instructions, output: Symbol) -> Instructions:
    """Move the update of weights to the write-back of their gradient, after everything else that reads them."""
    made = _products(instructions)
    read_by = _readers(instructions)
    kept = list(instructions)
    for one in instructions:
        if not isinstance(one, Update):
            continue
        grad, w = one.operands["grad"], one.results["w"]
        product = made.get(grad.buffer)
        if product is None or product.fused or product.results["out"].shape != w.shape:
            continue
        if not (_read_once(grad, read_by, output) and _same_elements(product, grad)):
            continue
        at = kept.index(product)
        readers = [other for other in read_by[w.buffer] if other not in (one, product)]
        last = max(map(kept.index, readers), default=-1)
        read = {symbol.buffer for symbol in product.operands.values()}
        if any(symbol.buffer in read for other in kept[at + 1 : last + 1] for symbol in other.results.values()):
            continue  # the gradients of a product of two parameters each read what the other updates
        updating = _updating(product, one)
        _follow(read_by, product, updating)
        kept[at] = updating
        kept.remove(one)
        if last > at:
            kept.insert(last + 1, updating)
            del kept[at]
    return kept


def update_in_sum(instructions: Instructions, output: Symbol) -> Instructions:
    """Move the update of a bias to the sum that is its gradient."""
    made = {one.results["out"].buffer: one for one in instructions if isinstance(one, Sum)}
    read_by = _readers(instructions)
    kept = list(instructions)
    for one in instructions:
        if not isinstance(one, Update):
            continue
        grad, w = one.operands["grad"], one.results["w"]
        total = made.get(grad.buffer)
        if not (total and _read_once(grad, read_by, output) and _same_elements(total, grad, w)):
            continue
        at = kept.index(total)
        if any(kept.index(other) > at for other in read_by[w.buffer] if other is not one):
            continue
        updating = _updating(total, one)
        _follow(read_by, total, updating)
        kept[at] = updating
        kept.remove(one)
    return kept


PASSES: tuple[Pass, ...] = (
    dead,
    relu_in_product,
    mask_in_product,
    update_in_product,
    update_in_sum,
)


def _products(instructions: Instructions) -> dict[Buffer, Matmul]:
    """The products, by the buffer of what they make."""
    return {one.results["out"].buffer: one for one in instructions if isinstance(one, Matmul)}


def _is_formula(one: Instruction, name: str) -> bool:
    return isinstance(one, Elementwise) and one.name == name


def _reading(one: Instruction, renamed: Mapping[Buffer, Buffer]) -> Instruction:
    """An instruction whose second operand is read from another buffer where that has been renamed."""
    b = one.operands.get("b")
    if b is None or b.buffer not in renamed:
        return one
    return replace(one, operands={**one.operands, "b": replace(b, buffer=renamed[b.buffer])})


def _updating(one: Updating, update: Update) -> Updating:
    """An instruction that makes a gradient, with the update that reads it."""
    w = {"w": update.results["w"]}
    return replace(
        one, operands={**one.operands, **w}, results={**one.results, **w}, fused=("update",), moments=update.moments
    )


def _follow(read_by: dict[Buffer, list[Instruction]], old: Instruction, new: Instruction) -> None:
    """Let what a list says of an instruction hold for the one in its place."""
    for buffer in {symbol.buffer for symbol in old.operands.values()}:
        read_by[buffer] = [new if one is old else one for one in read_by[buffer]]


def _readers(instructions: Iterable[Instruction]) -> dict[Buffer, list[Instruction]]:
    """The instructions that read each buffer."""
    found: dict[Buffer, list[Instruction]] = {}
    for instruction in instructions:
        for buffer in {symbol.buffer for symbol in instruction.operands.values()}:
            found.setdefault(buffer, []).append(instruction)
    return found


def _read_once(symbol: Symbol, read_by: dict[Buffer, list[Instruction]], output: Symbol) -> bool:
    """Return whether one instruction alone reads a buffer, and nobody afterwards."""
    return len(read_by[symbol.buffer]) == 1 and symbol.buffer is not output.buffer


def _masks_by(one: Instruction, source: Symbol) -> bool:
    """Return whether it is a gradient of relu that reads nothing of a source but which elements are above 0."""
    a, b = one.operands.get("a"), one.operands.get("b")
    return (
        _is_formula(one, "relu_backward")
        and a is not None
        and b is not None
        and b.buffer is source.buffer
        and a.buffer is not source.buffer
    )


def _same_elements(made: Instruction, *others: Symbol) -> bool:
    """Return whether symbols have a result's elements in their order, adjacent from the beginning of their buffer."""
    size = made.results["out"].size
    return all(
        other.size == size
        and other.offset == 0
        and (
            size == 1
            or other.contiguous
            or (other.shape[:-1] == (1,) * (len(other.shape) - 1) and other.strides[-1] == 1)
        )
        for other in others
    )


def _slots(instruction: Instruction, *names: str) -> tuple[object, ...]:
    """Return what tells contiguous operands from all others."""
    operands = [instruction.operands[name] for name in names]
    return tuple((symbol.buffer, symbol.offset, symbol.shape) for symbol in operands)
