"""What a plan costs on many threads, by arithmetic: the work of the thread that has the most, and the barriers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from viva_tensor.kernels.build import rectangle
from viva_tensor.program.instructions import BatchMatmul
from viva_tensor.program.scheduling import Planned, effort
from viva_tensor.program.thresholds import current

SECONDS_OF_EFFORT = 2.1e-10  # 16 multiply-adds, with AVX-512 at some 3 GHz
LINES_AT_ONCE = 10  # cache lines that a processor core waits for at the same time


def shares(one: Planned) -> list[float]:
    """Return the part of an instruction that each of its threads does."""
    threads, instruction = one.threads, one.instruction
    result = next(iter(instruction.results.values()))
    if threads == 1:
        return [1.0]
    if one.by_rows:
        rows, groups = result.shape[0], -(-result.shape[0] // 4)  # threads own whole groups of four rows
        starts = [min(rows, groups * thread // threads * 4) for thread in range(threads + 1)]
        return [(end - start) / rows for start, end in pairwise(starts)]
    if isinstance(instruction, BatchMatmul):
        count = math.prod(result.shape[:-2])
        together = max(1, threads // count)  # as many work at one product
        groups = min(threads // together, count)
        parts = [(count * (group + 1) // groups - count * group // groups) / count for group in range(groups)]
        found = [part / together for part in parts for _ in range(together)]
        return found + [0.0] * (threads - len(found))
    if instruction.multiply_adds:
        rows, columns = result.shape
        blocks = [rectangle(rows, columns, thread, threads) for thread in range(threads)]
        return [(bottom - top) * (right - left) / (rows * columns) for top, bottom, left, right in blocks]
    return [1 / threads] * threads


def span(planned: Sequence[Planned], threads: int) -> tuple[float, int]:
    """Return the effort of the thread that has the most, added over phases, and the number of phases."""
    total, phases, load = 0.0, 1, [0.0] * threads
    for one in planned:
        if one.barrier:
            total, phases, load = total + max(load), phases + 1, [0.0] * threads
        for thread, share in enumerate(shares(one), one.first):
            load[thread] += share * effort(one.instruction)
    return total + max(load), phases


def speedup(planned: Sequence[Planned], threads: int) -> float:
    """Return by how much the work of all is more than that of the thread that has the most."""
    most, _ = span(planned, threads)
    return sum(effort(one.instruction) for one in planned) / most if most else 1.0


def seconds(planned: Sequence[Planned], threads: int) -> float:
    """Return the predicted time: of the work, and of the cache lines that travel at the end of each phase."""
    most, phases = span(planned, threads)
    return SECONDS_OF_EFFORT * most + phases * lines(threads) * current().round_trip


def lines(threads: int) -> float:
    """Return for how many cache lines, one after another, a thread waits at the end of a phase.

    It takes back two of its own, which others have read, to claim its lane and to say that it is done, and reads two of
    every other thread, some at once.
    """
    return 2 + 2 * max(1.0, (threads - 1) / LINES_AT_ONCE) if threads > 1 else 0.0
