"""Ranks, one of which fails or asks for something else: all stop at the same step, say why, and can go on."""

import json

import pytest
from support.launch import launch, needs_mpi, ranks


@needs_mpi
def test_what_fails_on_one_rank_is_raised_on_all_and_changes_nothing():
    told = ranks(2, "failures.failing_ranks")
    first, second = (one["found"] for one in told)
    assert all(one["unchanged"] for one in told)
    assert first[0].startswith(
        "RankError step: rank 1 failed with ShapeMismatch: step: expected shape (6, 8), got (6, 5)"
    )
    assert second[0].startswith("ShapeMismatch step: expected shape (6, 8), got (6, 5)")
    assert first[1].startswith("InvalidValue run: batch_size=0")
    assert second[1].startswith("RankError step: rank 0 failed with InvalidValue: run: batch_size=0")
    for i in (2, 3):
        assert first[i] == "RankError step: rank 1 failed with KeyError: 'stop'"
        assert second[i] == "KeyError 'stop'"
    assert first[4] == second[4]
    assert "the parameters' shapes is [(5, 8), (5,), (3, 5), (3,)] on rank 0 and [(6, 8), " in first[4]
    assert "optimizer is SGD(lr=0.1, " in first[5]
    assert first[5] == second[5]
    assert first[6] == second[6] == ""


@needs_mpi
@pytest.mark.parametrize("options", [(), ("overlap", "shard_state")], ids=" ".join)
def test_whatever_happens_on_a_rank_all_stop_at_the_same_step_and_can_go_on(options):
    told = ranks(3, "failures.any_moment", *options)
    wanted = [
        "KeyboardInterrupt ",
        "MemoryError no room",
        "Unprintable",
        "InvalidValue run: the schedule gave -1.0 for step 2 (Adam: lr=-1.0",
        "InvalidValue run: the schedule gave None for step 2 (Adam: lr=None",
    ]
    wanted += ["KeyboardInterrupt ", "MemoryError no room", "RankError run: epochs is 1 on rank 0 and 2 on rank 1"]
    wanted += ["MemoryError no room"]
    wanted += ["KeyboardInterrupt "] * bool(options) + [
        "MemoryError no room",
        "InvalidValue step: no rank has any rows",
    ]
    for one in told:
        assert one["last"] == [True, True]
        assert len(one["found"]) == len(wanted)
        for (text, unchanged, handled), want in zip(one["found"], wanted, strict=True):
            assert unchanged, want
            assert handled, want
            if one["rank"] != 1 and not want.startswith(("RankError", "InvalidValue step")):
                name, message = want.split(" ", 1) if " " in want else (want, "")
                want = f"RankError step: rank 1 failed with {name}"
                assert message in text
            assert text.startswith(want)


@needs_mpi
def test_options_and_programs_that_differ_are_named_on_all_ranks():
    told = ranks(2, "failures.differing")
    first, second = (one["found"] for one in told)
    assert first[:2] == second[:2]
    assert first[-1] == second[-1]
    assert first[-1].startswith("RankError compile_step: the digest of the recorded operations is")
    assert first[0].startswith("RankError compile_step: overlap is True on rank 0 and False on rank 1")
    assert first[1].startswith("RankError compile_step: shard_state is True on rank 0 and False on rank 1")
    assert first[2].startswith("RankError compile_step: rank 1 failed with InvalidValue: compile_step: no parameters")
    assert second[2].startswith("InvalidValue compile_step: no parameters")


@needs_mpi
def test_mpi_that_was_started_without_threads_is_named():
    options = ("-m", "mpi4py", "-rc", "thread_level=single", "-m")
    done = launch(2, *options, "support.rank_programs.failures", "compiling")
    for one in json.loads(done.stdout):
        assert one["found"].startswith(
            "RankError compile_step: MPI was started for programs without threads; set mpi4py.rc"
        )
