"""Shows that the speed gate sees each core: slows one after another down and reads what the gate names.

usage: python asv_benchmarks/mutations.py [CORE ...]      (all by default, some ten minutes)

Builds the commit that is checked out with VIVA_TENSOR_SLOWABLE=1, in which VIVA_TENSOR_SLOWED makes one core take
1.3 times as long (kernels/core/slowed.pxi), and compares that build with itself. The exit status is 0 only if the
gate names exactly the core that was slowed, and nothing where none was.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.cases import cases
from gate import SLOWER, built, confirmed, named, ratios

from viva_tensor.kernels._elementwise import FORMULAS, ROW_FORMULAS

# Three cores are in no case, being at most a few hundredths of any call: `sum_join` adds the sums of chunks of 8192
# elements, `clip` makes one factor of a norm, `to_panels` copies what products then read many times.
PLACES = 4  # fewer than in the gate, which takes longer for one comparison
PATHS = {"program forward", "program step", "program run", "team", "tape", "compiler", "call"}


def main(*chosen: str) -> int:
    known = cases()
    without = {*FORMULAS, *ROW_FORMULAS} - {case.core for case in known.values()}
    if without:
        raise SystemExit(f"benchmarks/cases.py has no case for {', '.join(sorted(without))}")
    cores = chosen or ("", *sorted({case.core for case in known.values()} - PATHS))
    missed = []
    os.environ["VIVA_TENSOR_SLOWABLE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        plain = built("HEAD", Path(folder, "build").resolve())
        for core in cores:
            slow = replace(plain, environment=plain.environment | {"VIVA_TENSOR_SLOWED": core})
            first = ratios(known, plain, slow, PLACES)
            slower = confirmed([name for name, ratio in first.items() if ratio > SLOWER], plain, slow)
            found = sorted(named(slower, known))
            print(f"{core or 'nothing'}: {', '.join(found) or 'nothing'}  ({', '.join(slower)})", flush=True)
            if found != [core] * bool(core):
                missed.append(core)
    print(f"{len(cores) - len(missed)} of {len(cores)} named right")
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
