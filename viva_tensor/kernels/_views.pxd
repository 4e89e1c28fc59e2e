"""Reads arrays, through the buffer protocol or typed memoryviews, into the arguments of cores."""

from cpython.buffer cimport PyBUF_RECORDS_RO, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uintptr_t

from viva_tensor.kernels.cores cimport Matrix

ctypedef fused real:
    float
    double


cdef inline void* memory_of(object array) except NULL:
    """Return the address of an array that was just allocated."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_WRITABLE)
    PyBuffer_Release(&view)
    return view.buf


cdef inline bint aligned(const void* data, Py_ssize_t step, Py_ssize_t itemsize) noexcept nogil:
    return (<uintptr_t> data | <uintptr_t> step) % itemsize == 0


cdef inline char kind_of(const Py_buffer* view) noexcept nogil:
    """Return b"f" or b"d" for native floats, else 0."""
    return view.format[0] if view.format[0] in (b"f", b"d") and view.format[1] == 0 else 0


cdef struct Operand:
    Matrix at
    Py_ssize_t rows, columns    # a vector is one row
    Py_ssize_t itemsize
    int dimensions
    char kind                   # b"f" or b"d"
    bint readonly


cdef inline int read(Operand* operand, object array, object wanted=None) except -1:
    """Find where the elements of an array lie, at a third of the cost of a typed memoryview.

    An axis of one element gets the stride of an array without gaps, whatever the array says: no kernel steps along it.

    Raises ValueError unless they are aligned floats in at most two dimensions, TypeError if `array` has another type.
    """
    cdef Py_buffer view
    cdef Py_ssize_t row = 0, column = 0, itemsize
    if wanted is not None and type(array) is not wanted:
        raise TypeError
    PyObject_GetBuffer(array, &view, PyBUF_RECORDS_RO)
    operand.kind = kind_of(&view)
    itemsize = sizeof(float) if operand.kind == b"f" else sizeof(double)
    operand.rows = operand.columns = 1
    if view.ndim == 2:
        operand.rows, row = view.shape[0], view.strides[0]
    if view.ndim in (1, 2):
        operand.columns, column = view.shape[view.ndim - 1], view.strides[view.ndim - 1]
    if operand.columns == 1:
        column = itemsize
    if view.ndim == 2 and operand.rows == 1:
        row = column * operand.columns
    operand.itemsize, operand.dimensions, operand.readonly = itemsize, view.ndim, view.readonly
    operand.at.data, operand.at.row, operand.at.column = view.buf, row // itemsize, column // itemsize
    operand.at.down = operand.at.across = 0
    PyBuffer_Release(&view)
    if operand.dimensions > 2 or operand.kind == 0 or not (
            operand.rows == 0 or operand.columns == 0 or aligned(operand.at.data, row | column, itemsize)):
        raise ValueError
    return 0


cdef inline bint adjacent(const Operand* operand) noexcept nogil:
    """Return whether a matrix is one run of elements, row after row."""
    return operand.dimensions == 2 and (operand.columns == 1 or operand.at.column == 1) \
        and (operand.rows == 1 or operand.at.row == operand.columns)


cdef inline bint distinct(const Operand* operand) noexcept nogil:
    """Return whether no two elements share memory: False also for rows that interleave like combs."""
    cdef Py_ssize_t row = max(operand.at.row, -operand.at.row), column = max(operand.at.column, -operand.at.column)
    cdef Py_ssize_t down = (operand.rows - 1) * row, across = (operand.columns - 1) * column
    return operand.rows == 0 or operand.columns == 0 or (
        (operand.rows == 1 or row > across) and (operand.columns == 1 or column > 0)
        or (operand.columns == 1 or column > down) and (operand.rows == 1 or row > 0))


cdef inline void extent(const Matrix* matrix, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t itemsize,
                        uintptr_t* begin, uintptr_t* end) noexcept nogil:
    cdef Py_ssize_t down = (rows - 1) * matrix.row * itemsize, across = (columns - 1) * matrix.column * itemsize
    begin[0] = <uintptr_t> matrix.data + min(down, 0) + min(across, 0)
    end[0] = <uintptr_t> matrix.data + max(down, 0) + max(across, 0) + itemsize


cdef inline bint apart(const Matrix* a, Py_ssize_t a_rows, Py_ssize_t a_columns,
                       const Matrix* b, Py_ssize_t b_rows, Py_ssize_t b_columns, Py_ssize_t itemsize) noexcept nogil:
    """Return whether the memory from the first to the last element of a is apart from that of b."""
    cdef uintptr_t a_begin, a_end, b_begin, b_end
    extent(a, a_rows, a_columns, itemsize, &a_begin, &a_end)
    extent(b, b_rows, b_columns, itemsize, &b_begin, &b_end)
    return a_end <= b_begin or b_end <= a_begin
