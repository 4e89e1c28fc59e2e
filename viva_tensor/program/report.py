"""A plan in print: its instructions, buffers, flops, bytes and barriers, and where the time goes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np

from viva_tensor import kernels
from viva_tensor.kernels.peak import fma_peak
from viva_tensor.program.balance import speedup
from viva_tensor.program.instructions import Instruction, Update
from viva_tensor.program.planning import Plan
from viva_tensor.program.scheduling import Planned

PEAK_SECONDS = 0.02  # to measure the peak for one number of threads
SMALLEST = 1 << 14  # bytes whose bandwidth can be measured: with fewer, calls take most of the time


def listing(plan: Plan) -> str:
    """Return a line for each instruction, and one of sums; balance is the mean load of threads ÷ the largest."""
    lines = []
    for one in plan.planned:
        if one.barrier:
            lines.append("-- barrier --")
        lines.append(_line(one, plan.dtype))
    barriers = plan.executor.barriers()
    balance = f", balance {100 * speedup(plan.planned, plan.threads) / plan.threads:.0f}%" if plan.threads > 1 else ""
    lines.append(
        f"{len(plan.planned)} instructions, {plan.flops:,} flops, {plan.arena.nbytes:,} bytes of temporaries, "
        f"{plan.threads} thread{'s' * (plan.threads > 1)}, {barriers} barrier{'s' * (barriers != 1)}{balance}"
    )
    return "\n".join(lines)


def _line(one: Planned, dtype: np.dtype[Any]) -> str:
    instruction = one.instruction
    results = ", ".join(map(repr, instruction.results.values()))
    operands = ", ".join(
        f"{name}={symbol!r}"
        for name, symbol in instruction.operands.items()
        if name != "w" or isinstance(instruction, Update)
    )
    name = _label(instruction)
    split = f"{one.threads} by rows" if one.by_rows and one.threads > 1 else str(one.threads)
    size = instruction.elements * dtype.itemsize
    path = f"; {one.path}" if one.path else ""
    return f"{results} = {name}({operands})  {instruction.flops:,} flops, {size:,} bytes, threads: {split}{path}"


def _label(instruction: Instruction) -> str:
    return " + ".join((instruction.label, *instruction.fused))


def profile(plan: Plan, seconds: Sequence[float]) -> str:
    """Return a table of times, rates and shares of the roofline, which is measured now.

    The roof of an instruction is the fused multiply-add peak, or the bandwidth of the memory that holds as many bytes,
    whichever gives the longer time.
    """
    dtype, counts = plan.dtype, {one.threads for one in plan.planned}
    peaks = {threads: 1e9 * fma_peak(threads, dtype.name, PEAK_SECONDS) for threads in counts}
    bandwidth = cache(lambda threads, size: _bandwidth(threads, size, dtype))
    rows = [("µs", "GFLOPS", "GB/s", "of roof", "roof", "threads", "instruction")]
    times = iter(seconds)
    total = 0.0
    for one in plan.planned:
        time = max(sum(islice(times, one.calls)), 1e-9)
        total += time
        instruction = one.instruction
        moved = instruction.elements * dtype.itemsize
        size = 1 << max(moved, SMALLEST).bit_length()
        bounds = {
            "arithmetic": instruction.flops / peaks[one.threads],
            "memory": moved / bandwidth(one.threads, size),
        }
        roof = max(bounds, key=bounds.__getitem__)
        rows.append(
            (
                f"{1e6 * time:.2f}",
                f"{1e-9 * instruction.flops / time:.1f}",
                f"{1e-9 * moved / time:.1f}",
                f"{100 * bounds[roof] / time:.0f}%",
                roof,
                str(one.threads),
                f"{', '.join(map(repr, instruction.results.values()))} = {_label(instruction)}",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    lines = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[6]]) for row in rows
    ]
    return "\n".join([*lines, f"{1e6 * total:.2f} µs in all, each instruction in a region of its own"])


def _bandwidth(threads: int, size: int, dtype: np.dtype[Any]) -> float:
    """Return the bytes per second of the fastest kernel, relu in place, on so many bytes, half of them written."""
    x = np.ones((1, max(size // 2 // dtype.itemsize, 1)), dtype)
    calls = max(1, (1 << 18) // size)
    best = 0.0
    with kernels.num_threads(threads):
        for _ in range(5):
            start = perf_counter()
            for _ in range(calls):
                kernels.relu(x, out=x)
            best = max(best, 2 * calls * x.nbytes / (perf_counter() - start))
    return best
