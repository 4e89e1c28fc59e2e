"""In which order instructions run, which threads do what one can do alone, and where all wait for each other.

Threads of one instruction write parts of its results that have nothing in common, and read nothing that it writes but
their own part. So two threads can meet in memory only across instructions, and a barrier stands before the one that
reads or overwrites what another thread wrote since the last barrier, or overwrites what another thread read. It is
memory that counts: temporaries that share a place are one. No barrier is needed where both instructions have the same
single thread, or where each thread reads the rows that it wrote itself.

What no instruction lists has its owner: workspaces belong to a thread, moments to the one update of their parameter;
addresses of inputs, seeds and the rate are set before the region. The executor adds two barriers: before partial sums
are joined, and behind the rows that a batch is gathered from. `tests/stress/barriers.py`
leaves each one out in turn.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from viva_tensor.program.instructions import Buffer, Instruction, Symbol

Sharing = Callable[[Buffer], Iterable[Buffer]]  # the buffers that share memory with one, itself included


@dataclass(eq=False, slots=True)
class Planned:
    """An instruction in its place."""

    instruction: Instruction
    threads: int
    by_rows: bool  # each thread owns rows of the output, and needs only those rows of the first operand
    first: int = 0  # number of the first of its threads; those of an instruction for one thread take turns
    barrier: bool = False  # before it
    calls: int = 0  # of cores: partial sums are joined by one more
    path: str = ""  # of a product: how it is made


class _Since:
    """The instructions since the last barrier, by what they read and write."""

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing
        self._read: dict[Buffer, list[Planned]] = {}
        self._written: dict[Buffer, list[tuple[Planned, Symbol]]] = {}

    def add(self, one: Planned) -> None:
        for symbol in one.instruction.operands.values():
            self._read.setdefault(symbol.buffer, []).append(one)
        for symbol in one.instruction.results.values():
            self._written.setdefault(symbol.buffer, []).append((one, symbol))

    def hold_up(self, one: Planned, first: int) -> bool:
        """Return whether an instruction, its threads counted from `first`, must wait for another thread's work."""

        def apart(before: Planned) -> bool:
            return not (before.threads == one.threads == 1 and before.first == first)

        for name, symbol in one.instruction.operands.items():
            for buffer in self._sharing(symbol.buffer):
                for before, written in self._written.get(buffer, ()):
                    if apart(before) and not _own_rows(before, one, written, name, symbol):
                        return True
        for symbol in one.instruction.results.values():
            for buffer in self._sharing(symbol.buffer):
                if any(apart(before) for before, _ in self._written.get(buffer, ())):
                    return True
                if any(apart(before) for before in self._read.get(buffer, ())):
                    return True
        return False


def _own_rows(before: Planned, after: Planned, written: Symbol, name: str, read: Symbol) -> bool:
    """Return whether each thread of `after` reads only the rows that it has written itself."""
    return (
        before.by_rows
        and after.by_rows
        and before.threads == after.threads
        and name in after.instruction.own_rows
        and written.buffer is read.buffer
        and written.shape[:1] == read.shape[:1] == after.instruction.results["out"].shape[:1]
        and (written.strides, written.down, written.across) == (read.strides, read.down, read.across)
    )


def few_barriers(planned: list[Planned]) -> list[Planned]:
    """Another order with the same results: what needs no barrier comes before what does."""
    waits, waiting = _dependences(planned)
    ready = [i for i, before in enumerate(waits) if not before]
    blocked: list[int] = []
    order: list[Planned] = []
    since = _Since(lambda buffer: (buffer,))
    while ready or blocked:
        if not ready:
            ready, blocked = blocked, []
            heapq.heapify(ready)
            since = _Since(lambda buffer: (buffer,))
        i = heapq.heappop(ready)
        one = planned[i]
        if since.hold_up(one, one.first):
            blocked.append(i)
            continue
        since.add(one)
        order.append(one)
        for after in waiting[i]:
            waits[after].discard(i)
            if not waits[after]:
                heapq.heappush(ready, after)
    return order


def _dependences(planned: list[Planned]) -> tuple[list[set[int]], list[list[int]]]:
    """For each instruction, which ones it must follow, and which ones must follow it."""
    writer: dict[Buffer, int] = {}
    readers: dict[Buffer, list[int]] = {}
    waits: list[set[int]] = []
    waiting: list[list[int]] = [[] for _ in planned]
    for i, one in enumerate(planned):
        read = {symbol.buffer for symbol in one.instruction.operands.values()}
        written = {symbol.buffer for symbol in one.instruction.results.values()}
        before = {writer[buffer] for buffer in read | written if buffer in writer}
        before.update(reader for buffer in written for reader in readers.pop(buffer, ()))
        waits.append(before)
        for earlier in before:
            waiting[earlier].append(i)
        for buffer in written:
            writer[buffer] = i
        for buffer in read - written:
            readers.setdefault(buffer, []).append(i)
    return waits, waiting


def deal(planned: list[Planned], places: Mapping[Buffer, int], sizes: Mapping[Buffer, int], threads: int) -> None:
    """Deal out what takes one thread to the one with the least to do, and put barriers where data crosses threads.

    ``places`` and ``sizes`` of buffers are in bytes; those without a place share memory with no other.
    """
    sharing = _sharing(places, sizes)
    since = _Since(sharing)
    load = [0.0] * threads
    for one in planned:
        if one.threads == 1:
            by_load = sorted(range(threads), key=load.__getitem__)
            one.first = next((first for first in by_load if not since.hold_up(one, first)), by_load[0])
        if since.hold_up(one, one.first):
            one.barrier = True
            since = _Since(sharing)
        since.add(one)
        effort = _effort(one.instruction) / one.threads
        for thread in range(one.first, one.first + one.threads):
            load[thread] += effort


def _sharing(places: Mapping[Buffer, int], sizes: Mapping[Buffer, int]) -> Sharing:
    in_order = sorted(places, key=places.__getitem__)
    starts = [places[buffer] for buffer in in_order]
    longest = max((sizes[buffer] for buffer in in_order), default=0)
    known: dict[Buffer, list[Buffer]] = {}

    def sharing(buffer: Buffer) -> Iterable[Buffer]:
        if buffer not in places:
            return (buffer,)
        if buffer not in known:
            start, end = places[buffer], places[buffer] + sizes[buffer]
            near = in_order[bisect_left(starts, start - longest) : bisect_left(starts, end)]
            known[buffer] = [other for other in near if places[other] + sizes[other] > start]
        return known[buffer]

    return sharing


def _effort(instruction: Instruction) -> float:
    """About how many vectors move or are multiplied and added."""
    return (instruction.multiply_adds + 4 * instruction.elements) / 16
