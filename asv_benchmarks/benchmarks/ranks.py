"""Two ranks of one thread each against one rank of two threads, and what their sums add to a step.

Run as ``mpiexec -n 2 python -m benchmarks.ranks`` in this folder's parent, it prints the figures of rank 0 as JSON: for
each workload the microseconds of a step on half of the batch without sums, with them, and with sums that overlap.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter

import viva_tensor as vt
from viva_tensor import program

from .common import Benchmark, enough_calls
from .workloads import SGD, TapeStep, problem

RACE = ("seed-demo", "tabular", "mnist-mlp", "wide", "deep")
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


class TwoRanks(Benchmark):
    timeout = 300

    def setup_cache(self):
        if MPIEXEC is None or find_spec("mpi4py") is None:
            return None
        done = subprocess.run(
            [MPIEXEC, "-n", "2", sys.executable, "-m", __name__],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=self.timeout,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout)

    def setup(self, found, *_):
        if found is None:
            raise NotImplementedError('needs mpi4py and mpiexec: pip install "viva-tensor[mpi]"')
        super().setup(2)


class RanksOverThreads(TwoRanks):
    """Time of a step of two ranks ÷ that of one rank of two threads on the same rows; lower is better."""

    param_names = ("workload", "sums")
    params = (RACE, ("together", "overlapping"))
    unit = "ratio"

    def track_step(self, found, workload, sums):
        step, arrays = compiled(workload)
        return found[workload][sums] / (1e6 * enough_calls(lambda: step(*arrays))[1])


class Reduction(TwoRanks):
    """What two ranks add to a step on the rows of one: waiting for each other, sums, and an update of its own."""

    param_names = ("workload", "sums")
    params = (RACE, ("together", "overlapping"))
    unit = "µs"

    def track_overhead(self, found, workload, sums):
        return found[workload][sums] - found[workload]["alone"]


def compiled(workload, rows=slice(None), **ranks):
    """A step on some rows of a batch, and these rows."""
    x, y, weights = problem(workload)
    x, y = x[rows], y[rows]
    tape_step = TapeStep(x, y, weights)
    loss, tape = tape_step.forward()
    inputs = [tape.nodes()[len(tape_step.tape) + i].output for i in range(2)]
    step = program.compile_step(tape, loss=loss, params=tape_step.layers, inputs=inputs, optimizer=SGD, **ranks)
    return step, (x, y)


def figures(workload):
    """What rank 0 prints."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    vt.set_num_threads(1)
    rows = len(problem(workload)[0])
    own = slice(rows * comm.rank // comm.size, rows * (comm.rank + 1) // comm.size)
    kinds = {"alone": {}, "together": {"comm": comm}, "overlapping": {"comm": comm, "overlap": True}}
    steps = {name: compiled(workload, own, **ranks) for name, ranks in kinds.items()}
    calls = {}
    for name, (step, arrays) in steps.items():
        start = perf_counter()
        for _ in range(5):
            step(*arrays)
        calls[name] = comm.bcast(max(1, round(0.02 * 5 / (perf_counter() - start))))
    times = {name: [] for name in steps}
    for _ in range(9):  # in turn, so that a slow spell of the machine meets all
        for name, (step, arrays) in steps.items():
            comm.Barrier()
            start = perf_counter()
            for _ in range(calls[name]):
                step(*arrays)
            times[name].append((perf_counter() - start) / calls[name])
    return {name: 1e6 * median(found) for name, found in times.items()}


if __name__ == "__main__":
    found = {workload: figures(workload) for workload in RACE}
    from mpi4py import MPI

    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(found))
