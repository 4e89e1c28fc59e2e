"""The fields of a variable: read-only, and faster to make than a tuple."""

cimport cython


@cython.auto_pickle(False)
@cython.no_gc  # a number and an array of numbers: no cycle passes through them
cdef class Record:
    """The fields of a variable."""

    cdef readonly object id
    cdef readonly object data

    def __cinit__(self, object id, object data):
        self.id = id
        self.data = data
