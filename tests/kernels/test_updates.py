"""Kernels of optimisers: layouts, corrections far on, special values, and the norm of several arrays."""

import numpy as np
import pytest

from viva_tensor import error, kernels


def test_any_layout_is_taken_and_arguments_stay_as_they_were(dtype, rng):
    w, g, m = (rng.standard_normal((6, 10)).astype(dtype) for _ in range(3))
    s = m**2
    expected = kernels.adam(w, g, m, s, 3, 0.1)
    strided = [np.asfortranarray(w), np.repeat(g, 2, axis=1)[:, ::2], m.T.copy().T, s.astype(dtype.newbyteorder())]
    before = [one.copy() for one in strided]
    for one, other in zip(kernels.adam(*strided, 3, 0.1), expected, strict=True):
        assert np.array_equal(one, other)
    for one, other in zip(strided, before, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0), (15,), (16,), (17,), (5, 4097)])
def test_rmsprop_of_any_shape_follows_its_formula(shape, dtype, rng):
    w, g, v = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    new_w, square, velocity = kernels.rmsprop(w, g, v * v, 0.1, momentum=0.9, velocity=v, weight_decay=0.5)
    decayed = g + 0.5 * w
    eps = float(np.finfo(dtype).eps)
    assert np.allclose(square, 0.99 * v**2 + 0.01 * decayed**2, rtol=10 * eps)
    assert np.allclose(velocity, 0.9 * v + decayed / (np.sqrt(square) + 1e-8), rtol=10 * eps, atol=10 * eps)
    assert np.allclose(new_w, w - 0.1 * velocity, rtol=10 * eps, atol=10 * eps)
    assert new_w.shape == shape
    assert new_w.dtype == dtype
    assert kernels.rmsprop(w, g, v * v, 0.1)[2] is None


@pytest.mark.parametrize("step", [1, 2, 3, 10, 1023, 10**4, 10**6, 10**12])
def test_corrections_hold_at_every_step(step):
    """βⁿ by squaring gathers at most n roundings, of which n·βⁿ·u/(1 - βⁿ) are left in 1 - βⁿ: at most u/(1 - β)."""
    w, g, m, s = (np.array([value]) for value in (2.0, 0.5, 0.25, 0.125))
    new_w, first, second = kernels.adam(w, g, m, s, step, 0.1, (0.9, 0.999))
    unbiased = first / -np.expm1(step * np.log(0.9)), second / -np.expm1(step * np.log(0.999))
    assert new_w == pytest.approx(w - 0.1 * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8), rel=1e-13)


def test_what_is_not_finite_travels_as_in_numpy(dtype):
    w, zero = np.ones(4, dtype), np.zeros(4, dtype)
    g = np.array([np.nan, np.inf, -np.inf, 1], dtype)
    assert np.array_equal(kernels.sgd(w, g, 1.0)[0], [np.nan, -np.inf, np.inf, 0], equal_nan=True)
    new_w, first, second = kernels.adam(w, g, zero, zero, 1, 0.5)
    assert np.isnan(new_w[:3]).all()
    assert new_w[3] == pytest.approx(0.5)
    assert np.isnan(first[0])
    assert np.isinf(first[1:3]).all()
    assert np.isinf(second[1:3]).all()


def test_subnormal_moments_without_gradients_count_as_0(dtype):
    tiny = np.finfo(dtype).tiny
    old = np.tile(np.array([tiny, -tiny, tiny / 2, -tiny / 2, np.nan, 1], dtype), 7)
    zero, w = np.zeros_like(old), np.ones_like(old)
    kept = np.tile(np.array([tiny / 2, -tiny / 2, 0, 0, np.nan, 0.5], dtype), 7)
    moments = {
        "velocity": kernels.sgd(w, zero, 0.1, momentum=0.5, velocity=old)[1],
        "first of Adam": kernels.adam(w, zero, old, zero, 3, 0.1, (0.5, 0.5))[1],
        "second of Adam": kernels.adam(w, zero, zero, old, 3, 0.1, (0.5, 0.5))[2],
        "of Lion": kernels.lion(w, zero, old, 0.1, (0.5, 0.5))[1],
        "square of RMSprop": kernels.rmsprop(w, zero, old, 0.1, alpha=0.5)[1],
        "velocity of RMSprop": kernels.rmsprop(w, zero, zero, 0.1, momentum=0.5, velocity=old)[2],
    }
    for name, found in moments.items():
        assert np.array_equal(found, kept, equal_nan=True), name


def test_squares_of_tiny_gradients_add_up_through_subnormal_moments(dtype):
    g = 10 * np.sqrt(np.finfo(dtype).tiny)
    w, grad = np.zeros(3, dtype), np.full(3, g, dtype)
    moments = [np.zeros(3, dtype), np.zeros(3, dtype)]
    for number in range(1, 2001):
        w, *moments = kernels.adam(w, grad, *moments, number, 0.001, (0.9, 0.999), 1e-300)
    assert 0 < (1 - 0.999) * g * g < np.finfo(dtype).tiny
    np.testing.assert_allclose(moments[1], (1 - 0.999**2000) * g * g, rtol=1e-3)
    np.testing.assert_allclose(w, -2.0, rtol=1e-3)  # each step is the learning rate


@pytest.mark.parametrize("bad", [np.ones((2, 3)), np.ones(6), np.ones((3, 2), "f4"), [[1, 2, 3]] * 2])
def test_arrays_that_do_not_fit_are_refused(bad):
    good = np.ones((3, 2))
    for place in range(3):
        arrays = [good.copy() for _ in range(4)]
        arrays[place + 1] = bad
        with pytest.raises(error.TensorError, match="adam"):
            kernels.adam(*arrays, 1, 0.1)
    with pytest.raises(error.DtypeError, match="masked"):
        kernels.sgd(np.ma.masked_less(good, 0), good, 0.1)


@pytest.mark.parametrize("step", [0, -1, 1.5, None])
def test_steps_count_from_one(step):
    with pytest.raises(error.InvalidValue, match=f"step={step}"):
        kernels.adam(*(np.ones(2) for _ in range(4)), step, 0.1)


def test_the_norm_has_the_same_bits_at_every_thread_count_and_layout(dtype, rng):
    x = rng.standard_normal((700, 400)).astype(dtype)
    with kernels.num_threads(1):
        wanted = kernels.norm([x, x[0]])
    for threads in (2, 3, 7):
        with kernels.num_threads(threads):
            assert kernels.norm([x, x[0]]) == wanted
            assert kernels.norm([np.asfortranarray(x), x[:1]]) == wanted
    assert wanted == pytest.approx(np.sqrt((x.astype("f8") ** 2).sum() + (x[0].astype("f8") ** 2).sum()), rel=1e-4)


def test_the_norm_of_little():
    assert kernels.norm([]) == kernels.norm([np.zeros((0, 3))]) == 0
    assert kernels.norm([np.float64(-3.0), [4.0]]) == 5
    assert np.isnan(kernels.norm([np.array([1.0, np.nan])]))
    with pytest.raises(error.DtypeError, match="norm"):
        kernels.norm([np.arange(3)])
