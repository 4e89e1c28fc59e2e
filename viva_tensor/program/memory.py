"""The arena of a program: an offset for each temporary, shared by those that are never needed at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from viva_tensor.program.emission import sums_in_registers
from viva_tensor.program.instructions import Buffer, Instruction, Symbol
from viva_tensor.program.scheduling import Planned

ALIGNMENT = 64


def aligned(size: int) -> np.ndarray[Any, Any]:
    """Return zeroed bytes that begin on a cache line."""
    if size > sys.maxsize - ALIGNMENT:
        raise MemoryError(f"a program that needs {size} bytes")
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


class Reserve:
    """Memory that plans share which never run at once: they lie in one arena, with a quarter to grow.

    The first ones have their own, zeroed, up to `own` bytes in all.

    Examples
    --------
    >>> reserve = Reserve(own=100)
    >>> own, first, second = reserve(60), reserve(1000), reserve(60)
    >>> own.ctypes.data == second.ctypes.data, first.ctypes.data == second.ctypes.data, second.nbytes
    (False, True, 60)
    """

    def __init__(self, own: int) -> None:
        self._left, self._arena = own, aligned(0)

    def __call__(self, size: int) -> np.ndarray[Any, Any]:
        """Return memory that begins on a cache line; what it holds may change between calls of a plan."""
        if size <= self._left:
            self._left -= size
            return aligned(size)
        if self._arena.nbytes < size:
            self._arena = aligned(size + size // 4)
        return self._arena[:size]


def temporaries(instruction: Instruction) -> Iterator[Buffer]:
    """Yield the temporaries that an instruction writes to memory."""
    if not sums_in_registers(instruction):
        yield from (symbol.buffer for symbol in instruction.results.values() if symbol.buffer.kind == "temporary")


class Arena:
    """Offsets of temporaries in bytes; a buffer takes the smallest gap that fits, or is appended.

    Examples
    --------
    >>> arena, a, b, c = Arena(4), Buffer("temporary", 20), Buffer("temporary", 5), Buffer("temporary", 1)
    >>> arena.take(a), arena.take(b), arena.give_back(a), arena.take(c)
    (0, 128, None, 0)
    >>> arena.size
    192
    """

    def __init__(self, itemsize: int) -> None:
        self.offsets: dict[Buffer, int] = {}
        self.size = 0
        self._itemsize = itemsize
        self._gaps: list[tuple[int, int]] = []  # (bytes, offset)

    def bytes_of(self, buffer: Buffer) -> int:
        """Return the bytes that a buffer takes: whole cache lines."""
        return max(-(-buffer.size * self._itemsize // ALIGNMENT), 1) * ALIGNMENT

    def take(self, buffer: Buffer) -> int:
        """Give a buffer memory; return its offset."""
        size = self.bytes_of(buffer)
        gap = min((gap for gap in self._gaps if gap[0] >= size), default=None)
        if gap is None:
            return self.append(buffer)
        length, offset = gap
        self._gaps.remove(gap)
        if length > size:
            self._gaps.append((length - size, offset + size))
        self.offsets[buffer] = offset
        return offset

    def append(self, buffer: Buffer) -> int:
        """Give a buffer memory at the end that no other has had; return its offset."""
        offset = self.offsets[buffer] = self.size
        self.size += self.bytes_of(buffer)
        return offset

    def give_back(self, buffer: Buffer) -> None:
        """Make a gap of a buffer's memory, joined with the gaps beside it."""
        start = self.offsets[buffer]
        end = start + self.bytes_of(buffer)
        apart = []
        for length, offset in self._gaps:
            if offset + length == start:
                start = offset
            elif offset == end:
                end = offset + length
            else:
                apart.append((length, offset))
        self._gaps = [*apart, (end - start, start)]


def unshared_size(planned: Sequence[Planned], output: Symbol, itemsize: int) -> int:
    """Return the bytes of all temporaries if none shares memory."""
    buffers = {buffer for one in planned for buffer in temporaries(one.instruction)}
    buffers.update(_read(planned, output))
    return sum(map(Arena(itemsize).bytes_of, buffers))


def laid_out(planned: Sequence[Planned], output: Symbol, itemsize: int, share: bool) -> Arena:
    """Return an arena with an offset for each temporary; with ``share``, memory is reused after its last use."""
    last = {symbol.buffer: i for i, one in enumerate(planned) for symbol in one.instruction.symbols}
    last[output.buffer] = len(planned)
    arena = Arena(itemsize)
    for i, one in enumerate(planned):
        for buffer in temporaries(one.instruction):
            if buffer not in arena.offsets:
                arena.take(buffer)
        for buffer in {symbol.buffer for symbol in one.instruction.symbols} if share else ():
            if last[buffer] == i and buffer in arena.offsets:
                arena.give_back(buffer)
    for buffer in _read(planned, output):  # what has no elements is read though nothing wrote it
        if buffer not in arena.offsets:
            arena.append(buffer)
    return arena


def _read(planned: Sequence[Planned], output: Symbol) -> list[Buffer]:
    """Return the temporaries that an instruction reads, and the output's."""
    symbols = [symbol for one in planned for symbol in one.instruction.operands.values()]
    return [symbol.buffer for symbol in (*symbols, output) if symbol.buffer.kind == "temporary"]
