"""Teams and memory: from instructions to an executor that runs them.

Everything is decided from sizes, the number of threads and ``thresholds`` alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from viva_tensor.kernels._updates import Rule
from viva_tensor.program._executor import Executor, Guard
from viva_tensor.program.emission import Emitter, sums_in_registers
from viva_tensor.program.instructions import Buffer, Instruction, Symbol
from viva_tensor.program.layouts import Panels, in_panels
from viva_tensor.program.passes import loss_with_gradient
from viva_tensor.program.scheduling import Planned, deal, few_barriers
from viva_tensor.program.thresholds import current
from viva_tensor.program.verification import Verifier

__all__ = ["Plan", "plan"]

MOST_PLANS = 16  # batch sizes and numbers of threads for which a program keeps its plan
ALIGNMENT = 64


@dataclass(eq=False, slots=True)
class Plan:
    """Instructions in order, where their buffers lie, and the executor."""

    planned: list[Planned]
    places: dict[Buffer, int]  # of temporaries, in bytes from the start of the arena
    arena: np.ndarray[Any, Any]
    threads: int
    executor: Executor
    flops: int  # of one step
    cuts: tuple[int, ...] = ()  # after how many calls of cores something else is done in between


def plan(
    instructions: list[Instruction],
    output: Symbol,
    parameters: Sequence[np.ndarray[Any, Any]],
    inputs: tuple[tuple[int, ...], ...],
    dtype: np.dtype[Any],
    threads: int,
    rule: Rule | None = None,
    moments: Mapping[str, Sequence[np.ndarray[Any, Any]]] | None = None,
    layouts: Mapping[int, Panels] | None = None,
    guard: Guard | None = None,
    seeds: np.ndarray[Any, Any] | None = None,
) -> Plan:
    """Plan instructions for a number of threads.

    ``rule`` is the optimiser, whose ``moments`` are the arrays for each of its slots; ``layouts`` tells which
    parameters, with their moments, lie in panels; ``seeds`` hold one number for each dropout.
    """
    allowed = threads
    work = sum(one.multiply_adds for one in instructions) or sum(one.elements for one in instructions)
    threads = max(1, min(threads, work // current().program))
    verifier = Verifier.of(instructions, output, dtype)
    if threads == 1:
        instructions = loss_with_gradient(instructions, output)
        verifier.after("loss_with_gradient", instructions)
    instructions = in_panels(instructions, output, layouts or {}, dtype)
    verifier.after("in_panels", instructions, layouts)
    planned = [Planned(one, *one.threads(threads, current())) for one in instructions]
    temporaries = [buffer for one in planned for buffer in _temporaries(one.instruction)]
    share = sum(_bytes(buffer, dtype) for buffer in temporaries) > current().unshared
    widest = max((one.threads for one in planned), default=1)
    if widest > 1 and not share:
        planned = few_barriers(planned)
    places, total = _places(planned, output, dtype, share)
    verifier.after("the plan", [one.instruction for one in planned], layouts, places)
    arena = aligned(total)
    if widest > 1:
        deal(planned, places, {buffer: _bytes(buffer, dtype) for buffer in places}, widest)
    executor = Executor(dtype.char, widest, allowed, inputs, guard, rule)
    executor.keep(arena)
    emitter = Emitter(dtype.itemsize, executor, parameters, arena.ctypes.data, places, moments or {}, seeds)
    owed = False  # a barrier before what turned out to have no elements
    for one in planned:
        one.barrier |= owed
        before = executor.calls()
        emitter.emit(one)
        one.calls = executor.calls() - before
        owed = one.barrier and not one.calls
    executor.finish(emitter.address(output) if output.size else None)
    return Plan(planned, places, arena, widest, executor, sum(one.instruction.flops for one in planned))


def aligned(size: int) -> np.ndarray[Any, Any]:
    """Zeroed bytes that begin on a cache line."""
    if size > sys.maxsize - ALIGNMENT:
        raise MemoryError(f"a program that needs {size} bytes")
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def _temporaries(instruction: Instruction) -> list[Buffer]:
    """Buffers that it writes and that need a place."""
    if sums_in_registers(instruction):
        return []
    return [symbol.buffer for symbol in instruction.results.values() if symbol.buffer.kind == "temporary"]


def _bytes(buffer: Buffer, dtype: np.dtype[Any]) -> int:
    return max(-(-buffer.size * dtype.itemsize // ALIGNMENT), 1) * ALIGNMENT


def _places(planned: list[Planned], output: Symbol, dtype: np.dtype[Any], share: bool) -> tuple[dict[Buffer, int], int]:
    """A place for each temporary. Those never needed at once may share it, the smallest gap that fits first."""
    last: dict[Buffer, int] = {}
    for i, one in enumerate(planned):
        for symbol in one.instruction.symbols:
            last[symbol.buffer] = i
    last[output.buffer] = len(planned)
    places: dict[Buffer, int] = {}
    gaps: list[tuple[int, int]] = []  # (bytes, start)
    total = 0
    for i, one in enumerate(planned):
        for buffer in _temporaries(one.instruction):
            if buffer in places:
                continue
            size = _bytes(buffer, dtype)
            fitting = min((gap for gap in gaps if gap[0] >= size), default=None)
            if fitting is None:
                places[buffer] = total
                total += size
            else:
                gaps.remove(fitting)
                places[buffer] = fitting[1]
                if fitting[0] > size:
                    gaps.append((fitting[0] - size, fitting[1] + size))
        if share:
            for buffer in {symbol.buffer for symbol in one.instruction.symbols}:
                if buffer in places and last[buffer] == i:
                    gaps = _with_gap(gaps, places[buffer], _bytes(buffer, dtype))
    read = [symbol for one in planned for symbol in one.instruction.operands.values()]
    for symbol in (*read, output):  # what has no elements is read though nothing wrote it
        if symbol.buffer.kind == "temporary" and symbol.buffer not in places:
            places[symbol.buffer] = total
            total += _bytes(symbol.buffer, dtype)
    return places, total


def _with_gap(gaps: list[tuple[int, int]], start: int, size: int) -> list[tuple[int, int]]:
    """Gaps and one more, joined with its neighbours."""
    end = start + size
    apart = []
    for length, at in gaps:
        if at + length == start:
            start = at
        elif at == end:
            end = at + length
        else:
            apart.append((length, at))
    return [*apart, (end - start, start)]
