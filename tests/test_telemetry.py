import threading

import pytest

from viva_tensor import telemetry


@pytest.fixture(autouse=True)
def _clean():
    telemetry.reset()
    yield
    telemetry.reset()


def test_summary_of_known_latencies():
    for microseconds in range(1, 101):
        telemetry.record("work", microseconds * 1000, nodes=2)
    row = telemetry.snapshot()["work"]
    assert row["count"] == 100
    assert row["nodes"] == 200
    assert row["total"] == pytest.approx(5050e-6)
    assert row["mean"] == pytest.approx(50.5e-6)
    assert row["p50"] == pytest.approx(50e-6)
    assert row["p99"] == pytest.approx(99e-6)
    assert row["max"] == pytest.approx(100e-6)


def test_a_wrong_record_is_refused_and_changes_nothing():
    telemetry.record("work", 1000)
    before = telemetry.snapshot()
    for wrong in (4.5, 2**70, -1, "1", None):
        for name in ("work", "other"):
            with pytest.raises((TypeError, OverflowError)):
                telemetry.record(name, wrong)
    for wrong in ("2", 1.5, None):
        with pytest.raises(TypeError):
            telemetry.record("work", 1000, nodes=wrong)
    assert telemetry.snapshot() == before


def test_a_record_in_the_middle_of_another_counts_and_a_snapshot_there_waits_for_nobody():
    class Interrupted:
        def __index__(self):  # as a signal handler may come in here
            telemetry.record("work", 2000)
            telemetry.record("other", 1000)
            telemetry.snapshot()
            return 5

    telemetry.record("work", 1000, nodes=Interrupted())
    assert {name: (row["count"], row["nodes"]) for name, row in telemetry.snapshot().items()} == {
        "work": (2, 6),
        "other": (1, 1),
    }


def test_one_record_is_its_own_percentiles():
    telemetry.record("work", 7000)
    row = telemetry.snapshot()["work"]
    assert row["p50"] == row["p99"] == row["max"] == pytest.approx(7e-6)


def test_memory_is_bounded_while_counts_stay_exact():
    telemetry.record("work", 10**9)
    for _ in range(10_000):
        telemetry.record("work", 1)
    row = telemetry.snapshot()["work"]
    assert row["count"] == 10_001
    assert row["max"] == 1
    assert row["p99"] == pytest.approx(1e-9)
    assert len(telemetry._operations["work"].latest) == telemetry.LATEST_CALLS


def test_a_snapshot_stays_and_reset_forgets():
    telemetry.record("work", 1)
    before = telemetry.snapshot()
    telemetry.record("work", 1)
    telemetry.reset()
    assert before["work"]["count"] == 1
    assert telemetry.snapshot() == {}


def test_no_record_of_many_threads_is_lost():
    workers = [threading.Thread(target=lambda: [telemetry.record("work", 1) for _ in range(5000)]) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert telemetry.snapshot()["work"]["count"] == 20_000
