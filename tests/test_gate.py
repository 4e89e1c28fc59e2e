"""The speed gate refuses what it cannot compare."""

import subprocess
import sys
from pathlib import Path

import pytest

GATE = Path(__file__).parents[1] / "asv_benchmarks" / "gate.py"
if not GATE.is_file():
    pytest.skip("asv_benchmarks is not beside this copy of the tests", allow_module_level=True)


@pytest.mark.parametrize("commit", ["no-such-commit", "--all"])
def test_a_commit_that_is_not_there_is_named(commit):
    done = subprocess.run([sys.executable, GATE, commit], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert done.stderr == f"no commit {commit!r}; name one that git log shows\n"
