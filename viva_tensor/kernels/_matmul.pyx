"""Matrix product on typed memoryviews. What does not fit raises a bare ValueError; the front mends or explains it."""

from libc.string cimport memset

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._team cimport MULTIPLY_ADDS, release, run, team_size, workspace
from viva_tensor.kernels._views cimport aligned, apart, describe, real
from viva_tensor.kernels.cores cimport Cores, MatmulArgs, Rectangle, UpdateArgs


cdef inline bint operands(MatmulArgs* args, const real[:, :] a, const real[:, :] b, real[:, :] out) noexcept:
    """Describe a product; False where shapes, alignment or memory in common do not allow it."""
    cdef Py_ssize_t rows = a.shape[0], columns = b.shape[1], depth = a.shape[1], size = sizeof(real)
    memset(args, 0, sizeof(MatmulArgs))
    args.rows, args.columns, args.depth = rows, columns, depth
    if b.shape[0] != depth or out.shape[0] != rows or out.shape[1] != columns:
        return False
    if rows == 0 or columns == 0:
        return True
    return describe(&args.out, &out[0, 0], out.strides, size) and (depth == 0 or (
        describe(&args.a, &a[0, 0], a.strides, size) and describe(&args.b, &b[0, 0], b.strides, size)
        and apart(&args.out, rows, columns, &args.a, rows, depth, size)
        and apart(&args.out, rows, columns, &args.b, depth, columns, size)))


cdef inline void multiply(const Cores* cores, MatmulArgs* args):
    cdef int members = team_size(<double> args.rows * args.columns * args.depth, MULTIPLY_ADDS)
    cores.matmul_plan(args, members)
    args.workspace = workspace(members * args.workspace_bytes)
    with nogil:
        run(cores.matmul, args, members)
        release(args.workspace)


cdef inline bint add_bias(MatmulArgs* args, const real[:] bias) noexcept:
    if bias.shape[0] != args.columns or not aligned(&bias[0], bias.strides[0], sizeof(real)):
        return False
    args.bias.data, args.bias.column = <void*> &bias[0], bias.strides[0] // <Py_ssize_t> sizeof(real)
    return True


def linear(const real[:, :] x, const real[:, :] w, const real[:] b, real[:, :] out):
    """out = x · wᵀ + b"""
    cdef MatmulArgs args
    if not (operands(&args, x, w.T, out) and add_bias(&args, b)):
        raise ValueError
    if args.rows and args.columns:
        multiply(float_cores if real is float else double_cores, &args)


def matmul(const real[:, :] a, const real[:, :] b, real[:, :] out, const real[:] bias=None, bint relu=False,
           const real[:, :] mask=None):
    """out = relu(a · b + bias), but 0 where mask ≤ 0; any strides; `out` is only written, apart from a and b."""
    cdef MatmulArgs args
    cdef Py_ssize_t size = sizeof(real)
    if not operands(&args, a, b, out):
        raise ValueError
    if bias is not None and not add_bias(&args, bias):
        raise ValueError
    if mask is not None and (mask.shape[0] != args.rows or mask.shape[1] != args.columns
                             or not describe(&args.mask, &mask[0, 0], mask.strides, size)):
        raise ValueError
    args.relu = relu
    if args.rows and args.columns:
        multiply(float_cores if real is float else double_cores, &args)


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
    if not operands(&args, a, b, sums) or args.rows == 0 or args.columns == 0 \
            or args.out.column != 1 or args.out.row != args.columns:
        raise ValueError
    memset(&update, 0, sizeof(UpdateArgs))
    update.w = update.new_w = weights(&args, w)
    update.first = update.new_first = weights(&args, first)
    update.second = update.new_second = weights(&args, second)
    update.lr, update.momentum, update.square_momentum = lr, momentum, square_momentum
    update.correction, update.epsilon = correction, epsilon
    args.update = &update
    multiply(float_cores if real is float else double_cores, &args)


def rectangle(Py_ssize_t rows, Py_ssize_t columns, int member, int members):
    """(top, bottom, left, right) of one member's part of a float32 product."""
    cdef Rectangle own
    float_cores.matmul_rectangle(rows, columns, member, members, &own)
    return own.top, own.bottom, own.left, own.right


def tile():
    """(rows, columns) of a float32 product's tiles."""
    return float_cores.tile_rows, float_cores.tile_columns
