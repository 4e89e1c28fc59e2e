"""A hook that sees a program after each change of its instructions. It does nothing, except in tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from viva_tensor.program.instructions import Buffer, Instruction, Symbol


class Observer:
    """An observer of the instructions of a program, as they were lowered and after each change."""

    def __init__(self, instructions: Sequence[Instruction], output: Symbol, dtype: np.dtype[Any]) -> None:
        pass

    def after(
        self,
        change: str,
        instructions: Sequence[Instruction],
        layouts: Mapping[int, Any] | None = None,
        offsets: Mapping[Buffer, int] | None = None,
    ) -> None:
        """Inspect the program after a change, with the layouts of parameters and the offsets of temporaries."""


observe: type[Observer] = Observer
