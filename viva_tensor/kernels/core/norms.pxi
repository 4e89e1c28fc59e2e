# Norms over several arrays. Each array is cut into chunks of SPAN adjacent elements. The squares of a chunk are added
# in the lanes of sums.pxi; the chunks of all arrays are added one after another in float64.

cdef inline real span_squares(const real* x, Py_ssize_t size) noexcept nogil:
    cdef vec sums[WIDTH_VECS]
    cdef vec value
    cdef real* lanes = <real*> sums
    cdef Py_ssize_t i, whole = size // WIDTH * WIDTH
    cdef int j
    for j in range(WIDTH):
        lanes[j] = 0
    for i in range(size // WIDTH):
        for j in range(WIDTH_VECS):
            value = (<const vec*> (x + i * WIDTH + j * LANES))[0]
            sums[j] = fused(value, value, sums[j])
    for i in range(whole, size):
        lanes[i - whole] = fused_real(x[i], x[i], lanes[i - whole])
    return join(lanes)


cdef void squared_norm(const void* packed, int thread, int threads) noexcept nogil:
    """Set partials[c] = Σ x² of chunk c, 0 if it is empty."""
    cdef const SquaredNormArgs* args = <const SquaredNormArgs*> packed
    cdef Py_ssize_t chunks = sum_chunks(args.size), k, end = share(chunks, 1, thread + 1, threads)
    for k in range(share(chunks, 1, thread, threads), end):
        (<real*> args.partials)[k] = span_squares(<const real*> args.x + k * SPAN, min(SPAN, args.size - k * SPAN))


cdef void clip(const void* packed, int thread, int threads) noexcept nogil:
    """Set out = min(1, max_norm / (√Σ partials + 1e-6)), on one thread."""
    cdef const ClipArgs* args = <const ClipArgs*> packed
    cdef double total = 0
    cdef Py_ssize_t i, k
    if thread:
        return
    for i in range(args.count):
        for k in range(args.chunks[i]):
            total += (<const real*> args.partials[i])[k]
    (<real*> args.out)[0] = <real> clip_factor(total, args.max_norm)
