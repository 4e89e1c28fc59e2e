"""Measure the constants of the model of scale on this machine, and check what it predicts.

usage: python asv_benchmarks/scaling/measure.py [--namespaces]     (on a machine that does nothing else; MPICH, Linux)

Steps of three networks on one rank; sums over 2 and 4 ranks, by which α, β and the length of a turn are fitted; then
sums and whole steps over 8 ranks, beside what the model says of them. Sums go through shared memory, and again through
TCP sockets of the loopback device; with ``--namespaces`` (as root) also between network namespaces that are joined by a
bridge, so that no shared memory joins them. Ranks beyond the number of processors share them. About four minutes;
everything is written to measured.json, which `predict.py` reads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import namespaces
from model import IDLE, Local, Sample, computing, fit, sharing

import viva_tensor as vt

HERE = Path(__file__).parent
MEASURED = HERE / "measured.json"
ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
NETWORKS = {"tabular": [*ROWS, 4096], "mnist-mlp": [*ROWS, 4096], "wide": ROWS}
CHECKED = {"tabular": (64, 1024), "mnist-mlp": (16, 128), "wide": (32, 256)}  # rows of each rank
FITTED, PREDICTED = (2, 4), 8
SOCKETS = {"MPIR_CVAR_CH4_NETMOD": "ucx", "UCX_TLS": "tcp,self"}
THROUGH = {
    "shared memory": {},
    "sockets": SOCKETS | {"MPIR_CVAR_NOLOCAL": "1"},
    "namespaces": SOCKETS | {"MPIR_CVAR_NOLOCAL": "1"},
}


def processor() -> str:
    text = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    names = [found.get("model name", platform.processor() or platform.machine())]
    if "cpu family" in found:
        names.append(f"family {found['cpu family']} model {found['model']}")
    return ", ".join(names)


def run(ranks: int, *arguments: str, start: list[str] | None = None, **environment: str) -> dict[str, Any]:
    """What so many ranks found."""
    command = [*(start or ["mpiexec"]), "-n", str(ranks), sys.executable, str(HERE / "ranks.py"), *arguments]
    done = subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows_of(networks: dict[str, Any]) -> list[str]:
    return [word for name, rows in networks.items() for word in ("--rows", name, *map(str, rows))]


def samples(found: dict[str, Any], cpus: int) -> list[Sample]:
    share = sharing(found["ranks"], cpus)
    return [Sample(found["ranks"], int(size), seconds, share) for size, seconds in found["sums"].items()]


def reductions(through: str, cpus: int, rate: str | None) -> tuple[Local, dict[str, Any]]:
    """What was fitted, and its record."""
    found, crossed = {}, 0
    for ranks in (*FITTED, PREDICTED):
        print(f"sums of {ranks} ranks through {through}", file=sys.stderr)
        with namespaces.hosts(ranks, rate) if through == "namespaces" else nullcontext() as start:
            found[ranks] = run(ranks, start=start, **THROUGH[through])
            crossed = namespaces.received(0) if start else 0
    local = fit((one for ranks in FITTED for one in samples(found[ranks], cpus)), found[FITTED[0]]["per_sum"])
    link = local.link
    return local, {
        "latency": link.latency,
        "per_byte": link.per_byte,
        "per_sum": link.per_sum,
        "turn": local.turn,
        "sums": [[one.ranks, one.size, one.seconds] for each in found.values() for one in samples(each, cpus)],
        **({"bytes received by rank 0 of the last": crossed} if crossed else {}),
    }


def checked(local: Local, single: dict[str, Any], cpus: int) -> list[dict[str, Any]]:
    """Steps over several ranks, measured and predicted."""
    found = []
    for ranks in (FITTED[0], PREDICTED):
        print(f"steps of {ranks} ranks", file=sys.stderr)
        steps = run(ranks, *rows_of(CHECKED))["steps"]
        for name, rows in CHECKED.items():
            one = single["steps"][name]["shared"]
            for count in rows:
                compute = computing(count, rows, [one[str(each)] for each in rows])
                size = 4 * parameters(name)
                predicted = sharing(ranks, cpus) * compute + local.allreduce(size, ranks, cpus)
                seconds = steps[name]["shared"][str(count)]
                found.append(
                    {"network": name, "ranks": ranks, "rows": count, "seconds": seconds, "predicted": predicted}
                )
    return found


def parameters(name: str) -> int:
    from ranks import problem

    return sum(w.size + b.size for w, b in problem(name)[2])


def compact(facts: dict[str, Any]) -> str:
    """As JSON with four digits, and lists of numbers in one line."""
    rounded = json.loads(json.dumps(facts), parse_float=lambda text: float(f"{float(text):.4g}"))
    text = json.dumps(rounded, indent=1)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: "[" + " ".join(found[0][1:-1].split()) + "]", text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--namespaces", action="store_true", help="sums between network namespaces too, as root")
    parser.add_argument("--rate", help="rate of each namespace's cable, such as 1gbit (default: as fast as it goes)")
    parser.add_argument(
        "--output", type=Path, default=MEASURED, metavar="FILE.json", help="default: measured.json here"
    )
    arguments = parser.parse_args()
    if shutil.which("mpiexec") is None:
        parser.error('there is no mpiexec; pip install "viva-tensor[mpi]"')
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0]
    if load > IDLE:
        print(f"this machine is busy (load {load:.1f}): what is measured now means little", file=sys.stderr)
    print("steps of one rank", file=sys.stderr)
    whole = run(1, *rows_of(NETWORKS), "--threads", str(cpus))
    single = run(1, *rows_of(CHECKED))
    facts: dict[str, Any] = {
        "machine": {
            "processor": processor(),
            "processors": cpus,
            "system": f"{platform.system()} {platform.machine()}",
            "mpi": " ".join(whole["mpi"].replace("Version:", "").split()),
            "viva_tensor": vt.__version__,
            "load before": load,
        },
        "networks": {},
        "reductions": {},
    }
    for name, found in whole["steps"].items():
        facts["networks"][name] = {
            "parameters": parameters(name),
            "rows": NETWORKS[name],
            "alone": list(found["alone"].values()),
            "shared": list(found["shared"].values()),
            "update": found["update"],
            "jitter": found["jitter"],
        }
    fitted = {}
    for through in list(THROUGH) if arguments.namespaces else list(THROUGH)[:-1]:
        fitted[through], facts["reductions"][through] = reductions(through, cpus, arguments.rate)
    facts["steps"] = checked(fitted["shared memory"], single, cpus)
    arguments.output.write_text(compact(facts))
    print(f"Wrote {arguments.output}")


if __name__ == "__main__":
    main()
