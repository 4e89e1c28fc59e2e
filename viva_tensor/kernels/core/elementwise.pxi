# Operations on each element, with a stride of 0 where an operand is broadcast. Each formula stands once, in `apply`.

cdef enum Formula:
    ADD, SUB, MUL, RELU, RELU_BACKWARD, SCALE


cdef inline real apply(Formula formula, real a, real b, real factor) noexcept nogil:
    if formula == ADD:
        return a + b
    if formula == SUB:
        return a - b
    if formula == MUL:
        return a * b
    if formula == RELU:             # NaN is not below zero, so it passes
        return 0 if a < 0 else a
    if formula == RELU_BACKWARD:    # a is the gradient, b the input: zero where the input is at most zero
        return 0 if b <= 0 else a
    return a * factor


cdef inline void run(Formula formula, Py_ssize_t size, const real* a, Py_ssize_t a_step, const real* b,
                     Py_ssize_t b_step, real* out, Py_ssize_t out_step, real factor) noexcept nogil:
    """One run along a row; the steps that matter stand as constants, so that the compiler vectorises them."""
    cdef Py_ssize_t i
    cdef real fixed
    if out_step == 1 and a_step == 1 and b_step == 1:
        for i in range(size):
            out[i] = apply(formula, a[i], b[i], factor)
    elif out_step == 1 and a_step == 1 and b_step == 0:
        fixed = b[0]
        for i in range(size):
            out[i] = apply(formula, a[i], fixed, factor)
    elif out_step == 1 and a_step == 0 and b_step == 1:
        fixed = a[0]
        for i in range(size):
            out[i] = apply(formula, fixed, b[i], factor)
    else:
        for i in range(size):
            out[i * out_step] = apply(formula, a[i * a_step], b[i * b_step], factor)


cdef inline void elementwise(Formula formula, const void* packed, int member, int members) noexcept nogil:
    """A member's share of the elements in row order, which may begin and end within a row."""
    cdef const ElementwiseArgs* args = <const ElementwiseArgs*> packed
    cdef const real* a = <const real*> args.a.data
    cdef const real* b = <const real*> args.b.data
    cdef real* out = <real*> args.out.data
    cdef Py_ssize_t at = share(args.rows * args.columns, 64, member, members)
    cdef Py_ssize_t end = share(args.rows * args.columns, 64, member + 1, members)
    cdef Py_ssize_t row, column, size
    while at < end:
        row = at // args.columns
        column = at % args.columns
        size = min(args.columns - column, end - at)
        run(formula, size,
            a + row * args.a.row + column * args.a.column, args.a.column,
            b + row * args.b.row + column * args.b.column, args.b.column,
            out + row * args.out.row + column * args.out.column, args.out.column, <real> args.scale)
        at += size


cdef void add(const void* args, int member, int members) noexcept nogil:
    """out = a + b"""
    elementwise(ADD, args, member, members)


cdef void sub(const void* args, int member, int members) noexcept nogil:
    """out = a - b"""
    elementwise(SUB, args, member, members)


cdef void mul(const void* args, int member, int members) noexcept nogil:
    """out = a · b; its gradients are products too"""
    elementwise(MUL, args, member, members)


cdef void relu(const void* args, int member, int members) noexcept nogil:
    """out = max(a, 0)"""
    elementwise(RELU, args, member, members)


cdef void relu_backward(const void* args, int member, int members) noexcept nogil:
    """out = a where b > 0, else 0: the gradient a of relu's output passes where its input b was positive"""
    elementwise(RELU_BACKWARD, args, member, members)


cdef void scale(const void* args, int member, int members) noexcept nogil:
    """out = scale · a: with a repeated, the backward of sums and means"""
    elementwise(SCALE, args, member, members)
