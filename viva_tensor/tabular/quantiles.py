"""Quantiles as what is minimised, one or several at once, and intervals between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from viva_tensor import autograd, nn
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.train.settings import LOSSES, Loss


@dataclass(frozen=True)
class Quantile:
    """The pinball loss of a quantile, :func:`viva_tensor.nn.quantile_loss`."""

    quantile: float

    def __call__(self, tape: Tape, output: Variable, target: Variable, **options: Any) -> Traced[Variable]:
        return nn.quantile_loss(tape, output, target, self.quantile, **options)


@dataclass(frozen=True)
class Several:
    """The sum of the losses of several outputs of a network: of its prediction, and of quantiles.

    Attributes
    ----------
    first : str or Loss
        Of the prediction, the first output; a :class:`Quantile` of several quantiles.
    levels : tuple of float
        The quantiles of the outputs after it, rising.
    interval : bool
        Whether they are the ends of an interval, and not quantiles beside that of the prediction.
    """

    first: str | Loss
    levels: tuple[float, ...]
    interval: bool = False

    def __call__(self, tape: Tape, output: Variable, target: Variable, **options: Any) -> Traced[Variable]:
        """Record the sum for outputs and targets [rows, 1 + levels]."""
        outputs, tape = autograd.split(tape, output, 1 + len(self.levels), axis=1)
        targets, tape = autograd.split(tape, target, 1 + len(self.levels), axis=1)
        first = LOSSES[self.first] if isinstance(self.first, str) else self.first
        total, tape = first(tape, outputs[0], targets[0], **options)
        for level, one, wanted in zip(self.levels, outputs[1:], targets[1:], strict=True):
            loss, tape = nn.quantile_loss(tape, one, wanted, level, **options)
            total, tape = autograd.add(tape, total, loss)
        return Traced(total, tape)


def percent(level: float) -> str:
    """Return the name of a quantile among the columns of predictions.

    Examples
    --------
    >>> percent(0.07), percent(0.025), percent(0.9999999)
    ('7%', '2.5%', '99.99999%')
    """
    return f"{100 * level:.7g}%"  # the digits that float32 tells apart


def between(first: str | Loss, interval: float) -> Several:
    """Return the loss of a prediction and of the two quantiles around the share of an interval.

    Examples
    --------
    >>> between("mse", 0.75).levels
    (0.125, 0.875)
    """
    tail = (1 - interval) / 2
    return Several(first, (tail, 1 - tail), interval=True)


def at(levels: Sequence[float]) -> Quantile | Several:
    """Return the loss of one quantile or several, of which that nearest to the median is the prediction.

    Of two that are as near it is the lower one.

    Examples
    --------
    >>> at((0.9, 0.1, 0.4))
    Several(first=Quantile(quantile=0.4), levels=(0.1, 0.9), interval=False)
    """
    middle = min(sorted(levels), key=lambda level: round(abs(level - 0.5), 9))  # 0.05 and 0.95 are as near
    others = tuple(sorted(level for level in levels if level != middle))
    return Several(Quantile(middle), others) if others else Quantile(middle)
