"""Passes over instructions, each from a list to a shorter or faster one. None changes a bit of the results."""

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
Maker = TypeVar("Maker", Matmul, Sum, Elementwise)
Pass = Callable[[Instructions, Symbol], Instructions]


def dead(instructions: Instructions, output: Symbol) -> Instructions:
    """Leave out instructions on which neither an update nor the output depends."""
    wanted = {output.buffer}
    kept = []
    for one in reversed(instructions):
        if isinstance(one, Update) or any(symbol.buffer in wanted for symbol in one.results.values()):
            wanted.update(symbol.buffer for symbol in one.operands.values())
            kept.append(one)
    return kept[::-1]


def loss_with_gradient(instructions: Instructions, output: Symbol) -> Instructions:
    """Compute a squared error and its gradient in one pass over predictions and targets."""
    losses: dict[tuple[object, ...], Instruction] = {}
    kept: Instructions = []
    for one in instructions:
        if isinstance(one, SquaredError):
            losses[_identity(one, "pred", "target")] = one
        elif isinstance(one, SquaredErrorBackward):
            loss = losses.pop(_identity(one, "pred", "target"), None)
            if loss is not None and one.operands["grad"].buffer.kind == "constant":
                both = SquaredError(operands=one.operands, results={**loss.results, **one.results})
                kept[kept.index(loss)] = both
                continue
        kept.append(one)
    return kept


def relu_in_product(instructions: Instructions, output: Symbol) -> Instructions:
    """Move relu(a · b + bias) to the write-back. Masks read relu's output instead of its input, with the same zeros."""
    made = _made_by(Matmul, instructions)
    read_by = _readers(instructions)
    kept: Instructions = []
    renamed: dict[Buffer, Buffer] = {}  # from what masks read to what they read now
    for one in instructions:
        if _is_formula(one, "relu"):
            source, out = one.operands["a"], one.results["out"]
            product = made.get(source.buffer)
            if (
                product
                and all(other is one or _masks_by(other, source) for other in read_by[source.buffer])
                and source.buffer is not output.buffer
                and _same_elements(product, source, out)
            ):
                kept[kept.index(product)] = _fused(product, "relu", out.buffer)
                renamed[source.buffer] = out.buffer
                continue
        kept.append(one)
    return [_reading(one, renamed) for one in kept]


def mask_in_product(instructions: Instructions, output: Symbol) -> Instructions:
    """Move the mask of a relu's gradient to the write-back of the product that makes the gradient."""
    made = _made_by(Matmul, instructions)
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
                same = replace(product.results["out"], buffer=mask.buffer)
                kept[kept.index(product)] = _fused(product, "mask", out.buffer, mask=same)
                continue
        kept.append(one)
    return kept


def penalty_in_update(instructions: Instructions, output: Symbol) -> Instructions:
    """Let the update add a multiple of the weights to their gradient, which is that of a penalty on their squares."""
    made = _made_by(Elementwise, instructions)
    read_by = _readers(instructions)
    kept = list(instructions)
    for one in instructions:
        if not isinstance(one, Update):
            continue
        total, w = one.operands["grad"], one.results["w"]
        added = made.get(total.buffer)
        if added is None or added.name != "add" or "b" not in added.operands:  # it may add a gradient to itself
            continue
        if not (_read_once(total, read_by, output) and _same_elements(added, w)):
            continue
        for name, other in (("a", "b"), ("b", "a")):
            gradient, multiple = added.operands[other], added.operands[name]
            penalty = _multiple_of(w, made.get(multiple.buffer))
            if (
                penalty
                and gradient.buffer is not multiple.buffer
                and _same_elements(added, gradient, multiple)
                and _read_once(multiple, read_by, output)
            ):
                kept.remove(added)
                kept.remove(made[multiple.buffer])
                whole = replace(gradient, shape=total.shape, strides=total.strides)
                kept[kept.index(one)] = replace(one, operands={**one.operands, "grad": whole, "penalty": penalty})
                break
    return kept


def _multiple_of(w: Symbol, product: Elementwise | None) -> Symbol | None:
    """Return the number by which a product multiplies weights, if it does."""
    if product is None or product.name != "mul" or "b" not in product.operands or not _same_elements(product, w):
        return None
    a, b = product.operands["a"], product.operands["b"]
    if not (a.buffer is w.buffer and _same_elements(product, a)):
        return None
    number = b.buffer.kind in ("temporary", "constant") and not any(b.strides)
    return Symbol((), (), b.buffer, b.offset) if number else None


def update_in_product(instructions: Instructions, output: Symbol) -> Instructions:
    """Move the update of weights to the write-back of their gradient, after everything else that reads them."""
    return _update_in(Matmul, instructions, output)


def update_in_sum(instructions: Instructions, output: Symbol) -> Instructions:
    """Move the update of a bias to the sum that is its gradient, unless something else reads the bias later."""
    return _update_in(Sum, instructions, output)


def _update_in(kind: type[Maker], instructions: Instructions, output: Symbol) -> Instructions:
    made = _made_by(kind, instructions)
    read_by = _readers(instructions)
    kept = list(instructions)
    for one in instructions:
        if not isinstance(one, Update):
            continue
        grad, w = one.operands["grad"], one.results["w"]
        maker = made.get(grad.buffer)
        if maker is None or maker.fused or (kind is Matmul and maker.results["out"].shape != w.shape):
            continue
        if not (_read_once(grad, read_by, output) and _same_elements(maker, grad, w)):
            continue
        at = kept.index(maker)
        last = max((kept.index(other) for other in read_by[w.buffer] if other not in (one, maker)), default=-1)
        read = {symbol.buffer for symbol in maker.operands.values()}
        passed = kept[at + 1 : last + 1]
        if passed and (kind is Sum or read & _written(passed)):
            continue  # the gradients of a product of two parameters each read what the other updates
        beside = {name: symbol for name, symbol in one.operands.items() if name not in ("grad", "w")}
        if beside and {symbol.buffer for symbol in beside.values()} & _written(kept[max(at, last) + 1 :]):
            continue  # they are made later
        operands, results = {**maker.operands, **beside, "w": w}, {**maker.results, "w": w}
        updating = replace(maker, operands=operands, results=results, fused=("update",), moments=one.moments)
        for buffer in read:
            read_by[buffer] = [updating if other is maker else other for other in read_by[buffer]]
        kept[at] = updating
        kept.remove(one)
        if passed:
            kept.insert(last + 1, updating)
            del kept[at]
    return kept


PASSES: tuple[Pass, ...] = (
    dead,
    relu_in_product,
    mask_in_product,
    penalty_in_update,
    update_in_product,
    update_in_sum,
)


def _written(instructions: Iterable[Instruction]) -> set[Buffer]:
    """Return the buffers that instructions write to."""
    return {symbol.buffer for one in instructions for symbol in one.results.values()}


def _made_by(kind: type[Maker], instructions: Instructions) -> dict[Buffer, Maker]:
    """Return the instructions of one kind, by the buffer of their output."""
    return {one.results["out"].buffer: one for one in instructions if isinstance(one, kind)}


def _is_formula(one: Instruction, name: str) -> bool:
    return isinstance(one, Elementwise) and one.name == name


def _reading(one: Instruction, renamed: Mapping[Buffer, Buffer]) -> Instruction:
    """Return an instruction that reads its second operand from the new buffer if it has been renamed."""
    b = one.operands.get("b")
    if b is None or b.buffer not in renamed:
        return one
    return replace(one, operands={**one.operands, "b": replace(b, buffer=renamed[b.buffer])})


def _fused(product: Matmul, name: str, out: Buffer, **operands: Symbol) -> Matmul:
    """Return a product with something else in its write-back, which goes to another buffer."""
    return replace(
        product,
        operands={**product.operands, **operands},
        results={**product.results, "out": replace(product.results["out"], buffer=out)},
        fused=(*product.fused, name),
    )


def _readers(instructions: Iterable[Instruction]) -> dict[Buffer, list[Instruction]]:
    """Return the instructions that read each buffer."""
    found: dict[Buffer, list[Instruction]] = {}
    for instruction in instructions:
        for buffer in {symbol.buffer for symbol in instruction.operands.values()}:
            found.setdefault(buffer, []).append(instruction)
    return found


def _read_once(symbol: Symbol, read_by: dict[Buffer, list[Instruction]], output: Symbol) -> bool:
    """Return whether exactly one instruction reads a buffer, which is not the output's."""
    return len(read_by[symbol.buffer]) == 1 and symbol.buffer is not output.buffer


def _masks_by(one: Instruction, source: Symbol) -> bool:
    """Return whether it is a gradient of relu that reads from a source only which elements are above 0."""
    return (
        _is_formula(one, "relu_backward")
        and one.operands["b"].buffer is source.buffer
        and one.operands["a"].buffer is not source.buffer
    )


def _same_elements(made: Instruction, *others: Symbol) -> bool:
    """Return whether symbols have a result's elements in their order, contiguous from the start of their buffer."""
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


def _identity(instruction: Instruction, *names: str) -> tuple[object, ...]:
    """Return a key that identifies contiguous operands."""
    operands = [instruction.operands[name] for name in names]
    return tuple((symbol.buffer, symbol.offset, symbol.shape) for symbol in operands)
