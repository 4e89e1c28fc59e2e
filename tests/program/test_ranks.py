"""Steps whose gradients are averaged over ranks. Each test starts its ranks under mpiexec and reads what they print."""

import json

import numpy as np
import pytest
from support.launch import launch, needs_mpi

from viva_tensor import autograd, error, nn, optim, program
from viva_tensor.program.lowering import lower
from viva_tensor.program.passes import PASSES
from viva_tensor.program.ranks import gradients

START = """
import json, sys
import numpy as np
from mpi4py import MPI
import viva_tensor as vt
from viva_tensor import autograd, error, nn, optim, program

comm = MPI.COMM_WORLD
rank, size = comm.rank, comm.size
vt.set_num_threads(1)

def compiled(optimizer, comm, sizes=(8, 64, 40, 3), loss=nn.mse_loss, seed=0, rate=0.0, **options):
    rng = np.random.default_rng(seed)
    x, tape = autograd.new_constant(autograd.new_tape(), np.zeros((6, sizes[0]), "f4"))
    y, tape = autograd.new_constant(tape, np.full((6, sizes[-1]), 0.5, "f4"))
    layers, tape = nn.mlp(tape, sizes, rng=rng)
    output, tape = nn.mlp_forward(tape, layers, x, dropout_rate=rate, rng=rng)
    value, tape = loss(tape, output, y)
    return program.compile_step(
        tape, loss=value, params=layers, inputs=(x, y), optimizer=optimizer, comm=comm, rng=rng, **options
    )

def attempt(function):
    try:
        function()
    except BaseException as problem:
        text = "" if type(problem).__name__ == "Untold" else problem
        return f"{type(problem).__name__} {text}"
    return ""

def same(a, b):
    return a.steps == b.steps and all(
        np.array_equal(x, y) for one, other in zip((a.params, *a.moments), (b.params, *b.moments), strict=True)
        for x, y in zip(one, other, strict=True)
    )

OPTIMIZERS = {
    "SGD": optim.SGD(lr=0.1),
    "momentum": optim.SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": optim.Adam(lr=0.01),
    "AdamW": optim.AdamW(lr=0.01),
    "RMSprop": optim.RMSprop(lr=0.01, momentum=0.5),
    "clipped": optim.Adam(lr=0.01, clip_norm=0.05),
}

def tell(**found):
    everything = comm.gather({"rank": rank} | found)
    if rank == 0:
        print(json.dumps(everything))
"""


def ranks(count, code, timeout=60):
    """What each rank told, in the order of the ranks, and the process."""
    done = launch(count, "-c", START + code, timeout=timeout)
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


SMALL = """
from viva_tensor.program import ranks
ranks.BUCKET = 512      # bytes; some buckets have several gradients, some one
"""


@needs_mpi
def test_two_ranks_have_the_same_bits_whether_sums_overlap_or_not():
    told, done = ranks(
        2,
        """
from viva_tensor.program import ranks
rng = np.random.default_rng(rank)
found = {}

def compare(name, optimizer, threads=1, rows=(11, 40), least=2, **options):
    vt.set_num_threads(threads)
    steps = [compiled(optimizer, comm, overlap=overlap, **options) for overlap in (False, True)]
    sizes = options.get("sizes", (8, 64, 40, 3))
    losses = []
    for _ in range(3):
        count = rows[rank]
        X, Y = rng.standard_normal((count, sizes[0])).astype("f4"), rng.random((count, sizes[-1])).astype("f4")
        losses.append([step(X, Y) for step in steps])
    cuts = steps[1]._current.cuts
    found[name] = [
        all(a == b for a, b in losses), same(*(step.state() for step in steps)),
        len(cuts) >= least and all(0 < cut <= steps[1]._current.executor.calls() for cut in cuts),
    ]

compare("of a MiB and more", optim.SGD(lr=0.1), sizes=(8, 600, 600, 600, 3))
ranks.BUCKET = 512
for name, optimizer in OPTIMIZERS.items():
    compare(name, optimizer)
    compare(name + ", two threads", optimizer, threads=2, rows=(200, 300), sizes=(8, 80, 64, 40, 3))
compare("dropout", optim.Adam(), rate=0.5, seed=rank)
compare("no rows", optim.Adam(), rows=(0, 7), least=0)      # a plan for other rows comes from the recorded step
compare("one bucket", optim.Adam(), sizes=(8, 3), least=0)
tell(found=found)
""",
    )
    assert len(told) == 2, done.stderr
    for one in told:
        for name, (losses, states, cut) in one["found"].items():
            assert losses, name
            assert states, name
            assert cut, name


@needs_mpi
def test_three_ranks_with_buckets_have_the_same_bits_again():
    code = (
        SMALL
        + """
step = compiled(optim.Adam(lr=0.01), comm, overlap=True)
plain = compiled(optim.Adam(lr=0.01), comm)
X, Y = np.random.default_rng(rank).random((20 + rank, 8), "f4"), np.full((20 + rank, 3), 0.25, "f4")
losses = [[one(X, Y) for one in (step, plain)] for _ in range(5)]
# the sums of three in another order: each differs by at most two roundings
assert all(abs(a - b) <= 1e-5 * b for a, b in losses)
tell(losses=losses, fingerprint=step.fingerprint())
"""
    )
    told, done = ranks(3, code)
    assert len(told) == 3, done.stderr
    assert [one | {"rank": 0} for one in told] == [told[0]] * 3
    assert ranks(3, code)[0] == told


@needs_mpi
@pytest.mark.parametrize("count", [2, 3])
def test_a_sharded_state_takes_its_share_of_memory_and_changes_no_bit(count):
    told, done = ranks(
        count,
        SMALL
        + """
rng = np.random.default_rng(rank)
X, Y = rng.standard_normal((20 + rank, 8)).astype("f4"), rng.random((20 + rank, 3)).astype("f4")
found = {}
for name, optimizer in OPTIMIZERS.items():
    for overlap in (False, True):
        plain, sharded = (
            compiled(optimizer, comm, overlap=overlap, shard_state=shard, sizes=(8, 64, 200, 3))
            for shard in (False, True)
        )
        losses = [[step(X, Y) for step in (plain, sharded)] for _ in range(4)]
        losses += zip(*(
            step.run(X, Y, batch_size=5, shuffle=False, schedule=optim.schedules.cosine(0.1, 9))
            for step in (plain, sharded)
        ))
        state = sharded.state()
        equal = all(a == b for a, b in losses) and same(state, plain.state())
        full = sum(array.nbytes for slot in plain._moments.values() for array in slot)
        own = sum(piece.nbytes for piece in sharded._pieces)
        views = all(
            any(np.shares_memory(array, piece) for piece in sharded._pieces)
            for slot in sharded._moments.values() for array in slot if array.size
        )
        # a state goes on in steps with and without shares, and where it is one rank's
        other, again = compiled(optimizer, comm), compiled(optimizer, comm, shard_state=True, sizes=(8, 64, 200, 3))
        again.restore(state)
        refused = attempt(lambda: other.restore(state))
        going = [step(X, Y) for step in (plain, sharded, again)]
        alone = compiled(optimizer, None, sizes=(8, 64, 200, 3))
        alone.restore(state)
        found[f"{name} {overlap}"] = [
            equal, [full, own], views, going[0] == going[1] == going[2] and same(plain.state(), again.state()),
            refused, same(alone.state(), state),
        ]
tell(found=found)
""",
    )
    assert len(told) == count, done.stderr
    for name in told[0]["found"]:
        whole, shares = 0, 0
        for one in told:
            equal, (full, own), views, going, refused, alone = one["found"][name]
            assert equal, name
            assert views, name
            assert going, name
            assert refused == "InvalidValue restore: the state is that of another program; compile the same step", name
            assert alone, name
            # of up to two slots, with up to 2 · 128 bytes behind each of 6 arrays, 1/N to the end of 128 bytes
            assert own <= (full + 2 * 6 * 256) / count + 2 * 128, name
            whole, shares = full, shares + own
        assert shares >= whole, name
        assert (whole == 0) == name.startswith("SGD"), name


@needs_mpi
def test_a_sharded_state_goes_on_with_another_number_of_ranks(tmp_path):
    code = f"""
import pickle
file = {str(tmp_path / "state")!r}
X, Y = np.random.default_rng(0).random((60, 8), "f4"), np.full((60, 3), 0.25, "f4")
own = slice(60 * rank // size, 60 * (rank + 1) // size)
optimizer = optim.Adam(lr=0.01, eps=1e-3)
"""
    told, done = ranks(
        3,
        code
        + """
step, alone = compiled(optimizer, comm, shard_state=True), compiled(optimizer, None)
for _ in range(4):
    step(X[own], Y[own])
state = step.state()
if rank == 0:
    alone.restore(state)
    losses = [alone(X, Y) for _ in range(3)]
    pickle.dump((state, losses), open(file, "wb"))
tell(steps=state.steps)
""",
    )
    assert [one["steps"] for one in told] == [4] * 3, done.stderr
    told, done = ranks(
        2,
        code
        + """
state, losses = pickle.load(open(file, "rb"))
step = compiled(optimizer, comm, shard_state=True, seed=3)
step.restore(state)
assert same(step.state(), state)
found = [step(X[own], Y[own]) for _ in range(3)]
different = attempt(lambda: step.restore(state._replace(steps=state.steps + rank)))
tell(close=bool(np.allclose(found, losses, rtol=1e-5)), steps=step.steps, different=different)
""",
    )
    assert [one["steps"] for one in told] == [7] * 2, done.stderr
    assert all(one["close"] for one in told)  # float32 sums in another order
    assert told[0]["different"] == told[1]["different"]
    assert "restore: the state's SHA-256 is " in told[0]["different"]


@needs_mpi
@pytest.mark.parametrize("options", ["", "overlap=True, shard_state=True"])
def test_whatever_happens_on_a_rank_all_stop_at_the_same_step_and_can_go_on(options):
    told, done = ranks(
        3,
        SMALL
        + f"options = dict({options})"
        + """
import signal
step = compiled(optim.Adam(lr=0.01), comm, rate=0.5, **options)
twin = compiled(optim.Adam(lr=0.01), comm, rate=0.5, **options)
X, Y = np.ones((6, 8), "f4"), np.ones((6, 3), "f4")
step(X, Y), twin(X, Y)
found = []

def interrupted():
    signal.raise_signal(signal.SIGINT)
    return 0.01

def failing(what, at=1):
    # what happens on rank 1, in the place of a step's rate
    return lambda number: what() if rank == 1 and number == at else 0.01

def run(**more):
    return lambda: step.run(X, Y, batch_size=2, shuffle=False, **more)

def unlucky(*_):
    raise MemoryError("no room")

class Untold(Exception):
    def __str__(self):
        raise ValueError

def untold():
    raise Untold

def both():
    return found.append([attempt(action), same(step.state(), twin.state()), signal.getsignal(signal.SIGINT) is handler])

handler = signal.getsignal(signal.SIGINT)
for what in (interrupted, unlucky, untold, lambda: -1.0, lambda: None):
    action = run(schedule=failing(what, at=2))
    both()
action = run(callback=lambda *_: rank == 1 and interrupted())      # after the last step
twin.run(X, Y, batch_size=2, shuffle=False)
both()
action = run(callback=lambda *_: rank == 1 and unlucky(), epochs=2)     # and before another one
twin.run(X, Y, batch_size=2, shuffle=False)
both()
action = run(epochs=1 + rank)
both()

class Unshuffled(np.random.Generator):
    permutation = unlucky if rank == 1 else np.random.Generator.permutation

action = lambda: step.run(X, Y, batch_size=2, rng=Unshuffled(np.random.PCG64(0)))
both()

# in the middle of a step
plan, start = step._plan, step._sums.start

def after_start():
    start()
    if rank == 1 and len(step._sums._requests) == 2:
        signal.raise_signal(signal.SIGINT)

step._sums.start = after_start
action = lambda: step(X, Y)
both() if options else None
step._sums.start = start

step._plan = lambda shapes, *more: unlucky() if rank == 1 else plan(shapes, *more)
both()
step._plan = plan
action = lambda: step(X[:0], Y[:0])
both()
action = lambda: found.append([step(X, Y) == twin(X, Y), same(step.state(), twin.state())])
action()
tell(found=found)
""",
    )
    assert len(told) == 3, done.stderr
    wanted = [
        "KeyboardInterrupt ",
        "MemoryError no room",
        "Untold",
        "InvalidValue Adam: lr=-1.0",
        "InvalidValue Adam: lr=None",
    ]
    wanted += ["KeyboardInterrupt ", "MemoryError no room", "RankError run: epochs is 1 on rank 0 and 2 on rank 1"]
    wanted += ["MemoryError no room"]
    wanted += ["KeyboardInterrupt "] * bool(options) + [
        "MemoryError no room",
        "InvalidValue step: no rank has any rows",
    ]
    for one in told:
        *found, last = one["found"]
        assert last == [True, True]
        assert len(found) == len(wanted)
        for (text, unchanged, handled), want in zip(found, wanted, strict=True):
            assert unchanged, want
            assert handled, want
            if one["rank"] != 1 and not want.startswith(("RankError", "InvalidValue step")):
                name, message = want.split(" ", 1) if " " in want else (want, "")
                want = f"RankError step: rank 1 failed with {name}"
                assert message in text
            assert text.startswith(want)


@needs_mpi
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_rate_is_that_of_rank_0_and_numbers_beyond_the_dtype_stop_nobody(dtype):
    told, done = ranks(
        3,
        f"dtype = {dtype!r}"
        + """
import warnings
warnings.simplefilter("error")

def made(comm, factor=1):
    rng = np.random.default_rng(0)
    x, tape = autograd.new_constant(autograd.new_tape(), np.ones((4, 3), dtype))
    layer, tape = nn.linear(tape, 3, 2, rng=rng, dtype=dtype)
    output, tape = nn.linear_forward(tape, layer, x)
    target, tape = autograd.new_constant(tape, np.zeros((4, 2), dtype))
    loss, tape = nn.mse_loss(tape, output, target)
    factor, tape = autograd.new_constant(tape, np.array(factor, dtype))
    loss, tape = autograd.mul(tape, loss, factor)
    return program.compile_step(
        tape, loss=loss, params=layer, inputs=(x, target), optimizer=optim.Adam(lr=0.3), comm=comm
    )

X, Y = np.ones((4, 3), dtype), np.ones((4, 2), dtype)
step, twin = made(comm), made(comm)
step.run(X, Y, batch_size=2, shuffle=False, schedule=lambda number: 0.1 / 3 * (1 + rank))
twin.run(X, Y, batch_size=2, shuffle=False, schedule=lambda number: 0.1 / 3)
step.lr = 0.7 + rank
twin.lr = 0.7
step(X, Y), twin(X, Y)
most = float(np.finfo(dtype).max)
loss = made(comm, most / 1e4)(X, Y * 80)    # each rank's is below the most, but not times its rows
tell(same=step.fingerprint() == twin.fingerprint(), bits=step.fingerprint(), loss=str(loss))
""",
    )
    assert len(told) == 3, done.stderr
    for one in told:
        assert one["same"]
        assert one["bits"] == told[0]["bits"]
        assert one["loss"] == "inf"


@needs_mpi
def test_options_and_programs_that_differ_are_named_on_all_ranks():
    told, done = ranks(
        2,
        """
plain = optim.SGD(lr=0.1)
found = [
    attempt(lambda: compiled(plain, comm, overlap=rank == 0)),
    attempt(lambda: compiled(plain, comm, shard_state=rank == 0)),
    attempt(lambda: compiled(plain, comm, rate=0.5) if rank == 0 else program.compile_step(None, loss=None, params=(),
        inputs=(), optimizer=plain, comm=comm)),
]
tell(found=found)
""",
    )
    assert len(told) == 2, done.stderr
    first, second = (one["found"] for one in told)
    assert first[:2] == second[:2]
    assert first[0].startswith("RankError compile_step: overlap is True on rank 0 and False on rank 1")
    assert first[1].startswith("RankError compile_step: shard_state is True on rank 0 and False on rank 1")
    assert first[2].startswith("RankError compile_step: rank 1 failed with InvalidValue: compile_step: no parameters")
    assert second[2].startswith("InvalidValue compile_step: no parameters")


@needs_mpi
def test_mpi_that_was_started_without_threads_is_named():
    code = f"""
import mpi4py
mpi4py.rc.thread_level = "single"
{START}
tell(found=attempt(lambda: compiled(optim.SGD(), comm)))
"""
    done = launch(2, "-c", code)
    for one in json.loads(done.stdout):
        assert one["found"].startswith(
            "RankError compile_step: MPI was started for programs without threads; set mpi4py.rc"
        )


@needs_mpi
@pytest.mark.parametrize("options", ["", "overlap=True, shard_state=True"])
def test_one_rank_that_asks_gets_times_and_no_bit_changes(options):
    told, done = ranks(
        2,
        SMALL
        + f"options = dict({options})"
        + """
import time
step, twin = (compiled(optim.Adam(), comm, **options) for _ in range(2))
X, Y = np.ones((6, 8), "f4"), np.ones((6, 3), "f4")
step(X, Y)
none = step.times()
step.timed = rank == 0
slow = lambda number: time.sleep(0.05 * (rank == 1)) or 0.001
step.run(X, Y, batch_size=2, epochs=2, shuffle=False, schedule=slow)
times = step.times()
step.timed = False
step(X, Y)
step(X, Y)
twin(X, Y)
twin.run(X, Y, batch_size=2, epochs=2, shuffle=False)
twin(X, Y)
twin(X, Y)
tell(none=none, times=times._asdict(), after=step.times().steps, same=same(step.state(), twin.state()))
""",
    )
    assert len(told) == 2, done.stderr
    for one in told:
        assert one["none"] == [0, 0, 0, 0]
        assert one["times"]["steps"] == 5  # the first of six tells the other rank
        assert one["after"] == 1  # the last that was asked for, before none of them asks
        assert one["same"]
    waits, works = ([one["times"][part] for one in told] for part in ("wait", "compute"))
    assert waits[0] > 5 * 0.04  # for the other rank's sleep
    assert works[1] > 5 * 0.05
    assert all(one["times"]["reduce"] > 0 for one in told)


@pytest.mark.parametrize("option", ["overlap", "shard_state"])
def test_options_of_ranks_without_ranks_are_refused(option):
    x, tape = autograd.new_constant(autograd.new_tape(), np.ones((6, 4), "f4"))
    layer, tape = nn.linear(tape, 4, 1, rng=np.random.default_rng(0))
    output, tape = nn.linear_forward(tape, layer, x)
    loss, tape = autograd.mean(tape, output)
    with pytest.raises(error.InvalidValue, match=rf"{option}=True.*give comm=MPI.COMM_WORLD"):
        program.compile_step(tape, loss=loss, params=layer, inputs=(x,), optimizer=optim.SGD(), **{option: True})


def test_gradients_become_arrays_of_the_caller():
    rng = np.random.default_rng(0)
    x, tape = autograd.new_constant(autograd.new_tape(), np.ones((6, 4), "f4"))
    layers, tape = nn.mlp(tape, (4, 5, 2), rng=rng)
    output, tape = nn.mlp_forward(tape, layers, x)
    unused, tape = autograd.new_variable(tape, np.ones(3, "f4"))
    loss, tape = nn.mse_loss(tape, output, output)
    params = [layers[0].w, layers[0].b, layers[1].w, unused]
    nodes = tape.nodes()
    lowered = lower(nodes, loss, (x,), ((6, 4),), params, optim.SGD(clip_norm=1.0), weight=6.0)
    instructions = lowered.instructions
    for improve in PASSES[:3]:
        instructions = improve(instructions, lowered.output)
    made = gradients(instructions, len(params), np.dtype("f4"))
    assert not {one.kind for one in made} & {"update", "clip", "squared_norm"}
    written = [symbol for one in made for symbol in one.results.values() if symbol.buffer.kind == "parameter"]
    assert sorted(symbol.buffer.index for symbol in written) == [4, 5, 6, 7]
    assert {symbol.buffer.index: symbol.size for symbol in written} == {4: 20, 5: 5, 6: 10, 7: 3}
    assert sum(one.label == "scale" for one in made) >= 1  # of the parameter that nothing depends on
