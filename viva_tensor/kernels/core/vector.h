/* One element type and one vector width for each compiled variant of the cores.
 *
 * VIVA_REAL_BITS (32 or 64) chooses the element, the compiler's own target flags choose the width and the register
 * tile. Cython sees `vec` as a plain number, so the cores read like scalar code and one source serves every variant. */
#ifndef VIVA_VECTOR_H
#define VIVA_VECTOR_H

#include <stddef.h>
#include <stdint.h>

#if VIVA_REAL_BITS == 64
typedef double viva_real;
typedef int64_t viva_int;
typedef uint64_t viva_unsigned;
#else
typedef float viva_real;
typedef int32_t viva_int;
typedef uint32_t viva_unsigned;
#endif

/* Tile of matmul: ROWS x VECS vectors of sums stay in registers, with VECS of B and one of A beside them.
 *   AVX-512  32 registers: 12 x 2 sums + 2 + 1 = 27 (A is broadcast from memory)
 *   AVX2     16 registers:  6 x 2 sums + 2 + 1 = 15
 *   SSE2     16 registers:  4 x 2 sums + 2 + 1 + 1 for the product, which has no fused add there
 *   AArch64  32 registers:  6 x 4 sums + 4 + 1 = 29
 *   scalar   4 x 4 */
#if defined(__GNUC__) && defined(__AVX512F__)
#define VIVA_VEC_BYTES 64
#define VIVA_TILE_ROWS 12
#define VIVA_TILE_VECS 2
#elif defined(__GNUC__) && defined(__AVX__)
#define VIVA_VEC_BYTES 32
#define VIVA_TILE_ROWS 6
#define VIVA_TILE_VECS 2
#elif defined(__GNUC__) && defined(__aarch64__)
#define VIVA_VEC_BYTES 16
#define VIVA_TILE_ROWS 6
#define VIVA_TILE_VECS 4
#elif defined(__GNUC__)
#define VIVA_VEC_BYTES 16
#define VIVA_TILE_ROWS 4
#define VIVA_TILE_VECS 2
#else
#define VIVA_VEC_BYTES (VIVA_REAL_BITS / 8)
#define VIVA_TILE_ROWS 4
#define VIVA_TILE_VECS 4
#endif

/* A tile that is not full also multiplies rows beyond the last one, and drops the results. In panels these are the first
 * rows of the next panel, which another thread may be writing: ThreadSanitizer cannot know that the results are dropped. */
#if defined(__SANITIZE_THREAD__)
#define VIVA_EXACT_TILES 1
#else
#define VIVA_EXACT_TILES 0
#endif

/* Blocks of matmul: at most DEPTH_BLOCK (matmul.pxi) steps of the depth, and as many rows and columns as these numbers of
 * elements allow. A block of a takes 240 KiB, to stay in a second-level cache of 512 KiB (Zen 2 and 3, Neoverse N1) or
 * more. A block of b takes 4 MiB and stays in the last-level cache. */
#define VIVA_BLOCK_A (61440 * 32 / VIVA_REAL_BITS)
#define VIVA_BLOCK_B (1048576 * 32 / VIVA_REAL_BITS)
#define VIVA_VEC_LANES (VIVA_VEC_BYTES / (VIVA_REAL_BITS / 8))

/* a·b + c rounded once, if the processor has instructions for it. The cores call it, or `fused` below, wherever they want
 * it; compilers fuse nothing by themselves (-ffp-contract=off), since their choice of products differs between the places
 * where a formula is inlined, and between versions. */
#if VIVA_REAL_BITS == 64 && (defined(__FMA__) || defined(__FP_FAST_FMA))
#define VIVA_FUSED_REAL(a, b, c) __builtin_fma(a, b, c)
#define VIVA_FUSED_REAL_IS_EXACT
#elif VIVA_REAL_BITS == 32 && (defined(__FMA__) || defined(__FP_FAST_FMAF))
#define VIVA_FUSED_REAL(a, b, c) __builtin_fmaf(a, b, c)
#define VIVA_FUSED_REAL_IS_EXACT
#else
#define VIVA_FUSED_REAL(a, b, c) ((a) * (b) + (c))
#endif

#if defined(__GNUC__)
/* `aligned` to one element: loads and stores through a vec pointer take any address. */
typedef viva_real viva_vec __attribute__((vector_size(VIVA_VEC_BYTES), aligned(VIVA_REAL_BITS / 8), may_alias));
#define VIVA_ZERO ((viva_vec){0})
typedef viva_int viva_mask __attribute__((vector_size(VIVA_VEC_BYTES)));
typedef viva_unsigned viva_bits __attribute__((vector_size(VIVA_VEC_BYTES))); /* for arithmetic: they may overflow */
/* 0 where x < 0, else x; 0 where x <= 0, else a: NaN compares as false, so it passes */
#define VIVA_RELU(x) ((viva_vec)((viva_mask)(x) & ~(viva_mask)((x) < VIVA_ZERO)))
#define VIVA_MASKED(a, x) ((viva_vec)((viva_mask)(a) & ~(viva_mask)((x) <= VIVA_ZERO)))

/* A packed a has each element BROADCAST times. Without AVX, broadcasting an element as it is read would take a shuffle, for
 * which the adders and multipliers would wait. */
#if VIVA_VEC_BYTES == 16 && defined(__SSE__) && VIVA_REAL_BITS == 32
#define VIVA_BROADCAST 4
#else
#define VIVA_BROADCAST 1
#endif
#define VIVA_KNOWN(x) __builtin_constant_p(x)

/* a·b + c and c - a·b */
#if defined(__AVX512F__) || defined(__AVX2__) || defined(__FMA__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#if defined(__AVX512F__) && VIVA_REAL_BITS == 64
#define VIVA_FUSED(sign, a, b, c) ((viva_vec)_mm512_f##sign##madd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#elif defined(__AVX512F__)
#define VIVA_FUSED(sign, a, b, c) ((viva_vec)_mm512_f##sign##madd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#elif defined(__FMA__) && VIVA_REAL_BITS == 64
#define VIVA_FUSED(sign, a, b, c) ((viva_vec)_mm256_f##sign##madd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#elif defined(__FMA__)
#define VIVA_FUSED(sign, a, b, c) ((viva_vec)_mm256_f##sign##madd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#endif
static inline __attribute__((always_inline, unused)) viva_vec viva_fused(viva_vec a, viva_vec b, viva_vec c) {
#if defined(VIVA_FUSED)
    return VIVA_FUSED(, a, b, c);
#elif defined(__aarch64__) && VIVA_REAL_BITS == 64
    return (viva_vec)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#elif defined(__aarch64__)
    return (viva_vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#elif defined(__FP_FAST_FMA) || defined(__FP_FAST_FMAF) /* which the compiler vectorises */
    viva_vec sum = c;
    for (int i = 0; i < VIVA_VEC_LANES; i++) sum[i] = VIVA_FUSED_REAL(a[i], b[i], c[i]);
    return sum;
#else
    return a * b + c;
#endif
}
static inline __attribute__((always_inline, unused)) viva_vec viva_fused_from(viva_vec c, viva_vec a, viva_vec b) {
#if defined(VIVA_FUSED)
    return VIVA_FUSED(n, a, b, c);
#elif defined(__aarch64__) && VIVA_REAL_BITS == 64
    return (viva_vec)vfmsq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#elif defined(__aarch64__)
    return (viva_vec)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return viva_fused(-a, b, c);
#endif
}

/* The first n of a vector's elements, 0 ≤ n ≤ LANES, the others zero; nothing beyond them is accessed. For n = 0 not even
 * the address is used: a masked access to a page that is not mapped takes microseconds. */
#if defined(__AVX512F__) && VIVA_REAL_BITS == 64
#define VIVA_FIRST(n) ((__mmask8)((1u << (n)) - 1))
#define VIVA_LOAD_MASKED(from, n) ((viva_vec)_mm512_maskz_loadu_pd(VIVA_FIRST(n), from))
#define VIVA_STORE_MASKED(to, v, n) _mm512_mask_storeu_pd(to, VIVA_FIRST(n), (__m512d)(v))
#elif defined(__AVX512F__)
#define VIVA_FIRST(n) ((__mmask16)((1u << (n)) - 1))
#define VIVA_LOAD_MASKED(from, n) ((viva_vec)_mm512_maskz_loadu_ps(VIVA_FIRST(n), from))
#define VIVA_STORE_MASKED(to, v, n) _mm512_mask_storeu_ps(to, VIVA_FIRST(n), (__m512)(v))
#elif defined(__AVX2__)
static const viva_int viva_first[2 * VIVA_VEC_LANES] = {
#if VIVA_REAL_BITS == 64
    -1, -1, -1, -1
#define VIVA_LOAD_MASKED(from, n) ((viva_vec)_mm256_maskload_pd(from, VIVA_FIRST(n)))
#define VIVA_STORE_SOME(to, v, n) _mm256_maskstore_pd(to, VIVA_FIRST(n), (__m256d)(v))
#else
    -1, -1, -1, -1, -1, -1, -1, -1
#define VIVA_LOAD_MASKED(from, n) ((viva_vec)_mm256_maskload_ps(from, VIVA_FIRST(n)))
#define VIVA_STORE_SOME(to, v, n) _mm256_maskstore_ps(to, VIVA_FIRST(n), (__m256)(v))
#endif
};
#define VIVA_FIRST(n) _mm256_loadu_si256((const __m256i *)(viva_first + VIVA_VEC_LANES - (n)))
#define VIVA_STORE_MASKED(to, v, n) /* AMD's processors take a dozen cycles for a masked store, even of all */ \
    do {                                  \
        if ((n) == VIVA_VEC_LANES)        \
            *(viva_vec *)(to) = (v);      \
        else                              \
            VIVA_STORE_SOME(to, v, n);    \
    } while (0)
#endif
#if defined(VIVA_LOAD_MASKED) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define VIVA_LOAD_PART(from, n) ((n) > 0 ? VIVA_LOAD_MASKED(from, n) : VIVA_ZERO)
#define VIVA_STORE_PART(to, v, n)         \
    do {                                  \
        if ((n) > 0)                      \
            VIVA_STORE_MASKED(to, v, n);  \
    } while (0)
#else /* also for sanitizers, which do not look into masked accesses */
static inline viva_vec viva_load_part(const viva_real *from, int n) {
    viva_vec v = VIVA_ZERO;
    for (int i = 0; i < n; i++) v[i] = from[i];
    return v;
}
static inline void viva_store_part(viva_real *to, viva_vec v, int n) {
    for (int i = 0; i < n; i++) to[i] = v[i];
}
#define VIVA_LOAD_PART viva_load_part
#define VIVA_STORE_PART viva_store_part
#endif

/* Into the second-level cache: rows a power of two apart would evict each other from the first-level cache. */
#define VIVA_PREFETCH(address) __builtin_prefetch(address, 0, 2)
/* Here an array must have been written to memory. Registers are for the sums of a chunk of the depth: GCC would keep
 * those of earlier chunks in others, and then lack some. */
#define VIVA_STAYS_IN_MEMORY(array) __asm__ volatile("" : : "r"(array) : "memory")
/* Here GCC forgets how an address was computed: it would give each of several rows a register instead of an offset. */
#define VIVA_HIDE_ORIGIN(address) __asm__("" : "+r"(address))
/* The cores rely on inlining: a tile's sums live in registers only if its loops are unrolled in place. */
#undef CYTHON_INLINE
#define CYTHON_INLINE inline __attribute__((always_inline, unused))
#else
typedef viva_real viva_vec;
#define VIVA_ZERO ((viva_real)0)
#define viva_fused VIVA_FUSED_REAL
#define viva_fused_from(c, a, b) VIVA_FUSED_REAL(-(a), b, c)
#define VIVA_RELU(x) ((x) < 0 ? 0 : (x))
#define VIVA_MASKED(a, x) ((x) <= 0 ? 0 : (a))
#define VIVA_LOAD_PART(from, n) ((n) ? *(from) : 0)
#define VIVA_STORE_PART(to, v, n) ((void)((n) && (*(to) = (v))))
#define VIVA_PREFETCH(address) ((void)(address))
#define VIVA_STAYS_IN_MEMORY(array) ((void)(array))
#define VIVA_HIDE_ORIGIN(address) ((void)(address))
#define VIVA_BROADCAST 1
#define VIVA_KNOWN(x) 1
#endif

#endif
