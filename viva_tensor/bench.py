"""Benchmarks of this machine and the kernels on it: FMA peak, matrix products, memory bandwidth.

Each library runs in its own process, since the threads of one would keep waiting while another works. The processes
take turns for several rounds, and the best time counts, since other work on the machine can only add to a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from viva_tensor import kernels
from viva_tensor.kernels.arrays import Float32Array
from viva_tensor.kernels.peak import fma_peak

__all__ = ["ELEMENTS", "SIZES", "Rates", "compare", "fma_peak", "libraries", "measure", "plot", "table"]

SIZES = (32, 64, 128, 256, 512, 1024, 2048)
ELEMENTS = tuple(1 << power for power in range(12, 25, 2))  # 16 KiB to 64 MiB of float32
ROUNDS = 3


class Rates(NamedTuple):
    """The rates of one library: GFLOPS for each of SIZES, GB/s for each of ELEMENTS."""

    products: list[float]
    bandwidths: list[float]


def libraries() -> list[str]:
    """Return the libraries to compare: viva_tensor, NumPy, and PyTorch and JAX if installed.

    Examples
    --------
    >>> libraries()[:2]
    ['viva_tensor', 'numpy']
    """
    return ["viva_tensor", "numpy", *(name for name in ("torch", "jax") if find_spec(name))]


def measure(name: str, sizes: Sequence[int] = SIZES, elements: Sequence[int] = ELEMENTS, seconds: float = 0.1) -> Rates:
    """Measure the rates of one library in this process, on the threads that it chooses.

    Products are n × n × n, a · bᵀ as in a forward pass, with 2n³ operations. Bandwidth is measured with relu from one
    array into another, 8 bytes an element.

    Examples
    --------
    >>> rates = measure("viva_tensor", sizes=[4, 8], elements=[16], seconds=0.001)
    >>> len(rates.products), len(rates.bandwidths)
    (2, 1)
    """
    rng = np.random.default_rng(0)
    products, bandwidths = [], []
    for size in sizes:
        a, b = rng.standard_normal((2, size, size), dtype=np.float32)
        product, _ = _calls(name, a, b)
        products.append(2e-9 * size**3 / _best_time(product, seconds))
    for count in elements:
        x = rng.standard_normal((1, count), dtype=np.float32)
        _, relu = _calls(name, x, x)
        bandwidths.append(8e-9 * count / _best_time(relu, seconds))
    return Rates(products, bandwidths)


def compare(threads: int, names: Sequence[str], seconds: float = 0.1, rounds: int = ROUNDS) -> dict[str, Rates]:
    """Return the best rates of each library over several rounds, each in a new process.

    The processes do not inherit variables that begin with OPENBLAS_, so that NumPy runs with its defaults.

    Raises
    ------
    RuntimeError
        If a library cannot be measured; the message is the last line that its process wrote.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    found: dict[str, list[Rates]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, "-m", __name__, name, str(seconds / rounds)]
            done = subprocess.run(command, env=kept | limits, capture_output=True, encoding="locale", check=False)
            if done.returncode:
                raise RuntimeError(f"{name}: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}")
            found[name].append(Rates(*json.loads(done.stdout.splitlines()[-1])))
    return {
        name: Rates(*(np.max(kind, axis=0).tolist() for kind in zip(*rates, strict=True)))
        for name, rates in found.items()
    }


def _calls(name: str, a: Float32Array, b: Float32Array) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return two calls of a library: the product a · bᵀ, and relu of a."""
    out = np.empty_like(a)
    if name == "viva_tensor":
        return lambda: kernels.matmul(a, b.T, out=out), lambda: kernels.relu(a, out=out)
    if name == "numpy":
        return lambda: np.matmul(a, b.T, out=out), lambda: np.maximum(a, 0, out=out)
    if name == "torch":
        import torch

        x, y, z = torch.from_numpy(a), torch.from_numpy(b).T, torch.from_numpy(out)
        return lambda: torch.mm(x, y, out=z), lambda: torch.clamp(x, min=0, out=z)
    jax = import_module(name)  # the only other library; an unknown name is an error

    multiply, rectify = jax.jit(lambda x, y: x @ y.T), jax.jit(jax.nn.relu)
    u, v = jax.numpy.asarray(a), jax.numpy.asarray(b)
    return lambda: multiply(u, v).block_until_ready(), lambda: rectify(u).block_until_ready()


def _best_time(function: Callable[[], object], seconds: float) -> float:
    function()
    best, now = float("inf"), perf_counter()
    end = now + seconds
    while now <= end:
        start = perf_counter()
        function()
        now = perf_counter()
        best = min(best, now - start)
    return best


def table(rates: Mapping[str, Rates], peak: float) -> str:
    """Return the rates of libraries side by side, those of products also as shares of the FMA peak.

    Examples
    --------
    >>> print(table({"numpy": Rates([50.0] * len(SIZES), [9.0] * len(ELEMENTS))}, peak=100.0).splitlines()[1])
      32 x 32 x 32                    50.0    50%
    """
    lines = [f"{'matrix product, GFLOPS':<24}" + "".join(f"{name:>14} (peak)" for name in rates)]
    for i, size in enumerate(SIZES):
        cells = (f"{one.products[i]:>14,.1f} {one.products[i] / peak:>6.0%}" for one in rates.values())
        lines.append(f"  {f'{size} x {size} x {size}':<22}" + "".join(cells))
    lines += ["", f"{'relu, GB/s':<24}" + "".join(f"{name:>14}" + " " * 7 for name in rates).rstrip()]
    for i, elements in enumerate(ELEMENTS):
        cells = (f"{one.bandwidths[i]:>14,.1f}" + " " * 7 for one in rates.values())
        lines.append((f"  {f'{elements * 4 / 1024:,.0f} KiB':<22}" + "".join(cells)).rstrip())
    return "\n".join(lines)


def plot(path: str | Path, peak: float, rates: dict[str, Rates], threads: int) -> None:
    """Draw a roofline: attainable GFLOPS by operations per byte, with the rates of products and relu below it.

    The roof is the FMA peak, its slope the best bandwidth on the largest array [1]_.

    References
    ----------
    .. [1] S. Williams, A. Waterman and D. Patterson, Roofline: an insightful visual performance model for multicore
       architectures, Communications of the ACM 52(4), 2009.
    """
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    slope = max(one.bandwidths[-1] for one in rates.values())
    intensities = np.geomspace(1 / 16, 1024, 200)
    axes.loglog(intensities, np.minimum(peak, slope * intensities), color="black", label=f"roof: {peak:.0f} GFLOPS")
    for name, one in rates.items():
        # each of three matrices crosses the bus once; relu does one operation for 8 bytes
        x = [size / 6 for size in SIZES] + [1 / 8]
        axes.loglog(x, [*one.products, one.bandwidths[-1] / 8], "o", label=name)
    axes.set_xlabel("floating-point operations per byte of memory")
    axes.set_ylabel("GFLOPS")
    axes.set_title(f"float32, {threads} {'thread' if threads == 1 else 'threads'}")
    axes.grid(True, which="both", alpha=0.2)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], seconds=float(sys.argv[2]))))
