"""viva_tensor: train multilayer networks on CPUs.

Tensors are NumPy arrays, the tape is a value, layers are values. See ``autograd`` for the tape, ``nn`` for layers and
losses, ``optim`` for optimisers and ``kernels`` for the compiled operations below them.
"""

from viva_tensor import autograd, error, kernels, nn, optim, program, telemetry
from viva_tensor._version import __version__
from viva_tensor.configuration import config, show_config
from viva_tensor.kernels import get_num_threads, num_threads, set_num_threads

__all__ = [
    "__version__",
    "autograd",
    "config",
    "error",
    "get_num_threads",
    "kernels",
    "nn",
    "num_threads",
    "optim",
    "program",
    "set_num_threads",
    "show_config",
    "telemetry",
]
