"""Products within Higham's bound on matrices made to break it, against exact sums.

|ĉ - c| ≤ γ_K·(|a|·|b|) with γ_K = K·u / (1 - K·u) holds for a sum in any order (N. J. Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., 2002, 3.5), where nothing overflows; each of K steps may also lose half the smallest
subnormal number. A bias is one step more.
"""

import math

import numpy as np
import pytest
from support.products import UNIT, laid_out

from viva_tensor import autograd, kernels, nn, program
from viva_tensor.autograd import operations

HIGHEST = {"float32": 58, "float64": 505}  # exponents: 4096 products of such numbers do not overflow
LOWEST = {"float32": -80, "float64": -480}  # of float64, so that the errors of products below are exact


def signs(rng, shape):
    return rng.choice([-1.0, 1.0], shape)


def random(rng, rows, depth, columns, dtype):
    return rng.standard_normal((rows, depth)), rng.standard_normal((depth, columns))


def cancelling(rng, rows, depth, columns, dtype):
    """Sums of numbers and, elsewhere along the depth, their negatives."""
    a, b = rng.standard_normal((rows, depth)), rng.standard_normal((depth, columns))
    half = depth // 2
    a[:, depth - half :], b[depth - half :] = -a[:, :half], b[:half]
    order = rng.permutation(depth)
    return a[:, order], b[order]


def huge_range(rng, rows, depth, columns, dtype):
    low, high = LOWEST[dtype.name], HIGHEST[dtype.name]
    return tuple(
        signs(rng, shape) * 2.0 ** rng.uniform(low, high, shape) for shape in ((rows, depth), (depth, columns))
    )


def hilbert(rng, rows, depth, columns, dtype):
    """Of the kind of Hilbert's matrix, with alternating signs."""
    i, k, j = np.arange(rows), np.arange(depth), np.arange(columns)
    return (-1.0) ** k / (i[:, None] + k + 1), 1 / (k[:, None] + j + 1)


def alternating(rng, rows, depth, columns, dtype):
    """Large numbers that take each other away, with small ones between them."""
    k = np.arange(depth)
    a = np.where(k % 3 == 0, 1e6, np.where(k % 3 == 1, -1e6, 1.0)) * np.ones((rows, 1))
    return a, np.ones((depth, columns)) + rng.random((1, columns))


def large_first(rng, rows, depth, columns, dtype):
    k = np.arange(depth)
    return 2.0 ** -(k / 8) * signs(rng, (rows, depth)), np.ones((depth, columns)) / 3


def large_last(rng, rows, depth, columns, dtype):
    a, b = large_first(rng, rows, depth, columns, dtype)
    return a[:, ::-1].copy(), b


def of_one_sign(rng, rows, depth, columns, dtype):
    """Every rounding may go the same way."""
    return np.full((rows, depth), 0.1), np.full((depth, columns), 0.7)


ADVERSARIES = [random, cancelling, huge_range, hilbert, alternating, large_first, large_last, of_one_sign]


def exact(a, b):
    """Σ aₖ·bₖ, rounded once: products with their errors, by Dekker's splitting, added by math.fsum."""
    a, b = a.astype("f8"), b.astype("f8")
    products = a * b

    def halves(x):
        part = x * 134217729.0
        high = part - (part - x)
        return high, x - high

    (ah, al), (bh, bl) = halves(a), halves(b)
    errors = al * bl - (((products - ah * bh) - al * bh) - ah * bl)
    return math.fsum(np.concatenate([products, errors]))


def check(found, a, b, rng, bias=None, relu=False):
    """Some outputs, the last one among them."""
    dtype, depth = a.dtype, a.shape[1]
    steps = (depth + (bias is not None)) * UNIT[dtype.name]
    loss = 2 * depth * float(np.finfo(dtype).smallest_subnormal)
    for i, j in [*zip(rng.integers(0, len(a), 12), rng.integers(0, b.shape[1], 12), strict=True), (-1, -1)]:
        size = math.fsum(np.abs(a[i].astype("f8") * b[:, j].astype("f8")))
        extra = 0.0 if bias is None else float(bias[j])
        wanted = exact(np.append(a[i], dtype.type(extra)), np.append(b[:, j], dtype.type(1)))
        bound = steps / (1 - steps) * (size + abs(extra)) + loss + 2.0**-53 * abs(wanted)
        wanted = max(wanted, 0) if relu else wanted
        assert abs(float(found[i, j]) - wanted) <= bound, (i, j, found[i, j], wanted, bound)


@pytest.mark.parametrize("make", ADVERSARIES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("depth", [1, 7, 256, 257, 1025, 2049])
def test_within_the_bound_on_adversaries(make, depth, dtype, rng):
    for rows, columns in ((30, 70), (1, 9), (40, 1)):
        a, b = (part.astype(dtype) for part in make(rng, rows, depth, columns, dtype))
        found = kernels.matmul(a, b)
        assert np.isfinite(found).all()
        check(found, a, b, rng)
        for of_a, of_b in (("fortran", "c"), ("c", "fortran"), ("fortran", "fortran"), ("strided", "reversed")):
            again = kernels.matmul(laid_out(a, of_a), laid_out(b, of_b))
            assert np.array_equal(again, found)


@pytest.mark.parametrize("make", ADVERSARIES, ids=lambda make: make.__name__)
def test_what_follows_a_product_keeps_the_bound(make, dtype, rng):
    """A bias, and relu in a program, which takes nothing from the bound: it moves no two numbers apart."""
    x, w = (part.astype(dtype) for part in make(rng, 30, 600, 70, dtype))
    w = w.T.copy()
    bias = rng.standard_normal(70).astype(dtype)
    check(kernels.linear(x, w, bias), x, w.T, rng, bias)
    given, tape = autograd.new_constant(autograd.new_tape(), x)
    weights, tape = autograd.new_constant(tape, w)
    shift, tape = autograd.new_constant(tape, bias)
    y, tape = autograd.record(tape, operations.LINEAR, given, weights, shift)
    h, tape = nn.relu(tape, y)
    forward = program.compile_forward(tape, output=h, inputs=(given,))
    assert "bias + relu" in str(forward)
    found = forward(x)
    assert np.array_equal(found, h.data)
    check(found, x, w.T, rng, bias, relu=True)
