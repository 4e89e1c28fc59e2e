from viva_tensor.kernels.cores cimport Cores

cdef const Cores* float_cores
cdef const Cores* double_cores


cdef inline const Cores* cores_for(char kind) noexcept nogil:
    """Return the cores for elements of a kind, b"f" or b"d"."""
    return float_cores if kind == b"f" else double_cores
