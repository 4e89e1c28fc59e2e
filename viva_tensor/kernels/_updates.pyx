"""Optimiser updates: new arrays from old ones, or in place, in one pass."""

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_Release, PyObject_GetBuffer

from numpy import dtype, empty, ndarray

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._team cimport ELEMENTS, call, team_size
from viva_tensor.kernels._views cimport aligned, kind_of, memory_of, real
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


cdef int flat(object array, const void** data, Py_ssize_t* size, char* kind) except -1:
    """Where an array without gaps, of any rank, begins, and how many elements of which kind it has."""
    cdef Py_buffer view
    cdef Py_ssize_t itemsize
    if type(array) is not ndarray:
        raise TypeError
    PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    kind[0] = kind_of(&view)
    itemsize = sizeof(float) if kind[0] == b"f" else sizeof(double)
    data[0], size[0] = view.buf, view.len // itemsize
    PyBuffer_Release(&view)
    if kind[0] == 0 or not aligned(data[0], 0, itemsize):
        raise ValueError
    return 0


def descend(w, grad, double lr, double momentum=0, velocity=None):
    """New arrays of the shape of w: the weights, and the velocity or None."""
    cdef UpdateArgs args
    cdef Py_ssize_t size
    cdef char kind, other
    new_velocity = None
    shape = w.shape
    if grad.shape != shape or (velocity is not None and velocity.shape != shape):
        raise ValueError
    flat(w, &args.w, &args.size, &kind)
    flat(grad, &args.grad, &size, &other)
    args.first = args.second = args.new_first = args.new_second = NULL
    if other != kind:
        raise ValueError
    new_w = empty(shape, FLOAT if kind == b"f" else DOUBLE)
    args.new_w = memory_of(new_w)
    if velocity is not None:
        flat(velocity, &args.first, &size, &other)
        if other != kind:
            raise ValueError
        new_velocity = empty(shape, FLOAT if kind == b"f" else DOUBLE)
        args.new_first = memory_of(new_velocity)
    args.lr, args.momentum = lr, momentum
    if args.size:
        call((float_cores if kind == b"f" else double_cores).update, &args, team_size(args.size, ELEMENTS), args.size)
    return new_w, new_velocity
