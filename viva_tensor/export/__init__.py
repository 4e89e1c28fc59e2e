"""Recorded forward passes in formats that other runtimes read.

The import also tells skl2onnx, if it is installed, how the networks of :mod:`viva_tensor.sklearn` are converted, alone
and in pipelines; other packages may have converters of theirs told by an entry point of the group
``viva_tensor.converters``, a module whose import does so.
"""

from viva_tensor.export.converters import load_converters
from viva_tensor.export.model import onnx

__all__ = ["onnx"]

load_converters()
