"""From instructions to an executor that runs them: layouts, teams, order, memory, barriers.

Everything is decided from sizes, the number of threads and ``thresholds`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from viva_tensor.kernels.threads import get_num_threads
from viva_tensor.program import observation
from viva_tensor.program._executor import Executor
from viva_tensor.program.emission import Emitter, Holdings
from viva_tensor.program.instructions import Buffer, Instruction, Shapes, Symbol
from viva_tensor.program.layouts import in_panels
from viva_tensor.program.memory import aligned, laid_out
from viva_tensor.program.passes import loss_with_gradient
from viva_tensor.program.scheduling import Planned, deal, few_barriers
from viva_tensor.program.thresholds import current

Lowered = tuple[list[Instruction], Symbol]

MOST_PLANS = 16  # batch sizes and numbers of threads for which a program keeps its plan


@dataclass(eq=False, slots=True)
class Plan:
    """Instructions in order, where their buffers lie, and the executor."""

    planned: list[Planned]
    offsets: dict[Buffer, int]  # of temporaries, in bytes from the start of the arena
    arena: np.ndarray[Any, Any]
    threads: int
    executor: Executor
    flops: int  # of one step
    cuts: tuple[int, ...] = ()  # after how many calls of cores something else is done in between


class Plans:
    """The plans of a program, each made once, for the latest batch sizes and numbers of threads.

    ``lower`` gives instructions and output for the shapes of inputs, ``cut`` where calls stop for something else.
    """

    def __init__(
        self,
        lower: Callable[[Shapes], Lowered],
        dtype: np.dtype[Any],
        held: Holdings,
        cut: Callable[[list[Planned]], tuple[int, ...]] = lambda planned: (),
    ) -> None:
        self._lower, self._dtype, self._held, self._cut = lower, dtype, held, cut
        self._made: dict[tuple[Shapes, int], Plan] = {}

    def at(self, shapes: Shapes, lowered: Lowered | None = None) -> Plan:
        """Return the plan for these shapes and the threads in force; `lowered` is what they give, if known."""
        threads = get_num_threads()
        found = self._made.get((shapes, threads))
        if found is None:
            instructions, output = lowered or self._lower(shapes)
            found = plan(instructions, output, shapes, self._dtype, threads, self._held)
            found.cuts = self._cut(found.planned)
            if len(self._made) >= MOST_PLANS:
                self._made.pop(next(iter(self._made)))
            self._made[shapes, threads] = found
        self.current, self.shapes = found, shapes
        return found


def plan(
    instructions: list[Instruction],
    output: Symbol,
    shapes: Shapes,
    dtype: np.dtype[Any],
    threads: int,
    held: Holdings,
) -> Plan:
    """Plan instructions for inputs of these shapes and a number of threads."""
    most = _worth(instructions, threads)
    observer = observation.observe(instructions, output, dtype)
    if most == 1:
        instructions = loss_with_gradient(instructions, output)
        observer.after("loss_with_gradient", instructions)
    instructions = in_panels(instructions, output, held.layouts, dtype)
    observer.after("in_panels", instructions, held.layouts)
    planned = [Planned(one, *one.threads(most, current())) for one in instructions]
    widest = max((one.threads for one in planned), default=1)
    shared = laid_out(planned, output, dtype.itemsize, share=False).size > current().unshared
    if widest > 1 and not shared:
        planned = few_barriers(planned)
    memory = laid_out(planned, output, dtype.itemsize, shared)
    observer.after("the plan", [one.instruction for one in planned], held.layouts, memory.offsets)
    if widest > 1:
        deal(planned, memory.offsets, {buffer: memory.bytes_of(buffer) for buffer in memory.offsets}, widest)
    arena = aligned(memory.size)
    executor = Executor(dtype.char, widest, threads, shapes, held.guard, held.rule)
    executor.keep(arena)
    _emit(planned, output, Emitter(dtype.itemsize, executor, arena.ctypes.data, memory.offsets, held))
    return Plan(planned, memory.offsets, arena, widest, executor, sum(one.instruction.flops for one in planned))


def _worth(instructions: Sequence[Instruction], threads: int) -> int:
    """Return how many threads a program is worth."""
    work = sum(one.multiply_adds for one in instructions) or sum(one.elements for one in instructions)
    return max(1, min(threads, work // current().program))


def _emit(planned: Sequence[Planned], output: Symbol, emitter: Emitter) -> None:
    owed = False  # a barrier before what turned out to have no elements
    for one in planned:
        one.barrier |= owed
        before = emitter.executor.calls()
        emitter.emit(one)
        one.calls = emitter.executor.calls() - before
        owed = one.barrier and not one.calls
    emitter.executor.finish(emitter.address(output) if output.size else None)
