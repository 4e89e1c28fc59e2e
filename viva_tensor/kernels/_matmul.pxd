from viva_tensor.kernels.cores cimport MatmulArgs

cdef object path_name(const MatmulArgs* args)
