"""Training a multilayer network: batches, validation, early stopping, and their history.

Only progress bars, checkpoints and pictures need more than NumPy.
"""

from viva_tensor.train.curves import plot_losses
from viva_tensor.train.fitting import fit
from viva_tensor.train.network import Layers, Network, parameters, predict, record_layers
from viva_tensor.train.settings import DEFAULTS, Settings, rates
from viva_tensor.train.sources import RowSource
from viva_tensor.train.sparse import SparseRows
from viva_tensor.train.training import DivergenceError, Fit

__all__ = [
    "DEFAULTS",
    "DivergenceError",
    "Fit",
    "Layers",
    "Network",
    "RowSource",
    "Settings",
    "SparseRows",
    "fit",
    "parameters",
    "plot_losses",
    "predict",
    "rates",
    "record_layers",
]
