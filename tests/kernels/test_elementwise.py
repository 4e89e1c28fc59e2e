import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from viva_tensor import error, kernels

BINARY = [(kernels.add, operator.add), (kernels.sub, operator.sub), (kernels.mul, operator.mul)]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.5, 1e-40]


@settings(max_examples=200, deadline=None)
@given(
    hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=5, min_side=0),
    st.sampled_from(BINARY),
    st.sampled_from(["float32", "float64"]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_broadcasts_as_numpy(shapes, pair, dtype, turned, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in shapes.input_shapes)
    if turned:
        a, b = np.asfortranarray(a)[..., ::-1] if a.ndim else a, np.asfortranarray(b)
    ours, numpys = pair
    found, wanted = ours(a, b), numpys(a, b)
    assert found.dtype == dtype
    assert found.shape == wanted.shape
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize(("ours", "numpys"), BINARY)
def test_special_values_as_numpy(ours, numpys, dtype):
    a, b = np.meshgrid(np.array(SPECIAL, dtype), np.array(SPECIAL, dtype))
    with np.errstate(invalid="ignore"):
        assert np.array_equal(ours(a, b), numpys(a, b), equal_nan=True)


@pytest.mark.parametrize("name", ["less", "less_equal", "greater", "equal"])
def test_comparisons_of_special_values_give_1_and_0_as_numpy(name, dtype):
    a, b = np.meshgrid(np.array(SPECIAL, dtype), np.array(SPECIAL, dtype))
    assert np.array_equal(getattr(kernels, name)(a, b), getattr(np, name)(a, b))


@pytest.mark.parametrize("shape", [(3, 5), (1, 70_000), (70_000, 1), (300, 301)])
def test_a_row_a_column_and_a_number_are_repeated(shape, dtype, rng):
    a = rng.standard_normal(shape).astype(dtype)
    for b in (a[:1], a[:, :1], a[:1, :1], a[0], a[0, 0]):
        assert np.array_equal(kernels.add(a, b), a + b)
        assert np.array_equal(kernels.sub(b, a), b - a)


def test_in_place_and_overlapping_outputs(dtype, rng):
    a = rng.standard_normal((40, 50)).astype(dtype)
    for view in (a.copy(), np.asfortranarray(a)):
        wanted = view + 1
        assert np.array_equal(kernels.add(view, np.ones((), dtype), out=view), wanted)
    shifted = a.copy()
    wanted = shifted[:-1] + shifted[1:]
    assert np.array_equal(kernels.add(shifted[:-1], shifted[1:], out=shifted[1:]), wanted)
    row = a.copy()
    wanted = row + row[:1]
    assert np.array_equal(kernels.add(row, row[:1], out=row), wanted)


def test_relu_and_its_backward_pass_nan(dtype):
    x = np.array(SPECIAL, dtype)
    grad = np.arange(1, len(x) + 1).astype(dtype)
    assert np.array_equal(kernels.relu(x), np.where(x < 0, 0, x), equal_nan=True)
    assert np.array_equal(kernels.relu_backward(grad, x), np.where(x <= 0, 0, grad))
    assert np.isnan(kernels.relu_backward(np.array([np.nan], dtype), np.ones(1, dtype)))[0]


@settings(max_examples=100, deadline=None)
@given(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6), st.booleans(), st.integers(0, 2**32 - 1))
def test_relu_of_any_shape_and_strides(shape, turned, seed):
    x = np.random.default_rng(seed).standard_normal(shape)
    if turned:
        x = x.T[::-1] if x.ndim else x
    assert np.array_equal(kernels.relu(x), np.maximum(x, 0))
    assert np.array_equal(kernels.relu_backward(x, x), np.where(x > 0, x, 0))


def test_same_bits_at_every_thread_count(dtype, rng):
    a, b = rng.standard_normal((2, 700, 701)).astype(dtype)
    calls = [
        lambda: kernels.add(a, b[0]),
        lambda: kernels.mul(a, b[:, ::-1]),
        lambda: kernels.relu(a[:, ::2]),
        lambda: kernels.relu_backward(a, b),
        lambda: kernels.scale(a, 0.3),
        lambda: kernels.sgd(a, b, 0.1, 0.9, b)[0],
    ]
    with kernels.num_threads(1):
        one = [call() for call in calls]
    for threads in (2, 3, 7):
        with kernels.num_threads(threads):
            assert all(np.array_equal(call(), wanted) for call, wanted in zip(calls, one, strict=True))


@pytest.mark.parametrize(
    ("shape", "operand"),
    [
        ((4, 3), (3,)),
        ((4, 3), (1, 3)),
        ((4, 3), (4, 1)),
        ((4, 3), ()),
        ((2, 4, 3), (4, 1)),
        ((2, 4, 3), (2, 1, 3)),
        ((2, 4, 3, 5), (1, 4, 1, 5)),
        ((4, 3), (4, 3)),
        ((0, 3), (3,)),
    ],
)
def test_add_backward_sums_to_the_operands_shape(shape, operand, dtype, rng):
    grad = rng.integers(-8, 8, shape).astype(dtype)
    axes = (
        *range(len(shape) - len(operand)),
        *(len(shape) - len(operand) + i for i, n in enumerate(operand) if n == 1),
    )
    found = kernels.add_backward(grad, operand)
    assert found.shape == operand
    assert np.array_equal(found, grad.sum(axes).reshape(operand))


def test_backwards_of_sub_mul_and_scale(rng):
    a, b, grad = rng.standard_normal((4, 3)), rng.standard_normal(3), rng.standard_normal((4, 3))
    left, right = kernels.sub_backward(grad, a.shape, b.shape)
    assert np.array_equal(left, grad)
    assert np.allclose(right, -grad.sum(0))
    left, right = kernels.mul_backward(grad, a, b)
    assert np.allclose(left, grad * b)
    assert np.allclose(right, (grad * a).sum(0))
    assert np.array_equal(kernels.scale(a, -2), -2 * a)


def test_shapes_that_do_not_fit_are_named():
    for operation in (kernels.add, kernels.sub, kernels.mul):
        with pytest.raises(error.BroadcastError, match=r"\(2, 3\) and \(2,\)"):
            operation(np.ones((2, 3)), np.ones(2))
        with pytest.raises(error.ShapeMismatch, match=r"\(2, 3\), got \(3, 2\)"):
            operation(np.ones((2, 3)), np.ones(3), out=np.empty((3, 2)))
    with pytest.raises(error.ShapeMismatch, match=r"\(2, 3\), got \(3,\)"):
        kernels.relu_backward(np.ones(3), np.ones((2, 3)))
    with pytest.raises(error.BroadcastError, match=r"\(4,\) and \(2, 3\)"):
        kernels.add_backward(np.ones((2, 3)), (4,))
    with pytest.raises(error.BroadcastError, match=r"\(1, 2, 3\)"):
        kernels.add_backward(np.ones((2, 3)), (1, 2, 3))
