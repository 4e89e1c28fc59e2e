from libc.stdint cimport uintptr_t

cimport cython

from viva_tensor.kernels.cores cimport Core, Cores, Matrix, UpdateArgs, UpdateRule


cdef struct Call:
    Core core
    void* args
    int first       # thread
    int threads
    bint barrier    # before it


cdef struct Patch:      # an address within an input
    const void** field
    int slot
    Py_ssize_t offset


@cython.final
cdef class Address:
    cdef readonly uintptr_t at


@cython.final
cdef class InputOffset:
    cdef readonly int slot
    cdef readonly Py_ssize_t offset     # in bytes


cdef class Calls:
    cdef Call* made
    cdef Patch* patches
    cdef const Cores* cores
    cdef UpdateRule* rule
    cdef list held
    cdef Py_ssize_t size, count, patch_count, capacity
    cdef int input_count, read_only
    cdef char letter
    cdef readonly tuple inputs

    cdef void* memory(self, Py_ssize_t size) except NULL
    cdef int reserve(self, Py_ssize_t capacity) except -1
    cdef int add(self, Core core, void* args, tuple team) except -1
    cdef int read(self, const void** field, object where) except -1
    cdef int write(self, void** field, object where) except -1
    cdef int read_matrix(self, Matrix* matrix, tuple where) except -1
    cdef int write_matrix(self, Matrix* matrix, tuple where) except -1
    cdef UpdateArgs* update_args(self, tuple update) except NULL
