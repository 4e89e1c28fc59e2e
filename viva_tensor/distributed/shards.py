"""Each rank's shard of memory that has the same layout on all of them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm
from viva_tensor.kernels.arrays import Array


class Shard:
    """One rank's part of a block of ``size`` elements: 1/N with N ranks, in whole units.

    Examples
    --------
    >>> class Second:
    ...     rank, size = 1, 3
    >>> shard = Shard(Second(), 96, unit=16)
    >>> shard.begin, shard.end
    (32, 64)
    >>> shard.span(begin=10, size=30)  # those of the 30 elements from 10 on that are in the shard
    slice(22, 30, None)
    """

    def __init__(self, comm: Intracomm, size: int, unit: int) -> None:
        ends = [0, *((size // unit * rank // comm.size) * unit for rank in range(1, comm.size)), size]
        self._comm = comm
        self._begins = ends[:-1]
        self._counts = [end - begin for begin, end in pairwise(ends)]
        self.begin, self.end = ends[comm.rank : comm.rank + 2]

    def span(self, begin: int, size: int) -> slice:
        """Return which elements of an array that begins there are in this rank's shard."""
        start = max(self.begin - begin, 0)
        return slice(start, max(min(self.end - begin, size), start))

    def gather(self, block: Array) -> None:
        """Complete a block on every rank from the shards of all of them."""
        from mpi4py import MPI

        self._comm.Allgatherv(MPI.IN_PLACE, [block, (self._counts, self._begins)])
