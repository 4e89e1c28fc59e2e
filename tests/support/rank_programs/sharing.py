"""Ranks whose sums overlap with the backward pass, and ranks that shard the optimiser's state."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

import viva_tensor as vt
from support.called import called
from support.rank_programs.common import OPTIMIZERS, attempt, comm, compiled, rank, size, small_buckets, tell
from support.steps import same, same_state
from viva_tensor import autograd, optim
from viva_tensor.distributed.agreement import local_slice

SIZES = (8, 64, 200, 3)
AVERAGE = optim.Averaging(decay=0.9)


def overlapping_sums() -> None:
    """Train with sums that overlap and with sums at the end, for several networks, optimisers and threads."""
    rng = np.random.default_rng(rank)
    found = {}

    def compare(
        name: str,
        optimizer: optim.Optimizer,
        threads: int = 1,
        rows: tuple[int, int] = (11, 40),
        least: int = 2,
        **options: Any,
    ) -> None:
        vt.set_num_threads(threads)
        steps = [compiled(optimizer, comm, overlap=overlap, **options) for overlap in (False, True)]
        sizes = options.get("sizes", (8, 64, 40, 3))
        losses = []
        for _ in range(3):
            count = rows[rank]
            X, Y = rng.standard_normal((count, sizes[0])).astype("f4"), rng.random((count, sizes[-1])).astype("f4")
            losses.append([step(X, Y) for step in steps])
        current = steps[1]._plans.current
        found[name] = [
            all(a == b for a, b in losses),
            same_state(*(step.state() for step in steps)),
            len(current.cuts) >= least and all(0 < cut <= current.executor.calls() for cut in current.cuts),
        ]

    compare("of a MiB and more", optim.SGD(lr=0.1), sizes=(8, 600, 600, 600, 3))
    small_buckets()
    for name, optimizer in OPTIMIZERS.items():
        compare(name, optimizer)
        compare(name + ", two threads", optimizer, threads=2, rows=(200, 300), sizes=(8, 80, 64, 40, 3))
    compare("dropout", optim.Adam(), rate=0.5, seed=rank)
    compare("no rows", optim.Adam(), rows=(0, 7), least=0)  # a plan for other rows comes from the recorded step
    compare("one bucket", optim.Adam(), sizes=(8, 3), least=0)
    tell(found=found)


def three_ranks() -> None:
    """Train with buckets and without, to nearly the same losses."""
    small_buckets()
    step, plain = compiled(optim.Adam(lr=0.01), comm, overlap=True), compiled(optim.Adam(lr=0.01), comm)
    X, Y = np.random.default_rng(rank).random((20 + rank, 8), "f4"), np.full((20 + rank, 3), 0.25, "f4")
    losses = [[one(X, Y) for one in (step, plain)] for _ in range(5)]
    # the sums of three in another order: each differs by at most two roundings
    assert all(abs(a - b) <= 1e-5 * b for a, b in losses)
    tell(losses=losses, fingerprint=step.fingerprint())


def sharded_state() -> None:
    """Train with a sharded state and with a whole one, for each optimiser, with sums that overlap and at the end."""
    small_buckets()
    rng = np.random.default_rng(rank)
    X, Y = rng.standard_normal((20 + rank, 8)).astype("f4"), rng.random((20 + rank, 3)).astype("f4")
    tell(
        found={
            f"{name} {overlap}": sharded(optimizer, overlap, X, Y)
            for name, optimizer in OPTIMIZERS.items()
            for overlap in (False, True)
        }
    )


def sharded(optimizer: optim.Optimizer, overlap: bool, X: Any, Y: Any) -> list[object]:
    """Return what holds of a sharded state, compared with a whole one; where sums overlap, with an average."""
    average = AVERAGE if overlap else None
    plain, sharding = (
        compiled(optimizer, comm, overlap=overlap, shard_state=shard, sizes=SIZES, average=average)
        for shard in (False, True)
    )
    losses = [tuple(step(X, Y) for step in (plain, sharding)) for _ in range(4)]
    runs = (
        step.run(X, Y, batch_size=5, shuffle=False, schedule=optim.schedules.cosine(0.1, 9))
        for step in (plain, sharding)
    )
    losses += zip(*runs, strict=True)
    state = sharding.state()
    equal = all(a == b for a, b in losses) and same_state(state, plain.state())
    if average is not None:
        mean, now = (
            one.value for one in (sharding.average_params(autograd.new_tape()), sharding.params(autograd.new_tape()))
        )
        told = [variable.data for variable in optim.leaves(mean)]
        equal = equal and not same(mean, now) and all(map(np.array_equal, state.moments[-1], told))
    full = sum(array.nbytes for slot in plain._store.moments.values() for array in slot)
    local = sum(block.memory.nbytes for block in sharding._store._kept)
    views = all(
        any(np.shares_memory(array, block.memory) for block in sharding._store._kept)
        for slot in sharding._store.moments.values()
        for array in slot
        if array.size
    )
    # a state goes on in steps with and without shards, and on one rank
    other = compiled(optimizer, comm)
    again = compiled(optimizer, comm, shard_state=True, sizes=SIZES, average=average)
    again.restore(state)
    refused = attempt(lambda: other.restore(state))
    going = [step(X, Y) for step in (plain, sharding, again)]
    alone = compiled(optimizer, None, sizes=SIZES, average=average)
    alone.restore(state)
    goes_on = going[0] == going[1] == going[2] and same_state(plain.state(), again.state())
    return [equal, [full, local], views, goes_on, refused, same_state(alone.state(), state)]


def local_rows() -> tuple[Any, Any, slice]:
    """Return inputs and targets, and the slice of this rank's rows."""
    X, Y = np.random.default_rng(0).random((60, 8), "f4"), np.full((60, 3), 0.25, "f4")
    return X, Y, local_slice(60, rank, size)


def kept(file: str) -> None:
    """Train with a sharded state and save it, with the losses of one rank that goes on."""
    X, Y, local = local_rows()
    optimizer = optim.Adam(lr=0.01, eps=1e-3)
    step, alone = compiled(optimizer, comm, shard_state=True), compiled(optimizer, None)
    for _ in range(4):
        step(X[local], Y[local])
    state = step.state()
    if rank == 0:
        alone.restore(state)
        losses = [alone(X, Y) for _ in range(3)]
        Path(file).write_bytes(pickle.dumps((state, losses)))
    tell(steps=state.steps)


def taken_up(file: str) -> None:
    """Go on from a state that other ranks saved."""
    X, Y, local = local_rows()
    state, losses = pickle.loads(Path(file).read_bytes())
    step = compiled(optim.Adam(lr=0.01, eps=1e-3), comm, shard_state=True, seed=3)
    step.restore(state)
    assert same_state(step.state(), state)
    found = [step(X[local], Y[local]) for _ in range(3)]
    different = attempt(lambda: step.restore(state._replace(steps=state.steps + rank)))
    tell(close=bool(np.allclose(found, losses, rtol=1e-5)), steps=step.steps, different=different)


if __name__ == "__main__":
    called(overlapping_sums, three_ranks, sharded_state, kept, taken_up)
