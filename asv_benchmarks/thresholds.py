"""From how much work on a second thread gains.

The measurement behind the shares in viva_tensor/kernels/_team.pxd and those of whole programs in
viva_tensor/program/thresholds.py.

usage: python asv_benchmarks/thresholds.py      (on a machine that does nothing else)

For each amount of work: one thread's time ÷ two threads', the median of rounds in turn, all in this library.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from benchmarks.common import ratio
from benchmarks.workloads import CompiledStep

from viva_tensor import kernels
from viva_tensor.program import thresholds
from viva_tensor.program.instructions import Instruction


def on(threads: int, call: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        kernels.set_num_threads(threads)
        return call()

    return run


def gain(call: Callable[[], object]) -> float:
    return ratio(on(1, call), on(2, call))


def main() -> None:
    thresholds.use(thresholds.Thresholds(program=1, eagerness=1e6))  # two threads for any work at all
    rng = np.random.default_rng(0)
    print("multiply-adds of a matrix product")
    for size in (48, 64, 80, 96, 112, 128, 160, 200):
        a, out = rng.random((size, size), "float32"), np.empty((size, size), "float32")
        print(f"  {size**3:>10,}  x{gain(lambda a=a, out=out: kernels.matmul(a, a.T, out=out)):.2f}")
    print("elements of relu")
    for size in (1 << power for power in range(13, 21)):
        x, y = rng.random((1, size), "float32"), np.empty((1, size), "float32")
        print(f"  {size:>10,}  x{gain(lambda x=x, y=y: kernels.relu(x, out=y)):.2f}")
    print("multiply-adds of a compiled step")
    for width in (64, 96, 128, 160, 192, 256, 384):
        steps = {threads: compiled(width, threads) for threads in (1, 2)}
        work = sum(one.multiply_adds for one in steps[1][1])
        print(f"  {work:>10,}  x{ratio(steps[1][0], steps[2][0]):.2f}")


def compiled(width: int, threads: int) -> tuple[Callable[[], object], list[Instruction]]:
    """A step of a network of three layers on 64 rows, for that many threads, and its instructions."""
    rng = np.random.default_rng(0)
    sizes = (width, width, width, 1)
    weights = [(rng.random((o, i), "float32"), np.zeros(o, "float32")) for i, o in pairwise(sizes)]
    kernels.set_num_threads(threads)
    step = CompiledStep(rng.random((64, width), "float32"), rng.random((64, 1), "float32"), weights)
    step()
    return on(threads, step), [one.instruction for one in step.step.planned]


if __name__ == "__main__":
    main()
