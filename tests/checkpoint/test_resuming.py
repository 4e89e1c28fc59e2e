"""Runs that go on from a file as if they had never stopped."""

import os
import subprocess
import sys

import numpy as np
import pytest
from support.checkpoints import SIZES, same
from support.networks import network

from viva_tensor import autograd, checkpoint, nn, optim, program
from viva_tensor.checkpoint import Checkpoint


def compiled(optimizer):
    """A step of a small network, and its data."""
    rng = np.random.default_rng(4)
    layers, tape = network(rng, "float32", SIZES)
    X = rng.standard_normal((50, 3)).astype(np.float32)
    Y = rng.standard_normal((50, 2)).astype(np.float32)
    x, tape = autograd.new_constant(tape, X[:16])
    y, tape = autograd.new_constant(tape, Y[:16])
    pred, tape = nn.mlp_forward(tape, layers, x)
    loss, tape = nn.mse_loss(tape, pred, y)
    return program.compile_step(tape, loss=loss, params=layers, inputs=(x, y), optimizer=optimizer), X, Y


def rate(number):
    return 0.05 / number**0.5


def train(step, X, Y, rng, epochs):
    return step.run(X, Y, batch_size=16, epochs=epochs, rng=rng, schedule=rate)


def resume(source, target):
    """Two more epochs from a file to a file; what the fresh process below runs."""
    kept = checkpoint.load(source)
    step, X, Y = compiled(kept.optimizer)
    step.restore(kept.state)
    losses = kept.history["loss"] + train(step, X, Y, kept.rng, 2)
    checkpoint.save(target, Checkpoint(step.state(), kept.optimizer, kept.rng, kept.epoch + 2, {"loss": losses}))


@pytest.mark.parametrize(
    "optimizer",
    [
        optim.SGD(lr=0.05),
        optim.SGD(lr=0.05, momentum=0.9, nesterov=True, clip_norm=0.5),
        optim.Adam(lr=0.01, betas=(0.8, 0.99)),
        optim.AdamW(lr=0.01),
        optim.RMSprop(lr=0.01, momentum=0.5),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_run_goes_on_in_a_fresh_process_bit_for_bit(tmp_path, optimizer):
    step, X, Y = compiled(optimizer)
    rng = np.random.default_rng(9)
    losses = train(step, X, Y, rng, 4)

    first, X, Y = compiled(optimizer)
    shuffle = np.random.default_rng(9)
    half = train(first, X, Y, shuffle, 2)
    path = checkpoint.save(tmp_path / "half", Checkpoint(first.state(), optimizer, shuffle, 2, {"loss": half}))
    code = "import sys, test_resuming; test_resuming.resume(*sys.argv[1:])"
    folder = os.path.dirname(__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, *filter(None, sys.path)])}
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "whole"], check=True, env=environment)

    whole = checkpoint.load(tmp_path / "whole")
    assert same(whole.state, step.state())
    assert whole.optimizer == optimizer
    assert whole.epoch == 4
    assert whole.history == {"loss": losses}
    assert same(whole.rng.bit_generator.state, rng.bit_generator.state)
    assert not same(whole.state, first.state())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork and SIGKILL, which Windows lacks")
def test_a_run_that_is_killed_again_and_again_ends_like_one_that_is_not():
    code = ["-c", "import runpy, sys; runpy.run_module('support.killed_runs', run_name='__main__')", "4"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, *code], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "4 kills" in done.stdout
    assert "a full disk: [Errno 27] File too large: " in done.stdout


def test_dropouts_go_on_too(tmp_path):
    def compiled_with(rng):
        x, tape = autograd.new_constant(autograd.new_tape(), np.ones((4, 3)))
        w, tape = autograd.new_variable(tape, np.ones((3, 2)))
        h, tape = nn.dropout(tape, x, 0.5, rng=np.random.default_rng(0))
        y, tape = autograd.matmul(tape, h, w)
        loss, tape = autograd.mean(tape, y)
        return program.compile_step(tape, loss=loss, params=w, inputs=(x,), optimizer=optim.SGD(), rng=rng)

    rng, X = np.random.default_rng(3), np.ones((4, 3))
    step = compiled_with(rng)
    step(X)
    path = checkpoint.save(tmp_path / "c", Checkpoint(step.state(), optim.SGD(), metadata={"dropout": rng}))
    kept = checkpoint.load(path)
    again = compiled_with(kept.metadata["dropout"])
    again.restore(kept.state)
    assert [again(X) for _ in range(5)] == [step(X) for _ in range(5)]
