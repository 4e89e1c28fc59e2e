"""Exponentials, activations and rows: accuracy, special values, bad input. Their gradients are checked on the tape."""

import math

import numpy as np
import pytest
from support.fresh import run_module
from support.instruction_sets import FUSED

from viva_tensor import error, kernels
from viva_tensor.kernels import _dispatch

UNARY = [
    "exp",
    "log",
    "sqrt",
    "abs",
    "erf",
    "relu",
    "leaky_relu",
    "sigmoid",
    "tanh",
    "softplus",
    "silu",
    "mish",
    "gelu",
]
ROWS = ["softmax", "log_softmax", "normalize"]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 1.5, -2.5, 1000.0, -1000.0]


def ulps(found, wanted):
    """Distance in units in the last place of the rounded result."""
    unit = np.spacing(np.abs(wanted).astype(found.dtype)).astype(np.longdouble)
    return float((np.abs(found.astype(np.longdouble) - wanted) / unit).max())


def points(dtype, low, high, rng):
    """Numbers of all sizes from low to high, most of them where functions bend."""
    small = np.exp(rng.uniform(-30, 0, 20_000)) * rng.choice([-1, 1], 20_000)
    x = np.concatenate([rng.uniform(low, high, 20_000), rng.uniform(-2, 2, 20_000), small])
    return x[(x >= low) & (x <= high)].astype(dtype)


RANGES = {"float32": (-103, 88.7), "float64": (-744, 709.7)}


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="no longer floating point numbers to compare with")
def test_exponentials_are_within_four_units_in_the_last_place(dtype, rng):
    low, high = RANGES[np.dtype(dtype).name]
    x = points(dtype, low, high, rng)
    assert ulps(kernels.exp(x), np.exp(x.astype(np.longdouble))) < 4
    x = np.abs(np.concatenate([x, points(dtype, 0.9, 1.1, rng)]))
    x = x[x > 0]
    assert ulps(kernels.log(x), np.log(x.astype(np.longdouble))) < 4
    x = points(dtype, -30, 30, rng)
    assert ulps(kernels.tanh(x), np.tanh(x.astype(np.longdouble))) < 4
    e = np.exp(-np.abs(x.astype(np.longdouble)))
    assert ulps(kernels.sigmoid(x), np.where(x < 0, e, 1) / (1 + e)) < 4
    assert ulps(kernels.softplus(x), np.maximum(x, 0) + np.log1p(e)) < 4
    assert ulps(kernels.mish(x), x * np.tanh(np.maximum(x, 0) + np.log1p(e))) < 4


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="no longer floating point numbers to compare with")
def test_sines_and_cosines_are_within_two_units_in_the_last_place(dtype, rng):
    """Also next to their zeros, and beyond the angles that are reduced by parts of π/2; 3 without fused products."""
    most = {"float32": 1e4, "float64": 1e6}[np.dtype(dtype).name]
    turns = (np.arange(-4000, 4000) * (np.pi / 2)).astype(dtype)
    angles = [points(dtype, -7, 7, rng), points(dtype, -most, most, rng), points(dtype, -1e7, 1e7, rng), turns]
    x = np.concatenate(angles)
    limit = 2 if _dispatch.isa in FUSED else 3
    for name in ("sin", "cos"):
        wanted = getattr(np, name)(x.astype(np.longdouble))
        assert ulps(getattr(kernels, name)(x), wanted) < limit
    assert kernels.cos(np.zeros(1, dtype))[0] == 1
    assert kernels.sin(np.array([np.pi / 2], dtype))[0] == 1


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="no longer floating point numbers to compare with")
def test_elu_is_within_four_units_in_the_last_place(dtype, rng):
    x = points(dtype, -60, 0, rng)
    assert ulps(kernels.elu(x, 1.0), np.expm1(x.astype(np.longdouble))) < 4


def test_erf_is_within_four_units_in_the_last_place(dtype, rng):
    x = points(dtype, -7, 7, rng)
    wanted = np.array([math.erf(float(value)) for value in x])  # itself within 1 unit of float64
    assert ulps(kernels.erf(x), wanted.astype(np.longdouble)) < 4
    # x·Φ(x): its tail is e^(-x²/2) times something, and x²/2 is rounded by up to eps·x²/2, here and in the reference
    found, wide = kernels.gelu(x).astype("f8"), x.astype("f8")
    cdf = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in wide])
    assert (np.abs(found - wide * cdf) <= np.finfo(dtype).eps * (4 + wide**2) * np.abs(wide) * cdf).all()


@pytest.mark.parametrize("name", UNARY)
def test_special_values(name, dtype):
    x = np.array(SPECIAL, dtype)
    found = getattr(kernels, name)(x)
    with np.errstate(all="ignore"):
        wanted = {
            "exp": np.exp,
            "log": np.log,
            "sqrt": np.sqrt,
            "abs": np.abs,
            "erf": np.vectorize(math.erf, otypes=[dtype]),
            "relu": lambda x: np.where(x < 0, 0, x),
            "leaky_relu": lambda x: np.where(x < 0, x * np.dtype(dtype).type(0.01), x),
            "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
            "tanh": np.tanh,
            "softplus": lambda x: np.logaddexp(x, 0),
            "silu": lambda x: x / (1 + np.exp(-x)),
            "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
            "gelu": lambda x: x * np.vectorize(math.erfc, otypes=["f8"])(x.astype("f8") / -math.sqrt(2)) / 2,
        }[name](x)
    if name in ("silu", "mish", "gelu"):  # of -∞ the formula makes -∞·0, NumPy's too; its limit is wanted
        wanted[2] = -0.0
    assert np.allclose(found, wanted, rtol=1e-6, atol=1e-38, equal_nan=True)
    numbers = ~np.isnan(wanted)  # NaN has either sign
    assert np.array_equal(np.signbit(found[numbers]), np.signbit(wanted[numbers]))


@pytest.mark.parametrize("name", UNARY)
def test_any_shape_stride_and_output(name, dtype, rng):
    function = getattr(kernels, name)
    x = np.abs(rng.standard_normal((5, 37, 3))).astype(dtype) + np.dtype(dtype).type(0.1)
    wanted = np.array([float(function(value)) for value in x.ravel()], dtype).reshape(x.shape)
    assert np.array_equal(function(x), wanted)
    assert np.array_equal(function(x[::-1, ::2].T), wanted[::-1, ::2].T)
    assert np.array_equal(function(np.asfortranarray(x[0])), wanted[0])
    out = x.copy()
    assert function(out, out=out) is out
    assert np.array_equal(out, wanted)
    assert function(np.zeros((0, 3), dtype)).shape == (0, 3)


@pytest.mark.parametrize("name", [*UNARY, *ROWS])
def test_bad_input_is_refused(name):
    function, backward = getattr(kernels, name), getattr(kernels, f"{name}_backward")
    for bad in (np.ones((2, 2), int), np.ones((2, 2), "f2"), np.ones((2, 2), complex), "x", None, [[1.0], [1.0, 2.0]]):
        with pytest.raises(error.TensorError):
            function(bad)
    with pytest.raises(error.ShapeMismatch):
        backward(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(error.ShapeMismatch):
        backward(np.ones((1, 3)), np.ones((2, 3)))
    with pytest.raises(error.DtypeError):
        backward(np.ones((2, 3)), np.ones((2, 3), "f4"))
    if name in UNARY:
        with pytest.raises(error.ShapeMismatch):
            function(np.ones((2, 3)), out=np.zeros((3, 2)))
    else:
        with pytest.raises(error.DimensionError):
            function(1.0)


@pytest.mark.parametrize("columns", [1, 2, 7, 16, 33, 100, 1000])
def test_rows_against_float64(columns, dtype, rng):
    x = (rng.standard_normal((9, columns)) * 10).astype(dtype)
    wide = x.astype("f8")
    e = np.exp(wide - wide.max(1, keepdims=True))
    wanted = e / e.sum(1, keepdims=True)
    # an exponential of x - m has the rounding of x - m, up to eps·|x - m|, times itself
    bound = np.finfo(dtype).eps * (8 + np.abs(wide - wide.max(1, keepdims=True)))
    assert (np.abs(kernels.softmax(x) - wanted) <= bound * wanted).all()
    assert (np.abs(kernels.log_softmax(x) - np.log(wanted)) <= bound * 2).all()
    deviation = wide - wide.mean(1, keepdims=True)
    wanted = deviation / np.sqrt((deviation**2).mean(1, keepdims=True) + 1e-5)
    assert np.abs(kernels.normalize(x) - wanted).max() <= 64 * np.finfo(dtype).eps * max(np.abs(wanted).max(), 1)


def test_rows_of_extremes(dtype):
    x = np.array([[1e30, 0, -1e30], [-np.inf, 0, 0], [np.nan, 0, 0], [np.inf, 0, 0], [-np.inf] * 3], dtype)
    with np.errstate(invalid="ignore"):
        assert np.array_equal(kernels.softmax(x)[:2], [[1, 0, 0], [0, 0.5, 0.5]])
        assert np.isnan(kernels.softmax(x)[2:]).all()
        assert np.array_equal(kernels.log_softmax(x)[0], np.array([0, -1e30, -2e30], dtype))


def test_rows_of_any_rank_and_stride(dtype, rng):
    x = rng.standard_normal((4, 5, 6)).astype(dtype)
    for name in ROWS:
        function = getattr(kernels, name)
        wanted = np.stack([np.stack([function(row) for row in part]) for part in x])
        assert np.array_equal(function(x), wanted)
        assert np.array_equal(function(x[::-2, :, ::-1].copy()[:, :, ::-1]), function(x[::-2]))
        assert function(np.zeros((0, 3), dtype)).shape == (0, 3)
        assert function(np.zeros((3, 0), dtype)).shape == (3, 0)


def test_unknown_choices_are_refused():
    with pytest.raises(error.InvalidValue, match="choose one of none, tanh"):
        kernels.gelu([1.0], "erf")
    for epsilon in (-1.0, np.nan, np.inf):
        with pytest.raises(error.InvalidValue, match="epsilon"):
            kernels.normalize([1.0, 2.0], epsilon)
    for delta in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(error.InvalidValue, match="delta"):
            kernels.huber([1.0], delta)


def test_the_same_bits_at_every_thread_count_and_with_every_fused_multiply_add():
    found = set()
    for isa in FUSED or [_dispatch.isa]:
        for threads in ("1", "2", "3", "7"):
            options = ("of_activations", threads, *UNARY, *ROWS)
            found.add(run_module("support.process_programs.kernel_bits", *options, VIVA_TENSOR_ISA=isa))
    assert len(found) == 1
