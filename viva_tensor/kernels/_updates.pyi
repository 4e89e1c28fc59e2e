from typing import final

from numpy.typing import ArrayLike

from viva_tensor.kernels.arrays import Array

@final
class Rule:
    lr: float
    decay: float
    steps: int

    def __init__(
        self,
        kind: str,
        lr: float,
        *,
        momentum: float = 0.0,
        square_momentum: float = 0.0,
        epsilon: float = 0.0,
        decay: float = 0.0,
        nesterov: bool = False,
        decoupled: bool = False,
        epsilon_hat: bool = False,
        steps: int = 0,
    ) -> None: ...
    def next_step(self) -> None: ...

def update(
    rule: Rule,
    w: Array,
    grad: Array,
    first: Array | None = None,
    second: Array | None = None,
    scale: float = 1.0,
    factors: tuple[float, float] = (1.0, 1.0),
) -> tuple[Array, Array | None, Array | None]: ...
def chunk_squares(x: ArrayLike) -> Array: ...
def clipping(squared_norm: float, max_norm: float) -> float: ...
def sum_chunks(size: int) -> int: ...
