# Operations on each element; a broadcast operand has a stride of 0. This is the only list of formulas: from their names
# the build makes the enum `Formula`, the table for Python, `apply`, and `pair` with a loop for each (setup.py). A
# backward formula takes the gradient of the output as a, and as b the input x or the output y of its forward formula.

cdef inline vec formula_add(vec a, vec b, double factor) noexcept nogil:
    return a + b


cdef inline vec formula_sub(vec a, vec b, double factor) noexcept nogil:
    return a - b


cdef inline vec formula_mul(vec a, vec b, double factor) noexcept nogil:
    return a * b


cdef inline vec formula_div(vec a, vec b, double factor) noexcept nogil:
    return quotient(a, b)


cdef inline vec formula_chain_mul(vec a, vec b, double factor) noexcept nogil:
    """Return a gradient times a slope, which may be infinite."""
    return chained(a, a * b)


cdef inline vec formula_chain_div(vec a, vec b, double factor) noexcept nogil:
    """Return a gradient divided by the inverse of a slope, which is 0 where the slope is infinite."""
    return chained(a, quotient(a, b))


cdef inline vec formula_scale(vec a, vec b, double factor) noexcept nogil:
    return a * <real> factor


cdef inline vec formula_maximum(vec a, vec b, double factor) noexcept nogil:
    """Return the larger, and NaN if either is NaN."""
    return if_less(a, b, b, if_at_most(b, a, a, a + b))


cdef inline vec formula_greater(vec a, vec b, double factor) noexcept nogil:
    """Return the share of a in the gradient of max(a, b): half where they are equal."""
    return if_less(a, b, ZERO, splat(<real> 1) - if_at_most(a, b, splat(<real> 0.5), ZERO))


cdef inline vec formula_minimum(vec a, vec b, double factor) noexcept nogil:
    """Return the smaller, and NaN if either is NaN."""
    return if_less(b, a, b, if_at_most(a, b, a, a + b))


cdef inline vec formula_less(vec a, vec b, double factor) noexcept nogil:
    return if_less(a, b, splat(<real> 1), ZERO)


cdef inline vec formula_less_equal(vec a, vec b, double factor) noexcept nogil:
    return if_at_most(a, b, splat(<real> 1), ZERO)


cdef inline vec formula_equal(vec a, vec b, double factor) noexcept nogil:
    return if_at_most(a, b, if_at_most(b, a, splat(<real> 1), ZERO), ZERO)


cdef inline vec formula_chosen(vec a, vec b, double factor) noexcept nogil:
    """Return a where b is not 0, else -0, which added to anything leaves it as it is."""
    return if_at_most(abs_of(b), ZERO, -ZERO, a)


cdef inline vec formula_rejected(vec a, vec b, double factor) noexcept nogil:
    """Return a where b is 0, else -0."""
    return if_at_most(abs_of(b), ZERO, a, -ZERO)


cdef inline vec formula_sign(vec a, vec b, double factor) noexcept nogil:
    return if_less(a, ZERO, splat(<real> -1), if_less(ZERO, a, splat(<real> 1), a + ZERO))


cdef inline vec formula_at_least(vec a, vec b, double factor) noexcept nogil:
    return at_least(a, <real> factor)


cdef inline vec formula_at_least_backward(vec a, vec b, double factor) noexcept nogil:
    return if_less(b, splat(<real> factor), ZERO, a)


cdef inline vec formula_at_most(vec a, vec b, double factor) noexcept nogil:
    return at_most(a, <real> factor)


cdef inline vec formula_at_most_backward(vec a, vec b, double factor) noexcept nogil:
    return if_less(splat(<real> factor), b, ZERO, a)


cdef inline vec formula_sin(vec a, vec b, double factor) noexcept nogil:
    return turn_of(a, False)


cdef inline vec formula_cos(vec a, vec b, double factor) noexcept nogil:
    return turn_of(a, True)


cdef inline vec formula_elu(vec a, vec b, double factor) noexcept nogil:
    """Return α·(eˣ - 1) below 0, else x; far below, eˣ - 1 is -1."""
    return if_less(a, ZERO, expm1_of(at_least(at_most(a, <real> 0), -TANH_MAX - TANH_MAX)) * <real> factor, a)


cdef inline vec formula_elu_backward(vec a, vec b, double factor) noexcept nogil:
    return if_at_most(b, ZERO, a * (decayed(at_most(b, <real> 0)) * <real> factor), a)


cdef inline vec formula_abs(vec a, vec b, double factor) noexcept nogil:
    return abs_of(a)


cdef inline vec formula_abs_backward(vec a, vec b, double factor) noexcept nogil:
    return if_less(b, ZERO, -a, if_less(ZERO, b, a, b + ZERO))


cdef inline vec formula_sqrt(vec a, vec b, double factor) noexcept nogil:
    return root_of(a)


cdef inline vec formula_exp(vec a, vec b, double factor) noexcept nogil:
    return exp_of(a)


cdef inline vec formula_log(vec a, vec b, double factor) noexcept nogil:
    return log_of(a)


cdef inline vec formula_pow(vec a, vec b, double factor) noexcept nogil:
    return power_of(a, factor)


cdef inline vec formula_erf(vec a, vec b, double factor) noexcept nogil:
    """Return the series of erf below ½, else 1 - erfc."""
    cdef vec size = abs_of(a), square, small = splat(erf_series[ERF_TERMS - 1])
    cdef int k
    size = at_most(size, <real> 30)
    square = size * size
    for k in range(ERF_TERMS - 2, -1, -1):
        small = fused(small, square, splat(erf_series[k]))
    small = small * size
    return with_sign(if_less(size, splat(<real> 0.5), small, splat(<real> 1) - erfc_of(size, -square)), a)


cdef inline vec formula_erf_backward(vec a, vec b, double factor) noexcept nogil:
    """Return a · 2/√π · e^(-x²)."""
    return a * (decayed(-(b * b)) * <real> 1.1283791670955126)


cdef inline vec formula_relu(vec a, vec b, double factor) noexcept nogil:
    return relu_of(a)


cdef inline vec formula_relu_backward(vec a, vec b, double factor) noexcept nogil:
    return masked(a, b)


cdef inline vec formula_leaky_relu(vec a, vec b, double factor) noexcept nogil:
    return if_less(a, ZERO, a * <real> factor, a)


cdef inline vec formula_leaky_relu_backward(vec a, vec b, double factor) noexcept nogil:
    return if_at_most(b, ZERO, a * <real> factor, a)


cdef inline vec formula_sigmoid(vec a, vec b, double factor) noexcept nogil:
    return sigmoid_of(a)


cdef inline vec formula_sigmoid_backward(vec a, vec b, double factor) noexcept nogil:
    return a * (b * (splat(<real> 1) - b))


cdef inline vec formula_tanh(vec a, vec b, double factor) noexcept nogil:
    """Return (e²ᵃ - 1) / (e²ᵃ + 1)."""
    cdef vec e = abs_of(a)
    e = at_most(e, TANH_MAX)
    e = expm1_of(e + e)
    return with_sign(quotient(e, e + <real> 2), a)


cdef inline vec formula_tanh_backward(vec a, vec b, double factor) noexcept nogil:
    return a * fused_from(splat(<real> 1), b, b)


cdef inline vec formula_softplus(vec a, vec b, double factor) noexcept nogil:
    """Return ln(1 + eᵃ) = max(a, 0) + ln(1 + e⁻ˡᵃˡ)."""
    return if_less(a, ZERO, ZERO, a) + log1p_of(decayed(-abs_of(a)))


cdef inline vec formula_softplus_backward(vec a, vec b, double factor) noexcept nogil:
    return a * sigmoid_of(b)


cdef inline vec formula_silu(vec a, vec b, double factor) noexcept nogil:
    return at_least(a, -BEYOND) * sigmoid_of(a)


cdef inline vec formula_silu_backward(vec a, vec b, double factor) noexcept nogil:
    """Return a · (σ + x·σ·(1 - σ))."""
    cdef vec c
    b = within(b)
    c = sigmoid_of(b)
    return a * (c * fused(b, splat(<real> 1) - c, splat(<real> 1)))


cdef inline vec formula_mish(vec a, vec b, double factor) noexcept nogil:
    cdef vec divisor, dividend = mish_ratio(a, decayed(-abs_of(a)), &divisor)
    return at_least(a, -BEYOND) * quotient(dividend, divisor)


cdef inline vec formula_mish_backward(vec a, vec b, double factor) noexcept nogil:
    """Return a · (t + x·(1 - t²)·σ) for t = tanh(softplus(x)), where (1 - t²)·σ = 4n(1 + n) / (n² + 2n + 2)²."""
    cdef vec e, divisor, dividend, bent
    b = within(b)
    e = decayed(-abs_of(b))
    dividend = mish_ratio(b, e, &divisor)
    bent = if_less(b, ZERO, e, e * e) * (e + <real> 1) * <real> 4
    return a * quotient(fused(b, bent, dividend * divisor), divisor * divisor)


cdef inline vec formula_gelu(vec a, vec b, double factor) noexcept nogil:
    return at_least(a, -BEYOND) * normal_cdf(a)


cdef inline vec formula_gelu_backward(vec a, vec b, double factor) noexcept nogil:
    """Return a · (Φ + x·φ), where φ = e^(-x²/2) / √(2π); not fused, since its bits are stored."""
    b = within(b)
    return a * (b * (decayed((b * b) * <real> -0.5) * <real> 0.3989422804014327) + normal_cdf(b))


cdef inline vec formula_gelu_tanh(vec a, vec b, double factor) noexcept nogil:
    return at_least(a, -BEYOND) * sigmoid_of(bend(a))


cdef inline vec formula_gelu_tanh_backward(vec a, vec b, double factor) noexcept nogil:
    """Return a · (σ + x·σ·(1 - σ)·bend')."""
    cdef vec c, slope
    b = within(b)
    c = sigmoid_of(bend(b))
    slope = fused(b * b, splat(<real> 0.21406444881780076), splat(<real> 1.5957691216057308))
    return a * (c * fused(b * (splat(<real> 1) - c), slope, splat(<real> 1)))


cdef inline vec formula_huber(vec a, vec b, double factor) noexcept nogil:
    """Return d²/2 of a difference d up to δ, then δ·(|d| - δ/2)."""
    cdef vec c = abs_of(a)
    return if_at_most(c, splat(<real> factor), c * <real> 0.5 * c, (c - <real> (0.5 * factor)) * <real> factor)


cdef inline vec formula_huber_backward(vec a, vec b, double factor) noexcept nogil:
    """Return a times the difference clipped to ±δ."""
    return a * at_least(at_most(b, <real> factor), <real> -factor)


cdef inline vec formula_log_cosh(vec a, vec b, double factor) noexcept nogil:
    """Return ln cosh a: ln(1 + (eˡᵃˡ - 1)² / 2eˡᵃˡ) up to 1, beyond |a| + ln(1 + e⁻²ˡᵃˡ) - ln 2."""
    cdef vec size = abs_of(a), e = expm1_of(at_most(size, <real> 1))
    cdef vec small = log1p_of(at_most(quotient(e * e, (e + <real> 1) * <real> 2), <real> 1))
    cdef vec large = size + (log1p_of(decayed(size * <real> -2)) - <real> 0.6931471805599453)
    return if_at_most(size, splat(<real> 1), small, large)


cdef inline vec formula_binary_cross_entropy(vec a, vec b, double factor) noexcept nogil:
    """Return max(a, 0) - a·b + ln(1 + e⁻ˡᵃˡ) for logits a and targets b.

    The first two terms are |a| times the target's share of the class against which a speaks, and 0 if that share is 0,
    even if a is infinite.
    """
    cdef vec c = if_less(a, ZERO, b, splat(<real> 1) - b)
    return if_at_most(c, ZERO, ZERO, c * abs_of(a)) + log1p_of(decayed(-abs_of(a)))


cdef inline vec gathered(const real* x, Py_ssize_t step, int size) noexcept nogil:
    """Return `size` elements that are `step` apart, followed by zeros."""
    cdef vec value = ZERO
    cdef int i
    if step == 1:
        return load_part(x, size)
    if step == 0:
        return splat(x[0])
    for i in range(size):
        (<real*> &value)[i] = x[i * step]
    return value


cdef struct Line:       # elements along a row
    real* data
    Py_ssize_t step


cdef inline Line line_of(const Matrix* matrix, Py_ssize_t row, Py_ssize_t column) noexcept nogil:
    cdef Line line
    line.data = <real*> matrix.data + row * matrix.row + column * matrix.column
    line.step = matrix.column
    return line


cdef inline Line piece_of(const Matrix* matrix, Py_ssize_t offset) noexcept nogil:
    """Return adjacent elements of a matrix in panels."""
    cdef Line line
    line.data, line.step = <real*> matrix.data + offset, 1
    return line


cdef inline int up_to_line(const real* address) noexcept nogil:
    """Return the number of elements before the next address to which vectors can be aligned."""
    cdef Py_ssize_t vector = LANES * sizeof(real)
    return <int> ((vector - <Py_ssize_t> (<uintptr_t> address % vector)) % vector // <Py_ssize_t> sizeof(real))


cdef void fill(real* out, Py_ssize_t size, vec value) noexcept nogil:
    """Store one value in adjacent elements."""
    cdef Py_ssize_t i = 0
    while i + LANES <= size:
        store_part(out + i, value, LANES)
        i += LANES
    store_part(out + i, value, <int> (size - i))


cdef inline void along(Formula formula, Py_ssize_t size, Line a, Line b, Line out, double factor) noexcept nogil:
    """Apply a formula along a row. The common steps have loops of their own, which write aligned vectors."""
    cdef Py_ssize_t i = 0, whole = 0
    cdef vec fixed
    cdef int part = 0, k
    if out.step == 1 and a.step == 0 and b.step == 0:
        fill(out.data, size, apply(formula, splat(a.data[0]), splat(b.data[0]), factor))
        return
    if out.step == 1 and size >= 8 * LANES:
        part = up_to_line(out.data)
    while True:
        if part:
            fixed = apply(formula, gathered(a.data + i * a.step, a.step, part),
                          gathered(b.data + i * b.step, b.step, part), factor)
            if out.step == 1:
                store_part(out.data + i, fixed, part)
            else:
                for k in range(part):
                    out.data[(i + k) * out.step] = (<real*> &fixed)[k]
            i += part
        whole = (size - i) // LANES * LANES + i
        if out.step == 1 and a.step == 1 and b.step == 1:
            while i < whole:
                (<vec*> (out.data + i))[0] = apply(
                    formula, (<const vec*> (a.data + i))[0], (<const vec*> (b.data + i))[0], factor)
                i += LANES
        elif out.step == 1 and a.step == 1 and b.step == 0:
            fixed = splat(b.data[0])
            while i < whole:
                (<vec*> (out.data + i))[0] = apply(formula, (<const vec*> (a.data + i))[0], fixed, factor)
                i += LANES
        elif out.step == 1 and a.step == 0 and b.step == 1:
            fixed = splat(a.data[0])
            while i < whole:
                (<vec*> (out.data + i))[0] = apply(formula, fixed, (<const vec*> (b.data + i))[0], factor)
                i += LANES
        if i == size:
            return
        part = <int> min(<Py_ssize_t> LANES, size - i)


cdef inline bint runs_on(const Matrix* matrix, Py_ssize_t columns) noexcept nogil:
    """Return whether each row begins where the last one ends."""
    return matrix.row == matrix.column * columns


cdef inline void elementwise(Formula formula, const void* packed, int thread, int threads) noexcept nogil:
    """Do a thread's share: rows, or elements in row order, which may begin and end within a row."""
    cdef const PairArgs* args = <const PairArgs*> packed
    cdef Py_ssize_t at, end, row, column, size
    cdef bint together = runs_on(&args.a, args.columns) and runs_on(&args.b, args.columns) \
        and runs_on(&args.out, args.columns)
    if args.by_rows:
        at = row_share(args.rows, thread, threads)
        end = row_share(args.rows, thread + 1, threads)
        if args.out.across:
            for column in range(panels(args.columns, PANEL)):
                size = column * args.out.across + at * PANEL
                along(formula, (end - at) * PANEL, piece_of(&args.a, size), piece_of(&args.b, size),
                      piece_of(&args.out, size), args.factor)
            return
        at *= args.columns
        end *= args.columns
    else:
        at = share(args.rows * args.columns, 64, thread, threads)
        end = share(args.rows * args.columns, 64, thread + 1, threads)
    while at < end:
        row = at // args.columns
        column = at % args.columns
        size = end - at if together else min(args.columns - column, end - at)
        along(formula, size, line_of(&args.a, row, column), line_of(&args.b, row, column),
              line_of(&args.out, row, column), args.factor)
        at += size
