"""The rates of steps to come, as a schedule gives them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.kernels.checks import shown
from viva_tensor.optim import Optimizer, Rates
from viva_tensor.optim.schedules import rates_of

Numbers = tuple[float, float, float]  # a learning rate, a weight decay and a factor of dropout rates

STEPS_AHEAD = 64  # whose rates are asked for at a time, at most
FLOPS_AHEAD = 1_000_000_000  # that these steps may take in all: about 10 ms without Python


class Scheduled:
    """The rates of steps to come: a schedule is asked for each number once, in order, some short steps ahead.

    Parameters
    ----------
    schedule : callable
        Returns the learning rate of a step from its number, or all rates.
    optimizer : Optimizer
    rates : Rates
        All of them, of which a schedule that returns the learning rate changes only that.

    Examples
    --------
    >>> from viva_tensor.optim import SGD
    >>> scheduled = Scheduled(lambda number: 1 / number, SGD(), Rates(0.1, weight_decay=0.5))
    >>> scheduled.of(1, count=2, flops=1000).tolist()
    [[1.0, 0.5, 1.0], [0.5, 0.5, 1.0]]
    >>> scheduled.of(2, count=1, flops=1000).tolist()
    [[0.5, 0.5, 1.0]]
    """

    def __init__(self, schedule: Callable[[int], float | Rates], optimizer: Optimizer, rates: Rates) -> None:
        self._schedule, self._optimizer, self._given = schedule, optimizer, rates
        self._first, self._rates = 1, np.empty((0, 3))
        self._failure: BaseException | None = None  # of the schedule, after these

    def of(self, number: int, count: int, flops: int) -> Float64Array:
        """Return the learning rate, weight decay and dropout factor of steps from a number on [at most `count`, 3].

        Raises
        ------
        BaseException
            What the schedule raised, after the steps before that number are done.
        """
        known = number - self._first
        if not 0 <= known < len(self._rates):
            self._raise_failure()
            self._first, known = number, 0
            self._rates = self._asked(min(count, STEPS_AHEAD, max(1, FLOPS_AHEAD // max(flops, 1))))
        return self._rates[known : known + count]

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # whose traceback has this frame

    def _asked(self, count: int) -> Float64Array:
        found: list[Numbers] = []
        for number in range(self._first, self._first + count):
            try:
                found.append(numbers_of(self._schedule(number), self._optimizer, self._given, number))
            except BaseException as error:
                if not found:
                    raise
                self._failure = error
                break
        return np.array(found, np.float64)


def numbers_of(given: float | Rates, optimizer: Optimizer, rates: Rates, step: int | None = None) -> Numbers:
    """Return the numbers of a step from what a schedule gave: all rates, or a learning rate beside `rates`.

    Errors name the step, if it is given.

    Examples
    --------
    >>> from viva_tensor.optim import SGD
    >>> numbers_of(0.25, SGD(), Rates(0.1, weight_decay=0.5))
    (0.25, 0.5, 1.0)
    """
    try:
        if isinstance(given, Rates):
            rates = rates_of(optimizer, given)
            lr = rates.lr
        elif isinstance(given, float) and 0.0 < given < math.inf:
            lr = float(given)
        else:
            lr = optimizer.at_rate(given).lr  # which raises, or finds a number; it takes as long as a small step
    except InvalidValue as error:
        if step is None:
            raise
        got = f"the schedule gave {shown(given)} for step {step} ({error.operation}: {error.reason})"
        hint = "it must hold for every step, such as cosine(lr, steps) for as many steps as there are"
        raise InvalidValue(got, operation="run", hint=hint) from None
    assert rates.weight_decay is not None
    return lr, rates.weight_decay, rates.dropout_factor
