"""A rank that is killed ends the job on all within seconds, and the run goes on from its checkpoint as if nothing was.

`mpiexec -n 3 viva-tensor train` on a small table, with a checkpoint after every epoch. At a random moment a random rank
is ended by SIGKILL; mpiexec must come back with an error and leave no process behind. The same command with `--resume`
goes on, one time in four on another number of ranks. A run that had the same number throughout ends with the weights
and losses of one that was never interrupted, bit for bit; one that had not, within a thousandth of them.

    python -m stress.rank_kills [--times 50] [--ranks 3]    # about 10 minutes on two cores; Linux, MPICH
"""

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from support.fresh import python_path

PROGRAM = "stress.checkpointed"
OPTIONS = ["--target=y", "--hidden=32,32", "--epochs=12", "--batch-size=256", "--optimizer=adam", "--threads=1"]
CHECKPOINT, WEIGHTS, HISTORY = "checkpoint.safetensors", "model.safetensors", "history.csv"
SECONDS = 20  # in which a job must have ended after the death of a rank
ROUNDING = 1e-3  # of losses, between sums over different numbers of ranks, after 12 epochs of Adam


def table(path: Path) -> None:
    """Write a small table."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1500, 5))
    y = np.sin(x[:, 0]) + x[:, 1] * x[:, 2]
    np.savetxt(path, np.c_[x, y], delimiter=",", header="a,b,c,d,e,y", comments="", fmt="%.5f")


def start(folder: Path, ranks: int) -> subprocess.Popen[bytes]:
    """Start the job, from its checkpoint where there is one."""
    output = folder / "run"
    resume = ["--resume"] if (output / CHECKPOINT).exists() else []
    command = ["mpiexec", "-n", str(ranks), sys.executable, "-m", PROGRAM, "train", str(folder / "table.csv"), *OPTIONS]
    log = (folder / "log").open("w")
    return subprocess.Popen(
        [*command, "--output", str(output), *resume],
        env=os.environ | {"PYTHONPATH": python_path()},
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def ranks_of(job: subprocess.Popen[bytes]) -> list[int]:
    """Return the numbers of the processes that compute, below mpiexec and its proxy."""
    parents: dict[int, int] = {}
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if PROGRAM.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # it has ended meanwhile
                continue

    def below(process: int) -> bool:
        while process in parents and process != job.pid:
            process = parents[process]
        return process == job.pid

    return sorted(process for process in found if process != job.pid and below(process))


def killed(job: subprocess.Popen[bytes], ranks: int, seconds: float, rng: random.Random) -> float | None:
    """Kill a rank; return how long the job went on then, or None if it came to its end before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if job.poll() is not None:
            return None
        time.sleep(0.001)
    there = ranks_of(job)
    if len(there) < ranks:  # they are being started, or are about to end
        assert ended(job, 300) == 0, "a job fails that nobody disturbed"
        return None
    os.kill(rng.choice(there), signal.SIGKILL)
    begin = time.monotonic()
    status = ended(job, SECONDS)
    lasted = time.monotonic() - begin
    if status == 0:  # a rank that had done everything
        return None
    while left := [one for one in there if Path(f"/proc/{one}").exists()]:
        assert time.monotonic() < begin + SECONDS, f"ranks {left} are still there"
        time.sleep(0.01)
    return lasted


def ended(job: subprocess.Popen[bytes], seconds: float) -> int:
    """Return the status of a job that must end in time."""
    try:
        return job.wait(seconds)
    except subprocess.TimeoutExpired:
        job.terminate()
        raise AssertionError(f"the job hangs: it is there {seconds} seconds later") from None


def outcome(folder: Path) -> tuple[bytes, np.ndarray[Any, Any]]:
    """Return the weights as bytes and the losses of a run that has ended, which is taken away."""
    output = folder / "run"
    weights = (output / WEIGHTS).read_bytes()
    with (output / HISTORY).open(newline="") as file:
        rows = [[float(row["train_loss"]), float(row["validation_loss"])] for row in csv.DictReader(file)]
    shutil.rmtree(output)
    return weights, np.array(rows)


def whole(folder: Path, ranks: int) -> tuple[tuple[bytes, np.ndarray[Any, Any]], float]:
    """Return the outcome of a run that nobody disturbs, and how long it took."""
    begin = time.monotonic()
    status = ended(start(folder, ranks), 300)
    assert status == 0, (folder / "log").read_text()
    return outcome(folder), time.monotonic() - begin


def run(folder: Path, times: int, ranks: int, rng: random.Random) -> None:
    """Kill ranks so many times, and hold each run that comes to its end against one that was never interrupted."""
    table(folder / "table.csv")
    (wanted, losses), length = whole(folder, ranks)
    assert whole(folder, ranks)[0][0] == wanted, "the same number of ranks gives other bits"
    kills = exact = near = without = 0
    longest, steady = 0.0, True
    while kills < times or (folder / "run" / CHECKPOINT).exists():
        count = ranks
        if (folder / "run" / CHECKPOINT).exists() and rng.random() < 0.25:
            count = rng.choice([1, 2, ranks + 1])
            steady = False
        job = start(folder, count)
        lasted = killed(job, count, rng.uniform(0.15, 0.85) * length if kills < times else 300, rng)
        if lasted is not None:
            kills, longest = kills + 1, max(longest, lasted)
            if kills % 10 == 0:
                print(f"{kills} of {times}", file=sys.stderr)
            if not (folder / "run" / CHECKPOINT).exists():
                without, steady = without + 1, True
            continue
        assert job.returncode == 0, (folder / "log").read_text()
        weights, found = outcome(folder)
        assert found.shape == losses.shape, "the history lacks epochs"
        if steady:
            assert weights == wanted, "another end than that of a run that was never interrupted"
            assert (found == losses).all()
            exact += 1
        else:
            off = float(abs(found / losses - 1).max())
            assert off < ROUNDING, f"losses are off by {off:.1e}"
            near += 1
        steady = True
    print(f"{kills} ranks killed, {without} times before the first checkpoint; jobs ended within {longest:.1f} s")
    print(
        f"{exact} runs of {ranks} ranks ended with the bits of the uninterrupted one, {near} of changing numbers near"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run(Path(name), options.times, options.ranks, random.Random(options.seed))


if __name__ == "__main__":
    main()
