from typing import Any, Self

import numpy as np
from typing_extensions import disjoint_base

@disjoint_base
class Record:
    @property
    def id(self) -> int: ...
    @property
    def data(self) -> np.ndarray[Any, np.dtype[Any]]: ...
    def __new__(cls, id: int, data: np.ndarray[Any, np.dtype[Any]]) -> Self: ...
