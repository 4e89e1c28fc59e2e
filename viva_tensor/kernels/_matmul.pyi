from typing import Any

import numpy as np

from viva_tensor.kernels._updates import Rule
from viva_tensor.kernels.arrays import Array

def matmul(
    a: object,
    b: object,
    out: object = None,
    bias: object = None,
    relu: bool = False,
    mask: object = None,
) -> Array: ...
def matmul_batch(
    a: Array,
    b: Array,
    out: Array,
    a_offsets: np.ndarray[Any, np.dtype[np.int64]],
    b_offsets: np.ndarray[Any, np.dtype[np.int64]],
) -> None: ...
def path(a: object, b: object) -> str: ...
def linear(x: object, w: object, b: object, out: object = None) -> Array: ...
def matmul_update(
    a: Array,
    b: Array,
    sums: Array,
    rule: Rule,
    w: Array,
    first: Array | None = None,
    second: Array | None = None,
) -> None: ...
def rectangle(
    rows: int, columns: int, thread: int, threads: int, packs_a: bool = True, packs_b: bool = True, seam: int = 0
) -> tuple[int, int, int, int]: ...
def tile(kind: str = "f") -> tuple[int, int]: ...
