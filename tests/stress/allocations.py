"""Allocation failure at every point: MemoryError, and everything is as usable, to the bit, as before.

    python -m stress.allocations [--every N] [CASE ...]

For each kernel, recording, compiling, stepping, running, predicting, keeping states and writing files: the n-th
allocation of the call fails, alone and with nine more, for each n from 1 until the call needs no more; afterwards the
same objects give the right bits. Then a process trains while its address space is limited, at first to what it has,
then to more and more. Needs cc and glibc; takes about five minutes; the exit status tells.

What is not this library's is counted but is no fault: GCC's OpenMP runtime, the loader and Rust's runtime are spared,
since they end the process without memory; CPython and NumPy sometimes lose a MemoryError on the way, raise a
SystemError instead or end the process; so does safetensors.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from support import allocation_shim, allocations
from support.fresh import python_path


def failing(case: str, every: int, library: Path) -> int:
    """Run a case to its end, from behind the point where the process ended if it did; return how many faults."""
    first, faults, failures, passed, ended = 1, 0, 0, 0, 0
    while True:
        done = subprocess.run(
            [sys.executable, "-m", "support.allocations", f"{case}:{every}:{first}"],
            env=os.environ | allocation_shim.environment(library),
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stdout.splitlines()
        passed += sum(line.startswith("PASSED OVER") for line in lines)
        faults += sum(line.startswith("WRONG") for line in lines)
        failures += 2 * len(set(lines))  # each n is printed twice
        if "WRONG" in done.stdout:
            print(done.stdout[done.stdout.index("WRONG") :][:5000])
        if done.returncode in (0, 1):
            print(
                f"{case}: about {failures} failing calls, {faults} faults, {passed} passed over, {ended} ends",
                flush=True,
            )
            return faults
        at = next(line for line in reversed(lines) if line.rpartition(" ")[2].isdigit())
        frame = next((line for line in done.stderr.splitlines() if line.startswith("  File ")), "")
        theirs = "site-packages" in frame or "panicked at" in done.stderr
        where = frame.strip() or "safetensors"
        print(f"{case}: ended with {done.returncode} at {at} in {where if theirs else done.stderr}", flush=True)
        ended += 1
        faults += not theirs
        first = int(at.rpartition(" ")[2]) + every


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["kernels", *allocations.CASES, "address space"])
    parser.add_argument("--every", type=int, default=1, help="try every n-th allocation only")
    chosen = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        library = allocation_shim.shim(folder)
        for case in chosen.cases:
            if case != "address space":
                faults += failing(case, chosen.every, library)
    if "address space" in chosen.cases:
        command = [sys.executable, "-W", "ignore", "-m", "stress.limited_memory"]
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": python_path()}, check=False)
        faults += done.returncode != 0
    print(f"{faults} faults")
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
