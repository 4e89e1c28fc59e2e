"""Counts and latencies of ``nn.linear_forward`` and ``autograd.backward``, always recorded, and what you record.

A record takes less than a microsecond. Counts, totals and maxima are exact; percentiles are computed from the latest
4,096 records, so that memory stays constant however long a process runs. :meth:`viva_tensor.program.Step.profile`
breaks down a compiled step.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from operator import index
from typing import TypedDict

__all__ = ["Summary", "record", "reset", "snapshot"]

LATEST_CALLS = 4096


class Summary(TypedDict):
    """The figures of one operation in a :func:`snapshot`; times in seconds."""

    count: int
    nodes: int
    total: float
    mean: float
    p50: float
    p99: float
    max: float


@dataclass(slots=True)
class _Operation:
    count: int = 0
    nodes: int = 0
    total: int = 0
    longest: int = 0
    latest: array[int] = field(default_factory=lambda: array("q"))  # a ring of nanoseconds, compact in caches


_operations: defaultdict[str, _Operation] = defaultdict(_Operation)
_lock = threading.RLock()  # for what a signal handler records or asks in the middle of it
if hasattr(os, "register_at_fork"):  # a child has no thread that could release it
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def record(operation: str, nanoseconds: int, nodes: int = 1) -> None:
    """Add one call of an operation: its latency and the number of tape nodes recorded or visited.

    Raises
    ------
    TypeError, OverflowError
        If they are no whole numbers, or the latency is negative or beyond 64 bits.

    Examples
    --------
    >>> record("example", 2_000, nodes=3)
    >>> snapshot()["example"]["nodes"]
    3
    """
    with _lock:
        known, nodes, nanoseconds = _operations[operation], index(nodes), index(nanoseconds)
        if nanoseconds < 0:
            raise OverflowError(f"a latency of {nanoseconds} nanoseconds")
        if known.count < LATEST_CALLS:  # raises before anything is changed if this is no number of nanoseconds
            known.latest.append(nanoseconds)
        else:
            known.latest[known.count % LATEST_CALLS] = nanoseconds
        known.nodes += nodes
        known.total += nanoseconds
        if nanoseconds > known.longest:
            known.longest = nanoseconds
        known.count += 1


def snapshot() -> dict[str, Summary]:
    """Return count, nodes and seconds by operation: total, mean, median (p50), 99th percentile (p99) and maximum.

    The dict, keyed by the operation's name, does not change when more is recorded.

    Examples
    --------
    >>> from viva_tensor import autograd
    >>> reset()
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [1.0, 2.0])
    >>> loss, tape = autograd.mean(tape, x)
    >>> grads = autograd.backward(tape, loss)
    >>> snapshot()["backward"]["count"]
    1
    """
    with _lock:
        return {name: _summary(known) for name, known in list(_operations.items()) if known.count}


def reset() -> None:
    """Forget all records.

    Examples
    --------
    >>> reset()
    >>> snapshot()
    {}
    """
    with _lock:
        _operations.clear()


def _summary(known: _Operation) -> Summary:
    ordered = sorted(known.latest)
    return Summary(
        count=known.count,
        nodes=known.nodes,
        total=known.total * 1e-9,
        mean=known.total * 1e-9 / known.count,
        p50=_percentile(ordered, 50) * 1e-9,
        p99=_percentile(ordered, 99) * 1e-9,
        max=known.longest * 1e-9,
    )


def _percentile(ordered: list[int], percent: int) -> int:
    """Return the smallest value that at least this share of the values do not exceed (nearest rank)."""
    return ordered[-(-len(ordered) * percent // 100) - 1]
