"""Extremes and running sums along axes: against NumPy, with NaN and signed zeros, at every number of threads."""

import numpy as np
import pytest

from viva_tensor import autograd, error, kernels, program

SHAPES = [(7,), (33,), (1000,), (5, 9), (40, 3), (3, 40), (300, 130), (2, 3, 70), (6, 5, 1), (1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_values_are_those_of_numpy(shape, threads, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    holed = np.where(rng.random(shape) < 0.02, np.nan, x).astype(dtype)
    with kernels.num_threads(threads):
        for axis in (*range(len(shape)), None, tuple(range(len(shape)))[::2]):
            for array in (x, holed):
                for name in ("max", "min"):
                    found = getattr(kernels, name)(array, axis, keepdims=True)
                    assert np.array_equal(found, getattr(array, name)(axis, keepdims=True), equal_nan=True)
        for axis in range(len(shape)):
            one_by_one = np.add.accumulate(x, axis)
            assert np.array_equal(kernels.cumsum(x, axis), one_by_one)
            turned = np.flip(np.add.accumulate(np.flip(x, axis), axis), axis)
            assert np.array_equal(kernels.cumsum_backward(x, axis - len(shape)), turned)


@pytest.mark.parametrize("size", [5, 64, 100])
def test_of_equal_zeros_every_number_of_threads_takes_the_same(size, dtype):
    x = np.where(np.arange(size)[:, None] % 3, 0.0, -0.0) * np.ones((size, 9))
    for array in (x.astype(dtype), np.ascontiguousarray(x.T).astype(dtype)):
        for axis in (0, 1):
            with kernels.num_threads(1):
                alone = np.signbit(kernels.max(array, axis))
            with kernels.num_threads(4):
                assert np.array_equal(np.signbit(kernels.max(array, axis)), alone)


def test_nothing_has_no_extreme_and_no_running_sums():
    for name in ("max", "min"):
        with pytest.raises(error.InvalidShape, match=rf"{name}: shape \(0, 3\) has none along axes \(0,\)"):
            getattr(kernels, name)(np.ones((0, 3)), 0)
        assert getattr(kernels, name)(np.ones((0, 3)), 1).shape == (0,)
    assert kernels.max(np.ones((2, 3)), ()).shape == (2, 3)
    assert kernels.cumsum(np.ones((0, 3))).shape == (0, 3)
    with pytest.raises(error.IndexOutOfBounds):
        kernels.cumsum(1.0)
    x, tape = autograd.new_constant(autograd.new_tape(), np.ones((4, 3)))
    top, tape = autograd.max(tape, x, axis=0)
    forward = program.compile_forward(tape, output=top, inputs=(x,))
    assert np.array_equal(forward(np.full((9, 3), 2.0)), [2.0, 2.0, 2.0])
    with pytest.raises(error.InvalidShape, match="has none along axes"):
        forward(np.ones((0, 3)))


def test_infinite_rows_have_sums_of_exponentials():
    rows = [[-np.inf, -np.inf], [np.inf, 1.0], [np.nan, 1.0], [1e4, -1e4], [-1e4, -1e4], [-np.inf, 2.0]]
    x, tape = autograd.new_variable(autograd.new_tape(), np.array(rows))
    found, tape = autograd.logsumexp(tape, x, axis=1)
    with np.errstate(invalid="ignore"):
        assert np.array_equal(found.data, np.logaddexp.reduce(rows, axis=1), equal_nan=True)


def test_gradients_where_they_are_not_unique():
    x, tape = autograd.new_variable(autograd.new_tape(), np.array([[3.0, 3.0, 1.0], [0.0, 0.0, 0.0]]))
    top, tape = autograd.max(tape, x, axis=1)
    size, tape = autograd.norm(tape, x, axis=1)
    spread, tape = autograd.std(tape, x, axis=1)
    total, tape = autograd.add(tape, top, size)
    total, tape = autograd.add(tape, total, spread)
    loss, tape = autograd.sum(tape, total)
    grad = autograd.backward(tape, loss)[x]
    assert np.allclose(grad[1], 1 / 3)  # the share of the maximum, and nothing of the norm and the deviation
    off = np.array([2.0, 2.0, -4.0]) / 3
    wanted = [0.5, 0.5, 0.0] + x.data[0] / np.sqrt(19) + off / 3 / x.data[0].std()
    assert np.allclose(grad[0], wanted)


def test_a_missing_number_has_no_gradient():
    x, tape = autograd.new_variable(autograd.new_tape(), np.array([1.0, np.nan]))
    top, tape = autograd.max(tape, x)
    assert np.isnan(autograd.backward(tape, top)[x]).all()


def test_a_norm_has_an_order_from_one_on():
    x, tape = autograd.new_variable(autograd.new_tape(), np.array([3.0, -4.0]))
    for order, wanted in ((1, 7.0), (2, 5.0), (3, 91 ** (1 / 3)), (np.inf, 4.0)):
        assert float(autograd.norm(tape, x, order).value.data) == pytest.approx(wanted)
    for order in (0.5, np.nan, "fro"):
        with pytest.raises(error.TensorError, match="ord"):
            autograd.norm(tape, x, order)


@pytest.mark.parametrize("widths", [-1, (1, 2, 3), 1.5, "ab", ((1, 2), (3, 4), (5, 6)), None])
def test_widths_that_fit_no_axes_are_refused(widths):
    x, tape = autograd.new_variable(autograd.new_tape(), np.ones((2, 3)))
    with pytest.raises(error.InvalidShape, match="before, after"):
        autograd.pad(tape, x, widths)


def test_rows_may_be_padded_in_programs_of_any_batch():
    x, tape = autograd.new_constant(autograd.new_tape(), np.ones((4, 2)))
    wider, tape = autograd.pad(tape, x, ((0, 0), (1, 2)), 7.0)
    longer, tape = autograd.pad(tape, wider, ((1, 0), (0, 0)))
    forward = program.compile_forward(tape, output=longer, inputs=(x,))
    batch = np.arange(6.0).reshape(3, 2)
    by_numpy = np.pad(np.pad(batch, ((0, 0), (1, 2)), constant_values=7.0), ((1, 0), (0, 0)))
    assert np.array_equal(forward(batch), by_numpy)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("starts", [(), (0,), (2,), (0, 1, 3), (1, 2, 3, 4)], ids=str)
def test_running_sums_begin_anew(axis, starts, rng):
    x = rng.standard_normal((5, 6, 20))
    runs = np.split(x, starts, axis)
    np.testing.assert_allclose(
        kernels.cumsum(x, axis, starts), np.concatenate([run.cumsum(axis) for run in runs], axis), rtol=1e-12
    )
    turned = np.concatenate([np.flip(np.flip(run, axis).cumsum(axis), axis) for run in runs], axis)
    np.testing.assert_allclose(kernels.cumsum_backward(x, axis, starts), turned, rtol=1e-12)


@pytest.mark.parametrize(
    ("starts", "kind", "words"),
    [
        ((2, 1), error.InvalidValue, "the start 1 follows 2"),
        ((-1,), error.InvalidValue, "the start -1"),
        ((0.5,), error.InvalidValue, "the start 0.5"),
        (3, error.InvalidValue, "starts=3"),
        ((10**5000,), error.IndexOutOfBounds, "index of 16610 bits is out of bounds for size 3; sums begin"),
        ((-(10**5000),), error.InvalidValue, "the start an int of 16610 bits"),
        ((3,), error.IndexOutOfBounds, "cumsum"),
    ],
)
def test_starts_that_are_none_are_named(starts, kind, words):
    with pytest.raises(kind, match=words):
        kernels.cumsum(np.ones(3), 0, starts)
