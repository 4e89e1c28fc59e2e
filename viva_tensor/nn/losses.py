"""Losses on the tape: how far predictions are from targets, as a number.

Each takes ``reduction="mean"``, ``"sum"`` or ``"none"``, and ``sample_weight``, a variable with one weight of at least
0 for each row: the weighted losses are summed, and for the mean divided by the sum of the weights; with ``"none"`` they
are returned. Weights are checked when they are recorded, but not when a compiled program reads new ones. A program of
weighted losses takes other numbers of rows only if the weights are among its inputs.
"""

from __future__ import annotations

import numpy as np

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable, operations, record
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.checks import real
from viva_tensor.nn.reducing import alike, check_targets, reduced, subtracted

__all__ = ["hinge_loss", "huber_loss", "log_cosh_loss", "mae_loss", "mse_loss", "quantile_loss"]


def mse_loss(
    tape: Tape, pred: Variable, target: Variable, reduction: str = "mean", sample_weight: Variable | None = None
) -> Traced[Variable]:
    r"""Record the mean squared error, :math:`\frac{1}{n} \sum_i (p_i - t_i)^2` over all n elements.

    Unweighted, the mean is one node.

    Parameters
    ----------
    tape : Tape
    pred, target : Variable, of one shape and dtype
        Nothing is broadcast: predictions (n, 1) and targets (n,) raise instead of comparing each with each.
    reduction : {"mean", "sum", "none"}
    sample_weight : Variable [rows], optional

    Returns
    -------
    Traced of Variable, 0-d, or with "none" of the shape of the predictions
        ``float(loss.data)`` is the value; the mean of an empty batch is NaN.

    Raises
    ------
    ShapeMismatch, DtypeError
        If the shapes or dtypes differ.
    InvalidValue
        If there is no such reduction, or a weight is negative or NaN.
    ForeignVariable
        If a variable is not on this tape.

    Examples
    --------
    >>> p, tape = autograd.new_variable(autograd.new_tape(), [1.0, 2.0])
    >>> t, tape = autograd.new_constant(tape, [1.0, 4.0])
    >>> loss, tape = mse_loss(tape, p, t)
    >>> float(loss.data), autograd.backward(tape, loss)[p]
    (2.0, array([ 0., -2.], dtype=float32))
    """
    if reduction == "mean" and sample_weight is None:
        return record(tape, operations.MEAN_SQUARED_ERROR, pred, target)
    difference, tape = subtracted("mse_loss", tape, pred, target)
    square, tape = autograd.mul(tape, difference, difference)
    return reduced("mse_loss", tape, square, reduction, sample_weight)


def mae_loss(
    tape: Tape, pred: Variable, target: Variable, reduction: str = "mean", sample_weight: Variable | None = None
) -> Traced[Variable]:
    r"""Record the mean absolute error, :math:`\frac{1}{n} \sum_i |p_i - t_i|`, with gradient 0 where they are equal.

    Parameters, returns and errors are those of :func:`mse_loss`.

    Examples
    --------
    >>> p, tape = autograd.new_variable(autograd.new_tape(), [1.0, 2.0])
    >>> t, tape = autograd.new_constant(tape, [1.0, 4.0])
    >>> float(mae_loss(tape, p, t).value.data)
    1.0
    """
    difference, tape = subtracted("mae_loss", tape, pred, target)
    size, tape = autograd.abs(tape, difference)
    return reduced("mae_loss", tape, size, reduction, sample_weight)


def huber_loss(
    tape: Tape,
    pred: Variable,
    target: Variable,
    delta: float = 1.0,
    reduction: str = "mean",
    sample_weight: Variable | None = None,
) -> Traced[Variable]:
    """Record Huber's loss, half the squared error up to δ and linear beyond; see :func:`viva_tensor.kernels.huber`.

    Parameters, returns and errors are those of :func:`mse_loss`; ``delta``, δ, is above 0.

    Examples
    --------
    >>> p, tape = autograd.new_variable(autograd.new_tape(), [0.5, 2.0])
    >>> t, tape = autograd.new_constant(tape, [1.0, 5.0])
    >>> float(huber_loss(tape, p, t, reduction="sum").value.data)
    2.625
    """
    difference, tape = subtracted("huber_loss", tape, pred, target)
    losses, tape = record(tape, operations.HUBER, difference, delta=real("huber_loss", "delta", delta))
    return reduced("huber_loss", tape, losses, reduction, sample_weight)


def log_cosh_loss(
    tape: Tape, pred: Variable, target: Variable, reduction: str = "mean", sample_weight: Variable | None = None
) -> Traced[Variable]:
    r"""Record the mean of :math:`\ln \cosh(p - t)`, a smooth absolute error; see :func:`viva_tensor.kernels.log_cosh`.

    Parameters, returns and errors are those of :func:`mse_loss`.

    Examples
    --------
    >>> p, tape = autograd.new_variable(autograd.new_tape(), [0.0, 2.0])
    >>> t, tape = autograd.new_constant(tape, [0.0, 1.0])
    >>> round(float(log_cosh_loss(tape, p, t, reduction="sum").value.data), 4)
    0.4338
    """
    difference, tape = subtracted("log_cosh_loss", tape, pred, target)
    losses, tape = record(tape, operations.LOG_COSH, difference)
    return reduced("log_cosh_loss", tape, losses, reduction, sample_weight)


def quantile_loss(
    tape: Tape,
    pred: Variable,
    target: Variable,
    quantile: float = 0.5,
    reduction: str = "mean",
    sample_weight: Variable | None = None,
) -> Traced[Variable]:
    r"""Record the pinball loss [1]_, whose smallest mean has a share :math:`q` of the targets below the prediction.

    .. math:: \max(q (t - p), (q - 1)(t - p))

    Parameters, returns and errors are those of :func:`mse_loss`; ``quantile``, q, lies between 0 and 1. The gradient is
    0 where predictions and targets are equal.

    References
    ----------
    .. [1] R. Koenker and G. Bassett, Regression quantiles, Econometrica 46(1), 1978.

    Examples
    --------
    >>> p, tape = autograd.new_variable(autograd.new_tape(), [1.0, 4.0])
    >>> t, tape = autograd.new_constant(tape, [2.0, 2.0])
    >>> round(float(quantile_loss(tape, p, t, 0.9, reduction="sum").value.data), 4)
    1.1
    """
    q = real("quantile_loss", "quantile", quantile)
    if not 0 < q < 1:
        raise InvalidValue(f"quantile={quantile!r}", operation="quantile_loss", hint="give a number between 0 and 1")
    difference, tape = subtracted("quantile_loss", tape, target, pred)
    above, tape = autograd.relu(tape, difference)
    opposite, tape = record(tape, operations.SCALE, difference, factor=-1.0)
    below, tape = autograd.relu(tape, opposite)
    above, tape = record(tape, operations.SCALE, above, factor=q)
    below, tape = record(tape, operations.SCALE, below, factor=1 - q)
    losses, tape = autograd.add(tape, above, below)
    return reduced("quantile_loss", tape, losses, reduction, sample_weight)


def hinge_loss(
    tape: Tape, pred: Variable, target: Variable, reduction: str = "mean", sample_weight: Variable | None = None
) -> Traced[Variable]:
    r"""Record the hinge loss :math:`\max(0, 1 - t p)` of targets -1 and 1 [1]_.

    Parameters, returns and errors are those of :func:`mse_loss`, with :class:`InvalidValue` for other targets, which
    are checked when they are recorded.

    References
    ----------
    .. [1] C. Cortes and V. Vapnik, Support-vector networks, Machine Learning 20, 1995.

    Examples
    --------
    >>> p, tape = autograd.new_variable(autograd.new_tape(), [0.5, -3.0])
    >>> t, tape = autograd.new_constant(tape, [1.0, -1.0])
    >>> float(hinge_loss(tape, p, t, reduction="sum").value.data)
    0.5
    """
    alike("hinge_loss", tape, pred, target)
    check_targets("hinge_loss", target, np.abs(target.data) == 1, "targets are -1 and 1")
    product, tape = autograd.mul(tape, target, pred)
    losses, tape = autograd.sequence(autograd.sub(tape, 1.0, product), autograd.relu)
    return reduced("hinge_loss", tape, losses, reduction, sample_weight)
