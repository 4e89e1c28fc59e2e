# The peak rate of the arithmetic units, an upper bound for every kernel.

cdef enum:
    CHAINS = 10     # independent sums, enough to hide the latency of one


cdef void peak(const void* packed, int thread, int threads) noexcept nogil:
    """Make `rounds` of CHAINS vector multiply-adds that never leave the registers."""
    cdef const PeakArgs* args = <const PeakArgs*> packed
    cdef vec sums[CHAINS]
    cdef vec factor = ZERO + <real> args.factor, term = ZERO + <real> args.term
    cdef Py_ssize_t n
    cdef int i
    for i in range(CHAINS):
        sums[i] = ZERO + <real> i
    for n in range(args.rounds):
        for i in range(CHAINS):
            sums[i] = fused(sums[i], factor, term)
    for i in range(1, CHAINS):
        sums[0] += sums[i]
    (<vec*> (<real*> args.out + thread * LANES))[0] = sums[0]
