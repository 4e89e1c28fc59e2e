"""Operations on each element, on typed memoryviews of rank 2; an operand with one row or one column is repeated.

What does not fit raises a bare ValueError, which the front mends or explains. `out` may be an operand itself.
"""

from numpy import dtype, empty

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._team cimport ELEMENTS, call, team_size
from viva_tensor.kernels._views cimport apart, describe, memory_of, real
from viva_tensor.kernels.cores cimport Core, ElementwiseArgs, Matrix

cdef object FLOAT = dtype("float32"), DOUBLE = dtype("float64")


cdef bint operand(Matrix* matrix, const Matrix* out, Py_ssize_t own_rows, Py_ssize_t own_columns, Py_ssize_t rows,
                  Py_ssize_t columns, Py_ssize_t size) noexcept nogil:
    """Repeat an operand as broadcasting wants; False if its shape is another, or `out` overwrites what is unread."""
    cdef bint same = own_rows == rows and own_columns == columns and matrix.data == out.data \
        and matrix.row == out.row and matrix.column == out.column
    if (own_rows != rows and own_rows != 1) or (own_columns != columns and own_columns != 1):
        return False
    if not same and not apart(matrix, own_rows, own_columns, out, rows, columns, size):
        return False
    if own_rows != rows:
        matrix.row = 0
    if own_columns != columns:
        matrix.column = 0
    return True


cdef inline void turn(Matrix* matrix) noexcept nogil:
    matrix.row, matrix.column = matrix.column, matrix.row


cdef inline bint adjacent(const Matrix* matrix, Py_ssize_t columns) noexcept nogil:
    """Whether all elements are one run: each row begins where the last one ends."""
    return matrix.row == matrix.column * columns


cdef int elementwise(Core core, ElementwiseArgs* args, Py_ssize_t a_rows, Py_ssize_t a_columns, Py_ssize_t b_rows,
                     Py_ssize_t b_columns, Py_ssize_t size) except -1:
    cdef int members
    cdef Py_ssize_t rows = args.rows, columns = args.columns
    if not (operand(&args.a, &args.out, a_rows, a_columns, rows, columns, size)
            and operand(&args.b, &args.out, b_rows, b_columns, rows, columns, size)):
        raise ValueError
    if columns == 1 or (args.out.row == 1 and args.out.column != 1):
        args.rows, args.columns = columns, rows
        turn(&args.a)
        turn(&args.b)
        turn(&args.out)
        rows, columns = columns, rows
    if adjacent(&args.a, columns) and adjacent(&args.b, columns) and adjacent(&args.out, columns):
        args.rows, args.columns = 1, rows * columns
    members = team_size(<double> rows * columns, ELEMENTS)
    call(core, args, members, <double> rows * columns)
    return 0


cdef object binary(Core core, const real[:, :] a, const real[:, :] b, object out, double factor=1):
    """Run a core into an array, by default a new one of the shape of a."""
    cdef ElementwiseArgs args
    cdef Py_ssize_t size = sizeof(real)
    cdef real[:, :] target
    args.scale = factor
    if 0 in (a.shape[0], a.shape[1], b.shape[0], b.shape[1]):
        raise ValueError
    if not (describe(&args.a, &a[0, 0], a.strides, size) and describe(&args.b, &b[0, 0], b.strides, size)):
        raise ValueError
    if out is None:
        args.rows, args.columns = a.shape[0], a.shape[1]
        out = empty((args.rows, args.columns), FLOAT if real is float else DOUBLE)
        args.out.data, args.out.row, args.out.column = memory_of(out), args.columns, 1
    else:
        target = out
        args.rows, args.columns = target.shape[0], target.shape[1]
        if args.rows == 0 or args.columns == 0 or not describe(&args.out, &target[0, 0], target.strides, size):
            raise ValueError
    elementwise(core, &args, a.shape[0], a.shape[1], b.shape[0], b.shape[1], size)
    return out


def add(const real[:, :] a, const real[:, :] b, out=None):
    """a + b"""
    return binary((float_cores if real is float else double_cores).add, a, b, out)


def sub(const real[:, :] a, const real[:, :] b, out=None):
    """a - b"""
    return binary((float_cores if real is float else double_cores).sub, a, b, out)


def mul(const real[:, :] a, const real[:, :] b, out=None):
    """a · b"""
    return binary((float_cores if real is float else double_cores).mul, a, b, out)


def relu(const real[:, :] x, out=None):
    """max(x, 0)"""
    return binary((float_cores if real is float else double_cores).relu, x, x, out)


def relu_backward(const real[:, :] grad, const real[:, :] x, out=None):
    """grad where x > 0, else 0"""
    return binary((float_cores if real is float else double_cores).relu_backward, grad, x, out)


def scale(const real[:, :] x, double factor, out=None):
    """factor · x"""
    return binary((float_cores if real is float else double_cores).scale, x, x, out, factor)
