"""Processes that train together, started by mpiexec."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
needs_mpi = pytest.mark.skipif(
    MPIEXEC is None or find_spec("mpi4py") is None, reason='mpi4py and mpiexec; pip install "viva-tensor[mpi]"'
)


def launch(count, *arguments, cwd=None, timeout=120):
    """Run Python with these arguments on so many ranks, or on one without MPI; the whole must end in time."""
    started = [sys.executable, *map(str, arguments)]
    if count > 1:
        started = [MPIEXEC, "-n", str(count), *started]
    return subprocess.run(started, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
