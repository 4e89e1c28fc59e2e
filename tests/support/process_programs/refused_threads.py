"""Kernels and programs where the system refuses to start more threads, for lack of processes or of memory."""

import os
import resource
import sys
import warnings
from pathlib import Path

import numpy as np

import viva_tensor as vt
from support.training import compiled, digest, trained
from viva_tensor import kernels
from viva_tensor.kernels import threads


def limit_of(kind: str) -> tuple[int, int]:
    """Return the kind of limit, and one that leaves no room for threads."""
    if kind == "processes":
        if os.getuid() == 0:
            os.setuid(65534)  # the limit is not for root
        return resource.RLIMIT_NPROC, 1
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return resource.RLIMIT_AS, used + (8 << 20)  # a stack takes as much, of which there are to be many


def main(kind: str) -> None:
    """Print what is warned of, and the number of threads and the bits within the limit and after it."""
    a = np.random.default_rng(0).standard_normal((400, 400)).astype("f4")
    with vt.num_threads(1):
        wanted, bits = kernels.matmul(a, a), trained(steps=3)
    step, _, X, Y = compiled()
    vt.set_num_threads(4)
    step(X, Y)  # planned, and run, with threads
    which, least = limit_of(kind)
    before = resource.getrlimit(which)
    vt.set_num_threads(8)
    resource.setrlimit(which, (least, before[1]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert np.array_equal(kernels.matmul(a, a), wanted)
        step(X, Y)
        assert np.array_equal(kernels.matmul(a, a), wanted)
    print(*(warning.category.__name__ + ": " + str(warning.message)[:35] for warning in caught))
    print(vt.get_num_threads(), threads.decided_by())
    resource.setrlimit(which, before)
    vt.set_num_threads(2)
    step(X, Y)
    print(vt.get_num_threads(), digest(step) == bits, np.array_equal(kernels.matmul(a, a), wanted))


if __name__ == "__main__":
    main(sys.argv[1])
