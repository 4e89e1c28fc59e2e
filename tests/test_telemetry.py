import json
import os
import sys
import threading
from time import perf_counter_ns

import numpy as np
import prometheus_client
import pytest

from viva_tensor import autograd, error, nn, telemetry


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


class TestPrometheus:
    @pytest.fixture
    def registry(self):
        return prometheus_client.CollectorRegistry()

    def test_counts_and_latencies_of_each_operation(self, registry):
        telemetry.prometheus(registry)
        for milliseconds in (1, 2, 30):
            telemetry.record("work", milliseconds * 10**6, nodes=4)
        telemetry.record("other", 10**9)

        def value(name, **labels):
            return registry.get_sample_value(f"viva_tensor_operation_{name}", {"operation": "work"} | labels)

        assert value("seconds_count") == 3
        assert value("seconds_sum") == pytest.approx(0.033)
        assert value("seconds", quantile="0.5") == pytest.approx(0.002)
        assert value("seconds", quantile="0.99") == pytest.approx(0.030)
        assert value("max_seconds") == pytest.approx(0.030)
        assert value("nodes_total") == 12
        assert value("seconds_sum", operation="other") == 1

    def test_each_scrape_is_new_and_in_the_text_format(self, registry):
        telemetry.prometheus(registry)
        assert b"operation=" not in prometheus_client.generate_latest(registry)
        telemetry.record("work", 10**6)
        text = prometheus_client.generate_latest(registry).decode()
        assert "# TYPE viva_tensor_operation_seconds summary" in text
        assert 'viva_tensor_operation_seconds_count{operation="work"} 1.0' in text
        assert 'viva_tensor_operation_seconds{operation="work",quantile="0.5"} 0.001' in text

    @pytest.mark.parametrize("automatic", [False, True])
    def test_twice_in_one_registry(self, automatic):
        registry = prometheus_client.CollectorRegistry(auto_describe=automatic)
        collector = telemetry.prometheus(registry)
        with pytest.raises(error.InvalidValue, match=r"prometheus: the registry has these metrics .*register once"):
            telemetry.prometheus(registry)
        registry.unregister(collector)
        telemetry.prometheus(registry)

    def test_the_default_registry(self):
        telemetry.record("work", 10**9)
        collector = telemetry.prometheus()
        try:
            labels = {"operation": "work"}
            assert prometheus_client.REGISTRY.get_sample_value("viva_tensor_operation_seconds_sum", labels) == 1
        finally:
            prometheus_client.REGISTRY.unregister(collector)

    def test_what_is_no_registry(self):
        with pytest.raises(error.InvalidValue, match="got str, wanted a prometheus_client"):
            telemetry.prometheus("registry")

    def test_without_prometheus_client(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        with pytest.raises(ImportError, match=r'pip install "viva-tensor\[telemetry\]"'):
            telemetry.prometheus()


class TestTrace:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "trace.json"

    @staticmethod
    def events(path, kind="X"):
        return [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == kind]

    def test_operations_with_their_times_in_microseconds(self, path):
        x, tape = autograd.new_constant(autograd.new_tape(), np.ones((2, 3), np.float32))
        layer, tape = nn.linear(tape, 3, 1, rng=np.random.default_rng(0))
        before = perf_counter_ns()
        with telemetry.trace(path):
            y, tape = nn.linear_forward(tape, layer, x)
            autograd.backward(tape, y, seed=np.ones((2, 1), np.float32))
        after = perf_counter_ns()
        first, second = self.events(path)
        assert (first["name"], second["name"]) == ("linear_forward", "backward")
        assert first["args"] == {"nodes": 1}
        assert (
            before / 1000 <= first["ts"] <= first["ts"] + first["dur"] <= second["ts"] + second["dur"] <= after / 1000
        )
        assert first["dur"] == pytest.approx(telemetry.snapshot()["linear_forward"]["total"] * 1e6, rel=1e-9)

    def test_every_event_has_what_the_format_asks_for(self, path):
        with telemetry.trace(path):
            telemetry.record("work", 1500)
        (event,) = self.events(path)
        assert isinstance(event["ts"], float)
        assert event["dur"] == 1.5
        assert (event["pid"], event["tid"]) == (os.getpid(), threading.get_native_id())
        (name,) = self.events(path, "M")
        assert (name["name"], name["args"]) == ("thread_name", {"name": threading.current_thread().name})
        assert (name["pid"], name["tid"]) == (event["pid"], event["tid"])

    def test_threads_are_told_apart_and_none_is_lost(self, path):
        together = threading.Barrier(4)

        def work(name):
            together.wait()
            for _ in range(1000):
                telemetry.record(name, 1)
            together.wait()  # no thread ends before all have run, so that each has an id of its own

        with telemetry.trace(path):
            workers = [threading.Thread(target=work, args=(f"w{i}",), name=f"worker {i}") for i in range(4)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        names = {event["tid"]: event["args"]["name"] for event in self.events(path, "M")}
        found = [(event["name"], names[event["tid"]]) for event in self.events(path)]
        assert sorted(found) == sorted((f"w{i}", f"worker {i}") for i in range(4) for _ in range(1000))

    def test_nothing_is_recorded_outside(self, path):
        telemetry.record("before", 1)
        with telemetry.trace(path):
            pass
        telemetry.record("after", 1)
        assert self.events(path) == []
        assert telemetry._traces == ()

    def test_the_latest_are_kept_and_the_dropped_counted(self, path):
        with telemetry.trace(path, limit=3):
            (recording,) = telemetry._traces
            for i in range(10):
                telemetry.record(f"w{i}", 1)
            assert len(recording.events) == 3
        assert [event["name"] for event in self.events(path)] == ["w7", "w8", "w9"]
        assert json.loads(path.read_text())["otherData"] == {"dropped": 7}

    def test_traces_inside_each_other(self, path, tmp_path):
        with telemetry.trace(path):
            telemetry.record("a", 1)
            with telemetry.trace(tmp_path / "inner.json"):
                telemetry.record("b", 1)
            telemetry.record("c", 1)
        assert [event["name"] for event in self.events(path)] == ["a", "b", "c"]
        assert [event["name"] for event in self.events(tmp_path / "inner.json")] == ["b"]

    def test_it_is_written_after_an_exception_too(self, path):
        def fail():
            with telemetry.trace(path):
                telemetry.record("work", 1)
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert len(self.events(path)) == 1
        assert telemetry._traces == ()

    def test_bad_places_and_limits_are_refused_at_once(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="none"), telemetry.trace(tmp_path / "none" / "t.json"):
            pytest.fail("the work began")
        with pytest.raises(error.InvalidValue, match="trace: limit=0"), telemetry.trace(tmp_path / "t.json", limit=0):
            pytest.fail("the work began")
        with pytest.raises(IsADirectoryError, match=tmp_path.name), telemetry.trace(tmp_path):
            pass
        assert os.listdir(tmp_path) == []
        assert telemetry._traces == ()
