"""Kernels on NumPy arrays: each operation beside its backward pass, checked here and compiled below.

Every function takes float32 or float64 arrays of any strides and returns a new array, or fills ``out``. Python numbers
and nested lists become float32 (or the dtype of the arrays beside them). The same inputs give the same bits at every
number of threads.

Each function first tries its compiled kernel on the arguments as they are: plain arrays of fitting shapes cost one
call. What the kernel refuses is then converted where that is right, or explained.
"""

from viva_tensor.kernels.elementwise import (
    add,
    add_backward,
    mul,
    mul_backward,
    relu,
    relu_backward,
    scale,
    sub,
    sub_backward,
)
from viva_tensor.kernels.losses import mean_squared_error, mean_squared_error_backward
from viva_tensor.kernels.products import linear, linear_backward, matmul, matmul_backward
from viva_tensor.kernels.sums import mean, mean_backward, sum, sum_backward
from viva_tensor.kernels.threads import get_num_threads, num_threads, set_num_threads
from viva_tensor.kernels.updates import sgd

__all__ = [
    "add",
    "add_backward",
    "get_num_threads",
    "linear",
    "linear_backward",
    "matmul",
    "matmul_backward",
    "mean",
    "mean_backward",
    "mean_squared_error",
    "mean_squared_error_backward",
    "mul",
    "mul_backward",
    "num_threads",
    "relu",
    "relu_backward",
    "scale",
    "set_num_threads",
    "sgd",
    "sub",
    "sub_backward",
    "sum",
    "sum_backward",
]
