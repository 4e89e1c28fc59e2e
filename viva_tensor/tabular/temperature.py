"""Temperature scaling: classes are told no more surely than rows allow that no network learned from."""

from __future__ import annotations

import numpy as np

from viva_tensor import autograd
from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.losses import row_losses
from viva_tensor.tabular.targets import Classes
from viva_tensor.train import Fit, parameters, record_layers

FACTORS = np.linspace(1.0, 0.1, 19)  # networks are too sure of other rows, not too unsure


def sureness(outputs: Float32Array, y: Float32Array, target: Classes, weights: Float64Array | None = None) -> float:
    r"""Return the factor of logits [rows, classes] with the least cross-entropy, from 0.1 to 1: one over a temperature.

    The logits are those of networks for rows that they did not learn from. A network that tells apart all rows that it
    learned from is far too sure of others [1]_; the most probable class stays the same.

    References
    ----------
    .. [1] C. Guo et al., On calibration of modern neural networks, ICML 2017, arXiv:1706.04599.

    Examples
    --------
    >>> logits = np.float32([[1, -1]] * 3 + [[-1, 1]])  # which are 3 in 4 to hold
    >>> round(sureness(logits, np.zeros(4, np.float32), Classes("bought", ("no", "yes"))), 2)
    0.55
    """
    losses = [row_losses(np.float32(factor) * outputs, y, target) for factor in FACTORS]
    return float(FACTORS[np.argmin(np.average(losses, axis=1, weights=weights))])


def scaled(fit: Fit, factor: float) -> Fit:
    """Return a network whose outputs are a multiple."""
    *before, w, b = (array for array in parameters(fit.layers))
    arrays = [*before, factor * w, factor * b]
    return fit._replace(layers=record_layers(autograd.new_tape(), arrays).value)
