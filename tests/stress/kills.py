"""A training run that is killed at random moments loses at most the epoch under way.

A child trains with a checkpoint after every epoch and is ended by SIGKILL, again and again; after each kill the
checkpoint in the folder loads, `checkpoint.latest` finds it, and the next child goes on from it. When a run has come to
its end, its weights and losses are those of a run that was never interrupted, bit for bit, and the next run begins.
At the end, a disk that is full (a limit on the size of files) gives an error that names the file, and the last good
checkpoint stays.

    python -m stress.kills [--times 200]    # about 3 minutes; Linux and macOS
"""

import argparse
import random
import tempfile
from pathlib import Path

from support.killed_runs import full_disk, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run(Path(name), options.times, random.Random(options.seed))
        full_disk(Path(name))


if __name__ == "__main__":
    main()
