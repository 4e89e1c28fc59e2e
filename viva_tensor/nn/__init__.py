"""Layers, activations, losses and initialisers on the tape."""

from viva_tensor.nn import activations, embeddings, initializers, layers, likelihoods, losses, normalization
from viva_tensor.nn.activations import *
from viva_tensor.nn.embeddings import *
from viva_tensor.nn.layers import *
from viva_tensor.nn.likelihoods import *
from viva_tensor.nn.losses import *
from viva_tensor.nn.normalization import *

__all__ = ["activations", "embeddings", "initializers", "layers", "likelihoods", "losses", "normalization"]
__all__ += activations.__all__
__all__ += embeddings.__all__
__all__ += layers.__all__
__all__ += likelihoods.__all__
__all__ += losses.__all__
__all__ += normalization.__all__
