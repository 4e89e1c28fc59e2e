"""Processes that train together, started by mpiexec."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from support.fresh import python_path

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
needs_mpi = pytest.mark.skipif(
    MPIEXEC is None or find_spec("mpi4py") is None, reason='mpi4py and mpiexec; pip install "viva-tensor[mpi]"'
)


def launch(
    count: int, *arguments: object, cwd: Path | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments on so many ranks, or on one without MPI; the whole must end in time."""
    started = [sys.executable, *map(str, arguments)]
    if count > 1:
        assert MPIEXEC is not None
        started = [MPIEXEC, "-n", str(count), *started]
    environment = os.environ | {"PYTHONPATH": python_path()}
    return subprocess.run(
        started, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def ranks(count: int, program: str, *arguments: object) -> list[Any]:
    """Run MODULE.FUNCTION of the rank programs; return what each rank told, in the order of ranks."""
    module, _, function = program.partition(".")
    done = launch(count, "-m", f"support.rank_programs.{module}", function, *arguments, timeout=60)
    told: list[Any] = json.loads(done.stdout or "[]")
    assert len(told) == count, done.stderr
    return told
