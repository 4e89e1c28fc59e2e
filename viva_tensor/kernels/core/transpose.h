/* Transpose LANES rows of LANES elements: in registers, or on their way there from memory. */
#ifndef VIVA_TRANSPOSE_H
#define VIVA_TRANSPOSE_H

#include "vector.h"

#if !defined(__GNUC__)
#define viva_transpose(rows) ((void)(rows))
static inline void viva_load_transposed(const viva_real *from, ptrdiff_t stride, int rows, int size, viva_vec *columns) {
    (void)stride, (void)rows;
    columns[0] = size ? from[0] : 0;
}
#define viva_load_some_transposed viva_load_transposed
static inline void
viva_store_transposed(viva_real *to, ptrdiff_t stride, int columns, int rows, const viva_vec *lines) {
    (void)stride;
    if (columns && rows) to[0] = lines[0];
}
#else
/* zip_low(a, b) = a0 b0 a1 b1 ..., zip_high does the same with the upper halves: the steps of viva_transpose. */
#if VIVA_VEC_LANES == 2
#define VIVA_LOG_LANES 1
#define VIVA_LOW 0, 2
#define VIVA_HIGH 1, 3
#elif VIVA_VEC_LANES == 4
#define VIVA_LOG_LANES 2
#define VIVA_LOW 0, 4, 1, 5
#define VIVA_HIGH 2, 6, 3, 7
#elif VIVA_VEC_LANES == 8
#define VIVA_LOG_LANES 3
#define VIVA_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define VIVA_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define VIVA_LOG_LANES 4
#define VIVA_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define VIVA_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif
#if defined(__clang__)
#define VIVA_ZIP_LOW(a, b) __builtin_shufflevector(a, b, VIVA_LOW)
#define VIVA_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, VIVA_HIGH)
#else
#define VIVA_ZIP_LOW(a, b) __builtin_shuffle(a, b, (viva_mask){VIVA_LOW})
#define VIVA_ZIP_HIGH(a, b) __builtin_shuffle(a, b, (viva_mask){VIVA_HIGH})
#endif

#if defined(__AVX2__)
#define VIVA_QUARTER (16 / (VIVA_REAL_BITS / 8))
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 10 /* which lacks the intrinsic that promises zeros */
#define VIVA_WIDENED(width, name) width##cast##name
#else
#define VIVA_WIDENED(width, name) width##zext##name
#endif
#if VIVA_VEC_BYTES == 64
#define VIVA_WIDE(name) _mm512_##name
typedef __m512 viva_singles;
#define VIVA_WIDE_DOUBLE __m512d
#define VIVA_JOIN(v, quarter, i) v = _mm512_insertf32x4(v, quarter, i)
#define VIVA_FROM_QUARTER VIVA_WIDENED(_mm512_, ps128_ps512)
#define VIVA_FIRST_QUARTER _mm512_castps512_ps128
#define VIVA_SPLIT _mm512_extractf32x4_ps
#else
#define VIVA_WIDE(name) _mm256_##name
typedef __m256 viva_singles;
#define VIVA_WIDE_DOUBLE __m256d
#define VIVA_JOIN(v, quarter, i) v = _mm256_insertf128_ps(v, quarter, i)
#define VIVA_FROM_QUARTER VIVA_WIDENED(_mm256_, ps128_ps256)
#define VIVA_FIRST_QUARTER _mm256_castps256_ps128
#define VIVA_SPLIT _mm256_extractf128_ps
#endif

/* Transpose QUARTER rows of QUARTER elements within each 16 bytes of them. */
static inline __attribute__((always_inline, unused)) void viva_transpose_quarters(viva_singles *rows) {
#if VIVA_REAL_BITS == 64
    VIVA_WIDE_DOUBLE a = VIVA_WIDE(castps_pd)(rows[0]), b = VIVA_WIDE(castps_pd)(rows[1]);
    rows[0] = VIVA_WIDE(castpd_ps)(VIVA_WIDE(unpacklo_pd)(a, b));
    rows[1] = VIVA_WIDE(castpd_ps)(VIVA_WIDE(unpackhi_pd)(a, b));
#else
    viva_singles ab = VIVA_WIDE(unpacklo_ps)(rows[0], rows[1]), cd = VIVA_WIDE(unpacklo_ps)(rows[2], rows[3]);
    viva_singles above = VIVA_WIDE(unpackhi_ps)(rows[0], rows[1]), beyond = VIVA_WIDE(unpackhi_ps)(rows[2], rows[3]);
    rows[0] = VIVA_WIDE(shuffle_ps)(ab, cd, 0x44);
    rows[1] = VIVA_WIDE(shuffle_ps)(ab, cd, 0xee);
    rows[2] = VIVA_WIDE(shuffle_ps)(above, beyond, 0x44);
    rows[3] = VIVA_WIDE(shuffle_ps)(above, beyond, 0xee);
#endif
}
#endif

/* Transpose LANES rows of LANES elements in registers. */
static inline __attribute__((always_inline, unused)) void viva_transpose(viva_vec *rows) {
#if defined(__AVX2__) && VIVA_VEC_BYTES == 32 /* a zip across the halves of a register would take two instructions */
    viva_singles halves[VIVA_VEC_LANES];
    for (int i = 0; i < VIVA_VEC_LANES / 2; i++) {
        viva_singles low = (viva_singles)rows[i], high = (viva_singles)rows[i + VIVA_VEC_LANES / 2];
        halves[i] = _mm256_permute2f128_ps(low, high, 0x20);
        halves[i + VIVA_VEC_LANES / 2] = _mm256_permute2f128_ps(low, high, 0x31);
    }
    for (int i = 0; i < VIVA_VEC_LANES; i += VIVA_QUARTER) viva_transpose_quarters(halves + i);
    for (int i = 0; i < VIVA_VEC_LANES; i++) rows[i] = (viva_vec)halves[i];
#else /* after log2(LANES) perfect shuffles each column is a row */
    viva_vec shuffled[VIVA_VEC_LANES];
    for (int step = 0; step < VIVA_LOG_LANES; step++) {
        for (int i = 0; i < VIVA_VEC_LANES / 2; i++) {
            shuffled[2 * i] = VIVA_ZIP_LOW(rows[i], rows[i + VIVA_VEC_LANES / 2]);
            shuffled[2 * i + 1] = VIVA_ZIP_HIGH(rows[i], rows[i + VIVA_VEC_LANES / 2]);
        }
        for (int i = 0; i < VIVA_VEC_LANES; i++) rows[i] = shuffled[i];
    }
#endif
}

#if defined(__AVX2__)
/* Quarters of 16 bytes of rows that lie a quarter's elements apart are joined as they are loaded; what is left to shuffle
 * lies within the quarters. A transpose of whole registers shuffles them twice as often, for which there is one port. */

/* Load the first `size` elements of a quarter; the others are zero. */
static inline __attribute__((always_inline, unused)) __m128 viva_load_quarter(const viva_real *from, int size) {
#if VIVA_REAL_BITS == 64
    return _mm_castpd_ps(size == 1 ? _mm_load_sd(from) : _mm_loadu_pd(from));
#else
    __m128 two;
    if (size >= VIVA_QUARTER) return _mm_loadu_ps(from);
    if (size == 1) return _mm_load_ss(from);
    two = _mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)from));
    return size == 2 ? two : _mm_movelh_ps(two, _mm_load_ss(from + 2));
#endif
}

/* Load a quarter of each of the rows first, first + QUARTER, ...; the last of `rows` stands for those beyond. */
static inline __attribute__((always_inline, unused)) viva_singles
viva_quarters(const viva_real *const *lines, ptrdiff_t stride, int first, int rows, int size) {
#define VIVA_ROW(i) (lines[i] + (first + (i) * VIVA_QUARTER < rows ? first : rows - 1 - (i) * VIVA_QUARTER) * stride)
    viva_singles v = VIVA_FROM_QUARTER(viva_load_quarter(VIVA_ROW(0), size));
    if (rows > VIVA_QUARTER) VIVA_JOIN(v, viva_load_quarter(VIVA_ROW(1), size), 1);
#if VIVA_VEC_BYTES == 64
    if (rows > 2 * VIVA_QUARTER) VIVA_JOIN(v, viva_load_quarter(VIVA_ROW(2), size), 2);
    if (rows > 3 * VIVA_QUARTER) VIVA_JOIN(v, viva_load_quarter(VIVA_ROW(3), size), 3);
#endif
#undef VIVA_ROW
    return v;
}

/* Set the first `size` columns of 1 to LANES rows, each contiguous; elements of rows beyond the last are of no use. */
static inline __attribute__((always_inline, unused)) void
viva_load_transposed(const viva_real *from, ptrdiff_t stride, int rows, int size, viva_vec *columns) {
#if VIVA_VEC_BYTES == 64 && VIVA_REAL_BITS == 64 /* 24 shuffles; by quarters it would be 24 joins and 8 */
    if (rows == VIVA_VEC_LANES && size == VIVA_VEC_LANES) {
        for (int i = 0; i < VIVA_VEC_LANES; i++) columns[i] = *(const viva_vec *)(from + i * stride);
        viva_transpose(columns);
        return;
    }
#endif
    const viva_real *lines[VIVA_VEC_BYTES / 16]; /* the first row of each quarter */
    for (int i = 0; i < VIVA_VEC_BYTES / 16; i++) {
        lines[i] = from + (i * VIVA_QUARTER < rows ? i * VIVA_QUARTER : 0) * stride;
        VIVA_HIDE_ORIGIN(lines[i]);
    }
    for (int at = 0; at < size; at += VIVA_QUARTER, columns += VIVA_QUARTER) {
        viva_singles quarters[VIVA_QUARTER];
        for (int i = 0; i < VIVA_QUARTER; i++) quarters[i] = viva_quarters(lines, stride, i, rows, size - at);
        viva_transpose_quarters(quarters);
        for (int i = 0; i < VIVA_QUARTER; i++) columns[i] = (viva_vec)quarters[i];
        for (int i = 0; i < VIVA_VEC_BYTES / 16; i++) lines[i] += VIVA_QUARTER;
    }
}

/* Store the first `size` elements of a quarter. */
static inline __attribute__((always_inline, unused)) void viva_store_quarter(viva_real *to, __m128 v, int size) {
#if VIVA_REAL_BITS == 64
    if (size == 1)
        _mm_store_sd(to, _mm_castps_pd(v));
    else
        _mm_storeu_pd(to, _mm_castps_pd(v));
#else
    if (size >= VIVA_QUARTER) {
        _mm_storeu_ps(to, v);
    } else if (size == 1) {
        _mm_store_ss(to, v);
    } else {
        _mm_storel_epi64((__m128i *)to, _mm_castps_si128(v));
        if (size == 3) _mm_store_ss(to + 2, _mm_movehl_ps(v, v));
    }
#endif
}

/* Store the first of LANES columns, `rows` elements of each, contiguous and `stride` from one column to the next. */
static inline __attribute__((always_inline, unused)) void
viva_store_transposed(viva_real *to, ptrdiff_t stride, int columns, int rows, const viva_vec *lines) {
    for (int at = 0; at < rows; at += VIVA_QUARTER, to += VIVA_QUARTER) {
        viva_singles quarters[VIVA_QUARTER];
        for (int i = 0; i < VIVA_QUARTER; i++)
            quarters[i] = (viva_singles)(at + i < rows ? lines[at + i] : VIVA_ZERO);
        viva_transpose_quarters(quarters);
        for (int i = 0; i < VIVA_QUARTER; i++) {
#define VIVA_STORE_COLUMN(quarter, v)                             \
    if (VIVA_QUARTER * (quarter) + i < columns)                   \
    viva_store_quarter(to + (VIVA_QUARTER * (quarter) + i) * stride, v, rows - at)
            VIVA_STORE_COLUMN(0, VIVA_FIRST_QUARTER(quarters[i]));
            VIVA_STORE_COLUMN(1, VIVA_SPLIT(quarters[i], 1));
#if VIVA_VEC_BYTES == 64
            VIVA_STORE_COLUMN(2, VIVA_SPLIT(quarters[i], 2));
            VIVA_STORE_COLUMN(3, VIVA_SPLIT(quarters[i], 3));
#endif
#undef VIVA_STORE_COLUMN
        }
    }
}
#else
static inline __attribute__((always_inline, unused)) void
viva_store_transposed(viva_real *to, ptrdiff_t stride, int columns, int rows, const viva_vec *lines) {
    viva_vec turned[VIVA_VEC_LANES];
    for (int i = 0; i < VIVA_VEC_LANES; i++) turned[i] = i < rows ? lines[i] : VIVA_ZERO;
    viva_transpose(turned);
    for (int i = 0; i < VIVA_VEC_LANES; i++)
        if (i < columns) VIVA_STORE_PART(to + i * stride, turned[i], rows);
}

static inline __attribute__((always_inline, unused)) void
viva_load_transposed(const viva_real *from, ptrdiff_t stride, int rows, int size, viva_vec *columns) {
    for (int i = 0; i < VIVA_VEC_LANES; i++) {
        const viva_real *row = from + (i < rows ? i : rows - 1) * stride;
        columns[i] = size == VIVA_VEC_LANES ? *(const viva_vec *)row : VIVA_LOAD_PART(row, size);
    }
    viva_transpose(columns);
}
#endif

/* The same where rows or size are not known while compiling, in one place. */
static __attribute__((noinline, unused)) void
viva_load_some_transposed(const viva_real *from, ptrdiff_t stride, int rows, int size, viva_vec *columns) {
    viva_load_transposed(from, stride, rows, size, columns);
}
#endif

#endif
