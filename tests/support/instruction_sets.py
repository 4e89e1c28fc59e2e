"""Functions of a test module on another instruction set, in a process of their own."""

from pathlib import Path

from support.fresh import python_path, run
from viva_tensor.kernels import _dispatch

FUSED = [isa for isa in _dispatch.supported() if isa in ("avx2", "avx512")]  # those with fused multiply-add


def on_isa(isa: str, file: str, expression: str) -> str:
    """Return what an expression in the names of a test module prints on an instruction set."""
    module = Path(file)
    code = f"from {module.stem} import *; print({expression})"
    return run(code, timeout=300, VIVA_TENSOR_ISA=isa, PYTHONPATH=python_path(str(module.parent)))
