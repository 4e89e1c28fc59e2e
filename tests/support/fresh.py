"""Python code in processes of its own."""

import os
import subprocess
import sys
from pathlib import Path


def run(code, *arguments, timeout=120, **environment):
    """Run code, or a script, in a fresh process that may import the tests' helpers; what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "VIVA_TENSOR_"))}
    paths = [str(Path(__file__).parents[1]), *filter(None, [kept.get("PYTHONPATH")])]
    called = [str(code)] if isinstance(code, Path) else ["-c", code]
    done = subprocess.run(
        [sys.executable, *called, *arguments],
        env=kept | {"PYTHONPATH": os.pathsep.join(paths)} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()
