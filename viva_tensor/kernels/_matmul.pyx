"""Matrix products. What does not fit raises a bare ValueError; the front mends or explains it."""

from libc.string cimport memset

from numpy import dtype, empty, ndarray

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._team cimport MULTIPLY_ADDS, call, release, team_size, workspace
from viva_tensor.kernels._updates cimport Rule
from viva_tensor.kernels._views cimport Operand, apart, distinct, memory_of, read, real
from viva_tensor.kernels.cores cimport PACKED, Cores, MatmulArgs, Rectangle, UpdateArgs

cdef object FLOAT = dtype("float32"), DOUBLE = dtype("float64")

PATHS = ("no depth", "row by row", "outer product", "one row along b's rows", "one row along b's columns",
         "tiles of packed a", "tiles of a in panels of its rows", "tiles of a in panels of its columns",
         "tiles of a where it lies")    # in the order of the enum Path


cdef inline char operands(MatmulArgs* args, object a, object b, bint transposed) except 0:
    """Describe the operands of a product, the second perhaps transposed, and give the kind of their elements."""
    cdef Operand x, y
    read(&x, a, ndarray)
    read(&y, b, ndarray)
    memset(args, 0, sizeof(MatmulArgs))
    args.a, args.b = x.at, y.at
    if transposed:
        args.b.row, args.b.column = y.at.column, y.at.row
        y.rows, y.columns = y.columns, y.rows
    args.rows, args.columns, args.depth = x.rows, y.columns, x.columns
    if x.kind != y.kind or x.dimensions != 2 or y.dimensions != 2 or y.rows != args.depth:
        raise ValueError
    return x.kind


cdef inline int output(MatmulArgs* args, object out, char kind) except -1:
    """Describe the output, which may have no memory in common with an operand."""
    cdef Operand target
    read(&target, out)
    if target.kind != kind or target.dimensions != 2 or target.readonly or target.rows != args.rows \
            or target.columns != args.columns or not distinct(&target):
        raise ValueError
    args.out = target.at
    if args.rows and args.columns and args.depth and not (
            apart(&args.out, args.rows, args.columns, &args.a, args.rows, args.depth, target.itemsize)
            and apart(&args.out, args.rows, args.columns, &args.b, args.depth, args.columns, target.itemsize)):
        raise ValueError
    return 0


cdef inline object multiply(MatmulArgs* args, object out, char kind):
    """Run a described product into an array, by default a new one."""
    cdef const Cores* cores = float_cores if kind == b"f" else double_cores
    cdef double work = <double> args.rows * args.columns * args.depth
    cdef int threads = team_size(work, MULTIPLY_ADDS)
    if out is None:
        out = empty((args.rows, args.columns), FLOAT if kind == b"f" else DOUBLE)
        args.out.data, args.out.row, args.out.column = memory_of(out), args.columns, 1
    else:
        output(args, out, kind)
    if args.rows == 0 or args.columns == 0:
        return out
    cores.matmul_plan(args, threads)
    args.workspace = workspace(threads * args.workspace_bytes)
    call(cores.matmul, args, threads, work)
    release(args.workspace)
    return out


cdef inline int add_bias(MatmulArgs* args, object bias, char kind) except -1:
    cdef Operand operand
    read(&operand, bias, ndarray)
    if operand.kind != kind or operand.dimensions != 1 or operand.columns != args.columns:
        raise ValueError
    args.bias, args.has_bias = operand.at, True
    return 0


cdef inline int add_mask(MatmulArgs* args, object mask, char kind) except -1:
    cdef Operand operand
    read(&operand, mask, ndarray)
    if operand.kind != kind or operand.dimensions != 2 or operand.rows != args.rows \
            or operand.columns != args.columns:
        raise ValueError
    args.mask, args.has_mask = operand.at, True
    return 0


cdef object path_name(const MatmulArgs* args):
    """Say what a plan has chosen."""
    return ("transposed, " if args.swapped else "") + PATHS[<int> args.path] + (
        ", b packed" if args.path >= PACKED and args.packs_b else "")


def path(a, b):
    """Return how a · b would be made."""
    cdef MatmulArgs args
    cdef char kind = operands(&args, a, b, False)
    args.out.row, args.out.column = args.columns, 1
    (float_cores if kind == b"f" else double_cores).matmul_plan(&args, 1)
    return path_name(&args)


def linear(x, w, b, out=None):
    """x · wᵀ + b, in `out` or a new array"""
    cdef MatmulArgs args
    cdef char kind = operands(&args, x, w, True)
    add_bias(&args, b, kind)
    return multiply(&args, out, kind)


def matmul(a, b, out=None, bias=None, bint relu=False, mask=None):
    """relu(a · b + bias), but 0 where mask ≤ 0, in `out` or a new array, which is only written; any strides."""
    cdef MatmulArgs args
    cdef char kind = operands(&args, a, b, False)
    if bias is not None:
        add_bias(&args, bias, kind)
    if mask is not None:
        add_mask(&args, mask, kind)
    args.relu = relu
    return multiply(&args, out, kind)


cdef inline void* weights(const MatmulArgs* args, real[:, ::1] array) except? NULL:
    if array is None:
        return NULL
    if array.shape[0] != args.rows or array.shape[1] != args.columns:
        raise ValueError
    return &array[0, 0]


def matmul_update(a, b, sums, Rule rule, real[:, ::1] w, real[:, ::1] first=None, real[:, ::1] second=None):
    """Update w and the moments in place, with a · b as gradient: `sums` is only room for parts of it."""
    cdef MatmulArgs args
    cdef UpdateArgs update
    cdef char kind = operands(&args, a, b, False)
    output(&args, sums, kind)
    if (kind == b"f") != (sizeof(real) == sizeof(float)) or args.rows == 0 or args.columns == 0 \
            or args.out.column != 1 or args.out.row != args.columns:
        raise ValueError
    memset(&update, 0, sizeof(UpdateArgs))
    update.w = update.new_w = weights(&args, w)
    update.first = update.new_first = weights(&args, first)
    update.second = update.new_second = weights(&args, second)
    update.rule = &rule.values
    args.update = &update
    multiply(&args, sums, kind)


def rectangle(Py_ssize_t rows, Py_ssize_t columns, int thread, int threads, bint packs_a=True, bint packs_b=True):
    """(top, bottom, left, right) of one thread's part of a float32 product."""
    cdef Rectangle own
    float_cores.matmul_rectangle(rows, columns, packs_a, packs_b, thread, threads, &own)
    return own.top, own.bottom, own.left, own.right


def tile(str kind="f"):
    """(rows, columns) of a product's tiles, of float32 or of float64 ("d"); a panel has as many columns."""
    cdef const Cores* cores = float_cores if kind == "f" else double_cores
    return cores.tile_rows, cores.tile_columns
