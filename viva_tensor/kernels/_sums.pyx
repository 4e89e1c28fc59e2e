"""Sums in an order that depends on shapes alone (see core/sums.pxi).

What does not fit raises a bare ValueError, which the front mends or explains.
"""

from libc.math cimport NAN

from numpy import dtype, empty, ndarray

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._team cimport ELEMENTS, call, release, team_size, workspace
from viva_tensor.kernels._views cimport Operand, aligned, describe, memory_of, read, real
from viva_tensor.kernels.cores cimport Cores, SquaredErrorArgs, SumArgs

cdef object FLOAT = dtype("float32"), DOUBLE = dtype("float64")


cdef int run_sum(const Cores* cores, SumArgs* args, Py_ssize_t size) except -1:
    cdef Py_ssize_t chunks = cores.sum_chunks(args.axis)
    cdef char* partials = workspace(args.outer * chunks * size if args.inner == 1 and chunks > 1 else 0)
    cdef double work = <double> args.outer * args.axis * args.inner
    cdef int threads = team_size(work, ELEMENTS)
    args.partials, args.update = partials, NULL
    call(cores.sum, args, threads, work)
    if partials != NULL:
        cores.sum_join(args, 0, 1)
        release(partials)
    return 0


def sum(const real[:, :, :] x, real[:, :] out, double divisor=1):
    """out[o, i] = Σₐ x[o, a, i] / divisor"""
    cdef SumArgs args
    cdef Py_ssize_t size = sizeof(real), steps = 0
    cdef int i
    args.outer, args.axis, args.inner = x.shape[0], x.shape[1], x.shape[2]
    if out.shape[0] != args.outer or out.shape[1] != args.inner:
        raise ValueError
    if args.outer == 0 or args.inner == 0:
        return
    args.x = NULL
    if args.axis > 0:
        args.x = &x[0, 0, 0]
    for i in range(3):
        if x.shape[i] > 1:      # else the stride is never stepped, and may be anything
            steps |= x.strides[i]
    if not (describe(&args.out, &out[0, 0], out.strides, size) and aligned(args.x, steps, size)):
        raise ValueError
    args.x_outer, args.x_axis, args.x_inner = x.strides[0] // size, x.strides[1] // size, x.strides[2] // size
    args.divisor = divisor
    run_sum(float_cores if real is float else double_cores, &args, size)


cdef inline bint adjacent(const Operand* operand) noexcept:
    """Return whether a matrix is one run of elements, row after row."""
    return operand.dimensions == 2 and (operand.columns == 1 or operand.at.column == 1) \
        and (operand.rows == 1 or operand.at.row == operand.columns)


def sum_all(x, double divisor=1):
    """Σ x[i, j] / divisor of a matrix that holds something, 0-d: `sum` without its ways round"""
    cdef SumArgs args
    cdef Operand operand
    read(&operand, x, ndarray)
    if operand.rows == 0 or operand.columns == 0 or not adjacent(&operand):
        raise ValueError
    out = empty((), FLOAT if operand.kind == b"f" else DOUBLE)
    args.outer, args.axis, args.inner, args.divisor = 1, operand.rows * operand.columns, 1, divisor
    args.x, args.x_outer, args.x_axis, args.x_inner = operand.at.data, 0, 1, 1
    args.out.data, args.out.row, args.out.column = memory_of(out), 1, 1
    run_sum(float_cores if operand.kind == b"f" else double_cores, &args, operand.itemsize)
    return out


def sum_rows(x):
    """Σᵢ x[i, j] of a matrix that holds something: `sum` without its ways round"""
    cdef SumArgs args
    cdef Operand operand
    read(&operand, x, ndarray)
    if operand.dimensions != 2 or operand.rows == 0 or operand.columns == 0:
        raise ValueError
    out = empty(operand.columns, FLOAT if operand.kind == b"f" else DOUBLE)
    args.outer, args.axis, args.inner, args.divisor = 1, operand.rows, operand.columns, 1
    args.x, args.x_outer, args.x_axis, args.x_inner = operand.at.data, 0, operand.at.row, operand.at.column
    args.out.data, args.out.row, args.out.column = memory_of(out), args.inner, 1
    run_sum(float_cores if operand.kind == b"f" else double_cores, &args, operand.itemsize)
    return out


cdef const Cores* pair(SquaredErrorArgs* args, Operand* x, object a, object b) except NULL:
    """Describe what is compared."""
    cdef Operand y
    read(x, a, ndarray)
    read(&y, b, ndarray)
    if x.kind != y.kind or x.rows != y.rows or x.columns != y.columns or not (adjacent(x) and adjacent(&y)):
        raise ValueError
    args.size = args.rows = x.rows * x.columns
    args.a, args.b = x.at.data, y.at.data
    args.loss = args.partials = args.out = args.grad = NULL
    return float_cores if x.kind == b"f" else double_cores


def squared_error(a, b):
    """Σ (a - b)² / size, 0-d"""
    cdef SquaredErrorArgs args
    cdef SumArgs join
    cdef Operand x
    cdef const Cores* cores = pair(&args, &x, a, b)
    out = empty((), FLOAT if x.kind == b"f" else DOUBLE)
    if args.size == 0:
        out.fill(NAN)
        return out
    args.loss = memory_of(out)
    chunks = cores.sum_chunks(args.size)
    if chunks == 1:
        call(cores.squared_error, &args, 1, args.size)
        return out
    join.outer, join.axis, join.inner, join.divisor, join.update = 1, args.size, 1, args.size, NULL
    join.out.data, join.out.row, join.out.column = args.loss, 1, 1
    args.partials = join.partials = workspace(chunks * x.itemsize)
    call(cores.squared_error, &args, team_size(args.size, ELEMENTS), args.size)
    cores.sum_join(&join, 0, 1)
    release(<char*> join.partials)
    return out


def squared_error_backward(a, b, double grad):
    """2 · grad / size · (a - b)"""
    cdef SquaredErrorArgs args
    cdef Operand x
    cdef const Cores* cores = pair(&args, &x, a, b)
    cdef float single = <float> grad
    out = empty((x.rows, x.columns), FLOAT if x.kind == b"f" else DOUBLE)
    if args.size:
        args.out, args.grad = memory_of(out), &grad
        if x.kind == b"f":
            args.grad = &single
        call(cores.squared_error, &args, team_size(args.size, ELEMENTS), args.size)
    return out
