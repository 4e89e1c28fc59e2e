from cpython.pythread cimport PyThread_type_lock


cdef class Guard:
    cdef object __weakref__
    cdef PyThread_type_lock lock
    cdef unsigned long owner
    cdef int depth

    cdef int acquire(self) except -1
    cdef void release(self) noexcept
