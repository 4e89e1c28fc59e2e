"""Ranks that train together, one of which is interrupted or fails at any moment: all stop at the same step, never wait
for ever, and go on with the same bits.

    python -m stress.ranks [--ranks N] [--seconds S] [--seed SEED]

Under mpiexec, for each way to sum and to keep the optimiser's state, ranks run epochs again and again. In each run one
of them, chosen by a seed, gets Ctrl-C after a random time, or its schedule, its callback or an allocation of memory
fails at a random step. Then all must have raised or none, after as many steps and with the same parameters, moments and
loss of the next step. What runs longer than a minute counts as hung. Needs mpi4py and mpiexec; takes a minute by
default; the exit status tells.
"""

import argparse
import os
import subprocess
import sys

from support.fresh import python_path
from support.launch import MPIEXEC


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if MPIEXEC is None:
        sys.exit('mpiexec is missing: pip install "viva-tensor[mpi]"')
    command = [
        sys.executable,
        "-m",
        "mpi4py",
        "-m",
        "stress.interrupted_ranks",
        str(options.seconds),
        str(options.seed),
    ]
    done = subprocess.run(
        [MPIEXEC, "-n", str(options.ranks), *command],
        env=os.environ | {"PYTHONPATH": python_path()},
        check=False,
        timeout=options.seconds + 120,
    )
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
