# Operations on whole rows: softmax, cross-entropy, normalisation. Threads own rows; the elements of a row are adjacent.
# Sums along a row go to WIDTH lanes, element i to lane i % WIDTH, which are joined by halves, as in sums.pxi.
# Rows of at most NARROW elements go LANES at a time, one in each lane, and take the same steps there. The build makes
# the enum `RowFormula`, the names that Python knows, and `pair_rows` from the formulas in `one_row` (setup.py).

cdef enum:
    NARROW = 16     # and at least LANES

cdef inline vec row_max(const real* x, Py_ssize_t size) noexcept nogil:
    """The largest number of a row, in all lanes; where there is NaN, any."""
    cdef vec most = splat(-INFINITE), part
    cdef Py_ssize_t i
    cdef int j, count
    cdef real found
    for i in range(size // LANES):
        part = (<const vec*> (x + i * LANES))[0]
        most = if_less(most, part, part, most)
    found = (<real*> &most)[0]
    count = <int> (size % LANES)
    for j in range(LANES):
        found = max(found, (<real*> &most)[j])
    for j in range(count):
        found = max(found, x[size - count + j])
    return splat(found)


cdef inline vec kept(vec value, int count) noexcept nogil:
    """The first `count` lanes, zeros behind them."""
    cdef real lanes[LANES]
    if count == LANES:
        return value
    (<vec*> lanes)[0] = value
    return load_part(lanes, count)


cdef inline vec share_of(vec y, vec size) noexcept nogil:
    """y·size for y ≥ 0; nothing of anything is nothing, also of infinity"""
    return if_at_most(y, ZERO, ZERO, y * size)


cdef enum Term:     # what is summed along a row
    PLAIN, PRODUCT, COVARIANCE, EXPONENTIAL, SQUARE, ENTROPY


cdef inline vec row_sum(Term term, const real* x, const real* y, vec shift, Py_ssize_t size) noexcept nogil:
    """Σ of x, x·y, x·(y - shift), e^(x - shift), (x - shift)², or share(y, shift - x), in all lanes"""
    cdef vec sums[WIDTH_VECS]
    cdef vec a, b
    cdef Py_ssize_t i = 0
    cdef int j, count
    for j in range(WIDTH_VECS):
        sums[j] = ZERO
    while i < size:
        for j in range(WIDTH_VECS):
            count = lanes_of(size - i, j)
            if count:
                a = load_part(x + i + j * LANES, count)
                if term == PLAIN:
                    sums[j] += a
                elif term == PRODUCT:
                    sums[j] = fused(a, load_part(y + i + j * LANES, count), sums[j])
                elif term == COVARIANCE:
                    sums[j] = fused(a, load_part(y + i + j * LANES, count) - shift, sums[j])
                elif term == EXPONENTIAL:
                    sums[j] += kept(decayed(a - shift), count)
                elif term == SQUARE:
                    b = kept(a - shift, count)
                    sums[j] = fused(b, b, sums[j])
                else:
                    sums[j] += share_of(load_part(y + i + j * LANES, count), kept(shift - a, count))
        i += WIDTH
    return splat(join(<real*> sums))


cdef inline vec exponentials(const real* x, vec most, Py_ssize_t size, real* out) noexcept nogil:
    """e^(x - most), and their sum in all lanes, as row_sum adds them"""
    cdef vec sums[WIDTH_VECS]
    cdef vec value
    cdef Py_ssize_t i = 0
    cdef int j, count
    for j in range(WIDTH_VECS):
        sums[j] = ZERO
    while i < size:
        for j in range(WIDTH_VECS):
            count = lanes_of(size - i, j)
            if count:
                value = decayed(load_part(x + i + j * LANES, count) - most)
                store_part(out + i + j * LANES, value, count)
                sums[j] += kept(value, count)
        i += WIDTH
    return splat(join(<real*> sums))


cdef inline vec row_mean(Term term, const real* x, const real* y, vec shift, Py_ssize_t size) noexcept nogil:
    return quotient(row_sum(term, x, y, shift, size), splat(<real> size))


cdef inline vec log_sum_exp(const real* x, vec most, Py_ssize_t size) noexcept nogil:
    """ln Σ e^(x - most)"""
    return log_of(row_sum(EXPONENTIAL, x, NULL, most, size))


cdef inline vec spread_of(const real* x, vec mean, Py_ssize_t size, double epsilon) noexcept nogil:
    """√(variance + ε), the variance without Bessel's correction"""
    return root_of(row_mean(SQUARE, x, NULL, mean, size) + <real> epsilon)


cdef inline void one_row(RowFormula formula, Py_ssize_t size, const real* a, const real* b, Py_ssize_t labels,
                         real* out, double factor) noexcept nogil:
    """`labels` is 1 where b is the number of a class, and 0 where it is a row of probabilities."""
    cdef vec first = ZERO, second = ZERO, third = ZERO, fourth = ZERO, x
    cdef Py_ssize_t i = 0, label = -1
    cdef int count
    if labels and b[0] >= 0 and b[0] < size and b[0] == <real> <Py_ssize_t> b[0]:
        label = <Py_ssize_t> b[0]
    if formula == SOFTMAX:
        second = exponentials(a, row_max(a, size), size, out)
    elif formula == SOFTMAX_BACKWARD:           # a is the gradient, b the output
        first = row_sum(PRODUCT, a, b, ZERO, size)
    elif formula == LOG_SOFTMAX:
        first = row_max(a, size)
        second = log_sum_exp(a, first, size)
    elif formula == LOG_SOFTMAX_BACKWARD:       # a is the gradient, b the output
        first = row_sum(PLAIN, a, NULL, ZERO, size)
    elif formula == CROSS_ENTROPY:
        first = row_max(a, size)
        second = log_sum_exp(a, first, size)
        if labels:
            second += first - (a[label] if label >= 0 else NOT_A_NUMBER)
        else:
            first = first + second
            second = row_sum(ENTROPY, a, b, first, size)
        store_part(out, second, 1)
        return
    elif formula == CROSS_ENTROPY_BACKWARD:
        second = exponentials(a, row_max(a, size), size, out)
        third = splat(<real> 1 if label >= 0 else NOT_A_NUMBER)
        if not labels:
            third = row_sum(PLAIN, b, NULL, ZERO, size)
        third = quotient(third, second)
    elif formula == NORMALIZE:
        first = row_mean(PLAIN, a, NULL, ZERO, size)
        second = spread_of(a, first, size, factor)
    elif formula == NORMALIZE_BACKWARD:         # a is the gradient, b the input
        first = row_mean(PLAIN, b, NULL, ZERO, size)
        second = spread_of(b, first, size, factor)
        third = row_mean(COVARIANCE, a, b, first, size)
        third = chained(third, quotient(third, second * second))
        fourth = row_mean(PLAIN, a, NULL, ZERO, size)
    while i < size:
        count = <int> min(<Py_ssize_t> LANES, size - i)
        x = load_part(a + i, count)
        if formula == SOFTMAX:
            x = quotient(load_part(out + i, count), second)
        elif formula == SOFTMAX_BACKWARD:
            x = load_part(b + i, count) * (x - first)
        elif formula == LOG_SOFTMAX:
            x = (x - first) - second
        elif formula == LOG_SOFTMAX_BACKWARD:
            x = x - exp_of(load_part(b + i, count)) * first
        elif formula == CROSS_ENTROPY_BACKWARD:
            x = load_part(out + i, count) * third
            if not labels:
                x = x - load_part(b + i, count)
        elif formula == NORMALIZE:
            x = quotient(x - first, second)
        else:
            x = fused_from(x - fourth, load_part(b + i, count) - first, third)
            x = chained(x, quotient(x, second))
        store_part(out + i, x, count)
        i += LANES
    if formula == CROSS_ENTROPY_BACKWARD and label >= 0:
        out[label] -= 1


cdef inline void columns_of(const Matrix* matrix, Py_ssize_t row, Py_ssize_t size, vec* columns) noexcept nogil:
    """LANES rows of at most NARROW elements, by columns; zeros behind them."""
    cdef const real* x = <const real*> matrix.data + row * matrix.row
    cdef int i, j
    for j in range(NARROW // LANES):
        for i in range(LANES):
            columns[j * LANES + i] = load_part(x + i * matrix.row + j * LANES, lanes_of(size, j))
        transpose(columns + j * LANES)


cdef inline vec join_columns(const vec* columns) noexcept nogil:
    """The sum over NARROW columns, as `join` adds them."""
    cdef vec sums[NARROW]
    cdef int half = NARROW // 2, i
    for i in range(NARROW):
        sums[i] = ZERO + columns[i]
    while half:
        for i in range(half):
            sums[i] += sums[i + half]
        half //= 2
    return sums[0]


cdef inline void narrow_rows(RowFormula formula, const PairArgs* args, Py_ssize_t row, bint labels) noexcept nogil:
    """one_row for LANES rows of at most NARROW elements, of softmax or cross-entropy."""
    cdef vec x[NARROW], y[NARROW], powers[NARROW]
    cdef vec most = splat(-INFINITE), total, label = ZERO, found = splat(NOT_A_NUMBER), share
    cdef Py_ssize_t size = args.columns, i, j
    cdef real* out = <real*> args.out.data + row * args.out.row
    cdef bint entropy = formula == CROSS_ENTROPY or formula == CROSS_ENTROPY_BACKWARD
    columns_of(&args.a, row, size, x)
    for j in range(NARROW):
        y[j] = powers[j] = ZERO
    for j in range(size):
        most = if_less(most, x[j], x[j], most)
    for j in range(size):
        powers[j] = decayed(x[j] - most)
    total = join_columns(powers)
    if entropy and labels:
        for i in range(LANES):
            (<real*> &label)[i] = (<const real*> args.b.data)[(row + i) * args.b.row]
    elif entropy:
        columns_of(&args.b, row, size, y)
    if formula == CROSS_ENTROPY:
        total = log_of(total)
        if labels:
            for j in range(size):
                share = splat(<real> j)
                found = if_at_most(label, share, if_at_most(share, label, x[j], found), found)
            total += most - found
        else:
            most = most + total
            for j in range(size):
                y[j] = share_of(y[j], most - x[j])
            total = join_columns(y)
        for i in range(LANES):
            out[i * args.out.row] = (<real*> &total)[i]
        return
    if formula == SOFTMAX:
        for j in range(size):
            x[j] = quotient(powers[j], total)
    elif formula == LOG_SOFTMAX:
        total = log_of(total)
        for j in range(size):
            x[j] = (x[j] - most) - total
    elif labels:
        for j in range(size):
            share = splat(<real> j)
            found = if_at_most(label, share, if_at_most(share, label, splat(<real> 1), found), found)
        found = quotient(found, total)
        for j in range(size):
            share = splat(<real> j)
            x[j] = powers[j] * found
            x[j] = if_at_most(label, share, if_at_most(share, label, x[j] - <real> 1, x[j]), x[j])
    else:
        found = quotient(join_columns(y), total)
        for j in range(size):
            x[j] = powers[j] * found - y[j]
    for j in range(NARROW // LANES):
        transpose(x + j * LANES)
        for i in range(LANES):
            store_part(out + i * args.out.row + j * LANES, x[j * LANES + i], lanes_of(size, <int> j))


cdef inline void rows_of(RowFormula formula, const void* packed, int thread, int threads) noexcept nogil:
    """A thread's rows; a stride of 0 along b stands for one number for each row."""
    cdef const PairArgs* args = <const PairArgs*> packed
    cdef Py_ssize_t row = row_share(args.rows, thread, threads), end = row_share(args.rows, thread + 1, threads)
    cdef bint labels = args.b.column == 0
    if args.columns <= NARROW and (formula == SOFTMAX or formula == LOG_SOFTMAX or formula == CROSS_ENTROPY
                                   or formula == CROSS_ENTROPY_BACKWARD):
        while row + LANES <= end:
            narrow_rows(formula, args, row, labels)
            row += LANES
    while row < end:
        one_row(formula, args.columns, <const real*> args.a.data + row * args.a.row,
                <const real*> args.b.data + row * args.b.row, labels, <real*> args.out.data + row * args.out.row,
                args.factor)
        row += 1
