# Dropout: a seed and the index of an element decide whether it is kept, so the backward pass keeps the same elements.

cdef inline uint64_t split_mix(uint64_t seed, uint64_t number) noexcept nogil:
    """Return the output of SplitMix64 with this number, from 0.

    G. L. Steele, D. Lea and C. H. Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.
    """
    cdef uint64_t z = seed + (number + 1) * <uint64_t> 0x9e3779b97f4a7c15
    z = (z ^ (z >> 30)) * <uint64_t> 0xbf58476d1ce4e5b9
    z = (z ^ (z >> 27)) * <uint64_t> 0x94d049bb133111eb
    return z ^ (z >> 31)


cdef void dropout(const void* packed, int thread, int threads) noexcept nogil:
    """Set out = x / (1 - rate) where the element's 64-bit number is at least rate·2⁶⁴, else 0; threads own rows."""
    cdef const DropoutArgs* args = <const DropoutArgs*> packed
    cdef const real* x = <const real*> args.x
    cdef real* out = <real*> args.out
    cdef double rate = args.rate * args.factor[0]
    cdef uint64_t seed = args.seed[0], least = <uint64_t> (rate * 18446744073709551616.0)
    cdef real factor = <real> (1 / (1 - rate))
    cdef Py_ssize_t i, end = row_share(args.rows, thread + 1, threads) * args.columns
    for i in range(row_share(args.rows, thread, threads) * args.columns, end):
        out[i] = x[i] * factor if split_mix(seed, <uint64_t> i) >= least else 0
