"""What benchmarks share: seeded data, equal threads, the time of a single call, and ratios of two."""

import math
import os
from collections.abc import Callable
from itertools import repeat
from statistics import median
from time import perf_counter

import numpy as np
from threadpoolctl import threadpool_limits

import viva_tensor as vt

Function = Callable[[], object]

THREADS = (1, 2)
quick = False  # whether a benchmark only has to run, and nobody looks at its time


class Benchmark:
    """The base of all: ``setup`` gives NumPy and viva_tensor the same number of threads, and a seeded generator.

    asv may call ``setup`` before every call it times. So a benchmark hands what it times to ``timed``, which calls it
    many times and lets the clock that asv reads, ``timer``, advance by the time of one call.
    """

    rounds = 2
    repeat = 5
    warmup_time = 0
    _now = 0.0
    _blas = None

    def setup(self, threads: int = 1) -> None:
        if threads > vt.get_num_threads():
            raise NotImplementedError(f"{threads} threads, of {vt.get_num_threads()}")
        vt.set_num_threads(threads)
        self._blas = threadpool_limits(threads, user_api="blas")
        self.rng = np.random.default_rng(0)

    def teardown(self, *_: object) -> None:
        vt.set_num_threads(None)
        if self._blas is not None:
            self._blas.restore_original_limits()

    def floats(self, *shape: int, dtype: str = "float32") -> np.ndarray:
        """Numbers between -½ and ½."""
        return self.rng.random(shape, dtype=dtype) - np.dtype(dtype).type(0.5)

    def timer(self) -> float:
        return self._now

    def timed(self, function: Function, parts: int = 1) -> None:
        """Time one call, or one of its equal parts."""
        self._now += enough_calls(function)[1] / parts


def limited(threads: int) -> dict[str, str]:
    """The environment of a process whose libraries use so many threads; this package has dropped what slows NumPy."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return os.environ | dict.fromkeys(names, str(threads))


def enough_calls(function: Function, seconds: float = 0.004) -> tuple[int, float]:
    """How many calls fill so long a time, and the time of one."""
    calls, each = 1, seconds_per_call(function, 1)
    while calls * each < seconds and not quick:
        calls = math.ceil(calls * min(10, 1.5 * seconds / (calls * each)))
        each = seconds_per_call(function, calls)
    return calls, each


def seconds_per_call(function: Function, calls: int) -> float:
    """The mean of some calls, after one that finds caches and waiting threads as others left them."""
    function()
    start = perf_counter()
    for _ in repeat(None, calls):
        function()
    return (perf_counter() - start) / calls


def ratio(ours: Function, theirs: Function, pairs: int = 15) -> float:
    """Our time ÷ their time: both in turn, so that a slow spell of the machine meets both; the median of the pairs.

    Only for one thread: with more, the waiting threads of one library would take the processors from the other.
    """
    our_calls, their_calls = (enough_calls(function)[0] for function in (ours, theirs))
    return median(
        seconds_per_call(ours, our_calls) / seconds_per_call(theirs, their_calls) for _ in range(1 if quick else pairs)
    )
