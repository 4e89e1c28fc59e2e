"""What each rank does for stress/ranks.py: runs of one step after another, each disturbed on one of the ranks.

mpiexec -n N python -m mpi4py -m stress.interrupted_ranks SECONDS SEED
"""

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import numpy as np
from mpi4py import MPI

import viva_tensor as vt
from viva_tensor import autograd, error, nn, optim, program
from viva_tensor.program import ranks

comm = MPI.COMM_WORLD
rank, size = comm.rank, comm.size
HANGING = 60  # seconds of a run


class Failed(Exception):
    """What a schedule or a callback raises."""


def fail() -> NoReturn:
    """Raise it."""
    raise Failed


def compiled(seed: int, **options: Any) -> Any:
    """Compile a step, with its private parts to be disturbed."""
    rng = np.random.default_rng(seed)
    x, tape = autograd.new_constant(autograd.new_tape(), np.zeros((8, 16), "f4"))
    y, tape = autograd.new_constant(tape, np.zeros((8, 3), "f4"))
    layers, tape = nn.mlp(tape, (16, 64, 64, 48, 3), rng=rng)
    output, tape = nn.mlp_forward(tape, layers, x, dropout_rate=0.2, rng=rng)
    loss, tape = nn.mse_loss(tape, output, y)
    optimizer = optim.Adam(lr=1e-3, clip_norm=1.0)
    return program.compile_step(
        tape, loss=loss, params=layers, inputs=(x, y), optimizer=optimizer, comm=comm, rng=rng, **options
    )


@contextmanager
def interrupted(delay: float) -> Iterator[None]:
    """Press Ctrl-C after some seconds."""
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    yield
    timer.join()


@contextmanager
def out_of_memory(step: Any, at: int) -> Iterator[None]:
    """Let an allocation fail at some start of a sum, where only what computes gradients may fail so."""
    backward, start, calls = step._backward, step._reducer.start, 0

    def unlucky() -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise MemoryError
        start()

    def gradients(inputs: Any) -> Any:
        step._reducer.start = unlucky
        try:
            return backward(inputs)
        finally:
            del step._reducer.start

    step._backward = gradients
    yield
    del step._backward


@contextmanager
def disturbed(step: Any, kind: int, delay: float, at: int) -> Iterator[dict[str, Callable[..., Any]]]:
    """Let one of four things happen in a run; give what the run takes for it."""
    first = step.steps
    if kind == 0:
        with interrupted(delay):
            yield {}
    elif kind == 1:
        yield {"schedule": lambda number: fail() if number == first + at else 1e-3}
    elif kind == 2:
        yield {"callback": lambda epoch, loss: fail() if epoch == 1 + at % 3 else None}
    else:
        with out_of_memory(step, at):
            yield {}


def outcome(run: Callable[[], object]) -> str:
    """Call a run; return what ended it, which "none" did if it came to its end."""
    try:
        run()
    except (KeyboardInterrupt, Failed, MemoryError) as problem:
        return type(problem).__name__
    except error.RankError as problem:
        return str(problem)
    return "none"


def main(seconds: float, seed: int) -> None:
    """Disturb runs for so many seconds; all ranks must have raised or none, and have the same bits afterwards."""
    vt.set_num_threads(1)
    ranks.BUCKET = 4096  # type: ignore[attr-defined]
    steps = [compiled(seed, overlap=overlap, shard_state=shard) for overlap in (False, True) for shard in (False, True)]

    def handler(*_: object) -> None:
        # what comes after a run, before the next one, would end a program; here it is let go
        if any(step._interrupts._depth for step in steps):
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handler)
    own = np.random.default_rng(rank)
    X, Y = own.random((23 + 9 * rank, 16), "f4"), own.random((23 + 9 * rank, 3), "f4")
    common = np.random.default_rng(seed)  # draws alike on every rank
    counts = dict.fromkeys(["KeyboardInterrupt", "Failed", "MemoryError", "none"], 0)
    end = comm.bcast(time.time() + seconds)
    while comm.bcast(time.time() < end):
        step = steps[common.integers(len(steps))]
        victim = int(common.integers(size))
        what = int(common.integers(4)), common.random() * 0.02, int(common.integers(1, 25))
        first = step.steps
        faulthandler.dump_traceback_later(HANGING, exit=True)
        taken: dict[str, Any] = {"batch_size": 8, "epochs": 3, "rng": own, "schedule": lambda number: 1e-3}
        if rank == victim:
            with disturbed(step, *what) as more:
                happened = outcome(partial(step.run, X, Y, **taken | more))
        else:
            happened = outcome(partial(step.run, X, Y, **taken))
        everything = comm.allgather(happened)
        told = everything[victim]
        counts[told] += 1
        wanted = "none" if told == "none" else f"step: rank {victim} failed with {told}: "
        assert all(one == wanted for i, one in enumerate(everything) if i != victim), everything
        state = step.state()
        digest = ranks._digest((*state.params, *(array for slot in state.moments for array in slot), state.steps))
        assert len(set(comm.allgather(digest))) == 1
        assert told != "none" or state.steps > first
        assert len(set(comm.allgather(step(X[:8], Y[:8])))) == 1
    if rank == 0:
        print(*(f"{count} x {name}" for name, count in counts.items()), sep=", ")
        assert all(counts.values()), counts


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
