"""How steps go on with more threads than there are here: by the arithmetic of the planner, checked on two.

usage: python asv_benchmarks/scaling/threads.py      (on a machine that does nothing else)

For each network of the race the speed of its plan relative to one thread, if barriers cost nothing: the work of all
÷ that of the busiest thread. Then the microseconds that program/balance.py predicts, with as many threads as the
planner takes of those it may, where a cache line takes 40, 100 or 500 ns from one core to another. Measured are steps
on one and two threads, and the round trip of a cache line, from steps that do next to nothing but wait for each other.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import enough_calls, seconds_per_call
from benchmarks.workloads import CompiledStep, TapeStep, Workload, problem

from viva_tensor import kernels
from viva_tensor.program import balance, thresholds

THREADS = (2, 4, 8, 16, 32, 64, 128, 192)
RACE = ("tabular", "mnist-mlp", "wide", "deep")
ROUNDS = 7


def row(name: str, cells: list[str]) -> None:
    print(f"| {name} | {' | '.join(cells)} |")


def predicted(name: str, threads: int, round_trip: float) -> tuple[float, float, int]:
    """Return the speed relative to one thread, the seconds, and the threads that take part."""
    with kernels.num_threads(threads), thresholds.changed(round_trip=round_trip):
        plan = TapeStep(*problem(name)).compiled()._plans.current
        planned = plan.planned, plan.threads
        return balance.speedup(*planned), balance.seconds(*planned), plan.threads


def measured(name: str | Workload, threads: int) -> float:
    """Return the seconds of a step: the best of some rounds."""
    with kernels.num_threads(threads):
        step = CompiledStep(*problem(name))
        calls, _ = enough_calls(step, 0.02)
        return min(seconds_per_call(step, calls) for _ in range(ROUNDS))


def round_trip() -> float:
    """Return the seconds in which a cache line comes from the other core, by a step whose work is nothing."""
    with thresholds.changed(**thresholds.EVERYWHERE):
        small = Workload(16, (16,) * 9)
        with kernels.num_threads(2):
            plan = CompiledStep(*problem(small)).step._plans.current
        _, phases = balance.span(plan.planned, plan.threads)
        alone, together = measured(small, 1), measured(small, 2)
        return (together - alone / balance.speedup(plan.planned, plan.threads)) / phases / balance.lines(2)


def main() -> None:
    row("threads", [str(threads) for threads in THREADS])
    for name in RACE:
        row(name, [f"{predicted(name, threads, 0.0)[0]:.1f}" for threads in THREADS])
    for nanoseconds in (40, 100, 500):
        print(f"\nMicroseconds (threads), {nanoseconds} ns from core to core")
        for name in RACE:
            found = [predicted(name, threads, 1e-9 * nanoseconds) for threads in THREADS]
            row(name, [f"{1e6 * seconds:,.0f} ({threads})" for _, seconds, threads in found])
    print(f"\nMeasured: a cache line in {1e9 * round_trip():.0f} ns; microseconds of a step on one and two threads")
    for name in RACE:
        row(name, [f"{1e6 * measured(name, threads):,.1f}" for threads in (1, 2)])


if __name__ == "__main__":
    main()
