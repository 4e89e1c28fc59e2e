"""From instructions to an executor that runs them: layouts, teams, order, memory, barriers.

All decisions depend only on sizes, the number of threads and ``thresholds``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.threads import get_num_threads
from viva_tensor.program import observation
from viva_tensor.program._calls import Address
from viva_tensor.program._executor import INPUTS_AT_MOST, Executor
from viva_tensor.program.balance import seconds
from viva_tensor.program.emission import Emitter, Holdings, Returned
from viva_tensor.program.instructions import Buffer, Instruction, Shapes, Symbol
from viva_tensor.program.layouts import in_panels
from viva_tensor.program.memory import Arena, Reserve, aligned, laid_out, unshared_size
from viva_tensor.program.passes import loss_with_gradient
from viva_tensor.program.scheduling import Planned, deal, few_barriers
from viva_tensor.program.thresholds import current

Lowered = tuple[list[Instruction], Symbol]
Dealt = tuple[list[Planned], Arena, int]  # in order, their temporaries, and the threads of the widest

MANY_THREADS = 8  # from which the cost of barriers is weighed against the work
RETURNED_BYTES = 16 << 10  # of an output, from which copying it takes longer than a new array in each call
MOST_PLANS = 32  # that a program keeps, for different batch sizes and numbers of threads


@dataclass(eq=False, slots=True)
class Plan:
    """Instructions in order, the offsets of their temporaries, and the executor."""

    planned: list[Planned]
    offsets: dict[Buffer, int]  # of temporaries, in bytes from the start of the arena
    arena: np.ndarray[Any, Any]
    output: Symbol
    dtype: np.dtype[Any]
    threads: int
    executor: Executor
    flops: int  # of one step
    returned: tuple[Symbol, ...] = ()  # parts of the output that each call writes to an array of its own
    cuts: tuple[int, ...] = ()  # numbers of calls of cores after which something else is done

    def array(self, symbol: Symbol) -> Array:
        """Return a temporary where it lies."""
        start = self.offsets[symbol.buffer] + symbol.offset * self.dtype.itemsize
        data = self.arena[start : start + symbol.size * self.dtype.itemsize]
        return data.view(self.dtype).reshape(symbol.shape)


class Plans:
    """The plans of a program, each made once, for the latest batch sizes and numbers of threads.

    ``lower`` returns the instructions and output for the shapes of inputs, ``cut`` the cuts of a plan.
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
        self._reserve = Reserve(current().unshared)

    def at(self, shapes: Shapes, lowered: Lowered | None = None) -> Plan:
        """Return the plan for these shapes and the threads in force; `lowered` is what `lower` returns, if known."""
        threads = get_num_threads()
        found = self._made.pop((shapes, threads), None)
        if found is None:
            instructions, output = lowered or self._lower(shapes)
            found = plan(instructions, output, shapes, self._dtype, threads, self._held, reserve=self._reserve)
            found.cuts = self._cut(found.planned)
            if len(self._made) >= MOST_PLANS:
                del self._made[next(iter(self._made))]  # not used for longest
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
    parts: Sequence[Symbol] = (),
    reserve: Callable[[int], np.ndarray[Any, Any]] = aligned,
) -> Plan:
    """Return the plan of instructions for inputs of these shapes and a number of threads.

    Of the parts of the output, if any are given, large ones are written to arrays that are given to each call.
    """
    most = _useful_threads(instructions, threads)
    observer = observation.observe(instructions, output, dtype)
    if most == 1:
        instructions = loss_with_gradient(instructions, output)
        observer.after("loss_with_gradient", instructions)
    instructions = in_panels(instructions, output, held.layouts, dtype)
    observer.after("in_panels", instructions, held.layouts)
    planned, memory, widest = _fastest(instructions, output, dtype, most)
    observer.after("the plan", [one.instruction for one in planned], held.layouts, memory.offsets)
    arena = reserve(memory.size)
    returned = _returned(parts, dtype)[: INPUTS_AT_MOST - len(shapes)]
    given = (*shapes, *(part.shape for part in returned))
    executor = Executor(dtype.char, widest, threads, given, held.guard, held.rule, len(returned))
    executor.keep(arena)
    emitter = Emitter(
        dtype.itemsize, executor, arena.ctypes.data, memory.offsets, held, Returned(len(shapes), returned)
    )
    _emit(planned, output, emitter)
    flops = sum(one.instruction.flops for one in planned)
    made = Plan(planned, memory.offsets, arena, output, dtype, widest, executor, flops, returned)
    if output.buffer in memory.offsets and not parts:  # and no parameter
        made.array(output)[...] = np.nan  # until a call
    return made


def _fastest(instructions: list[Instruction], output: Symbol, dtype: np.dtype[Any], most: int) -> Dealt:
    """Return the order, memory and threads that are predicted to be fastest: with many threads also halves of them."""
    made = [_dealt(instructions, output, dtype, most)]
    while (widest := made[-1][2]) > MANY_THREADS:
        made.append(_dealt(instructions, output, dtype, widest // 2))
    return made[0] if len(made) == 1 else min(made, key=lambda one: seconds(one[0], one[2]))


def _dealt(instructions: list[Instruction], output: Symbol, dtype: np.dtype[Any], most: int) -> Dealt:
    """Return the order, memory and threads of instructions that may use so many threads."""
    planned = [Planned(one, *one.threads(most, current())) for one in instructions]
    widest = max((one.threads for one in planned), default=1)
    shared = unshared_size(planned, output, dtype.itemsize) > current().unshared
    if widest > 1 and not shared:
        planned = few_barriers(planned)
    memory = laid_out(planned, output, dtype.itemsize, shared)
    if widest > 1:
        deal(planned, memory.offsets, {buffer: memory.bytes_of(buffer) for buffer in memory.offsets}, widest)
    return planned, memory, widest


def _returned(parts: Sequence[Symbol], dtype: np.dtype[Any]) -> tuple[Symbol, ...]:
    """Return the parts of an output that are large, if all of them are parts of one temporary and fill it."""
    whole = bool(parts) and sum(part.size for part in parts) == parts[0].buffer.size
    if not whole or any(part.buffer is not parts[0].buffer or part.buffer.kind != "temporary" for part in parts):
        return ()
    return tuple(part for part in parts if part.size * dtype.itemsize >= RETURNED_BYTES)


def _useful_threads(instructions: Sequence[Instruction], threads: int) -> int:
    """Return the number of threads that pay for a program."""
    work = sum(one.multiply_adds for one in instructions) or sum(one.elements for one in instructions)
    return max(1, min(threads, work // current().program))


def _emit(planned: Sequence[Planned], output: Symbol, emitter: Emitter) -> None:
    pending = False  # a barrier before an instruction that turned out to have no elements
    for one in planned:
        one.barrier |= pending
        before = emitter.executor.calls()
        emitter.emit(one)
        one.calls = emitter.executor.calls() - before
        pending = one.barrier and not one.calls
    where = emitter.address(output) if output.size else None
    emitter.executor.finish(where if isinstance(where, Address) else None)
