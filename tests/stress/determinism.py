"""The fixed runs of the tests end with the stored bits on every instruction set, thread count and Python given.

Each Python is asked in a process of its own for each instruction set of this processor; a mismatch is named. Build the
library for each first: a copy of the repository on its path does.

    python -m stress.determinism [PYTHON[=PATH] ...]   # this Python alone by default; 15 seconds each

PATH is the folder that holds the package as that Python built it. To store the digests anew, after a change that has to
move them: `python -m stress.determinism --store`.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]


def asked(python: str, path: str, isa: str | None = None) -> Any:
    """Return what a Python tells, with an instruction set."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), path])}
    if isa:
        environment["VIVA_TENSOR_ISA"] = isa
    done = subprocess.run(
        [python, "-P", "-m", "stress.fixed_digests"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{python}: {done.stderr}")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", default=[sys.executable], metavar="PYTHON[=PATH]")
    parser.add_argument("--store", action="store_true", help="store the digests of this machine")
    options = parser.parse_args()
    table = TESTS / "fixed_runs.json"
    stored = {} if options.store else json.loads(table.read_text())
    failed = False
    for given in options.pythons:
        python, _, path = given.partition("=")
        path = path or str(TESTS.parent)
        for isa in asked(python, path)[1]:
            about, _, kind, found, eager = asked(python, path, isa)
            if options.store:
                stored.setdefault(kind, found["1"])
            wanted = stored.get(kind, {})
            other = [
                f"{name} ({how})"
                for name, digests in wanted.items()
                for how, same in [
                    *((f"{threads} threads", one[name] == digests) for threads, one in found.items()),
                    ("eager", eager[name] == digests[0]),
                ]
                if not same
            ]
            failed |= bool(other) or not wanted
            said = f"other bits: {', '.join(other)}" if other else f"{len(wanted)} runs with the stored bits"
            print(f"{about}, {isa}: {said}", flush=True)
    if options.store:
        table.write_text(json.dumps(stored, indent=1) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
