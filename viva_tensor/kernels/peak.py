"""The highest rate at which this machine multiplies and adds."""

from __future__ import annotations

from time import perf_counter

from viva_tensor.kernels import _peak

ROUNDS = 20_000  # of multiply-adds in each measurement: some tenths of a millisecond


def fma_peak(threads: int = 1, dtype: str = "float32", seconds: float = 0.2) -> float:
    """Measure the rate of multiply-adds in registers, in GFLOPS (two floating-point operations each).

    The result is the best of many short measurements, since other work on the machine can only add to a time.

    Examples
    --------
    >>> fma_peak(seconds=0.01) > 0.1
    True
    """
    best = 0.0
    end = perf_counter() + seconds
    while perf_counter() < end or not best:
        start = perf_counter()
        count = _peak.multiply_adds(ROUNDS, threads, dtype == "float64")
        best = max(best, 2e-9 * count / (perf_counter() - start))
    return best
