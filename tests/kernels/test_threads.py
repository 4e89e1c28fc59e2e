import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.fresh import run, run_module
from support.instruction_sets import FUSED

import viva_tensor as vt
from viva_tensor import error, kernels
from viva_tensor.kernels import _dispatch, _team, threads

PARALLEL = pytest.mark.skipif(not _team.openmp_version(), reason="a build without OpenMP")


def test_the_build_has_openmp():
    """OpenMP that got lost would cost every core but one; a build that is meant to be serial says so here."""

    if os.environ.get("VIVA_TENSOR_SERIAL_IS_FINE"):
        pytest.skip("VIVA_TENSOR_SERIAL_IS_FINE is set: a compiler without OpenMP")
    assert _team.openmp_version() >= 201107


@PARALLEL
def test_set_get_and_context():
    vt.set_num_threads(3)
    assert vt.get_num_threads() == 3
    assert threads.decided_by() == "set_num_threads()"
    with vt.num_threads(2):
        assert vt.get_num_threads() == 2
        with vt.num_threads(5):
            assert vt.get_num_threads() == 5
        assert vt.get_num_threads() == 2
    with pytest.raises(KeyError), vt.num_threads(7):
        raise KeyError
    assert vt.get_num_threads() == 3
    vt.set_num_threads(None)
    assert threads.decided_by() not in ("set_num_threads()", "num_threads()")


@PARALLEL
def test_the_context_holds_for_its_python_thread_only():
    vt.set_num_threads(3)
    seen = []
    with vt.num_threads(2):
        worker = threading.Thread(target=lambda: seen.append(vt.get_num_threads()))
        worker.start()
        worker.join()
    assert seen == [3]


@pytest.mark.parametrize("bad", [0, -1, 1025, 10**9, True, False])
def test_counts_out_of_range_are_refused(bad):
    before = vt.get_num_threads()
    for setter in (vt.set_num_threads, lambda n: vt.num_threads(n).__enter__()):
        with pytest.raises(error.InvalidValue, match=f"got {bad} threads, wanted 1 to 1024"):
            setter(bad)
    assert vt.get_num_threads() == before


@pytest.mark.parametrize("bad", [1.5, "2", [2]])
def test_counts_that_are_no_whole_number_are_refused(bad):
    with pytest.raises(TypeError):
        vt.set_num_threads(bad)


@PARALLEL
def test_the_environment_and_the_affinity_limit_the_default():
    code = "from viva_tensor.kernels import threads as t; print(t.get_num_threads(), t.decided_by())"
    assert run(code, OMP_NUM_THREADS="1") in ("1 OMP_NUM_THREADS", "1 processors that this process may run on")
    pinned = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" + code
    if hasattr(os, "sched_setaffinity"):
        assert run(pinned, OMP_NUM_THREADS="8") == "1 processors that this process may run on"


@PARALLEL
def test_threadpoolctl_limits_are_read_at_each_call():
    assert run_module("support.process_programs.libraries", "nested_limits").splitlines()[1:] in (
        ["1 OpenMP", "True"],
        ["1 processors that this process may run on", "True"],
    )


def test_cgroup_v2_quota_is_read_up_the_tree(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "cpu.max").write_text("250000 100000\n")
    (tmp_path / "a" / "b" / "cpu.max").write_text("max 100000\n")
    assert threads.quota_from(tmp_path, "0::/a/b\n") == 3  # of 2.5 processors
    (tmp_path / "a" / "b" / "cpu.max").write_text("50000 100000\n")
    assert threads.quota_from(tmp_path, "0::/a/b\n") == 1
    assert threads.quota_from(tmp_path, "0::/\n") == 0


def test_cgroup_v1_quota_is_read(tmp_path):
    group = tmp_path / "cpu,cpuacct" / "job"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("400000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert threads.quota_from(tmp_path, "4:cpu,cpuacct:/job\n2:memory:/job\n") == 4
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert threads.quota_from(tmp_path, "4:cpu,cpuacct:/job\n") == 0
    (group.parent / "cpu.cfs_quota_us").write_text("150000\n")
    assert threads.quota_from(tmp_path, "4:cpu,cpuacct:/job\n") == 0  # without a period
    (group.parent / "cpu.cfs_period_us").write_text("50000\n")
    assert threads.quota_from(tmp_path, "4:cpu,cpuacct:/job\n") == 3  # of the group above
    assert threads.quota_from(tmp_path, "4:cpu,cpuacct:/elsewhere/job\n") == 3  # seen from inside a container
    assert threads.quota_from(tmp_path, "4:memory:/job\n4:cpuset:/job\n") == 0
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    assert threads.quota_from(tmp_path, "4:cpu,cpuacct:/job\n0::/\n") == 2  # both kinds


@pytest.mark.parametrize("content", [
    "", "max", "max 100000", "100000", "100000 0", "0 100000", "-1 100000", "1e5 1e5", "nan inf", "a b c", "\0 \0",
    "9223372036854775807 1", f"{'9' * 400} 1", f"{'9' * 5000} 1", "100000 100000 100000",
])  # fmt: skip
def test_a_quota_that_no_kernel_writes_limits_nothing(content, tmp_path):
    (tmp_path / "cpu.max").write_text(content)
    group = tmp_path / "cpu"
    group.mkdir()
    quota, _, period = content.partition(" ")
    (group / "cpu.cfs_quota_us").write_text(quota)
    (group / "cpu.cfs_period_us").write_text(period)
    assert threads.quota_from(tmp_path, "0::/a\n1:cpu:/\n") == 0


@pytest.mark.parametrize(
    "groups", ["", "\n", "garbage", "0:", "1:cpu", "::", "0::\0", "0::/../../..", "1:cpu:../..", "\x00"]
)
def test_a_list_of_groups_that_no_kernel_writes_limits_nothing(groups, tmp_path):
    assert threads.quota_from(tmp_path, groups) == 0
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert threads.quota_from(tmp_path, groups + "\n0::/\n") == 3


def test_a_quota_below_a_processor_is_one(tmp_path):
    (tmp_path / "cpu.max").write_text("1000 100000\n")
    assert threads.quota_from(tmp_path, "0::/\n") == 1


def test_many_python_threads_at_once(rng):
    a = rng.standard_normal((200, 300)).astype("f4")
    wanted = kernels.matmul(a, a.T)
    wrong = []

    def work():
        wrong.extend((kernels.matmul(a, a.T) != wanted).any() for _ in range(20))

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(wrong) == 160
    assert not any(wrong)


def test_same_bits_on_every_instruction_set_with_fused_multiply_add():
    if len(FUSED) < 2:
        pytest.skip(
            f"this processor offers {', '.join(_dispatch.supported())}: no two with fused multiply-add to compare"
        )
    program = ("support.process_programs.kernel_bits", "of_products_and_updates")
    assert len({run_module(*program, VIVA_TENSOR_ISA=name) for name in FUSED}) == 1


@pytest.mark.parametrize("name", _dispatch.supported())
def test_each_instruction_set_can_be_forced(name):
    code = "from viva_tensor import config; print(config()['instruction set'])"
    assert run(code, VIVA_TENSOR_ISA=name) == name


@pytest.mark.parametrize("name", _dispatch.supported())
def test_kernels_and_programs_hold_on_each_instruction_set(name):
    """The one in force here is tested by the whole suite; the others run what depends on them in a process each."""
    if name == _dispatch.isa or "VIVA_TENSOR_ISA" in os.environ:
        pytest.skip(f"{_dispatch.isa} is in force here, and the test session runs it")
    parts = ["kernels/matmul", "kernels/elementwise", "kernels/sums", "kernels/updates"]
    parts += ["program/mended_programs"]
    if not (name in FUSED and _dispatch.isa in FUSED):  # those with fused multiply-add are compared bit by bit
        parts += ["program/random_programs", "program/step", "special_values", "optim/steps"]
    tests = Path(__file__).parents[1]
    files = [str(tests / Path(part).parent / f"test_{Path(part).name}.py") for part in parts]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        env=os.environ | {"VIVA_TENSOR_ISA": name},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_an_unknown_instruction_set_is_an_import_error():
    code = """
try:
    import viva_tensor
except ImportError as reason:
    print(reason)
"""
    assert "VIVA_TENSOR_ISA=mmx: this build on this processor offers" in run(code, VIVA_TENSOR_ISA="mmx")
