"""What losses share: checks of targets, and the mean or sum over rows with their weights."""

from __future__ import annotations

import numpy as np

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable, operations, record
from viva_tensor.autograd.tape import node_of
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array, same_shape


def alike(operation: str, tape: Tape, pred: Variable, target: Variable) -> None:
    """Raise ShapeMismatch unless predictions and targets have one shape: nothing is broadcast."""
    p, t = (node_of(tape, variable, operation).output.data.shape for variable in (pred, target))
    same_shape(operation, p, t, "give one target for each prediction, of the same shape")


def subtracted(operation: str, tape: Tape, pred: Variable, target: Variable) -> Traced[Variable]:
    """Record predictions minus targets, of one shape."""
    alike(operation, tape, pred, target)
    return autograd.sub(tape, pred, target)


def check_targets(operation: str, target: Variable, fine: Array, hint: str) -> None:
    """Raise InvalidValue for the first target that is not fine."""
    if not fine.all():
        place = np.unravel_index(int(np.argmin(fine)), fine.shape)
        at = ", ".join(map(str, place))
        raise InvalidValue(f"target {target.data[place]} at [{at}]", operation=operation, hint=hint)


def reduced(
    operation: str, tape: Tape, losses: Variable, reduction: str, sample_weight: Variable | None
) -> Traced[Variable]:
    """Record the mean or sum of losses, or each, every row times its weight if there are weights."""
    if reduction not in ("mean", "sum", "none"):
        raise InvalidValue(f"reduction={reduction!r}", operation=operation, hint="choose one of mean, sum, none")
    if sample_weight is None:
        if reduction == "none":
            return Traced(losses, tape)
        return autograd.mean(tape, losses) if reduction == "mean" else autograd.sum(tape, losses)
    shape = losses.data.shape
    weights = node_of(tape, sample_weight, operation).output.data
    same_shape(operation, shape[:1], weights.shape, "give one weight for each row")
    if not (weights >= 0).all():
        row = int(np.argmin(weights >= 0))
        hint = 'weights are at least 0; for others, mul what reduction="none" gives'
        raise InvalidValue(f"weight {weights[row]} of row {row}", operation=operation, hint=hint)
    if reduction == "none" and len(shape) > 1:
        sample_weight, tape = autograd.reshape(tape, sample_weight, (-1, *[1] * (len(shape) - 1)))
    elif len(shape) > 1:  # reduce each row first: an attribute with a size would not fit other batches
        along = autograd.mean if reduction == "mean" else autograd.sum
        losses, tape = along(tape, losses, axis=tuple(range(1, len(shape))))
    hint = "give as many rows as were recorded, or make everything that has rows an input, sample_weight included"
    # the weight of one recorded row is not that of others
    sample_weight, tape = record(tape, operations.BROADCAST, sample_weight, losses, exact=(operation, hint))
    weighted, tape = autograd.mul(tape, losses, sample_weight)
    if reduction == "none":
        return Traced(weighted, tape)
    total, tape = autograd.sum(tape, weighted)
    if reduction == "sum":
        return Traced(total, tape)
    count, tape = autograd.sum(tape, sample_weight)
    return autograd.div(tape, total, count)
