from viva_tensor.kernels.cores cimport Core

cdef int team_size(double work, double share) noexcept nogil
cdef void run(Core core, const void* args, int members) noexcept nogil
cdef char* workspace(Py_ssize_t size) except? NULL
cdef void release(char* memory) noexcept nogil
