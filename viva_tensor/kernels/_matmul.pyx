"""Matrix product on typed memoryviews. What does not fit raises a bare ValueError; the front mends or explains it."""

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._team cimport MULTIPLY_ADDS, release, run, team_size, workspace
from viva_tensor.kernels._views cimport aligned, apart, describe, real
from viva_tensor.kernels.cores cimport Cores, MatmulArgs, Rectangle


def matmul(const real[:, :] a, const real[:, :] b, real[:, :] out, const real[:] bias=None):
    """out = a · b (+ bias), any strides; `out` is written only, and lies apart from the operands."""
    cdef const Cores* cores = float_cores if real is float else double_cores
    cdef Py_ssize_t rows = a.shape[0], columns = b.shape[1], depth = a.shape[1], size = sizeof(real)
    cdef MatmulArgs args
    cdef int members
    if b.shape[0] != depth or out.shape[0] != rows or out.shape[1] != columns:
        raise ValueError
    if bias is not None and (bias.shape[0] != columns or bias.strides[0] != size):
        raise ValueError
    if rows == 0 or columns == 0:
        return
    args.rows, args.columns, args.depth = rows, columns, depth
    if not describe(&args.out, &out[0, 0], out.strides, size):
        raise ValueError
    if depth > 0:
        if not (describe(&args.a, &a[0, 0], a.strides, size) and describe(&args.b, &b[0, 0], b.strides, size)
                and apart(&args.out, rows, columns, &args.a, rows, depth, size)
                and apart(&args.out, rows, columns, &args.b, depth, columns, size)):
            raise ValueError
    args.bias = NULL
    if bias is not None:
        if not aligned(&bias[0], size, size):
            raise ValueError
        args.bias = &bias[0]
    elif args.out.column != 1 and args.out.row == 1:
        # outᵀ = bᵀ · aᵀ has adjacent columns, and the same sums in the same order
        args.rows, args.columns = columns, rows
        args.a, args.b = args.b, args.a
        args.a.row, args.a.column = args.a.column, args.a.row
        args.b.row, args.b.column = args.b.column, args.b.row
        args.out.row, args.out.column = args.out.column, args.out.row

    members = team_size(<double> rows * columns * depth, MULTIPLY_ADDS)
    args.workspace_bytes = cores.matmul_workspace(&args, members)
    args.workspace = workspace(members * args.workspace_bytes)
    with nogil:
        run(cores.matmul, &args, members)
        release(args.workspace)


def rectangle(Py_ssize_t rows, Py_ssize_t columns, int member, int members):
    """(top, bottom, left, right) of one member's part of a float32 product."""
    cdef Rectangle own
    float_cores.matmul_rectangle(rows, columns, member, members, &own)
    return own.top, own.bottom, own.left, own.right
