"""viva_tensor: train multilayer networks on CPUs.

Tensors are NumPy arrays, the tape is a value, layers are values. See ``autograd`` for the tape, ``nn`` for layers and
losses, ``optim`` for optimisers and ``kernels`` for the compiled operations below them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from viva_tensor import error, kernels
from viva_tensor._version import __version__
from viva_tensor.configuration import config, show_config
from viva_tensor.kernels import get_num_threads, num_threads, set_num_threads

if TYPE_CHECKING:
    from viva_tensor import autograd, nn, optim, program, telemetry

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


def __getattr__(name: str) -> Any:
    """Import a part of the package when it is first used: who uses one does not wait for all."""
    if name.isidentifier() and not name.startswith("_"):
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as reason:
            if reason.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
