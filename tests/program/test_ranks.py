"""Steps whose gradients are averaged over ranks. Each test starts its ranks under mpiexec and reads what they print."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from viva_tensor import autograd, nn, optim
from viva_tensor.program.passes import PASSES
from viva_tensor.program.ranks import gradients
from viva_tensor.program.recording import record

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
needs_mpi = pytest.mark.skipif(
    MPIEXEC is None or find_spec("mpi4py") is None, reason='mpi4py and mpiexec; pip install "viva-tensor[mpi]"'
)

START = """
import json, sys
import numpy as np
from mpi4py import MPI
import viva_tensor as vt
from viva_tensor import autograd, error, nn, optim, program

comm = MPI.COMM_WORLD
rank, size = comm.rank, comm.size
vt.set_num_threads(1)

def compiled(optimizer, comm, sizes=(8, 64, 40, 3), loss=nn.mse_loss, seed=0, rate=0.0):
    rng = np.random.default_rng(seed)
    x, tape = autograd.new_constant(autograd.new_tape(), np.zeros((6, sizes[0]), "f4"))
    y, tape = autograd.new_constant(tape, np.full((6, sizes[-1]), 0.5, "f4"))
    layers, tape = nn.mlp(tape, sizes, rng=rng)
    output, tape = nn.mlp_forward(tape, layers, x, dropout_rate=rate, rng=rng)
    value, tape = loss(tape, output, y)
    return program.compile_step(
        tape, loss=value, params=layers, inputs=(x, y), optimizer=optimizer, comm=comm, rng=rng
    )

def tell(**found):
    everything = comm.gather({"rank": rank} | found)
    if rank == 0:
        print(json.dumps(everything))
"""


def ranks(count, code, timeout=120):
    """What each rank told, in the order of the ranks, and the process."""
    done = subprocess.run(
        [MPIEXEC, "-n", str(count), sys.executable, "-c", START + code],
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return json.loads(done.stdout or "[]"), done


@needs_mpi
@pytest.mark.parametrize("count", [2, 3])
def test_ranks_with_uneven_shares_match_one_rank_with_all_rows(count):
    told, done = ranks(
        count,
        """
rng = np.random.default_rng(5)
X, Y = rng.standard_normal((90, 8)).astype("f4"), rng.random((90, 3)).astype("f4")
ends = [0, 11, 90] if size == 2 else [0, 11, 50, 90]
own = slice(ends[rank], ends[rank + 1])
found = {}
for name, optimizer in {
    "SGD": optim.SGD(lr=0.1),
    "momentum": optim.SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": optim.Adam(lr=0.01, eps=1e-3),
    "AdamW": optim.AdamW(lr=0.01, eps=1e-3),
    "RMSprop": optim.RMSprop(lr=0.01, eps=1e-3),
    "clipped": optim.Adam(lr=0.01, eps=1e-3, clip_norm=0.05),
}.items():
    for loss in (nn.mse_loss, nn.binary_cross_entropy):
        alone, together = compiled(optimizer, None, loss=loss), compiled(optimizer, comm, loss=loss, seed=rank)
        losses = [(alone(X, Y), together(X[own], Y[own])) for _ in range(10)]
        far = max(abs(a - b).max() for a, b in zip(alone.state().params, together.state().params))
        found[f"{name} {loss.__name__}"] = [max(abs(a - b) / a for a, b in losses), float(far), together.fingerprint()]
tell(found=found)
""",
    )
    assert len(told) == count, done.stderr
    for name, (_, _, fingerprint) in told[0]["found"].items():
        for one in told:
            loss, weights, own = one["found"][name]
            # float32 sums in another order; ε = 0.001 keeps Adam from dividing rounding by rounding
            assert loss < 1e-5, name
            assert weights < 1e-4, name
            assert own == fingerprint, name


@needs_mpi
def test_whole_epochs_with_shares_of_any_size_and_the_same_bits_again():
    code = """
step = compiled(optim.Adam(lr=0.01), comm)
rows = [13, 0, 5][rank]
X, Y = np.full((rows, 8), rank + 1, "f4"), np.full((rows, 3), 0.25, "f4")
if rank == 1:      # a rank without any rows takes part in single steps
    loss = step(X, Y)
else:
    loss = step(X[:4], Y[:4])
rows = [13, 2, 5][rank]
X, Y = np.full((rows, 8), rank + 1, "f4"), np.full((rows, 3), 0.25, "f4")
seen = []
losses = step.run(
    X, Y, batch_size=4, epochs=3, rng=np.random.default_rng(rank), callback=lambda epoch, loss: seen.append(loss)
)
assert seen == losses
tell(loss=loss, losses=losses, steps=step.steps, fingerprint=step.fingerprint())
"""
    told, done = ranks(3, code)
    assert len(told) == 3, done.stderr
    assert told[0]["steps"] == 1 + 3 * 4  # the longest share makes four steps of an epoch
    assert [one | {"rank": 0} for one in told] == [told[0]] * 3
    assert ranks(3, code)[0] == told


@needs_mpi
def test_shared_rows_make_the_batches_of_one_rank():
    told, done = ranks(
        3,
        """
rng = np.random.default_rng(5)
X, Y = rng.standard_normal((50, 8)).astype("f4"), rng.random((50, 3)).astype("f4")
rows = np.arange(1, 47)     # the last batch has one row, for one of the ranks
kept = dict(batch_size=9, epochs=3, rows=rows)
alone, together = (compiled(optim.Adam(lr=0.01, eps=1e-3), one) for one in (None, comm))
losses = [
    step.run(X, Y, rng=np.random.default_rng(4), shared=step is together, **kept) for step in (alone, together)
]
far = max(float(abs(a - b).max()) for a, b in zip(alone.state().params, together.state().params))
found = []
for more in ({"rng": np.random.default_rng(rank)}, {"rows": rows[rank:]}, {"rows": rows + rank}):
    try:
        together.run(X, Y, **({"rng": rng} | kept | more), shared=True)
    except error.RankError as problem:
        found.append(str(problem))
    except error.InvalidValue as problem:
        found.append(str(problem))
tell(losses=losses, far=far, steps=together.steps, found=found)
""",
    )
    assert len(told) == 3, done.stderr
    for one in told:
        alone, together = one["losses"]
        assert together == pytest.approx(alone, rel=1e-5)  # float32 sums in another order
        assert together == told[0]["losses"][1]
        assert one["far"] < 1e-4
        assert one["steps"] == 3 * 6
        assert one["found"][0].startswith("run: rng is {'bit_generator': 'PCG64'")
        assert "on rank 0 and" in one["found"][1]
        assert one["found"][1].startswith("run: the rows is ")
        assert one["found"][2].startswith("run: the rows is ")


@needs_mpi
def test_what_fails_on_one_rank_is_raised_on_all_and_changes_nothing():
    told, done = ranks(
        2,
        """
step = compiled(optim.SGD(lr=0.1), comm)
X, Y = np.ones((6, 8), "f4"), np.ones((6, 3), "f4")
step(X, Y)
before, found = step.fingerprint(), []

def attempt(function):
    try:
        function()
    except Exception as problem:
        found.append(f"{type(problem).__name__} {problem}")
    else:
        found.append("")

attempt(lambda: step(X if rank == 0 else X[:, :5].copy(), Y))
attempt(lambda: step.run(X, Y, batch_size=0 if rank == 0 else 2, shuffle=False))
unchanged = step.fingerprint() == before

def callback(epoch, loss):
    if rank == 1:
        raise KeyError("stop")

attempt(lambda: step.run(X, Y, batch_size=3, epochs=1, shuffle=False, callback=callback))
attempt(lambda: step.run(X, Y, batch_size=3, epochs=5, shuffle=False, callback=callback))
attempt(lambda: compiled(optim.SGD(lr=0.1), comm, sizes=(8, 5 + rank, 3)))
attempt(lambda: compiled(optim.SGD(lr=0.1 + rank), comm))
attempt(lambda: step(X, Y))
tell(found=found, unchanged=unchanged)
""",
    )
    assert len(told) == 2, done.stderr
    first, second = (one["found"] for one in told)
    assert all(one["unchanged"] for one in told)
    assert first[0].startswith(
        "RankError step: rank 1 failed with ShapeMismatch: step: expected shape (6, 8), got (6, 5)"
    )
    assert second[0].startswith("ShapeMismatch step: expected shape (6, 8), got (6, 5)")
    assert first[1].startswith("InvalidValue run: batch_size=0")
    assert second[1].startswith("RankError step: rank 0 failed with InvalidValue: run: batch_size=0")
    for i in (2, 3):
        assert first[i] == "RankError step: rank 1 failed with KeyError: 'stop'"
        assert second[i] == "KeyError 'stop'"
    assert first[4] == second[4]
    assert "the parameters' shapes is [(5, 8), (5,), (3, 5), (3,)] on rank 0 and [(6, 8), " in first[4]
    assert "optimizer is SGD(lr=0.1, " in first[5]
    assert first[5] == second[5]
    assert first[6] == second[6] == ""


@needs_mpi
def test_one_rank_makes_the_step_it_makes_without_a_communicator():
    told, done = ranks(
        1,
        """
X, Y = np.ones((6, 8), "f4"), np.ones((6, 3), "f4")
steps = compiled(optim.Adam(), comm, rate=0.5), compiled(optim.Adam(), None, rate=0.5)
losses = [[step(X, Y) for _ in range(3)] for step in steps]
tell(same=losses[0] == losses[1], kind=type(steps[0]).__name__)
""",
    )
    assert told == [{"rank": 0, "same": True, "kind": "Step"}], done.stderr


def test_gradients_become_arrays_of_the_caller():
    rng = np.random.default_rng(0)
    x, tape = autograd.new_constant(autograd.new_tape(), np.ones((6, 4), "f4"))
    layers, tape = nn.mlp(tape, (4, 5, 2), rng=rng)
    output, tape = nn.mlp_forward(tape, layers, x)
    unused, tape = autograd.new_variable(tape, np.ones(3, "f4"))
    loss, tape = nn.mse_loss(tape, output, output)
    params = [layers[0].w, layers[0].b, layers[1].w, unused]
    nodes = tape.nodes()
    recording = record(nodes, loss, (x,), ((6, 4),), params, optim.SGD(clip_norm=1.0), weight=6.0)
    instructions = recording.instructions
    for improve in PASSES[:3]:
        instructions = improve(instructions, recording.output)
    made = gradients(instructions, len(params), np.dtype("f4"))
    assert not {one.kind for one in made} & {"update", "clip", "squared_norm"}
    written = [symbol for one in made for symbol in one.results.values() if symbol.buffer.kind == "parameter"]
    assert sorted(symbol.buffer.index for symbol in written) == [4, 5, 6, 7]
    assert {symbol.buffer.index: symbol.size for symbol in written} == {4: 20, 5: 5, 6: 10, 7: 3}
    assert sum(one.attributes.get("name") == "scale" for one in made) >= 1  # of the parameter that nothing depends on
