"""One block of gradients summed over ranks, at once or in buckets that go out while others are still computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm, Request

# Bytes that a bucket has at least. They take 0.1 ms to 1 ms at the 1 to 10 GB/s of memory and usual networks, many
# times the 1 to 50 µs that any sum takes to begin; larger ones would leave less to compute meanwhile.
BUCKET = 1 << 20


def cut(begins: Sequence[int], size: int, smallest: int) -> list[tuple[int, int]]:
    """Where buckets begin and end, the last arrays first; the last bucket has what lies before the first array too.

    Depends on nothing that may differ between ranks.

    Examples
    --------
    >>> cut([10, 20, 60, 70], 100, smallest=35)
    [(60, 100), (20, 60), (0, 20)]
    """
    buckets = []
    end = size
    for begin in reversed(begins[1:]):
        if end - begin >= smallest:
            buckets.append((begin, end))
            end = begin
    return [*buckets, (0, end)]


class Told(NamedTuple):
    """What a rank tells the others of its step, and, summed, what all of them have told."""

    loss: float  # the mean over its rows, times their number
    rows: float
    failed: float  # how many ranks have
    timed: float  # how many ask for times
    rate: float  # the learning rate, 0 of all ranks but the first


class Header:
    """The first numbers of a block of gradients, summed over the ranks as they are.

    Examples
    --------
    >>> header = Header(np.zeros(Header.SIZE, np.float32))
    >>> header.write(Told(loss=3.0, rows=4, failed=0, timed=1, rate=0.1))
    >>> header.read()
    Told(loss=3.0, rows=4.0, failed=0.0, timed=1.0, rate=0.1)
    """

    SIZE = 7  # the rate takes three, for float32 has not half the digits of float64

    def __init__(self, numbers: np.ndarray[Any, Any]) -> None:
        self._numbers = numbers

    def write(self, told: Told) -> None:
        *counts, rate = told
        parts = []
        for _ in range(3):
            parts.append(float(self._numbers.dtype.type(rate)))
            rate -= parts[-1] if np.isfinite(parts[-1]) else rate
        self._numbers[:] = *counts, *parts

    def read(self) -> Told:
        loss, rows, failed, timed, *parts = map(float, self._numbers)
        return Told(loss, rows, failed, timed, sum(reversed(parts)))


class GradientReducer:
    """The sum over ranks, in place, of memory that holds a header and one gradient after another.

    Every rank starts the same buckets in the same order, whatever becomes of what it wanted to put into them.
    ``bucket`` is the least number of their bytes; 0: all in one, at the end.
    """

    def __init__(
        self, comm: Intracomm, memory: np.ndarray[Any, Any], arrays: Sequence[np.ndarray[Any, Any]], bucket: int
    ) -> None:
        numbers, *gradients = arrays
        self.memory, self.header, self.gradients = memory, Header(numbers), tuple(gradients)
        begins = [(array.ctypes.data - memory.ctypes.data) // memory.itemsize for array in gradients]
        spans = cut(begins, memory.size, max(bucket // memory.itemsize, 1)) if bucket else [(0, memory.size)]
        self._comm = comm
        self._parts = [memory[begin:end] for begin, end in spans]
        self._requests: list[Request] = []
        self.firsts = [begins.index(begin) for begin, _ in spans[:-1]]  # the array that each but the last begins with

    def start(self) -> None:
        """The next bucket goes out, and others go on."""
        from mpi4py import MPI

        self._requests.append(self._comm.Iallreduce(MPI.IN_PLACE, self._parts[len(self._requests)]))
        MPI.Request.Testall(self._requests)

    def start_all_but_last(self) -> None:
        while len(self._requests) < len(self._parts) - 1:
            self.start()

    def finish(self) -> None:
        """All that has not gone out does, and arrives."""
        from mpi4py import MPI

        if len(self._parts) == 1:
            self._comm.Allreduce(MPI.IN_PLACE, self._parts[0])
            return
        self.start_all_but_last()
        self.start()
        MPI.Request.Waitall(self._requests)
        self._requests.clear()
