"""Teams: every lane is done once, by whoever comes, and regions go on with the number of threads that is fastest."""

import itertools
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import viva_tensor as vt
from viva_tensor import kernels
from viva_tensor.kernels import _team, threads

PARALLEL = pytest.mark.skipif(not _team.openmp_version(), reason="a build without OpenMP")
COUNTED = pytest.mark.skipif(sys.platform != "linux", reason="counts the system's threads in /proc")


def settled(taking):
    """Return the number of threads that most of the latest regions had."""
    latest = taking[-len(taking) // 4 :]
    return max(set(latest), key=latest.count)


def test_an_idle_machine_keeps_all_threads():
    taking = _team.paced(8, lambda threads: 1e-3 / threads, 5000)
    assert taking.count(8) > 4_900  # but for one try


def test_threads_that_are_stopped_again_and_again_are_left_out():
    stops = itertools.cycle([3e-3] + [0.0] * 20)
    taking = _team.paced(2, lambda threads: 1e-4 / threads + (next(stops) if threads > 1 else 0), 20_000)
    assert taking[0] == 2
    assert settled(taking) == 1
    assert 0 < taking[-10_000:].count(2) < 2_000  # tries now and then


def test_half_of_the_threads_may_be_best():
    stops = itertools.cycle([5e-3] + [0.0] * 20)
    taking = _team.paced(8, lambda threads: 1e-3 / threads + (next(stops) if threads > 4 else 0), 20_000)
    assert settled(taking) == 4


def test_an_idle_machine_has_all_threads_back():
    passed = 0.0

    def seconds(threads):
        nonlocal passed
        taken = 1e-4 / threads + (3e-3 if passed < 1 and threads > 1 else 0)
        passed += taken
        return taken

    taking = _team.paced(2, seconds, 40_000)
    assert settled(taking[:9_000]) == 1
    assert settled(taking) == 2


def test_fewer_threads_that_are_slower_do_not_stay():
    noise = itertools.cycle([0.0, 4e-4])  # no two regions take as long, whoever takes part
    taking = _team.paced(4, lambda threads: 1e-3 / threads + next(noise), 20_000)
    assert taking.count(4) > 19_000


@PARALLEL
def test_many_more_threads_than_processors_give_the_same_bits(rng):
    a, b = rng.standard_normal((900, 300), np.float32), rng.standard_normal((300, 700), np.float32)
    with vt.num_threads(1):
        wanted = kernels.matmul(a, b)
    for count in (64, 3, 64, 17):
        with vt.num_threads(count):
            assert all(np.array_equal(kernels.matmul(a, b), wanted) for _ in range(20))


def started_by(calls):
    """Return how many threads calls start on this Python thread, until some have been started.

    They are counted after every hundred calls: with a look between any two, these might be no burst.
    """
    before = set(os.listdir("/proc/self/task"))  # by their numbers: threads of tests before this one may still end
    for number, call in enumerate(calls, 1):
        call()
        if number % 100 == 0 and set(os.listdir("/proc/self/task")) - before:
            break
    return len(set(os.listdir("/proc/self/task")) - before)


@PARALLEL
@COUNTED
def test_a_brief_call_after_a_pause_wakes_nobody_and_a_burst_of_them_does(rng):
    a = rng.standard_normal((80, 80), np.float32)  # hardly enough for two threads, and brief without wide vectors too

    def products(count):
        with vt.num_threads(2):
            return started_by(itertools.repeat(lambda: kernels.matmul(a, a), count))

    with ThreadPoolExecutor(1) as fresh:
        assert fresh.submit(os.getpid).result()  # it runs by now
        assert fresh.submit(products, 1).result() == 0
        assert fresh.submit(products, 100_000).result() == 1


@PARALLEL
@COUNTED
def test_no_more_threads_take_part_than_processors_are_granted(rng):
    a = rng.standard_normal((900, 900), np.float32)

    def product(quota):
        _team.set_quota(quota)
        with vt.num_threads(3):
            return started_by([lambda: kernels.matmul(a, a)])

    try:
        with ThreadPoolExecutor(1) as fresh, ThreadPoolExecutor(1) as another:
            for pool in (fresh, another):
                assert pool.submit(os.getpid).result()  # it runs by now
            assert fresh.submit(product, 1).result() == 0
            assert another.submit(product, 0).result() == 2
    finally:
        _team.set_quota(threads._quota)
