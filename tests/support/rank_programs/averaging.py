"""Ranks whose steps are those of one rank: rows in uneven shares or shared, the rate of rank 0, and times."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI

from support.called import called
from support.rank_programs.common import attempt, comm, compiled, farthest, rank, size, small_buckets, tell
from support.steps import same_state
from viva_tensor import autograd, nn, optim, program

STEADY = {  # ε = 0.001 keeps Adam from dividing rounding by rounding
    "SGD": optim.SGD(lr=0.1),
    "momentum": optim.SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": optim.Adam(lr=0.01, eps=1e-3),
    "AdamW": optim.AdamW(lr=0.01, eps=1e-3),
    "RMSprop": optim.RMSprop(lr=0.01, eps=1e-3),
    "clipped": optim.Adam(lr=0.01, eps=1e-3, clip_norm=0.05),
}


def uneven_shares() -> None:
    """Train on shares of the rows, and on all of them alone."""
    rng = np.random.default_rng(5)
    X, Y = rng.standard_normal((90, 8)).astype("f4"), rng.random((90, 3)).astype("f4")
    ends = [0, 11, 90] if size == 2 else [0, 11, 50, 90]
    local = slice(ends[rank], ends[rank + 1])
    found = {}
    for name, optimizer in STEADY.items():
        for loss in (nn.mse_loss, nn.binary_cross_entropy):
            for micro_batch in (None, 17):  # which the first share does not fill
                alone, together = (
                    compiled(optimizer, None, loss=loss),
                    compiled(optimizer, comm, loss=loss, seed=rank, micro_batch=micro_batch),
                )
                losses = [(alone(X, Y), together(X[local], Y[local])) for _ in range(10)]
                far = max(abs(a - b) / a for a, b in losses)
                key = f"{name} {loss.__name__} {micro_batch}"
                found[key] = [far, farthest(alone, together), together.fingerprint()]
    tell(found=found)


def whole_epochs() -> None:
    """Make a step and epochs on shares of any size, also without rows."""
    step = compiled(optim.Adam(lr=0.01), comm)

    def data(rows: int) -> tuple[Any, Any]:
        return np.full((rows, 8), rank + 1, "f4"), np.full((rows, 3), 0.25, "f4")

    X, Y = data([13, 0, 5][rank])
    loss = step(X, Y) if rank == 1 else step(X[:4], Y[:4])  # a rank without any rows takes part in single steps
    X, Y = data([13, 2, 5][rank])
    seen: list[float] = []
    losses = step.run(
        X, Y, batch_size=4, epochs=3, rng=np.random.default_rng(rank), callback=lambda epoch, loss: seen.append(loss)
    )
    assert seen == losses
    tell(loss=loss, losses=losses, steps=step.steps, fingerprint=step.fingerprint())


def shared_rows() -> None:
    """Run on rows that all ranks have, alone and together, and with what differs between the ranks."""
    rng = np.random.default_rng(5)
    X, Y = rng.standard_normal((50, 8)).astype("f4"), rng.random((50, 3)).astype("f4")
    rows = np.arange(1, 47)  # the last batch has one row, for one of the ranks
    kept: dict[str, Any] = {"batch_size": 9, "epochs": 3, "rows": rows}
    alone, together = (compiled(optim.Adam(lr=0.01, eps=1e-3), one) for one in (None, comm))
    losses = [
        step.run(X, Y, rng=np.random.default_rng(4), shared=step is together, **kept) for step in (alone, together)
    ]
    far = farthest(alone, together)

    def run(**differing: Any) -> Callable[[], object]:
        return lambda: together.run(X, Y, **({"rng": rng} | kept | differing), shared=True)

    found = [
        attempt(run(rng=np.random.default_rng(rank))),
        attempt(run(rows=rows[rank:])),
        attempt(run(rows=rows + rank)),
        attempt(lambda: together.run(X, Y + rank, shared=True, shuffle=False, **kept)),
    ]
    tell(losses=losses, far=far, steps=together.steps, found=found)


def alone() -> None:
    """Train one rank with a communicator and without."""
    X, Y = np.ones((6, 8), "f4"), np.ones((6, 3), "f4")
    steps = compiled(optim.Adam(), comm, rate=0.5), compiled(optim.Adam(), None, rate=0.5)
    losses = [[step(X, Y) for _ in range(3)] for step in steps]
    tell(same=losses[0] == losses[1], kind=type(steps[0]).__name__)


def of_one_layer(dtype: str, comm: MPI.Intracomm, factor: float = 1) -> Any:
    """Compile the step of a layer whose loss is taken times a factor."""
    x, tape = autograd.new_constant(autograd.new_tape(), np.ones((4, 3), dtype))
    layer, tape = nn.linear(tape, 3, 2, rng=np.random.default_rng(0), dtype=dtype)
    output, tape = nn.linear_forward(tape, layer, x)
    target, tape = autograd.new_constant(tape, np.zeros((4, 2), dtype))
    loss, tape = nn.mse_loss(tape, output, target)
    scale, tape = autograd.new_constant(tape, np.array(factor, dtype))
    loss, tape = autograd.mul(tape, loss, scale)
    return program.compile_step(
        tape, loss=loss, params=layer, inputs=(x, target), optimizer=optim.Adam(lr=0.3), comm=comm
    )


def rate_of_rank_0(dtype: str) -> None:
    """Give the ranks other rates of learning and decay, and numbers beyond the dtype; nothing warns."""
    warnings.simplefilter("error")
    X, Y = np.ones((4, 3), dtype), np.ones((4, 2), dtype)
    step, twin = of_one_layer(dtype, comm), of_one_layer(dtype, comm)
    for one, factor in ((step, 1 + rank), (twin, 1)):
        rates = optim.Rates(0.1 / 3 * factor, weight_decay=0.7 / 3 * factor)
        one.run(X, Y, batch_size=2, shuffle=False, schedule=lambda number, rates=rates: rates)
    step.lr = 0.7 + rank
    twin.lr = 0.7
    step(X, Y)
    twin(X, Y)
    most = float(np.finfo(dtype).max)
    loss = of_one_layer(dtype, comm, most / 1e4)(X, Y * 80)  # each rank's is below the most, but not times its rows
    tell(same=step.fingerprint() == twin.fingerprint(), bits=step.fingerprint(), loss=str(loss))


def times(*options: str) -> None:
    """Ask for times on rank 0 while rank 1 is slow, and train a twin without."""
    small_buckets()
    chosen: dict[str, Any] = dict.fromkeys(options, True)
    step, twin = (compiled(optim.Adam(), comm, **chosen) for _ in range(2))
    X, Y = np.ones((6, 8), "f4"), np.ones((6, 3), "f4")
    step(X, Y)
    none = step.times()
    step.timed = rank == 0

    def slow(number: int) -> float:
        time.sleep(0.05 * (rank == 1))
        return 0.001

    step.run(X, Y, batch_size=2, epochs=2, shuffle=False, schedule=slow)
    times = step.times()
    step.timed = False
    step(X, Y)
    step(X, Y)
    twin(X, Y)
    twin.run(X, Y, batch_size=2, epochs=2, shuffle=False)
    twin(X, Y)
    twin(X, Y)
    tell(none=none, times=times._asdict(), after=step.times().steps, same=same_state(step.state(), twin.state()))


if __name__ == "__main__":
    called(uneven_shares, whole_epochs, shared_rows, alone, rate_of_rank_0, times)
