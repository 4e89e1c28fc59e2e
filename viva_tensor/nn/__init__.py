"""Layers, activations, losses and initialisers on the tape."""

from viva_tensor.nn import (
    activations,
    embeddings,
    ensembles,
    initializers,
    layers,
    likelihoods,
    losses,
    normalization,
    numeric_embeddings,
    periodic_embeddings,
    tabm,
)
from viva_tensor.nn.activations import *
from viva_tensor.nn.embeddings import *
from viva_tensor.nn.ensembles import *
from viva_tensor.nn.layers import *
from viva_tensor.nn.likelihoods import *
from viva_tensor.nn.losses import *
from viva_tensor.nn.normalization import *
from viva_tensor.nn.numeric_embeddings import *
from viva_tensor.nn.periodic_embeddings import *
from viva_tensor.nn.tabm import *

__all__ = [
    "activations",
    "embeddings",
    "ensembles",
    "initializers",
    "layers",
    "likelihoods",
    "losses",
    "normalization",
    "numeric_embeddings",
    "periodic_embeddings",
    "tabm",
]
__all__ += activations.__all__
__all__ += embeddings.__all__
__all__ += ensembles.__all__
__all__ += layers.__all__
__all__ += likelihoods.__all__
__all__ += losses.__all__
__all__ += normalization.__all__
__all__ += numeric_embeddings.__all__
__all__ += periodic_embeddings.__all__
__all__ += tabm.__all__
