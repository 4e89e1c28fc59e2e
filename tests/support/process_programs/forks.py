"""Forked children, which go on with the objects of their parent: whole steps, no lock held, a team of their own."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable

import numpy as np

import viva_tensor as vt
from support.called import called
from support.training import PATIENCE, compiled, digest, trained
from viva_tensor import kernels, telemetry
from viva_tensor.kernels import _team

TEAM = 2 if _team.openmp_version() else 1


def child_of(work: Callable[[], bool]) -> int | None:
    """Fork a child that does some work; return its exit status, 0 if it went well, or None if it hangs."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def threads() -> int:
    """Return how many threads this process has, or 0 where nobody tells."""
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0


def has_its_team(alone: int) -> bool:
    """Return whether a process that was alone with so many threads works with two, and starts one.

    A step may choose to do without on a busy machine, a kernel does not.
    """
    kernels.relu(np.ones((1, 1 << 18), np.float32))
    return vt.get_num_threads() == TEAM and threads() == (alone + TEAM - 1 if alone else 0)


def in_another_thread(work: Callable[[], object]) -> None:
    """Do some work in a Python thread of its own."""
    other = threading.Thread(target=work)
    other.start()
    other.join()


def train_in_child(where: str) -> None:
    """Print the status of a child that trains anew, forked in the main thread, in another thread, or by a child."""
    wanted = trained()

    def work() -> bool:
        alone = threads()
        return trained() == wanted and has_its_team(alone)

    def fork() -> None:
        trained()  # this thread has a team of its own
        print(child_of(work))

    if where == "main thread":
        fork()
    elif where == "a child":
        print(child_of(lambda: trained() == wanted and child_of(work) == 0))
    else:
        in_another_thread(fork)
    assert trained() == wanted  # the parent goes on


def while_training(count: int) -> list[int | None]:
    """Fork so many children, in turns from this thread and another, while a third trains, predicts and records.

    Return the status of each, which goes on with the very same objects.
    """
    step, predict, X, Y = compiled()
    over = threading.Event()
    state = step.state()

    def train() -> None:
        while not over.is_set():
            step.restore(state)
            step.run(X, Y, batch_size=200, epochs=30, shuffle=False)
            predict(X)
            telemetry.record("train", 1)

    def work() -> bool:
        telemetry.snapshot()
        alone = threads()
        predict(X)
        made, found = step.steps, digest(step)
        step(X, Y)
        team = has_its_team(alone)
        twin, _, _, _ = compiled()
        for _ in range(made):
            twin(X, Y)
        whole = digest(twin) == found
        twin(X, Y)
        return whole and digest(twin) == digest(step) and team

    statuses: list[int | None] = []

    def fork() -> None:
        trained(steps=1)  # a team of this thread's own
        statuses.append(child_of(work))

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        for number in range(count):
            if number % 2:
                in_another_thread(fork)
            else:
                fork()
    finally:
        over.set()
        trainer.join()
    return statuses


def while_another_trains(count: str) -> None:
    """Print the different statuses of children that are forked while a thread trains."""
    print(set(while_training(int(count))))


def from_handler() -> None:
    """Fork in a handler of signals that looks at the step under way, three times; then check what it saw."""
    step, _, X, Y = compiled()
    seen: list[tuple[int, str, int | None]] = []

    def handler(*_: object) -> None:
        seen.append((step.steps, digest(step), child_of(lambda: step(X, Y) > 0)))
        if len(seen) == 3:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        step.run(X, Y, batch_size=200, epochs=10**9, shuffle=False)
    except KeyboardInterrupt:
        print(len(seen), {status for _, _, status in seen})
    twin, _, _, _ = compiled()
    while twin.steps < seen[-1][0]:
        twin(X, Y)
    assert digest(twin) == seen[-1][1]


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads, which are the subject
    vt.set_num_threads(2)
    called(train_in_child, while_another_trains, from_handler)
