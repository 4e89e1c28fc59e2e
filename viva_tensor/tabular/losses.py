"""What is minimised when a column of a table is learned, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from viva_tensor import autograd, nn
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.kernels.checks import is_number
from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.targets import Classes, Target
from viva_tensor.train.settings import LOSSES as NAMED
from viva_tensor.train.settings import Loss

SQUARED, QUANTILE, POISSON, LOG_LOSS = "squared", "quantile", "poisson", "log-loss"
OF_NUMBERS: Mapping[str, str | Loss] = {SQUARED: "mse", "absolute": "mae", "huber": "huber", POISSON: nn.poisson_loss}
LOSSES = (*OF_NUMBERS, QUANTILE, LOG_LOSS)


@dataclass(frozen=True)
class Quantile:
    """The pinball loss of a quantile, :func:`viva_tensor.nn.quantile_loss`."""

    quantile: float

    def __call__(self, tape: Tape, output: Variable, target: Variable, **options: Any) -> Traced[Variable]:
        return nn.quantile_loss(tape, output, target, self.quantile, **options)


def loss_of(name: str | None, quantile: float, classes: bool, target: str) -> str | Loss:
    """Return the loss of this name for a target of numbers or classes, by default the usual one.

    Parameters
    ----------
    name : {"squared", "absolute", "huber", "poisson", "quantile", "log-loss"}, optional
    quantile : float
        Between 0 and 1, for "quantile".
    classes : bool
        Whether the target is classes.
    target : str
        The name of its column, for errors.

    Raises
    ------
    DataError
        If there is no such loss or quantile, or the target is not what the loss is for.

    Examples
    --------
    >>> loss_of("absolute", 0.5, classes=False, target="price"), loss_of(None, 0.5, classes=True, target="cut")
    ('mae', 'cross_entropy')
    >>> loss_of("absolute", 0.5, classes=True, target="cut")
    Traceback (most recent call last):
    ...
    viva_tensor.tabular.data.DataError: the loss absolute is for numbers, and 'cut' is learned as classes: log-loss
    """
    if name is not None and name not in LOSSES:
        raise DataError(f"no loss {name!r}. The losses are: {', '.join(LOSSES)}")
    if not (is_number(quantile) and 0 < quantile < 1):
        raise DataError(f"quantile={quantile!r}, wanted a number between 0 and 1")
    if classes:
        if name not in (None, LOG_LOSS):
            raise DataError(f"the loss {name} is for numbers, and {target!r} is learned as classes: {LOG_LOSS}")
        return "cross_entropy"
    if name == LOG_LOSS:
        others = ", ".join(one for one in LOSSES if one != LOG_LOSS)
        raise DataError(f"the loss {name} is for classes, and {target!r} is learned as a number: {others}")
    return Quantile(float(quantile)) if name == QUANTILE else OF_NUMBERS[name or SQUARED]


def row_losses(outputs: Float32Array, y: Float32Array, target: Target) -> Float64Array:
    """Return the loss of each row, for outputs [rows, outputs] and encoded targets."""
    if isinstance(target, Classes):
        probabilities = target.probabilities(outputs)[np.arange(len(y)), y.astype(int)]
        losses: Float64Array = -np.log(np.maximum(probabilities, 2.0**-23))
        return losses
    if target.loss == "mse":
        squared: Float64Array = (outputs.astype(np.float64)[:, 0] - y[:, 0]) ** 2
        return squared
    pred, tape = autograd.new_constant(autograd.new_tape(), outputs.astype(np.float64))
    actual, tape = autograd.new_constant(tape, y.astype(np.float64))
    loss = NAMED[target.loss] if isinstance(target.loss, str) else target.loss
    each: Float64Array = loss(tape, pred, actual, reduction="none").value.data[:, 0]
    return each
