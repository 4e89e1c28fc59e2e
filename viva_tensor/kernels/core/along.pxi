# Along an axis: the largest or smallest element, and running sums. The order depends on shapes alone: of more adjacent
# elements than WIDTH, element i goes to lane i % WIDTH, and the lanes are joined by halves; else they come one by one.


cdef inline real further_of(bint largest, real a, real b) noexcept nogil:
    """Return the larger or smaller, the first of equal ones, and NaN if either is NaN."""
    if a < b:
        return b if largest else a
    if b < a:
        return a if largest else b
    return a if a == b else a + b


cdef inline vec further(bint largest, vec a, vec b) noexcept nogil:
    return formula_maximum(a, b, 0) if largest else formula_minimum(a, b, 0)


cdef real extreme_of(bint largest, const real* x, Py_ssize_t size) noexcept nogil:
    """Return the largest or smallest of adjacent elements."""
    cdef vec most[WIDTH_VECS]
    cdef real* lanes = <real*> most
    cdef Py_ssize_t i
    cdef int j, half = WIDTH // 2
    cdef real found = x[0]
    if size <= WIDTH:
        for i in range(1, size):
            found = further_of(largest, found, x[i])
        return found
    for j in range(WIDTH_VECS):
        most[j] = (<const vec*> (x + j * LANES))[0]
    for i in range(1, size // WIDTH):
        for j in range(WIDTH_VECS):
            most[j] = further(largest, most[j], (<const vec*> (x + i * WIDTH + j * LANES))[0])
    for j in range(<int> (size % WIDTH)):
        lanes[j] = further_of(largest, lanes[j], x[size // WIDTH * WIDTH + j])
    while half:
        for j in range(half):
            lanes[j] = further_of(largest, lanes[j], lanes[j + half])
        half //= 2
    return lanes[0]


cdef inline void extremes(bint largest, const real* x, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t columns,
                          real* out) noexcept nogil:
    """Write the largest or smallest element of each column."""
    cdef Py_ssize_t i, k, whole = columns // LANES * LANES
    memcpy(out, x, columns * sizeof(real))
    for i in range(1, rows):
        x += row
        for k in range(columns // LANES):
            (<vec*> (out + k * LANES))[0] = further(
                largest, (<const vec*> (out + k * LANES))[0], (<const vec*> (x + k * LANES))[0])
        for k in range(whole, columns):
            out[k] = further_of(largest, out[k], x[k])


cdef inline void running_sums(const real* x, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t columns,
                              real* out) noexcept nogil:
    """Write the sums down columns up to each row; rows are `step` apart, backwards if it is negative."""
    cdef Py_ssize_t i, k
    memcpy(out, x, columns * sizeof(real))
    for i in range(1, rows):
        x += step
        out += step
        k = 0
        while k + LANES <= columns:
            (<vec*> (out + k))[0] = (<const vec*> (out + k - step))[0] + (<const vec*> (x + k))[0]
            k += LANES
        while k < columns:
            out[k] = out[k - step] + x[k]
            k += 1


cdef inline void sums_in_runs(const AlongArgs* args, const real* x, Py_ssize_t columns, real* out) noexcept nogil:
    """Write the sums down columns of x[axis, inner] up to each row of a run, or from it on."""
    cdef Py_ssize_t run, begin = 0, end, step = args.inner
    for run in range(args.runs + 1):
        end = args.starts[run] if run < args.runs else args.axis
        if end == begin:
            continue
        if args.rule == RUNNING_SUMS:
            running_sums(x + begin * step, step, end - begin, columns, out + begin * step)
        else:
            running_sums(x + (end - 1) * step, -step, end - begin, columns, out + (end - 1) * step)
        begin = end


cdef void along_axis(const void* packed, int thread, int threads) noexcept nogil:
    """Reduce, or add up, x[outer, axis, inner] along its second axis, which has elements."""
    cdef const AlongArgs* args = <const AlongArgs*> packed
    cdef const real* x
    cdef real* out
    cdef Py_ssize_t first = 0, last = args.outer, left = 0, right = args.inner, o
    cdef bint largest = args.rule == MAX_ALONG, reduces = args.rule == MAX_ALONG or args.rule == MIN_ALONG
    if args.outer >= threads:
        first, last = share(args.outer, 1, thread, threads), share(args.outer, 1, thread + 1, threads)
    else:
        left, right = (share(args.inner, 64 // sizeof(real), thread, threads),
                       share(args.inner, 64 // sizeof(real), thread + 1, threads))
    if left == right:
        return
    for o in range(first, last):
        x = <const real*> args.x + o * args.axis * args.inner + left
        out = <real*> args.out + (o if reduces else o * args.axis) * args.inner + left
        if reduces and args.inner == 1:
            out[0] = extreme_of(largest, x, args.axis)
        elif reduces:
            extremes(largest, x, args.inner, args.axis, right - left, out)
        else:
            sums_in_runs(args, x, right - left, out)
