"""Programs of sums of rows of a table, for rows of more or fewer entries than were recorded."""

import numpy as np
import pytest

from viva_tensor import autograd, kernels, nn, optim, program
from viva_tensor.autograd.tape import new_leaves
from viva_tensor.error import InvalidShape, ShapeMismatch

FEATURES = 12


@pytest.fixture
def table(rng):
    return rng.standard_normal((FEATURES, 5))


def rows(rng, count, entries):
    indices = rng.integers(0, FEATURES, (count, entries)).astype(np.float64)
    return indices, rng.standard_normal((count, entries)), rng.standard_normal((count, 5))


def dense(indices, weights):
    features = np.zeros((len(indices), FEATURES))
    np.add.at(features, (np.arange(len(indices))[:, None], indices.astype(int)), weights)
    return features


def compiled(table, batch, also_used=False):
    table, tape = autograd.new_variable(autograd.new_tape(), table)
    inputs, tape = new_leaves(tape, batch, autograd.new_constant)
    indices, weights, target = inputs
    sums, tape = autograd.embedding_bag(tape, table, indices, weights)
    loss, tape = nn.mse_loss(tape, sums, target)
    if also_used:
        size, tape = autograd.sum(tape, weights)
        loss, tape = autograd.add(tape, loss, size)
    return program.compile_step(tape, loss=loss, params=table, inputs=inputs, optimizer=optim.SGD(lr=0.5))


def test_steps_on_any_number_of_entries_and_rows(table, rng):
    batches = [rows(rng, *sizes) for sizes in ((8, 3), (8, 7), (5, 1), (20, 30), (8, 3), (1, 4))]
    trained = []
    for threads in (1, 3):
        with kernels.num_threads(threads):
            step, wanted = compiled(table, batches[0]), table
            for indices, weights, target in batches:
                x = dense(indices, weights)
                error = x @ wanted - target
                assert step(indices, weights, target) == pytest.approx((error**2).mean(), rel=1e-12)
                wanted = wanted - 0.5 * 2 / error.size * x.T @ error
            trained.append(step.params(autograd.new_tape()).value.data)
            np.testing.assert_allclose(trained[-1], wanted, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(*trained)


def test_a_run_on_rows_of_more_entries_than_recorded(table, rng):
    recorded, others = rows(rng, 8, 3), rows(rng, 20, 6)
    step, twin = compiled(table, recorded), compiled(table, others)
    for one in (step, twin):
        one.run(*others, batch_size=8, epochs=2, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(*(one.params(autograd.new_tape()).value.data for one in (step, twin)))


def test_forward_passes(table, rng):
    indices, weights, _ = rows(rng, 4, 2)
    kept, tape = autograd.new_constant(autograd.new_tape(), table)
    inputs, tape = new_leaves(tape, (indices, weights), autograd.new_constant)
    sums, tape = autograd.embedding_bag(tape, kept, *inputs)
    forward = program.compile_forward(tape, output=sums, inputs=inputs)
    for sizes in ((4, 2), (4, 9), (0, 3), (7, 0), (3, 1)):
        indices, weights, _ = rows(rng, *sizes)
        np.testing.assert_allclose(forward(indices, weights), dense(indices, weights) @ table, rtol=1e-12, atol=1e-12)


def test_what_is_no_bag_keeps_its_columns(table, rng):
    step = compiled(table, rows(rng, 8, 3))
    indices, weights, target = rows(rng, 8, 4)
    with pytest.raises(InvalidShape, match=r"indices of \(8, 3\) and weights of \(8, 4\)"):
        step(indices[:, :3], weights, target)
    with pytest.raises(ShapeMismatch, match="only the first axis may vary"):
        step(indices, weights, target[:, :4])
    with pytest.raises(ShapeMismatch, match="as many rows"):
        step(indices, weights, target[:7])
    with pytest.raises(ShapeMismatch, match="only the first axis may vary"):
        compiled(table, rows(rng, 8, 3), also_used=True)(indices, weights, target)
