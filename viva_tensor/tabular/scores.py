"""Scores of predictions: errors in units of the target, and the loss that was asked for."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from viva_tensor import nn
from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular.quantiles import Quantile, Several
from viva_tensor.train.settings import Loss


class NumberScores(NamedTuple):
    """Errors of predictions in units of the target; `r2` is NaN where the target does not vary."""

    rmse: float
    mae: float
    r2: float


class QuantileScores(NamedTuple):
    """Those of :class:`NumberScores` after the :func:`quantile_loss` that the predictions are to make least."""

    quantile_loss: float
    rmse: float
    mae: float
    r2: float


class CountScores(NamedTuple):
    """Those of :class:`NumberScores` after the :func:`poisson_deviance`."""

    deviance: float
    rmse: float
    mae: float
    r2: float


class ClassScores(NamedTuple):
    """The share of rows whose most probable class is right, and the mean of -log(probability of the right class)."""

    accuracy: float
    log_loss: float


Scores = NumberScores | QuantileScores | CountScores | ClassScores
MINIMISED = {"cross_entropy": "log_loss", "mae": "mae", "huber": "mae"}  # scores of losses; of others, the RMSE
HEADINGS = {
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R2",
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "auc": "AUC",
    "deviance": "deviance",
    "quantile_loss": "quantile loss",
}


def of_prediction(loss: str | Loss) -> str | Loss:
    """Return what the prediction minimises, of a loss that has quantiles beside it."""
    return loss.first if isinstance(loss, Several) else loss


def minimised(loss: str | Loss) -> str:
    """Return the name of the score that is nearest to a loss.

    Examples
    --------
    >>> minimised("mse"), minimised("huber"), minimised(Quantile(0.9))
    ('rmse', 'mae', 'quantile_loss')
    """
    loss = of_prediction(loss)
    if isinstance(loss, Quantile):
        return "quantile_loss"
    return "deviance" if loss is nn.poisson_loss else MINIMISED.get(str(loss), "rmse")


def number_scores(
    values: Float64Array, predicted: Float64Array, loss: str | Loss = "mse"
) -> NumberScores | QuantileScores | CountScores:
    """Return the scores of predictions [rows] of values [rows] that were to minimise a loss.

    Examples
    --------
    >>> number_scores(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    NumberScores(rmse=1.0, mae=1.0, r2=0.0)
    """
    with np.errstate(over="ignore", invalid="ignore"):  # of values beyond 10¹⁵⁴, whose squares are infinite
        error = predicted - values
        spread = float(np.sum((values - values.mean()) ** 2))
        r2 = 1 - float(np.sum(error**2)) / spread if spread else math.nan
        errors = NumberScores(float(np.sqrt(np.mean(error**2))), float(np.mean(np.abs(error))), r2)
    loss = of_prediction(loss)
    if isinstance(loss, Quantile):
        return QuantileScores(quantile_loss(values, predicted, loss.quantile), *errors)
    return CountScores(poisson_deviance(values, predicted), *errors) if loss is nn.poisson_loss else errors


def quantile_loss(values: Float64Array, predicted: Float64Array, level: float) -> float:
    r"""Return the mean of :math:`\max(q (y - p), (q - 1)(y - p))` over rows [1]_, in units of the target.

    References
    ----------
    .. [1] R. Koenker and G. Bassett, Regression quantiles, Econometrica 46(1), 1978.

    Examples
    --------
    >>> quantile_loss(np.array([1.0, 3.0]), np.array([2.0, 2.0]), 0.75)
    0.5
    """
    above = values - predicted
    return float(np.mean(np.maximum(level * above, (level - 1) * above)))


def poisson_deviance(values: Float64Array, predicted: Float64Array) -> float:
    r"""Return the mean of :math:`2 (y \log (y / p) - y + p)` over rows [1]_, infinite where some p is not above 0.

    References
    ----------
    .. [1] P. McCullagh and J. A. Nelder, Generalized linear models, 2nd edition, 1989.

    Examples
    --------
    >>> round(poisson_deviance(np.array([0.0, 2.0]), np.array([1.0, 1.0])), 6)
    1.386294
    """
    if (predicted <= 0).any():
        return math.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(values > 0, values * np.log(values / predicted), 0.0)
    return float(2 * np.mean(logs - values + predicted))
