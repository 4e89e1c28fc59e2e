"""Elements by their indices (see core/indexing.pxi). Operands are contiguous, of the shapes that the wrapper made."""

from viva_tensor.kernels._dispatch cimport cores_for
from viva_tensor.kernels._team cimport call_for_elements
from viva_tensor.kernels._views cimport Operand, adjacent, read
from viva_tensor.kernels.cores cimport BagArgs, Cores, TakeArgs


cdef int read_flat(Operand* operand, object array) except -1:
    """Find a matrix without gaps."""
    read(operand, array)
    if not adjacent(operand):
        raise ValueError
    return 0


def take(x, indices, out, Py_ssize_t outer, Py_ssize_t size, Py_ssize_t inner, bint backward=False):
    """Set out [outer·count, inner] to x [outer·size, inner] at indices [count, 1]; or sum the former to the latter."""
    cdef Operand source, chosen, target
    cdef TakeArgs args
    cdef const Cores* cores
    read_flat(&source, x)
    read_flat(&chosen, indices)
    read_flat(&target, out)
    args.outer, args.size, args.count, args.inner = outer, size, chosen.rows, inner
    if source.kind != chosen.kind or source.kind != target.kind or source.columns != inner or target.columns != inner \
            or (target if backward else source).rows != outer * size \
            or (source if backward else target).rows != outer * args.count:
        raise ValueError
    args.rows = outer * args.count
    args.x, args.indices, args.out = source.at.data, chosen.at.data, target.at.data
    cores = cores_for(source.kind)
    call_for_elements(cores.take_backward if backward else cores.take, &args, <double> args.rows * inner)


def embedding_bag(x, indices, weights, out, bint backward=False):
    """Set out [n, h] to sums of the rows of x [m, h] at indices [n, k], weighted; or sum x [n, h] to out [m, h]."""
    cdef Operand source, chosen, factors, target
    cdef BagArgs args
    cdef const Cores* cores
    read_flat(&source, x)
    read_flat(&chosen, indices)
    read_flat(&factors, weights)
    read_flat(&target, out)
    args.rows, args.entries = chosen.rows, chosen.columns
    args.size, args.columns = (target if backward else source).rows, source.columns
    if not source.kind == chosen.kind == factors.kind == target.kind or target.columns != args.columns \
            or factors.rows != args.rows or factors.columns != args.entries \
            or (source if backward else target).rows != args.rows:
        raise ValueError
    args.x, args.indices, args.weights, args.out = source.at.data, chosen.at.data, factors.at.data, target.at.data
    cores = cores_for(source.kind)
    call_for_elements(cores.embedding_bag_backward if backward else cores.embedding_bag, &args,
                      <double> args.rows * args.entries * args.columns)
