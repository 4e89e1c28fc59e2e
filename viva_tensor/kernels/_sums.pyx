"""Sums in an order that depends on shapes alone (see core/sums.pxi).

Arguments that do not fit raise a bare ValueError; the Python wrapper converts or explains them.
"""

from libc.math cimport NAN

from numpy import dtype, empty, ndarray

from viva_tensor.kernels._dispatch cimport cores_for, double_cores, float_cores
from viva_tensor.kernels._team cimport call_for_elements, release, workspace
from viva_tensor.kernels._views cimport Operand, adjacent, aligned, memory_of, read, real
from viva_tensor.kernels.cores cimport Cores, SquaredErrorArgs, SumArgs

cdef object FLOAT = dtype("float32"), DOUBLE = dtype("float64")


cdef int run_sum(const Cores* cores, SumArgs* args, Py_ssize_t itemsize) except -1:
    cdef Py_ssize_t chunks = cores.sum_chunks(args.axis)
    cdef char* partials = workspace(args.outer * chunks * itemsize if args.inner == 1 and chunks > 1 else 0)
    args.partials, args.update = partials, NULL
    call_for_elements(cores.sum, args, <double> args.outer * args.axis * args.inner)
    if partials != NULL:
        cores.sum_join(args, 0, 1)
        release(partials)
    return 0


def sum(const real[:, :, :] x, real[:, :] out, double divisor=1):
    """Set out[o, i] = Σₐ x[o, a, i] / divisor."""
    cdef SumArgs args
    cdef Py_ssize_t size = sizeof(real), steps = out.strides[0] | out.strides[1]
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
    args.out.data, args.out.row, args.out.column = &out[0, 0], out.strides[0] // size, out.strides[1] // size
    if not (aligned(args.x, steps, size) and aligned(args.out.data, 0, size)):
        raise ValueError
    args.x_outer, args.x_axis, args.x_inner = x.strides[0] // size, x.strides[1] // size, x.strides[2] // size
    args.divisor = divisor
    run_sum(float_cores if real is float else double_cores, &args, size)


cdef inline object sum_matrix(const Operand* x, object shape, Py_ssize_t axis, Py_ssize_t step, Py_ssize_t inner,
                              double divisor):
    """Return a new array of the sums down the columns of a matrix [axis, inner] whose rows are `step` apart."""
    cdef SumArgs args
    out = empty(shape, FLOAT if x.kind == b"f" else DOUBLE)
    args.outer, args.axis, args.inner, args.divisor = 1, axis, inner, divisor
    args.x, args.x_outer, args.x_axis, args.x_inner = x.at.data, 0, step, x.at.column
    args.out.data, args.out.row, args.out.column = memory_of(out), inner, 1
    run_sum(cores_for(x.kind), &args, x.itemsize)
    return out


def sum_all(x, double divisor=1):
    """Return Σ x[i, j] / divisor of a matrix that is not empty, 0-d: a short cut to `sum`."""
    cdef Operand operand
    read(&operand, x, ndarray)
    if operand.rows == 0 or operand.columns == 0 or not adjacent(&operand):
        raise ValueError
    return sum_matrix(&operand, (), operand.rows * operand.columns, 1, 1, divisor)


def sum_rows(x):
    """Return Σᵢ x[i, j] of a matrix that is not empty: a short cut to `sum`."""
    cdef Operand operand
    read(&operand, x, ndarray)
    if operand.dimensions != 2 or operand.rows == 0 or operand.columns == 0:
        raise ValueError
    return sum_matrix(&operand, operand.columns, operand.rows, operand.at.row, operand.columns, 1)


cdef const Cores* pair(SquaredErrorArgs* args, Operand* x, object a, object b) except NULL:
    """Describe the operands of a squared error, and return their cores."""
    cdef Operand y
    read(x, a, ndarray)
    read(&y, b, ndarray)
    if x.kind != y.kind or x.rows != y.rows or x.columns != y.columns or not (adjacent(x) and adjacent(&y)):
        raise ValueError
    args.size = args.rows = x.rows * x.columns
    args.a, args.b = x.at.data, y.at.data
    args.loss = args.partials = args.out = args.grad = NULL
    return cores_for(x.kind)


def squared_error(a, b):
    """Return Σ (a - b)² / size, 0-d."""
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
        call_for_elements(cores.squared_error, &args, args.size)
        return out
    join.outer, join.axis, join.inner, join.divisor, join.update = 1, args.size, 1, args.size, NULL
    join.out.data, join.out.row, join.out.column = args.loss, 1, 1
    args.partials = join.partials = workspace(chunks * x.itemsize)
    call_for_elements(cores.squared_error, &args, args.size)
    cores.sum_join(&join, 0, 1)
    release(<char*> join.partials)
    return out


def squared_error_backward(a, b, double grad):
    """Return 2 · grad / size · (a - b)."""
    cdef SquaredErrorArgs args
    cdef Operand x
    cdef const Cores* cores = pair(&args, &x, a, b)
    cdef float single = <float> grad
    out = empty((x.rows, x.columns), FLOAT if x.kind == b"f" else DOUBLE)
    if args.size:
        args.out, args.grad = memory_of(out), &grad
        if x.kind == b"f":
            args.grad = &single
        call_for_elements(cores.squared_error, &args, args.size)
    return out
