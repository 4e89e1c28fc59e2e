"""The losses of the estimators on a tape: of outputs before the last activation, whose name tells the loss."""

from __future__ import annotations

import numpy as np

from viva_tensor import autograd, nn
from viva_tensor.autograd import Tape, Traced, Variable, operations
from viva_tensor.nn.reducing import reduced
from viva_tensor.train import Layers


def record_loss(
    tape: Tape, activation: str, output: Variable, target: Variable, weight: Variable | None
) -> Traced[Variable]:
    """Record a loss, summed over the outputs and averaged over the rows, by their weights if there are some.

    It is half the squared error for the last activation "identity", half the Poisson deviance for "exp", cross-entropy
    for "softmax", with indices of classes as targets, and that of each output for "logistic".
    """
    if activation == "softmax":
        return nn.cross_entropy(tape, output, target, sample_weight=weight)
    width = output.data.shape[1]
    if activation == "identity":
        loss, tape = nn.mse_loss(tape, output, target, sample_weight=weight)
        return _scaled(tape, loss, width / 2)
    if activation == "logistic":
        loss, tape = nn.binary_cross_entropy(tape, output, target, sample_weight=weight)
    else:
        losses, tape = nn.poisson_loss(tape, output, target, reduction="none")
        least, tape = _least_deviance(tape, target)
        losses, tape = autograd.add(tape, losses, least)
        loss, tape = reduced("poisson_loss", tape, losses, "mean", weight)
    return _scaled(tape, loss, width)


def record_mean_over_outputs(tape: Tape, loss: Variable, width: int) -> Traced[Variable]:
    """Record a loss by the number of outputs, but with its own gradient, as scikit-learn tells squared errors."""
    if width == 1:
        return Traced(loss, tape)
    known, tape = autograd.stop_gradient(tape, loss)
    rest, tape = _scaled(tape, known, 1 / width - 1)
    return autograd.add(tape, loss, rest)


def record_penalty(
    tape: Tape, layers: Layers, alpha: float, target: Variable, weight: Variable | None
) -> Traced[Variable]:
    """Record α/2 times the sum of squared weights, divided by the rows of the actual batch, or the sum of theirs."""
    total, tape = autograd.new_constant(tape, np.zeros((), target.data.dtype))
    for layer in layers:
        size, tape = autograd.sum_of_squares(tape, layer.w)
        total, tape = autograd.add(tape, total, size)
    if weight is not None:
        total, tape = _scaled(tape, total, alpha / 2)
        count, tape = autograd.sum(tape, weight)
        return autograd.div(tape, total, count)
    total, tape = _scaled(tape, total, alpha / 2 * (target.data.size // len(target.data)))
    zeros, tape = _scaled(tape, target, 0)
    ones, tape = autograd.add(tape, zeros, 1.0)
    count, tape = autograd.sum(tape, ones)
    return autograd.div(tape, total, count)


def _least_deviance(tape: Tape, target: Variable) -> Traced[Variable]:
    """Record t ln t - t, which is 0 for a count of 0: what the Poisson loss lacks to be 0 at its minimum."""
    positive, tape = autograd.maximum(tape, target, float(np.finfo(target.data.dtype).tiny))
    logarithm, tape = autograd.log(tape, positive)
    product, tape = autograd.mul(tape, target, logarithm)
    return autograd.sub(tape, product, target)


def _scaled(tape: Tape, x: Variable, factor: float) -> Traced[Variable]:
    """Record factor · x."""
    return autograd.record(tape, operations.SCALE, x, factor=float(factor))
