"""The amounts of work from which another thread, a copy or a barrier pays.

``asv_benchmarks/thresholds.py`` measures the work for each thread, ``asv_benchmarks/paths.py`` the gain of copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from viva_tensor.kernels.threads import set_eagerness


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The numbers that plans depend on, beside shapes and the number of threads."""

    program: int = 400_000  # multiply-adds of a program, or without any the elements it moves, for each thread
    product: int = 15_000  # multiply-adds of a product for each thread: within a region no team has to be woken
    elements: int = 65_536  # elements that any other instruction moves, for each thread
    own_rows: int = 262_144  # elements of weights up to which each thread may read them all, to save a barrier
    packed_twice: int = 16_384  # the same, if each thread packs them for itself
    # bytes of temporaries up to which those of a plan share no memory, for fewer barriers, nor those of a step's plans
    unshared: int = 1 << 22
    copied: int = 64  # multiply-adds per element from which a copy in panels pays
    round_trip: float = 1e-7  # seconds in which a cache line comes from another processor core: 40 to 500 ns
    eagerness: float = 1.0  # divisor of the work for each thread in eager kernels


# Teams for all instructions of programs, however small.
EVERYWHERE: dict[str, Any] = {"program": 1, "product": 1, "elements": 1, "round_trip": 0.0}

_current = Thresholds()


def current() -> Thresholds:
    """Return the thresholds in force.

    Examples
    --------
    >>> current().copied
    64
    """
    return _current


def use(thresholds: Thresholds) -> None:
    """Put thresholds in force, in the whole process; existing plans stay as they are."""
    global _current
    _current = thresholds
    set_eagerness(thresholds.eagerness)


@contextmanager
def changed(**values: Any) -> Iterator[Thresholds]:
    """Put other values in force in a block, in the whole process; not from several threads at once.

    Examples
    --------
    >>> with changed(copied=1, **EVERYWHERE):
    ...     current().copied, current().program
    (1, 1)
    >>> current() == Thresholds()
    True
    """
    before = _current
    use(replace(before, **values))
    try:
        yield _current
    finally:
        use(before)
