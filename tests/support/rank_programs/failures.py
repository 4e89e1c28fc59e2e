"""Ranks, one of which fails, is interrupted or asks for something else: all stop at the same step and go on."""

import signal
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from support.called import called
from support.rank_programs.common import Unprintable, attempt, comm, compiled, rank, small_buckets, tell
from support.steps import same_state
from viva_tensor import nn, optim, program

X, Y = np.ones((6, 8), "f4"), np.ones((6, 3), "f4")


def failing_ranks() -> None:
    """Fail on one rank before, in and after steps, and differ; whether a failed step changed anything."""
    step = compiled(optim.SGD(lr=0.1), comm)
    step(X, Y)
    before = step.fingerprint()
    found = [
        attempt(lambda: step(X if rank == 0 else X[:, :5].copy(), Y)),
        attempt(lambda: step.run(X, Y, batch_size=0 if rank == 0 else 2, shuffle=False)),
    ]
    unchanged = step.fingerprint() == before

    def callback(epoch: int, loss: float) -> None:
        if rank == 1:
            raise KeyError("stop")

    found += [
        attempt(lambda: step.run(X, Y, batch_size=3, epochs=1, shuffle=False, callback=callback)),
        attempt(lambda: step.run(X, Y, batch_size=3, epochs=5, shuffle=False, callback=callback)),
        attempt(lambda: compiled(optim.SGD(lr=0.1), comm, sizes=(8, 5 + rank, 3))),
        attempt(lambda: compiled(optim.SGD(lr=0.1 + rank), comm)),
        attempt(lambda: step(X, Y)),
    ]
    tell(found=found, unchanged=unchanged)


def interrupted(*_: object) -> float:
    """Press Ctrl-C."""
    signal.raise_signal(signal.SIGINT)
    return 0.01


def unlucky(*_: object) -> NoReturn:
    """Run out of memory."""
    raise MemoryError("no room")


def unprintable(*_: object) -> NoReturn:
    """Raise an error that cannot be printed."""
    raise Unprintable


class Unshuffled(np.random.Generator):
    """A generator that runs out of memory on rank 1."""

    if rank == 1:
        permutation = unlucky  # type: ignore[assignment]


def any_moment(*options: str) -> None:
    """Let anything happen on rank 1 at any moment of runs and steps, and train a twin to which nothing happens."""
    small_buckets()
    chosen: dict[str, Any] = dict.fromkeys(options, True)
    step, twin = (compiled(optim.Adam(lr=0.01), comm, rate=0.5, **chosen) for _ in range(2))
    step(X, Y)
    twin(X, Y)
    found: list[list[object]] = []
    handler = signal.getsignal(signal.SIGINT)

    def both(action: Callable[[], object]) -> None:
        text = attempt(action)
        found.append([text, same_state(step.state(), twin.state()), signal.getsignal(signal.SIGINT) is handler])

    def run(**more: Any) -> Callable[[], object]:
        return lambda: step.run(X, Y, **({"batch_size": 2, "shuffle": False} | more))

    for what in (interrupted, unlucky, unprintable, lambda: -1.0, lambda: None):
        both(run(schedule=lambda number, what=what: what() if rank == 1 and number == 2 else 0.01))
    twin.run(X, Y, batch_size=2, shuffle=False)
    both(run(callback=lambda *_: rank == 1 and interrupted()))  # after the last step
    twin.run(X, Y, batch_size=2, shuffle=False)
    both(run(callback=lambda *_: rank == 1 and unlucky(), epochs=2))  # and before another one
    both(run(epochs=1 + rank))
    both(run(shuffle=True, rng=Unshuffled(np.random.PCG64(0))))
    if options:
        in_the_middle(step, lambda: both(lambda: step(X, Y)))
    plan = step._plans.at
    step._plans.at = lambda shapes, *more: unlucky() if rank == 1 else plan(shapes, *more)
    both(lambda: step(X, Y))
    step._plans.at = plan
    both(lambda: step(X[:0], Y[:0]))
    tell(found=found, last=[step(X, Y) == twin(X, Y), same_state(step.state(), twin.state())])


def in_the_middle(step: Any, act: Callable[[], object]) -> None:
    """Do something while rank 1 is interrupted in the middle of a step, with two sums under way."""
    start = step._reducer.start

    def after_start() -> None:
        start()
        if rank == 1 and len(step._reducer._requests) == 2:
            signal.raise_signal(signal.SIGINT)

    step._reducer.start = after_start
    act()
    step._reducer.start = start


def differing() -> None:
    """Compile with options and programs that differ between the ranks."""
    plain = optim.SGD(lr=0.1)
    nothing: Any = None
    found = [
        attempt(lambda: compiled(plain, comm, overlap=rank == 0)),
        attempt(lambda: compiled(plain, comm, shard_state=rank == 0)),
        attempt(
            lambda: (
                compiled(plain, comm, rate=0.5)
                if rank == 0
                else program.compile_step(nothing, loss=nothing, params=(), inputs=(), optimizer=plain, comm=comm)
            )
        ),
        attempt(lambda: compiled(plain, comm, loss=nn.huber_loss if rank else nn.mse_loss)),
    ]
    tell(found=found)


def compiling() -> None:
    """Compile a step."""
    tell(found=attempt(lambda: compiled(optim.SGD(), comm)))


if __name__ == "__main__":
    called(failing_ranks, any_moment, differing, compiling)
