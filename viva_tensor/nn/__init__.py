"""Layers and losses on the tape."""

from viva_tensor.nn import initializers, layers
from viva_tensor.nn.layers import Linear, linear, linear_forward, mse_loss, relu

__all__ = ["Linear", "initializers", "layers", "linear", "linear_forward", "mse_loss", "relu"]
