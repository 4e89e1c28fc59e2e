"""A compiled step whose bits are compared between processes, threads and interrupted runs."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from support.networks import network
from viva_tensor import autograd, nn, optim, program

PATIENCE = 60  # seconds until a thread or a process counts as hanging
Compiled = tuple[program.Step, Any, Any, Any]


def compiled(seed: int = 0, sizes: Sequence[int] = (30, 64, 32, 3), batch: int = 200, dropout: float = 0.0) -> Compiled:
    """Return (step, predict, X, Y), large enough for a team of two; by its momentum every step leaves its trace."""
    rng = np.random.default_rng(seed)
    layers, tape = network(rng, np.float32, sizes)
    X, Y = (rng.standard_normal((batch, size)).astype(np.float32) for size in (sizes[0], sizes[-1]))
    x, tape = autograd.new_constant(tape, X)
    y, tape = autograd.new_constant(tape, Y)
    hidden: Any = x
    for layer in layers[:-1]:
        hidden, tape = nn.linear_forward(tape, layer, hidden)
        hidden, tape = nn.relu(tape, hidden)
        if dropout:
            hidden, tape = nn.dropout(tape, hidden, dropout, rng=rng)
    output, tape = nn.linear_forward(tape, layers[-1], hidden)
    loss, tape = nn.mse_loss(tape, output, y)
    sgd = optim.SGD(lr=0.01, momentum=0.9)
    draws = np.random.default_rng(seed) if dropout else None
    step = program.compile_step(tape, loss=loss, params=layers, inputs=(x, y), optimizer=sgd, rng=draws)
    predict = None if dropout else program.compile_forward(tape, output=output, inputs=(x,))
    return step, predict, X, Y


def digest(step: program.Step) -> str:
    """Return a hash of all that a step changes."""
    params, moments, steps, _ = step.state()
    parts = [array.tobytes() for arrays in (params, *moments) for array in arrays]
    return hashlib.sha256(b"".join(parts) + str(steps).encode()).hexdigest()


def trained(seed: int = 0, steps: int = 5, **options: Any) -> str:
    """Return the hash after some steps of a new program."""
    step, _, X, Y = compiled(seed, **options)
    for _ in range(steps):
        step(X, Y)
    return digest(step)


def replayed(made: int, batch_size: int, shuffle: bool, sizes: Sequence[int], batch: int) -> program.Step:
    """Return a new step that has made so many steps of a run, whose generator was seeded with 1, call by call."""
    twin, _, X, Y = compiled(sizes=sizes, batch=batch)
    rng = np.random.default_rng(1)
    while twin.steps < made:
        order = rng.permutation(batch) if shuffle else np.arange(batch)
        for begin in range(0, min(batch, batch_size * (made - twin.steps)), batch_size):
            rows = order[begin : begin + batch_size]
            twin(X[rows], Y[rows])
    return twin


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Call work(0), work(1), ... at once, each in a Python thread of its own; return what they gave."""
    results: list[Any] = [None] * count
    start = threading.Barrier(count)

    def call(index: int) -> None:
        start.wait()
        results[index] = work(index)

    workers = [threading.Thread(target=call, args=(index,)) for index in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE)
    assert not any(worker.is_alive() for worker in workers), "threads hang"
    return results
