"""Where ranks run: on which hosts and processors, with how many threads, and what is wrong with that."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Mapping
from typing import NamedTuple

from viva_tensor.distributed.ranks import Ranks
from viva_tensor.kernels import threads


class Place(NamedTuple):
    """Where a rank runs."""

    host: str
    processors: frozenset[int]  # those that it may run on
    there: int  # processors that the host has
    threads: int


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
    """Return where each rank runs, and with how many threads: this one with its own number."""
    there = os.cpu_count() or 1
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(there)
    return ranks.all(Place(platform.node(), frozenset(allowed), there, own))


def complaints(where: list[Place], library: str = "") -> list[str]:
    """Tell what is wrong with where ranks run, each with a hint: too many threads, or ranks bound to too little.

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
    """Tell what makes a launcher give each rank so many processors: Slurm, Open MPI, Intel MPI, or MPICH.

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
