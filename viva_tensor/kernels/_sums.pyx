"""Sums on typed memoryviews, in an order that depends on shapes alone (see core/sums.pxi).

What does not fit raises a bare ValueError, which the front mends or explains.
"""

from libc.math cimport NAN

from numpy import dtype, empty

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._team cimport ELEMENTS, call, release, team_size, workspace
from viva_tensor.kernels._views cimport aligned, describe, memory_of, real
from viva_tensor.kernels.cores cimport Cores, SquaredErrorArgs, SumArgs

cdef object FLOAT = dtype("float32"), DOUBLE = dtype("float64")


cdef int run_sum(const Cores* cores, SumArgs* args, Py_ssize_t size) except -1:
    cdef Py_ssize_t chunks = cores.sum_chunks(args.axis)
    cdef char* partials = workspace(args.outer * chunks * size if args.inner == 1 and chunks > 1 else 0)
    cdef double work = <double> args.outer * args.axis * args.inner
    cdef int members = team_size(work, ELEMENTS)
    args.partials, args.update = partials, NULL
    call(cores.sum, args, members, work)
    if partials != NULL:
        cores.sum_join(args, 0, 1)
        release(partials)
    return 0


def sum(const real[:, :, :] x, real[:, :] out, double divisor=1):
    """out[o, i] = Σₐ x[o, a, i] / divisor"""
    cdef SumArgs args
    cdef Py_ssize_t size = sizeof(real)
    args.outer, args.axis, args.inner = x.shape[0], x.shape[1], x.shape[2]
    if out.shape[0] != args.outer or out.shape[1] != args.inner:
        raise ValueError
    if args.outer == 0 or args.inner == 0:
        return
    args.x = NULL
    if args.axis > 0:
        args.x = &x[0, 0, 0]
    if not (describe(&args.out, &out[0, 0], out.strides, size)
            and aligned(args.x, x.strides[0] | x.strides[1] | x.strides[2], size)):
        raise ValueError
    args.x_outer, args.x_axis, args.x_inner = x.strides[0] // size, x.strides[1] // size, x.strides[2] // size
    args.divisor = divisor
    run_sum(float_cores if real is float else double_cores, &args, size)


def sum_all(const real[:, ::1] x, double divisor=1):
    """Σ x[i, j] / divisor of a matrix that holds something, 0-d: `sum` without its ways round"""
    cdef SumArgs args
    cdef Py_ssize_t size = sizeof(real)
    if x.shape[0] == 0 or x.shape[1] == 0 or not aligned(&x[0, 0], 0, size):
        raise ValueError
    out = empty((), FLOAT if real is float else DOUBLE)
    args.outer, args.axis, args.inner, args.divisor = 1, x.shape[0] * x.shape[1], 1, divisor
    args.x, args.x_outer, args.x_axis, args.x_inner = &x[0, 0], 0, 1, 1
    args.out.data, args.out.row, args.out.column = memory_of(out), 1, 1
    run_sum(float_cores if real is float else double_cores, &args, size)
    return out


def sum_rows(const real[:, :] x):
    """Σᵢ x[i, j] of a matrix that holds something: `sum` without its ways round"""
    cdef SumArgs args
    cdef Py_ssize_t size = sizeof(real)
    if x.shape[0] == 0 or x.shape[1] == 0 or not aligned(&x[0, 0], x.strides[0] | x.strides[1], size):
        raise ValueError
    out = empty(x.shape[1], FLOAT if real is float else DOUBLE)
    args.outer, args.axis, args.inner, args.divisor = 1, x.shape[0], x.shape[1], 1
    args.x, args.x_outer, args.x_axis, args.x_inner = &x[0, 0], 0, x.strides[0] // size, x.strides[1] // size
    args.out.data, args.out.row, args.out.column = memory_of(out), args.inner, 1
    run_sum(float_cores if real is float else double_cores, &args, size)
    return out


cdef inline bint pair(SquaredErrorArgs* args, const real[:, ::1] a, const real[:, ::1] b) noexcept:
    """Describe what is compared; False where it does not fit."""
    args.size = args.rows = a.shape[0] * a.shape[1]
    args.a = args.b = args.loss = args.partials = args.out = args.grad = NULL
    if a.shape[0] != b.shape[0] or a.shape[1] != b.shape[1]:
        return False
    if args.size:
        args.a, args.b = &a[0, 0], &b[0, 0]
    return aligned(args.a, 0, sizeof(real)) and aligned(args.b, 0, sizeof(real))


def squared_error(const real[:, ::1] a, const real[:, ::1] b):
    """Σ (a - b)² / size, 0-d"""
    cdef const Cores* cores = float_cores if real is float else double_cores
    cdef SquaredErrorArgs args
    cdef SumArgs join
    if not pair(&args, a, b):
        raise ValueError
    out = empty((), FLOAT if real is float else DOUBLE)
    if args.size == 0:
        (<real*> memory_of(out))[0] = NAN
        return out
    args.loss = memory_of(out)
    chunks = cores.sum_chunks(args.size)
    if chunks == 1:
        call(cores.squared_error, &args, 1, args.size)
        return out
    join.outer, join.axis, join.inner, join.divisor, join.update = 1, args.size, 1, args.size, NULL
    join.out.data, join.out.row, join.out.column = args.loss, 1, 1
    args.partials = join.partials = workspace(chunks * <Py_ssize_t> sizeof(real))
    call(cores.squared_error, &args, team_size(args.size, ELEMENTS), args.size)
    cores.sum_join(&join, 0, 1)
    release(<char*> join.partials)
    return out


def squared_error_backward(const real[:, ::1] a, const real[:, ::1] b, real grad):
    """2 · grad / size · (a - b)"""
    cdef SquaredErrorArgs args
    if not pair(&args, a, b):
        raise ValueError
    out = empty((a.shape[0], a.shape[1]), FLOAT if real is float else DOUBLE)
    if args.size:
        args.out, args.grad = memory_of(out), &grad
        call((float_cores if real is float else double_cores).squared_error, &args, team_size(args.size, ELEMENTS),
             args.size)
    return out
