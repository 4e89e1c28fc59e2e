"""Converters for skl2onnx, in modules that entry points of installed packages name."""

from __future__ import annotations

import sys
import warnings
from importlib.util import find_spec

__all__ = ["GROUP", "load_converters"]

GROUP = "viva_tensor.converters"  # of entry points


def load_converters() -> list[str]:
    """Import the modules that tell skl2onnx of converters, if it is installed; return the names of their entry points.

    One that fails is left out with a warning.

    Examples
    --------
    >>> all(isinstance(name, str) for name in load_converters())
    True
    """
    if sys.modules.get("skl2onnx") is None and find_spec("skl2onnx") is None:
        return []
    from importlib.metadata import entry_points  # takes longer than all the rest here

    loaded = []
    for one in entry_points(group=GROUP):
        try:
            one.load()
        except Exception as error:  # of whatever package
            warnings.warn(f"the converters of {one.name!r} ({one.value}) are not loaded: {error}", stacklevel=3)
        else:
            loaded.append(one.name)
    return loaded
