"""The order of instructions, the thread of each that takes only one, and where all threads wait for each other.

The threads of one instruction write disjoint parts of its results, and read nothing that it writes except their own
part. So threads can conflict only across instructions, and a barrier stands before an instruction that reads or
overwrites what another thread has written since the last barrier, or overwrites what another thread has read. Memory
counts: temporaries at the same offset are one. No barrier is needed between two instructions of the same single
thread, or if each thread reads only the rows that it has written itself.

What no instruction lists has one owner: workspaces belong to a thread, moments to the update of their parameter;
addresses of inputs, seeds and the learning rate are set before the region. The executor adds two barriers: before
partial sums are joined, and after a batch is gathered. `tests/stress/barriers.py` leaves each one out in turn.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import chain

from viva_tensor.program.instructions import Buffer, Instruction, Symbol

Sharing = Callable[[Buffer], Iterable[Buffer]]  # the buffers that share memory with one, itself included


@dataclass(eq=False, slots=True)
class Planned:
    """An instruction in the order of a plan, with its threads."""

    instruction: Instruction
    threads: int
    by_rows: bool  # each thread owns rows of the output, and reads only those rows of the row operands
    first: int = 0  # number of its first thread
    barrier: bool = False  # before it
    calls: int = 0  # of cores; one more joins partial sums
    path: str = ""  # of a product


class _Since:
    """The instructions since the last barrier, by what they read and write."""

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing
        self._read: dict[Buffer, list[tuple[Planned, Symbol]]] = {}
        self._written: dict[Buffer, list[tuple[Planned, Symbol]]] = {}

    def add(self, one: Planned) -> None:
        for symbol in one.instruction.operands.values():
            self._read.setdefault(symbol.buffer, []).append((one, symbol))
        for symbol in one.instruction.results.values():
            self._written.setdefault(symbol.buffer, []).append((one, symbol))

    def conflict(self, one: Planned, first: int) -> bool:
        """Return whether an instruction, its threads counted from `first`, must wait for another thread."""

        def meet(before: Planned, theirs: Symbol, own: Symbol) -> bool:
            alone = before.threads == one.threads == 1 and before.first == first
            return not (alone or _disjoint(theirs, own))

        for name, symbol in one.instruction.operands.items():
            for buffer in self._sharing(symbol.buffer):
                for before, written in self._written.get(buffer, ()):
                    if meet(before, written, symbol) and not _reads_local_rows(before, one, written, name, symbol):
                        return True
        for symbol in one.instruction.results.values():
            for buffer in self._sharing(symbol.buffer):
                for before, other in chain(self._written.get(buffer, ()), self._read.get(buffer, ())):
                    if meet(before, other, symbol):
                        return True
        return False


def _disjoint(one: Symbol, other: Symbol) -> bool:
    """Return whether two symbols of a buffer lie one after the other in it."""
    if one.buffer is not other.buffer or one.down or one.across or other.down or other.across:
        return False
    (first, last), (start, end) = _extent(one), _extent(other)
    return last < start or end < first


def _extent(symbol: Symbol) -> tuple[int, int]:
    """Return the places of the first and the last element of a symbol in its buffer."""
    first = last = symbol.offset
    for size, stride in zip(symbol.shape, symbol.strides, strict=True):
        reach = (size - 1) * stride
        first, last = first + min(reach, 0), last + max(reach, 0)
    return first, last


def _reads_local_rows(before: Planned, after: Planned, written: Symbol, name: str, read: Symbol) -> bool:
    """Return whether each thread of `after` reads only the rows that it has written itself."""
    return (
        before.by_rows
        and after.by_rows
        and before.threads == after.threads
        and name in after.instruction.row_operands
        and written.buffer is read.buffer
        and written.shape[:1] == read.shape[:1] == after.instruction.results["out"].shape[:1]
        and (written.strides, written.down, written.across) == (read.strides, read.down, read.across)
    )


def few_barriers(planned: list[Planned]) -> list[Planned]:
    """Return an order with the same results, in which instructions that need no barrier come before those that do."""
    sorter = TopologicalSorter(_dependences(planned))
    sorter.prepare()
    ready: list[int] = []
    blocked = list(sorter.get_ready())
    order: list[Planned] = []
    while ready or blocked:
        if not ready:
            ready, blocked = blocked, []
            heapq.heapify(ready)
            since = _Since(lambda buffer: (buffer,))
        i = heapq.heappop(ready)
        one = planned[i]
        if since.conflict(one, one.first):
            blocked.append(i)
            continue
        since.add(one)
        order.append(one)
        sorter.done(i)
        for after in sorter.get_ready():
            heapq.heappush(ready, after)
    return order


def _dependences(planned: list[Planned]) -> dict[int, set[int]]:
    """Return the indices of the instructions that each must follow."""
    writer: dict[Buffer, int] = {}
    readers: dict[Buffer, list[int]] = {}
    follows: dict[int, set[int]] = {}
    for i, one in enumerate(planned):
        read = {symbol.buffer for symbol in one.instruction.operands.values()}
        written = {symbol.buffer for symbol in one.instruction.results.values()}
        follows[i] = {writer[buffer] for buffer in read | written if buffer in writer}
        follows[i].update(reader for buffer in written for reader in readers.pop(buffer, ()))
        writer.update(dict.fromkeys(written, i))
        for buffer in read - written:
            readers.setdefault(buffer, []).append(i)
    return follows


def deal(planned: list[Planned], offsets: Mapping[Buffer, int], sizes: Mapping[Buffer, int], threads: int) -> None:
    """Deal instructions for one thread to the one with the least to do, and put barriers where data crosses threads.

    ``offsets`` and ``sizes`` of buffers are in bytes; a buffer without an offset shares memory with no other.
    """
    sharing = _sharing(offsets, sizes)
    since = _Since(sharing)
    load = [0.0] * threads
    for one in planned:
        if one.threads == 1:
            by_load = sorted(range(threads), key=load.__getitem__)
            one.first = next((first for first in by_load if not since.conflict(one, first)), by_load[0])
        if since.conflict(one, one.first):
            one.barrier = True
            since = _Since(sharing)
        since.add(one)
        share = effort(one.instruction) / one.threads
        for thread in range(one.first, one.first + one.threads):
            load[thread] += share


def _sharing(offsets: Mapping[Buffer, int], sizes: Mapping[Buffer, int]) -> Sharing:
    in_order = sorted(offsets, key=offsets.__getitem__)
    starts = [offsets[buffer] for buffer in in_order]
    longest = max((sizes[buffer] for buffer in in_order), default=0)
    known: dict[Buffer, list[Buffer]] = {}

    def sharing(buffer: Buffer) -> Iterable[Buffer]:
        if buffer not in offsets:
            return (buffer,)
        if buffer not in known:
            start, end = offsets[buffer], offsets[buffer] + sizes[buffer]
            near = in_order[bisect_left(starts, start - longest) : bisect_left(starts, end)]
            known[buffer] = [other for other in near if offsets[other] + sizes[other] > start]
        return known[buffer]

    return sharing


def effort(instruction: Instruction) -> float:
    """Return about how many vectors are moved, or multiplied and added."""
    return (instruction.multiply_adds + 4 * instruction.elements) / 16
