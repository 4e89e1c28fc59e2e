"""Forks, Python threads, and other libraries' threads: the same bits, and nobody waits for what is not there."""

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest
from support.fresh import run_module
from support.training import compiled, digest, in_threads, replayed, trained

import viva_tensor as vt
from viva_tensor import kernels
from viva_tensor.kernels import _team
from viva_tensor.program.planning import MOST_PLANS

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
PARALLEL = pytest.mark.skipif(not _team.openmp_version(), reason="a build without OpenMP")
PROGRAMS = "support.process_programs"


@FORKS
@pytest.mark.parametrize("where", ["main thread", "another thread", "a child"])
def test_a_forked_child_trains_to_the_same_bits_with_as_many_threads(where):
    assert run_module(f"{PROGRAMS}.forks", "train_in_child", where) == "0"


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_of_multiprocessing_train_to_the_same_bits(method):
    assert run_module(f"{PROGRAMS}.pools", method) == "True"


@FORKS
def test_a_fork_finds_whole_steps_and_no_lock_held():
    """While another thread trains, predicts and records all the time, children go on with the very same objects."""
    assert run_module(f"{PROGRAMS}.forks", "while_another_trains", 3) == "{0}"


@FORKS
def test_a_signal_handler_may_ask_for_the_state_and_fork():
    assert run_module(f"{PROGRAMS}.forks", "from_handler") == "3 {0}"


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
    assert len(predict._idle) <= MOST_PLANS
    assert "matmul" in str(predict)


def test_forward_passes_that_are_not_given_plain_arrays_are_planned_once():
    _, predict, X, _ = compiled()
    wanted = predict(X[:7])
    for _ in range(5):
        assert np.array_equal(predict(X[:7].tolist()), wanted)
    assert len(predict._recent) == 1
    assert sum(len(plans) for plans in predict._idle.values()) == 1  # that of the recorded shape


def test_threads_that_predict_batches_of_many_sizes_get_their_own_rows():
    _, predict, X, _ = compiled()
    wanted = predict(X).copy()

    def many(seed):
        for size in np.random.default_rng(seed).integers(1, 5, 300):
            assert np.array_equal(predict(X[:size]), wanted[:size])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(many, range(8)))
    assert all(len(plans) <= 2 for plans in predict._idle.values())


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
    twin = replayed(made, 64, shuffle, sizes, 256)
    assert digest(step) == digest(twin)
    assert step(X, Y) == twin(X, Y)
    assert digest(step) == digest(twin)


def test_waiting_for_a_step_that_runs_elsewhere_can_be_interrupted():
    """A guard whose holder never comes back, as one in a debugger."""
    if os.name != "posix":
        pytest.skip("signals are POSIX")
    assert run_module(f"{PROGRAMS}.waiting") == "interrupted"


@PARALLEL
def test_programs_keep_to_the_limits_of_threadpoolctl():
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("no /proc/self/task in which threads could be counted")
    assert run_module(f"{PROGRAMS}.libraries", "limited") == "True"
    assert run_module(f"{PROGRAMS}.libraries", "limited", OMP_NUM_THREADS="1") == "True"


@pytest.mark.parametrize("library", ["sklearn", "torch"])
def test_other_libraries_in_the_process_change_no_bit(library):
    """Imported before this one, and after it."""
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    with kernels.num_threads(1):
        alone = trained()
    orders = ("last", "first")
    found = in_threads(2, lambda place: run_module(f"{PROGRAMS}.libraries", "beside", library, orders[place]))
    assert found == [f"{alone} {alone}"] * 2
