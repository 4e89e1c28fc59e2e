"""Programs are pickled and copied: the copies are programs of their own, and go on bit for bit."""

import copy
import pickle

import numpy as np
import pytest
from support.tapes import recorded

from viva_tensor import autograd, nn, optim, program

COPIES = [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]


@pytest.mark.parametrize("copied", COPIES)
def test_a_forward_pass(copied, rng):
    x, w, tape = recorded(rng.standard_normal((4, 3)), rng.standard_normal((3, 2)), constants=1)
    y, tape = autograd.matmul(tape, x, w)
    for bend in nn.ACTIVATIONS.values():  # whose gradients have kernels of their own
        y, tape = bend(tape, y)
    total, tape = autograd.sum(tape, y)
    slope, tape = autograd.gradient(tape, total, x)
    forward = program.compile_forward(tape, output=(y, slope), inputs=(x,))
    batch = rng.standard_normal((7, 3))
    for ours, theirs in zip(forward(batch), copied(forward)(batch), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("copied", COPIES)
def test_a_step_goes_on_and_leaves_the_first_alone(copied, rng):
    X, Y = rng.standard_normal((30, 5)).astype("f4"), rng.standard_normal((30, 2)).astype("f4")
    x, y, tape = recorded(X, Y, constants=2)
    layers, tape = nn.mlp(tape, (5, 40, 2), rng=rng)
    out, tape = nn.mlp_forward(tape, layers, x, dropout_rate=0.3, rng=rng)
    loss, tape = nn.mse_loss(tape, out, y)
    adam = optim.Adam(lr=0.01)
    step = program.compile_step(
        tape, loss=loss, params=layers, inputs=(x, y), optimizer=adam, rng=np.random.default_rng(7)
    )
    step(X, Y)
    step.lr = 0.02
    other = copied(step)
    assert (other.lr, other.steps) == (0.02, 1)
    before = step.state()
    found = [other(X, Y) for _ in range(3)]
    assert all(np.array_equal(a, b) for a, b in zip(before.params, step.state().params, strict=True))
    assert [step(X, Y) for _ in range(3)] == found  # with dropouts of its own


@pytest.mark.parametrize("copied", COPIES)
def test_an_objective(copied, rng):
    w, tape = recorded(rng.standard_normal(5))
    squares, tape = autograd.square(tape, w)
    loss, tape = autograd.sum(tape, squares)
    objective = program.compile_objective(tape, loss=loss, params=[w])
    value, gradient = copied(objective)(objective.start)
    assert (value, gradient.tolist()) == (objective(objective.start)[0], objective(objective.start)[1].tolist())
