"""The ranks of a job: this process among them, what they exchange, and how a failure on one of them ends the job."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from viva_tensor.distributed.agreement import fail_together, local_slice, require_equal
from viva_tensor.error import InvalidValue, RankError
from viva_tensor.extras import extra

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

T = TypeVar("T")

# the number of processes in MPICH and its kin, Open MPI and MVAPICH; a task of Slurm has PMIx as well
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
INTERRUPTED = 130  # exit code of a program that SIGINT ended
GRACE = 2.0  # seconds in which rank 0 may print a failure of all ranks, and save what an interruption leaves
FORWARDING = 0.25  # seconds for mpiexec to pass on what a rank printed: MPI_Abort drops what it has not read yet


class Ranks:
    """This process among those of a communicator, or alone.

    Examples
    --------
    >>> alone = Ranks()
    >>> alone.rank, alone.size, alone.local_slice(10), alone.all("a")
    (0, 1, slice(0, 10, None), ['a'])
    """

    def __init__(self, comm: Intracomm | None = None, operation: str = "fit") -> None:
        if not (comm is None or hasattr(comm, "Get_size")):
            hint = "give mpi4py.MPI.COMM_WORLD, or nothing"
            raise InvalidValue(
                f"comm is of type {type(comm).__name__}, wanted a communicator", operation=operation, hint=hint
            )
        self.comm = comm if comm is not None and comm.Get_size() > 1 else None
        self.rank, self.size = (0, 1) if self.comm is None else (self.comm.Get_rank(), self.comm.Get_size())

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and prints."""
        return self.rank == 0

    @property
    def on_one_host(self) -> bool:
        """Whether all ranks can share memory; all ranks ask at once."""
        if self.comm is None:
            return True
        from mpi4py import MPI

        local = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        count = local.Get_size()
        local.Free()
        return bool(count == self.size)

    def local_slice(self, count: int) -> slice:
        """Return this rank's slice of ``count`` items that are divided among the ranks in order."""
        return local_slice(count, self.rank, self.size)

    def all(self, value: T) -> list[T]:
        """Return each rank's value, in the order of the ranks."""
        return [value] if self.comm is None else self.comm.allgather(value)

    def sum(self, *values: float) -> list[float]:
        """Return sums over the ranks, added in the order of the ranks: the same bits on each."""
        return [sum(column) for column in zip(*self.all(values), strict=True)]

    def require_equal(self, operation: str, values: Mapping[str, object]) -> None:
        """Raise RankError on every rank if one of the named values differs between ranks."""
        if self.comm is not None:
            require_equal(self.comm, operation, values)

    def fail_together(self, operation: str) -> AbstractContextManager[None]:
        """Make a block fail on every rank if it fails on one: there with its own error, elsewhere with RankError."""
        return nullcontext() if self.comm is None else fail_together(self.comm, operation)

    def from_first(self, operation: str, function: Callable[[], T]) -> T:
        """Call a function on rank 0 and return its result on every rank; fail on every rank if it fails."""
        made: list[T] = []
        with self.fail_together(operation):
            if self.first:
                made.append(function())
        return made[0] if self.comm is None else self.comm.bcast(made[0] if made else None)


ALONE = Ranks()


def world(environment: Mapping[str, str] | None = None) -> Intracomm | None:
    """Return the communicator of all processes if ``mpiexec``, ``srun`` or the like started several, else None.

    Raises
    ------
    ImportError
        If there are several, and mpi4py is missing.

    Examples
    --------
    >>> world({}) is None
    True
    """
    environment = os.environ if environment is None else environment
    sizes = [environment.get(name, "") for name in SIZES]
    if "PMIX_RANK" in environment:
        sizes.append(environment.get("SLURM_STEP_NUM_TASKS", ""))
    if not any(size.isdecimal() and int(size) > 1 for size in sizes):
        return None
    with extra("mpi"):
        import mpi4py

    if "mpi4py.MPI" not in sys.modules:
        mpi4py.rc.thread_level = "funneled"  # one thread of each process communicates
    with extra("mpi"):
        from mpi4py import MPI
    return MPI.COMM_WORLD if MPI.COMM_WORLD.Get_size() > 1 else None


@contextmanager
def job(comm: Intracomm | None) -> Iterator[None]:
    """End the job on all ranks within seconds of a failure on one of them, with that rank's message.

    If all ranks raise the same, only rank 0 prints it. Without a communicator, exceptions propagate.
    """
    try:
        yield
    except BaseException as error:
        if comm is None:
            raise
        rank, code = comm.Get_rank(), getattr(error, "exit_code", 1)
        causes = error, error.__cause__
        interrupted = code == INTERRUPTED or any(isinstance(one, KeyboardInterrupt) for one in causes)
        if any(isinstance(one, RankError) for one in causes):
            time.sleep(GRACE)  # for the rank that has the reason
        elif rank:
            time.sleep(GRACE if interrupted else GRACE / 2)  # for rank 0
        try:
            if hasattr(error, "show"):  # click's, in one line
                error.show()
            elif not interrupted:
                traceback.print_exception(error)
            print(f"rank {rank} of {comm.Get_size()} ends the job", file=sys.stderr, flush=True)
            print(end="", flush=True)
            time.sleep(FORWARDING)
        finally:  # also if nobody reads any more, or on another interruption
            comm.Abort(code)
