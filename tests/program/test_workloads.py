"""The networks that the library is measured on, for a hundred steps each."""

import hashlib
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.steps import forward

from viva_tensor import autograd, kernels, nn, optim, program
from viva_tensor.kernels import _dispatch

WORKLOADS = {
    "seed-demo": (5, (1, 4, 1)),
    "tabular": (64, (8, 64, 64, 1)),
    "mnist-mlp": (128, (784, 256, 128, 10)),
    "wide": (256, (1024, 4096, 1024)),
    "deep": (512, (512,) * 9),
}
STEPS = 100
SGD = optim.SGD(lr=1e-3)


def recorded(name):
    """(inputs, layers, loss, tape) of one step."""
    batch, widths = WORKLOADS[name]
    rng = np.random.default_rng(0)
    x, tape = autograd.new_constant(autograd.new_tape(), rng.standard_normal((batch, widths[0]), dtype="f4"))
    y, tape = autograd.new_constant(tape, rng.standard_normal((batch, widths[-1]), dtype="f4"))
    layers = []
    for fan_in, fan_out in pairwise(widths):
        layer, tape = nn.linear(tape, fan_in, fan_out, rng=rng)
        layers.append(layer)
    loss, tape = forward(tape, layers, x, y)
    return (x, y), layers, loss, tape


def digest(losses, layers):
    """What all losses and all weights after them come to."""
    found = hashlib.sha256(np.array(losses).tobytes())
    for layer in layers:
        found.update(layer.w.data.tobytes() + layer.b.data.tobytes())
    return found.hexdigest()


def compiled(name, threads):
    inputs, layers, loss, tape = recorded(name)
    with kernels.num_threads(threads):
        step = program.compile_step(tape, loss=loss, params=layers, inputs=inputs, optimizer=SGD)
        losses = [step(*(one.data for one in inputs)) for _ in range(STEPS)]
    return digest(losses, step.params(autograd.new_tape()).value)


def eager(name):
    inputs, layers, loss, tape = recorded(name)
    state = optim.init(SGD, layers)
    losses = []
    for _ in range(STEPS):
        losses.append(float(loss.data))
        grads = autograd.backward(tape, loss)
        (layers, state), tape = optim.update(autograd.new_tape(), SGD, state, layers, grads)
        x, tape = autograd.new_constant(tape, inputs[0].data)
        y, tape = autograd.new_constant(tape, inputs[1].data)
        loss, tape = forward(tape, layers, x, y)
    return digest(losses, layers)


@pytest.mark.parametrize("name", WORKLOADS)
def test_programs_have_the_bits_of_the_tape_on_every_instruction_set_with_fused_multiply_add(name):
    on_tape = eager(name)
    assert compiled(name, 2) == on_tape
    fused = [isa for isa in _dispatch.supported() if isa in ("avx2", "avx512")]
    for isa in set(fused) - {_dispatch.isa} if _dispatch.isa in fused else ():
        done = subprocess.run(
            [sys.executable, "-c", f"import test_workloads; print(test_workloads.compiled({name!r}, 2))"],
            env=os.environ | {"VIVA_TENSOR_ISA": isa, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        assert done.stdout.strip() == on_tape


def test_memory_stays_flat_over_a_hundred_thousand_steps():
    resource = pytest.importorskip("resource", reason="no resource module on this system")
    inputs, layers, loss, tape = recorded("seed-demo")
    step = program.compile_step(tape, loss=loss, params=layers, inputs=inputs, optimizer=SGD)
    arrays = [one.data for one in inputs]

    def most_after(steps):
        for _ in range(steps):
            step(*arrays)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    settled = most_after(1_000)
    assert most_after(100_000) - settled < 1_000  # KiB, on Linux
