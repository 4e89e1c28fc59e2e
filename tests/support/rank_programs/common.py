"""What the programs of ranks have in common: the rank, a network, optimisers, and how they print what they found."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

import viva_tensor as vt
from viva_tensor import autograd, nn, optim, program
from viva_tensor.program import ranks

comm = MPI.COMM_WORLD
rank, size = comm.rank, comm.size
vt.set_num_threads(1)  # the ranks share the processors

OPTIMIZERS = {
    "SGD": optim.SGD(lr=0.1),
    "momentum": optim.SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": optim.Adam(lr=0.01),
    "AdamW": optim.AdamW(lr=0.01),
    "RMSprop": optim.RMSprop(lr=0.01, momentum=0.5),
    "clipped": optim.Adam(lr=0.01, clip_norm=0.05),
}


class Unprintable(Exception):
    """An error that cannot say what it is about."""

    def __str__(self) -> str:
        raise ValueError


def compiled(
    optimizer: optim.Optimizer,
    comm: MPI.Intracomm | None,
    sizes: Sequence[int] = (8, 64, 40, 3),
    loss: Callable[..., Any] = nn.mse_loss,
    seed: int = 0,
    rate: float = 0.0,
    **options: Any,
) -> Any:
    """Compile the step of a network, as Any, so that private parts may be read; `rate` is that of dropout."""
    rng = np.random.default_rng(seed)
    x, tape = autograd.new_constant(autograd.new_tape(), np.zeros((6, sizes[0]), "f4"))
    y, tape = autograd.new_constant(tape, np.full((6, sizes[-1]), 0.5, "f4"))
    layers, tape = nn.mlp(tape, sizes, rng=rng)
    output, tape = nn.mlp_forward(tape, layers, x, dropout_rate=rate, rng=rng)
    value, tape = loss(tape, output, y)
    return program.compile_step(
        tape, loss=value, params=layers, inputs=(x, y), optimizer=optimizer, comm=comm, rng=rng, **options
    )


def attempt(function: Callable[[], object]) -> str:
    """Call a function; return the name and the words of what it raises, or nothing."""
    try:
        function()
    except BaseException as problem:
        return f"{type(problem).__name__} {'' if isinstance(problem, Unprintable) else problem}"
    return ""


def farthest(one: Any, other: Any) -> float:
    """Return the greatest difference between the parameters of two steps."""
    pairs = zip(one.state().params, other.state().params, strict=True)
    return max(float(abs(a - b).max()) for a, b in pairs)


def small_buckets() -> None:
    """Sum gradients in buckets of 512 bytes, some with several gradients and some with one."""
    ranks.BUCKET = 512  # type: ignore[attr-defined]


def tell(**found: object) -> None:
    """Print what each rank found, in the order of the ranks."""
    everything = comm.gather({"rank": rank} | found)
    if everything is not None:
        print(json.dumps(everything))
