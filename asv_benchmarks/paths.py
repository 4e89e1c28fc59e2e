"""On either side of the sizes from which a product takes another path.

The measurement behind FEW, DEEP_QUARTERS and READ_AGAIN in viva_tensor/kernels/core/matmul.pxi, and `copied` in
viva_tensor/program/thresholds.py.

usage: python asv_benchmarks/paths.py      (on a machine that does nothing else)

Nanoseconds for each thousand multiply-adds, the best of rounds on one thread. A threshold stands right where they do
not rise from one line to the next at which the path changes.
"""

from collections.abc import Callable

import numpy as np
from benchmarks.common import enough_calls, seconds_per_call
from benchmarks.workloads import CompiledStep

from viva_tensor import kernels
from viva_tensor.kernels import _matmul
from viva_tensor.program import thresholds

ROUNDS, SECONDS = 5, 0.02


def best(call: Callable[[], object]) -> float:
    """Return the seconds of a call in the fastest of some rounds."""
    calls, _ = enough_calls(call, SECONDS)
    return min(seconds_per_call(call, calls) for _ in range(ROUNDS))


def ladder(
    title: str, shapes: list[tuple[int, int, int]], transposed: bool = False, b_transposed: bool = False
) -> None:
    """Print a line for each product [m, k] · [k, n], of a or b perhaps read along its columns."""
    print(title)
    rng = np.random.default_rng(0)
    for m, k, n in shapes:
        a, b = rng.random((m, k), "float32"), rng.random((k, n), "float32")
        a = np.asfortranarray(a) if transposed else a
        b = np.asfortranarray(b) if b_transposed else b
        out = np.empty((m, n), "float32")
        time = best(lambda a=a, b=b, out=out: kernels.matmul(a, b, out=out))
        print(f"  {m:>5} x {k:>4} x {n:>4}  {1e12 * time / (m * k * n):>9.1f}  {_matmul.path(a, b)}")


def main() -> None:
    kernels.set_num_threads(1)
    ladder("FEW: multiply-adds, row by row or in a few steps", [(m, 8, 8) for m in (2, 4, 6, 8, 9, 12, 16, 32)])
    for depth in (1000, 4096):
        outputs = [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3), (2, 5), (3, 5), (2, 8), (4, 4)]
        ladder("DEEP_QUARTERS: outputs", [(m, depth, n) for m, n in outputs], b_transposed=True)
    ladder("READ_AGAIN: columns of b, a packed or not", [(512, 512, n) for n in (64, 96, 128, 129, 160, 256)])
    ladder("READ_AGAIN: rows of a, b packed or not", [(m, 512, 512) for m in (64, 96, 128, 129, 160, 256)])
    ladder("the same, of aᵀ", [(512, 512, n) for n in (64, 96, 128, 129, 160, 256)], transposed=True)
    print("copied: multiply-adds with an element, a batch copied into panels or not; microseconds of a step")
    rng = np.random.default_rng(0)
    for width in (16, 32, 48, 64, 96, 128):
        times = []
        for copied in (1, 1 << 40):
            with thresholds.changed(copied=copied):
                weights = [
                    (rng.random((o, i), "float32"), np.zeros(o, "float32")) for i, o in ((256, width), (width, 1))
                ]
                step = CompiledStep(rng.random((256, 256), "float32"), rng.random((256, 1), "float32"), weights)
            times.append(1e6 * best(step))
        print(f"  {2 * width:>5}  copied {times[0]:>9.1f}  not {times[1]:>9.1f}")


if __name__ == "__main__":
    main()
