"""Training in a process whose address space is limited, at first to what it has, then to more and more.

A part of stress/allocations.py. What is refused is a MemoryError, and leaves everything usable, to the bit.
"""

import resource
from pathlib import Path
from typing import Any

from support.training import compiled, digest, trained

import viva_tensor as vt

SMALL: dict[str, Any] = {"sizes": (30, 64, 3), "batch": 200}
LARGE: dict[str, Any] = {"sizes": (512, 1024, 512), "batch": 512}
ROOMS = [*range(0, 4 << 20, 1 << 17), *range(4 << 20, 64 << 20, 1 << 20)]


def used() -> int:
    """Return how many bytes of addresses are in use."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main() -> None:
    """Train with each room, and print how often it was too little."""
    vt.set_num_threads(2)
    wanted = trained(steps=2, **SMALL), trained(steps=1, **LARGE)
    step, _, X, Y = compiled(**SMALL)
    step(X, Y)
    refused = 0
    for room in ROOMS:
        resource.setrlimit(resource.RLIMIT_AS, (used() + room, resource.RLIM_INFINITY))
        try:
            found = trained(steps=1, **LARGE)
            assert found == wanted[1]
        except MemoryError:
            refused += 1
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        vt.set_num_threads(2)
    step(X, Y)
    assert digest(step) == wanted[0]
    print(refused, "refusals of", len(ROOMS))


if __name__ == "__main__":
    main()
