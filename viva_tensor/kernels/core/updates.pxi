# Optimiser updates: new arrays from old ones, in one pass.

cdef void sgd(const void* packed, int member, int members) noexcept nogil:
    """velocity = momentum · velocity + gradient; out = w - lr · velocity, where without momentum velocity = gradient"""
    cdef const SGDArgs* args = <const SGDArgs*> packed
    cdef const real* w = <const real*> args.w
    cdef const real* grad = <const real*> args.grad
    cdef const real* velocity = <const real*> args.velocity
    cdef real* new_velocity = <real*> args.new_velocity
    cdef real* out = <real*> args.out
    cdef real lr = <real> args.lr, momentum = <real> args.momentum
    cdef Py_ssize_t i, begin = share(args.size, 64, member, members), end = share(args.size, 64, member + 1, members)
    if velocity == NULL:
        for i in range(begin, end):
            out[i] = w[i] - lr * grad[i]
    else:
        for i in range(begin, end):
            new_velocity[i] = momentum * velocity[i] + grad[i]
            out[i] = w[i] - lr * new_velocity[i]
