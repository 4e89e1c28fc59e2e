"""What this build is, and what of it runs on this processor: for the rooms above."""

from viva_tensor.kernels._dispatch import compiler as compiler
from viva_tensor.kernels._dispatch import debug as debug
from viva_tensor.kernels._dispatch import flags as flags
from viva_tensor.kernels._dispatch import isa as isa
from viva_tensor.kernels._dispatch import supported as supported
from viva_tensor.kernels._dispatch import variants as variants
from viva_tensor.kernels._matmul import rectangle as rectangle
from viva_tensor.kernels._matmul import tile as tile
from viva_tensor.kernels._team import openmp_version as openmp_version
