from viva_tensor.kernels.cores cimport Cores

cdef const Cores* float_cores
cdef const Cores* double_cores
