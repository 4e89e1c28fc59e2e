"""Matrix products. Arguments that do not fit raise a bare ValueError; the Python wrapper converts or explains them."""

from libc.string cimport memset

from numpy import dtype, empty, ndarray

from viva_tensor.kernels._dispatch cimport cores_for, float_cores
from viva_tensor.kernels._team cimport MULTIPLY_ADDS, call, release, team_size, workspace
from viva_tensor.kernels._updates cimport Rule
from viva_tensor.kernels._views cimport Operand, adjacent, apart, distinct, memory_of, read, real
from viva_tensor.kernels.cores cimport PACKED, BatchArgs, Cores, MatmulArgs, Matrix, Rectangle, UpdateArgs

cdef object FLOAT = dtype("float32"), DOUBLE = dtype("float64")

cdef enum:
    OUTPUT = 16     # multiply-adds that take as long as writing an element, and reading one
    ELEMENT = 3

cdef tuple PATHS = (    # in the order of the enum Path
    "no depth", "row by row", "few steps", "few outputs along the depth",
    "few rows along b's rows", "few rows along b's columns",
    "tiles of packed a", "tiles of a in panels of its rows", "tiles of a in panels of its columns",
    "tiles of a where it lies",
)


cdef inline char operands(MatmulArgs* args, object a, object b, bint transposed) except 0:
    """Describe the operands of a product, the second perhaps transposed, and return the kind of their elements."""
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
    """Describe the output, which must share no memory with an operand, the bias or the mask."""
    cdef Operand target
    read(&target, out)
    if target.kind != kind or target.dimensions != 2 or target.readonly or target.rows != args.rows \
            or target.columns != args.columns or not distinct(&target):
        raise ValueError
    args.out = target.at
    if args.rows == 0 or args.columns == 0:
        return 0
    if args.depth and not (
            apart(&args.out, args.rows, args.columns, &args.a, args.rows, args.depth, target.itemsize)
            and apart(&args.out, args.rows, args.columns, &args.b, args.depth, args.columns, target.itemsize)):
        raise ValueError
    if args.has_bias and not apart(&args.out, args.rows, args.columns, &args.bias, 1, args.columns, target.itemsize):
        raise ValueError
    if args.has_mask and not apart(
            &args.out, args.rows, args.columns, &args.mask, args.rows, args.columns, target.itemsize):
        raise ValueError
    return 0


cdef inline object multiply(MatmulArgs* args, object out, char kind):
    """Compute a described product in an array, by default a new one."""
    cdef const Cores* cores = cores_for(kind)
    cdef double outputs = <double> args.rows * args.columns
    cdef double elements = (<double> args.rows + args.columns) * args.depth
    cdef double work = outputs * args.depth + OUTPUT * outputs + ELEMENT * elements
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
    call(cores.matmul, args, threads, work, work / (2.5e9 * cores.lanes))
    release(args.workspace)
    return out


cdef int plan_batch(const Cores* cores, BatchArgs* args, int threads) except -1:
    """Plan products that are described, and put the offsets of their operands where the plan wants them."""
    cdef const Py_ssize_t* offsets = args.a
    args.group = max(1, <int> (threads // args.count))
    cores.matmul_plan(&args.each, args.group)
    if args.each.swapped:
        args.a, args.b = args.b, offsets
    return 0


def matmul_batch(a, b, out, const Py_ssize_t[::1] a_offsets, const Py_ssize_t[::1] b_offsets):
    """Set out, the products one below the other, from the first operands and the offsets of all, in elements."""
    cdef BatchArgs args
    cdef Operand target
    cdef char kind = operands(&args.each, a, b, False)
    cdef const Cores* cores = cores_for(kind)
    cdef double work
    cdef int threads
    read(&target, out)
    args.count = a_offsets.shape[0]
    if b_offsets.shape[0] != args.count or target.kind != kind or not adjacent(&target) or target.readonly \
            or target.rows != args.count * args.each.rows or target.columns != args.each.columns:
        raise ValueError
    if target.rows == 0 or target.columns == 0:
        return
    args.each.out = target.at
    args.a, args.b, args.out = &a_offsets[0], &b_offsets[0], args.each.rows * args.each.columns
    work = (<double> args.each.depth + OUTPUT) * target.rows * target.columns \
        + ELEMENT * (<double> args.each.rows + args.each.columns) * args.each.depth * args.count
    threads = team_size(work, MULTIPLY_ADDS)
    plan_batch(cores, &args, threads)
    args.each.workspace = workspace(threads * args.each.workspace_bytes)
    call(cores.matmul_batch, &args, threads, work, work / (2.5e9 * cores.lanes))
    release(args.each.workspace)


cdef inline int describe(Matrix* matrix, object array, char kind, int dimensions, Py_ssize_t rows,
                         Py_ssize_t columns) except -1:
    """Describe a bias or a mask of this shape."""
    cdef Operand operand
    read(&operand, array, ndarray)
    if operand.kind != kind or operand.dimensions != dimensions or operand.rows != rows or operand.columns != columns:
        raise ValueError
    matrix[0] = operand.at
    return 0


cdef object path_name(const MatmulArgs* args):
    """Return the path that a plan has chosen, in words."""
    return ("transposed, " if args.swapped else "") + PATHS[<int> args.path] + (
        ", b packed" if args.path >= PACKED and args.packs_b else "")


def path(a, b):
    """Return the path by which a · b would be computed."""
    cdef MatmulArgs args
    cdef char kind = operands(&args, a, b, False)
    args.out.row, args.out.column = args.columns, 1
    cores_for(kind).matmul_plan(&args, 1)
    return path_name(&args)


def linear(x, w, b, out=None):
    """Return x · wᵀ + b, in `out` or a new array."""
    cdef MatmulArgs args
    cdef char kind = operands(&args, x, w, True)
    describe(&args.bias, b, kind, 1, 1, args.columns)
    args.has_bias = True
    return multiply(&args, out, kind)


def matmul(a, b, out=None, bias=None, bint relu=False, mask=None):
    """Return relu(a · b + bias), but 0 where mask ≤ 0, in `out` or a new array; operands of any strides."""
    cdef MatmulArgs args
    cdef char kind = operands(&args, a, b, False)
    args.has_bias, args.relu, args.has_mask = bias is not None, relu, mask is not None
    if args.has_bias:
        describe(&args.bias, bias, kind, 1, 1, args.columns)
    if args.has_mask:
        describe(&args.mask, mask, kind, 2, args.rows, args.columns)
    return multiply(&args, out, kind)


cdef inline void* weights(const MatmulArgs* args, real[:, ::1] array) except? NULL:
    if array is None:
        return NULL
    if array.shape[0] != args.rows or array.shape[1] != args.columns:
        raise ValueError
    return &array[0, 0]


def matmul_update(a, b, sums, Rule rule, real[:, ::1] w, real[:, ::1] first=None, real[:, ::1] second=None):
    """Update w and the moments in place, with a · b as gradient; `sums` is a buffer for partial sums."""
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
    update.rule, update.rate_factor, update.decay_factor = &rule.values, 1, 1
    args.update = &update
    multiply(&args, sums, kind)


def rectangle(Py_ssize_t rows, Py_ssize_t columns, int thread, int threads, bint packs_a=True, bint packs_b=True,
              Py_ssize_t seam=0):
    """Return (top, bottom, left, right) of one thread's share of a float32 product."""
    cdef Rectangle share
    float_cores.matmul_rectangle(rows, columns, packs_a, packs_b, seam, thread, threads, &share)
    return share.top, share.bottom, share.left, share.right


def tile(str kind="f"):
    """Return (rows, columns) of a product's tiles in float32 or float64 ("d"); a panel has as many columns."""
    cdef const Cores* cores = cores_for(b"f" if kind == "f" else b"d")
    return cores.tile_rows, cores.tile_columns
