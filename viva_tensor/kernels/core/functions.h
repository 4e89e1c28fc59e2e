/* What exp, log and their relatives (functions.pxi) need besides arithmetic: choices, signs, the parts of a floating-point
 * number, and coefficients. */
#ifndef VIVA_FUNCTIONS_H
#define VIVA_FUNCTIONS_H

#include <float.h>
#include <math.h>

#include "vector.h"

/* ROUNDER, added to a number, leaves the nearest integer in its low bits. LN2_HIGH has so few bits that its product with
 * any exponent is exact. Beyond EXP_MIN and EXP_MAX exp is 0 and infinite. TAYLOR is the degree from which the terms of
 * exp are less than half a unit in the last place, for |r| ≤ ln(2) / 2; the numbers of terms of atanh and erf likewise.
 *
 * ERFCX: (1 + 2x)·exp(x²)·erfc(x) as a polynomial in (x - 15/4) / (x + 15/4), highest power first, for all x ≥ 0, in the
 * form of J. L. Schonfelder, Chebyshev expansions for the error and related functions, Mathematics of Computation 32(144),
 * 1978. The coefficients were computed in 40 digits from the expansion at 64 Chebyshev nodes; their relative errors are
 * 4e-18 and 7e-10.
 *
 * QUARTER: π/2 in parts (W. J. Cody and W. M. Waite, Software Manual for the Elementary Functions, 1980). Without fused
 * multiply-add all but the last have so few bits that their products with integers up to TURN_MAX · 2/π are exact.
 * SINE_TERMS: as many of the sine's and the cosine's series are at least half a unit in the last place, for |r| ≤ π/4. */
#if VIVA_REAL_BITS == 64
#define VIVA_MANTISSA 52
#define VIVA_ROUNDER 6755399441055744.0
#define VIVA_ONE_BITS 0x3ff0000000000000
#define VIVA_SQRT_HALF_BITS 0x3fe6a09e667f3bcd
#define VIVA_LN2_HIGH 0x1.62e42fee00000p-1
#define VIVA_LN2_LOW 0x1.a39ef35793c76p-33
#define VIVA_EXP_MIN -746.0
#define VIVA_EXP_MAX 710.0
#define VIVA_TANH_MAX 20.0
#define VIVA_TAYLOR 13
#define VIVA_ATANH_TERMS 10
#define VIVA_ERF_TERMS 11
#define VIVA_SINE_TERMS 9
#define VIVA_TURN_MAX 1e6
#if defined(VIVA_FUSED_REAL_IS_EXACT)
static const viva_real viva_quarter[] = {0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54, -0x1.f1976b7ed8fbcp-110};
#else
static const viva_real viva_quarter[] = {0x1.921fb544p+0, 0x1.0b4611a6p-34, 0x1.3198a2ep-69, 0x1.b839a252049c1p-104};
#endif
#define VIVA_SMALLEST DBL_MIN
#define VIVA_LARGEST DBL_MAX
static const viva_real viva_erfcx[] = {
    4.2514714447963898e-10, 3.1114333809799252e-10,  -5.1739902140113096e-9, -3.7442100809620186e-9,
    3.8675334242222357e-8,  2.3263508708859124e-8,   -2.5866850716155885e-7, -5.7218230603224088e-8,
    1.7516376488490621e-6,  -9.7355989673677493e-7,  -1.1444146237700523e-5, 2.238423915508223e-5,
    5.1649098892682403e-5,  -0.00029015408054084171, 0.00029371366559134482, 0.0017556258528952954,
    -0.0097465795580292755, 0.028362277418956404,    -0.058693398589636774,  0.092304321160377478,
    -0.10880393014174886,   0.082276738490145208,    0.0035854154854644294,  -0.14024059858554696,
    1.2375126308378276,
};
#else
#define VIVA_MANTISSA 23
#define VIVA_ROUNDER 12582912.0f
#define VIVA_ONE_BITS 0x3f800000
#define VIVA_SQRT_HALF_BITS 0x3f3504f3
#define VIVA_LN2_HIGH 0.693359375f
#define VIVA_LN2_LOW -2.12194440e-4f
#define VIVA_EXP_MIN -104.0f
#define VIVA_EXP_MAX 89.0f
#define VIVA_TANH_MAX 10.0f
#define VIVA_TAYLOR 7
#define VIVA_ATANH_TERMS 5
#define VIVA_ERF_TERMS 6
#define VIVA_SINE_TERMS 5
#define VIVA_TURN_MAX 1e4f
#if defined(VIVA_FUSED_REAL_IS_EXACT)
static const viva_real viva_quarter[] = {0x1.921fb6p+0f, -0x1.777a5cp-25f, -0x1.ee59dap-50f};
#else
static const viva_real viva_quarter[] = {0x1.92p+0f, 0x1.fb4p-12f, 0x1.444p-24f, 0x1.68c234p-39f};
#endif
#define VIVA_SMALLEST FLT_MIN
#define VIVA_LARGEST FLT_MAX
static const viva_real viva_erfcx[] = {
    1.85219474e-5f, 2.20467189e-5f, -0.000284313076f, 0.000330167456f, 0.00175115763f, -0.00977008718f, 0.0283641051f,
    -0.0586854405f, 0.0923039375f,  -0.108805228f,    0.082276774f,    0.00358549531f, -0.1402406f,     1.23751263f,
};
#endif
/* Beyond this the logistic function and the normal distribution are 0 or 1 in either type. */
#define VIVA_BEYOND ((viva_real)1000)
#define VIVA_QUARTERS ((int)(sizeof(viva_quarter) / sizeof(viva_real)))
#define VIVA_ERFCX_TERMS ((int)(sizeof(viva_erfcx) / sizeof(viva_real)))

/* 1/k!, and the coefficients of erf(x)/x in x²: 2/√π · (-1)^k / (k!·(2k + 1)). */
static const viva_real viva_inverse_factorial[] = {
    1.0,
    1.0,
    1.0 / 2,
    1.0 / 6,
    1.0 / 24,
    1.0 / 120,
    1.0 / 720,
    1.0 / 5040,
    1.0 / 40320,
    1.0 / 362880,
    1.0 / 3628800,
    1.0 / 39916800,
    1.0 / 479001600,
    1.0 / 6227020800,
    1.0 / 87178291200.0,
    1.0 / 1307674368000.0,
    1.0 / 20922789888000.0,
    1.0 / 355687428096000.0,
};
#define VIVA_TWO_BY_ROOT_PI 1.1283791670955126
static const viva_real viva_erf_series[] = {
    VIVA_TWO_BY_ROOT_PI,
    -VIVA_TWO_BY_ROOT_PI / 3,
    VIVA_TWO_BY_ROOT_PI / (2 * 5),
    -VIVA_TWO_BY_ROOT_PI / (6 * 7),
    VIVA_TWO_BY_ROOT_PI / (24 * 9),
    -VIVA_TWO_BY_ROOT_PI / (120 * 11),
    VIVA_TWO_BY_ROOT_PI / (720 * 13),
    -VIVA_TWO_BY_ROOT_PI / (5040 * 15),
    VIVA_TWO_BY_ROOT_PI / (40320 * 17),
    -VIVA_TWO_BY_ROOT_PI / (362880.0 * 19),
    VIVA_TWO_BY_ROOT_PI / (3628800.0 * 21),
};

#if defined(__GNUC__)
#define VIVA_FUNCTION static inline __attribute__((always_inline, unused))
#define VIVA_SIGN ((viva_int)((uint64_t)1 << (VIVA_REAL_BITS - 1)))

/* x in all lanes; the sign of a zero is kept */
VIVA_FUNCTION viva_vec viva_splat(viva_real x) { return x - VIVA_ZERO; }

/* a where x < y (x ≤ y), else b, also where x or y is NaN; the larger (smaller) of x and a bound, and NaN if x is NaN.
 * For AVX-512, compilers would move such choices from mask registers to vectors. */
#if defined(__AVX512F__) && VIVA_REAL_BITS == 64
#define VIVA_512(name, ...) ((viva_vec)_mm512_##name##_pd(__VA_ARGS__))
#define VIVA_512_COMPARE _mm512_cmp_pd_mask
typedef __m512d viva_512;
#elif defined(__AVX512F__)
#define VIVA_512(name, ...) ((viva_vec)_mm512_##name##_ps(__VA_ARGS__))
#define VIVA_512_COMPARE _mm512_cmp_ps_mask
typedef __m512 viva_512;
#endif
#if defined(__AVX512F__)
VIVA_FUNCTION viva_vec viva_if_less(viva_vec x, viva_vec y, viva_vec a, viva_vec b) {
    return VIVA_512(mask_blend, VIVA_512_COMPARE((viva_512)x, (viva_512)y, _CMP_LT_OQ), (viva_512)b, (viva_512)a);
}

VIVA_FUNCTION viva_vec viva_if_at_most(viva_vec x, viva_vec y, viva_vec a, viva_vec b) {
    return VIVA_512(mask_blend, VIVA_512_COMPARE((viva_512)x, (viva_512)y, _CMP_LE_OQ), (viva_512)b, (viva_512)a);
}

VIVA_FUNCTION viva_vec viva_at_least(viva_vec x, viva_real bound) {
    return VIVA_512(max, (viva_512)viva_splat(bound), (viva_512)x);
}

VIVA_FUNCTION viva_vec viva_at_most(viva_vec x, viva_real bound) {
    return VIVA_512(min, (viva_512)viva_splat(bound), (viva_512)x);
}
#else
VIVA_FUNCTION viva_vec viva_if_less(viva_vec x, viva_vec y, viva_vec a, viva_vec b) {
    viva_mask less = (viva_mask)(x < y);
    return (viva_vec)(((viva_mask)a & less) | ((viva_mask)b & ~less));
}

VIVA_FUNCTION viva_vec viva_if_at_most(viva_vec x, viva_vec y, viva_vec a, viva_vec b) {
    viva_mask fits = (viva_mask)(x <= y);
    return (viva_vec)(((viva_mask)a & fits) | ((viva_mask)b & ~fits));
}

VIVA_FUNCTION viva_vec viva_at_least(viva_vec x, viva_real bound) {
    return viva_if_less(x, viva_splat(bound), viva_splat(bound), x);
}

VIVA_FUNCTION viva_vec viva_at_most(viva_vec x, viva_real bound) {
    return viva_if_less(viva_splat(bound), x, viva_splat(bound), x);
}
#endif

VIVA_FUNCTION viva_vec viva_abs(viva_vec x) { return (viva_vec)((viva_mask)x & ~VIVA_SIGN); }

VIVA_FUNCTION viva_vec viva_copysign(viva_vec a, viva_vec sign) {
    return (viva_vec)(((viva_mask)a & ~VIVA_SIGN) | ((viva_mask)sign & VIVA_SIGN));
}

/* The integer nearest to x·factor */
VIVA_FUNCTION viva_vec viva_nearest(viva_vec x, viva_real factor) {
    return viva_fused(x, viva_splat(factor), viva_splat((viva_real)VIVA_ROUNDER)) - (viva_real)VIVA_ROUNDER;
}

/* 2ⁿ for integers n, where it is a normal number */
VIVA_FUNCTION viva_vec viva_two_to(viva_vec n) {
    return (viva_vec)(((viva_bits)(n + (viva_real)VIVA_ROUNDER) << VIVA_MANTISSA) + (viva_unsigned)VIVA_ONE_BITS);
}

/* x turned by half a turn for each two of n quarters: -x if the integer below n / 2 is odd, else x */
VIVA_FUNCTION viva_vec viva_turned_half(viva_vec x, viva_vec n) {
    viva_bits halves = (viva_bits)(n + (viva_real)VIVA_ROUNDER) >> 1;
    return (viva_vec)((viva_bits)x ^ (halves << (VIVA_REAL_BITS - 1)));
}

/* a for odd n, else b */
VIVA_FUNCTION viva_vec viva_if_odd(viva_vec n, viva_vec a, viva_vec b) {
    viva_mask odd = -((viva_mask)(n + (viva_real)VIVA_ROUNDER) & 1);
    return (viva_vec)(((viva_mask)a & odd) | ((viva_mask)b & ~odd));
}

/* x·2ⁿ, rounded once, for 1/2 < x < 2 and any integer n within twice the range of exponents; the result may be subnormal
 * or infinite. */
VIVA_FUNCTION viva_vec viva_scaled(viva_vec x, viva_vec n) {
#if defined(__AVX512F__)
    return VIVA_512(scalef, (viva_512)x, (viva_512)n);
#else
    viva_vec half = viva_nearest(n, (viva_real)0.5);
    return x * viva_two_to(half) * viva_two_to(n - half);
#endif
}

/* k for x = m·2ᵏ with √½ ≤ m < √2, and m, for positive normal numbers */
VIVA_FUNCTION viva_vec viva_split(viva_vec x, viva_vec *m) {
    viva_mask k = (viva_mask)((viva_bits)x - (viva_unsigned)VIVA_SQRT_HALF_BITS) >> VIVA_MANTISSA;
    *m = (viva_vec)((viva_bits)x - ((viva_bits)k << VIVA_MANTISSA));
    return (viva_vec)((viva_bits)k + (viva_bits)viva_splat((viva_real)VIVA_ROUNDER)) - (viva_real)VIVA_ROUNDER;
}

#define VIVA_LANE(x, i) ((x)[i])
#else
#define VIVA_FUNCTION static __inline
VIVA_FUNCTION viva_vec viva_splat(viva_real x) { return x; }
VIVA_FUNCTION viva_vec viva_if_less(viva_vec x, viva_vec y, viva_vec a, viva_vec b) { return x < y ? a : b; }
VIVA_FUNCTION viva_vec viva_at_least(viva_vec x, viva_real bound) { return x < bound ? bound : x; }
VIVA_FUNCTION viva_vec viva_at_most(viva_vec x, viva_real bound) { return bound < x ? bound : x; }
VIVA_FUNCTION viva_vec viva_scaled(viva_vec x, viva_vec n) { return n == n ? (viva_real)ldexp(x, (int)n) : n; }
VIVA_FUNCTION viva_vec viva_if_at_most(viva_vec x, viva_vec y, viva_vec a, viva_vec b) { return x <= y ? a : b; }
VIVA_FUNCTION viva_vec viva_abs(viva_vec x) { return (viva_real)fabs(x); }
VIVA_FUNCTION viva_vec viva_copysign(viva_vec a, viva_vec sign) { return (viva_real)copysign(a, sign); }
VIVA_FUNCTION viva_vec viva_nearest(viva_vec x, viva_real factor) { return (viva_real)nearbyint(x * factor); }
VIVA_FUNCTION viva_vec viva_two_to(viva_vec n) { return n == n ? (viva_real)ldexp(1, (int)n) : n; }
VIVA_FUNCTION viva_vec viva_turned_half(viva_vec x, viva_vec n) { return fmod(floor(n / 2), 2) == 0 ? x : -x; }
VIVA_FUNCTION viva_vec viva_if_odd(viva_vec n, viva_vec a, viva_vec b) { return fmod(n, 2) == 0 ? b : a; }
VIVA_FUNCTION viva_vec viva_split(viva_vec x, viva_vec *m) {
    int k = 0;
    viva_real half = (viva_real)frexp(x, &k);
    int low = half < (viva_real)0.70710678118654752;
    *m = low ? 2 * half : half;
    return (viva_real)(k - low);
}
#define VIVA_LANE(x, i) (x)
#endif

#if VIVA_REAL_BITS == 64
#define VIVA_SQRT sqrt
#else
#define VIVA_SQRT sqrtf
#endif

/* Cython would cast the operands of a division to one element. */
VIVA_FUNCTION viva_vec viva_quotient(viva_vec a, viva_vec b) { return a / b; }

VIVA_FUNCTION viva_vec viva_sqrt(viva_vec x) {
    viva_vec root = x;
    for (int i = 0; i < VIVA_VEC_LANES; i++) VIVA_LANE(root, i) = VIVA_SQRT(VIVA_LANE(x, i));
    return root;
}

/* Where |x| > TURN_MAX, the sine or cosine of x by the C library in float64; elsewhere y */
VIVA_FUNCTION viva_vec viva_turned(viva_vec x, viva_vec y, int cosine) {
    for (int i = 0; i < VIVA_VEC_LANES; i++)
        if (fabs((double)VIVA_LANE(x, i)) > VIVA_TURN_MAX)
            VIVA_LANE(y, i) = (viva_real)(cosine ? cos((double)VIVA_LANE(x, i)) : sin((double)VIVA_LANE(x, i)));
    return y;
}

/* Whether some lane of |x| is beyond a bound */
VIVA_FUNCTION int viva_some_beyond(viva_vec size, viva_real bound) {
#if defined(__AVX512F__)
    return VIVA_512_COMPARE((viva_512)size, (viva_512)viva_splat(bound), _CMP_GT_OQ) != 0;
#elif defined(__AVX2__) && VIVA_REAL_BITS == 64
    return _mm256_movemask_pd((__m256d)(size > viva_splat(bound))) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_ps((__m256)(size > viva_splat(bound))) != 0;
#else
    int found = 0;
    for (int i = 0; i < VIVA_VEC_LANES; i++) found |= VIVA_LANE(size, i) > bound;
    return found;
#endif
}

/* xᵖ by the C library, lane by lane, except for squares */
VIVA_FUNCTION viva_vec viva_pow(viva_vec x, double p) {
    viva_vec power = x;
    if (p == 2) return x * x;
    for (int i = 0; i < VIVA_VEC_LANES; i++) VIVA_LANE(power, i) = (viva_real)pow(VIVA_LANE(x, i), p);
    return power;
}

#endif
