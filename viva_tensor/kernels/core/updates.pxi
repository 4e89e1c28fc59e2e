# Optimiser updates: new weights from old ones, in one pass. The same code, with the same bits, serves a whole array and
# rows or columns of a tile in the epilogue of a matrix product.

cdef struct Numbers:    # the numbers of a rule in the element type
    real scale, penalty, decay, momentum, rest, square_momentum, square_rest, rate, correction, epsilon, kept
    bint scales, penalised, decays, nesterov, decoupled


cdef inline Numbers numbers_of(const UpdateArgs* args) noexcept nogil:
    cdef const UpdateRule* rule = args.rule
    cdef Numbers numbers
    numbers.scale = 1 if args.scale == NULL else (<const real*> args.scale)[0]
    numbers.penalty = 0 if args.penalty == NULL else (<const real*> args.penalty)[0]
    cdef double decay = rule.decay * args.decay_factor
    numbers.decay, numbers.rate = <real> decay, <real> (rule.rate * args.rate_factor)
    numbers.kept = <real> (1 - rule.lr * args.rate_factor * decay if rule.decoupled else 1)
    numbers.momentum, numbers.rest = <real> rule.momentum, <real> (1 - rule.momentum)
    numbers.square_momentum, numbers.square_rest = <real> rule.square_momentum, <real> (1 - rule.square_momentum)
    numbers.correction, numbers.epsilon = <real> rule.correction, <real> rule.epsilon
    numbers.scales, numbers.penalised = args.scale != NULL, args.penalty != NULL
    numbers.nesterov, numbers.decoupled = rule.nesterov, rule.decoupled
    numbers.decays = numbers.decay != 0 and not rule.decoupled
    return numbers


cdef inline vec loaded(const void* source, Py_ssize_t at, int size) noexcept nogil:
    """Return `size` elements; `size` is a constant for a whole vector."""
    if size == LANES:
        return (<const vec*> (<const real*> source + at))[0]
    return load_part(<const real*> source + at, size)


cdef inline void store(void* target, Py_ssize_t at, vec value, int size) noexcept nogil:
    if size == LANES:
        (<vec*> (<real*> target + at))[0] = value
    else:
        store_part(<real*> target + at, value, size)


cdef inline vec moment(const void* source, Py_ssize_t at, vec grad, int size) noexcept nogil:
    """Return `size` moments, 0 for subnormal ones without a gradient: they decay to these, which make steps slow."""
    cdef vec x = loaded(source, at, size)
    return if_less(abs_of(x) + abs_of(grad), splat(SMALLEST), ZERO, x)


cdef inline void update_vector(UpdateKind kind, const UpdateArgs* args, const Numbers* numbers, Py_ssize_t at, vec grad,
                               int size) noexcept nogil:
    """Update `size` weights from `at` on. To their gradient g, penalty·w is added; then it is scaled; unless decay is
    decoupled, decay·w is added.

    Descent: w' = w - lr·g; with momentum v' = momentum·v + g, w' = w - lr·v', or with Nesterov's look ahead
    w' = w - lr·(g + momentum·v').
    Adam: m' = β₁·m + (1-β₁)·g, s' = β₂·s + (1-β₂)·g², w' = kept·w - rate·m' / (√s'·correction + ε).
    Lion: w' = kept·w - rate·sign(β₁·m + (1-β₁)·g), m' = β₂·m + (1-β₂)·g.
    RMSprop: s' = α·s + (1-α)·g², d = g / (√s' + ε), w' = w - lr·d, or with momentum as in descent, with d for g.
    Subnormal v, m and s count as 0 where g is 0 or subnormal itself.
    """
    cdef vec w = loaded(args.w, at, size), mean, square
    if numbers.penalised:
        grad = grad + w * numbers.penalty
    if numbers.scales:
        grad = grad * numbers.scale
    if numbers.decays:
        grad = fused(w, splat(numbers.decay), grad)
    if kind == ADAM or kind == RMSPROP:
        square = moment(args.second, at, grad, size)
        square = fused(square, splat(numbers.square_momentum), grad * numbers.square_rest * grad)
        store(args.new_second, at, square, size)
    if kind == ADAM:
        mean = fused(moment(args.first, at, grad, size), splat(numbers.momentum), grad * numbers.rest)
        store(args.new_first, at, mean, size)
        grad = quotient(mean, fused(root_of(square), splat(numbers.correction), splat(numbers.epsilon)))
        if numbers.decoupled:
            w = w * numbers.kept
    elif kind == LION:
        mean = moment(args.first, at, grad, size)
        square = fused(mean, splat(numbers.square_momentum), grad * numbers.square_rest)
        store(args.new_first, at, square, size)
        grad = formula_sign(fused(mean, splat(numbers.momentum), grad * numbers.rest), ZERO, 0)
        w = w * numbers.kept
    else:
        if kind == RMSPROP:
            grad = quotient(grad, root_of(square) + numbers.epsilon)
        if args.first != NULL:
            mean = fused(moment(args.first, at, grad, size), splat(numbers.momentum), grad)
            store(args.new_first, at, mean, size)
            grad = fused(mean, splat(numbers.momentum), grad) if numbers.nesterov else mean
    store(args.new_w, at, fused_from(w, grad, splat(numbers.rate)), size)


cdef inline void update_kind(UpdateKind kind, const UpdateArgs* args, Py_ssize_t at, Py_ssize_t row,
                             const real* grad, Py_ssize_t grad_row, Py_ssize_t rows, Py_ssize_t size) noexcept nogil:
    cdef UpdateArgs local = args[0]
    cdef Numbers numbers = numbers_of(args)
    cdef Py_ssize_t i, whole = size // LANES * LANES
    for _ in range(rows):
        for i in range(size // LANES):
            update_vector(kind, &local, &numbers, at + i * LANES, (<const vec*> (grad + i * LANES))[0], LANES)
        if whole < size:
            update_vector(kind, &local, &numbers, at + whole, load_part(grad + whole, <int> (size - whole)),
                          <int> (size - whole))
        at += row
        grad += grad_row


cdef void update_rows(const UpdateArgs* args, Py_ssize_t at, Py_ssize_t row, const real* grad, Py_ssize_t grad_row,
                      Py_ssize_t rows, Py_ssize_t size) noexcept nogil:
    """Update runs of `size` weights, the first from `at` on and each `row` after the last, by their gradient."""
    if args.rate_factor == 0:
        return
    if args.rule.kind == DESCENT:
        update_kind(DESCENT, args, at, row, grad, grad_row, rows, size)
    elif args.rule.kind == ADAM:
        update_kind(ADAM, args, at, row, grad, grad_row, rows, size)
    elif args.rule.kind == LION:
        update_kind(LION, args, at, row, grad, grad_row, rows, size)
    else:
        update_kind(RMSPROP, args, at, row, grad, grad_row, rows, size)


cdef inline void update_run(const UpdateArgs* args, Py_ssize_t at, const real* grad, Py_ssize_t size) noexcept nogil:
    update_rows(args, at, 0, grad, 0, 1, size)


cdef inline bint plain_descent(const UpdateArgs* args) noexcept nogil:
    """Return whether an update is so short that `descend` can make it while the gradients are in registers."""
    return args.rule.kind == DESCENT and args.rule.decay == 0 and not args.rule.nesterov and args.scale == NULL \
        and args.penalty == NULL and args.rate_factor != 0


cdef inline void descend(int height, int vecs, const UpdateArgs* args, Py_ssize_t at, Py_ssize_t row,
                         const vec* grads) noexcept nogil:
    """Update a tile of weights by a plain descent, with or without momentum."""
    cdef UpdateArgs local = args[0]
    cdef Numbers numbers = numbers_of(args)
    cdef int i, j
    numbers.scales = numbers.penalised = numbers.decays = numbers.nesterov = False     # known to the compiler too
    if local.first == NULL:       # the loop stands twice, so that it need not test this
        for i in range(height):
            for j in range(vecs):
                update_vector(DESCENT, &local, &numbers, at + i * row + j * LANES, grads[i * TILE_VECS + j], LANES)
    else:
        for i in range(height):
            for j in range(vecs):
                update_vector(DESCENT, &local, &numbers, at + i * row + j * LANES, grads[i * TILE_VECS + j], LANES)


cdef void update(const void* packed, int thread, int threads) noexcept nogil:
    cdef const UpdateArgs* args = <const UpdateArgs*> packed
    cdef Py_ssize_t begin = share(args.size, 64, thread, threads), end = share(args.size, 64, thread + 1, threads)
    update_run(args, begin, <const real*> args.grad + begin, end - begin)
