"""Operations on each element of matrices, where an operand with one row or one column is repeated, and on whole rows.

What does not fit raises a bare ValueError, which the front mends or explains. `out` may be an operand itself.
"""

from libc.stdint cimport uint64_t

from numpy import dtype, empty, ndarray

from viva_tensor.kernels cimport cores
from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._team cimport ELEMENTS, call, team_size
from viva_tensor.kernels._views cimport Operand, apart, distinct, memory_of, read
from viva_tensor.kernels.cores cimport DropoutArgs, Matrix, PairArgs

cdef object FLOAT = dtype("float32"), DOUBLE = dtype("float64")

include "formula_names.pxi"     # FORMULAS and ROW_FORMULAS, made by the build


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


cdef inline void transpose_matrix(Matrix* matrix) noexcept nogil:
    matrix.row, matrix.column = matrix.column, matrix.row


cdef inline bint adjacent(const Matrix* matrix, Py_ssize_t columns) noexcept nogil:
    """Return whether all elements are one run: each row begins where the last one ends."""
    return matrix.row == matrix.column * columns


cdef int elementwise(PairArgs* args, const Operand* a, const Operand* b, char kind) except -1:
    cdef int threads
    cdef Py_ssize_t rows = args.rows, columns = args.columns
    if not (operand(&args.a, &args.out, a.rows, a.columns, rows, columns, a.itemsize)
            and operand(&args.b, &args.out, b.rows, b.columns, rows, columns, b.itemsize)):
        raise ValueError
    if columns == 1 or (args.out.row == 1 and args.out.column != 1):
        args.rows, args.columns = columns, rows
        transpose_matrix(&args.a)
        transpose_matrix(&args.b)
        transpose_matrix(&args.out)
        rows, columns = columns, rows
    threads = team_size(<double> rows * columns, ELEMENTS)
    call((float_cores if kind == b"f" else double_cores).pair, args, threads, <double> rows * columns)
    return 0


def apply(int formula, a, b, out=None, double factor=1):
    """formula(a, b) into an array, by default a new one of the shape of a."""
    cdef PairArgs args
    cdef Operand x, y, target
    read(&x, a, ndarray)
    if b is a:
        y = x
    else:
        read(&y, b, ndarray)
    if x.kind != y.kind or x.dimensions != 2 or 0 in (x.rows, x.columns, y.rows, y.columns):
        raise ValueError
    args.formula, args.a, args.b, args.factor, args.by_rows = formula, x.at, y.at, factor, False
    if out is None:
        args.rows, args.columns = x.rows, x.columns
        out = empty((args.rows, args.columns), FLOAT if x.kind == b"f" else DOUBLE)
        args.out.data, args.out.row, args.out.column = memory_of(out), args.columns, 1
    else:
        read(&target, out)
        if target.kind != x.kind or target.dimensions != 2 or target.readonly or 0 in (target.rows, target.columns) \
                or not distinct(&target):
            raise ValueError
        args.rows, args.columns, args.out = target.rows, target.columns, target.at
    elementwise(&args, &x, &y, x.kind)
    return out


def apply_rows(int formula, a, b, double factor=0):
    """A formula of each row of a, and the same row of b or one number for it; a new array, of the shape of a.

    A cross-entropy is one number for each row.
    """
    cdef PairArgs args
    cdef Operand x, y
    cdef bint single = formula == cores.CROSS_ENTROPY
    read(&x, a, ndarray)
    if b is a:
        y = x
    else:
        read(&y, b, ndarray)
    if x.kind != y.kind or x.dimensions != 2 or 0 in (x.rows, x.columns) or (x.columns > 1 and x.at.column != 1):
        raise ValueError
    args.formula, args.rows, args.columns, args.factor = formula, x.rows, x.columns, factor
    args.a, args.b = x.at, y.at
    if y.dimensions == 1 and y.columns == x.rows:
        args.b.row, args.b.column = y.at.column, 0
    elif y.dimensions == 2 and y.rows == x.rows and y.columns == x.columns and (x.columns == 1 or y.at.column == 1):
        args.b.column = 1
    else:
        raise ValueError
    out = empty((x.rows, x.columns)[:1 if single else 2], FLOAT if x.kind == b"f" else DOUBLE)
    args.out.data, args.out.row, args.out.column = memory_of(out), 1 if single else x.columns, 1
    call((float_cores if x.kind == b"f" else double_cores).pair_rows, &args,
         team_size(<double> x.rows * x.columns, ELEMENTS), <double> x.rows * x.columns)
    return out


def dropout(x, double rate, uint64_t seed):
    """x / (1 - rate) where an element is kept, else 0; a new array."""
    cdef DropoutArgs args
    cdef Operand operand
    read(&operand, x, ndarray)
    args.rows, args.columns, args.rate, args.seed = operand.rows, operand.columns, rate, &seed
    if operand.dimensions != 2 or not adjacent(&operand.at, args.columns) \
            or (args.columns > 1 and operand.at.column != 1):
        raise ValueError
    out = empty((args.rows, args.columns), FLOAT if operand.kind == b"f" else DOUBLE)
    args.x, args.out = operand.at.data, memory_of(out)
    call((float_cores if operand.kind == b"f" else double_cores).dropout, &args,
         team_size(<double> args.rows * args.columns, ELEMENTS), <double> args.rows * args.columns)
    return out
