"""Python code in processes of its own."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


def python_path(*folders: str) -> str:
    """Return a PYTHONPATH by which a process finds the tests' helpers, some folders, and what this process finds."""
    return os.pathsep.join([str(TESTS), *folders, *filter(None, [os.environ.get("PYTHONPATH")])])


def run(code: str, *arguments: object, timeout: float = 120, **environment: str) -> str:
    """Run a few words of code in a fresh process that may import the tests' helpers; return what it printed."""
    return _printed("-c", code, *arguments, timeout=timeout, **environment)


def run_module(name: str, *arguments: object, timeout: float = 120, **environment: str) -> str:
    """Run a module as a script in a fresh process that may import the tests' helpers; return what it printed."""
    return _printed("-m", name, *arguments, timeout=timeout, **environment)


def _printed(*arguments: object, timeout: float, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "VIVA_TENSOR_"))}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=kept | {"PYTHONPATH": python_path()} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()
