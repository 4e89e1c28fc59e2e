"""Normalisations: their formulas in float64, running statistics, programs, and what is refused."""

import numpy as np
import pytest

from viva_tensor import autograd, error, nn, program
from viva_tensor.nn import BatchStatistics


def recorded(rng, layer_of, shape, features):
    """A layer with random scale and shift, and an input, on one tape."""
    layer, tape = layer_of(autograd.new_tape())
    weights = []
    for _ in layer:
        variable, tape = autograd.new_variable(tape, rng.standard_normal(features))
        weights.append(variable)
    x, tape = autograd.new_variable(tape, rng.standard_normal(shape))
    return type(layer)(*weights), x, tape


def new_batch_norm(tape):
    (layer, running), tape = nn.batch_norm(tape, 3, dtype="f8")
    assert not running.mean.any()
    assert (running.var == 1).all()
    return layer, tape


def test_root_mean_squares(rng):
    layer, x, tape = recorded(rng, lambda tape: nn.rms_norm(tape, 5, dtype="f8"), (4, 3, 5), 5)
    y, tape = nn.rms_norm_forward(tape, layer, x, epsilon=0.1)
    assert np.allclose(y.data, layer.w.data * x.data / np.sqrt((x.data**2).mean(-1, keepdims=True) + 0.1))
    with pytest.raises(error.InvalidValue, match="epsilon=-1"):
        nn.rms_norm_forward(tape, layer, x, epsilon=-1)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("rest", [(), (4,), (2, 3)])
def test_groups_of_channels(groups, rest, rng):
    layer, x, tape = recorded(rng, lambda tape: nn.group_norm(tape, 6, dtype="f8"), (5, 6, *rest), 6)
    y, tape = nn.group_norm_forward(tape, layer, x, groups, epsilon=0.1)
    rows = x.data.reshape(5, groups, -1)
    normal = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 0.1)
    columns = (slice(None), *[None] * len(rest))
    assert np.allclose(y.data, normal.reshape(x.shape) * layer.w.data[columns] + layer.b.data[columns])
    forward = program.compile_forward(tape, output=y, inputs=(x,))
    assert np.array_equal(forward(x.data[:3]), y.data[:3])


def test_batches_and_their_running_statistics(rng):
    layer, x, tape = recorded(rng, new_batch_norm, (6, 3), 3)
    running = BatchStatistics(np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.0, 2.0]))
    (y, moved), tape = nn.batch_norm_forward(tape, layer, x, running, momentum=0.3, epsilon=0.1)
    normal = (x.data - x.data.mean(0)) / np.sqrt(x.data.var(0) + 0.1)
    assert np.allclose(y.data, normal * layer.w.data + layer.b.data)
    assert np.allclose(moved.mean, 0.7 * running.mean + 0.3 * x.data.mean(0))
    assert np.allclose(moved.var, 0.7 * running.var + 0.3 * x.data.var(0, ddof=1))
    assert np.array_equal(running.mean, [1.0, 2.0, 3.0])
    applied, tape = nn.batch_norm_apply(tape, layer, x, running, epsilon=0.1)
    expected = (x.data - running.mean) / np.sqrt(running.var + 0.1) * layer.w.data + layer.b.data
    assert np.allclose(applied.data, expected)
    forward = program.compile_forward(tape, output=y, inputs=(x,))
    other = rng.standard_normal((9, 3))
    normal = (other - other.mean(0)) / np.sqrt(other.var(0) + 0.1)
    assert np.allclose(forward(other), normal * layer.w.data + layer.b.data)
    with pytest.raises(error.InvalidShape, match=r"batch_norm_forward: .*\(1, 3\).*use batch_norm_apply"):
        forward(other[:1])


@pytest.mark.parametrize("kind", ["rms", "group", "batch"])
def test_gradients_are_central_differences(kind, rng):
    x, w, b = rng.standard_normal((4, 6)), rng.standard_normal(6), rng.standard_normal(6)
    functions = {
        "rms": lambda t, x, w, b: nn.rms_norm_forward(t, nn.RMSNorm(w), x),
        "group": lambda t, x, w, b: nn.group_norm_forward(t, nn.GroupNorm(w, b), x, 2),
        "batch": lambda t, x, w, b: autograd.sequence(
            nn.batch_norm_forward(t, nn.BatchNorm(w, b), x, BatchStatistics(np.zeros(6), np.ones(6))),
            lambda t, made: autograd.mul(t, made[0], made[0]),
        ),
    }
    autograd.check_gradients(functions[kind], x, w, b)


def test_what_fits_no_features_is_refused(rng):
    layer, x, tape = recorded(rng, new_batch_norm, (6, 3), 3)
    running = BatchStatistics(np.zeros(3), np.ones(3))
    one, tape = autograd.slice(tape, x, np.s_[:1])
    with pytest.raises(error.InvalidShape, match="at least two rows; for single ones use batch_norm_apply"):
        nn.batch_norm_forward(tape, layer, one, running)
    with pytest.raises(error.InvalidValue, match="momentum=2"):
        nn.batch_norm_forward(tape, layer, x, running, momentum=2)
    with pytest.raises(error.InvalidValue, match="running is NoneType"):
        nn.batch_norm_forward(tape, layer, x, None)
    with pytest.raises(error.ShapeMismatch, match="one number for each feature"):
        nn.batch_norm_apply(tape, layer, x, BatchStatistics(np.zeros(4), np.ones(4)))
    with pytest.raises(error.DtypeError, match="batch_norm_apply: running statistics of float32, x of float64"):
        nn.batch_norm_apply(tape, layer, x, BatchStatistics(np.zeros(3, "f4"), np.ones(3, "f4")))
    narrow, tape = autograd.slice(tape, x, np.s_[:, :2])
    with pytest.raises(error.ShapeMismatch, match=r"w has one element for each feature of x \(6, 2\)"):
        nn.batch_norm_apply(tape, layer, narrow, running)
    groups, tape = nn.group_norm(tape, 3, dtype="f8")
    with pytest.raises(error.InvalidShape, match="groups=2 of 3 channels"):
        nn.group_norm_forward(tape, groups, x, 2)
    with pytest.raises(error.InvalidValue, match="wanted a layer of GroupNorm"):
        nn.group_norm_forward(tape, layer, x, 1)
    flat, tape = autograd.reshape(tape, x, (-1,))
    with pytest.raises(error.DimensionError, match=r"x of shape \(18,\)"):
        nn.group_norm_forward(tape, groups, flat, 1)
    with pytest.raises(error.InvalidShape, match="features=0"):
        nn.rms_norm(tape, 0)
