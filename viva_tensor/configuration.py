"""The configuration of this installation: how it was built, and what it runs on."""

from __future__ import annotations

from viva_tensor._version import __version__
from viva_tensor.kernels import build, threads

__all__ = ["config", "show_config"]


def config() -> dict[str, str | int | bool]:
    """Return version, compiler, flags, OpenMP, instruction set and threads, as :func:`show_config` prints them.

    Examples
    --------
    >>> config()["version"]
    '0.1.0'
    """
    variant = build.variants[build.isa]
    openmp = build.openmp_version()
    return {
        "version": __version__,
        "compiler": build.compiler,
        "flags": f"{build.flags} {variant}".strip(),
        "OpenMP": str(openmp) if openmp else "no: built serial, one thread only",
        "instruction set": build.isa,
        "instruction sets offered": ", ".join(build.supported()),
        "checked build": build.debug,
        "threads": threads.get_num_threads(),
        "threads decided by": threads.decided_by(),
    }


def show_config() -> None:
    """Print :func:`config`, one line for each entry.

    Examples
    --------
    >>> show_config()
    version                   ...
    compiler                  ...
    ...
    """
    for name, value in config().items():
        print(f"{name:25} {value}")
