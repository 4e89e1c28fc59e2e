"""A step up to its gradients, for callers that change them before the update."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from viva_tensor.program.builder import Builder
from viva_tensor.program.instructions import Clip, Instruction, Matmul, Update
from viva_tensor.program.layouts import Panels, of_parameters
from viva_tensor.program.passes import PASSES, penalty_in_update, update_in_product, update_in_sum
from viva_tensor.program.scheduling import Planned

SEPARATE = tuple(improve for improve in PASSES if improve not in (penalty_in_update, update_in_product, update_in_sum))


def gradients(instructions: Sequence[Instruction], params: int, dtype: np.dtype[Any]) -> list[Instruction]:
    """Return the instructions that compute the gradients, without the updates.

    The gradient of parameter i becomes parameter ``params + i``, an array of the caller's; a gradient that is not a
    whole temporary is copied into it.
    """
    clipped = {symbol.buffer for one in instructions if isinstance(one, Clip) for symbol in one.operands.values()}
    kept = [
        one
        for one in instructions
        if not isinstance(one, (Update, Clip)) and clipped.isdisjoint(to.buffer for to in one.results.values())
    ]
    made = {symbol.buffer for one in kept for symbol in one.results.values()}
    for one in instructions:
        if isinstance(one, Update):
            grad, index = one.operands["grad"], one.results["w"].buffer.index
            if not (grad.buffer in made and grad.buffer.kind == "temporary" and grad.size == grad.buffer.size):
                build = Builder(dtype)
                writers = (i for i, one in enumerate(kept) if grad.buffer in [to.buffer for to in one.results.values()])
                after = 1 + max(writers, default=-1)  # as soon as possible, since its sum waits for it
                grad = build.scaled(grad, 1.0, grad.shape)
                kept[after:after] = build.instructions
            grad.buffer.kind, grad.buffer.index, grad.buffer.name = "parameter", params + index, f"g{index}"
    return kept


def layouts_with_gradients(instructions: list[Instruction], params: int, dtype: np.dtype[Any]) -> dict[int, Panels]:
    """Return the layouts of parameters whose gradient is made by a product, and then has the same layout."""
    made = {one.results["out"].buffer.index for one in instructions if isinstance(one, Matmul)}
    chosen = of_parameters(instructions, dtype)
    return {index: panels for index, panels in chosen.items() if index < params and params + index in made}


def complete(planned: Iterable[Planned], params: int, firsts: Sequence[int]) -> tuple[int, ...]:
    """Return after how many calls the gradients from each of `firsts` on are complete: parameters from `params` on."""
    calls = 0
    last: dict[int, int] = {}
    for one in planned:
        calls += one.calls
        for symbol in one.instruction.results.values():
            if symbol.buffer.kind == "parameter":
                last[symbol.buffer.index - params] = calls
    return tuple(max((at for index, at in last.items() if index >= first), default=0) for first in firsts)
