"""The model of scale in asv_benchmarks/scaling, by numbers that can be had another way."""

import importlib.util
import math
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[1] / "asv_benchmarks" / "scaling" / "model.py"
if not FILE.is_file():
    pytest.skip("asv_benchmarks is not beside this copy of the tests", allow_module_level=True)
spec = importlib.util.spec_from_file_location("model_of_scale", FILE)
model = sys.modules["model_of_scale"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model)

LINK = model.Link(1e-5, 1e-9, 2e-10)
NETWORK = model.Network("small", 250_000, [1, 10, 100], [1e-4, 2e-4, 1e-3], [2e-4, 3e-4, 1.1e-3], 5e-5)


def exchanges(algorithm, ranks):
    """Messages, shares of the block sent and shares added, one after another, by walking through the rounds."""
    messages = sent = added = 0.0
    if algorithm == "ring":
        for _ in range(ranks - 1):  # reduce-scatter
            messages, sent, added = messages + 1, sent + 1 / ranks, added + 1 / ranks
        for _ in range(ranks - 1):  # allgather
            messages, sent = messages + 1, sent + 1 / ranks
        return messages, sent, added
    left = 1
    while left < ranks:
        left *= 2
        share = 1.0 if algorithm == "recursive doubling" else 1 / left
        messages, sent, added = messages + 1, sent + share, added + share
    if algorithm == "halving and doubling":
        return 2 * messages, 2 * sent, added
    return messages, sent, added


@pytest.mark.parametrize("ranks", [2, 4, 8, 64, 4096])
@pytest.mark.parametrize("algorithm", list(model.ALGORITHMS))
def test_costs_are_those_of_the_rounds(algorithm, ranks):
    assert model.ALGORITHMS[algorithm](ranks) == pytest.approx(exchanges(algorithm, ranks))


def test_ranks_beyond_a_power_of_two_cost_two_messages_and_the_block_twice():
    for algorithm in (model.halving, model.doubling):
        odd, even = np.array(algorithm(5)), np.array(algorithm(4))
        assert odd[0] - even[0] == 2
        assert odd[1] - even[1] == pytest.approx(2, abs=0.2)  # (p − 1)/p is that of 5
        assert odd[2] - even[2] == pytest.approx(1, abs=0.1)


def test_the_cheapest_algorithm_changes_with_size_and_ranks():
    assert model.cheapest(4, 64, LINK) == "recursive doubling"
    assert model.cheapest(1e6, 64, LINK) == "halving and doubling"
    assert model.cheapest(1e9, 65, LINK) == "ring"
    assert model.allreduce(1e6, 1, LINK) == 0
    assert model.allreduce(1e6, 65, LINK) == min(model.cost(one, 1e6, 65, LINK) for one in model.ALGORITHMS)


def test_the_slowest_of_normal_times():
    assert model.slowest(1) == pytest.approx(0, abs=1e-9)
    assert model.slowest(2) == pytest.approx(1 / math.sqrt(math.pi), rel=1e-6)
    assert model.slowest(3) == pytest.approx(1.5 / math.sqrt(math.pi), rel=1e-6)
    draws = np.random.default_rng(0).standard_normal((4000, 256)).max(axis=1)
    assert abs(model.slowest(256) - draws.mean()) < 5 * draws.std() / math.sqrt(len(draws))


def test_computing_meets_what_was_measured_and_goes_on_in_proportion():
    assert [model.computing(rows, [1, 10, 100], [1, 2, 11]) for rows in (0.5, 1, 55, 100, 200)] == [1, 1, 6.5, 11, 22]


def test_a_step_is_computing_and_reduction():
    assert model.step_seconds(NETWORK, 100, 1, LINK) == 1e-3
    reduction = model.allreduce(1e6, 8, LINK)
    assert model.step_seconds(NETWORK, 100, 8, LINK) == pytest.approx(1.1e-3 + reduction)


def test_each_lever_acts_as_its_formula_says():
    plain = model.step_seconds(NETWORK, 100, 8, LINK)

    def step(**levers):
        return model.step_seconds(NETWORK, 100, 8, LINK, model.Levers(**levers))

    assert step(every=4) == pytest.approx(1.1e-3 + (plain - 1.1e-3) / 4)
    assert step(compression=4) == pytest.approx(1.1e-3 + model.allreduce(2.5e5, 8, LINK))
    assert step(sharded=True) == pytest.approx(plain - 5e-5 * 7 / 8)
    assert step(jitter=0.1) == pytest.approx(plain + 1.1e-4 * model.slowest(8))
    assert step(jitter=0.1, every=4) == pytest.approx(step(every=4) + 1.1e-4 * model.slowest(8) / 2)
    one = model.allreduce(2.5e5, 8, LINK)
    assert step(overlap=0.5) == pytest.approx(1.1e-3 + 4 * one - 0.55e-3)
    slow = model.computing(100, NETWORK.rows, NETWORK.shared) * 100
    long = NETWORK._replace(shared=[slow] * 3)  # all is hidden but the last bucket
    whole = model.step_seconds(long, 100, 8, LINK, model.Levers(overlap=1.0))
    assert whole == pytest.approx(slow + one)
    assert step(overlap=1e-9, buckets=10_000) == plain  # where cutting costs more than it hides, nothing is cut


def test_efficiency_and_where_it_ends():
    assert model.weak(NETWORK, 100, 1, LINK) == model.strong(NETWORK, 100, 1, LINK) == 1
    assert model.strong(NETWORK, 100, 128, LINK) == 0  # not a row each
    free = model.Link(0, 0, 0)
    assert model.weak(NETWORK, 100, 4096, free) == pytest.approx(1 / 1.1)
    assert model.strong(NETWORK, 100, 10, free) == pytest.approx(1e-3 / (10 * 3e-4))
    assert model.limit(lambda ranks: 1.0) == 4096
    assert model.limit(lambda ranks: 0.6 if ranks < 100 else 0.4) == 64
    rows = model.rows_for(NETWORK, 64, LINK)
    assert model.weak(NETWORK, rows, 64, LINK) >= 0.5 > model.weak(NETWORK, rows / 2, 64, LINK)
    assert model.rows_for(NETWORK, 64, model.Link(1e6, 0, 0)) is None


def drawn(local, ranks, cpus, noise=0.0, rng=None):
    for count in ranks:
        for size in (64 << power for power in range(0, 20, 2)):
            seconds = local.allreduce(size, count, cpus) * (1 + noise * (rng.standard_normal() if rng else 0))
            yield model.Sample(count, size, seconds, model.sharing(count, cpus))


def test_a_fit_finds_the_constants_that_made_the_times():
    local = model.Local(LINK, 3e-3)
    found = model.fit(drawn(local, (2, 4), 2), LINK.per_sum)
    assert found.turn == pytest.approx(3e-3, rel=1e-6)
    assert found.link == pytest.approx(LINK, rel=1e-6)
    assert found.allreduce(1e6, 8, 2) == pytest.approx(4 * model.allreduce(1e6, 8, LINK) + 3 * 3e-3, rel=1e-6)


def test_a_fit_of_noisy_times_is_near_and_never_negative():
    rng = np.random.default_rng(1)
    fits = [model.fit(drawn(model.Local(LINK, 0.0), (2, 4), 4, 0.05, rng), LINK.per_sum).link for _ in range(20)]
    # 20 times of 5% each: a constant that half of them tell is known to 0.05/√10, and a mean of 20 fits better still
    assert statistics.mean(one.latency for one in fits) == pytest.approx(LINK.latency, rel=0.05)
    assert statistics.mean(one.per_byte for one in fits) == pytest.approx(LINK.per_byte, rel=0.05)
    free = [model.Sample(2, size, size * 1e-9) for size in (64, 1024, 65536)]  # β + γ/2 alone
    assert model.fit(free, 1e-8).link.per_byte == 0
    assert model.fit(free, 1e-10).link == pytest.approx((0, 0.95e-9, 1e-10), abs=1e-15)


def test_a_fit_asks_for_times_that_tell_something():
    for samples in ([], [model.Sample(2, 64, 1e-5)], [model.Sample(1, 64, 1e-5), model.Sample(2, 128, 1e-5)]):
        with pytest.raises(ValueError, match="two sizes"):
            model.fit(samples, 1e-10)
