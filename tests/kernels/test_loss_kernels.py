import numpy as np
import pytest

from viva_tensor import error, kernels


def log_softmax(x):
    x = x.astype("f8")
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


@pytest.mark.parametrize("classes", [1, 2, 10, 33, 500])
def test_cross_entropy_of_classes_and_probabilities(classes, dtype, rng):
    x = (rng.standard_normal((21, classes)) * 5).astype(dtype)
    labels = rng.integers(0, classes, 21)
    shares = rng.random((21, classes)).astype(dtype)
    shares /= shares.sum(1, keepdims=True)
    grad = rng.standard_normal(21).astype(dtype)
    logs = log_softmax(x)
    hot = np.eye(classes)[labels]
    # sums of `classes` terms up to |x| and 1: their rounding is bounded by twice that many units
    bound = np.finfo(dtype).eps * 4 * (np.abs(logs).max() + np.log2(classes) + 8)
    for target, whole in ((labels, hot), (labels.astype(dtype), hot), (shares, shares.astype("f8"))):
        found = kernels.cross_entropy(x, target)
        assert found.dtype == dtype
        assert np.abs(found + (whole * logs).sum(1)).max() <= bound
        slopes = kernels.cross_entropy_backward(grad, x, target)
        wanted = grad[:, None] * (np.exp(logs) - whole)
        assert np.abs(slopes - wanted).max() <= bound * np.abs(grad).max()


def test_cross_entropy_of_extreme_logits(dtype):
    x = np.array([[1e30, -1e30, 0], [-np.inf, 0, 0], [1000, 0, -1000]], dtype)
    assert np.array_equal(kernels.cross_entropy(x[[0, 2]], [0, 0]), [0, 0])
    assert np.array_equal(kernels.cross_entropy(x, [1, 0, 2]), np.array([2e30, np.inf, 2000], dtype))
    assert np.array_equal(kernels.cross_entropy_backward(np.ones(1, dtype), x[:1], [0]), [[0, 0, 0]])
    assert np.isnan(kernels.cross_entropy(np.array([[np.nan, 0]], dtype), [1]))[0]


@pytest.mark.parametrize(
    ("target", "kind", "words"),
    [
        ([0, 3], error.IndexOutOfBounds, "index 3 is out of bounds for size 3"),
        ([0, -1], error.IndexOutOfBounds, "index -1"),
        ([0.0, 0.5], error.InvalidValue, "class 0.5 in row 1"),
        ([0.0, np.inf], error.IndexOutOfBounds, "size 3"),
        ([0.0, np.nan], error.InvalidValue, "class nan in row 1"),
        ([[1, 0, 0], [np.nan, 0, 1]], error.InvalidValue, "row 1 sum to nan"),
        ([0], error.ShapeMismatch, "one target for each row"),
        ([[0.5, 0.5], [1, 0]], error.ShapeMismatch, "one target for each row"),
        ([[0.5, 0.6, 0], [1, 0, 0]], error.InvalidValue, "row 0 sum to 1.1"),
        ([[1, 0, 0], [1.5, -0.5, 0]], error.InvalidValue, "row 1 .* the least is -0.5"),
        ([[[1.0, 0, 0], [1, 0, 0]]], error.DimensionError, "logits are"),
        ("cat", error.DtypeError, "dtype <U3 of shape .*wanted float64"),
    ],
)
def test_targets_that_are_no_classes_are_refused(target, kind, words):
    with pytest.raises(kind, match=words):
        kernels.cross_entropy(np.zeros((2, 3)), target)


def test_logits_that_are_no_rows_are_refused():
    with pytest.raises(error.DimensionError):
        kernels.cross_entropy(np.zeros(3), [0, 1, 2])
    with pytest.raises(error.InvalidShape, match="no classes"):
        kernels.cross_entropy(np.zeros((2, 0)), [0, 0])
    with pytest.raises(error.DtypeError):
        kernels.cross_entropy(np.zeros((1, 3)), np.zeros((1, 3), "f4"))
    assert kernels.cross_entropy(np.zeros((0, 3)), np.zeros(0)).shape == (0,)
    with pytest.raises(error.ShapeMismatch, match="one gradient for each row"):
        kernels.cross_entropy_backward(np.ones(3), np.zeros((2, 3)), [0, 1])


def test_binary_cross_entropy(dtype, rng):
    x = (rng.standard_normal((7, 20)) * 5).astype(dtype)
    t, grad = rng.random((2, 7, 20)).astype(dtype)
    wide = x.astype("f8")
    wanted = np.logaddexp(0, wide) - wide * t
    eps = np.finfo(dtype).eps
    assert (np.abs(kernels.binary_cross_entropy(x, t) - wanted) <= 8 * eps * (np.abs(wide) + 1)).all()
    slopes = kernels.binary_cross_entropy_backward(grad, x, t)
    assert np.abs(slopes - grad * (1 / (1 + np.exp(-wide)) - t)).max() <= 8 * eps
    extreme = np.array([1e4, -1e4, 1e4, -1e4, 40, -40], dtype)
    found = kernels.binary_cross_entropy(extreme, np.array([1, 0, 0, 1, 1, 0], dtype))
    assert np.allclose(found, [0, 0, 1e4, 1e4, np.exp(-40), np.exp(-40)], rtol=1e-5, atol=0)


def test_probabilities_out_of_range_are_refused():
    for wrong in (-0.1, 1.1, np.inf):
        with pytest.raises(error.InvalidValue, match="targets are from 0 to 1"):
            kernels.binary_cross_entropy([0.0, 0.0], [1.0, wrong])
    with pytest.raises(error.ShapeMismatch):
        kernels.binary_cross_entropy(np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(error.InvalidValue, match=r"target nan at 1; targets are from 0 to 1"):
        kernels.binary_cross_entropy([0.0, 0.0], [1.0, np.nan])


def test_huber_is_square_inside_and_linear_outside(dtype):
    d = np.array([-3, -1, -0.5, 0, 0.5, 1, 3, np.inf, np.nan], dtype)
    found = kernels.huber(d, 1.0)
    assert np.array_equal(found, [2.5, 0.5, 0.125, 0, 0.125, 0.5, 2.5, np.inf, np.nan], equal_nan=True)
    slopes = kernels.huber_backward(np.full(9, 2, dtype), d, 1.0)
    assert np.array_equal(slopes, [-2, -2, -1, 0, 1, 2, 2, 2, np.nan], equal_nan=True)


@pytest.mark.parametrize("classes", [1, 2, 7, 10, 16, 17])
def test_rows_taken_together_have_the_bits_of_rows_alone(classes, dtype, rng):
    x = (rng.standard_normal((41, classes)) * 5).astype(dtype)
    x[3, 0], x[5, -1] = np.inf, np.nan
    labels = rng.integers(0, classes, 41).astype(dtype)
    shares = kernels.softmax(rng.standard_normal((41, classes)).astype(dtype))
    grad = np.ones(41, dtype)

    def alone(function, *arrays):
        return np.concatenate([function(*(array[i : i + 1] for array in arrays)) for i in range(41)])

    for function in (kernels.softmax, kernels.log_softmax):
        assert np.array_equal(function(x), alone(function, x), equal_nan=True)
    for target in (labels, shares):
        assert np.array_equal(kernels.cross_entropy(x, target), alone(kernels.cross_entropy, x, target), equal_nan=True)
        slopes = alone(kernels.cross_entropy_backward, grad, x, target)
        assert np.array_equal(kernels.cross_entropy_backward(grad, x, target), slopes, equal_nan=True)
