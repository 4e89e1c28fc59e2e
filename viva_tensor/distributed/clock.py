"""Where the time of steps that ranks make together goes."""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple


class Times(NamedTuple):
    """Seconds that one rank has spent in some steps, and how many they were.

    ``compute`` is for batches, gradients and updates, ``wait`` until the slowest rank is as far, and ``reduce`` in
    sums over the ranks, and in gathering parameters where the optimiser's state is sharded.
    """

    compute: float
    wait: float
    reduce: float
    steps: int


class Clock:
    """Adds up times; what it is told while it does not run costs next to nothing.

    Examples
    --------
    >>> clock = Clock()
    >>> clock.begin(True)
    >>> clock.count("compute")
    >>> clock.end()
    >>> clock.times().compute > 0, clock.times().steps
    (True, 1)
    """

    def __init__(self) -> None:
        self.running = False
        self._last = 0.0
        self._spent = {"compute": 0.0, "wait": 0.0, "reduce": 0.0}
        self._steps = 0

    def begin(self, running: bool) -> None:
        """A step begins, which is timed or not."""
        self.running = running
        if running:
            self._last = perf_counter()

    def count(self, part: str) -> None:
        """All since the last call was spent on this part."""
        if self.running:
            now = perf_counter()
            self._spent[part] += now - self._last
            self._last = now

    def end(self) -> None:
        self._steps += self.running

    def times(self) -> Times:
        return Times(**self._spent, steps=self._steps)
