"""Optimiser updates on typed memoryviews: new arrays from old ones, one pass each."""

from viva_tensor.kernels._dispatch cimport double_cores, float_cores
from viva_tensor.kernels._team cimport ELEMENTS, run, team_size
from viva_tensor.kernels._views cimport aligned, real
from viva_tensor.kernels.cores cimport SGDArgs


def sgd(const real[::1] w, const real[::1] grad, real[::1] out, double lr, double momentum=0,
        const real[::1] velocity=None, real[::1] new_velocity=None):
    """velocity = momentum · velocity + grad; out = w - lr · velocity; without a velocity, that is grad"""
    cdef SGDArgs args
    cdef Py_ssize_t size = w.shape[0]
    if grad.shape[0] != size or out.shape[0] != size:
        raise ValueError
    if velocity is not None and (velocity.shape[0] != size or new_velocity.shape[0] != size):
        raise ValueError
    if size == 0:
        return
    args.size, args.lr, args.momentum = size, lr, momentum
    args.w, args.grad, args.out = &w[0], &grad[0], &out[0]
    args.velocity = args.new_velocity = NULL
    if velocity is not None:
        args.velocity, args.new_velocity = &velocity[0], &new_velocity[0]
    if not (aligned(args.w, 0, sizeof(real)) and aligned(args.grad, 0, sizeof(real))
            and aligned(args.velocity, 0, sizeof(real))):
        raise ValueError
    members = team_size(size, ELEMENTS)
    with nogil:
        run((float_cores if real is float else double_cores).sgd, &args, members)
