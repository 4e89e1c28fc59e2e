# Elements of an axis by their indices, weighted sums of them, and the sums of what lands on each element. Indices are
# numbers like all others; negative ones count from the end. A sum adds its terms in the order of the indices, whoever
# adds them.


cdef inline Py_ssize_t position_of(real index, Py_ssize_t size) noexcept nogil:
    """Return the position along an axis that an index names; -1 if there is none."""
    cdef Py_ssize_t position
    if not -<real> size <= index < <real> size:     # NaN, too
        return -1
    position = <Py_ssize_t> index
    if <real> position != index:
        return -1
    return position + size if position < 0 else position


cdef inline void copied(const real* x, Py_ssize_t size, real* out) noexcept nogil:
    cdef Py_ssize_t k = 0
    while k + LANES <= size:
        (<vec*> (out + k))[0] = (<const vec*> (x + k))[0]
        k += LANES
    if k == size:
        return
    store_part(out + k, load_part(x + k, <int> (size - k)), <int> (size - k))


cdef inline void added(const real* x, Py_ssize_t size, real* out) noexcept nogil:
    cdef Py_ssize_t k = 0
    while k + LANES <= size:
        (<vec*> (out + k))[0] = (<const vec*> (out + k))[0] + (<const vec*> (x + k))[0]
        k += LANES
    while k < size:
        out[k] += x[k]
        k += 1


cdef inline void cleared(
    real* out, Py_ssize_t columns, Py_ssize_t low, Py_ssize_t high, Py_ssize_t left, Py_ssize_t right
) noexcept nogil:
    """Set rows from low to high of a matrix to 0, in columns from left to right."""
    cdef Py_ssize_t row
    if right - left == columns:
        memset(out + low * columns, 0, (high - low) * columns * sizeof(real))
        return
    for row in range(low, high):
        memset(out + row * columns + left, 0, (right - left) * sizeof(real))


cdef void take(const void* packed, int thread, int threads) noexcept nogil:
    """Set out[o, i, :] = x[o, indices[i], :], or to NaN where there is no such index."""
    cdef const TakeArgs* args = <const TakeArgs*> packed
    cdef Py_ssize_t each = args.outer * args.count // args.rows, unit, i, o, position, k
    cdef Py_ssize_t begin = row_share(args.rows, thread, threads) * each
    cdef real* out
    i, o = begin % args.count, begin // args.count
    for unit in range(begin, row_share(args.rows, thread + 1, threads) * each):
        position = position_of((<const real*> args.indices)[i], args.size)
        out = <real*> args.out + unit * args.inner
        if position < 0:
            for k in range(args.inner):
                out[k] = NOT_A_NUMBER
        else:
            copied(<const real*> args.x + (o * args.size + position) * args.inner, args.inner, out)
        i += 1
        if i == args.count:
            i, o = 0, o + 1


cdef void take_backward(const void* packed, int thread, int threads) noexcept nogil:
    """Set out[o, p, :] = Σ x[o, i, :] over the i with indices[i] = p, in order."""
    cdef const TakeArgs* args = <const TakeArgs*> packed
    cdef const real* x
    cdef real* out
    cdef Py_ssize_t first = 0, last = args.outer, left = 0, right = args.inner, low = 0, high = args.size
    cdef Py_ssize_t unit = 64 // sizeof(real), o, i, position
    if args.outer >= threads:
        first, last = share(args.outer, 1, thread, threads), share(args.outer, 1, thread + 1, threads)
    elif args.size < 8 * threads and args.inner >= unit * threads:  # few elements may be taken unequally often
        left, right = share(args.inner, unit, thread, threads), share(args.inner, unit, thread + 1, threads)
    else:
        low, high = share(args.size, 1, thread, threads), share(args.size, 1, thread + 1, threads)
    for o in range(first, last):
        x = <const real*> args.x + o * args.count * args.inner
        out = <real*> args.out + o * args.size * args.inner
        cleared(out, args.inner, low, high, left, right)
        for i in range(args.count):
            position = position_of((<const real*> args.indices)[i], args.size)
            if low <= position < high:
                added(x + i * args.inner + left, right - left, out + position * args.inner + left)


cdef inline void bag_of(const BagArgs* args, Py_ssize_t row, Py_ssize_t column, int vecs, int left) noexcept nogil:
    """Set so many vectors of a row of out, or what is left, which stay in registers until all entries are added."""
    cdef vec sums[8]
    cdef vec weight
    cdef const real* x
    cdef Py_ssize_t j, position
    cdef real* out = <real*> args.out + row * args.columns + column
    cdef int v
    for v in range(vecs):
        sums[v] = ZERO
    for j in range(row * args.entries, (row + 1) * args.entries):
        position = position_of((<const real*> args.indices)[j], args.size)
        weight = splat((<const real*> args.weights)[j] if position >= 0 else NOT_A_NUMBER)
        x = <const real*> args.x + max(position, 0) * args.columns + column
        if left:
            sums[0] = fused(weight, load_part(x, left), sums[0])
            continue
        for v in range(vecs):
            sums[v] = fused(weight, (<const vec*> (x + v * LANES))[0], sums[v])
    if left:
        store_part(out, sums[0], left)
        return
    for v in range(vecs):
        (<vec*> (out + v * LANES))[0] = sums[v]


cdef void embedding_bag(const void* packed, int thread, int threads) noexcept nogil:
    """Set out[i, :] = Σ weights[i, j] · x[indices[i, j], :], in the order of j; NaN where there is no such index."""
    cdef const BagArgs* args = <const BagArgs*> packed
    cdef Py_ssize_t row, column
    for row in range(row_share(args.rows, thread, threads), row_share(args.rows, thread + 1, threads)):
        column = 0
        while column + 8 * LANES <= args.columns:
            bag_of(args, row, column, 8, 0)
            column += 8 * LANES
        if column + 4 * LANES <= args.columns:
            bag_of(args, row, column, 4, 0)
            column += 4 * LANES
        while column + LANES <= args.columns:
            bag_of(args, row, column, 1, 0)
            column += LANES
        if column < args.columns:
            bag_of(args, row, column, 1, <int> (args.columns - column))


cdef inline void weighed(real weight, const real* x, Py_ssize_t size, real* out) noexcept nogil:
    """Add weight · x to out."""
    cdef vec factor = splat(weight)
    cdef Py_ssize_t k = 0
    cdef int left
    while k + LANES <= size:
        (<vec*> (out + k))[0] = fused(factor, (<const vec*> (x + k))[0], (<const vec*> (out + k))[0])
        k += LANES
    left = <int> (size - k)
    if left:
        store_part(out + k, fused(factor, load_part(x + k, left), load_part(out + k, left)), left)


cdef void embedding_bag_backward(const void* packed, int thread, int threads) noexcept nogil:
    """Set out[p, :] = Σ weights[i, j] · x[i, :] over the i, j with indices[i, j] = p, in their order."""
    cdef const BagArgs* args = <const BagArgs*> packed
    cdef Py_ssize_t unit = 64 // sizeof(real), left = 0, right = args.columns, low = 0, high = args.size
    cdef Py_ssize_t row, j, position
    cdef const real* x
    cdef real* out = <real*> args.out
    if args.columns >= unit * threads:
        left, right = share(args.columns, unit, thread, threads), share(args.columns, unit, thread + 1, threads)
    else:
        low, high = share(args.size, 1, thread, threads), share(args.size, 1, thread + 1, threads)
    cleared(out, args.columns, low, high, left, right)
    for row in range(args.rows):
        x = <const real*> args.x + row * args.columns + left
        for j in range(row * args.entries, (row + 1) * args.entries):
            position = position_of((<const real*> args.indices)[j], args.size)
            if low <= position < high:
                weighed((<const real*> args.weights)[j], x, right - left, out + position * args.columns + left)
