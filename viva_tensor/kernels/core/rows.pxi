# Operations on whole rows: softmax, cross-entropy, normalisation. Threads own rows; the elements of a row are adjacent.
# In a sum along a row, element i goes to lane i % WIDTH, and the lanes are joined by halves, as in sums.pxi. Rows of at
# most NARROW elements are computed LANES at a time, one in each lane, by the same steps. From the names of the formulas
# the build makes the enum `RowFormula`, the table for Python, `apply_to_row` and `pair_rows`.

cdef enum:
    NARROW = 16     # and at least LANES

cdef inline vec row_max(const real* x, Py_ssize_t size) noexcept nogil:
    """Return the largest number of a row in all lanes, or any number if the row has a NaN."""
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
    """Return the first `count` lanes, followed by zeros."""
    cdef real lanes[LANES]
    if count == LANES:
        return value
    (<vec*> lanes)[0] = value
    return load_part(lanes, count)


cdef inline vec share_of(vec y, vec size) noexcept nogil:
    """Return y·size for y ≥ 0, and 0 for y = 0 even if size is infinite."""
    return if_at_most(y, ZERO, ZERO, y * size)


cdef enum Term:     # the terms of a sum along a row
    PLAIN, PRODUCT, COVARIANCE, EXPONENTIAL, SQUARE, ENTROPY


cdef inline vec row_sum(Term term, const real* x, const real* y, vec shift, Py_ssize_t size) noexcept nogil:
    """Return Σ of x, x·y, x·(y - shift), e^(x - shift), (x - shift)², or share_of(y, shift - x), in all lanes."""
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
    """Write e^(x - most), and return its sum in all lanes, as row_sum adds it."""
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
    """Return ln Σ e^(x - most)."""
    return log_of(row_sum(EXPONENTIAL, x, NULL, most, size))


cdef inline vec deviation_of(const real* x, vec mean, Py_ssize_t size, double epsilon) noexcept nogil:
    """Return √(variance + ε), the variance without Bessel's correction."""
    return root_of(row_mean(SQUARE, x, NULL, mean, size) + <real> epsilon)


cdef struct Row:        # of a and b, and of the output
    Py_ssize_t size
    const real* a
    const real* b
    bint labels             # b is the index of a class, not a row of probabilities
    real* out
    double factor


cdef inline int count_of(const Row* row, Py_ssize_t i) noexcept nogil:
    """Return the number of elements of a row in the vector that begins with element i."""
    return <int> min(<Py_ssize_t> LANES, row.size - i)


cdef inline Py_ssize_t label_of(const Row* row) noexcept nogil:
    """Return the class of a row; -1 if there is no such class, or if the row has probabilities."""
    if row.labels and row.b[0] >= 0 and row.b[0] < row.size and row.b[0] == <real> <Py_ssize_t> row.b[0]:
        return <Py_ssize_t> row.b[0]
    return -1


cdef inline void row_softmax(const Row* row) noexcept nogil:
    cdef vec total = exponentials(row.a, row_max(row.a, row.size), row.size, row.out)
    cdef Py_ssize_t i = 0
    while i < row.size:
        store_part(row.out + i, quotient(load_part(row.out + i, count_of(row, i)), total), count_of(row, i))
        i += LANES


cdef inline void row_softmax_backward(const Row* row) noexcept nogil:
    """Take the gradient as a and the output as b."""
    cdef vec mean = row_sum(PRODUCT, row.a, row.b, ZERO, row.size), x
    cdef Py_ssize_t i = 0
    while i < row.size:
        x = load_part(row.a + i, count_of(row, i)) - mean
        store_part(row.out + i, load_part(row.b + i, count_of(row, i)) * x, count_of(row, i))
        i += LANES


cdef inline void row_log_softmax(const Row* row) noexcept nogil:
    cdef vec most = row_max(row.a, row.size)
    cdef vec total = log_sum_exp(row.a, most, row.size)
    cdef Py_ssize_t i = 0
    while i < row.size:
        store_part(row.out + i, (load_part(row.a + i, count_of(row, i)) - most) - total, count_of(row, i))
        i += LANES


cdef inline void row_log_softmax_backward(const Row* row) noexcept nogil:
    """Take the gradient as a and the output as b."""
    cdef vec total = row_sum(PLAIN, row.a, NULL, ZERO, row.size), share
    cdef Py_ssize_t i = 0
    while i < row.size:
        share = exp_of(load_part(row.b + i, count_of(row, i))) * total
        store_part(row.out + i, load_part(row.a + i, count_of(row, i)) - share, count_of(row, i))
        i += LANES


cdef inline void row_cross_entropy(const Row* row) noexcept nogil:
    cdef vec most = row_max(row.a, row.size), loss
    cdef Py_ssize_t label = label_of(row)
    loss = log_sum_exp(row.a, most, row.size)
    if row.labels:
        loss += most - (row.a[label] if label >= 0 else NOT_A_NUMBER)
    else:
        loss = row_sum(ENTROPY, row.a, row.b, most + loss, row.size)
    store_part(row.out, loss, 1)


cdef inline void row_cross_entropy_backward(const Row* row) noexcept nogil:
    cdef vec total = exponentials(row.a, row_max(row.a, row.size), row.size, row.out), share, x
    cdef Py_ssize_t label = label_of(row), i = 0
    share = splat(<real> 1 if label >= 0 else NOT_A_NUMBER)
    if not row.labels:
        share = row_sum(PLAIN, row.b, NULL, ZERO, row.size)
    share = quotient(share, total)
    while i < row.size:
        x = load_part(row.out + i, count_of(row, i)) * share
        if not row.labels:
            x = x - load_part(row.b + i, count_of(row, i))
        store_part(row.out + i, x, count_of(row, i))
        i += LANES
    if label >= 0:
        row.out[label] -= 1


cdef inline void row_normalize(const Row* row) noexcept nogil:
    cdef vec mean = row_mean(PLAIN, row.a, NULL, ZERO, row.size)
    cdef vec deviation = deviation_of(row.a, mean, row.size, row.factor)
    cdef Py_ssize_t i = 0
    while i < row.size:
        store_part(row.out + i, quotient(load_part(row.a + i, count_of(row, i)) - mean, deviation), count_of(row, i))
        i += LANES


cdef inline void row_normalize_backward(const Row* row) noexcept nogil:
    """Take the gradient as a and the input as b."""
    cdef vec mean = row_mean(PLAIN, row.b, NULL, ZERO, row.size)
    cdef vec deviation = deviation_of(row.b, mean, row.size, row.factor)
    cdef vec slope = row_mean(COVARIANCE, row.a, row.b, mean, row.size)
    cdef vec mean_grad, x
    cdef Py_ssize_t i = 0
    slope = chained(slope, quotient(slope, deviation * deviation))
    mean_grad = row_mean(PLAIN, row.a, NULL, ZERO, row.size)
    while i < row.size:
        x = load_part(row.a + i, count_of(row, i)) - mean_grad
        x = fused_from(x, load_part(row.b + i, count_of(row, i)) - mean, slope)
        store_part(row.out + i, chained(x, quotient(x, deviation)), count_of(row, i))
        i += LANES


cdef inline void columns_of(const Matrix* matrix, Py_ssize_t row, Py_ssize_t size, vec* columns) noexcept nogil:
    """Read LANES rows of at most NARROW elements by columns; zeros follow the last column."""
    cdef const real* x = <const real*> matrix.data + row * matrix.row
    cdef int i, j
    for j in range(NARROW // LANES):
        for i in range(LANES):
            columns[j * LANES + i] = load_part(x + i * matrix.row + j * LANES, lanes_of(size, j))
        transpose(columns + j * LANES)


cdef inline vec join_columns(const vec* columns) noexcept nogil:
    """Return the sum of NARROW columns, as `join` adds them."""
    cdef vec sums[NARROW]
    cdef int half = NARROW // 2, i
    for i in range(NARROW):
        sums[i] = ZERO + columns[i]
    while half:
        for i in range(half):
            sums[i] += sums[i + half]
        half //= 2
    return sums[0]


cdef struct Narrow:     # LANES rows of at most NARROW elements, by columns
    vec[NARROW] x
    vec[NARROW] powers      # e^(x - most)
    vec most
    vec total               # of the powers


cdef inline void read_narrow(const PairArgs* args, Py_ssize_t row, Narrow* narrow) noexcept nogil:
    cdef Py_ssize_t j
    columns_of(&args.a, row, args.columns, narrow.x)
    narrow.most = splat(-INFINITE)
    for j in range(NARROW):
        narrow.powers[j] = ZERO
    for j in range(args.columns):
        narrow.most = if_less(narrow.most, narrow.x[j], narrow.x[j], narrow.most)
    for j in range(args.columns):
        narrow.powers[j] = decayed(narrow.x[j] - narrow.most)
    narrow.total = join_columns(narrow.powers)


cdef inline void write_narrow(const PairArgs* args, Py_ssize_t row, vec* columns) noexcept nogil:
    cdef real* out = <real*> args.out.data + row * args.out.row
    cdef Py_ssize_t i, j
    for j in range(NARROW // LANES):
        transpose(columns + j * LANES)
        for i in range(LANES):
            store_part(out + i * args.out.row + j * LANES, columns[j * LANES + i], lanes_of(args.columns, <int> j))


cdef inline vec labels_of(const PairArgs* args, Py_ssize_t row) noexcept nogil:
    """Return the class indices of LANES rows."""
    cdef vec label = ZERO
    cdef Py_ssize_t i
    for i in range(LANES):
        (<real*> &label)[i] = (<const real*> args.b.data)[(row + i) * args.b.row]
    return label


cdef inline vec where_equal(vec a, vec b, vec equal, vec other) noexcept nogil:
    return if_at_most(a, b, if_at_most(b, a, equal, other), other)


cdef inline void narrow_softmax(const PairArgs* args, Py_ssize_t row, Narrow* narrow) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(args.columns):
        narrow.x[j] = quotient(narrow.powers[j], narrow.total)
    write_narrow(args, row, narrow.x)


cdef inline void narrow_log_softmax(const PairArgs* args, Py_ssize_t row, Narrow* narrow) noexcept nogil:
    cdef vec total = log_of(narrow.total)
    cdef Py_ssize_t j
    for j in range(args.columns):
        narrow.x[j] = (narrow.x[j] - narrow.most) - total
    write_narrow(args, row, narrow.x)


cdef inline void narrow_cross_entropy(const PairArgs* args, Py_ssize_t row, Narrow* narrow,
                                      bint labels) noexcept nogil:
    cdef real* out = <real*> args.out.data + row * args.out.row
    cdef vec loss = log_of(narrow.total), label, found = splat(NOT_A_NUMBER)
    cdef vec y[NARROW]
    cdef Py_ssize_t j, i
    if labels:
        label = labels_of(args, row)
        for j in range(args.columns):
            found = where_equal(label, splat(<real> j), narrow.x[j], found)
        loss += narrow.most - found
    else:
        columns_of(&args.b, row, args.columns, y)
        loss = narrow.most + loss
        for j in range(args.columns):
            y[j] = share_of(y[j], loss - narrow.x[j])
        loss = join_columns(y)
    for i in range(LANES):
        out[i * args.out.row] = (<real*> &loss)[i]


cdef inline void narrow_cross_entropy_backward(const PairArgs* args, Py_ssize_t row, Narrow* narrow,
                                               bint labels) noexcept nogil:
    cdef vec label, share = splat(NOT_A_NUMBER), x
    cdef vec y[NARROW]
    cdef Py_ssize_t j
    if labels:
        label = labels_of(args, row)
        for j in range(args.columns):
            share = where_equal(label, splat(<real> j), splat(<real> 1), share)
        share = quotient(share, narrow.total)
        for j in range(args.columns):
            x = narrow.powers[j] * share
            narrow.x[j] = where_equal(label, splat(<real> j), x - <real> 1, x)
    else:
        columns_of(&args.b, row, args.columns, y)
        share = quotient(join_columns(y), narrow.total)
        for j in range(args.columns):
            narrow.x[j] = narrow.powers[j] * share - y[j]
    write_narrow(args, row, narrow.x)


cdef inline void narrow_rows(RowFormula formula, const PairArgs* args, Py_ssize_t row, bint labels) noexcept nogil:
    """Compute LANES rows of at most NARROW elements, with the same bits as one by one."""
    cdef Narrow narrow
    read_narrow(args, row, &narrow)
    if formula == SOFTMAX:
        narrow_softmax(args, row, &narrow)
    elif formula == LOG_SOFTMAX:
        narrow_log_softmax(args, row, &narrow)
    elif formula == CROSS_ENTROPY:
        narrow_cross_entropy(args, row, &narrow, labels)
    else:
        narrow_cross_entropy_backward(args, row, &narrow, labels)


cdef inline void rows_of(RowFormula formula, const void* packed, int thread, int threads) noexcept nogil:
    """Compute a thread's rows; a stride of 0 along b means one number for each row."""
    cdef const PairArgs* args = <const PairArgs*> packed
    cdef Py_ssize_t i = row_share(args.rows, thread, threads), end = row_share(args.rows, thread + 1, threads)
    cdef Row row
    row.size, row.labels, row.factor = args.columns, args.b.column == 0, args.factor
    if args.columns <= NARROW and (formula == SOFTMAX or formula == LOG_SOFTMAX or formula == CROSS_ENTROPY
                                   or formula == CROSS_ENTROPY_BACKWARD):
        while i + LANES <= end:
            narrow_rows(formula, args, i, row.labels)
            i += LANES
    while i < end:
        row.a = <const real*> args.a.data + i * args.a.row
        row.b = <const real*> args.b.data + i * args.b.row
        row.out = <real*> args.out.data + i * args.out.row
        apply_to_row(formula, &row)
        i += 1
