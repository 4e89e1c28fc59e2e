import numpy as np
import numpy.typing as npt

from viva_tensor.kernels.arrays import Array

RULES: dict[str, int]

def along(rule: str, x: Array, out: Array, axis: int, starts: npt.NDArray[np.intp]) -> None: ...
