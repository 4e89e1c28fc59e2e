"""One block of gradients summed over ranks, at once or in buckets that go out while others are still computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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


class Buckets:
    """The sum over ranks, in place, of memory that holds arrays one after another.

    Every rank starts the same buckets in the same order, whatever becomes of what it wanted to put into them.
    """

    def __init__(
        self, comm: Intracomm, memory: np.ndarray[Any, Any], arrays: Sequence[np.ndarray[Any, Any]], smallest: int
    ) -> None:
        begins = [(array.ctypes.data - memory.ctypes.data) // memory.itemsize for array in arrays]
        spans = cut(begins, memory.size, max(smallest // memory.itemsize, 1)) if smallest else [(0, memory.size)]
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
