"""Operations on each element of matrices; an operand with one row or one column is repeated.

What does not fit raises a bare ValueError, which the front mends or explains. `out` may be an operand itself.
"""

from numpy import dtype, empty, ndarray

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._team cimport ELEMENTS, call, team_size
from viva_tensor.kernels._views cimport Operand, apart, memory_of, read
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


cdef object binary(Core of_float, Core of_double, object a, object b, object out, double factor=1):
    """Run a core into an array, by default a new one of the shape of a."""
    cdef ElementwiseArgs args
    cdef Operand x, y, target
    read(&x, a, ndarray)
    read(&y, b, ndarray)
    if x.kind != y.kind or x.dimensions != 2 or 0 in (x.rows, x.columns, y.rows, y.columns):
        raise ValueError
    args.a, args.b, args.scale = x.at, y.at, factor
    if out is None:
        args.rows, args.columns = x.rows, x.columns
        out = empty((args.rows, args.columns), FLOAT if x.kind == b"f" else DOUBLE)
        args.out.data, args.out.row, args.out.column = memory_of(out), args.columns, 1
    else:
        read(&target, out)
        if target.kind != x.kind or target.dimensions != 2 or target.readonly or 0 in (target.rows, target.columns):
            raise ValueError
        args.rows, args.columns, args.out = target.rows, target.columns, target.at
    elementwise(of_float if x.kind == b"f" else of_double, &args, x.rows, x.columns, y.rows, y.columns, x.itemsize)
    return out


def add(a, b, out=None):
    """a + b"""
    return binary(float_cores.add, double_cores.add, a, b, out)


def sub(a, b, out=None):
    """a - b"""
    return binary(float_cores.sub, double_cores.sub, a, b, out)


def mul(a, b, out=None):
    """a · b"""
    return binary(float_cores.mul, double_cores.mul, a, b, out)


def relu(x, out=None):
    """max(x, 0)"""
    return binary(float_cores.relu, double_cores.relu, x, x, out)


def relu_backward(grad, x, out=None):
    """grad where x > 0, else 0"""
    return binary(float_cores.relu_backward, double_cores.relu_backward, grad, x, out)


def scale(x, double factor, out=None):
    """factor · x"""
    return binary(float_cores.scale, double_cores.scale, x, x, out, factor)
