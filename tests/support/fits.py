"""Small fits for the tests of training."""

from typing import Any

import numpy as np

from viva_tensor import train
from viva_tensor.train import Settings

Array = np.ndarray[Any, Any]
QUICK = Settings(hidden=(8,), epochs=3, batch_size=16)


def weights(fit: train.Fit) -> list[Array]:
    """Return the weights and biases of a fit."""
    return [array for layer in fit.layers for array in (layer.w.data, layer.b.data)]


def same_bits(a: train.Fit, b: train.Fit) -> bool:
    """Return whether two fits ended with the same bits."""
    return all(np.array_equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def fit_line(seed: int = 0, rows: int = 200) -> train.Fit:
    """Fit what no line can."""
    x = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    return train.fit(x, abs(x), Settings(hidden=(16, 8), epochs=20, batch_size=16, seed=seed), validation=(x, abs(x)))
