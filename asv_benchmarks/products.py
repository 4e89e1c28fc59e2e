"""Products of every shape of a grid against NumPy and PyTorch: the worst, and how many are slower.

usage: python asv_benchmarks/products.py [--threads 1,2] [--dtypes f4,f8] [--layouts nn,nt,tn,tt] [--most 1e8]
                                         [--sizes 1,2,3,...] [--libraries numpy,torch] [--rounds 2] [--worst 20]

A layout says for each operand whether it lies in rows (n) or, transposed, in columns (t). Each library measures in a
process of its own, a few products and then the next library's turn, so that a slow spell of the machine meets all. The
time of a product is the best of the rounds, and a ratio above 1 says that ours is faster than both others. All of it
runs for about half an hour, on a machine that does nothing else.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from itertools import islice, pairwise, product
from statistics import geometric_mean
from typing import TypeVar

import numpy as np
from benchmarks.common import enough_calls, limited, seconds_per_call

SIZES = "1,2,3,5,8,17,64,256,1000,4096"
REPEATS, SECONDS = 3, 0.001
TURN = 32  # products
PAUSE = 0.05  # seconds until the threads of a library, which wait for more work, have gone to sleep
Shape = tuple[int, int, int]
_T = TypeVar("_T")


def batched(values: Iterable[_T], size: int) -> Iterator[tuple[_T, ...]]:
    """Like :func:`itertools.batched`, which Python 3.11 lacks."""
    values = iter(values)
    while batch := tuple(islice(values, size)):
        yield batch


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


def seconds(library: str, threads: int, dtype: str, layout: str, shape: Shape) -> float:
    """Return the seconds of a product, the best of some."""
    m, k, n = shape
    rng = np.random.default_rng(0)
    a, b = rng.random((m, k)).astype(dtype), rng.random((k, n)).astype(dtype)
    a = np.asfortranarray(a) if layout[0] == "t" else a
    b = np.asfortranarray(b) if layout[1] == "t" else b
    run = call(library, a, b, threads)
    run()
    calls, each = enough_calls(run, SECONDS)
    return min([each, *(seconds_per_call(run, calls) for _ in range(REPEATS - 1))])


def measure(library: str, threads: int, dtype: str) -> None:
    """Print the seconds of the products that each line of the input lists."""
    for line in sys.stdin:
        print(json.dumps([seconds(library, threads, dtype, *one) for one in json.loads(line)]), flush=True)


def started(library: str, threads: int, dtype: str) -> "subprocess.Popen[str]":
    """Return a process that measures in a library."""
    command = [sys.executable, __file__, "--measure", library, str(threads), dtype]
    return subprocess.Popen(command, env=limited(threads), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(process: "subprocess.Popen[str]", asked: tuple[tuple[str, Shape], ...]) -> list[float]:
    """Let a process measure some products."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()
    times = json.loads(process.stdout.readline())
    time.sleep(PAUSE)
    return times


def best_times(libraries: list[str], threads: int, dtype: str, options: argparse.Namespace) -> np.ndarray:
    """Return the best seconds of each product, [library, product]."""
    processes = [started(library, threads, dtype) for library in libraries]
    parts = []
    for turn in batched(shapes(options), TURN):
        rounds = [[answer(one, turn) for one in processes] for _ in range(options.rounds)]
        parts.append(np.min(rounds, axis=0))
    for process in processes:
        process.communicate()
    return np.concatenate(parts, axis=1)


def report(threads: int, dtype: str, options: argparse.Namespace) -> np.ndarray:
    """Print the worst ratios, and return our times."""
    best = best_times(["viva_tensor", *options.libraries.split(",")], threads, dtype, options)
    ratios = np.min(best[1:], axis=0) / best[0]
    print(
        f"{dtype}, {threads} threads: geometric mean x{geometric_mean(ratios):.2f}, "
        f"{np.mean(ratios < 1):.0%} below x1.0, {np.mean(ratios < 0.9):.0%} below x0.9, of {len(ratios)}"
    )
    known = list(shapes(options))
    for index in np.argsort(ratios)[: options.worst]:
        layout, (m, k, n) = known[index]
        times = "".join(f"{1e6 * one:>12.2f}" for one in best[:, index])
        print(f"  {layout} {m:>5} x {k:>4} x {n:>4}  x{ratios[index]:.2f} {times}  us", flush=True)
    return best[0]


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
        measure(library, int(threads), dtype)
        return
    for dtype in options.dtypes.split(","):
        ours = [report(int(threads), dtype, options) for threads in options.threads.split(",")]
        for fewer, more in pairwise(ours):
            times = more / fewer
            print(f"{dtype}: {np.mean(times > 1.1):.1%} take a tenth longer on more threads, at most x{max(times):.2f}")


if __name__ == "__main__":
    main()
