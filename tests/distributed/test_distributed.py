"""Networks that several ranks train together, by the command line and by ``train.fit``."""

import io
import json
import signal
import sys
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from support.launch import launch, needs_mpi, ranks

from viva_tensor import files
from viva_tensor.distributed import Affinity, Ranks, affinity_problems, world
from viva_tensor.distributed.agreement import raise_on_all
from viva_tensor.distributed.interrupts import Interrupts
from viva_tensor.distributed.ranks import job
from viva_tensor.error import RankError
from viva_tensor.tabular import runs
from viva_tensor.tabular.parquet import ParquetRows
from viva_tensor.tabular.reading import read_table

SETTINGS = ["--epochs", "6", "--hidden", "16", "--batch-size", "100", "--threads", "1"]


@pytest.fixture
def table():
    rng = np.random.default_rng(3)
    count = 2600  # rows of more than one block that a rank encodes
    size = rng.uniform(1, 9, count)
    kind = rng.choice(["plain", "fancy", "odd"], count)
    price = 1000 + 50 * size + np.where(kind == "fancy", 300, 0) + rng.normal(0, 5, count)
    day = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, count), unit="D")
    table = pd.DataFrame({"size": size, "kind": kind, "day": day, "fixed": 1, "price": price})
    table.loc[::13, "size"] = np.nan
    table.loc[::17, "kind"] = None
    table.loc[::100, "price"] = np.nan
    return table


@pytest.fixture
def parquet(table, tmp_path):
    path = tmp_path / "table.parquet"
    table.to_parquet(path, row_group_size=300)
    return path


def train(count, file, output, *more, stopping="never", target="price"):
    program = ("support.rank_programs.stopping", stopping)
    flags = ["train", file, "--target", target, "--output", output, *SETTINGS, *more]
    return launch(count, "-m", *program, *flags, cwd=file.parent)


def history(folder):
    return pd.read_csv(folder / "history.csv")


def same_curve(a, b):
    """Up to the rounding of float32 sums in another order, over few steps."""
    pd.testing.assert_frame_equal(a, b, rtol=1e-4)


@needs_mpi
@pytest.mark.parametrize("target", ["price", "kind"])
def test_the_network_of_ranks_is_that_of_one(parquet, tmp_path, target):
    for count in (1, 3):
        done = train(count, parquet, tmp_path / str(count), "--report", target=target)
        assert done.returncode == 0, done.stderr
        assert ("compute" in done.stdout) == (count > 1)
    assert " on 3 ranks in " in done.stdout
    shares = done.stdout.partition("   of ")[2].splitlines()
    assert [line.split()[0] for line in shares[1:4]] == ["0", "1", "2"]
    assert done.stdout.count("Trained on") == 1
    one, three = tmp_path / "1", tmp_path / "3"
    assert sorted(path.name for path in three.iterdir()) == sorted(path.name for path in one.iterdir())
    same_curve(history(one), history(three))
    alone, together = (pd.read_csv(folder / "predictions.csv") for folder in (one, three))
    assert np.array_equal(alone[["row", "actual"]], together[["row", "actual"]])
    features = [json.loads((folder / "preprocessing.json").read_text())["features"] for folder in (one, three)]
    assert features[0] == features[1]
    said = [json.loads((folder / "report.json").read_text()) for folder in (one, three)]
    assert [one["ranks"] for one in said] == [1, 3]
    assert said[0]["rows"] == said[1]["rows"]
    for name in ("network", "training mean", "most frequent class"):
        for score, value in said[0]["test"].get(name, {}).items():
            assert said[1]["test"][name][score] == pytest.approx(value, rel=1e-3)


@needs_mpi
def test_a_rank_that_stops_ends_the_job_and_any_number_goes_on(parquet, tmp_path):
    assert train(2, parquet, tmp_path / "whole").returncode == 0
    for how, count in (("interrupt", 2), ("terminate", 2), ("error", 3), ("kill", 1)):
        done = train(2, parquet, tmp_path / "run", "--force", stopping=how)
        assert done.returncode != 0, how
        assert ("Error: interrupted; the same command with --resume" in done.stderr) == (
            how in ("interrupt", "terminate")
        )
        if how == "error":
            assert "ValueError: of this rank alone" in done.stderr
            assert "rank 1 of 2 ends the job" in done.stderr
        again = train(count, parquet, tmp_path / "run", "--resume")
        assert again.returncode == 0, again.stderr
        same_curve(history(tmp_path / "whole"), history(tmp_path / "run"))
        if count == 2:
            for name in ("model.safetensors", "history.csv", "predictions.csv"):
                assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


@pytest.mark.parametrize("closed", [False, True])
def test_a_failing_rank_ends_the_job_also_without_anywhere_to_print(closed, monkeypatch):
    aborted = []
    comm = SimpleNamespace(Get_rank=lambda: 0, Get_size=lambda: 2, Abort=aborted.append)
    output = io.StringIO() if closed else None
    if output is not None:
        output.close()
    monkeypatch.setattr(sys, "stdout", output)
    with suppress(ValueError, AttributeError), job(comm):
        raise ValueError("of this rank")
    assert aborted == [1]


@needs_mpi
def test_mistakes_are_said_once(parquet, tmp_path):
    done = train(2, parquet, tmp_path / "run", target="cost")
    assert done.returncode != 0
    assert done.stderr.count("no column 'cost'") == 1
    assert "Traceback" not in done.stderr
    info = launch(2, "-m", "viva_tensor", "info")
    assert info.stdout.count("version ") == 1


@needs_mpi
def test_a_folder_that_another_training_writes_to(parquet, tmp_path):
    with files.held(tmp_path / "run"):
        done = train(2, parquet, tmp_path / "run")
    assert done.returncode != 0
    assert done.stderr.count("another training is writing to") == 1
    assert "Traceback" not in done.stderr


@needs_mpi
def test_fit_takes_its_part_of_mapped_rows(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3)).astype("f4")
    y = abs(x).sum(axis=1)
    y[7] = np.nan  # left out
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    done = launch(2, "-W", "ignore", "-m", "support.rank_programs.fitting", "mapped_rows", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (one["found"] for one in json.loads(done.stdout))
    assert first[:2] == second[:2]
    assert first[0][0] == pytest.approx(first[1][0], rel=1e-5)  # float32 sums in another order
    assert first[0][1] == pytest.approx(first[1][1], rel=1e-4)
    assert first[2].startswith("RankError fit on rows: rank 1 failed with InvalidValue: fit on rows: x[390, 2] is nan")
    assert second[2].startswith("InvalidValue fit on rows: x[390, 2] is nan")
    assert first[3] == second[3]
    assert first[3].startswith("RankError fit: settings.hidden is (8,) on rank 0 and (9,) on rank 1")
    assert first[4].startswith("FileNotFoundError")
    assert second[4].startswith("RankError fit: rank 0 failed with FileNotFoundError")


@needs_mpi
def test_what_only_one_rank_has_is_named_on_all():
    first, second = (one["found"] for one in ranks(2, "fitting.differing"))
    alone = "InvalidValue fit on rows: "  # where it is so
    assert [one for one in second[:-1] if not one.startswith(alone)] == [
        one for one, other in zip(first[:-1], second[:-1], strict=True) if not other.startswith(alone)
    ]
    words = ["timed is True on rank 0 and False on rank 1", "whether there is a checkpoint is True on rank 0",
             "whether there is a callback is True on rank 0", "whether there is a validation is True on rank 0",
             "whether there is a start is False on rank 0", "the digest of rows is",
             "rank 1 failed with", "the digest of validation is", "the digest of validation is", "the digest of x is",
             "the digest of y is"]  # fmt: skip
    assert {one.split(":")[0] for one in first[:-1]} == {"RankError fit"}
    for one, said in zip(first[:-1], words, strict=True):
        assert said in one
    assert isinstance(first[-1], list)  # and then it trains


@needs_mpi
def test_ranks_with_different_tables_or_tasks_do_not_train_and_nothing_is_left(tmp_path):
    (tmp_path / "shared").mkdir()
    done = launch(2, "-W", "ignore", "-m", "support.rank_programs.fitting", "tables", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for one in json.loads(done.stdout):
        assert one["found"][0].startswith("train: the digest of the table is")
        assert one["found"][1].startswith("train: the task is Task(target='y'")
        assert float(one["found"][2]) < 2
        assert one["left"] == []


@needs_mpi
def test_ranks_learn_from_sparse_rows_as_one_and_refuse_different_ones():
    first, second = (one["found"] for one in ranks(2, "fitting.sparse_rows"))
    for alone, together, dense, few, few_dense in zip(*[iter(first[:10])] * 5, strict=True):
        assert together == [pytest.approx(part, rel=1e-9) for part in alone]
        assert together == [pytest.approx(part, rel=1e-9) for part in dense]
        assert few == [pytest.approx(part, rel=1e-9) for part in few_dense]  # a rank has no row for validation
    assert first[:12] == second[:12]
    assert [one.partition(" is ")[0] for one in first[10:12]] == ["RankError fit: the kind of x"] * 2
    assert first[12].startswith("RankError fit on validation rows: rank 1 failed with InvalidValue: fit: rows")
    assert second[12].startswith("InvalidValue fit: rows")
    assert first[13] == second[13]
    assert first[13].startswith("RankError fit: the digest of validation is")


def test_a_parquet_file_is_read_in_parts_as_it_is_read_whole(table, tmp_path):
    for index in (None, pd.Index(np.arange(2600) ** 2, name="square"), pd.RangeIndex(1, 2601, name="number")):
        path = tmp_path / "indexed.parquet"
        (table if index is None else table.set_index(index)).to_parquet(path, row_group_size=700)
        whole, rows = read_table(path), ParquetRows(path)
        assert list(rows.columns) == list(whole.columns)
        assert len(rows) == len(whole)
        for name in whole.columns:
            pd.testing.assert_series_equal(rows[name], whole[name])
        for start, stop in ((0, 2600), (0, 1), (699, 701), (1400, 2100), (2599, 2600), (5, 5)):
            expected = whole.iloc[start:stop].reset_index(drop=True)
            pd.testing.assert_frame_equal(rows.rows(start, stop), expected, check_dtype=False)


def test_run_takes_parquet_rows(parquet):
    from viva_tensor.train import Settings

    settings = Settings(hidden=(8,), epochs=2)
    whole, parts = (runs.run(table, "price", settings) for table in (read_table(parquet), ParquetRows(parquet)))
    assert whole.fit.history == parts.fit.history
    pd.testing.assert_frame_equal(whole.test, parts.test)


def test_which_processes_train_together():
    for environment in ({}, {"PMI_SIZE": "1"}, {"PMI_SIZE": "many"}, {"PMIX_RANK": "0"}):
        assert world(environment) is None


def test_too_few_processors_are_reported_with_a_hint():
    whole = frozenset(range(8))
    assert affinity_problems([Affinity("a", whole, 8, 4)] * 2) == []
    assert affinity_problems([Affinity(host, whole, 8, 8) for host in "ab"]) == []
    assert affinity_problems([Affinity("a", frozenset({rank}), 2, 1) for rank in range(2)]) == []
    (shared,) = affinity_problems([*[Affinity("a", whole, 8, 1)] * 2, *[Affinity("b", whole, 8, 3)] * 3])
    hint = "start them with OMP_NUM_THREADS=2 (or --threads 2)"
    assert shared == f"b: 3 ranks of 9 threads in all share 8 processors; {hint}"
    (crowded,) = affinity_problems([Affinity("a", frozenset({0, 1}), 2, 1)] * 3)
    assert crowded.endswith("start no more than 2 ranks a host")
    (bound,) = affinity_problems([Affinity("a", frozenset({rank}), 8, 1) for rank in range(2)], "Open MPI v5")
    assert bound == (
        "a: rank 0 is bound to 1 of 8 processors, for 2 ranks; start them with "
        "mpiexec --map-by slot:PE=4 --use-hwthread-cpus --bind-to hwthread"
    )


def test_one_rank_alone():
    ranks = Ranks()
    assert ranks.first
    assert ranks.sum(1.0, 2.0) == [1.0, 2.0]
    assert ranks.from_first("test", lambda: 3) == 3
    with pytest.raises(KeyError), ranks.fail_together("test"):
        raise KeyError


def test_an_interruption_elsewhere_is_told_by_its_name():
    messages = []
    first = SimpleNamespace(allgather=lambda message: messages.append(message) or messages)
    with pytest.raises(KeyboardInterrupt):
        raise_on_all(first, "state", KeyboardInterrupt())
    second = SimpleNamespace(allgather=lambda message: [*messages, message])
    with pytest.raises(RankError, match=r"rank 0 failed with KeyboardInterrupt$"):
        raise_on_all(second, "state", None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_while_ranks_depend_on_each_other(number):
    interrupts, before = Interrupts(), signal.signal(number, signal.default_int_handler)
    try:
        with interrupts:
            signal.raise_signal(number)
            with pytest.raises(KeyboardInterrupt):
                interrupts.check()
            interrupts.check()
            with pytest.raises(KeyboardInterrupt):
                interrupts.interruptible(signal.raise_signal, number)
        with pytest.raises(KeyboardInterrupt), interrupts:
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


@needs_mpi
def test_functions_of_the_user_fail_on_all_ranks_and_are_means_over_rows():
    first, second = (one["found"] for one in ranks(2, "fitting.functions"))
    for theirs, own in zip(first[:3], second[:3], strict=True):
        assert own == "InvalidValue of this rank alone"
        assert theirs.startswith("RankError")
        assert theirs.endswith("of this rank alone")
    hint = "make only sums and multiples of means over rows, or train on one process"
    refused = "contains sqrt of a mean over rows, %"
    assert all(refused in one[3] and one[3].endswith(f"which 2 ranks would split; {hint}") for one in (first, second))
    for together, alone in (first[4:], second[4:]):
        np.testing.assert_allclose(together, alone, rtol=1e-9)
