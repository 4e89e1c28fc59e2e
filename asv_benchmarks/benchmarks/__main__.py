"""Call every case and every benchmark of kernels, steps and the tape once, in this process; asv starts one for each."""

from collections.abc import Iterator
from itertools import product
from types import ModuleType

import numpy as np

from viva_tensor import kernels as functions

from . import common, kernels, step, tape
from .cases import cases
from .common import Benchmark

METHODS = ("time_", "track_")


def benchmarks(module: ModuleType) -> Iterator[type[Benchmark]]:
    """Yield the benchmarks that a module defines."""
    for kind in vars(module).values():
        if isinstance(kind, type) and kind.__module__ == module.__name__ and methods(kind):
            yield kind


def methods(kind: type) -> list[str]:
    """Return the names of what a benchmark measures."""
    return [name for name in dir(kind) if name.startswith(METHODS) and callable(getattr(kind, name))]


def call(kind: type[Benchmark], name: str, values: tuple[object, ...]) -> None:
    """Measure once, if the benchmark is for these values."""
    one = kind()
    try:
        one.setup(*values)
    except NotImplementedError:
        return
    getattr(one, name)(*values)
    one.teardown(*values)


if __name__ == "__main__":
    common.quick = True
    for case in cases().values():
        with functions.num_threads(case.threads):
            case.make(np.random.default_rng(0))()
    for module in (kernels, step, tape):
        for kind in benchmarks(module):
            for values in product(*getattr(kind, "params", ())):
                for name in methods(kind):
                    call(kind, name, values)
