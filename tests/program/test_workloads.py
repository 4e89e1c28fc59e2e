"""The networks that the library is measured on, for a hundred steps each, fewer of those that take long."""

import hashlib

import numpy as np
import pytest
from support import steps
from support.instruction_sets import FUSED, on_isa

from viva_tensor import autograd, kernels, optim
from viva_tensor.kernels import _dispatch

WORKLOADS = {  # sizes, batch
    "seed-demo": ((1, 4, 1), 5),
    "tabular": ((8, 64, 64, 1), 64),
    "mnist-mlp": ((784, 256, 128, 10), 128),
    "wide": ((1024, 4096, 1024), 256),
    "deep": ((512,) * 9, 512),
}
STEPS = dict.fromkeys(WORKLOADS, 100) | {"wide": 8, "deep": 10}
SGD = optim.SGD(lr=1e-3)


def digest(losses, layers):
    """Return a hash of all losses and of the weights after them."""
    found = hashlib.sha256(np.array(losses).tobytes())
    for layer in layers:
        found.update(layer.w.data.tobytes() + layer.b.data.tobytes())
    return found.hexdigest()


def compiled(name, threads):
    with kernels.num_threads(threads):
        X, Y, _, step = steps.compiled(SGD, *WORKLOADS[name])
        losses = [step(X, Y) for _ in range(STEPS[name])]
    return digest(losses, step.params(autograd.new_tape()).value)


@pytest.mark.parametrize("name", WORKLOADS)
def test_programs_have_the_bits_of_the_tape_on_every_instruction_set_with_fused_multiply_add(name):
    x, y, layers, _, _ = steps.network(*WORKLOADS[name])
    on_tape = digest(*steps.eager(layers, [(x.data, y.data)] * STEPS[name], SGD))
    assert compiled(name, 2) == on_tape
    for isa in set(FUSED) - {_dispatch.isa} if _dispatch.isa in FUSED else ():
        assert on_isa(isa, __file__, f"compiled({name!r}, 2)") == on_tape


def test_memory_stays_flat_over_a_hundred_thousand_steps():
    resource = pytest.importorskip("resource", reason="no resource module on this system")
    *arrays, _, step = steps.compiled(SGD, *WORKLOADS["seed-demo"])

    def most_after(count):
        for _ in range(count):
            step(*arrays)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    settled = most_after(1_000)
    assert most_after(100_000) - settled < 1_000  # KiB, on Linux
