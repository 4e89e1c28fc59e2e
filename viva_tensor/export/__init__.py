"""Recorded forward passes in formats that other runtimes read."""

from viva_tensor.export.model import onnx

__all__ = ["onnx"]
