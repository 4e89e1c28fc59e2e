"""From typed memoryviews to the arguments of cores."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uintptr_t

from viva_tensor.kernels.cores cimport Matrix

ctypedef fused real:
    float
    double


cdef inline void* memory_of(object array) except NULL:
    """Where an array that was just allocated begins."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_WRITABLE)
    PyBuffer_Release(&view)
    return view.buf


cdef inline bint aligned(const void* data, Py_ssize_t step, Py_ssize_t itemsize) noexcept nogil:
    return (<uintptr_t> data | <uintptr_t> step) % itemsize == 0


cdef inline bint describe(Matrix* matrix, const void* data, const Py_ssize_t* strides,
                          Py_ssize_t itemsize) noexcept nogil:
    """Fill in `matrix`; False where an element would lie across its alignment."""
    matrix.data = <void*> data
    matrix.row = strides[0] // itemsize
    matrix.column = strides[1] // itemsize
    matrix.down = matrix.across = 0
    return aligned(data, strides[0] | strides[1], itemsize)


cdef inline void extent(const Matrix* matrix, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t itemsize,
                        uintptr_t* begin, uintptr_t* end) noexcept nogil:
    cdef Py_ssize_t down = (rows - 1) * matrix.row * itemsize, across = (columns - 1) * matrix.column * itemsize
    begin[0] = <uintptr_t> matrix.data + min(down, 0) + min(across, 0)
    end[0] = <uintptr_t> matrix.data + max(down, 0) + max(across, 0) + itemsize


cdef inline bint apart(const Matrix* a, Py_ssize_t a_rows, Py_ssize_t a_columns,
                       const Matrix* b, Py_ssize_t b_rows, Py_ssize_t b_columns, Py_ssize_t itemsize) noexcept nogil:
    """Whether the memory from the first to the last element of one lies clear of the other's."""
    cdef uintptr_t a_begin, a_end, b_begin, b_end
    extent(a, a_rows, a_columns, itemsize, &a_begin, &a_end)
    extent(b, b_rows, b_columns, itemsize, &b_begin, &b_end)
    return a_end <= b_begin or b_end <= a_begin
