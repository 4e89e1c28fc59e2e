"""What ranks take, as one line of JSON from rank 0: sums of several sizes, or steps of a network.

usage: mpiexec -n 4 python asv_benchmarks/scaling/ranks.py [--rows NETWORK ROWS ...] [--threads T]

Each figure is the median of rounds, a round the time of the slowest rank; of one rank alone, the best round. What
varies is told apart, as a standard deviation. `measure.py` starts this; on a cluster, `srun` may.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from mpi4py import MPI

import viva_tensor as vt
from viva_tensor import program

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.workloads import SGD, TapeStep, problem

SIZES = [64 << power for power in range(0, 20, 2)]  # bytes, to 16 MiB
ROUNDS, SECONDS = 9, 0.02  # of each figure, and of a round


class Alone(MPI.Intracomm):
    """This rank alone, which compile_step takes for several: what a step of ranks computes, without the others."""

    def Get_size(self) -> int:  # noqa: N802
        return 2


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call that all ranks make together."""
    comm = MPI.COMM_WORLD

    def together(times: int) -> float:
        comm.Barrier()
        start = perf_counter()
        for _ in range(times):
            call()
        return float(comm.allreduce(perf_counter() - start, MPI.MAX)) / times

    together(2)
    times = max(1, min(2000, round(SECONDS / together(3))))
    rounds = [together(times) for _ in range(ROUNDS)]
    return median(rounds) if comm.size > 1 else min(rounds)


def sums() -> dict[str, Any]:
    """Seconds of a sum of all ranks by its bytes, and of adding a byte."""
    found = {}
    for size in SIZES:
        block = np.zeros(size // 4, "float32")
        found[size] = timed(lambda block=block: MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, block))
    one, other = np.zeros(1 << 18, "float32"), np.zeros(1 << 18, "float32")
    return {"sums": found, "per_sum": timed(lambda: MPI.SUM.Reduce_local(one, other)) / one.nbytes}


def steps(name: str, rows: list[int]) -> dict[str, Any]:
    """Seconds of a step of all ranks by the rows of each: shared, and of one rank also alone."""
    x, y, weights = problem(name)
    tape = TapeStep(x, y, weights)
    loss, recorded = tape.forward()
    inputs = [recorded.nodes()[len(tape.tape) + i].output for i in range(2)]
    comm = MPI.COMM_WORLD if MPI.COMM_WORLD.size > 1 else Alone(MPI.COMM_SELF)
    shared = program.compile_step(recorded, loss=loss, params=tape.layers, inputs=inputs, optimizer=SGD, comm=comm)
    found: dict[str, Any] = {"shared": {}, "alone": {}}
    for count in rows:
        batch = [np.resize(array, (count, array.shape[1])) for array in (x, y)]
        found["shared"][count] = timed(lambda batch=batch: shared(*batch))
    if MPI.COMM_WORLD.size == 1:
        alone = tape.compiled()
        for count in rows:
            batch = [np.resize(array, (count, array.shape[1])) for array in (x, y)]
            found["alone"][count] = timed(lambda batch=batch: alone(*batch))
        found["update"] = timed(lambda: shared._update().executor.run(()))
        found["jitter"] = jitter(lambda: shared(x, y))
    return found


def jitter(step: Callable[[], object], times: int = 300) -> float:
    """The standard deviation of single steps as a share of their mean."""
    seconds = []
    for _ in range(times):
        start = perf_counter()
        step()
        seconds.append(perf_counter() - start)
    return float(np.std(seconds) / np.mean(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", action="append", default=[], metavar="NETWORK ROWS")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    vt.set_num_threads(arguments.threads)
    comm = MPI.COMM_WORLD
    found: dict[str, Any] = {"ranks": comm.size, "threads": arguments.threads}
    found["hosts"] = len(set(comm.allgather(MPI.Get_processor_name())))
    if arguments.rows:
        found["steps"] = {name: steps(name, [int(one) for one in rows]) for name, *rows in arguments.rows}
    else:
        found |= sums()
    found["mpi"] = MPI.Get_library_version().splitlines()[0]
    if comm.rank == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
