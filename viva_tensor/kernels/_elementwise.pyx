"""Operations on each element of matrices or vectors, of which the second may be repeated, and on whole rows.

Arguments that do not fit raise a bare ValueError; the Python wrapper converts or explains them. `out` may
be an operand.
"""

from libc.stdint cimport uint64_t

from numpy import dtype, empty, ndarray

from viva_tensor.kernels cimport cores
from viva_tensor.kernels._dispatch cimport cores_for
from viva_tensor.kernels._team cimport call_for_elements
from viva_tensor.kernels._views cimport Operand, adjacent, apart, distinct, memory_of, read
from viva_tensor.kernels.cores cimport DropoutArgs, Matrix, PairArgs

cdef object FLOAT = dtype("float32"), DOUBLE = dtype("float64")

include "formula_names.pxi"     # FORMULAS and ROW_FORMULAS, made by the build
cdef dict CODES = FORMULAS, ROW_CODES = ROW_FORMULAS    # typed, for faster access


cdef bint repeat(Matrix* matrix, const Operand* operand, const PairArgs* args) noexcept nogil:
    """Broadcast an operand; False if its shape does not fit, or `out` would overwrite elements not yet read."""
    cdef bint same = operand.rows == args.rows and operand.columns == args.columns and matrix.data == args.out.data \
        and matrix.row == args.out.row and matrix.column == args.out.column
    if operand.rows not in (1, args.rows) or operand.columns not in (1, args.columns):
        return False
    if not same and not apart(matrix, operand.rows, operand.columns, &args.out, args.rows, args.columns,
                              operand.itemsize):
        return False
    if operand.rows != args.rows:
        matrix.row = 0
    if operand.columns != args.columns:
        matrix.column = 0
    return True


cdef inline void transpose(Matrix* matrix) noexcept nogil:
    matrix.row, matrix.column = matrix.column, matrix.row


def apply(str formula, a, b, out=None, double factor=1):
    """Write formula(a, b) to an array, by default a new one of the shape of a, and return it; b may be a row of it."""
    cdef PairArgs args
    cdef Operand x, y, target
    read(&x, a, ndarray)
    if b is a:
        y = x
    else:
        read(&y, b, ndarray)
    if x.kind != y.kind or x.dimensions == 0 or y.dimensions > x.dimensions or y.dimensions == 0 \
            or 0 in (x.rows, x.columns, y.rows, y.columns):
        raise ValueError
    args.formula, args.a, args.b, args.factor, args.by_rows = CODES[formula], x.at, y.at, factor, False
    if out is None:
        args.rows, args.columns = x.rows, x.columns
        out = empty((args.rows, args.columns)[2 - x.dimensions:], FLOAT if x.kind == b"f" else DOUBLE)
        args.out.data, args.out.row, args.out.column = memory_of(out), args.columns, 1
    else:
        read(&target, out)
        if target.kind != x.kind or target.dimensions != x.dimensions or target.readonly \
                or 0 in (target.rows, target.columns) or not distinct(&target):
            raise ValueError
        args.rows, args.columns, args.out = target.rows, target.columns, target.at
    if not (repeat(&args.a, &x, &args) and repeat(&args.b, &y, &args)):
        raise ValueError
    if args.columns == 1 or (args.out.row == 1 and args.out.column != 1):
        args.rows, args.columns = args.columns, args.rows
        transpose(&args.a)
        transpose(&args.b)
        transpose(&args.out)
    call_for_elements(cores_for(x.kind).pair, &args, <double> args.rows * args.columns)
    return out


def apply_rows(str formula, a, b, double factor=0):
    """Return a formula of each row of a and the same row of b, or one number of b for it, in the shape of a.

    A cross-entropy is one number for each row.
    """
    cdef PairArgs args
    cdef Operand x, y
    cdef bint single
    read(&x, a, ndarray)
    if b is a:
        y = x
    else:
        read(&y, b, ndarray)
    if x.kind != y.kind or x.dimensions != 2 or 0 in (x.rows, x.columns) or (x.columns > 1 and x.at.column != 1):
        raise ValueError
    args.formula, args.rows, args.columns, args.factor = ROW_CODES[formula], x.rows, x.columns, factor
    args.a, args.b = x.at, y.at
    if y.dimensions == 1 and y.columns == x.rows:
        args.b.row, args.b.column = y.at.column, 0
    elif y.dimensions == 2 and y.rows == x.rows and y.columns == x.columns and (x.columns == 1 or y.at.column == 1):
        args.b.column = 1
    else:
        raise ValueError
    single = args.formula == cores.CROSS_ENTROPY
    out = empty((x.rows, x.columns)[:1 if single else 2], FLOAT if x.kind == b"f" else DOUBLE)
    args.out.data, args.out.row, args.out.column = memory_of(out), 1 if single else x.columns, 1
    call_for_elements(cores_for(x.kind).pair_rows, &args, <double> x.rows * x.columns)
    return out


def dropout(x, double rate, uint64_t seed):
    """Return x / (1 - rate) where an element is kept, else 0."""
    cdef DropoutArgs args
    cdef Operand operand
    cdef double one = 1
    read(&operand, x, ndarray)
    args.rows, args.columns = operand.rows, operand.columns
    args.rate, args.factor, args.seed = rate, &one, &seed
    if not adjacent(&operand):
        raise ValueError
    out = empty((args.rows, args.columns), FLOAT if operand.kind == b"f" else DOUBLE)
    args.x, args.out = operand.at.data, memory_of(out)
    call_for_elements(cores_for(operand.kind).dropout, &args, <double> args.rows * args.columns)
    return out
