"""Forks, interrupts and more threads than processors, many times over.

    python -m stress.processes [--forks N] [--interrupts N]

Forks: from the main thread and from another one, while a third trains, predicts and records, the child goes on with the
very same objects, with a team of its own; its bits are those of as many steps in a process that never forked.
Interrupts: Ctrl-C reaches a run of a tiny and of a large program at random moments; how long it took is printed, and
afterwards the program has the bits of the steps that it made. Oversubscription: a program with four times as many
threads as processors, and eight Python threads with a program each, against what the processors could do at best; a
factor is printed, since it depends on what else runs, and only a tenfold slowdown is a fault. Takes about two minutes.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection

import numpy as np
from support.process_programs.forks import while_training
from support.training import PATIENCE, Compiled, compiled, digest, in_threads, replayed

import viva_tensor as vt

Sizes = tuple[int, ...]


def forks(count: int) -> int:
    """Return the faults among so many forks."""
    vt.set_num_threads(2)
    statuses = while_training(count)
    faults = sum(status != 0 for status in statuses)
    print(f"forks: {len(statuses)} children, {faults} faults, {statuses.count(None)} of them hung", flush=True)
    return faults


def interrupted(connection: Connection, sizes: Sizes, batch: int, shuffle: bool) -> None:
    """Run in a process of its own until Ctrl-C; send when it came, what a step takes, and if the bits are right."""
    vt.set_num_threads(2)
    step, _, X, Y = compiled(sizes=sizes, batch=batch)
    start = time.monotonic()
    for _ in range(3):
        step(X, Y)
    duration = (time.monotonic() - start) / 3
    step, _, _, _ = compiled(sizes=sizes, batch=batch)
    connection.send(os.getpid())
    try:
        step.run(X, Y, batch_size=batch, epochs=10**9, shuffle=shuffle, rng=np.random.default_rng(1))
    except KeyboardInterrupt:
        end = time.monotonic()
    made, found = step.steps, digest(step)
    twin = replayed(made, batch, shuffle, sizes, batch)
    right = made > 0 and digest(twin) == found and step(X, Y) == twin(X, Y)
    connection.send((end, duration, made, right))


def interrupts(count: int) -> int:
    """Return the faults among so many interrupted runs of each program."""
    faults = 0
    context = multiprocessing.get_context("spawn")
    chance = random.Random(0)
    for name, sizes, batch in (("tiny", (2, 3, 1), 4), ("large", (784, 1024, 1024, 10), 512)):
        delays: list[float] = []
        steps: list[float] = []
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=interrupted, args=(theirs, sizes, batch, bool(number % 2)))
            process.start()
            ours.recv()
            time.sleep(chance.uniform(0.05, 0.4))
            sent = time.monotonic()
            assert process.pid is not None
            os.kill(process.pid, signal.SIGINT)
            if not ours.poll(PATIENCE):
                process.kill()
                print(f"interrupts: {name}: no answer")
                faults += 1
                continue
            end, duration, made, right = ours.recv()
            process.join()
            delays.append(end - sent)
            steps.append(duration)
            if not right or end - sent > 0.2 + 2 * duration:
                print(f"interrupts: {name}: {end - sent:.3f} s after {made} steps, the bits are right: {right}")
                faults += 1
        print(
            f"interrupts: {name} program, {count} runs: median {np.median(delays):.3f} s, at most {max(delays):.3f} s; "
            f"a step takes {np.median(steps):.5f} s",
            flush=True,
        )
    return faults


def seconds(work: Callable[[], object], times: int = 5) -> float:
    """Return the best of some times."""
    best = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        best.append(time.perf_counter() - start)
    return min(best)


def in_turn(count: int, work: Callable[[int], object]) -> None:
    """Call work(0), work(1), ... one after another."""
    for index in range(count):
        work(index)


def oversubscription() -> int:
    """Return the faults, of which a slowdown of more than ten times is one."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    vt.set_num_threads(processors)
    faults = 0
    for name, sizes, batch in (("small", (8, 64, 64, 1), 256), ("large", (784, 256, 128, 10), 512)):
        times = []
        for threads in (processors, 4 * processors):
            vt.set_num_threads(threads)
            step, _, X, Y = compiled(sizes=sizes, batch=batch)
            step.run(X, Y, batch_size=batch, epochs=5, shuffle=False)
            times.append(seconds(partial(step.run, X, Y, batch_size=batch, epochs=20, shuffle=False)))
        factor = times[1] / times[0]
        print(f"oversubscription: {name} program, {4 * processors} threads on {processors}: {factor:.2f} times as long")
        faults += factor > 10
        vt.set_num_threads(processors)
        programs = [compiled(seed, sizes=sizes, batch=batch) for seed in range(8)]

        def train(index: int, programs: list[Compiled] = programs, rows: int = batch) -> None:
            step, _, X, Y = programs[index]
            step.run(X, Y, batch_size=rows, epochs=20, shuffle=False)

        factor = seconds(partial(in_threads, 8, train)) / seconds(partial(in_turn, 8, train))
        print(f"oversubscription: eight {name} programs in eight Python threads: {factor:.2f} times as long as in turn")
        faults += factor > 10
    vt.set_num_threads(None)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forks", type=int, default=200)
    parser.add_argument("--interrupts", type=int, default=20)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads, which are the subject
    faults = forks(chosen.forks) + interrupts(chosen.interrupts) + oversubscription()
    print(f"{faults} faults")
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
