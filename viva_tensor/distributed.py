"""The ranks that train together: which there are, what they share, and how one that fails ends the job.

All communication is that of mpi4py. Without a communicator there is one rank, and every function does the obvious.
"""

from __future__ import annotations

import os
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from viva_tensor.error import RankError
from viva_tensor.extras import extra
from viva_tensor.kernels import threads
from viva_tensor.program.agreement import agree, part, settle

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

__all__ = [
    "ALONE",
    "Place",
    "Ranks",
    "binding",
    "complaints",
    "job",
    "own_threads",
    "places",
    "warn_of_places",
    "world",
]

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

    def __init__(self, comm: Intracomm | None = None) -> None:
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
        """What each rank gives, in the order of the ranks."""
        return [value] if self.comm is None else self.comm.allgather(value)

    def sum(self, *values: float) -> list[float]:
        """Of what the ranks give, in the order of the ranks: the same bits on each."""
        return [sum(column) for column in zip(*self.all(values), strict=True)]

    def agree(self, operation: str, facts: Mapping[str, object]) -> None:
        """Raise RankError on every rank if they do not hold the same facts."""
        if self.comm is not None:
            agree(self.comm, operation, dict(facts))

    def from_first(self, operation: str, function: Callable[[], T]) -> T:
        """What a function gives on rank 0; what it raises there ends the others too."""
        made: list[T] = []
        with self.together(operation):
            if self.first:
                made.append(function())
        return made[0] if self.comm is None else self.comm.bcast(made[0] if made else None)

    @contextmanager
    def together(self, operation: str) -> Iterator[None]:
        """What fails inside on one rank is raised there, and as RankError on those where nothing failed."""
        if self.comm is None:
            yield
            return
        failure: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failure = error
        settle(self.comm, operation, failure)


ALONE = Ranks()


class Place(NamedTuple):
    """Where a rank runs."""

    host: str
    processors: frozenset[int]  # those that it may run on
    there: int  # processors that the host has
    threads: int


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
    """What fails inside on one rank ends the job on all within seconds, with that rank's message.

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


def own_threads(ranks: Ranks) -> int:
    """Threads for this rank: its share of the processors that it may run on, unless ``OMP_NUM_THREADS`` tells.

    Examples
    --------
    >>> own_threads(Ranks()) == threads.get_num_threads()
    True
    """
    allowed = threads.get_num_threads()
    where = places(ranks, allowed)
    own = where[ranks.rank]
    sharing = sum(one.host == own.host and bool(one.processors & own.processors) for one in where)
    return allowed if "OMP_NUM_THREADS" in os.environ else max(1, allowed // sharing)


def places(ranks: Ranks, own: int) -> list[Place]:
    """Where each rank runs, and with how many threads: this one with its own number."""
    there = os.cpu_count() or 1
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(there)
    return ranks.all(Place(platform.node(), frozenset(allowed), there, own))


def complaints(where: list[Place], library: str = "") -> list[str]:
    """What is wrong with the places of ranks, each with its mend: too many threads, or ranks bound to too little.

    Parameters
    ----------
    where : list of Place
    library : str
        What ``MPI.Get_library_version()`` says.

    Examples
    --------
    >>> complaints([Place("a", frozenset({0, 1}), 2, threads=2)] * 2)
    ['a: 2 ranks of 4 threads in all share 2 processors; start them with --threads 1']
    >>> complaints([Place("a", frozenset({0}), 16, threads=1)] * 2)
    ['a: rank 0 is bound to 1 of 16 processors, for 2 ranks; start them with mpiexec -bind-to hwthread:8']
    """
    found = []
    for host in dict.fromkeys(one.host for one in where):
        here = [(rank, one) for rank, one in enumerate(where) if one.host == host]
        there = here[0][1].there
        bound = [rank for rank, one in here if len(one.processors) == 1]
        if bound and there // len(here) > 1:
            found.append(
                f"{host}: rank {bound[0]} is bound to 1 of {there} processors, for {len(here)} "
                f"{'rank' if len(here) == 1 else 'ranks'}; start them with {binding(there // len(here), library)}"
            )
            continue
        processors = frozenset[int]().union(*(one.processors for _, one in here))
        count = sum(one.threads for _, one in here)
        if count > len(processors):
            fewer = f"no more than {len(processors)} ranks a host"
            own = len(processors) // len(here)
            found.append(
                f"{host}: {len(here)} ranks of {count} threads in all share {len(processors)} processors; "
                f"start {f'them with --threads {own}' if own else fewer}"
            )
    return found


def warn_of_places(ranks: Ranks) -> None:
    """Warn, on rank 0, of ranks that have more threads than processors, or are bound to too few."""
    if ranks.comm is None:
        return
    from mpi4py import MPI

    where = places(ranks, threads.get_num_threads())
    for complaint in complaints(where, MPI.Get_library_version()) if ranks.first else ():
        warnings.warn(complaint, RuntimeWarning, stacklevel=3)


def binding(processors: int, library: str = "", environment: Mapping[str, str] = os.environ) -> str:
    """What makes a launcher give each rank so many processors; of Slurm, Open MPI, Intel MPI, or MPICH.

    Examples
    --------
    >>> binding(8, environment={"SLURM_STEP_ID": "0"})
    'srun --cpus-per-task=8 --cpu-bind=threads'
    >>> binding(8, "Open MPI v5.0.3, package: Open MPI", {})
    'mpiexec --map-by slot:PE=8 --use-hwthread-cpus --bind-to hwthread'
    >>> binding(8, "MPICH Version: 4.2", {})
    'mpiexec -bind-to hwthread:8'
    """
    if "SLURM_STEP_ID" in environment:
        return f"srun --cpus-per-task={processors} --cpu-bind=threads"
    if library.startswith("Open MPI"):
        return f"mpiexec --map-by slot:PE={processors} --use-hwthread-cpus --bind-to hwthread"
    if library.startswith("Intel"):
        return f"mpiexec -genv I_MPI_PIN_DOMAIN={processors}"
    return f"mpiexec -bind-to hwthread:{processors}"
