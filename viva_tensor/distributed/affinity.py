"""Which hosts and processors ranks are bound to, with how many threads, and what is wrong with that."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Mapping
from typing import NamedTuple

from viva_tensor.distributed.ranks import Ranks
from viva_tensor.kernels import threads


class Affinity(NamedTuple):
    """The processors that a rank may run on."""

    host: str
    processors: frozenset[int]
    host_processors: int  # how many the host has
    threads: int


def default_threads(ranks: Ranks) -> int:
    """Return this rank's number of threads: ``OMP_NUM_THREADS``, else its share of the processors it may run on.

    Examples
    --------
    >>> default_threads(Ranks()) == threads.get_num_threads()
    True
    """
    allowed = threads.get_num_threads()
    every = affinities(ranks, allowed)
    local = every[ranks.rank]
    sharing = sum(one.host == local.host and bool(one.processors & local.processors) for one in every)
    return allowed if "OMP_NUM_THREADS" in os.environ else max(1, allowed // sharing)


def affinities(ranks: Ranks, num_threads: int) -> list[Affinity]:
    """Return the affinity of each rank; ``num_threads`` is this rank's number of threads."""
    count = os.cpu_count() or 1
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(count)
    return ranks.all(Affinity(platform.node(), frozenset(allowed), count, num_threads))


def affinity_problems(every: list[Affinity], library: str = "") -> list[str]:
    """Return a message with a hint for each host whose ranks have too many threads, or are bound to one processor.

    ``every`` holds the affinity of each rank; ``library`` is what ``MPI.Get_library_version()`` returns.

    Examples
    --------
    >>> affinity_problems([Affinity("a", frozenset({0, 1}), 2, threads=2)] * 2)
    ['a: 2 ranks of 4 threads in all share 2 processors; start them with OMP_NUM_THREADS=1 (or --threads 1)']
    >>> affinity_problems([Affinity("a", frozenset({0}), 16, threads=1)] * 2)
    ['a: rank 0 is bound to 1 of 16 processors, for 2 ranks; start them with mpiexec -bind-to hwthread:8']
    """
    found = []
    for host in dict.fromkeys(one.host for one in every):
        here = {rank: one for rank, one in enumerate(every) if one.host == host}
        bound = [rank for rank, one in here.items() if len(one.processors) == 1]
        count = next(iter(here.values())).host_processors
        if bound and count // len(here) > 1:
            found.append(
                f"{host}: rank {bound[0]} is bound to 1 of {count} processors, for {len(here)} "
                f"{'rank' if len(here) == 1 else 'ranks'}; start them with "
                f"{binding_command(count // len(here), library)}"
            )
            continue
        processors = len(frozenset[int]().union(*(one.processors for one in here.values())))
        total = sum(one.threads for one in here.values())
        if total > processors:
            each, fewer = processors // len(here), f"no more than {processors} ranks a host"
            found.append(
                f"{host}: {len(here)} ranks of {total} threads in all share {processors} processors; "
                + (f"start them with OMP_NUM_THREADS={each} (or --threads {each})" if each else f"start {fewer}")
            )
    return found


def warn_of_affinity(ranks: Ranks) -> None:
    """Warn on rank 0 about ranks that have more threads than processors, or are bound to too few."""
    if ranks.comm is None:
        return
    from mpi4py import MPI

    every = affinities(ranks, threads.get_num_threads())
    for problem in affinity_problems(every, MPI.Get_library_version()) if ranks.first else ():
        warnings.warn(problem, RuntimeWarning, stacklevel=3)


def binding_command(processors: int, library: str = "", environment: Mapping[str, str] | None = None) -> str:
    """Return the command of Slurm, Open MPI, Intel MPI or MPICH that binds each rank to so many processors.

    Examples
    --------
    >>> binding_command(8, environment={"SLURM_STEP_ID": "0"})
    'srun --cpus-per-task=8 --cpu-bind=threads'
    >>> binding_command(8, "Open MPI v5.0.3, package: Open MPI", {})
    'mpiexec --map-by slot:PE=8 --use-hwthread-cpus --bind-to hwthread'
    >>> binding_command(8, "MPICH Version: 4.2", {})
    'mpiexec -bind-to hwthread:8'
    """
    if "SLURM_STEP_ID" in (os.environ if environment is None else environment):
        return f"srun --cpus-per-task={processors} --cpu-bind=threads"
    if library.startswith("Open MPI"):
        return f"mpiexec --map-by slot:PE={processors} --use-hwthread-cpus --bind-to hwthread"
    if library.startswith("Intel"):
        return f"mpiexec -genv I_MPI_PIN_DOMAIN={processors}"
    return f"mpiexec -bind-to hwthread:{processors}"
