"""What this machine can do, and how much of it the kernels reach: FMA peak, matrix products, memory bandwidth.

Compared libraries run in turn within one process, several rounds each, on the same number of threads; the best time of
each counts, since whatever else a machine does only ever adds to a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from viva_tensor import kernels
from viva_tensor.kernels import _peak

__all__ = ["Bandwidth", "Product", "bandwidths", "fma_peak", "libraries", "plot", "products"]

SIZES = (32, 64, 128, 256, 512, 1024, 2048)
ELEMENTS = tuple(1 << power for power in range(12, 25, 2))  # 16 KiB to 64 MiB of float32
Array = np.ndarray[Any, np.dtype[np.float32]]


class Product(NamedTuple):
    """Multiply-adds of an n × n × n float32 product: GFLOPS of each library."""

    size: int
    threads: int
    gflops: dict[str, float]


class Bandwidth(NamedTuple):
    """Bytes read and written by relu over float32 arrays: GB/s of each library."""

    elements: int
    threads: int
    gigabytes: dict[str, float]


def fma_peak(threads: int = 1, dtype: str = "float32", seconds: float = 0.2) -> float:
    """The highest rate of multiply-adds seen in registers, in GFLOPS (two floating-point operations each).

    Examples
    --------
    >>> fma_peak(seconds=0.01) > 0.1
    True
    """
    rounds = 100_000
    best = 0.0
    end = perf_counter() + seconds
    while perf_counter() < end or not best:
        start = perf_counter()
        count = _peak.multiply_adds(rounds, threads, dtype == "float64")
        best = max(best, 2e-9 * count / (perf_counter() - start))
    return best


def libraries() -> list[str]:
    """The libraries that can be compared here: viva_tensor, NumPy, and PyTorch and JAX where they are installed.

    Examples
    --------
    >>> libraries()[:2]
    ['viva_tensor', 'numpy']
    """
    return ["viva_tensor", "numpy", *(name for name in ("torch", "jax") if find_spec(name))]


def products(
    threads: int = 1, sizes: Sequence[int] = SIZES, names: Sequence[str] | None = None, seconds: float = 0.1
) -> Iterator[Product]:
    """Rates of a · bᵀ, the product of a forward pass, size by size.

    Examples
    --------
    >>> [one.size for one in products(sizes=[4], names=["viva_tensor"], seconds=0.001)]
    [4]
    """
    rng = np.random.default_rng(0)
    names = libraries() if names is None else names
    with _threads(threads, names):
        for size in sizes:
            a, b = rng.standard_normal((2, size, size), dtype=np.float32)
            best = _interleaved({name: _product(name, a, b) for name in names}, seconds)
            yield Product(size, threads, {name: 2e-9 * size**3 / time for name, time in best.items()})


def bandwidths(
    threads: int = 1, elements: Sequence[int] = ELEMENTS, names: Sequence[str] | None = None, seconds: float = 0.1
) -> Iterator[Bandwidth]:
    """Rates of relu from one array into another, 8 bytes an element, size by size.

    Examples
    --------
    >>> [one.elements for one in bandwidths(elements=[16], names=["numpy"], seconds=0.001)]
    [16]
    """
    rng = np.random.default_rng(0)
    names = libraries() if names is None else names
    with _threads(threads, names):
        for count in elements:
            x = rng.standard_normal((1, count), dtype=np.float32)
            best = _interleaved({name: _relu(name, x) for name in names}, seconds)
            yield Bandwidth(count, threads, {name: 8e-9 * count / time for name, time in best.items()})


def _product(name: str, a: Array, b: Array) -> Callable[[], object]:
    out = np.empty_like(a)
    if name == "viva_tensor":
        return lambda: kernels.matmul(a, b.T, out=out)
    if name == "numpy":
        return lambda: np.matmul(a, b.T, out=out)
    if name == "torch":
        import torch

        x, y, z = torch.from_numpy(a), torch.from_numpy(b).T, torch.from_numpy(out)
        return lambda: torch.mm(x, y, out=z)
    import jax

    multiply = jax.jit(lambda x, y: x @ y.T)
    u, v = jax.numpy.asarray(a), jax.numpy.asarray(b)
    return lambda: multiply(u, v).block_until_ready()


def _relu(name: str, x: Array) -> Callable[[], object]:
    out = np.empty_like(x)
    if name == "viva_tensor":
        return lambda: kernels.relu(x, out=out)
    if name == "numpy":
        return lambda: np.maximum(x, 0, out=out)
    if name == "torch":
        import torch

        source, target = torch.from_numpy(x), torch.from_numpy(out)
        return lambda: torch.clamp(source, min=0, out=target)
    import jax

    rectify = jax.jit(jax.nn.relu)
    held = jax.numpy.asarray(x)
    return lambda: rectify(held).block_until_ready()


@contextmanager
def _threads(threads: int, names: Sequence[str]) -> Iterator[None]:
    """The same number of threads for all that can be told (JAX follows the processors of the process)."""
    with ExitStack() as stack:
        stack.enter_context(kernels.num_threads(threads))
        if find_spec("threadpoolctl"):
            from threadpoolctl import threadpool_limits

            stack.enter_context(threadpool_limits(threads, user_api="blas"))
        if "torch" in names:
            import torch

            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            stack.callback(torch.set_num_threads, before)
        yield


def _interleaved(functions: dict[str, Callable[[], object]], seconds: float, rounds: int = 5) -> dict[str, float]:
    """The best time of one call of each function, measured in turn."""
    best = dict.fromkeys(functions, math.inf)
    for _ in range(rounds):
        for name, function in functions.items():
            function()
            end = perf_counter() + seconds / rounds
            while True:
                start = perf_counter()
                function()
                now = perf_counter()
                best[name] = min(best[name], now - start)
                if now > end:
                    break
    return best


def plot(path: str | Path, peak: float, measured: Sequence[Product], memory: Sequence[Bandwidth], threads: int) -> None:
    """A roofline picture: attainable GFLOPS by operations per byte, and where products and relu stand under it.

    The roof is the FMA peak, its slope the bandwidth of the largest array [1]_.

    References
    ----------
    .. [1] S. Williams, A. Waterman and D. Patterson, Roofline: an insightful visual performance model for multicore
       architectures, Communications of the ACM 52(4), 2009.
    """
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    slope = max(memory[-1].gigabytes.values())
    intensities = np.geomspace(1 / 16, 1024, 200)
    axes.loglog(intensities, np.minimum(peak, slope * intensities), color="black", label=f"roof: {peak:.0f} GFLOPS")
    for name in measured[0].gflops:
        # each of three matrices crosses the bus once; relu does one operation for 8 bytes
        points = [(one.size / 6, one.gflops[name]) for one in measured] + [(1 / 8, memory[-1].gigabytes[name] / 8)]
        axes.loglog(*zip(*points, strict=True), "o", label=name)
    axes.set_xlabel("floating-point operations per byte of memory")
    axes.set_ylabel("GFLOPS")
    axes.set_title(f"float32, {threads} {'thread' if threads == 1 else 'threads'}")
    axes.grid(True, which="both", alpha=0.2)
    axes.legend()
    figure.savefig(path, dpi=120)
