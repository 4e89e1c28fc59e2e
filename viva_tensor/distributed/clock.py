"""Where the time goes in steps that ranks make together."""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple


class Times(NamedTuple):
    """Seconds that one rank has spent in some steps, and the number of these steps.

    ``compute`` covers batches, gradients and updates; ``wait`` lasts until the slowest rank is as far; ``reduce``
    covers sums over the ranks, and the gathering of parameters if the optimiser's state is sharded.
    """

    compute: float
    wait: float
    reduce: float
    steps: int


class Clock:
    """A sum of times; calls cost next to nothing while it does not run.

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
        """Begin a step, which is timed or not."""
        self.running = running
        if running:
            self._last = perf_counter()

    def count(self, kind: str) -> None:
        """Add the time since the last call to one kind."""
        if self.running:
            now = perf_counter()
            self._spent[kind] += now - self._last
            self._last = now

    def end(self) -> None:
        """End a step."""
        self._steps += self.running

    def times(self) -> Times:
        """Return the times of all timed steps."""
        return Times(**self._spent, steps=self._steps)
