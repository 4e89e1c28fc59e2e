"""Forks, Python threads, and other libraries' threads: the same bits, and nobody waits for what is not there."""

import multiprocessing
import os
import signal
import threading
from importlib.util import find_spec

import numpy as np
import pytest
from support.fresh import run, run_module
from support.training import compiled, digest, trained

import viva_tensor as vt
from viva_tensor import kernels
from viva_tensor.kernels import _team

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
PARALLEL = pytest.mark.skipif(not _team.openmp_version(), reason="a build without OpenMP")

FORKED = """
import os, sys, threading, warnings
import viva_tensor as vt
from support.training import compiled, digest, trained

warnings.simplefilter("ignore", DeprecationWarning)     # of forks with threads, which are the subject
vt.set_num_threads(2)

def child_of(work):
    # The exit status of a forked child that does some work, by which it tells whether it went well.
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def threads():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else None
"""


@FORKS
@pytest.mark.parametrize("where", ["main thread", "another thread", "a child"])
def test_a_forked_child_trains_to_the_same_bits_with_as_many_threads(where):
    code = f"""{FORKED}
wanted = trained()
own = threads()

def work():
    alone = threads()
    same = trained() == wanted and vt.get_num_threads() == {2 if _team.openmp_version() else 1}
    if {_team.openmp_version()} and threads() is not None:
        same = same and threads() == alone + 1
    return same

def fork():
    trained()   # this thread has a team of its own
    print(child_of(work))

if {where!r} == "main thread":
    fork()
elif {where!r} == "a child":
    print(child_of(lambda: trained() == wanted and child_of(work) == 0))
else:
    other = threading.Thread(target=fork)
    other.start()
    other.join()
assert trained() == wanted      # the parent goes on
"""
    assert run(code) == "0"


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_of_multiprocessing_train_to_the_same_bits(method):
    assert run_module("support.process_programs.pools", method) == "True"


@FORKS
def test_a_fork_finds_whole_steps_and_no_lock_held():
    """While another thread trains, predicts and records all the time, children go on with the very same objects."""
    code = f"""{FORKED}
from viva_tensor import telemetry
step, predict, X, Y = compiled()
over = threading.Event()

def train():
    while not over.is_set():
        step.run(X, Y, batch_size=200, epochs=20, shuffle=False)
        predict(X)
        telemetry.record("train", 1)

def work():
    telemetry.snapshot()
    predict(X)
    made, found = step.steps, digest(step)
    step(X, Y)
    twin, _, _, _ = compiled()
    for _ in range(made):
        twin(X, Y)
    whole = digest(twin) == found
    twin(X, Y)
    return whole and digest(twin) == digest(step)

trainer = threading.Thread(target=train)
trainer.start()
statuses = {{child_of(work) for _ in range(3)}}
over.set()
trainer.join()
print(statuses)
"""
    assert run(code) == "{0}"


@FORKS
def test_a_signal_handler_may_ask_for_the_state_and_fork():
    code = f"""{FORKED}
import signal
step, predict, X, Y = compiled()
seen = []

def handler(*_):
    seen.append((step.steps, digest(step), child_of(lambda: step(X, Y) > 0)))
    if len(seen) == 3:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
try:
    step.run(X, Y, batch_size=200, epochs=10**9, shuffle=False)
except KeyboardInterrupt:
    print(len(seen), {{status for _, _, status in seen}})
twin, _, _, _ = compiled()
while twin.steps < seen[-1][0]:
    twin(X, Y)
assert digest(twin) == seen[-1][1]
"""
    assert run(code) == "3 {0}"


def in_threads(count, work):
    """Call work(0), work(1), ... at once, each in a Python thread of its own; what they gave."""
    results = [None] * count
    start = threading.Barrier(count)

    def call(index):
        start.wait()
        results[index] = work(index)

    workers = [threading.Thread(target=call, args=(index,)) for index in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers), "threads hang"
    return results


def test_eight_python_threads_train_eight_programs():
    alone = [trained(seed, steps=20) for seed in range(8)]
    assert in_threads(8, lambda seed: trained(seed, steps=20)) == alone
    vt.set_num_threads(8)  # more than most machines have
    assert in_threads(8, lambda seed: trained(seed, steps=3)) == [trained(seed, steps=3) for seed in range(8)]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_one_step_from_many_python_threads_is_as_many_steps(dropout):
    """On one batch the order of the calls makes no difference, unless two steps share what one of them drew."""
    step, _, X, Y = compiled(dropout=dropout)
    in_threads(4, lambda _: [step(X, Y) for _ in range(25)])
    assert step.steps == 100
    assert digest(step) == trained(steps=100, dropout=dropout)


def test_one_step_that_runs_in_one_thread_is_called_in_others():
    step, _, X, Y = compiled()
    in_threads(3, lambda index: step.run(X, Y, batch_size=200, epochs=20, shuffle=False) if index else step(X, Y))
    assert digest(step) == trained(steps=41)


@PARALLEL
def test_a_change_of_the_number_of_threads_never_gives_old_results(monkeypatch):
    """As another Python thread may make it, just after the call has looked for its plan."""
    vt.set_num_threads(2)
    step, predict, X, Y = compiled()
    other = X * 2
    wanted = predict(other)
    predict(X)
    step.run(X, Y, batch_size=200, shuffle=False)

    def read_then_changed():
        before = kernels.get_num_threads()
        vt.set_num_threads(next(changes, before))
        return before

    for module in ("planning", "forward"):
        monkeypatch.setattr(f"viva_tensor.program.{module}.get_num_threads", read_then_changed)
    changes = iter([1, 2, 1])
    assert np.array_equal(predict(other), wanted)
    changes = iter([2, 1, 2])
    step(X, Y.tolist())
    assert digest(step) == trained(steps=2)


def test_forward_passes_of_many_batch_sizes_do_not_pile_up():
    _, predict, X, _ = compiled()
    for rows in range(1, 60):
        predict(X[:rows])
    assert len(predict._idle) <= 16
    assert "matmul" in str(predict)


def test_a_schedule_may_read_what_the_step_holds():
    step, _, X, Y = compiled()
    seen = []
    step.run(X, Y, batch_size=200, epochs=2, shuffle=False, schedule=lambda n: seen.append(step.state().steps) or 0.01)
    assert seen == [0, 1]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no timer signals")
@pytest.mark.parametrize("sizes", [(2, 3, 1), (256, 512, 256)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_after_an_interrupted_run_everything_is_as_after_the_steps_it_made(sizes, shuffle):
    step, predict, X, Y = compiled(sizes=sizes, batch=256)
    predict(X)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            step.run(X, Y, batch_size=64, epochs=10**9, rng=np.random.default_rng(1), shuffle=shuffle)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    made = step.steps
    assert made > 0
    twin, _, _, _ = compiled(sizes=sizes, batch=256)
    rng = np.random.default_rng(1)
    while twin.steps < made:
        order = rng.permutation(256) if shuffle else np.arange(256)
        for begin in range(0, min(256, 64 * (made - twin.steps)), 64):
            twin(X[order[begin : begin + 64]], Y[order[begin : begin + 64]])
    assert digest(step) == digest(twin)
    assert step(X, Y) == twin(X, Y)
    assert digest(step) == digest(twin)


def test_waiting_for_a_step_that_runs_elsewhere_can_be_interrupted():
    """A guard whose holder never comes back, as one in a debugger."""
    code = """
import os, signal, threading
from support.training import compiled
step, _, X, Y = compiled()
held = threading.Event()

def hold():
    with step._lock:
        held.set()
        threading.Event().wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    step(X, Y)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    os._exit(0)
"""
    if os.name != "posix":
        pytest.skip("signals are POSIX")
    assert run(code) == "interrupted"


@PARALLEL
def test_programs_keep_to_the_limits_of_threadpoolctl():
    code = """
import os, threadpoolctl
from support.training import compiled, digest, trained
import numpy as np
step, predict, X, Y = compiled()
with threadpoolctl.threadpool_limits(1):
    before = len(os.listdir("/proc/self/task"))
    step(X, Y); predict(X); step.run(X, Y, batch_size=200, shuffle=False)
    assert step._plans.current.threads == 1, step._plans.current.threads
    assert len(os.listdir("/proc/self/task")) == before
with threadpoolctl.threadpool_limits(3):
    step(X, Y)
print(digest(step) == trained(steps=3))
"""
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("no /proc/self/task in which threads could be counted")
    assert run(code) == "True"
    assert run(code, OMP_NUM_THREADS="1") == "True"


BESIDE = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np

def first_library():
    X = np.random.default_rng(0).standard_normal((400, 8))
    if {library!r} == "torch":
        import torch
        torch.set_num_threads(2)
        return torch.mm(torch.ones(500, 500), torch.ones(500, 500)).sum().item()
    from sklearn.ensemble import HistGradientBoostingClassifier     # which has teams of OpenMP of its own
    return HistGradientBoostingClassifier(max_iter=2).fit(X, X[:, 0] > 0).score(X, X[:, 0] > 0)

if {first}:
    first_library()
import viva_tensor as vt
from support.training import trained
vt.set_num_threads(2)
bits = [trained()]
first_library()
bits.append(trained())
import os
if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        os._exit(0 if trained() == bits[0] else 1)
    assert os.waitpid(child, 0)[1] == 0
print(*bits)
"""


@pytest.mark.parametrize("library", ["sklearn", "torch"])
def test_other_libraries_in_the_process_change_no_bit(library):
    """Imported before this one, and after it."""
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    with kernels.num_threads(1):
        alone = trained()
    found = in_threads(2, lambda first: run(BESIDE.format(library=library, first=first)))
    assert found == [f"{alone} {alone}"] * 2
