"""Compiled programs that are handed on, from estimators that are gone and fits that have ended to the next ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from viva_tensor.kernels.arrays import Array

MOST_PROGRAMS = 8  # that wait for the next fit of their kind
MOST_BYTES = 1 << 21  # of one: compiling a larger one takes little of its training
FOR_EACH_UNIT = 2  # numbers that a program keeps for each unit, its inputs and its outputs of each row


class Shelf:
    """Programs that nobody uses; who takes one has it alone. Several threads may take and put at once.

    Examples
    --------
    >>> shelf = Shelf(most=2)
    >>> for key, program in ((1, "a"), (2, "b"), (1, "c")):
    ...     shelf.put(key, program)
    >>> shelf.take(1), shelf.take(1), shelf.take(2)
    ('c', None, 'b')
    """

    def __init__(self, most: int) -> None:
        self._kept: deque[tuple[Any, Any]] = deque(maxlen=most)  # whose methods are atomic

    def put(self, key: Any, program: Any) -> None:
        """Put a program there; with as many as there may be, the first one goes."""
        self._kept.append((key, program))

    @contextmanager
    def lent(self, key: Any, make: Callable[[], Any], keep: bool) -> Iterator[Any]:
        """Lend a program of this key, or a new one, for a block; with ``keep`` it is put there if all went well."""
        program = self.take(key) or make()
        yield program
        if keep:
            self.put(key, program)

    def take(self, key: Any) -> Any:
        """Take a program of this key, None if there is none."""
        for one in self._all():
            if one[0] == key:
                try:
                    self._kept.remove(one)
                except (ValueError, IndexError):  # another thread took it, or any, at the same time
                    continue
                return one[1]
        return None

    def _all(self) -> tuple[tuple[Any, Any], ...]:
        while True:
            try:
                return tuple(self._kept)
            except RuntimeError:  # garbage was collected meanwhile, and a program of it put there
                continue


def is_small(weights: Sequence[Array], rows: int) -> bool:
    """Return whether a program of these weights, for so many rows at a time, may be kept for others.

    Examples
    --------
    >>> import numpy as np
    >>> weights = [np.zeros((20, 100)), np.zeros((100, 1))]
    >>> is_small(weights, rows=200), is_small(weights, rows=10_000), is_small([np.zeros((1000, 1000))], rows=1)
    (True, False, False)
    """
    units = sum(sum(one.shape) for one in weights)
    numbers = sum(one.size for one in weights) + FOR_EACH_UNIT * rows * units
    return numbers * weights[0].itemsize <= MOST_BYTES


SHELF = Shelf(MOST_PROGRAMS)
