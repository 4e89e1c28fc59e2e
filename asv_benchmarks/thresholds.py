"""From how much work on a second thread gains: the measurement behind the shares in viva_tensor/kernels/_team.pxd.

usage: python asv_benchmarks/thresholds.py      (on a machine that does nothing else)

For each amount of work: one thread's time ÷ two threads', the median of rounds in turn, all in this library.
"""

from collections.abc import Callable

import numpy as np
from benchmarks.common import ratio

from viva_tensor import kernels
from viva_tensor.kernels import _team


def on(threads: int, call: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        kernels.set_num_threads(threads)
        return call()

    return run


def gain(call: Callable[[], object]) -> float:
    return ratio(on(1, call), on(2, call))


def main() -> None:
    _team.set_eagerness(1e6)  # two threads for any work at all
    rng = np.random.default_rng(0)
    print("multiply-adds of a matrix product")
    for size in (48, 64, 80, 96, 112, 128, 160, 200):
        a, out = rng.random((size, size), "float32"), np.empty((size, size), "float32")
        print(f"  {size**3:>10,}  x{gain(lambda a=a, out=out: kernels.matmul(a, a.T, out=out)):.2f}")
    print("elements of relu")
    for size in (1 << power for power in range(13, 21)):
        x, y = rng.random((1, size), "float32"), np.empty((1, size), "float32")
        print(f"  {size:>10,}  x{gain(lambda x=x, y=y: kernels.relu(x, out=y)):.2f}")


if __name__ == "__main__":
    main()
