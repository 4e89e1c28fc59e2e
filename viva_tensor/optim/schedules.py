"""Learning rates as functions of the step's number, from 1, for ``Step.run(schedule=...)``.

Each is a plain function that can be pickled, and raises InvalidValue if the step is not a whole number from 1. A
function that returns :class:`Rates` changes weight decay and dropout from step to step, too.

>>> rate = warm_up(cosine(0.1, steps=1000), steps=10)
>>> [round(rate(step), 4) for step in (1, 10, 500, 1000)]
[0.01, 0.1, 0.0502, 0.0]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from viva_tensor.error import InvalidValue
from viva_tensor.kernels.checks import at_least_0, check_count, check_number, positive, real, share
from viva_tensor.optim.optimizers import Optimizer

__all__ = ["Rates", "Schedule", "constant", "cosine", "one_cycle", "step_decay", "warm_up"]

Schedule = Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Rates:
    """The numbers of a step that may change from one to the next.

    Parameters
    ----------
    lr : float
        The learning rate, above 0.
    weight_decay : float, optional
        At least 0; by default that of the optimiser.
    dropout_factor : float
        Of the rate of each dropout, from 0 to 1.

    Raises
    ------
    InvalidValue
        If a number is out of its range.

    Examples
    --------
    >>> def falling(step):
    ...     part = cosine(1.0, steps=100)(step)
    ...     return Rates(0.01 * part, weight_decay=0.1 * part, dropout_factor=part)
    >>> falling(1)
    Rates(lr=0.01, weight_decay=0.1, dropout_factor=1.0)
    """

    lr: float
    weight_decay: float | None = None
    dropout_factor: float = 1.0

    def __post_init__(self) -> None:
        positive("Rates", "lr", self.lr)
        if self.weight_decay is not None:
            at_least_0("Rates", "weight_decay", self.weight_decay)
        check_number("Rates", "dropout_factor", self.dropout_factor, "from 0 to 1", lambda number: 0 <= number <= 1)


R = TypeVar("R", float, Rates)


def constant(lr: float) -> Schedule:
    """Keep the same rate for every step.

    Parameters
    ----------
    lr : float
        Above 0.

    Raises
    ------
    InvalidValue
        If it is not.

    Examples
    --------
    >>> constant(0.1)(7)
    0.1
    """
    positive("constant", "lr", lr)
    return partial(_constant, lr)


def step_decay(lr: float, every: int, factor: float) -> Schedule:
    r"""Multiply by a factor after every k steps: :math:`\eta_n = \eta f^{\lfloor (n - 1) / k \rfloor}`.

    Parameters
    ----------
    lr : float
        η, above 0.
    every : int
        k, at least 1.
    factor : float
        f, above 0 and at most 1.

    Raises
    ------
    InvalidValue
        If a number is out of its range.

    Examples
    --------
    >>> rate = step_decay(0.8, every=2, factor=0.5)
    >>> [rate(step) for step in range(1, 6)]
    [0.8, 0.8, 0.4, 0.4, 0.2]
    """
    positive("step_decay", "lr", lr)
    every = check_count("step_decay", "every", every)
    check_number("step_decay", "factor", factor, "0 < factor ≤ 1", lambda number: 0 < number <= 1)
    return partial(_step_decay, lr, every, factor)


def cosine(lr: float, steps: int, final: float = 0.0) -> Schedule:
    r"""Fall along half a cosine [1]_: :math:`\eta_n = \eta' + \frac{\eta - \eta'}{2} (1 + \cos \pi \frac{n - 1}{N})`.

    Parameters
    ----------
    lr : float
        η, the rate of step 1, above 0.
    steps : int
        N, at least 1. From step N + 1 on, the rate is η'; optimisers refuse a rate of 0.
    final : float
        η', from 0 to η.

    Raises
    ------
    InvalidValue
        If a number is out of its range.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017,
       arXiv:1608.03983; without the restarts.

    Examples
    --------
    >>> rate = cosine(0.1, steps=4, final=0.02)
    >>> [round(rate(step), 6) for step in range(1, 6)]
    [0.1, 0.088284, 0.06, 0.031716, 0.02]
    """
    positive("cosine", "lr", lr)
    steps = check_count("cosine", "steps", steps)
    check_number("cosine", "final", final, f"0 ≤ final ≤ {lr!r}", lambda number: 0 <= number <= lr)
    return partial(_cosine, lr, steps, final)


def one_cycle(
    lr: float, steps: int, rise: float = 0.3, start_factor: float = 0.04, final_factor: float = 4e-6
) -> Schedule:
    r"""Rise to a rate and fall again, both along half a cosine, in one cycle of N steps [1]_.

    Parameters
    ----------
    lr : float
        The highest rate, above 0.
    steps : int
        N, at least 1. From step N on, the rate is the last.
    rise : float
        The share of the steps that rise, from 0 up to but not including 1. If it is one step at most, the first rate is
        the highest.
    start_factor, final_factor : float
        Of the highest rate: the first and the last; above 0 and at most 1. The defaults are PyTorch's.

    Raises
    ------
    InvalidValue
        If a number is out of its range.

    References
    ----------
    .. [1] L. N. Smith and N. Topin, Super-convergence: very fast training of neural networks using large learning
       rates, arXiv:1708.07120, 2017.

    Examples
    --------
    >>> rate = one_cycle(0.5, steps=11, rise=0.4)
    >>> [round(rate(step), 3) for step in (1, 2, 4, 8, 11)]
    [0.02, 0.115, 0.484, 0.214, 0.0]
    """
    positive("one_cycle", "lr", lr)
    steps = check_count("one_cycle", "steps", steps)
    share("one_cycle", "rise", rise)
    for name, factor in (("start_factor", start_factor), ("final_factor", final_factor)):
        check_number("one_cycle", name, factor, f"0 < {name} ≤ 1", lambda number: 0 < number <= 1)
    return partial(_one_cycle, lr, steps, rise, start_factor, final_factor)


def warm_up(schedule: Callable[[int], R], steps: int) -> Callable[[int], R]:
    r"""Let another schedule s first rise from zero [1]_: :math:`\eta_n = s(n) \min(1, n / N)`.

    Parameters
    ----------
    schedule : callable
        Takes the step's number, from 1, and returns a learning rate, or :class:`Rates`, of which it alone rises.
    steps : int
        N, at least 1.

    Raises
    ------
    InvalidValue
        If a parameter is out of its range; when called, if the schedule returns something else.

    References
    ----------
    .. [1] P. Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1 hour, arXiv:1706.02677, 2017.

    Examples
    --------
    >>> rate = warm_up(constant(0.4), steps=4)
    >>> [rate(step) for step in range(1, 6)]
    [0.1, 0.2, 0.30000000000000004, 0.4, 0.4]
    """
    if not callable(schedule):
        raise InvalidValue(f"schedule={schedule!r}, wanted a function of the step", operation="warm_up")
    steps = check_count("warm_up", "steps", steps)
    return partial(_warm_up, schedule, steps)


def rates_of(optimizer: Optimizer, value: float | Rates) -> Rates:
    """Return all rates of a step with an optimiser, from a learning rate or the rates that a schedule gave.

    Examples
    --------
    >>> from viva_tensor.optim import AdamW
    >>> rates_of(AdamW(), 0.5)
    Rates(lr=0.5, weight_decay=0.01, dropout_factor=1.0)
    """
    rates = value if isinstance(value, Rates) else Rates(optimizer.at_rate(value).lr)
    return replace(rates, weight_decay=optimizer.weight_decay) if rates.weight_decay is None else rates


def _constant(lr: float, step: int) -> float:
    check_count("constant", "step", step)
    return lr


def _step_decay(lr: float, every: int, factor: float, step: int) -> float:
    step = check_count("step_decay", "step", step)
    return lr * factor ** ((step - 1) // every)


def _cosine(lr: float, steps: int, final: float, step: int) -> float:
    step = check_count("cosine", "step", step)
    if step > steps:
        return final
    return _between(lr, final, (step - 1) / steps)


def _one_cycle(lr: float, steps: int, rise: float, start_factor: float, final_factor: float, step: int) -> float:
    at = check_count("one_cycle", "step", step) - 1
    top, last = max(rise * steps - 1, 0.0), steps - 1.0
    if at >= last:
        return lr * final_factor
    if at <= top and top:
        return _between(lr * start_factor, lr, at / top)
    return _between(lr, lr * final_factor, (at - top) / (last - top))


def _between(start: float, end: float, part: float) -> float:
    """Return a number between two, along half a cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))


def _warm_up(schedule: Callable[[int], R], steps: int, step: int) -> R:
    step = check_count("warm_up", "step", step)
    value, factor = schedule(step), min(1.0, step / steps)
    if isinstance(value, Rates):
        return replace(value, lr=value.lr * factor)
    real("warm_up", "the rate of the schedule", value)
    return value * factor
