"""What is minimised when a column of a table is learned, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from viva_tensor import autograd, nn
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.kernels.checks import is_number
from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.quantiles import Several, at, between, percent
from viva_tensor.tabular.targets import Classes, Target
from viva_tensor.train.settings import LOSSES as NAMED
from viva_tensor.train.settings import Loss

SQUARED, QUANTILE, POISSON, LOG_LOSS = "squared", "quantile", "poisson", "log-loss"
OF_NUMBERS: Mapping[str, str | Loss] = {SQUARED: "mse", "absolute": "mae", "huber": "huber", POISSON: nn.poisson_loss}
LOSSES = (*OF_NUMBERS, QUANTILE, LOG_LOSS)
LEAST_CHANCE = 2.0**-23  # of a class, to which smaller ones are raised: the resolution of float32


@dataclass(frozen=True)
class Aim:
    """What is minimised, as a user says it.

    Attributes
    ----------
    loss : {"squared", "absolute", "huber", "poisson", "quantile", "log-loss"}, optional
    quantile : float or sequence of float
        Between 0 and 1, for "quantile"; of several that nearest to the median is the prediction.
    interval : float, optional
        The share of rows that are to lie in an interval that is learned beside the prediction, between 0 and 1.
    """

    loss: str | None = None
    quantile: float | Sequence[float] = 0.5
    interval: float | None = None

    @property
    def levels(self) -> tuple[float, ...]:
        """The quantiles, checked."""
        given = np.asarray(self.quantile, dtype=object)
        levels = given.ravel().tolist() if given.ndim < 2 else []
        right = levels and all(is_number(one) and 0 < one < 1 for one in levels)
        if not right or len(set(map(percent, levels))) < len(levels):
            wanted = "a number between 0 and 1, or several that differ"
            raise DataError(f"quantile={self.quantile!r}, wanted {wanted}")
        return tuple(map(float, levels))


def loss_of(aim: Aim, classes: bool, target: str) -> str | Loss:
    """Return the loss for a target of numbers or classes, by default the usual one.

    Parameters
    ----------
    aim : Aim
    classes : bool
        Whether the target is classes.
    target : str
        The name of its column, for errors.

    Raises
    ------
    DataError
        If there is no such loss, quantile or interval, or the target is not what the loss is for.

    Examples
    --------
    >>> loss_of(Aim("absolute"), classes=False, target="price"), loss_of(Aim(), classes=True, target="cut")
    ('mae', 'cross_entropy')
    >>> loss_of(Aim("absolute"), classes=True, target="y")
    Traceback (most recent call last):
    ...
    viva_tensor.tabular.data.DataError: the loss absolute is for numbers, and 'y' is learned as classes; choose log-loss
    """
    name, levels, interval = aim.loss, aim.levels, aim.interval
    if name is not None and name not in LOSSES:
        raise DataError(f"no loss {name!r}. The losses are: {', '.join(LOSSES)}")
    if not (interval is None or (is_number(interval) and 0 < interval < 1)):
        raise DataError(f"interval={interval!r}, wanted a number between 0 and 1")
    if levels != (0.5,) and name != QUANTILE:
        raise DataError(f"quantile={aim.quantile!r} is for the loss {QUANTILE}, but this is {name or 'the usual one'}")
    if classes:
        if name not in (None, LOG_LOSS):
            raise DataError(f"the loss {name} is for numbers, and {target!r} is learned as classes; choose {LOG_LOSS}")
        if interval is not None:
            raise DataError(f"an interval is for a number, but {target!r} is learned as classes, with probabilities")
        return "cross_entropy"
    if name == LOG_LOSS:
        others = ", ".join(one for one in LOSSES if one != LOG_LOSS)
        hint = f"choose one of {others}; to predict classes, give --task classification (in Python, kind='class')"
        raise DataError(f"the loss {name} is for classes, and {target!r} is learned as a number; {hint}")
    loss = at(levels) if name == QUANTILE else OF_NUMBERS[name or SQUARED]
    if interval is None:
        return loss
    if name == POISSON or isinstance(loss, Several):
        what = "the loss poisson" if name == POISSON else "several quantiles"
        raise DataError(f"an interval cannot be combined with {what}; give only one of them, or another loss")
    return between(loss, float(interval))


@dataclass(frozen=True)
class WithAbsent:
    """Cross-entropy of held-out rows as if some were of the classes that they lack, for each as many as elsewhere.

    Without those the least loss is that of a probability of 0, which a few rows without a class do not tell. Of many
    such classes they are as one row together: a network that is rightly sure of others gives all of these little.

    Attributes
    ----------
    shares : tuple of float
        Of the rows, that are as if of each class that the held-out rows lack; 0 for the others.
    """

    shares: tuple[float, ...]

    def __call__(self, tape: Tape, output: Variable, target: Variable, **options: Any) -> Traced[Variable]:
        """Record it for outputs [rows, classes]; each of the absent classes is as probable in each row."""
        loss, tape = nn.cross_entropy(tape, output, target, **options)
        logs, tape = nn.log_softmax(tape, output)
        parts, tape = autograd.mul(tape, logs, np.array(self.shares, output.dtype))
        total, tape = autograd.sum(tape, parts)
        more, tape = autograd.div(tape, total, output.shape[0])
        return autograd.sub(tape, loss, more)


def absent_of(
    classes: Float32Array, held_out: Float32Array, count: int, weights: Float64Array | None = None
) -> WithAbsent | None:
    """Return the loss of held-out rows by the classes of all, with their weights, and of these; None: they lack none.

    Examples
    --------
    >>> absent_of(np.float32([0, 0, 1, 2]), np.float32([0, 1]), 3)
    WithAbsent(shares=(0.0, 0.0, 0.25))
    """
    counts = np.bincount(classes.astype(int), minlength=count)
    everywhere = np.bincount(classes.astype(int), weights, minlength=count)
    lacking = (np.bincount(held_out.astype(int), minlength=count) == 0) & (everywhere > 0)
    if not lacking.any():
        return None
    one = max(len(classes) / len(held_out), counts[lacking].max())  # rows of all for one of those held out
    factor = min(1.0, one / counts[lacking].sum())
    return WithAbsent(tuple((everywhere / everywhere.sum() * lacking * factor).tolist()))


def row_losses(outputs: Float32Array, y: Float32Array, target: Target) -> Float64Array:
    """Return the loss of each row, for outputs [rows, outputs] and encoded targets."""
    if isinstance(target, Classes):
        probabilities = target.probabilities(outputs)[np.arange(len(y)), y.astype(int)]
        losses: Float64Array = -np.log(np.maximum(probabilities, LEAST_CHANCE))
        return losses
    if target.loss == "mse":
        squared: Float64Array = (outputs.astype(np.float64)[:, 0] - y[:, 0]) ** 2
        return squared
    pred, tape = autograd.new_constant(autograd.new_tape(), outputs.astype(np.float64))
    actual, tape = autograd.new_constant(tape, y.astype(np.float64))
    loss = NAMED[target.loss] if isinstance(target.loss, str) else target.loss
    each: Float64Array = loss(tape, pred, actual, reduction="none").value.data[:, 0]
    return each
