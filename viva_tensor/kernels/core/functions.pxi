# exp, log, erfc and their relatives, on vectors. Every lane takes the same steps, so a result has the same bits in any
# lane. (The vector functions of C libraries differ between instruction sets.)

cdef extern from "functions.h" nogil:
    vec splat "viva_splat" (real x)
    vec if_less "viva_if_less" (vec x, vec y, vec a, vec b)
    vec if_at_most "viva_if_at_most" (vec x, vec y, vec a, vec b)
    vec at_least "viva_at_least" (vec x, real bound)
    vec at_most "viva_at_most" (vec x, real bound)
    vec scaled "viva_scaled" (vec x, vec n)
    vec abs_of "viva_abs" (vec x)
    vec with_sign "viva_copysign" (vec a, vec sign)
    vec nearest "viva_nearest" (vec x, real factor)     # the integer nearest to x·factor
    vec two_to "viva_two_to" (vec n)
    vec split "viva_split" (vec x, vec* m)
    vec quotient "viva_quotient" (vec a, vec b)
    vec root_of "viva_sqrt" (vec x)
    vec power_of "viva_pow" (vec x, double exponent)
    vec turned_half "viva_turned_half" (vec x, vec n)   # -x for integers n of which n // 2 is odd
    vec if_odd "viva_if_odd" (vec n, vec a, vec b)
    vec turned "viva_turned" (vec x, vec y, bint cosine)
    bint some_beyond "viva_some_beyond" (vec size, real bound)
    real LN2_HIGH "VIVA_LN2_HIGH"
    real LN2_LOW "VIVA_LN2_LOW"
    real EXP_MIN "VIVA_EXP_MIN"
    real EXP_MAX "VIVA_EXP_MAX"
    real TANH_MAX "VIVA_TANH_MAX"
    real SMALLEST "VIVA_SMALLEST"       # normal number
    real LARGEST "VIVA_LARGEST"
    real INFINITE "INFINITY"
    real NOT_A_NUMBER "NAN"
    real TURN_MAX "VIVA_TURN_MAX"
    real[18] inverse_factorial "viva_inverse_factorial"
    real[4] quarter "viva_quarter"
    real[11] erf_series "viva_erf_series"
    real[25] erfcx_series "viva_erfcx"
    real BEYOND "VIVA_BEYOND"
    enum:
        MANTISSA "VIVA_MANTISSA"
        TAYLOR "VIVA_TAYLOR"
        ATANH_TERMS "VIVA_ATANH_TERMS"
        ERF_TERMS "VIVA_ERF_TERMS"
        QUARTERS "VIVA_QUARTERS"
        SINE_TERMS "VIVA_SINE_TERMS"
        ERFCX_TERMS "VIVA_ERFCX_TERMS"


cdef inline vec chained(vec grad, vec value) noexcept nogil:
    """Return `value`, a product of the chain rule, or 0 where the gradient is 0 and an infinite slope makes it NaN."""
    return if_at_most(abs_of(grad), ZERO, if_at_most(abs_of(value), ZERO, value, grad), value)


cdef inline vec reduced(vec x, vec* n) noexcept nogil:
    """Return r with x = n·ln(2) + r, |r| ≤ ln(2) / 2."""
    n[0] = nearest(x, <real> 1.4426950408889634)
    return fused_from(fused_from(x, n[0], splat(LN2_HIGH)), n[0], splat(LN2_LOW))


cdef inline vec decayed(vec x) noexcept nogil:
    """Return eˣ = 2ⁿ·eʳ for x ≤ 0, with eʳ by its Taylor series."""
    cdef vec n, r, value = splat(inverse_factorial[TAYLOR])
    cdef int k
    r = reduced(at_least(x, EXP_MIN), &n)
    for k in range(TAYLOR - 1, -1, -1):
        value = fused(value, r, splat(inverse_factorial[k]))
    return scaled(value, n)


cdef inline vec exp_of(vec x) noexcept nogil:
    return decayed(at_most(x, EXP_MAX))


cdef inline vec expm1_of(vec x) noexcept nogil:
    """Return eˣ - 1 = 2ⁿ·(eʳ - 1) + (2ⁿ - 1), for x within the range of exp."""
    cdef vec n, r, scale, value = splat(inverse_factorial[TAYLOR])
    cdef int k
    r = reduced(x, &n)
    for k in range(TAYLOR - 1, 1, -1):
        value = fused(value, r, splat(inverse_factorial[k]))
    value = fused(r * r, value, r)
    scale = two_to(n)
    return fused(scale, value, scale - <real> 1)


cdef inline vec log_of(vec x) noexcept nogil:
    """Return ln(m·2ᵏ) = k·ln(2) + ln(1 + f).

    ln(1 + f) = f - f²/2 + s·(f²/2 + R) with s = f / (2 + f), and R is the rest of the series
    2·atanh(s) = 2s + 2/3·s³ + 2/5·s⁵ + ...
    """
    cdef vec m, k, f, s, z, half, rest, value, normal
    cdef int i
    normal = if_less(x, splat(SMALLEST), x * <real> (<long long> 1 << MANTISSA), x)
    k = split(normal, &m)
    k = if_less(x, splat(SMALLEST), k - <real> MANTISSA, k)
    f = m - <real> 1
    s = quotient(f, f + <real> 2)
    z = s * s
    rest = splat(<real> (2.0 / (2 * ATANH_TERMS + 1)))
    for i in range(ATANH_TERMS - 1, 0, -1):
        rest = fused(rest, z, splat(<real> (2.0 / (2 * i + 1))))
    half = f * f * <real> 0.5
    value = fused(k, splat(LN2_LOW), s * (half + rest * z))
    value = fused(k, splat(LN2_HIGH), f - (half - value))
    value = if_less(x, ZERO, splat(NOT_A_NUMBER), value)
    value = if_less(splat(LARGEST), x, x, value)
    return if_less(ZERO, abs_of(x), value, splat(-INFINITE) + (x - x))     # 0 and NaN


cdef inline vec log1p_of(vec x) noexcept nogil:
    """Return ln(1 + x) for 0 ≤ x ≤ 1, corrected for the rounding of 1 + x."""
    cdef vec sum = x + <real> 1
    return log_of(sum) + quotient(x - (sum - <real> 1), sum)


cdef inline vec sigmoid_of(vec x) noexcept nogil:
    """Return 1 / (1 + e⁻ˣ), or eˣ / (1 + eˣ) for negative x, which keeps the precision of small values."""
    cdef vec e = decayed(-abs_of(x))
    return quotient(if_less(x, ZERO, e, splat(<real> 1)), e + <real> 1)


cdef inline vec turn_of(vec x, bint cosine) noexcept nogil:
    """Return sin(x) from x = n·π/2 + r, |r| ≤ π/4: ±sin(r) for even n, ±cos(r) for odd n; cos(x) = sin(x + π/2)."""
    cdef vec n, z, value, r = x
    cdef vec sines = splat(inverse_factorial[2 * SINE_TERMS - 1])
    cdef vec cosines = splat(inverse_factorial[2 * SINE_TERMS - 2])
    cdef int i
    n = nearest(x, <real> 0.6366197723675814)
    for i in range(QUARTERS):
        r = fused_from(r, n, splat(quarter[i]))
    z = r * r
    for i in range(SINE_TERMS - 2, 0, -1):      # of r - r³/3! + r⁵/5! - ... and 1 - r²/2! + r⁴/4! - ...
        sines = fused_from(splat(inverse_factorial[2 * i + 1]), sines, z)
        cosines = fused_from(splat(inverse_factorial[2 * i]), cosines, z)
    sines = fused_from(r, sines * z, r)
    cosines = fused_from(splat(<real> 1), cosines, z)
    if cosine:
        n = n + <real> 1
    value = turned_half(if_odd(n, cosines, sines), n)
    if not cosine:
        value = if_at_most(abs_of(x), ZERO, x, value)   # the sign of a zero is kept
    if some_beyond(abs_of(x), TURN_MAX):    # infinite ones, too
        value = turned(x, value, cosine)
    return value


cdef inline vec erfc_of(vec x, vec minus_square) noexcept nogil:
    """Return erfc(x) = e^(-x²)·erfcx(x) for 0 ≤ x < ∞, given -x²."""
    cdef vec t = quotient(x - <real> 3.75, x + <real> 3.75), value = splat(erfcx_series[0])
    cdef int k
    for k in range(1, ERFCX_TERMS):
        value = fused(value, t, splat(erfcx_series[k]))
    return quotient(decayed(minus_square) * value, fused(x, splat(<real> 2), splat(<real> 1)))


cdef inline vec normal_cdf(vec x) noexcept nogil:
    """Return Φ(x) = ½·erfc(-x / √2)."""
    cdef vec size = abs_of(x), tail
    size = at_most(size, <real> 60)
    tail = erfc_of(size * <real> 0.7071067811865476, (size * size) * <real> -0.5) * <real> 0.5
    return if_less(x, ZERO, tail, splat(<real> 1) - tail)


cdef inline vec within(vec x) noexcept nogil:
    """Clip x to ±BEYOND, where σ and Φ are 0 or 1 and φ is 0: infinite, their product with x would be NaN."""
    return at_least(at_most(x, BEYOND), -BEYOND)


cdef inline vec mish_ratio(vec x, vec e, vec* divisor) noexcept nogil:
    """Return the dividend and the divisor of tanh(softplus(x)) = (n² + 2n) / (n² + 2n + 2), where n = eˣ.

    Both are divided by n² for x ≥ 0, so that e = e⁻ˡˣˡ is all they need.
    """
    cdef vec dividend = if_less(x, ZERO, e * (e + <real> 2), fused(e, splat(<real> 2), splat(<real> 1)))
    divisor[0] = fused(if_less(x, ZERO, splat(<real> 1), e * e), splat(<real> 2), dividend)
    return dividend


cdef inline vec bend(vec x) noexcept nogil:
    """Return 2·√(2/π)·(x + 0.044715·x³), whose sigmoid approximates Φ(x)."""
    return x * fused(x * x, splat(<real> 0.07135481627260025), splat(<real> 1.5957691216057308))
