"""Kernels on NumPy arrays: each operation, and the backward passes. Arguments are checked in Python, work is compiled.

Every function takes float32 or float64 arrays of any strides and returns a new array, or fills ``out``. Python numbers
and nested lists become float32, or get the dtype of the other operands. The same inputs give the same bits at every
number of threads.

Each function first tries its compiled kernel on the arguments as they are, so plain arrays of fitting shapes cost one
call. Arguments that the kernel refuses are then converted if possible, else an error explains them.
"""

from viva_tensor.kernels import (
    activations,
    along,
    comparisons,
    dropouts,
    elementwise,
    indexing,
    losses,
    products,
    rows,
    sums,
    threads,
    trigonometry,
    updates,
)
from viva_tensor.kernels.activations import *
from viva_tensor.kernels.along import *
from viva_tensor.kernels.comparisons import *
from viva_tensor.kernels.dropouts import *
from viva_tensor.kernels.elementwise import *
from viva_tensor.kernels.indexing import *
from viva_tensor.kernels.losses import *
from viva_tensor.kernels.products import *
from viva_tensor.kernels.rows import *
from viva_tensor.kernels.sums import *
from viva_tensor.kernels.threads import *
from viva_tensor.kernels.trigonometry import *
from viva_tensor.kernels.updates import *

__all__: list[str] = []
__all__ += activations.__all__
__all__ += along.__all__
__all__ += comparisons.__all__
__all__ += dropouts.__all__
__all__ += elementwise.__all__
__all__ += indexing.__all__
__all__ += losses.__all__
__all__ += products.__all__
__all__ += rows.__all__
__all__ += sums.__all__
__all__ += threads.__all__
__all__ += trigonometry.__all__
__all__ += updates.__all__
