"""Recorded tapes as programs: a whole training step, or a forward pass, in one parallel region."""

from viva_tensor.program.compilation import compile_step
from viva_tensor.program.forward import Forward, compile_forward
from viva_tensor.program.objective import Objective, compile_objective
from viva_tensor.program.step import Step
from viva_tensor.program.store import State

__all__ = ["Forward", "Objective", "State", "Step", "compile_forward", "compile_objective", "compile_step"]
