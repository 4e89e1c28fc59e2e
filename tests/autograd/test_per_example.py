"""Gradients of each example's loss: against gradients of one row alone, compiled, and what mixes rows."""

import numpy as np
import pytest
from support.tapes import recorded

from viva_tensor import autograd, error, nn, program

ROWS = 6


def network(tape, params, x, y):
    layers = [nn.Linear(*params[:2]), nn.Linear(*params[2:])]
    out, tape = nn.mlp_forward(tape, layers, x, activation="tanh")
    losses, tape = nn.mse_loss(tape, out, y, reduction="none")
    return autograd.mean(tape, losses, axis=1)


def normalised(tape, params, x, y):
    w, scale, shift = params
    turned, tape = autograd.transpose(tape, w)
    h, tape = autograd.matmul(tape, x, turned)
    h, tape = nn.layer_norm_forward(tape, nn.LayerNorm(scale, shift), h)
    h, tape = nn.softmax(tape, h)
    off, tape = autograd.sub(tape, h, y)
    return autograd.norm(tape, off, axis=1)


def embedded(tape, params, x, y):
    table, w = params
    indices = (np.arange(2 * ROWS).reshape(ROWS, 2) * 3 % 4)[: len(x.data)]
    rows, tape = autograd.take(tape, table, indices - 4 * (indices == 1))
    parts, tape = autograd.matmul(tape, rows, w)
    flat, tape = autograd.reshape(tape, parts, (-1, 6))
    first, tape = autograd.slice(tape, flat, np.s_[:, 1:4])
    scaled, tape = autograd.mul(tape, first, y)
    return autograd.sum(tape, scaled, axis=-1)


def classes(tape, params, x, y):
    w, b = params
    logits, tape = nn.linear_forward(tape, nn.Linear(w, b), x)
    weights, tape = nn.softmax(tape, y)
    return nn.cross_entropy(tape, logits, weights, reduction="none")


def chances(function, weighted):
    def losses(tape, params, x, y):
        target, tape = nn.sigmoid(tape, y)
        logits, tape = autograd.matmul(tape, x, params[0])
        if logits.ndim == 1:
            target, tape = autograd.slice(tape, target, np.s_[:, 0])
        weights, tape = autograd.square(tape, logits)
        if weights.ndim > 1:
            weights, tape = autograd.sum(tape, weights, axis=1)
        weights = weights if weighted else None
        losses, tape = function(tape, logits, target, reduction="none", sample_weight=weights)
        return autograd.sum(tape, losses, axis=1) if losses.ndim > 1 else (losses, tape)

    return losses


CASES = {
    "network": (network, [(7, 4), (7,), (3, 7), (3,)]),
    "normalised": (normalised, [(3, 4), (3,), (3,)]),
    "embedded": (embedded, [(4, 5), (5, 3)]),
    "classes": (classes, [(3, 4), (3,)]),
    "binary": (chances(nn.binary_cross_entropy, False), [(4,)]),
    "binary of columns": (chances(nn.binary_cross_entropy, True), [(4, 3)]),
    "focal": (chances(nn.focal_loss, True), [(4,)]),
}


@pytest.mark.parametrize("name", CASES)
def test_each_is_the_gradient_of_one_row_alone(name, rng):
    function, shapes = CASES[name]
    arrays = [rng.standard_normal((ROWS, 4)), rng.standard_normal((ROWS, 3))]
    arrays += [rng.standard_normal(shape) for shape in shapes]
    x, y, *params, tape = recorded(*arrays, constants=2)
    losses, tape = function(tape, params, x, y)
    found, tape = autograd.per_example_gradients(tape, losses, params)
    assert [one.shape for one in found] == [(ROWS, *shape) for shape in shapes]
    for row in range(ROWS):
        seed = np.eye(ROWS)[row]
        alone, _ = autograd.gradient(tape, losses, params, seed)
        for ours, wanted in zip(found, alone, strict=True):
            assert np.allclose(ours.data[row], wanted.data, rtol=1e-12, atol=1e-14)
    forward = program.compile_forward(tape, output=found, inputs=(x, y))
    for ours, compiled in zip(found, forward(*arrays[:2]), strict=True):
        assert np.array_equal(ours.data, compiled)


def test_programs_follow_other_batches(rng):
    x, y, *params, tape = recorded(
        rng.standard_normal((4, 4)), rng.standard_normal((4, 3)), *map(np.ones, CASES["network"][1]), constants=2
    )
    losses, tape = network(tape, params, x, y)
    found, tape = autograd.per_example_gradients(tape, losses, params)
    forward = program.compile_forward(tape, output=found, inputs=(x, y))
    X, Y = rng.standard_normal((9, 4)), rng.standard_normal((9, 3))
    more = forward(X, Y)
    x, y, *params, tape = recorded(X, Y, *map(np.ones, CASES["network"][1]), constants=2)
    losses, tape = network(tape, params, x, y)
    expected, tape = autograd.per_example_gradients(tape, losses, params)
    assert all(np.array_equal(a, b.data) for a, b in zip(more, expected, strict=True))


def test_what_the_losses_do_not_depend_on_has_zeros(rng):
    w, unused, tape = recorded(np.ones(3), np.ones((2, 2)))
    x, tape = autograd.new_constant(tape, rng.standard_normal((5, 3)))
    losses, tape = autograd.matmul(tape, x, w)
    found, tape = autograd.per_example_gradients(tape, losses, (w, unused))
    assert np.array_equal(found[0].data, x.data)
    assert np.array_equal(found[1].data, np.zeros((5, 2, 2)))


@pytest.mark.parametrize("recorded_rows", [0, 1, 4])
@pytest.mark.parametrize("shape", [(), (3,), (1, 3)])
def test_zeros_follow_other_batches(recorded_rows, shape):
    x, w, unused, tape = recorded(np.ones((recorded_rows, 2)), np.ones(2), np.full(shape, np.inf), constants=1)
    losses, tape = autograd.matmul(tape, x, w)
    found, tape = autograd.per_example_gradients(tape, losses, (w, unused))
    forward = program.compile_forward(tape, output=found, inputs=(x,))
    for rows in (recorded_rows, 1, 7):
        slopes, zeros = forward(np.ones((rows, 2)))
        assert np.array_equal(slopes, np.ones((rows, 2)))
        assert np.array_equal(zeros, np.zeros((rows, *shape)))


def centred(tape, h):
    middle, tape = autograd.mean(tape, h, axis=0)
    return autograd.sub(tape, h, middle)


MIXING = {
    "mean over the batch": centred,
    "running sums": lambda tape, h: autograd.cumsum(tape, h, axis=0),
    "rows turned": lambda tape, h: autograd.flip(tape, h, 0),
    "softmax over the batch": lambda tape, h: autograd.sequence(
        autograd.transpose(tape, h), nn.softmax, autograd.transpose
    ),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_rows_is_refused(name, rng):
    x, w, tape = recorded(rng.standard_normal((5, 3)), np.ones((3, 5)), constants=1)
    h, tape = autograd.matmul(tape, x, w)
    h, tape = MIXING[name](tape, h)
    losses, tape = autograd.sum(tape, h, axis=1)
    with pytest.raises(error.TensorError, match=r"per_example_gradients: .*use jacobian"):
        autograd.per_example_gradients(tape, losses, w)


def test_what_leaves_the_rows_and_comes_back_is_refused():
    x, w, tape = recorded(np.arange(6.0).reshape(3, 2) ** 2, np.array([[2.0], [1.0]]), constants=1)
    y, tape = autograd.matmul(tape, x, w)
    turned, tape = autograd.transpose(tape, y)
    off, tape = autograd.sub(tape, y, turned)
    squares, tape = autograd.square(tape, off)
    losses, tape = autograd.sum(tape, squares, axis=1)
    with pytest.raises(error.TensorError, match=r"no row for each example.*use jacobian"):
        autograd.per_example_gradients(tape, losses, w)


def test_losses_without_a_batch_are_refused():
    w, tape = recorded(np.array([2.0, 3.0]))
    losses, tape = autograd.square(tape, w)
    for one in (losses, w):
        with pytest.raises(error.TensorError, match=r"use jacobian"):
            autograd.per_example_gradients(tape, one, w)


def test_indices_may_be_an_input():
    ids, table, tape = recorded(np.array([0.0, 1.0, -1.0]), np.ones((3, 2)), constants=1)
    rows, tape = autograd.take(tape, table, ids)
    losses, tape = autograd.sum(tape, rows, axis=1)
    found, tape = autograd.per_example_gradients(tape, losses, table)
    forward = program.compile_forward(tape, output=found, inputs=(ids,))
    for places in ([0, 1, 2], [2, 2, -3]):
        wanted = np.zeros((3, 3, 2))
        wanted[np.arange(3), places] = 1
        assert np.array_equal(forward(np.array(places, float)), wanted)
    assert np.array_equal(forward(np.array([0.0, 1.0])), [[[1, 1], [0, 0], [0, 0]], [[0, 0], [1, 1], [0, 0]]])


def taken(tape, table, ids, weights):
    rows, tape = autograd.take(tape, table, ids)
    weighted, tape = autograd.mul(tape, rows, weights)
    return autograd.sum(tape, weighted, axis=1)


def joined_and_taken(tape, table, ids, weights):
    flat, tape = autograd.reshape(tape, ids, (-1,))
    rows, tape = autograd.sequence(autograd.take(tape, table, flat), nn.tanh)
    return autograd.sum(tape, rows, axis=1)


def bagged(tape, table, ids, weights):
    sums, tape = autograd.sequence(autograd.embedding_bag(tape, table, ids, weights), nn.tanh)
    return autograd.sum(tape, sums, axis=1)


@pytest.mark.parametrize("recorded_rows", [0, 1, 2, 5])
@pytest.mark.parametrize(
    ("function", "shape"), [(taken, (4,)), (joined_and_taken, (4, 2)), (bagged, (4, 2))], ids=["take", "joined", "bag"]
)
def test_gradients_of_tables_follow_other_batches(function, shape, recorded_rows, rng):
    table = rng.standard_normal(shape)

    def gradients(rows):
        ids, weights = rng.integers(-4 if function is not bagged else 0, 4, (rows, 3)), rng.standard_normal((rows, 3))
        i, w, t, tape = recorded(ids.astype(float), weights, table, constants=2)
        losses, tape = function(tape, t, i, w)
        return (i, w), *autograd.per_example_gradients(tape, losses, t)

    inputs, found, tape = gradients(recorded_rows)
    forward = program.compile_forward(tape, output=found, inputs=inputs[: 1 + (function is not joined_and_taken)])
    for rows in (0, 1, 2, 7):
        inputs, wanted, _ = gradients(rows)
        given = [one.data for one in inputs][: 1 + (function is not joined_and_taken)]
        np.testing.assert_array_equal(forward(*given), wanted.data, strict=True)


@pytest.mark.parametrize("function", ["take", "matmul"])
def test_a_recorded_row_that_other_batches_would_repeat_is_refused(function, rng):
    ids, x, w, tape = recorded(np.array([[1.0, 0.0]]), np.ones((1, 2)), rng.standard_normal((2, 2)), constants=2)
    if function == "take":
        rows, tape = autograd.take(tape, w, ids)
        h, tape = autograd.sum(tape, rows, axis=1)
    else:
        h, tape = autograd.matmul(tape, ids, w)
    both, tape = autograd.mul(tape, h, x)
    losses, tape = autograd.sum(tape, both, axis=1)
    found, tape = autograd.per_example_gradients(tape, losses, w)
    forward = program.compile_forward(tape, output=found, inputs=(x,))
    assert np.array_equal(forward(x.data), found.data)
    with pytest.raises(
        error.InvalidShape, match=r"^per_example_gradients: \(1, 2\) for \(3, 2\).*make inputs of what has that many"
    ):
        forward(np.ones((3, 2)))


def test_many_parts_are_joined(rng):
    x, w, tape = recorded(rng.standard_normal((4, 3)), rng.standard_normal((3, 2)), constants=1)
    h, tape = autograd.matmul(tape, x, w)
    joined, tape = autograd.concatenate(tape, [h] * 20, axis=1)
    losses, tape = autograd.sum(tape, joined, axis=1)
    found, tape = autograd.per_example_gradients(tape, losses, w)
    assert np.allclose(found.data, 20 * np.repeat(x.data[:, :, None], 2, axis=2))


def test_losses_are_a_vector():
    w, tape = recorded(np.ones((3, 2)))
    with pytest.raises(error.DimensionError, match="one for each row"):
        autograd.per_example_gradients(tape, w, w)
