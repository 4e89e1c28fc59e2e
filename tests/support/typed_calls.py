"""Calls with NumPy's integers and arrays of them, for a type checker as for Python."""

from __future__ import annotations

import numpy as np

from viva_tensor import autograd, kernels


def shapes() -> list[tuple[int, ...]]:
    """Return the shapes of what functions make of a (4, 3) array if axes, sizes and widths are NumPy's."""
    x, tape = autograd.new_variable(autograd.new_tape(), np.ones((4, 3), np.float32))
    axis = np.int64(1)
    found = [
        *autograd.split(tape, x, np.array([1, 3])).value,
        *autograd.split(tape, x, np.int64(3), axis).value,
        autograd.reshape(tape, x, -1).value,
        autograd.reshape(tape, x, np.int64(12)).value,
        autograd.reshape(tape, x, (np.int64(2), -1)).value,
        autograd.reshape(tape, x, np.array([2, 6])).value,
        autograd.pad(tape, x, np.array([[1, 1], [0, 2]])).value,
        *(reduce(tape, x, axis=axis).value for reduce in (autograd.sum, autograd.mean, autograd.max, autograd.min)),
        autograd.sum(tape, x, axis=(axis, 0)).value,
        autograd.var(tape, x, axis=axis).value,
        autograd.norm(tape, x, 2, axis=axis).value,
        autograd.logsumexp(tape, x, axis=axis).value,
        autograd.cumsum(tape, x, axis=axis).value,
        autograd.flip(tape, x, axis).value,
        autograd.expand_dims(tape, x, axis).value,
        autograd.moveaxis(tape, x, axis, 0).value,
        autograd.transpose(tape, x, (axis, 0)).value,
        autograd.concatenate(tape, (x, x), axis).value,
        autograd.stack(tape, (x, x), axis).value,
        autograd.take(tape, x, [0], axis).value,
    ]
    arrays = [kernels.sum(x.data, axis), kernels.mean(x.data, axis), kernels.take(x.data, [0], axis)]
    return [*(one.shape for one in found), *(one.shape for one in arrays)]
