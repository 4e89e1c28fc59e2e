"""The ranks that train together: which there are, what they share, and how one that fails ends the job."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from viva_tensor.distributed.agreement import agree, part, raise_on_all
from viva_tensor.error import InvalidValue, RankError
from viva_tensor.extras import extra

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

T = TypeVar("T")

# how many processes a launcher has started: MPICH and its kin, Open MPI, MVAPICH; a task of Slurm has PMIx as well
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
INTERRUPTED = 130  # exit code of a program that SIGINT ended
GRACE = 2.0  # seconds in which rank 0 may say what has failed on all ranks, and save what an interruption leaves


class Ranks:
    """This process among those of a communicator, or alone.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm, optional

    Examples
    --------
    >>> alone = Ranks()
    >>> alone.rank, alone.size, alone.part(10), alone.all("a")
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
        """Whether this is the rank that writes files and speaks."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """The own ones of so many things."""
        return part(count, self.rank, self.size)

    def all(self, value: T) -> list[T]:
        """Return what each rank gives, in the order of the ranks."""
        return [value] if self.comm is None else self.comm.allgather(value)

    def sum(self, *values: float) -> list[float]:
        """Of what the ranks give, in the order of the ranks: the same bits on each."""
        return [sum(column) for column in zip(*self.all(values), strict=True)]

    def agree(self, operation: str, facts: Mapping[str, object]) -> None:
        """Raise RankError on every rank if they do not hold the same facts."""
        if self.comm is not None:
            agree(self.comm, operation, dict(facts))

    def from_first(self, operation: str, function: Callable[[], T]) -> T:
        """Return what a function gives on rank 0; what it raises there ends the others too."""
        made: list[T] = []
        with self.together(operation):
            if self.first:
                made.append(function())
        return made[0] if self.comm is None else self.comm.bcast(made[0] if made else None)

    @contextmanager
    def together(self, operation: str) -> Iterator[None]:
        """Raise what fails inside on one rank there, and RankError where nothing failed."""
        if self.comm is None:
            yield
            return
        failure: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failure = error
        raise_on_all(self.comm, operation, failure)


ALONE = Ranks()


def world(environment: Mapping[str, str] = os.environ) -> Intracomm | None:
    """The communicator of all processes if a launcher such as ``mpiexec`` or ``srun`` started several, else None.

    Raises
    ------
    ImportError
        If there are several, and mpi4py is missing.

    Examples
    --------
    >>> world({}) is None
    True
    """
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
    """End the job on all ranks within seconds of a failure inside on one, with that rank's message.

    What all raise alike is said by rank 0 alone. Without a communicator, exceptions go their way.
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
            time.sleep(GRACE if interrupted else GRACE / 4)  # for rank 0
        if hasattr(error, "show"):  # click's, in one line
            error.show()
        elif not interrupted:
            traceback.print_exception(error)
        print(f"rank {rank} of {comm.Get_size()} ends the job", file=sys.stderr, flush=True)
        comm.Abort(code)
