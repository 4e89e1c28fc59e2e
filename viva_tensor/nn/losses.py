"""Losses on the tape: how far predictions are from targets, as a number.

Each takes ``reduction="mean"`` or ``"sum"``, and ``sample_weight``, a variable with one weight of at least 0 for each
row: the weighted losses are summed, and for the mean divided by the sum of the weights. Weights are checked when they
are recorded, but not when a compiled program reads new ones.
"""

from __future__ import annotations

import numpy as np

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable, operations, record
from viva_tensor.autograd.tape import node_of
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import same_shape
from viva_tensor.kernels.checks import real

__all__ = ["binary_cross_entropy", "cross_entropy", "huber_loss", "mae_loss", "mse_loss"]


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
    reduction : {"mean", "sum"}
    sample_weight : Variable [rows], optional

    Returns
    -------
    Traced of Variable, 0-d
        ``float(loss.data)`` is the value; NaN for an empty batch.

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
    difference, tape = _difference("mse_loss", tape, pred, target)
    square, tape = autograd.mul(tape, difference, difference)
    return _reduced("mse_loss", tape, square, reduction, sample_weight)


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
    difference, tape = _difference("mae_loss", tape, pred, target)
    size, tape = autograd.abs(tape, difference)
    return _reduced("mae_loss", tape, size, reduction, sample_weight)


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
    difference, tape = _difference("huber_loss", tape, pred, target)
    losses, tape = record(tape, operations.HUBER, difference, delta=real("huber_loss", "delta", delta))
    return _reduced("huber_loss", tape, losses, reduction, sample_weight)


def binary_cross_entropy(
    tape: Tape, logits: Variable, target: Variable, reduction: str = "mean", sample_weight: Variable | None = None
) -> Traced[Variable]:
    """Record the cross-entropy of logits with targets from 0 to 1.

    See :func:`viva_tensor.kernels.binary_cross_entropy`. Parameters, returns and errors are those of :func:`mse_loss`,
    with :class:`InvalidValue` for other targets.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [0.0, 100.0])
    >>> t, tape = autograd.new_constant(tape, [1.0, 1.0])
    >>> round(float(binary_cross_entropy(tape, x, t, reduction="sum").value.data), 4)
    0.6931
    """
    losses, tape = record(tape, operations.BINARY_CROSS_ENTROPY, logits, target)
    return _reduced("binary_cross_entropy", tape, losses, reduction, sample_weight)


def cross_entropy(
    tape: Tape, logits: Variable, target: Variable, reduction: str = "mean", sample_weight: Variable | None = None
) -> Traced[Variable]:
    """Record the cross-entropy of softmax(logits) with classes or probabilities.

    See :func:`viva_tensor.kernels.cross_entropy`. The reduction is over the rows; other parameters and errors are those
    of :func:`mse_loss`.

    Parameters
    ----------
    logits : Variable [rows, classes]
    target : Variable
        [rows]: the index of each row's class, from 0, in the dtype of the logits; or [rows, classes]: probabilities.
        They are checked when they are recorded; a compiled program returns NaN for a class that does not exist.

    Raises
    ------
    IndexOutOfBounds, DimensionError, InvalidValue
        If a class has no logit; if logits are not a matrix; if the index of a class is not whole, or probabilities do
        not sum to 1.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [[0.0, 0.0]])
    >>> t, tape = autograd.new_constant(tape, [1.0])
    >>> loss, tape = cross_entropy(tape, x, t)
    >>> round(float(loss.data), 4), autograd.backward(tape, loss)[x]
    (0.6931, array([[ 0.5, -0.5]], dtype=float32))
    """
    losses, tape = record(tape, operations.CROSS_ENTROPY, logits, target)
    return _reduced("cross_entropy", tape, losses, reduction, sample_weight)


def _difference(operation: str, tape: Tape, pred: Variable, target: Variable) -> Traced[Variable]:
    p, t = (node_of(tape, variable, operation).output.data.shape for variable in (pred, target))
    same_shape(operation, p, t, "give one target for each prediction, of the same shape")
    return autograd.sub(tape, pred, target)


def _reduced(
    operation: str, tape: Tape, losses: Variable, reduction: str, sample_weight: Variable | None
) -> Traced[Variable]:
    if reduction not in ("mean", "sum"):
        raise InvalidValue(f"reduction={reduction!r}", operation=operation, hint="choose one of mean, sum")
    if sample_weight is None:
        return autograd.mean(tape, losses) if reduction == "mean" else autograd.sum(tape, losses)
    shape = losses.data.shape
    weights = node_of(tape, sample_weight, operation).output.data
    same_shape(operation, shape[:1], weights.shape, "give one weight for each row")
    if not (weights >= 0).all():
        row = int(np.argmin(weights >= 0))
        raise InvalidValue(f"weight {weights[row]} of row {row}", operation=operation, hint="weights are at least 0")
    if len(shape) > 1:  # reduce each row first: an attribute with a size would not fit other batches
        along = autograd.mean if reduction == "mean" else autograd.sum
        losses, tape = along(tape, losses, axis=tuple(range(1, len(shape))))
    weighted, tape = autograd.mul(tape, losses, sample_weight)
    total, tape = autograd.sum(tape, weighted)
    if reduction == "sum":
        return Traced(total, tape)
    count, tape = autograd.sum(tape, sample_weight)
    return autograd.div(tape, total, count)
