"""One block of gradients summed over ranks: all at once, or in buckets that are sent while others are computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm, Request

# The least bytes of a bucket. They take 0.1 ms to 1 ms at the 1 to 10 GB/s of memory and usual networks, many times the
# 1 to 50 µs that any sum takes to begin; larger buckets would leave less to compute meanwhile.
BUCKET = 1 << 20
HEADER_SIZE = 10  # numbers; rate and decay take three each, for float32 has not half the digits of float64


def cut(begins: Sequence[int], size: int, smallest: int) -> list[tuple[int, int]]:
    """Return where buckets begin and end, the last arrays first; the last bucket also holds all before the first array.

    The result depends on nothing that may differ between ranks.

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


class Header(NamedTuple):
    """A rank's record of its step, in the first numbers of a block of gradients; summed, the record of all ranks.

    Examples
    --------
    >>> numbers = np.zeros(HEADER_SIZE, np.float32)
    >>> Header(loss=3.0, rows=4, failed=0, timed=1, rate=0.1, decay=0.01).write(numbers)
    >>> Header.read(numbers)
    Header(loss=3.0, rows=4.0, failed=0.0, timed=1.0, rate=0.1, decay=0.01)
    """

    loss: float  # the mean over its rows, times their number
    rows: float
    failed: float  # how many ranks have failed
    timed: float  # how many ask for times
    rate: float  # the learning rate on rank 0, and 0 on all others
    decay: float  # the weight decay, likewise

    def write(self, numbers: np.ndarray[Any, Any]) -> None:
        """Write the record into its numbers."""
        *counts, rate, decay = self
        parts = []
        for rest in (rate, decay):
            for _ in range(3):
                parts.append(float(numbers.dtype.type(rest)))
                rest -= parts[-1] if np.isfinite(parts[-1]) else rest
        numbers[:] = *counts, *parts

    @classmethod
    def read(cls, numbers: np.ndarray[Any, Any]) -> Header:
        """Return the record in these numbers."""
        loss, rows, failed, timed, *parts = map(float, numbers)
        return cls(loss, rows, failed, timed, sum(reversed(parts[:3])), sum(reversed(parts[3:])))


class GradientReducer:
    """The sum over ranks, in place, of memory that holds a header and one gradient after another.

    Every rank starts the same buckets in the same order, whether it could fill them or not. ``bucket`` is the least
    number of bytes in a bucket; 0 makes one bucket of all.
    """

    def __init__(
        self, comm: Intracomm, memory: np.ndarray[Any, Any], arrays: Sequence[np.ndarray[Any, Any]], bucket: int
    ) -> None:
        self.memory = memory
        self.header, *self.gradients = arrays
        begins = [(array.ctypes.data - memory.ctypes.data) // memory.itemsize for array in self.gradients]
        spans = cut(begins, memory.size, max(bucket // memory.itemsize, 1)) if bucket else [(0, memory.size)]
        self._comm = comm
        self._buckets = [memory[begin:end] for begin, end in spans]
        self._requests: list[Request] = []
        self.firsts = [begins.index(begin) for begin, _ in spans[:-1]]  # the first array of each bucket but the last

    def start(self) -> None:
        """Start the sum of the next bucket, and let those under way progress."""
        from mpi4py import MPI

        self._requests.append(self._comm.Iallreduce(MPI.IN_PLACE, self._buckets[len(self._requests)]))
        MPI.Request.Testall(self._requests)

    def start_all_but_last(self) -> None:
        """Start the sums of all buckets but the last that have not been started."""
        while len(self._requests) < len(self._buckets) - 1:
            self.start()

    def finish(self) -> None:
        """Start all remaining sums, and wait for all of them."""
        from mpi4py import MPI

        if len(self._buckets) == 1:
            self._comm.Allreduce(MPI.IN_PLACE, self._buckets[0])
            return
        self.start_all_but_last()
        self.start()
        MPI.Request.Waitall(self._requests)
        self._requests.clear()
