import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from viva_tensor import error, kernels

# A sum in chunks of 8192 over 32 lanes, or of 256 over 4 chains, adds no more than about 256 + n/8192 times in a row.
UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}


def close(found, x, axis, divisor=1):
    wanted = x.astype("f8").sum(axis) / divisor
    room = (300 + x.size / 8192) * UNIT[x.dtype.name] * np.abs(x.astype("f8")).sum(axis) / divisor + 1e-300
    return found.shape == wanted.shape and found.dtype == x.dtype and (np.abs(found - wanted) <= room).all()


@settings(max_examples=150, deadline=None)
@given(
    st.data(),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_any_axes_and_strides(data, shape, turned, seed):
    x = np.random.default_rng(seed).standard_normal(shape).astype("f4")
    x = x.T[::-1] if turned and x.ndim else x
    axes = data.draw(
        st.sampled_from([None, *(c for n in range(x.ndim + 1) for c in itertools.combinations(range(x.ndim), n))])
    )
    assert close(kernels.sum(x, axes), x, axes)
    kept = kernels.sum(x, axes, keepdims=True)
    assert kept.shape == x.sum(axes, keepdims=True).shape
    if x.size:
        count = x.size // max(1, x.sum(axes).size)
        assert close(kernels.mean(x, axes), x, axes, count)


@pytest.mark.parametrize(
    "shape", [(500_003,), (8192,), (8193,), (5, 100_000), (100_000, 5), (257, 33), (1000, 1), (1, 1000)]
)
def test_across_chunk_borders_at_every_thread_count(shape, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    for axis in (None, *range(x.ndim)):
        with kernels.num_threads(1):
            one = kernels.sum(x, axis)
        assert close(one, x, axis)
        for threads in (2, 3, 7):
            with kernels.num_threads(threads):
                assert np.array_equal(kernels.sum(x, axis), one)
        assert np.array_equal(kernels.sum(np.asfortranarray(x), axis), one)


def test_bias_gradient_is_the_column_sums(dtype, rng):
    grad = rng.integers(-100, 100, (300, 37)).astype(dtype)
    assert np.array_equal(kernels.add_backward(grad, (37,)), grad.sum(0))


def test_infinity_and_nan_travel(dtype):
    assert kernels.sum(np.array([np.inf, 1], dtype)) == np.inf
    x = np.ones((300, 40), dtype)
    x[0, 0], x[299, 39] = np.inf, np.nan
    assert np.array_equal(kernels.sum(x, 0), [np.inf, *[300] * 38, np.nan], equal_nan=True)
    assert np.isnan(kernels.sum(x))


def test_nothing_sums_to_zero_and_has_no_mean(dtype):
    assert kernels.sum(np.ones((0, 3), dtype)) == 0
    assert np.array_equal(kernels.sum(np.ones((0, 3), dtype), axis=0), np.zeros(3))
    assert np.isnan(kernels.mean(np.ones((0, 3), dtype)))
    assert np.isnan(kernels.mean(np.ones((0, 3), dtype), axis=0)).all()
    assert np.isnan(kernels.mean_squared_error(np.ones((0, 3), dtype), np.ones((0, 3), dtype)))
    assert kernels.mean_squared_error_backward(1.0, np.ones((0, 3), dtype), np.ones((0, 3), dtype)).shape == (0, 3)


@pytest.mark.parametrize(
    ("axis", "keepdims"), [(None, False), (0, False), (1, True), ((0, 2), False), (-1, False), ((), False)]
)
def test_backward_repeats_the_gradient(axis, keepdims, rng):
    shape = (4, 3, 5)
    grad = rng.standard_normal(np.ones(shape).sum(axis, keepdims=keepdims).shape)
    wide = np.broadcast_to(grad if axis in (None, ()) or keepdims else np.expand_dims(grad, axis), shape)
    assert np.array_equal(kernels.sum_backward(grad, shape, axis, keepdims), wide)
    count = 60 // max(1, grad.size)
    assert np.allclose(kernels.mean_backward(grad, shape, axis, keepdims), wide / count)


@pytest.mark.parametrize("size", [1, 31, 32, 33, 8192, 500_001])
def test_mean_squared_error(size, dtype, rng):
    pred, target = rng.standard_normal((2, size)).astype(dtype)
    with kernels.num_threads(1):
        one = kernels.mean_squared_error(pred, target)
    assert close(one, (pred - target) ** 2, None, size)
    assert one.shape == ()
    with kernels.num_threads(3):
        assert kernels.mean_squared_error(pred, target) == one
        grad = kernels.mean_squared_error_backward(3.0, pred, target)
    assert np.allclose(grad, 6 * (pred - target) / size, rtol=1e-5)
    assert np.array_equal(kernels.mean_squared_error_backward(3.0, pred[::-1], target[::-1]), grad[::-1])


def test_bad_axes_and_shapes_are_named():
    with pytest.raises(error.IndexOutOfBounds, match=r"sum: index 2 .*\(2, 3\) run from -2 to 1"):
        kernels.sum(np.ones((2, 3)), axis=2)
    with pytest.raises(error.IndexOutOfBounds, match="mean: index -3"):
        kernels.mean(np.ones((2, 3)), axis=(0, -3))
    with pytest.raises(error.DimensionError, match="twice"):
        kernels.sum(np.ones((2, 3)), axis=(0, -2))
    with pytest.raises(error.ShapeMismatch, match=r"\(3,\), got \(2,\)"):
        kernels.sum_backward(np.ones(2), (2, 3), axis=0)
    with pytest.raises(error.ShapeMismatch, match=r"\(4, 1\), got \(4,\)"):
        kernels.mean_squared_error(np.ones((4, 1)), np.ones(4))
    with pytest.raises(error.ShapeMismatch, match=r"\(\), got \(2,\)"):
        kernels.mean_squared_error_backward(np.ones(2), np.ones(2), np.ones(2))
