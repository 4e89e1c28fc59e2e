"""A model of one data-parallel training step: what each node computes, what all of them sum, and who is slowest.

T(N) = compute(rows of one node) + reduction(bytes of the gradients, N) + wait for the slowest of N.

A reduction over N ranks costs aα + b·nβ + c·nγ for n bytes, where a message costs α and nβ seconds and adding n bytes
nγ; a, b and c are those of the algorithm [1]_ [2]_ [3]_. MPI libraries choose by size and ranks; the model takes the
cheapest.

References
----------
.. [1] R. Thakur, R. Rabenseifner and W. Gropp, Optimization of Collective Communication Operations in MPICH,
   International Journal of High Performance Computing Applications 19(1), 2005: recursive doubling, and recursive
   halving with doubling (Rabenseifner's).
.. [2] The comments on costs in MPICH's source, src/mpi/coll/allreduce: numbers of ranks that are no power of two.
.. [3] P. Patarasuk and X. Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, Journal of
   Parallel and Distributed Computing 69(2), 2009: the ring.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

MOST_NODES = 4096  # nodes that are asked about
IDLE = 1.0  # the load up to which a machine does nothing else; it still counts the minute before
ROUNDS = 50  # of a fit, which needs two or three


class Link(NamedTuple):
    """Seconds of a message (α), of each byte sent (β) and of each byte added (γ)."""

    latency: float
    per_byte: float
    per_sum: float


class Levers(NamedTuple):
    """What moves the limit.

    ``overlap`` is the share of the computing during which a reduction goes on, in ``buckets`` of which the last waits
    for the whole backward pass; gradients take 1/``compression`` of their bytes; ranks meet ``every`` so many steps;
    with ``sharded`` states each rank updates 1/N of the parameters; ``jitter`` is the standard deviation of a node's
    computing as a share of its mean.
    """

    overlap: float = 0.0
    buckets: int = 4
    compression: float = 1.0
    every: int = 1
    sharded: bool = False
    jitter: float = 0.0


PLAIN = Levers()


class Network(NamedTuple):
    """A network, and what one node takes for a step of it at several numbers of rows.

    ``alone`` are the seconds of a step that is not divided, ``shared`` those of one whose gradients are made apart from
    the update, without any reduction; ``update`` those of the update in it.
    """

    name: str
    parameters: int
    rows: Sequence[float]
    alone: Sequence[float]
    shared: Sequence[float]
    update: float

    @property
    def bytes(self) -> int:
        """Of the gradients, in float32."""
        return 4 * self.parameters


Coefficients = tuple[float, float, float]


def ring(ranks: int) -> Coefficients:
    part = (ranks - 1) / ranks
    return 2 * (ranks - 1), 2 * part, part


def halving(ranks: int) -> Coefficients:
    rounds, part = math.floor(math.log2(ranks)), (ranks - 1) / ranks
    if ranks == 1 << rounds:
        return 2 * rounds, 2 * part, part
    return 2 * rounds + 2, 2 * part + 2, part + 1  # those beyond the power of two send to a neighbour, and wait


def doubling(ranks: int) -> Coefficients:
    rounds = math.floor(math.log2(ranks))
    if ranks == 1 << rounds:
        return rounds, rounds, rounds
    return rounds + 2, rounds + 2, rounds + 1


ALGORITHMS: dict[str, Callable[[int], Coefficients]] = {
    "recursive doubling": doubling,
    "halving and doubling": halving,
    "ring": ring,
}


def cost(algorithm: str, size: float, ranks: int, link: Link) -> float:
    """Seconds in which so many ranks sum so many bytes."""
    if ranks == 1:
        return 0.0
    messages, sent, added = ALGORITHMS[algorithm](ranks)
    return messages * link.latency + size * (sent * link.per_byte + added * link.per_sum)


def cheapest(size: float, ranks: int, link: Link) -> str:
    return min(ALGORITHMS, key=lambda algorithm: cost(algorithm, size, ranks, link))


def allreduce(size: float, ranks: int, link: Link) -> float:
    """Seconds of the cheapest algorithm."""
    return cost(cheapest(size, ranks, link), size, ranks, link)


def slowest(ranks: int) -> float:
    """The expected largest of so many standard normal numbers.

    ∫ x dΦ(x)ᴺ = ∫₀^∞ 1 − Φ(x)ᴺ − Φ(−x)ᴺ dx by the trapezoidal rule. 1 rank: 0, 2: 1/√π, 4,096: 3.5.
    """
    x = np.linspace(0, 12, 2401)
    below = np.array([0.5 * math.erfc(-one / math.sqrt(2)) for one in x])
    above = np.array([0.5 * math.erfc(one / math.sqrt(2)) for one in x])
    return float(np.trapezoid(1 - below**ranks - above**ranks, x))


def computing(rows: float, measured_rows: Sequence[float], seconds: Sequence[float]) -> float:
    """Seconds of a step on so many rows: between two measured numbers of rows on a line, beyond the last in proportion.

    Below the least number that was measured a step takes no less than with that.
    """
    return float(np.interp(rows, measured_rows, seconds)) * max(1.0, rows / measured_rows[-1])


def step_seconds(network: Network, rows: float, ranks: int, link: Link, levers: Levers = PLAIN) -> float:
    """Seconds of a step in which each rank has so many rows, on average where they meet but now and then."""
    if ranks == 1:
        return computing(rows, network.rows, network.alone)
    compute = computing(rows, network.rows, network.shared)
    if levers.sharded:
        compute -= network.update * (1 - 1 / ranks)
    size = network.bytes / levers.compression
    reduction = allreduce(size, ranks, link)
    if levers.overlap:
        one = allreduce(size / levers.buckets, ranks, link)
        reduction = min(reduction, max(levers.buckets * one - levers.overlap * compute, one))
    wait = levers.jitter * compute * slowest(ranks) / math.sqrt(levers.every)
    return compute + reduction / levers.every + wait


def weak(network: Network, rows: float, ranks: int, link: Link, levers: Levers = PLAIN) -> float:
    """Efficiency with so many rows on every node: a node's time for a step alone ÷ that in a group."""
    return step_seconds(network, rows, 1, link) / step_seconds(network, rows, ranks, link, levers)


def strong(network: Network, batch: float, ranks: int, link: Link, levers: Levers = PLAIN) -> float:
    """Efficiency with so many rows in all: one node's time for a step ÷ (ranks · theirs); 0 below a row each."""
    if ranks > batch:
        return 0.0
    return step_seconds(network, batch, 1, link) / (ranks * step_seconds(network, batch / ranks, ranks, link, levers))


def nodes() -> list[int]:
    return [1 << power for power in range(MOST_NODES.bit_length())]


def limit(efficiency: Callable[[int], float], least: float = 0.5) -> int:
    """The largest power of two of nodes, up to 4,096, up to which the efficiency stays at that least or above."""
    last = 1
    for ranks in nodes():
        if efficiency(ranks) < least:
            break
        last = ranks
    return last


def rows_for(network: Network, ranks: int, link: Link, levers: Levers = PLAIN, least: float = 0.5) -> int | None:
    """The fewest rows on each node, as a power of two up to 2²⁰, with which weak scaling is at that least."""
    return next((r for r in (1 << p for p in range(21)) if weak(network, r, ranks, link, levers) >= least), None)


class Sample(NamedTuple):
    """A reduction that was timed, with ``sharing`` ranks for each processor."""

    ranks: int
    size: float
    seconds: float
    sharing: float = 1.0


class Local(NamedTuple):
    """Reductions among the ranks of one machine.

    Where ranks share processors, each does its work in turn, so that the work takes so many times as long; and since
    those that wait keep a processor busy until the scheduler takes it from them, each of the others costs a ``turn``.
    """

    link: Link
    turn: float

    def allreduce(self, size: float, ranks: int, cpus: int) -> float:
        share = sharing(ranks, cpus)
        return share * allreduce(size, ranks, self.link) + (share - 1) * self.turn


def sharing(ranks: int, cpus: int) -> float:
    return max(1.0, ranks / cpus)


def fit(samples: Iterable[Sample], per_sum: float) -> Local:
    """α, β and the length of a turn by least squares of relative errors, with γ as it was measured apart.

    In a reduction β and γ always come together, so no timing of reductions tells one from the other. Which algorithm
    was at work depends on α and β; both are found in turn until nothing changes.
    """
    samples = list(samples)
    if len({one.size for one in samples}) < 2 or any(one.ranks < 2 or one.seconds <= 0 for one in samples):
        raise ValueError("a fit needs reductions of two sizes or more, between ranks, that took some time")
    least = min(one.seconds for one in samples), min(one.seconds / one.size for one in samples)
    found, before = Local(Link(*least, per_sum), 0.0), [""]
    for _ in range(ROUNDS):
        chosen = [cheapest(one.size, one.ranks, found.link) for one in samples]
        if chosen == before:
            break
        found, before = _least_squares(samples, chosen, per_sum), chosen
    return found


def _least_squares(samples: Sequence[Sample], chosen: Sequence[str], per_sum: float) -> Local:
    table, wanted = [], []
    for one, algorithm in zip(samples, chosen, strict=True):
        messages, sent, added = ALGORITHMS[algorithm](one.ranks)
        table.append([one.sharing * messages, one.sharing * sent * one.size, one.sharing - 1])
        wanted.append(one.seconds - one.sharing * added * one.size * per_sum)
    seconds = np.array([one.seconds for one in samples])
    latency, per_byte, turn = not_negative(np.array(table) / seconds[:, None], np.array(wanted) / seconds)
    return Local(Link(latency, per_byte, per_sum), turn)


def not_negative(a: np.ndarray, b: np.ndarray) -> list[float]:
    """The x without negative numbers that is least squares of ax = b, for a few columns: the best of all choices."""
    best, found = float(b @ b), np.zeros(a.shape[1])
    for chosen in range(1, 1 << a.shape[1]):
        columns = [column for column in range(a.shape[1]) if chosen >> column & 1]
        x = np.linalg.lstsq(a[:, columns], b, rcond=None)[0]
        error = float(np.square(a[:, columns] @ x - b).sum())
        if x.min() >= 0 and error < best:
            best, found = error, np.zeros(a.shape[1])
            found[columns] = x
    return [float(one) for one in found]
