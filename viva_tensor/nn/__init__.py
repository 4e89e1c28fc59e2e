"""Layers, activations, losses and initialisers on the tape."""

from viva_tensor.nn import activations, initializers, layers, losses
from viva_tensor.nn.activations import (
    ACTIVATIONS,
    gelu,
    identity,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from viva_tensor.nn.layers import (
    LayerNorm,
    Linear,
    layer_norm,
    layer_norm_forward,
    linear,
    linear_forward,
    mlp,
    mlp_forward,
)
from viva_tensor.nn.losses import binary_cross_entropy, cross_entropy, huber_loss, mae_loss, mse_loss

__all__ = [
    "ACTIVATIONS",
    "LayerNorm",
    "Linear",
    "activations",
    "binary_cross_entropy",
    "cross_entropy",
    "gelu",
    "huber_loss",
    "identity",
    "initializers",
    "layer_norm",
    "layer_norm_forward",
    "layers",
    "leaky_relu",
    "linear",
    "linear_forward",
    "log_softmax",
    "losses",
    "mae_loss",
    "mlp",
    "mlp_forward",
    "mse_loss",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]
