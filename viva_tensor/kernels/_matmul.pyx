"""Matrix product on typed memoryviews. What does not fit raises a bare ValueError; the front mends or explains it."""

from libc.string cimport memset

from numpy import dtype, empty

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._team cimport MULTIPLY_ADDS, call, release, team_size, workspace
from viva_tensor.kernels._views cimport aligned, apart, describe, memory_of, real
from viva_tensor.kernels.cores cimport Cores, MatmulArgs, Rectangle, UpdateArgs

cdef object FLOAT = dtype("float32"), DOUBLE = dtype("float64")


cdef inline bint operands(MatmulArgs* args, const real[:, :] a, const real[:, :] b) noexcept:
    """Describe the operands of a product; False where shapes or alignment do not allow it."""
    cdef Py_ssize_t size = sizeof(real)
    memset(args, 0, sizeof(MatmulArgs))
    args.rows, args.columns, args.depth = a.shape[0], b.shape[1], a.shape[1]
    if b.shape[0] != args.depth:
        return False
    if args.rows == 0 or args.columns == 0 or args.depth == 0:
        return True
    return describe(&args.a, &a[0, 0], a.strides, size) and describe(&args.b, &b[0, 0], b.strides, size)


cdef inline bint output(MatmulArgs* args, real[:, :] out) noexcept:
    """Describe the output; False where its shape, alignment or memory in common with an operand do not allow it."""
    cdef Py_ssize_t size = sizeof(real)
    if out.shape[0] != args.rows or out.shape[1] != args.columns:
        return False
    if args.rows == 0 or args.columns == 0:
        return True
    return describe(&args.out, &out[0, 0], out.strides, size) and (args.depth == 0 or (
        apart(&args.out, args.rows, args.columns, &args.a, args.rows, args.depth, size)
        and apart(&args.out, args.rows, args.columns, &args.b, args.depth, args.columns, size)))


cdef inline object multiply(MatmulArgs* args, object out, real kind):
    """Run a described product into an array, by default a new one."""
    cdef const Cores* cores = float_cores if real is float else double_cores
    cdef double work = <double> args.rows * args.columns * args.depth
    cdef int members = team_size(work, MULTIPLY_ADDS)
    cdef real[:, :] target
    if out is None:
        out = empty((args.rows, args.columns), FLOAT if real is float else DOUBLE)
        args.out.data, args.out.row, args.out.column = memory_of(out), args.columns, 1
    else:
        target = out
        if not output[real](args, target):
            raise ValueError
    if args.rows == 0 or args.columns == 0:
        return out
    cores.matmul_plan(args, members)
    args.workspace = workspace(members * args.workspace_bytes)
    call(cores.matmul, args, members, work)
    release(args.workspace)
    return out


cdef inline bint add_bias(MatmulArgs* args, const real[:] bias) noexcept:
    if bias.shape[0] != args.columns or not aligned(&bias[0], bias.strides[0], sizeof(real)):
        return False
    args.bias.data, args.bias.column = <void*> &bias[0], bias.strides[0] // <Py_ssize_t> sizeof(real)
    return True


def linear(const real[:, :] x, const real[:, :] w, const real[:] b, out=None):
    """x · wᵀ + b, in `out` or a new array"""
    cdef MatmulArgs args
    if not (operands(&args, x, w.T) and add_bias(&args, b)):
        raise ValueError
    return multiply[real](&args, out, 0)


def matmul(const real[:, :] a, const real[:, :] b, out=None, const real[:] bias=None, bint relu=False,
           const real[:, :] mask=None):
    """relu(a · b + bias), but 0 where mask ≤ 0, in `out` or a new array, which is only written; any strides."""
    cdef MatmulArgs args
    if not operands(&args, a, b):
        raise ValueError
    if bias is not None and not add_bias(&args, bias):
        raise ValueError
    if mask is not None and (mask.shape[0] != args.rows or mask.shape[1] != args.columns
                             or not describe(&args.mask, &mask[0, 0], mask.strides, sizeof(real))):
        raise ValueError
    args.relu = relu
    return multiply[real](&args, out, 0)


cdef inline void* weights(const MatmulArgs* args, real[:, ::1] array) except? NULL:
    if array is None:
        return NULL
    if array.shape[0] != args.rows or array.shape[1] != args.columns:
        raise ValueError
    return &array[0, 0]


def matmul_update(const real[:, :] a, const real[:, :] b, real[:, :] sums, double lr, double momentum,
                  double square_momentum, double correction, double epsilon, real[:, ::1] w, real[:, ::1] first=None,
                  real[:, ::1] second=None):
    """Update w and the moments in place, with a · b as gradient: `sums` is only room for parts of it."""
    cdef MatmulArgs args
    cdef UpdateArgs update
    if not (operands(&args, a, b) and output(&args, sums)) or args.rows == 0 or args.columns == 0 \
            or args.out.column != 1 or args.out.row != args.columns:
        raise ValueError
    memset(&update, 0, sizeof(UpdateArgs))
    update.w = update.new_w = weights(&args, w)
    update.first = update.new_first = weights(&args, first)
    update.second = update.new_second = weights(&args, second)
    update.lr, update.momentum, update.square_momentum = lr, momentum, square_momentum
    update.correction, update.epsilon = correction, epsilon
    args.update = &update
    multiply[real](&args, sums, 0)


def rectangle(Py_ssize_t rows, Py_ssize_t columns, int member, int members, bint packs_a=True, bint packs_b=True):
    """(top, bottom, left, right) of one member's part of a float32 product."""
    cdef Rectangle own
    float_cores.matmul_rectangle(rows, columns, packs_a, packs_b, member, members, &own)
    return own.top, own.bottom, own.left, own.right


def tile(str kind="f"):
    """(rows, columns) of a product's tiles, of float32 or of float64 ("d"); a panel has as many columns."""
    cdef const Cores* cores = float_cores if kind == "f" else double_cores
    return cores.tile_rows, cores.tile_columns
