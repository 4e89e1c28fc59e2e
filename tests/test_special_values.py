"""NaN, infinities, subnormal numbers, signed zeros and the largest numbers: every operation, forward and backward.

What is wanted is the formula's value in a wider type, with the limit where a formula has one at an infinity, rounded
to the dtype. Programs must give the bits of eager code. tests/kernels/test_threads.py runs this file on every
instruction set.
"""

import math

import numpy as np
import pytest
from support.reference_values import log_cosh

from viva_tensor import autograd, kernels, nn, optim, program
from viva_tensor.autograd import operations

ERFC = np.vectorize(math.erfc, otypes=["f8"])


def specials(dtype):
    info = np.finfo(dtype)
    sizes = [np.inf, 0.0, info.smallest_subnormal, info.tiny - info.smallest_subnormal, info.tiny, info.max, 1.0, 88.0]
    sizes += [1e4, 1e30]
    return np.array([np.nan, *sizes, *(-np.array(sizes))], dtype)


def wide(x):
    """Wider, with NumPy's warnings of NaN and overflow left to the caller."""
    return x.astype("f8" if x.dtype == np.float32 else np.longdouble)


def agree(found, wanted, roundings=16):
    """NaN and infinities alike, other numbers within a few roundings, none of them flushed to 0."""
    info = np.finfo(found.dtype)
    wanted, found = np.broadcast_to(wanted, found.shape), wide(found)
    with np.errstate(all="ignore"):
        rounded = wanted.astype(info.dtype)
        close = np.abs(found - wanted) <= roundings * info.eps * np.abs(wanted) + info.smallest_subnormal
    close |= np.isinf(rounded) & ((found == rounded) | (np.abs(found) >= info.max * (1 - roundings * info.eps)))
    close |= np.isnan(wanted) & np.isnan(found)
    wrong = np.argwhere(~close)
    assert not len(wrong), [(tuple(at), found[tuple(at)], wanted[tuple(at)]) for at in wrong[:5]]


def both(record, *arrays):
    """Value and gradients of the sum of an operation, from the tape; a program must have the same bits."""
    tape, variables = autograd.new_tape(), []
    for array in arrays:
        variable, tape = autograd.new_variable(tape, array)
        variables.append(variable)
    unused, tape = autograd.new_constant(tape, np.ones(1, arrays[0].dtype))
    output, tape = record(tape, *variables)
    loss, tape = autograd.sum(tape, output)
    grads = autograd.backward(tape, loss)
    forward = program.compile_forward(tape, output=output, inputs=variables)
    assert np.array_equal(forward(*arrays), output.data, equal_nan=True)
    velocity = optim.SGD(lr=1.0, momentum=0.5)  # its moments after one step are the gradients
    step = program.compile_step(tape, loss=loss, params=variables, inputs=(unused,), optimizer=velocity)
    assert np.array_equal(step(unused.data), float(loss.data), equal_nan=True)
    for moment, variable in zip(step.state().moments[0], variables, strict=True):
        assert np.array_equal(moment, grads[variable], equal_nan=True)
    return output.data, *(grads[variable] for variable in variables)


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def at_limit(value, x, low, high):
    """A value, with what it tends to at the infinities."""
    return np.where(x == -np.inf, low, np.where(x == np.inf, high, value))


def normal(x):
    return ERFC(-x / math.sqrt(2)) / 2, np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def mish_slope(x):
    t = np.tanh(np.logaddexp(x, 0))
    return t + x * (1 - t * t) * sigmoid(x)


def gelu_tanh_slope(x):
    x = np.clip(x, -1e3, 1e3)  # beyond which it is 0 or 1
    bend, slope = 1.5957691216057308 * (x + 0.044715 * x**3), 1.5957691216057308 * (1 + 0.134145 * x**2)
    return sigmoid(bend) + x * sigmoid(bend) * sigmoid(-bend) * slope


def prelu(tape, x):
    slope, tape = autograd.new_constant(tape, np.array(0.25, x.dtype))
    return nn.prelu(tape, x, slope)


def of(operation, **attributes):
    return lambda tape, *variables: autograd.record(tape, operation, *variables, **attributes)


ELEMENTWISE = {  # (recorded, value, slope)
    "abs": (autograd.abs, np.abs, np.sign),
    "exp": (autograd.exp, np.exp, np.exp),
    "log": (autograd.log, np.log, lambda x: 1 / x),
    "sqrt": (autograd.sqrt, np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "erf": (
        of(operations.ERF),
        np.vectorize(math.erf, otypes=["f8"]),
        lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x),
    ),
    "scale": (of(operations.SCALE, factor=-0.5), lambda x: -0.5 * x, lambda x: np.full(x.shape, -0.5)),
    "relu": (nn.relu, lambda x: np.where(x < 0, 0, x), lambda x: np.where(x <= 0, 0.0, 1.0)),
    "leaky_relu": (
        lambda t, x: nn.leaky_relu(t, x, 0.25),
        lambda x: np.where(x < 0, 0.25 * x, x),
        lambda x: np.where(x <= 0, 0.25, 1.0),
    ),
    "sigmoid": (nn.sigmoid, sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x))),
    "tanh": (nn.tanh, np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "softplus": (nn.softplus, lambda x: np.logaddexp(x, 0), sigmoid),
    "silu": (
        nn.silu,
        lambda x: at_limit(x * sigmoid(x), x, -0.0, np.inf),
        lambda x: at_limit(sigmoid(x) * (1 + x * sigmoid(-x)), x, 0, 1),
    ),
    "mish": (
        nn.mish,
        lambda x: at_limit(x * np.tanh(np.logaddexp(x, 0)), x, -0.0, np.inf),
        lambda x: at_limit(mish_slope(x), x, 0, 1),
    ),
    "gelu": (
        nn.gelu,
        lambda x: at_limit(x * normal(x)[0], x, -0.0, np.inf),
        lambda x: at_limit(normal(x)[0] + x * normal(x)[1], x, 0, 1),
    ),
    "gelu_tanh": (
        lambda t, x: nn.gelu(t, x, "tanh"),
        lambda x: at_limit(x * sigmoid(1.5957691216057308 * (x + 0.044715 * x**3)), x, -0.0, np.inf),
        gelu_tanh_slope,
    ),
    "huber": (
        of(operations.HUBER, delta=0.5),
        lambda x: np.where(np.abs(x) <= 0.5, x * (x / 2), 0.5 * (np.abs(x) - 0.25)),
        lambda x: np.clip(x, -0.5, 0.5),
    ),
    "sin": (autograd.sin, np.sin, np.cos),
    "cos": (autograd.cos, np.cos, lambda x: -np.sin(x)),
    "sign": (autograd.sign, np.sign, np.zeros_like),
    "prelu": (
        prelu,
        lambda x: np.where(x > 0, x, 0.25 * x),
        lambda x: np.where(x > 0, 1.0, 0.25),
    ),
    "elu": (
        lambda t, x: nn.elu(t, x, 0.5),
        lambda x: np.where(x < 0, 0.5 * np.expm1(np.minimum(x, 0)), x),
        lambda x: np.where(x <= 0, 0.5 * np.exp(np.minimum(x, 0)), 1.0),
    ),
    "log cosh": (of(operations.LOG_COSH), log_cosh, np.tanh),
    "clip": (
        lambda t, x: autograd.clip(t, x, -0.5, 0.5),
        lambda x: np.clip(x, -0.5, 0.5),
        lambda x: np.where(np.abs(x) > 0.5, 0.0, 1.0),
    ),
    "pow 0": (lambda t, x: autograd.pow(t, x, 0), np.ones_like, np.zeros_like),
    "pow 1": (lambda t, x: autograd.pow(t, x, 1), lambda x: x, np.ones_like),  # x⁰ is 1, of NaN too
    "pow 2": (lambda t, x: autograd.pow(t, x, 2), lambda x: x * x, lambda x: 2 * x),
    "pow 3": (lambda t, x: autograd.pow(t, x, 3.0), lambda x: x**3, lambda x: 3 * x**2),
    "pow -1": (lambda t, x: autograd.pow(t, x, -1), lambda x: x**-1.0, lambda x: -(x**-2.0)),
    "pow 1/2": (  # ∞ at -∞, as C and IEEE 754 have it
        lambda t, x: autograd.pow(t, x, 0.5),
        lambda x: np.power(x, np.full(x.shape, 0.5, x.dtype)),
        lambda x: 0.5 * x**-0.5,
    ),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_of_each_element(name, dtype):
    record, value, slope = ELEMENTWISE[name]
    x = specials(dtype)
    x = np.concatenate([x, x[::-1], x[:3]])  # each within a vector and at another place
    found, grad = both(record, x)
    with np.errstate(all="ignore"):
        agree(found, value(wide(x)))
        agree(grad, slope(wide(x)))
        zero = (wide(found) == 0) & (value(wide(x)) == 0)
        assert np.array_equal(np.signbit(found[zero]), np.signbit(value(wide(x))[zero]))


def shares(a, b):
    return np.where(a < b, 0.0, np.where(a == b, 0.5, 1.0))


PAIRS = {  # (recorded, value, slope by the first operand, by the second), all in the dtype itself
    "add": (autograd.add, np.add, lambda a, b: np.ones_like(a), lambda a, b: np.ones_like(a)),
    "sub": (autograd.sub, np.subtract, lambda a, b: np.ones_like(a), lambda a, b: -np.ones_like(a)),
    "mul": (autograd.mul, np.multiply, lambda a, b: b, lambda a, b: a),
    "div": (autograd.div, np.divide, lambda a, b: 1 / b, lambda a, b: -(a / b / b)),
    "maximum": (autograd.maximum, np.maximum, shares, lambda a, b: shares(b, a)),
    "minimum": (autograd.minimum, np.minimum, lambda a, b: shares(b, a), shares),
    **{
        name: (getattr(autograd, name), getattr(np, name), lambda a, b: np.zeros_like(a), lambda a, b: np.zeros_like(a))
        for name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
    },
}


@pytest.mark.parametrize("name", PAIRS)
def test_of_each_pair(name, dtype):
    record, *wanted = PAIRS[name]
    a, b = (part.copy() for part in np.meshgrid(specials(dtype), specials(dtype)))
    with np.errstate(all="ignore"):
        for found, formula in zip(both(record, a, b), wanted, strict=True):
            assert np.array_equal(found, formula(a, b).astype(dtype), equal_nan=True)


INFINITE_SLOPES = {  # (recorded, an input at which the slope is infinite)
    "sqrt": (autograd.sqrt, 0),
    "log": (autograd.log, 0),
    "pow 1/2": (lambda t, x: autograd.pow(t, x, 0.5), 0),
    "pow -1": (lambda t, x: autograd.pow(t, x, -1), 0),
    "exp": (autograd.exp, 1000),
}


@pytest.mark.parametrize("name", INFINITE_SLOPES)
def test_a_gradient_of_0_stays_0_where_a_slope_is_infinite(name, dtype):
    record, place = INFINITE_SLOPES[name]
    x = np.array([place] * 40 + [1], dtype)
    _, grad = both(lambda t, x: autograd.sequence(record(t, x), lambda t, y: autograd.slice(t, y, np.s_[40:])), x)
    assert not grad[:40].any()
    assert np.isfinite(grad[40])
    assert grad[40]
    _, steep = both(record, x)
    assert np.isinf(steep[:40]).all()


def test_a_gradient_of_0_stays_0_where_a_divisor_is_0(dtype):
    a, b = np.array([1, 0, 3], dtype), np.array([0, 0, 2], dtype)

    def last(tape, a, b):
        quotient, tape = autograd.div(tape, a, b)
        return autograd.slice(tape, quotient, np.s_[2:])

    _, by_a, by_b = both(last, a, b)
    assert by_a.tolist() == [0, 0, 0.5]
    assert by_b.tolist() == [0, 0, -0.75]


def test_a_norm_at_0_has_no_gradient_if_nothing_flows_to_it(dtype):
    def floored(tape, x):
        square, tape = autograd.mul(tape, x, x)
        total, tape = autograd.sum(tape, square, axis=1)
        norm, tape = autograd.sqrt(tape, total)
        one, tape = autograd.new_constant(tape, np.ones((), dtype))
        return autograd.maximum(tape, norm, one)

    value, grad = both(floored, np.array([[0, 0], [3, 4]], dtype))
    assert value.tolist() == [1, 5]
    assert not grad[0].any()
    assert grad[1] == pytest.approx([0.6, 0.8], rel=4 * float(np.finfo(dtype).eps))


def test_rows_without_spread_have_no_gradient_if_nothing_flows_to_them(dtype):
    normalize = of(operations.NORMALIZE, epsilon=0.0)
    x = np.array([[2, 2, 2], [1, 2, 3]], dtype)
    _, grad = both(lambda t, x: autograd.sequence(normalize(t, x), lambda t, y: autograd.slice(t, y, (1, 0))), x)
    assert not grad[0].any()
    assert np.isfinite(grad[1]).all()


def rows(dtype, width):
    """Rows of numbers with each special value in each place, more than a vector has lanes; and rows of one value."""
    rng = np.random.default_rng(width)
    found = []
    for value in specials(dtype):
        for place in {0, width // 2, width - 1}:
            row = rng.standard_normal(width)
            row[place] = value
            found.append(row)
        found.append(np.full(width, value))
    return np.array(found, dtype)


def softened(x):
    """Shifted rows, the logarithm of the sum of their exponentials, and the softmax, as the formulas have them."""
    shifted = x - x.max(1, keepdims=True)
    total = np.log(np.exp(shifted).sum(1, keepdims=True))
    return shifted, total, np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)


@pytest.mark.parametrize("width", [1, 2, 5, 16, 17, 40])
def test_of_rows(width, dtype):
    x = rows(dtype, width)
    with np.errstate(all="ignore"):
        shifted, total, p = softened(wide(x))
        found, _ = both(nn.softmax, x)
        agree(found, p, 64)
        found, grad = both(nn.log_softmax, x)
        agree(found, shifted - total, 64)
        slopes = 1 - width * np.exp(wide(found))
        broken = np.isnan(slopes).any(1)
        assert np.array_equal(np.isnan(grad).all(1), broken)
        assert np.array_equal(np.isnan(grad).any(1), broken)
        assert (np.abs(grad[~broken] - slopes[~broken]) <= 64 * width * np.finfo(dtype).eps).all()
        bad = ~np.isfinite(x).all(1)
        small = (np.abs(x) < 1e4 + 1).all(1)  # beyond 1e19 a variance in float32 is infinite
        found, grad = both(of(operations.NORMALIZE, epsilon=1e-5), x)
        assert np.isnan(found[bad]).all()
        assert np.isnan(grad[bad]).all()
        y = wide(x[small])
        y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-5)
        assert (np.abs(found[small] - y) <= 2e5 * np.finfo(dtype).eps).all()  # deviations from a mean of up to 1e4
        assert np.isfinite(grad[small]).all()


def test_gradients_of_normalised_rows_of_any_size(dtype, rng):
    """Spreads whose cube would overflow or vanish."""
    for size in (1e15, 1e-15) if dtype == np.float32 else (1e120, 1e-120):
        x = rng.standard_normal((4, 9)) * size
        grad = rng.standard_normal((4, 9))
        x, grad = x.astype(dtype), grad.astype(dtype)
        found = kernels.normalize_backward(grad, x, epsilon=0)
        x, g = wide(x), wide(grad)
        spread = np.sqrt(x.var(1, keepdims=True))
        y = (x - x.mean(1, keepdims=True)) / spread
        wanted = (g - g.mean(1, keepdims=True) - y * (g * y).mean(1, keepdims=True)) / spread
        assert (np.abs(found - wanted) <= 256 * np.finfo(dtype).eps * np.abs(wanted).max()).all()


LOGITS = [0.0, 1.0, 88.0, 1e4, 1e30]


def losses(x, labels):
    shifted, total, p = softened(x)
    hot = np.eye(x.shape[1])[labels]
    return (total - shifted)[np.arange(len(x)), labels], p - hot


@pytest.mark.parametrize("width", [2, 3, 17, 40])
@pytest.mark.parametrize("probabilities", [False, True])
def test_cross_entropy_of_extreme_logits(width, probabilities, dtype):
    values = np.array([*LOGITS, np.finfo(dtype).max])
    values = np.concatenate([values, -values, [-np.inf]])
    x = np.zeros((len(values) * 2, width), dtype)
    x[:, 0] = np.repeat(values, 2)
    labels = np.tile([0, 1], len(values))
    x, labels = x[~np.isneginf(x[:, 0]) | (labels == 1)], labels[~np.isneginf(x[:, 0]) | (labels == 1)]
    target = np.eye(width, dtype=dtype)[labels] if probabilities else labels.astype(dtype)
    tape = autograd.new_tape()
    logits, tape = autograd.new_variable(tape, x)
    goal, tape = autograd.new_constant(tape, target)
    each, tape = autograd.record(tape, operations.CROSS_ENTROPY, logits, goal)
    grad = autograd.backward(tape, each, seed=np.ones(len(x), dtype))[logits]
    with np.errstate(all="ignore"):
        value, slope = losses(wide(x), labels)
        found = np.abs(each.data - value)
        assert (found <= 32 * np.finfo(dtype).eps * (np.abs(value) + np.log(width) + 1)).all()
    assert (np.abs(grad - slope) <= 64 * np.finfo(dtype).eps).all()
    forward = program.compile_forward(tape, output=each, inputs=(logits,))
    assert np.array_equal(forward(x), each.data)


def test_a_class_of_probability_zero_costs_nothing_whatever_its_logit(dtype):
    x = np.array([[-np.inf, 0, 0], [-np.finfo(dtype).max, np.finfo(dtype).max, 0]] * 20, dtype)
    target = np.array([[0, 0.5, 0.5], [0, 1, 0]] * 20, dtype)
    found, wanted = kernels.cross_entropy(x, target), np.tile(np.array([np.log(2), 0]), 20)
    assert np.allclose(found, wanted, rtol=1e-6)
    assert np.allclose(kernels.cross_entropy(np.tile(x, 20)[:, :3], target), wanted, rtol=1e-6)
    wide_rows = np.concatenate([x, np.full((40, 30), -np.inf, dtype)], axis=1)
    spread = np.concatenate([target, np.zeros((40, 30), dtype)], axis=1)
    assert np.allclose(kernels.cross_entropy(wide_rows, spread), wanted, rtol=1e-6)


@pytest.mark.parametrize("goal", [0.0, 0.25, 1.0])
def test_binary_cross_entropy_of_extreme_logits(goal, dtype):
    values = np.array([*LOGITS, np.finfo(dtype).max, np.inf])
    x = np.concatenate([values, -values, [np.nan], values]).astype(dtype)
    found, grad, _ = both(of(operations.BINARY_CROSS_ENTROPY), x, np.full(x.shape, goal, dtype))
    with np.errstate(all="ignore"):
        against = np.where(x < 0, goal, 1 - goal)
        value = np.where(against == 0, 0, against * np.abs(wide(x))) + np.log1p(np.exp(-np.abs(wide(x))))
        agree(found, value)
        assert np.array_equal(np.isnan(grad), np.isnan(x))
        assert (np.abs(grad - (sigmoid(wide(x)) - goal))[~np.isnan(x)] <= 8 * np.finfo(dtype).eps).all()


def test_sums_and_means(dtype):
    small = np.finfo(dtype).smallest_subnormal
    for shape, axis in (((70, 40), 0), ((70, 40), 1), ((70, 40), None), ((9000,), 0), ((3, 300, 5), 1)):
        x = np.full(shape, small, dtype)
        assert (kernels.sum(x, axis) == x.size // max(kernels.sum(x, axis).size, 1) * small).all()
        for values in ((np.nan,), (np.inf,), (-np.inf,), (np.inf, -np.inf)):
            x = np.ones(shape, dtype)
            x.flat[: len(values)] = values
            with np.errstate(invalid="ignore"):
                for function, wanted in ((kernels.sum, x.sum(axis)), (kernels.mean, x.mean(axis))):
                    found = function(x, axis)
                    assert np.array_equal(np.isfinite(found), np.isfinite(wanted))
                    assert np.array_equal(found[~np.isfinite(found)], wanted[~np.isfinite(wanted)], equal_nan=True)


@pytest.mark.parametrize("shape", [(1, 300, 70), (5, 7, 3), (40, 300, 33), (90, 20, 1), (130, 40, 140), (4, 1, 9)])
def test_products(shape, dtype, rng):
    m, k, n = shape
    small = np.finfo(dtype).smallest_subnormal
    assert (kernels.matmul(np.full((m, k), small, dtype), np.ones((k, n), dtype)) == k * small).all()
    for value in (np.nan, np.inf, -np.inf):
        a, b = (rng.integers(-2, 3, s).astype(dtype) for s in ((m, k), (k, n)))  # zeros too, and exact sums
        a[m // 2, k - 1], b[k // 2, n - 1] = value, -value
        bias = np.ones(n, dtype)
        with np.errstate(invalid="ignore"):
            wanted = (a[:, :, None] * b).sum(1)
            found = kernels.matmul(a, b)
            assert np.array_equal(found, wanted, equal_nan=True)
            assert np.array_equal(kernels.matmul(np.asfortranarray(a), b.T.copy().T), wanted, equal_nan=True)
            assert np.array_equal(kernels.linear(a, b.T, bias), wanted + 1, equal_nan=True)


def test_no_thread_flushes_subnormal_numbers_to_zero(dtype):
    small = np.finfo(dtype).smallest_subnormal
    x = np.full((1024, 1024), 2 * small, dtype)
    with kernels.num_threads(3):
        assert (kernels.scale(x, 0.5) == small).all()
        assert (kernels.add(x, -x / 2) == small).all()
        product = kernels.matmul(x[:300, :300], np.full((300, 300), 0.5, dtype))
        assert (product == 300 * small).all()
        given, tape = autograd.new_constant(autograd.new_tape(), x[:300, :300])
        half, tape = autograd.new_constant(tape, np.full((300, 300), 0.5, dtype))
        output, tape = autograd.matmul(tape, given, half)
        forward = program.compile_forward(tape, output=output, inputs=(given,))
        assert " 3 threads" in str(forward)
        assert (forward(given.data) == 300 * small).all()
