from typing import Any

import numpy as np

from viva_tensor.kernels.updates import Rule
from viva_tensor.program._calls import Address, Calls

INPUTS_AT_MOST: int

class Executor(Calls):
    def finish(self, output: Address | None) -> None: ...
    def run(self, arrays: tuple[Any, ...], held: bool = False, first: int = 0, last: int = -1) -> float | None: ...
    def run_batches(
        self,
        arrays: list[Any],
        order: np.ndarray[Any, Any] | None,
        begin: int,
        end: int,
        flops: int,
        total: float,
        rates: np.ndarray[Any, Any] | None = None,
    ) -> tuple[float, int]: ...
    def profile(self, arrays: tuple[Any, ...], times: int) -> list[float]: ...
    def calls(self) -> int: ...
    def barriers(self) -> int: ...

def put(copies: np.ndarray[Any, np.dtype[np.int64]], rule: Rule, steps: int) -> None: ...
