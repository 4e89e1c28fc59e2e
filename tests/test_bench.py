import pytest
from click.testing import CliRunner

from viva_tensor import bench
from viva_tensor.cli import cli
from viva_tensor.kernels import _peak


@pytest.mark.parametrize("double_precision", [False, True])
def test_multiply_adds_are_counted_for_each_member(double_precision):
    one = _peak.multiply_adds(10, 1, double_precision)
    assert one % 10 == 0
    assert _peak.multiply_adds(30, 2, double_precision) == 6 * one


def test_a_float64_register_holds_half_as_many():
    assert _peak.multiply_adds(1, 1, False) == 2 * _peak.multiply_adds(1, 1, True)


def test_rates_follow_from_work_and_time(monkeypatch):
    monkeypatch.setattr(bench, "_interleaved", lambda functions, seconds: dict.fromkeys(functions, 0.5))
    (product,) = bench.products(1, [1000], ["numpy", "viva_tensor"])
    assert product == bench.Product(1000, 1, {"numpy": pytest.approx(4.0), "viva_tensor": pytest.approx(4.0)})
    (bandwidth,) = bench.bandwidths(2, [10**9 // 8 // 1000], ["numpy"])
    assert bandwidth.gigabytes == {"numpy": pytest.approx(0.002)}


def test_functions_are_called_in_turn():
    calls = []
    best = bench._interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 0, rounds=3)
    assert "".join(calls) == "aabb" * 3
    assert all(0 < time < 60 for time in best.values())


def test_the_command_prints_tables_and_draws(tmp_path, monkeypatch):
    for name in ("OPENBLAS_NUM_THREADS", "OPENBLAS_VERBOSE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(bench, "products", lambda *a, **k: iter([bench.Product(8, 1, {"viva_tensor": 2, "numpy": 1})]))
    monkeypatch.setattr(
        bench, "bandwidths", lambda *a, **k: iter([bench.Bandwidth(4096, 1, {"viva_tensor": 9, "numpy": 8})])
    )
    picture = tmp_path / "roof.png"
    result = CliRunner().invoke(cli, ["bench", "--threads", "1", "--seconds", "0.001", "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    assert "FMA peak" in result.output
    assert "8 x 8 x 8" in result.output
    assert "32 KiB" in result.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "products", lambda *a, **k: iter([bench.Product(8, 1, {"numpy": 1})]))
    monkeypatch.setattr(bench, "bandwidths", lambda *a, **k: iter([bench.Bandwidth(4096, 1, {"numpy": 8})]))
    arguments = ["bench", "--threads", "1", "--seconds", "0.001", "--plot", str(tmp_path / "no" / "roof.png")]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: cannot draw to")
    assert result.stderr.count("\n") == 1
