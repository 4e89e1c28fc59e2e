from viva_tensor.kernels.cores cimport UpdateRule

cdef void next_step(UpdateRule* rule) noexcept nogil


cdef class Rule:
    cdef UpdateRule values
