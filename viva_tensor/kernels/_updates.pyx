"""Optimiser updates on typed memoryviews: new arrays from old ones, or in place, in one pass."""

from numpy import dtype, empty

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._team cimport ELEMENTS, call, team_size
from viva_tensor.kernels._views cimport aligned, memory_of, real
from viva_tensor.kernels.cores cimport UpdateArgs

cdef object FLOAT = dtype("float32"), DOUBLE = dtype("float64")


cdef inline bint pair(Py_ssize_t size, const real[::1] old, real[::1] new, const void** at, void** new_at):
    """Fill in an array and what takes its place, which may be the array itself; False where they do not fit."""
    at[0] = new_at[0] = NULL
    if old is None:
        return new is None
    if new is None or old.shape[0] != size or new.shape[0] != size:
        return False
    at[0], new_at[0] = &old[0], &new[0]
    return aligned(&old[0], 0, sizeof(real)) and aligned(&new[0], 0, sizeof(real))


def update(const real[::1] grad, const real[::1] w, real[::1] new_w, double lr, double momentum=0,
           const real[::1] first=None, real[::1] new_first=None, double square_momentum=0, double correction=1,
           double epsilon=0, const real[::1] second=None, real[::1] new_second=None):
    """Descent; with `first` momentum; with `second` too Adam. The formulas stand with `update_run`."""
    cdef UpdateArgs args
    args.size = grad.shape[0]
    if args.size == 0 and w.shape[0] == 0 and new_w.shape[0] == 0:
        return
    args.grad = &grad[0]
    if not (aligned(args.grad, 0, sizeof(real)) and pair(args.size, w, new_w, &args.w, &args.new_w)
            and pair(args.size, first, new_first, &args.first, &args.new_first)
            and pair(args.size, second, new_second, &args.second, &args.new_second)):
        raise ValueError
    args.lr, args.momentum, args.square_momentum = lr, momentum, square_momentum
    args.correction, args.epsilon = correction, epsilon
    call((float_cores if real is float else double_cores).update, &args, team_size(args.size, ELEMENTS), args.size)


def descend(tuple shape, const real[::1] grad, const real[::1] w, double lr, double momentum=0,
            const real[::1] velocity=None):
    """New arrays of that shape: the weights, and the velocity or None."""
    cdef UpdateArgs args
    new_velocity = None
    args.size = grad.shape[0]
    args.first = args.second = args.new_first = args.new_second = NULL
    if w.shape[0] != args.size or not (aligned(&grad[0], 0, sizeof(real)) and aligned(&w[0], 0, sizeof(real))):
        raise ValueError
    new_w = empty(shape, FLOAT if real is float else DOUBLE)
    if velocity is not None:
        if velocity.shape[0] != args.size or not aligned(&velocity[0], 0, sizeof(real)):
            raise ValueError
        new_velocity = empty(shape, FLOAT if real is float else DOUBLE)
        args.first, args.new_first = &velocity[0], memory_of(new_velocity)
    if args.size:
        args.grad, args.w, args.new_w = &grad[0], &w[0], memory_of(new_w)
        args.lr, args.momentum = lr, momentum
        call((float_cores if real is float else double_cores).update, &args, team_size(args.size, ELEMENTS), args.size)
    return new_w, new_velocity
