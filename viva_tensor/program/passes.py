"""Passes over instructions, each from a list to a shorter or better one. None of them changes a bit of the results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from viva_tensor.program.instructions import Buffer, Instruction, Symbol

__all__ = [
    "PASSES",
    "Pass",
    "dead",
    "loss_with_gradient",
    "mask_in_product",
    "relu_in_product",
    "update_in_product",
    "update_in_sum",
]

Instructions = list[Instruction]
Pass = Callable[[Instructions, Symbol], Instructions]


def dead(instructions: Instructions, output: Symbol) -> Instructions:
    """Leave out what nobody reads: neither an update nor the output depends on it."""
    wanted = {output.buffer}
    kept = []
    for instruction in reversed(instructions):
        if instruction.kind == "update" or any(symbol.buffer in wanted for symbol in instruction.results.values()):
            wanted.update(symbol.buffer for symbol in instruction.operands.values())
            kept.append(instruction)
    return kept[::-1]


def loss_with_gradient(instructions: Instructions, output: Symbol) -> Instructions:
    """A squared error and its gradient become one pass over predictions and targets."""
    losses: dict[tuple[object, ...], Instruction] = {}
    kept: Instructions = []
    for instruction in instructions:
        if instruction.kind == "squared_error":
            losses[_places(instruction, "pred", "target")] = instruction
        elif instruction.kind == "squared_error_backward":
            loss = losses.pop(_places(instruction, "pred", "target"), None)
            if loss is not None and instruction.operands["grad"].buffer.kind == "constant":
                kept[kept.index(loss)] = Instruction(
                    "squared_error", dict(instruction.operands), {**loss.results, **instruction.results}
                )
                continue
        kept.append(instruction)
    return kept


def relu_in_product(instructions: Instructions, output: Symbol) -> Instructions:
    """relu(a · b + bias) in the write-back. A mask reads relu's output instead of its input, with the same zeros."""
    made = {instruction.results["out"].buffer: instruction for instruction in instructions if _product(instruction)}
    read_by = _readers(instructions)
    kept = []
    for instruction in instructions:
        source = _only(instruction, "a")
        if instruction.attributes.get("name") == "relu" and source is not None and source.buffer in made:
            product, out = made[source.buffer], instruction.results["out"]
            readers = [one for one in read_by[source.buffer] if one is not instruction]
            masks = [one for one in readers if one.attributes.get("name") == "relu_backward" and _as_mask(one, source)]
            if (
                len(masks) == len(readers)
                and source.buffer is not output.buffer
                and _same_elements(product, source, out)
            ):
                product.results["out"] = replace(product.results["out"], buffer=out.buffer)
                product.attributes["fused"] = [*product.attributes["fused"], "relu"]
                for mask in masks:
                    mask.operands["b"] = replace(mask.operands["b"], buffer=out.buffer)
                continue
        kept.append(instruction)
    return kept


def mask_in_product(instructions: Instructions, output: Symbol) -> Instructions:
    """The mask of a relu's gradient in the write-back of the product that makes the gradient."""
    made = {instruction.results["out"].buffer: instruction for instruction in instructions if _product(instruction)}
    read_by = _readers(instructions)
    kept = []
    for instruction in instructions:
        if instruction.attributes.get("name") == "relu_backward":
            grad, mask, out = instruction.operands["a"], instruction.operands["b"], instruction.results["out"]
            product = made.get(grad.buffer)
            if (
                product
                and _read_once(grad, read_by, output)
                and not product.attributes["fused"]
                and _same_elements(product, grad, mask, out)
            ):
                made_out = product.results["out"]
                product.operands["mask"] = replace(made_out, buffer=mask.buffer)
                product.results["out"] = replace(made_out, buffer=out.buffer)
                product.attributes["fused"] = ["mask"]
                continue
        kept.append(instruction)
    return kept


def update_in_product(instructions: Instructions, output: Symbol) -> Instructions:
    """The update of weights in the write-back of their gradient, after everything else that reads them."""
    made = {instruction.results["out"].buffer: instruction for instruction in instructions if _product(instruction)}
    read_by = _readers(instructions)
    kept = list(instructions)
    for instruction in instructions:
        if instruction.kind != "update":
            continue
        grad, w = instruction.operands["grad"], instruction.results["w"]
        product = made.get(grad.buffer)
        if product is None or product.attributes["fused"] or product.results["out"].shape != w.shape:
            continue
        if not (_read_once(grad, read_by, output) and _same_elements(product, grad)):
            continue
        place = kept.index(product)
        last = max((kept.index(one) for one in read_by[w.buffer] if one not in (instruction, product)), default=-1)
        read = {symbol.buffer for symbol in product.operands.values()}
        if any(symbol.buffer in read for one in kept[place + 1 : last + 1] for symbol in one.results.values()):
            continue  # the gradients of a product of two parameters each read what the other updates
        product.operands["w"] = product.results["w"] = w
        product.attributes |= {"fused": ["update"], "moments": instruction.attributes.get("moments", 0)}
        kept.remove(instruction)
        if last > place:
            kept.insert(last + 1, product)
            kept.remove(product)
    return kept


def update_in_sum(instructions: Instructions, output: Symbol) -> Instructions:
    """The update of a bias in the sum that is its gradient."""
    made = {one.results["out"].buffer: one for one in instructions if one.kind == "sum"}
    read_by = _readers(instructions)
    kept: Instructions = list(instructions)
    for instruction in instructions:
        if instruction.kind != "update":
            continue
        grad, w = instruction.operands["grad"], instruction.results["w"]
        total = made.get(grad.buffer)
        if not (total and _read_once(grad, read_by, output) and _same_elements(total, grad, w)):
            continue
        if any(kept.index(one) > kept.index(total) for one in read_by[w.buffer] if one is not instruction):
            continue
        total.operands["w"] = total.results["w"] = w
        total.attributes |= {"fused": ["update"], "moments": instruction.attributes.get("moments", 0)}
        kept.remove(instruction)
    return kept


PASSES: tuple[Pass, ...] = (
    dead,
    relu_in_product,
    mask_in_product,
    update_in_product,
    update_in_sum,
)


def _product(instruction: Instruction) -> bool:
    return instruction.kind == "matmul"


def _only(instruction: Instruction, name: str) -> Symbol | None:
    return instruction.operands.get(name) if len(instruction.operands) == 1 else None


def _readers(instructions: Instructions) -> dict[Buffer, list[Instruction]]:
    """The instructions that read each buffer."""
    found: dict[Buffer, list[Instruction]] = {}
    for instruction in instructions:
        for buffer in {symbol.buffer for symbol in instruction.operands.values()}:
            found.setdefault(buffer, []).append(instruction)
    return found


def _read_once(symbol: Symbol, read_by: dict[Buffer, list[Instruction]], output: Symbol) -> bool:
    """Whether one instruction alone reads a buffer, and nobody afterwards."""
    return len(read_by[symbol.buffer]) == 1 and symbol.buffer is not output.buffer


def _as_mask(instruction: Instruction, source: Symbol) -> bool:
    return instruction.operands["b"].buffer is source.buffer and instruction.operands["a"].buffer is not source.buffer


def _same_elements(made: Instruction, *others: Symbol) -> bool:
    """Whether symbols have the elements of a result in their order, all adjacent from the beginning of their buffer."""
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


def _places(instruction: Instruction, *names: str) -> tuple[object, ...]:
    """What tells contiguous operands from all others."""
    operands = [instruction.operands[name] for name in names]
    return tuple((symbol.buffer, symbol.offset, symbol.shape) for symbol in operands)
