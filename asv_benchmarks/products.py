"""Products of every shape of a grid against NumPy and PyTorch: the worst, and how many are slower.

usage: python asv_benchmarks/products.py [--threads 1,2] [--dtypes f4,f8] [--layouts nn,nt,tn,tt] [--most 1e8]
                                         [--sizes 1,2,3,...] [--libraries numpy,torch] [--rounds 2] [--worst 20]

A layout says for each operand whether it lies in rows (n) or, transposed, in columns (t). Each library measures in a
process of its own, in turn; the time of a product is the best of the rounds, and a ratio above 1 says that ours is
faster than both others. All of it runs for about half an hour, on a machine that does nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise, product
from statistics import geometric_mean

import numpy as np
from benchmarks.common import enough_calls, seconds_per_call

SIZES = "1,2,3,5,8,17,64,256,1000,4096"
REPEATS, SECONDS = 3, 0.002
Shape = tuple[int, int, int]


def shapes(options: argparse.Namespace) -> Iterator[tuple[str, Shape]]:
    """Go through the layouts and the shapes m, k, n of the grid."""
    sizes = [int(size) for size in options.sizes.split(",")]
    for layout, (m, k, n) in product(options.layouts.split(","), product(sizes, repeat=3)):
        if m * k * n < options.most:
            yield layout, (m, k, n)


def call(library: str, a: np.ndarray, b: np.ndarray, threads: int) -> Callable[[], object]:
    """Return the product of two arrays in a library, into an array that is there."""
    out = np.empty((len(a), b.shape[1]), a.dtype)
    if library == "numpy":
        return lambda: np.matmul(a, b, out=out)
    if library == "torch":
        import torch

        torch.set_num_threads(threads)
        x, y, z = torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(out)
        return lambda: torch.mm(x, y, out=z)
    from viva_tensor import kernels

    kernels.set_num_threads(threads)
    return lambda: kernels.matmul(a, b, out=out)


def measure(library: str, threads: int, dtype: str, options: argparse.Namespace) -> None:
    """Print the seconds of each product, in order."""
    rng, times = np.random.default_rng(0), []
    for layout, (m, k, n) in shapes(options):
        a, b = rng.random((m, k)).astype(dtype), rng.random((k, n)).astype(dtype)
        a = np.asfortranarray(a) if layout[0] == "t" else a
        b = np.asfortranarray(b) if layout[1] == "t" else b
        run = call(library, a, b, threads)
        run()
        calls, each = enough_calls(run, SECONDS)
        times.append(min([each, *(seconds_per_call(run, calls) for _ in range(REPEATS - 1))]))
    print(json.dumps(times))


def timed(library: str, threads: int, dtype: str) -> list[float]:
    """Return the seconds of each product of a library, measured in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    kept |= {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, *sys.argv, "--measure", library, str(threads), dtype]
    return json.loads(subprocess.run(command, env=kept, stdout=subprocess.PIPE, text=True, check=True).stdout)


def report(threads: int, dtype: str, options: argparse.Namespace) -> list[float]:
    """Print the worst ratios, and return our times."""
    libraries = ["viva_tensor", *options.libraries.split(",")]
    best = [np.inf] * len(libraries)
    for _ in range(options.rounds):
        best = [np.minimum(one, timed(name, threads, dtype)) for one, name in zip(best, libraries, strict=True)]
    ratios = np.min(best[1:], 0) / best[0]
    print(
        f"{dtype}, {threads} threads: geometric mean x{geometric_mean(ratios):.2f}, "
        f"{np.mean(ratios < 1):.0%} below x1.0, {np.mean(ratios < 0.9):.0%} below x0.9, of {len(ratios)}"
    )
    order, known = np.argsort(ratios), list(shapes(options))
    for index in order[: options.worst]:
        layout, (m, k, n) = known[index]
        times = "".join(f"{1e6 * one[index]:>12.2f}" for one in best)
        print(f"  {layout} {m:>5} x {k:>4} x {n:>4}  x{ratios[index]:.2f} {times}  us")
    return list(best[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--dtypes", default="f4,f8")
    parser.add_argument("--layouts", default="nn,nt,tn,tt")
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--most", type=float, default=1e8, help="multiply-adds")
    parser.add_argument("--libraries", default=",".join(name for name in ("numpy", "torch") if find_spec(name)))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--worst", type=int, default=20)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        library, threads, dtype = options.measure
        measure(library, int(threads), dtype, options)
        return
    for dtype in options.dtypes.split(","):
        ours = [report(int(threads), dtype, options) for threads in options.threads.split(",")]
        for fewer, more in pairwise(ours):
            times = np.array(more) / np.array(fewer)
            print(
                f"{dtype}: {np.mean(times > 1.1):.1%} take a tenth longer with more threads, at most x{max(times):.2f}"
            )


if __name__ == "__main__":
    main()
