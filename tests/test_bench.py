import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from viva_tensor import bench
from viva_tensor.cli import cli
from viva_tensor.kernels import _peak

RATES = bench.Rates([float(n) for n in bench.SIZES], [float(n) for n in bench.ELEMENTS])


@pytest.mark.parametrize("double_precision", [False, True])
def test_multiply_adds_are_counted_for_each_member(double_precision):
    one = _peak.multiply_adds(10, 1, double_precision)
    assert one % 10 == 0
    assert _peak.multiply_adds(30, 2, double_precision) == 6 * one


def test_a_float64_register_holds_half_as_many():
    assert _peak.multiply_adds(1, 1, False) == 2 * _peak.multiply_adds(1, 1, True)


@pytest.mark.parametrize("name", ["viva_tensor", "numpy"])
def test_rates_follow_from_work_and_time(monkeypatch, name):
    calls = []
    monkeypatch.setattr(bench, "_best_time", lambda function, seconds: calls.append(function()) or 0.5)
    rates = bench.measure(name, [100, 200], [125_000])
    assert rates.products == [pytest.approx(4e-3), pytest.approx(32e-3)]
    assert rates.bandwidths == [pytest.approx(2e-3)]
    assert len(calls) == 3


def test_processes_take_turns_and_the_best_of_each_figure_counts(monkeypatch):
    asked = []

    def answer(command, env, **_):
        asked.append((command[3], env))
        n = len(asked)
        text = json.dumps([[n, 10 - n], [n]])
        return subprocess.CompletedProcess(command, 0, f"a word of warning\n{text}\n", "")

    monkeypatch.setenv("OPENBLAS_SLOW", "1")
    monkeypatch.setattr(subprocess, "run", answer)
    rates = bench.compare(3, ["viva_tensor", "numpy"], rounds=2)
    assert [name for name, _ in asked] == ["viva_tensor", "numpy"] * 2
    assert rates == {"viva_tensor": bench.Rates([3, 9], [3]), "numpy": bench.Rates([4, 8], [4])}
    assert all("OPENBLAS_SLOW" not in env and env["OMP_NUM_THREADS"] == "3" for _, env in asked)


def test_a_library_is_measured_in_a_process_of_its_own():
    command = [sys.executable, "-c", "import viva_tensor.bench as b; print(b.measure('numpy', [4], [4], 0.001))"]
    assert "Rates(products=[" in subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_library_that_cannot_be_measured_is_one_line():
    with pytest.raises(RuntimeError, match="no_such_library: ModuleNotFoundError"):
        bench.compare(1, ["no_such_library"], seconds=0.001, rounds=1)


def test_the_command_prints_tables_and_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "compare", lambda *_: {"viva_tensor": RATES, "numpy": RATES})
    picture = tmp_path / "roof.png"
    result = CliRunner().invoke(cli, ["bench", "--threads", "1", "--seconds", "0.001", "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    assert "FMA peak" in result.output
    assert "2048 x 2048 x 2048" in result.output
    assert "16 KiB" in result.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_picture_of_another_format_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "compare", lambda *_: {"numpy": RATES})
    arguments = ["bench", "--threads", "1", "--seconds", "0.001", "--plot", str(tmp_path / "roof.none")]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: cannot draw to")
    assert result.stderr.count("\n") == 1


def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "fma_peak", lambda *_, **__: pytest.fail("measured"))
    result = CliRunner().invoke(cli, ["bench", "--plot", str(tmp_path / "no" / "roof.png")])
    assert result.exit_code == 2
    assert f"there is no folder {tmp_path / 'no'}" in result.stderr
