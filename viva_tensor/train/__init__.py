"""Training a multilayer network: batches, validation, early stopping, and their history.

Only progress bars, checkpoints and pictures need more than NumPy.

>>> import numpy as np
>>> x = np.linspace(-1, 1, 256, dtype=np.float32)[:, None]
>>> fitted = fit(x, abs(x), Settings(hidden=(16,), epochs=20, batch_size=16))
>>> fitted.history["validation_loss"][-1] < 0.01
True
>>> predict(fitted.layers, x[:3], "relu").shape
(3, 1)
"""

from viva_tensor.train.curves import plot_losses
from viva_tensor.train.fitting import fit
from viva_tensor.train.network import Layers, Network, predict
from viva_tensor.train.settings import DEFAULTS, Settings, rates
from viva_tensor.train.training import DivergenceError, Fit

__all__ = [
    "DEFAULTS",
    "DivergenceError",
    "Fit",
    "Layers",
    "Network",
    "Settings",
    "fit",
    "plot_losses",
    "predict",
    "rates",
]
