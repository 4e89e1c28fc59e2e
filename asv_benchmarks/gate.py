"""The speed gate: two versions side by side, case after case, and which core or path of the newer one is slower.

usage: python asv_benchmarks/gate.py BASE [HEAD]      (commits; HEAD by default is HEAD)

Builds both in temporary folders and starts a process for each, which take turns of some milliseconds at each case of
benchmarks/cases.py, so that a slow spell of the machine meets both. A ratio is that of the fastest turns, with arrays
made anew in several places. What is slower by more than SLOWER is measured three times more, in new processes, and
counts only if it is slower each time. Compared are also the time to build and to import, the memory of a process that
trains, and the installed size. The exit status is 1 if anything counts.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import benchmarks  # noqa: F401  # drops what slows NumPy from the environment
from benchmarks.cases import Case, cases

HERE = Path(__file__).resolve().parent
SLOWER = 1.1  # a core whose arithmetic takes 1.3 times as long, in a call that does little else, is above
LARGER = {"building": 1.25, "importing": 1.25, "memory of training": 1.05, "installed size": 1.05}
PLACES, TURNS = 16, 2
TRAIN = """
import resource, numpy as np
from viva_tensor import train
x = np.random.default_rng(0).standard_normal((20000, 40), dtype="float32")
train.fit(x, x[:, :1], train.Settings(epochs=2))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@dataclass(frozen=True)
class Version:
    """A built version: where it lies, the environment of its processes, and how long it took to build."""

    folder: Path
    environment: Mapping[str, str]
    seconds: float = 0.0


class Worker:
    """A process that times cases with one version."""

    def __init__(self, version: Version) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            cwd=HERE,
            env=version.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        used = Path(self._answer())
        if version.folder not in used.parents:
            raise SystemExit(f"a worker uses {used}, wanted that in {version.folder}")

    def _answer(self) -> float | str | None:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a worker ended; its error stands above")
        return json.loads(line)

    def ask(self, request: str, argument: object) -> float | None:
        self._process.stdin.write(json.dumps([request, argument]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()


def hash_of(commit: str) -> str:
    """Return the hash of a commit by any name of it."""
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"no commit {commit!r}; name one that git log shows")
    return done.stdout.strip()


def built(commit: str, folder: Path) -> Version:
    """Build a commit in a folder."""
    subprocess.run(["git", "clone", "-q", "--no-checkout", HERE.parent, folder], check=True)
    subprocess.run(["git", "checkout", "-q", commit], cwd=folder, check=True)
    environment = os.environ | {"PYTHONPATH": str(folder), "VIVA_TENSOR_REQUIRE_OPENMP": "1"}
    start = perf_counter()
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(build, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"building {commit} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Version(folder, environment, perf_counter() - start)


def ratios(names: Iterable[str], base: Version, head: Version, places: int = PLACES) -> dict[str, float]:
    """Return head's time ÷ base's for each case that both have."""
    found = {}
    with Worker(base) as old, Worker(head) as new:
        for name in names:
            best = {old: math.inf, new: math.inf}
            for turn in range(places):
                order = (new, old) if turn % 2 else (old, new)
                made = [worker.ask("make", name) for worker in order]
                if None in made:
                    break
                for worker in order * TURNS:
                    best[worker] = min(best[worker], worker.ask("burst", max(made)))
            else:
                found[name] = best[new] / best[old]
    return found


def confirmed(names: Iterable[str], base: Version, head: Version) -> dict[str, float]:
    """Return the cases that are slower each time they are measured again, with the least of their ratios."""
    slower = dict.fromkeys(names, float("inf"))
    for _ in range(3):
        again = ratios(slower, base, head)
        slower = {name: min(slower[name], ratio) for name, ratio in again.items() if ratio > SLOWER}
    return slower


def named(slower: Mapping[str, float], known: Mapping[str, Case]) -> dict[str, list[str]]:
    """Return the cores that are slower with their cases, less the cases that rest on such a core."""
    found: dict[str, list[str]] = {}
    for name in sorted(slower, key=lambda name: len(known[name].rests_on)):
        if not known[name].rests_on & found.keys():
            found.setdefault(known[name].core, []).append(name)
    return found


def installed_size(version: Version) -> float:
    files = (version.folder / "viva_tensor").rglob("*")
    return float(sum(one.stat().st_size for one in files if one.is_file() and "__pycache__" not in one.parts))


def import_seconds(version: Version) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, "-c", "import viva_tensor.train"], env=version.environment, check=True)
    return perf_counter() - start


def memory_of_training(version: Version) -> float:
    command = [sys.executable, "-c", TRAIN]
    return float(subprocess.run(command, env=version.environment, check=True, capture_output=True, text=True).stdout)


def costs(base: Version, head: Version) -> dict[str, float]:
    """Return head ÷ base of what is not a call: each the least of some measurements in turn."""
    imports = [(import_seconds(head), import_seconds(base)) for _ in range(7)]
    memory = [(memory_of_training(head), memory_of_training(base)) for _ in range(2)]
    return {
        "building": head.seconds / base.seconds,
        "importing": min(new for new, _ in imports) / min(old for _, old in imports),
        "memory of training": min(new for new, _ in memory) / min(old for _, old in memory),
        "installed size": installed_size(head) / installed_size(base),
    }


def report(slower: Mapping[str, float], others: Mapping[str, float]) -> int:
    """Print what counts; return the exit status."""
    found = named(slower, cases())
    for core, names in found.items():
        print(f"slower: {core}: " + ", ".join(f"{name} ×{slower[name]:.2f}" for name in names))
    also = [f"{name} ×{ratio:.2f}" for name, ratio in slower.items() if not any(name in one for one in found.values())]
    if also:
        print(f"and what rests on it: {', '.join(also)}")
    more = {name: ratio for name, ratio in others.items() if ratio > LARGER[name]}
    for name, ratio in more.items():
        print(f"more: {name} ×{ratio:.2f}")
    if not slower and not more:
        print("nothing is slower")
    return int(bool(slower or more))


def main(base: str, head: str = "HEAD") -> int:
    base, head = hash_of(base), hash_of(head)
    with tempfile.TemporaryDirectory() as folder:
        old, new = (built(commit, Path(folder, name).resolve()) for name, commit in (("base", base), ("head", head)))
        first = ratios(cases(), old, new)
        for name, ratio in sorted(first.items(), key=lambda item: item[1]):
            print(f"{name:<34} ×{ratio:.3f}")
        slower = confirmed([name for name, ratio in first.items() if ratio > SLOWER], old, new)
        others = costs(old, new)
        print("; ".join(f"{name} ×{ratio:.2f}" for name, ratio in others.items()))
        return report(slower, others)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
