"""How plans deal out their work on more threads than there are processors here."""

import numpy as np
import pytest
from support import steps

from viva_tensor import kernels, optim
from viva_tensor.program import balance, thresholds

SGD = optim.SGD(lr=0.1)
# The shares of tiles, of 12 × 32 elements at most, and of rows set bounds: 128 rows are 11 tiles high, 512 are 43. Of
# 192 threads the first network uses half: its largest product has 176 tiles. AVX2 has tiles of 6 × 16.
AT_LEAST = {
    ((784, 256, 128, 10), 128): {2: 1.9, 4: 3.8, 8: 7.4, 16: 14, 32: 22, 64: 34, 128: 50, 192: 60},
    ((1024, 4096, 1024), 256): {2: 1.95, 4: 3.9, 8: 7.8, 16: 15.5, 32: 31, 64: 60, 128: 118, 192: 172},
    ((512,) * 9, 512): {2: 1.95, 4: 3.9, 8: 7.7, 16: 15.5, 32: 31, 64: 58, 128: 108, 192: 150},
}


def planned(network, threads, **values):
    with kernels.num_threads(threads), thresholds.changed(**values):
        return steps.compiled(SGD, *network)[-1]._plans.current


@pytest.mark.parametrize(("network", "threads"), [(one, threads) for one in AT_LEAST for threads in AT_LEAST[one]])
def test_the_networks_of_the_race_are_balanced_on_2_to_192_threads(network, threads):
    made = planned(network, threads, round_trip=0.0)
    assert balance.speedup(made.planned, made.threads) >= AT_LEAST[network][threads]
    for one in made.planned:
        assert sum(balance.shares(one)) == pytest.approx(1)
        assert len(balance.shares(one)) == one.threads <= made.threads - one.first


@pytest.mark.parametrize("round_trip", [4e-8, 1e-7, 5e-7])
@pytest.mark.parametrize("network", AT_LEAST)
def test_more_threads_are_never_predicted_to_be_slower(network, round_trip):
    predicted = []
    for threads in (8, 16, 32, 64, 128):
        made = planned(network, threads, round_trip=round_trip)
        with thresholds.changed(round_trip=round_trip):
            predicted.append(balance.seconds(made.planned, made.threads))
    assert predicted == sorted(predicted, reverse=True)


def test_where_cache_lines_travel_slowly_fewer_threads_take_part():
    network = (784, 256, 128, 10), 128
    near, far = (planned(network, 128, round_trip=time).threads for time in (4e-8, 5e-7))
    assert near == 128
    assert 16 <= far <= 32


def test_a_plan_for_a_hundred_threads_computes_the_same_on_two():
    network = (40, 300, 70, 9), 128
    results = []
    for threads in (1, 100):
        with kernels.num_threads(threads), thresholds.changed(**thresholds.EVERYWHERE):
            x, y, _, step = steps.compiled(SGD, *network)
            results.append([float(step(x, y)) for _ in range(3)])
            assert max(one.threads for one in step.planned) == threads
    assert np.array_equal(*results)
