"""Fixed training runs whose bits are known: what they train on, how, and the digest of all that they end with.

Data and first weights come from whole numbers of a generator of our own, so that no bit depends on NumPy's version:
only the order in which rows are taken and the seeds of dropouts come from its generators, whose streams it keeps.
`fixed_runs.json` holds the digest of each run for each class of instruction sets. `python -m support.fixed_runs`, in
`tests/`, prints those of this machine; a change that moves them needs a reason in the changelog.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from viva_tensor import autograd, nn, optim, program
from viva_tensor.kernels import _dispatch

TABLE = Path(__file__).parents[1] / "fixed_runs.json"
# instruction sets with fused multiply-add share their bits
CLASS = {"avx2": "fused", "avx512": "fused", "baseline": "baseline"}.get(_dispatch.isa)
STEPS = 12


class Run(NamedTuple):
    sizes: tuple[int, ...]
    loss: str
    optimizer: optim.Optimizer
    activation: str = "relu"
    dtype: str = "float32"
    rows: int = 24
    dropout: float = 0.0


RUNS = {
    "descent": Run((3, 8, 2), "mse_loss", optim.SGD(lr=0.05)),
    "wide": Run((200, 150, 33, 5), "mse_loss", optim.SGD(lr=0.02, momentum=0.9), rows=130),
    "deep sums": Run((600, 9, 1), "mae_loss", optim.SGD(lr=0.001, weight_decay=0.01), rows=300),
    "nesterov": Run((5, 17, 3), "huber_loss", optim.SGD(0.05, momentum=0.8, nesterov=True), "leaky_relu", "float64"),
    "adam": Run((7, 16, 16, 4), "cross_entropy", optim.Adam(lr=0.01), "tanh"),
    "adam in double": Run((7, 16, 16, 4), "cross_entropy", optim.Adam(lr=0.01, weight_decay=0.1), "gelu", "float64"),
    "adamw": Run((4, 12, 1), "binary_cross_entropy", optim.AdamW(lr=0.01), "silu"),
    "clipped": Run((6, 20, 3), "mse_loss", optim.Adam(lr=0.02, clip_norm=0.05), "sigmoid"),
    "rmsprop": Run((6, 20, 3), "mse_loss", optim.RMSprop(lr=0.01, momentum=0.5), "softplus", "float64"),
    "dropout": Run((8, 32, 32, 2), "mse_loss", optim.SGD(lr=0.05, momentum=0.9), "relu", dropout=0.3, rows=60),
    "dropout in double": Run((8, 32, 2), "cross_entropy", optim.RMSprop(lr=0.01), "tanh", "float64", dropout=0.5),
}


def whole_numbers(seed, shape):
    """Numbers from -2²² to 2²²: the generator of Park and Miller, 1988, whose multiplier is 16807."""
    found = np.empty(shape, np.int64).reshape(-1)
    state = seed * 7919 + 1
    for i in range(-20, found.size):
        state = state * 16807 % 2147483647
        if i >= 0:
            found[i] = state % (2**23 + 1) - 2**22
    return found.reshape(shape)


def data(run):
    """Inputs and targets."""
    x = (whole_numbers(1, (run.rows, run.sizes[0])) / 2**22).astype(run.dtype)
    y = whole_numbers(2, (run.rows, run.sizes[-1])) / 2**22
    if run.loss == "cross_entropy":
        y = whole_numbers(2, (run.rows,)) % run.sizes[-1]
    elif run.loss == "binary_cross_entropy":
        y = y > 0
    return x, y.astype(run.dtype)


def first_layers(run):
    """Layers on a new tape: weights of a power of two near 1/√inputs times whole numbers, so that they are exact."""
    tape, layers = autograd.new_tape(), []
    for i, (inputs, outputs) in enumerate(zip(run.sizes, run.sizes[1:], strict=False)):
        scale = 2.0 ** -(22 + inputs.bit_length() // 2)
        w, tape = autograd.new_variable(tape, (whole_numbers(3 + i, (outputs, inputs)) * scale).astype(run.dtype))
        b, tape = autograd.new_variable(tape, (whole_numbers(90 + i, (outputs,)) * scale).astype(run.dtype))
        layers.append(nn.Linear(w, b))
    return tuple(layers), tape


def recorded(run, layers, tape, x, y, rng):
    """The loss, on a tape."""
    x, tape = autograd.new_constant(tape, x)
    y, tape = autograd.new_constant(tape, y)
    output, tape = nn.mlp_forward(
        tape, layers, x, activation=run.activation, dropout_rate=run.dropout, rng=rng if run.dropout else None
    )
    loss, tape = getattr(nn, run.loss)(tape, output, y)
    return loss, x, y, tape


def compiled(run, rng):
    layers, tape = first_layers(run)
    loss, x, y, tape = recorded(run, layers, tape, *data(run), np.random.default_rng(0))
    return program.compile_step(
        tape, loss=loss, params=layers, inputs=(x, y), optimizer=run.optimizer, rng=rng if run.dropout else None
    )


def digest(losses, params, moments):
    found = hashlib.sha256(np.asarray(losses, "<f8").tobytes())
    for array in (*params, *(one for slot in moments for one in slot)):
        found.update(np.asarray(array, array.dtype.newbyteorder("<"), order="C").tobytes())
    return found.hexdigest()[:32]


def by_step(run, steps=STEPS):
    """All steps, compiled."""
    rng = np.random.default_rng(11)
    step, batch = compiled(run, rng), data(run)
    losses = [step(*batch) for _ in range(steps)]
    return losses, step, rng


def in_program(name):
    losses, step, _ = by_step(RUNS[name])
    return digest(losses, step.state().params, step.state().moments)


def eagerly(name):
    """The same steps, eager."""
    run, rng, losses = RUNS[name], np.random.default_rng(11), []
    layers, tape = first_layers(run)
    state = optim.init(run.optimizer, layers)
    for _ in range(STEPS):
        loss, _, _, tape = recorded(run, layers, tape, *data(run), rng)
        losses.append(float(loss.data))
        grads = autograd.backward(tape, loss)
        (layers, state), tape = optim.update(autograd.new_tape(), run.optimizer, state, layers, grads)
    return digest(losses, [one.data for layer in layers for one in layer], state.moments)


def resumed(name, folder):
    """The same steps, half of them after a checkpoint was written and read by another program."""
    from viva_tensor import checkpoint

    run = RUNS[name]
    losses, step, rng = by_step(run, STEPS // 2)
    kept = checkpoint.Checkpoint(step.state(), run.optimizer, rng, history={"loss": losses})
    kept = checkpoint.load(checkpoint.save(Path(folder) / "half.safetensors", kept))
    step = compiled(run, kept.rng)
    step.restore(kept.state)
    batch = data(run)
    losses = kept.history["loss"] + [step(*batch) for _ in range(STEPS - STEPS // 2)]
    return digest(losses, step.state().params, step.state().moments)


def in_batches(name):
    """Three epochs of shuffled batches in one call."""
    run, rng = RUNS[name], np.random.default_rng(11)
    step = compiled(run, rng)
    losses = step.run(*data(run), batch_size=7, epochs=3, rng=rng)
    return digest(losses, step.state().params, step.state().moments)


def digests():
    """Of each run: of its steps, and of its batches."""
    return {name: [in_program(name), in_batches(name)] for name in RUNS}


def known():
    """The stored digests of this class of instruction sets."""
    return json.loads(TABLE.read_text())[CLASS]


if __name__ == "__main__":
    json.dump(digests(), sys.stdout, indent=2)
