from viva_tensor.kernels.cores cimport BatchArgs, Cores, MatmulArgs

cdef object path_name(const MatmulArgs* args)
cdef int plan_batch(const Cores* cores, BatchArgs* args, int threads) except -1
