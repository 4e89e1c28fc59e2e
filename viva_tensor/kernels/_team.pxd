from viva_tensor.kernels.cores cimport Core

# Work that is worth a member: with half of it, waking a second thread takes about as long as it saves (measured on two
# cores of a Zen 3 at twice the share: a second thread gains 1.3 to 1.5).
cdef enum:
    MULTIPLY_ADDS = 500_000
    ELEMENTS = 65_536

cdef int team_size(double work, double share) noexcept nogil
cdef void run(Core core, const void* args, int members) noexcept nogil
cdef char* workspace(Py_ssize_t size) except? NULL
cdef void release(char* memory) noexcept nogil
