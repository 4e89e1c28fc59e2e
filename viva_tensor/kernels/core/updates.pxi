# Optimiser updates: new weights from old ones, in one pass. The same lines serve a whole array and, in the write-back
# of a matrix product, one row of a tile.

cdef extern from "<math.h>" nogil:
    double sqrt(double x)
    float sqrtf(float x)


cdef inline real root(real x) noexcept nogil:
    return sqrtf(x) if sizeof(real) == sizeof(float) else <real> sqrt(x)


cdef inline void update_run(const UpdateArgs* args, Py_ssize_t at, const real* grad, Py_ssize_t size) noexcept nogil:
    """Weights at to at + size, with their gradient.

    Descent: w' = w - lr·grad. With momentum: v' = momentum·v + grad, w' = w - lr·v'. Adam: m' = m + (1-β₁)(grad - m),
    v' = v + (1-β₂)(grad² - v), w' = w - lr·m' / (√v'·correction + ε), where lr holds the correction of m'. No sum has
    two products, of which a compiler could fuse either: the bits would depend on where these lines are inlined.
    """
    cdef const real* w = <const real*> args.w + at
    cdef const real* first
    cdef const real* second
    cdef real* new_w = <real*> args.new_w + at
    cdef real* new_first
    cdef real* new_second
    cdef real lr = <real> args.lr, momentum = <real> args.momentum, rest = <real> (1 - args.momentum)
    cdef real square_rest = <real> (1 - args.square_momentum)
    cdef real correction = <real> args.correction, epsilon = <real> args.epsilon
    cdef real mean, mean_square
    cdef Py_ssize_t i
    if args.first == NULL:
        for i in range(size):
            new_w[i] = w[i] - lr * grad[i]
        return
    first, new_first = <const real*> args.first + at, <real*> args.new_first + at
    if args.second == NULL:
        for i in range(size):
            mean = momentum * first[i] + grad[i]
            new_first[i] = mean
            new_w[i] = w[i] - lr * mean
        return
    second, new_second = <const real*> args.second + at, <real*> args.new_second + at
    for i in range(size):
        mean = first[i] + rest * (grad[i] - first[i])
        mean_square = second[i] + square_rest * (grad[i] * grad[i] - second[i])
        new_first[i] = mean
        new_second[i] = mean_square
        new_w[i] = w[i] - lr * mean / (root(mean_square) * correction + epsilon)


cdef inline vec with_momentum(const UpdateArgs* args, Py_ssize_t at, vec grad) noexcept nogil:
    """The new velocity of one vector, kept."""
    grad = (<const vec*> (<const real*> args.first + at))[0] * <real> args.momentum + grad
    (<vec*> (<real*> args.new_first + at))[0] = grad
    return grad


cdef inline void descend(const UpdateArgs* args, Py_ssize_t at, vec step) noexcept nogil:
    (<vec*> (<real*> args.new_w + at))[0] = (<const vec*> (<const real*> args.w + at))[0] - step * <real> args.lr


cdef void update(const void* packed, int member, int members) noexcept nogil:
    cdef const UpdateArgs* args = <const UpdateArgs*> packed
    cdef Py_ssize_t begin = share(args.size, 64, member, members), end = share(args.size, 64, member + 1, members)
    update_run(args, begin, <const real*> args.grad + begin, end - begin)
