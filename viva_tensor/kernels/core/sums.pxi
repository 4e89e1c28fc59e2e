# Sums in an order that depends on the shape alone, never on threads, strides or vector width:
#
# - along adjacent elements (inner = 1): chunks of SPAN elements; in a chunk, element i goes to lane i % WIDTH, and the
#   lanes are joined by halves; the chunks are added in order;
# - down columns (inner > 1): chunks of CHAIN rows; in a chunk, row i goes to chain i % 4, and the chains are joined as
#   (0 + 1) + (2 + 3); the chunks are added in order.

cdef enum:
    WIDTH = 32
    SPAN = 8192
    CHAIN = 256

cdef enum:
    WIDTH_VECS = WIDTH // LANES
    BLOCK = 2048    # columns at a time; any number gives the same bits
    STRIP_VECS = 4  # vectors of columns at a time, or half as many: their chains stay in registers
    IN_CACHE = 1 << 18  # bytes up to which columns are summed in strips, beyond which row by row


cdef inline real join(real* lanes) noexcept nogil:
    cdef int half = WIDTH // 2, i
    while half:
        for i in range(half):
            lanes[i] += lanes[i + half]
        half //= 2
    return lanes[0]


cdef Py_ssize_t sum_chunks(Py_ssize_t size) noexcept nogil:
    """Return the number of partial sums of an axis of adjacent elements."""
    return max(1, (size + SPAN - 1) // SPAN)


cdef real span_sum(const real* x, Py_ssize_t step, Py_ssize_t size) noexcept nogil:
    cdef vec sums[WIDTH_VECS]
    cdef real* lanes = <real*> sums
    cdef Py_ssize_t i, whole = size // WIDTH * WIDTH
    cdef int j
    for j in range(WIDTH):
        lanes[j] = 0
    if step == 1:
        for i in range(size // WIDTH):
            for j in range(WIDTH_VECS):
                sums[j] += (<const vec*> (x + i * WIDTH + j * LANES))[0]
    else:
        for i in range(size // WIDTH):
            for j in range(WIDTH):
                lanes[j] += x[(i * WIDTH + j) * step]
    for i in range(whole, size):
        lanes[i - whole] += x[i * step]
    return join(lanes)


cdef inline void eight_rows(const real* at, Py_ssize_t row, real* chains) noexcept nogil:
    """Add one vector of each of eight rows to the chains, and prefetch those of the next eight rows."""
    cdef vec chain
    cdef int q
    for q in range(4):
        chain = (<vec*> (chains + q * BLOCK))[0]
        chain = (chain + (<const vec*> (at + q * row))[0]) + (<const vec*> (at + (q + 4) * row))[0]
        (<vec*> (chains + q * BLOCK))[0] = chain
        prefetch(at + (q + 8) * row)
        prefetch(at + (q + 12) * row)


cdef inline void strip_sums(int vecs, const real* x, Py_ssize_t row, Py_ssize_t rows, real* totals) noexcept nogil:
    """Sum down some vectors of columns that are in a cache, with the chains in registers."""
    cdef vec chains[4 * STRIP_VECS]
    cdef vec sums[STRIP_VECS]
    cdef Py_ssize_t first = 0, end, i
    cdef int q, j
    for j in range(vecs):
        sums[j] = ZERO
    while first < rows:
        end = min(rows, first + CHAIN)
        for q in range(4):
            for j in range(vecs):
                chains[q * vecs + j] = ZERO
        for i in range((end - first) // 4):
            for q in range(4):
                for j in range(vecs):
                    chains[q * vecs + j] += (<const vec*> (x + q * row + j * LANES))[0]
            x += 4 * row
        for q in range(3):
            if q < (end - first) % 4:
                for j in range(vecs):
                    chains[q * vecs + j] += (<const vec*> (x + j * LANES))[0]
                x += row
        for j in range(vecs):
            sums[j] += (chains[j] + chains[vecs + j]) + (chains[2 * vecs + j] + chains[3 * vecs + j])
        first = end
    for j in range(vecs):
        (<vec*> (totals + j * LANES))[0] = sums[j]


cdef inline void eight_whole_rows(const real* at, Py_ssize_t row, Py_ssize_t columns, real* chains) noexcept nogil:
    """Add two rows to each chain at once, which halves the loads and stores of the chains."""
    cdef Py_ssize_t c
    for c in range(columns // LANES):
        eight_rows(at + c * LANES, row, chains + c * LANES)
    for c in range(columns // LANES * LANES, columns):
        chains[c] = (chains[c] + at[c]) + at[4 * row + c]
        chains[BLOCK + c] = (chains[BLOCK + c] + at[row + c]) + at[5 * row + c]
        chains[2 * BLOCK + c] = (chains[2 * BLOCK + c] + at[2 * row + c]) + at[6 * row + c]
        chains[3 * BLOCK + c] = (chains[3 * BLOCK + c] + at[3 * row + c]) + at[7 * row + c]


cdef void column_sums(const real* x, Py_ssize_t row, Py_ssize_t column, Py_ssize_t rows, Py_ssize_t columns,
                      real* totals) noexcept nogil:
    """Sum down at most BLOCK columns, row by row, so that memory is read in order."""
    cdef real chains[4 * BLOCK]
    cdef Py_ssize_t first, end, i, c
    cdef int q
    if column == 1 and rows * columns * <Py_ssize_t> sizeof(real) <= IN_CACHE:
        while columns >= STRIP_VECS * LANES:
            strip_sums(STRIP_VECS, x, row, rows, totals)
            x += STRIP_VECS * LANES
            totals += STRIP_VECS * LANES
            columns -= STRIP_VECS * LANES
        while columns >= STRIP_VECS // 2 * LANES:
            strip_sums(STRIP_VECS // 2, x, row, rows, totals)
            x += STRIP_VECS // 2 * LANES
            totals += STRIP_VECS // 2 * LANES
            columns -= STRIP_VECS // 2 * LANES
        if columns == 0:
            return
    memset(totals, 0, columns * sizeof(real))
    first = 0
    while first < rows:
        end = min(rows, first + CHAIN)
        for q in range(4):
            memset(chains + q * BLOCK, 0, columns * sizeof(real))
        i = first
        while column == 1 and i + 8 <= end:
            eight_whole_rows(x + i * row, row, columns, chains)
            i += 8
        while i < end:
            q = (i - first) % 4
            for c in range(columns):
                chains[q * BLOCK + c] += x[i * row + c * column]
            i += 1
        for c in range(columns):
            totals[c] += (chains[c] + chains[BLOCK + c]) + (chains[2 * BLOCK + c] + chains[3 * BLOCK + c])
        first = end


cdef inline void deliver(const SumArgs* args, Py_ssize_t outer, Py_ssize_t inner, real* totals,
                         Py_ssize_t size) noexcept nogil:
    """Divide adjacent sums, and write them or pass them to an update, which may need only the first of them."""
    cdef real* out = <real*> args.out.data + outer * args.out.row + inner * args.out.column
    cdef real divisor = <real> args.divisor
    cdef Py_ssize_t k, index = outer * args.inner + inner
    if args.update == NULL:
        for k in range(size):
            out[k * args.out.column] = totals[k] / divisor
        return
    for k in range(size):
        totals[k] = totals[k] / divisor
    update_run(args.update, index, totals, min(size, args.update.size - index))


cdef void sum_(const void* packed, int thread, int threads) noexcept nogil:
    """Set out[o, i] = Σₐ x[o, a, i] / divisor, or the partial sums for sum_join."""
    cdef const SumArgs* args = <const SumArgs*> packed
    cdef const real* x = <const real*> args.x
    cdef real* partials = <real*> args.partials
    cdef const real* at
    cdef real totals[BLOCK]
    cdef Py_ssize_t chunks, unit, end, o, i, k, columns, left, right, first_outer, last_outer
    if args.inner == 1:
        chunks = sum_chunks(args.axis)
        end = share(args.outer * chunks, 1, thread + 1, threads)
        for unit in range(share(args.outer * chunks, 1, thread, threads), end):
            o = unit // chunks
            k = unit % chunks * SPAN
            at = x + o * args.x_outer + k * args.x_axis
            if chunks == 1:
                totals[0] = span_sum(at, args.x_axis, args.axis)
                deliver(args, o, 0, totals, 1)
            else:
                partials[unit] = span_sum(at, args.x_axis, min(SPAN, args.axis - k))
        return
    if args.outer < threads:    # deal out columns, else whole matrices
        first_outer, last_outer = 0, args.outer
        left = share(args.inner, 64 // sizeof(real), thread, threads)
        right = share(args.inner, 64 // sizeof(real), thread + 1, threads)
    else:
        first_outer, last_outer = share(args.outer, 1, thread, threads), share(args.outer, 1, thread + 1, threads)
        left, right = 0, args.inner
    for o in range(first_outer, last_outer):
        i = left
        while i < right:
            columns = min(BLOCK, right - i)
            column_sums(x + o * args.x_outer + i * args.x_inner, args.x_axis, args.x_inner, args.axis, columns, totals)
            deliver(args, o, i, totals, columns)
            i += columns


cdef void sum_join(const void* packed, int thread, int threads) noexcept nogil:
    """Add the partial sums of each output in order."""
    cdef const SumArgs* args = <const SumArgs*> packed
    cdef const real* partials = <const real*> args.partials
    cdef Py_ssize_t chunks = sum_chunks(args.axis), o, k, end = share(args.outer, 1, thread + 1, threads)
    cdef real total
    for o in range(share(args.outer, 1, thread, threads), end):
        total = partials[o * chunks]
        for k in range(1, chunks):
            total += partials[o * chunks + k]
        deliver(args, o, 0, &total, 1)


cdef inline real span_squared_error(const real* a, const real* b, Py_ssize_t size, real* out,
                                    real factor) noexcept nogil:
    """Return Σ (a - b)² of a span, and set out = factor · (a - b) unless it is NULL."""
    cdef vec sums[WIDTH_VECS]
    cdef real* lanes = <real*> sums
    cdef vec difference
    cdef real rest
    cdef Py_ssize_t i, whole = size // WIDTH * WIDTH
    cdef int j
    for j in range(WIDTH):
        lanes[j] = 0
    for i in range(size // WIDTH):
        for j in range(WIDTH_VECS):
            difference = (<const vec*> (a + i * WIDTH + j * LANES))[0] - (<const vec*> (b + i * WIDTH + j * LANES))[0]
            sums[j] = fused(difference, difference, sums[j])
            if out != NULL:
                (<vec*> (out + i * WIDTH + j * LANES))[0] = difference * factor
    for i in range(whole, size):
        rest = a[i] - b[i]
        lanes[i - whole] = fused_real(rest, rest, lanes[i - whole])
        if out != NULL:
            out[i] = rest * factor
    return join(lanes)


cdef void squared_error(const void* packed, int thread, int threads) noexcept nogil:
    """Compute Σ (a - b)² / size, or the partial sums for sum_join; its gradient; or both in one pass."""
    cdef const SquaredErrorArgs* args = <const SquaredErrorArgs*> packed
    cdef const real* a
    cdef const real* b
    cdef real* out
    cdef real partial, factor = 0
    cdef Py_ssize_t chunks = sum_chunks(args.size), k, size, end = share(chunks, 1, thread + 1, threads)
    if args.out != NULL:
        factor = <real> (2 * <double> (<const real*> args.grad)[0] / max(args.size, 1))
    if args.loss == NULL:
        k = args.size // args.rows * row_share(args.rows, thread, threads)
        size = args.size // args.rows * row_share(args.rows, thread + 1, threads) - k
        span_squared_error(<const real*> args.a + k, <const real*> args.b + k, size, <real*> args.out + k, factor)
        return
    for k in range(share(chunks, 1, thread, threads), end):
        size = min(SPAN, args.size - k * SPAN)
        a, b = <const real*> args.a + k * SPAN, <const real*> args.b + k * SPAN
        if args.out == NULL:
            partial = span_squared_error(a, b, size, NULL, 0)
        else:
            out = <real*> args.out + k * SPAN
            partial = span_squared_error(a, b, size, out, factor)
        if chunks == 1:
            (<real*> args.loss)[0] = partial / <real> args.size
        else:
            (<real*> args.partials)[k] = partial
