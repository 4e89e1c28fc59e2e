"""Dropout in programs: the draws, and so the bits, of a loop on the tape with the same generator."""

import numpy as np
import pytest
from support.steps import copied, same

from viva_tensor import autograd, error, kernels, nn, optim, program

ADAM = optim.Adam(lr=0.01)


def record(tape, layers, x, y, rng, rate=0.3):
    x, tape = autograd.new_constant(tape, x)
    y, tape = autograd.new_constant(tape, y)
    out, tape = nn.mlp_forward(tape, layers, x, dropout_rate=rate, rng=rng)
    loss, tape = nn.mse_loss(tape, out, y)
    return (x, y), loss, tape


def compiled(tape, layers, X, Y, rng):
    inputs, loss, tape = record(tape, layers, X, Y, np.random.default_rng(1))
    return program.compile_step(tape, loss=loss, params=layers, inputs=inputs, optimizer=ADAM, rng=rng)


def network(dtype="float32"):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((96, 20)).astype(dtype), rng.standard_normal((96, 2)).astype(dtype)
    return X, Y, *nn.mlp(autograd.new_tape(), (20, 50, 30, 2), rng=rng, dtype=dtype)


def eager(layers, batches, rng):
    layers, tape = copied(layers)
    state, losses = optim.init(ADAM, layers), []
    for X, Y in batches:
        _, loss, tape = record(tape, layers, X, Y, rng)
        losses.append(float(loss.data))
        grads = autograd.backward(tape, loss)
        (layers, state), tape = optim.update(autograd.new_tape(), ADAM, state, layers, grads)
    return losses, layers


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_program_draws_as_the_loop_does(threads, dtype):
    X, Y, layers, tape = network(dtype)
    losses, trained = eager(layers, [(X, Y)] * 6, np.random.default_rng(5))
    with kernels.num_threads(threads):
        step = compiled(tape, layers, X, Y, np.random.default_rng(5))
        assert [step(X, Y) for _ in range(6)] == losses
    assert same(step.params(autograd.new_tape()).value, trained)
    assert len(set(losses)) == 6


def test_run_draws_as_single_steps_do():
    X, Y, layers, tape = network()
    batches = [(X[i : i + 40], Y[i : i + 40]) for _ in range(3) for i in (0, 40, 80)]
    losses, trained = eager(layers, batches, np.random.default_rng(5))
    step = compiled(tape, layers, X[:40], Y[:40], np.random.default_rng(5))
    found = step.run(X, Y, batch_size=40, epochs=3, shuffle=False)
    assert same(step.params(autograd.new_tape()).value, trained)
    sizes = [40, 40, 16]
    assert found == pytest.approx([np.dot(losses[i : i + 3], sizes) / 96 for i in (0, 3, 6)], rel=1e-6)


def test_a_refused_batch_draws_nothing():
    X, Y, layers, tape = network()
    rng = np.random.default_rng(5)
    step = compiled(tape, layers, X, Y, rng)
    before = rng.bit_generator.state
    with pytest.raises(error.ShapeMismatch):
        step(X[:, 1:], Y)
    assert rng.bit_generator.state == before


def test_programs_want_a_generator_and_inference_none():
    X, Y, layers, tape = network()
    inputs, loss, tape = record(tape, layers, X, Y, np.random.default_rng(1))
    for rng in (None, 3):
        with pytest.raises(error.InvalidValue, match=r"2 dropouts.*give rng="):
            program.compile_step(tape, loss=loss, params=layers, inputs=inputs, optimizer=ADAM, rng=rng)
    with pytest.raises(error.InvalidValue, match="depends on 2 dropouts; record the forward pass without them"):
        program.compile_forward(tape, output=loss, inputs=inputs)
    with pytest.raises(error.InvalidValue, match="rng is int"):
        nn.mlp_forward(tape, layers, inputs[0], dropout_rate=0.5, rng=3)
    with pytest.raises(error.InvalidValue, match="rate=1"):
        nn.dropout(tape, inputs[0], 1.0, rng=np.random.default_rng(0))
