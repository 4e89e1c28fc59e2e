"""Counts and latencies of operations, recorded always, for less than a microsecond a record.

Counts, totals and maxima are exact; the percentiles are those of the latest 4,096 records, so memory stays the same
however long a process runs. :func:`prometheus` offers them to a monitoring system, :func:`trace` writes down when each
operation ran.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from viva_tensor import files
from viva_tensor.error import InvalidValue
from viva_tensor.extras import extra

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

__all__ = ["Summary", "prometheus", "record", "reset", "snapshot", "trace"]

LATEST_CALLS = 4096
EVENTS = 100_000  # of a trace, about 20 MB


class Summary(TypedDict):
    """What :func:`snapshot` tells of one operation; times in seconds."""

    count: int
    nodes: int
    total: float
    mean: float
    p50: float
    p99: float
    max: float


class _Operation:
    __slots__ = ("count", "latest", "longest", "nodes", "total")

    def __init__(self) -> None:
        self.count = 0
        self.nodes = 0
        self.total = 0
        self.longest = 0
        self.latest: deque[int] = deque(maxlen=LATEST_CALLS)


class _Event(NamedTuple):
    operation: str
    begin: int
    nanoseconds: int
    thread: int
    nodes: int


class _Trace:
    __slots__ = ("count", "events", "threads")

    def __init__(self, limit: int) -> None:
        self.count = 0
        self.events: deque[_Event] = deque(maxlen=limit)
        self.threads: dict[int, str] = {}


_operations: dict[str, _Operation] = {}
_traces: tuple[_Trace, ...] = ()  # those that are being recorded
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # no child finds the lock held by a thread that it does not have
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def record(operation: str, nanoseconds: int, nodes: int = 1) -> None:
    """Add one call of an operation: its latency and the number of tape nodes that it recorded or visited.

    Examples
    --------
    >>> record("example", 2_000, nodes=3)
    >>> snapshot()["example"]["nodes"]
    3
    """
    if _traces:
        _note(operation, nanoseconds, nodes)
    with _lock:
        known = _operations.get(operation)
        if known is None:
            known = _operations[operation] = _Operation()
        known.count += 1
        known.nodes += nodes
        known.total += nanoseconds
        if nanoseconds > known.longest:
            known.longest = nanoseconds
        known.latest.append(nanoseconds)


def snapshot() -> dict[str, Summary]:
    """Count, nodes, and total, mean, median, 99th percentile and maximum latency (seconds) of each operation.

    Returns
    -------
    dict
        Keyed by the operation's name; it does not change when more is recorded.

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
        return {name: _summary(known) for name, known in _operations.items()}


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


def prometheus(registry: CollectorRegistry | None = None) -> Collector:
    """Offer the records of this process to Prometheus.

    Each scrape shows, with the label ``operation``: the summary ``viva_tensor_operation_seconds`` (count, sum, and the
    quantiles 0.5 and 0.99 of the latest records), the gauge ``viva_tensor_operation_max_seconds`` and the counter
    ``viva_tensor_operation_nodes_total``.

    Parameters
    ----------
    registry : prometheus_client.CollectorRegistry, optional
        By default the one that ``prometheus_client.start_http_server`` serves.

    Returns
    -------
    prometheus_client.registry.Collector
        What was registered; ``registry.unregister`` takes it out again.

    Raises
    ------
    InvalidValue
        If the registry has such a collector, or is none.
    ImportError
        Without prometheus_client.

    Examples
    --------
    >>> from prometheus_client import CollectorRegistry
    >>> registry = CollectorRegistry()
    >>> collector = prometheus(registry)
    >>> reset()
    >>> record("scraped", 2_000_000)
    >>> registry.get_sample_value("viva_tensor_operation_seconds_sum", {"operation": "scraped"})
    0.002
    """
    with extra("telemetry"):
        from prometheus_client import REGISTRY, CollectorRegistry
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
        from prometheus_client.registry import Collector

    def families(rows: dict[str, Summary]) -> Iterable[Metric]:
        label = ["operation"]
        seconds = SummaryMetricFamily("viva_tensor_operation_seconds", "Latency of an operation.", labels=label)
        longest = GaugeMetricFamily("viva_tensor_operation_max_seconds", "Longest latency.", labels=label)
        nodes = CounterMetricFamily("viva_tensor_operation_nodes", "Nodes recorded or visited.", labels=label)
        for operation, row in rows.items():
            seconds.add_metric([operation], row["count"], row["total"])
            for quantile, value in (("0.5", row["p50"]), ("0.99", row["p99"])):
                seconds.add_sample(seconds.name, {"operation": operation, "quantile": quantile}, value)
            longest.add_metric([operation], row["max"])
            nodes.add_metric([operation], row["nodes"])
        return seconds, longest, nodes

    class Operations(Collector):
        def describe(self) -> Iterable[Metric]:
            return families({})

        def collect(self) -> Iterable[Metric]:
            return families(snapshot())

    registry = REGISTRY if registry is None else registry
    if not isinstance(registry, CollectorRegistry):
        got = type(registry).__name__
        raise InvalidValue(f"got {got}, wanted a prometheus_client.CollectorRegistry", operation="prometheus")
    collector = Operations()
    try:
        registry.register(collector)
    except ValueError as error:
        raise InvalidValue(
            f"the registry has these metrics ({error})", operation="prometheus", hint="register once for each registry"
        ) from None
    return collector


@contextmanager
def trace(path: str | os.PathLike[str], limit: int = EVENTS) -> Iterator[None]:
    """Write down when each operation ran inside, on which thread and for how long.

    The file opens in ui.perfetto.dev and chrome://tracing. It is written at the end, also after an exception.

    Parameters
    ----------
    path : str or path-like
        Replaced in one step; see :func:`viva_tensor.files.replace`.
    limit : int
        Events that are kept, each of about 200 bytes of memory: the latest ones. How many were dropped stands in the
        file under ``otherData``.

    Raises
    ------
    InvalidValue
        If the limit is below 1.
    OSError
        If there is no such folder, before anything is recorded, or the file cannot be written.

    Notes
    -----
    The file holds complete events ("ph": "X") with times in microseconds of ``time.perf_counter``. Outside a trace,
    recording costs what it cost without.

    References
    ----------
    .. [1] N. Duca and D. Sinclair, Trace Event Format, the Chromium project, 2016.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> from viva_tensor import autograd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with trace(Path(folder) / "trace.json"):
    ...         x, tape = autograd.new_variable(autograd.new_tape(), 2.0)
    ...         grads = autograd.backward(tape, x)
    ...     written = json.loads((Path(folder) / "trace.json").read_text())
    >>> [event["name"] for event in written["traceEvents"] if event["ph"] == "X"]
    ['backward']
    """
    import json  # which few runs need

    global _traces
    if limit < 1:
        raise InvalidValue(f"limit={limit}, wanted at least 1", operation="trace", hint="keep some events")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
    mine = _Trace(limit)
    with _lock:
        _traces = (*_traces, mine)
    try:
        yield
    finally:
        with _lock:
            _traces = tuple(one for one in _traces if one is not mine)
        files.replace(path, json.dumps(_events(mine)).encode())


def _note(operation: str, nanoseconds: int, nodes: int) -> None:
    """Add an operation that ends now to the traces."""
    thread = threading.get_native_id()
    event = _Event(operation, perf_counter_ns() - nanoseconds, nanoseconds, thread, nodes)
    with _lock:
        for one in _traces:
            one.count += 1
            one.events.append(event)
            if thread not in one.threads:
                one.threads[thread] = threading.current_thread().name


def _events(done: _Trace) -> dict[str, Any]:
    """A trace as the object that becomes JSON."""
    process = os.getpid()
    named = [
        {"ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": {"name": name}}
        for thread, name in done.threads.items()
    ]
    complete = [
        {
            "ph": "X",
            "name": event.operation,
            "cat": "viva_tensor",
            "ts": event.begin / 1000,
            "dur": event.nanoseconds / 1000,
            "pid": process,
            "tid": event.thread,
            "args": {"nodes": event.nodes},
        }
        for event in done.events
    ]
    dropped = done.count - len(done.events)
    return {"traceEvents": named + complete, "displayTimeUnit": "ns", "otherData": {"dropped": dropped}}


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
    """The smallest value that at least this share of the values does not exceed (nearest rank)."""
    return ordered[-(-len(ordered) * percent // 100) - 1]
