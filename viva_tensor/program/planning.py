"""Teams and memory: from instructions to an executor that runs them.

Everything is decided from sizes, the number of threads and ``thresholds`` alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from viva_tensor.kernels._updates import Rule
from viva_tensor.program._executor import DEPTH_BLOCK, Address, Executor, Guard, InputOffset
from viva_tensor.program.instructions import Buffer, Instruction, Symbol
from viva_tensor.program.layouts import Panels, in_panels
from viva_tensor.program.passes import loss_with_gradient
from viva_tensor.program.scheduling import Planned, deal, few_barriers
from viva_tensor.program.thresholds import current
from viva_tensor.program.verification import Verifier

__all__ = ["Plan", "plan"]

MOST_PLANS = 16  # batch sizes and numbers of threads for which a program keeps its plan
ALIGNMENT = 64

Place = Address | InputOffset
Strided = tuple[Place, int, int, int, int]


@dataclass(eq=False, slots=True)
class Plan:
    """Instructions in order, where their buffers lie, and the executor."""

    planned: list[Planned]
    places: dict[Buffer, int]  # of temporaries, in bytes from the start of the arena
    arena: np.ndarray[Any, Any]
    members: int
    executor: Executor
    flops: int  # of one step
    cuts: tuple[int, ...] = ()  # after how many calls of cores something else is done in between


@dataclass(frozen=True, slots=True)
class _Memory:
    """Where symbols lie."""

    itemsize: int
    executor: Executor
    parameters: Sequence[np.ndarray[Any, Any]]
    arena: int  # its address
    places: Mapping[Buffer, int]

    def place(self, symbol: Symbol) -> Place:
        """Where a symbol is read."""
        if symbol.buffer.kind == "input":
            return InputOffset(symbol.buffer.index, symbol.offset * self.itemsize)
        return self.address(symbol)

    def address(self, symbol: Symbol) -> Address:
        """Where a symbol is written, which is in no input."""
        buffer = symbol.buffer
        if buffer.kind == "parameter":
            start = self.parameters[buffer.index].ctypes.data
        elif buffer.array is not None:
            self.executor.keep(buffer.array)
            start = buffer.array.ctypes.data
        else:
            start = self.arena + self.places[buffer]
        return Address(start + symbol.offset * self.itemsize)


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
    planned = [Planned(one, *_team(one, threads)) for one in instructions]
    temporaries = [buffer for one in planned for buffer in _temporaries(one.instruction)]
    share = sum(_bytes(buffer, dtype) for buffer in temporaries) > current().unshared
    members = max((one.members for one in planned), default=1)
    if members > 1 and not share:
        planned = few_barriers(planned)
    places, total = _places(planned, output, dtype, share)
    verifier.after("the plan", [one.instruction for one in planned], layouts, places)
    arena = aligned(total)
    if members > 1:
        deal(planned, places, {buffer: _bytes(buffer, dtype) for buffer in places}, members)
    executor = Executor(dtype.char, members, allowed, inputs, guard, rule)
    executor.keep(arena)
    memory = _Memory(dtype.itemsize, executor, parameters, arena.ctypes.data, places)
    owed = False  # a barrier before what turned out to have no elements
    for one in planned:
        one.barrier |= owed
        before = executor.calls()
        _emit(memory, one, moments or {}, seeds)
        one.calls = executor.calls() - before
        owed = one.barrier and not one.calls
    executor.finish(memory.address(output) if output.size else None)
    return Plan(planned, places, arena, members, executor, sum(one.instruction.flops for one in planned))


def aligned(size: int) -> np.ndarray[Any, Any]:
    """Zeroed bytes that begin on a cache line."""
    if size > sys.maxsize - ALIGNMENT:
        raise MemoryError(f"a program that needs {size} bytes")
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def _team(instruction: Instruction, threads: int) -> tuple[int, bool]:
    """Members, and whether they own rows."""
    limits = current()
    if instruction.kind in ("to_panels", "squared_error_backward", "rows", "dropout") or instruction.attributes.get(
        "aligned"
    ):
        rows = instruction.results["out"].shape[0] if instruction.results["out"].shape else 1
        return (threads, True) if rows >= 8 * threads else (1, False)
    if instruction.kind == "clip":
        return 1, False
    if instruction.kind != "matmul":
        return max(1, min(threads, instruction.elements // limits.elements)), False
    rows, columns = instruction.results["out"].shape
    a, b = instruction.operands["a"], instruction.operands["b"]
    in_place = b.strides[1] == 1 and b.across > 0
    if (
        "update" not in instruction.attributes["fused"]
        and not (a.down or instruction.results["out"].down)  # else rows lie in panels, which shares of them would cut
        and a.shape[1] * columns <= (limits.own_rows if in_place else limits.packed_twice)
        and rows >= 8 * threads
    ):
        return threads, True
    return max(1, min(threads, instruction.multiply_adds // limits.product)), False


def _temporaries(instruction: Instruction) -> list[Buffer]:
    """Buffers that it writes and that need a place; the sums of a short product that only updates stay in registers."""
    if "update" in instruction.attributes.get("fused", ()) and (
        instruction.kind == "sum" or instruction.operands["a"].shape[1] <= DEPTH_BLOCK
    ):
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


def _emit(
    memory: _Memory,
    one: Planned,
    moments: Mapping[str, Sequence[np.ndarray[Any, Any]]],
    seeds: np.ndarray[Any, Any] | None,
) -> None:
    """Hand an instruction to the executor."""
    executor, place, address = memory.executor, memory.place, memory.address
    instruction = one.instruction
    operands, results, attributes = instruction.operands, instruction.results, instruction.attributes
    team = one.first, one.members, one.barrier

    def matrix(symbol: Symbol) -> Strided:
        row, column = symbol.strides
        return place(symbol), row, column, symbol.down, symbol.across

    def update(w: Symbol, grad: Symbol | None = None) -> None:
        scale = operands.get("scale")
        first, second = (
            moments[slot][w.buffer.index].ctypes.data if slot in moments else 0 for slot in ("first", "second")
        )
        executor.update(
            None if grad is None else place(grad),
            None if scale is None else place(scale),
            address(w),
            w.size,
            first,
            second,
            team,
        )

    if instruction.kind == "matmul":
        out = results["out"]
        fused = attributes["fused"]
        bias = operands.get("bias")
        if "update" in fused:
            w = results["w"]
            out = w if not _temporaries(instruction) else replace(w, buffer=out.buffer)
            update(w)
        rows, columns = out.shape
        executor.matmul(
            (rows, columns, operands["a"].shape[1]),
            matrix(operands["a"]),
            matrix(operands["b"]),
            matrix(out),
            None if bias is None else (place(bias), 0, bias.strides[0], 0, 0),
            "relu" in fused,
            matrix(operands["mask"]) if "mask" in operands else None,
            "update" in fused,
            bool(out.down or out.across) and (bias is None or bias.buffer.kind != "input"),
            one.by_rows,
            team,
        )
    elif instruction.kind in ("elementwise", "rows"):
        a = matrix(operands["a"])
        executor.pairs(
            attributes["name"],
            operands["a"].shape,
            a,
            matrix(operands["b"]) if "b" in operands else a,
            matrix(results["out"]),
            attributes["factor"],
            one.by_rows or bool(results["out"].across),  # panels are read row by row by one member too
            team,
        )
    elif instruction.kind == "sum":
        updates = "w" in results
        if updates:
            update(results["w"])
        total = None if updates else address(results["out"])
        executor.sum(attributes["sizes"], place(operands["x"]), total, attributes["divisor"], updates, team)
    elif instruction.kind == "dropout":
        assert seeds is not None
        seed = seeds.ctypes.data + attributes["place"] * seeds.itemsize
        executor.dropout(
            results["out"].shape, place(operands["x"]), address(results["out"]), attributes["rate"], seed, team
        )
    elif instruction.kind == "to_panels":
        executor.to_panels(results["out"].shape, matrix(operands["x"]), address(results["out"]), team)
    elif instruction.kind in ("squared_error", "squared_error_backward"):
        shape = operands["pred"].shape
        executor.squared_error(
            shape[0] if shape and shape[0] else 1,
            operands["pred"].size,
            place(operands["pred"]),
            place(operands["target"]),
            address(results["loss"]) if "loss" in results else None,
            address(results["out"]) if "out" in results else None,
            place(operands["grad"]) if "grad" in operands else None,
            team,
        )
    elif instruction.kind == "squared_norm":
        executor.squared_norm(operands["grad"].size, place(operands["grad"]), address(results["out"]), team)
    elif instruction.kind == "clip":
        places, chunks = map(place, operands.values()), tuple(symbol.size for symbol in operands.values())
        executor.clip(list(places), chunks, attributes["max_norm"], address(results["out"]), team)
    else:
        update(results["w"], operands["grad"])
