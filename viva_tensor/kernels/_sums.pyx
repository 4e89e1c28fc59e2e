"""Sums on typed memoryviews, in an order that depends on shapes alone (see core/sums.pxi).

What does not fit raises a bare ValueError, which the front mends or explains.
"""

from libc.math cimport NAN

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._team cimport ELEMENTS, release, run, team_size, workspace
from viva_tensor.kernels._views cimport aligned, describe, real
from viva_tensor.kernels.cores cimport Cores, SquaredErrorArgs, SumArgs


cdef int run_sum(const Cores* cores, SumArgs* args, Py_ssize_t size) except -1:
    cdef Py_ssize_t chunks = cores.sum_chunks(args.axis)
    cdef char* partials = workspace(args.outer * chunks * size if args.inner == 1 and chunks > 1 else 0)
    cdef int members = team_size(<double> args.outer * args.axis * args.inner, ELEMENTS)
    args.partials = partials
    with nogil:
        run(cores.sum, args, members)
        if partials != NULL:
            run(cores.sum_join, args, 1)
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


def sum_rows(const real[:, :] x, real[::1] out):
    """out[j] = Σᵢ x[i, j] of a matrix that holds something: `sum` without its ways round"""
    cdef SumArgs args
    cdef Py_ssize_t size = sizeof(real)
    if x.shape[0] == 0 or x.shape[1] == 0 or out.shape[0] != x.shape[1]:
        raise ValueError
    args.outer, args.axis, args.inner, args.divisor = 1, x.shape[0], x.shape[1], 1
    args.x, args.x_outer, args.x_axis, args.x_inner = &x[0, 0], 0, x.strides[0] // size, x.strides[1] // size
    args.out.data, args.out.row, args.out.column = &out[0], args.inner, 1
    if not (aligned(args.x, x.strides[0] | x.strides[1], size) and aligned(args.out.data, 0, size)):
        raise ValueError
    run_sum(float_cores if real is float else double_cores, &args, size)


def squared_error(const real[::1] a, const real[::1] b, real[:, :] out):
    """out[0, 0] = Σ (a - b)² / size"""
    cdef const Cores* cores = float_cores if real is float else double_cores
    cdef SquaredErrorArgs args
    cdef SumArgs join
    cdef char* partials
    if a.shape[0] != b.shape[0]:
        raise ValueError
    if a.shape[0] == 0:
        out[0, 0] = NAN
        return
    args.size, args.a, args.b, args.out = a.shape[0], &a[0], &b[0], NULL
    if not (aligned(args.a, 0, sizeof(real)) and aligned(args.b, 0, sizeof(real))):
        raise ValueError
    join.outer, join.axis, join.inner, join.divisor = 1, args.size, 1, args.size
    describe(&join.out, &out[0, 0], out.strides, sizeof(real))
    partials = workspace(cores.sum_chunks(args.size) * <Py_ssize_t> sizeof(real))
    args.partials = join.partials = partials
    members = team_size(args.size, ELEMENTS)
    with nogil:
        run(cores.squared_error, &args, members)
        run(cores.sum_join, &join, 1)
        release(partials)


def squared_error_backward(const real[::1] a, const real[::1] b, real grad, real[::1] out):
    """out = 2 · grad / size · (a - b)"""
    cdef const Cores* cores = float_cores if real is float else double_cores
    cdef SquaredErrorArgs args
    if a.shape[0] != b.shape[0] or out.shape[0] != a.shape[0]:
        raise ValueError
    if a.shape[0] == 0:
        return
    args.size, args.a, args.b, args.out, args.grad = a.shape[0], &a[0], &b[0], &out[0], &grad
    args.partials = NULL
    if not (aligned(args.a, 0, sizeof(real)) and aligned(args.b, 0, sizeof(real))):
        raise ValueError
    members = team_size(args.size, ELEMENTS)
    with nogil:
        run(cores.squared_error, &args, members)
