"""How far data-parallel training scales, by the model and the constants in measured.json: a picture and tables.

usage: python asv_benchmarks/scaling/predict.py [--picture FILE.png] [--speed S]

Three networks, up to 4,096 nodes like the one that was measured (or S times as fast), on two interconnects; what the
model said of 8 ranks on the measured machine, beside what they took; where each network's efficiency falls below one
half, and what moves that limit.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from model import IDLE, MOST_NODES, Levers, Link, Local, Network, limit, nodes, rows_for, strong, weak

HERE = Path(__file__).parent
MEASURED = HERE / "measured.json"
GB = 1e9 / 8  # bytes a second for each Gb/s

# Rate of the link, and one-way latency of a small message between two programs on two nodes. γ is the machine's own.
INTERCONNECTS = {
    # IEEE 802.3by. The kernel's TCP costs more than the wire; 20 µs is assumed, and measure.py shows what sockets take
    # without any wire.
    "25 Gb/s Ethernet, TCP, 20 µs": (20e-6, 1 / (25 * GB)),
    # 200 Gb/s and 1.2 µs for a byte: Microsoft, HBv3-series virtual machine performance
    # (learn.microsoft.com/azure/virtual-machines/hbv3-performance). 1.5 µs leaves room for a switch more.
    "200 Gb/s InfiniBand HDR, 1.5 µs": (1.5e-6, 1 / (200 * GB)),
}
# Layer widths, rows on each node in weak scaling, and rows in all in strong scaling.
CASES = {
    "tabular": ("8-64-64-1", 4096, 65536),
    "mnist-mlp": ("784-256-128-10", 512, 16384),
    "wide": ("1024-4096-1024", 256, 8192),
}
LEVERS = {
    "as it is": Levers(),
    "overlap": Levers(overlap=0.5),
    "gradients in ¼ of the bytes": Levers(compression=4),
    "a reduction every 8 steps": Levers(every=8),
    "sharded state": Levers(sharded=True),
    "the first three": Levers(overlap=0.5, compression=4, every=8),
}


def quiet(facts: dict[str, Any]) -> bool:
    """Whether the machine is known to have done nothing else."""
    load: float = facts["machine"].get("load before", math.inf)
    return load <= IDLE


def networks(facts: dict[str, Any], speed: float) -> dict[str, Network]:
    found = {}
    for name, one in facts["networks"].items():
        alone, shared = ([seconds / speed for seconds in one[key]] for key in ("alone", "shared"))
        found[name] = Network(name, one["parameters"], one["rows"], alone, shared, one["update"] / speed)
    return found


def links(facts: dict[str, Any]) -> dict[str, Link]:
    per_sum = facts["reductions"]["shared memory"]["per_sum"]
    return {name: Link(latency, per_byte, per_sum) for name, (latency, per_byte) in INTERCONNECTS.items()}


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(ranks: int) -> str:
    return f"≥ {MOST_NODES:,}" if ranks >= MOST_NODES else f"{ranks:,}"


def off(predicted: float, seconds: float) -> str:
    return f"{predicted / seconds - 1:+.0%}"


def checks(facts: dict[str, Any]) -> Iterator[str]:
    """What was predicted, beside what was measured."""
    cpus = facts["machine"]["processors"]
    for through, one in facts["reductions"].items():
        local = Local(Link(one["latency"], one["per_byte"], one["per_sum"]), one["turn"])
        yield (
            f"\n{through}: α {one['latency'] * 1e6:.1f} µs, β {one['per_byte'] * 1e9:.3f} ns/byte, "
            f"γ {one['per_sum'] * 1e9:.3f} ns/byte, a turn {one['turn'] * 1e3:.2f} ms; fitted on 2 and 4 ranks\n"
        )
        told = ((ranks, size, seconds, local.allreduce(size, ranks, cpus)) for ranks, size, seconds in one["sums"])
        yield table(
            ["ranks", "bytes", "measured, µs", "model, µs", "off by"],
            ([str(n), f"{size:,}", f"{t * 1e6:,.0f}", f"{p * 1e6:,.0f}", off(p, t)] for n, size, t, p in told),
        )
    yield "\nsteps, from the computing of one rank with one thread and the reductions through shared memory\n"
    yield table(
        ["network", "ranks", "rows of each", "measured, µs", "model, µs", "off by"],
        (
            [
                one["network"],
                str(one["ranks"]),
                str(one["rows"]),
                f"{one['seconds'] * 1e6:,.0f}",
                f"{one['predicted'] * 1e6:,.0f}",
                off(one["predicted"], one["seconds"]),
            ]
            for one in facts["steps"]
        ),
    )


def limits(facts: dict[str, Any], speed: float) -> Iterator[Sequence[str]]:
    """For each network, interconnect and kind of scaling, up to how many nodes at least half of each is used."""
    for name, network in networks(facts, speed).items():
        _, rows, batch = CASES[name]
        for wire, link in links(facts).items():
            for kind, efficiency, size in (("weak", weak, rows), ("strong", strong, batch)):
                ends = [
                    limit(lambda n, one=one: efficiency(network, size, n, link, one))  # noqa: B023  # called at once
                    for one in LEVERS.values()
                ]
                what = f"{rows:,} a node" if kind == "weak" else f"{batch:,} in all"
                yield [name, wire.split(",")[0], f"{kind}, {what}", *map(shown, ends)]


def needed(facts: dict[str, Any], speed: float) -> Iterator[Sequence[str]]:
    for name, network in networks(facts, speed).items():
        for wire, link in links(facts).items():
            cells = []
            for ranks in (16, 256, MOST_NODES):
                rows = rows_for(network, ranks, link)
                cells.append("never" if rows is None else f"{rows:,}")
            yield [name, wire.split(",")[0], *cells]


def jitters(facts: dict[str, Any], speed: float) -> Iterator[Sequence[str]]:
    """What the slowest node costs, if each varies as the one that was measured."""
    link = links(facts)["200 Gb/s InfiniBand HDR, 1.5 µs"]
    for name, network in networks(facts, speed).items():
        spread, rows = facts["networks"][name]["jitter"], CASES[name][1]
        cells = [
            f"{weak(network, rows, MOST_NODES, link, Levers(jitter=one, every=every)):.0%}"
            for one, every in ((0, 1), (0.05, 1), (spread, 1), (spread, 8))
        ]
        yield [name, f"{spread:.0%}", *cells]


def picture(path: Path, facts: dict[str, Any], speed: float) -> None:
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True, sharey=True)
    counts = nodes()
    for column, (name, network) in enumerate(networks(facts, speed).items()):
        widths, rows, batch = CASES[name]
        for (wire, link), color in zip(links(facts).items(), ("tab:orange", "tab:blue"), strict=True):
            for row, (efficiency, size) in enumerate(((weak, rows), (strong, batch))):
                for levers, style, label in (
                    (LEVERS["as it is"], "-", wire.split(", ")[0]),
                    (LEVERS["the first three"], ":", None),
                ):
                    y = [100 * efficiency(network, size, n, link, levers) for n in counts]
                    axes[row][column].semilogx(counts, y, style, base=2, color=color, label=label)
        axes[0][column].set_title(f"{name}, {widths}\n{rows:,} rows a node", fontsize=9)
        axes[1][column].set_title(f"{batch:,} rows in all", fontsize=9)
        axes[1][column].set_xlabel("nodes")
    for each in axes.flat:
        each.axhline(50, color="black", linewidth=0.8)
        each.grid(True, alpha=0.2)
        each.set_ylim(0, 120)
        each.set_xticks([1, 8, 64, 512, 4096], ["1", "8", "64", "512", "4,096"])
    axes[0][0].set_ylabel("efficiency, weak scaling, %", fontsize=9)
    axes[1][0].set_ylabel("efficiency, strong scaling, %", fontsize=9)
    axes[0][0].plot([], [], ":", color="grey", label="overlap, ¼ bytes,\nevery 8 steps")
    axes[0][0].legend(fontsize=7, loc="lower left")
    node = f"{facts['machine']['processors']} cores" + (f", {speed:g}× their speed" if speed != 1 else "")
    busy = "" if quiet(facts) else " (provisional: the machine was busy)"
    figure.suptitle(f"Predicted from steps measured on a node of {node}{busy}", fontsize=10)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--measured", type=Path, default=MEASURED, metavar="FILE.json", help="default: measured.json here"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the efficiencies, with matplotlib")
    parser.add_argument("--speed", type=float, default=1.0, help="of a node, beside the one that was measured (1)")
    arguments = parser.parse_args()
    if arguments.speed <= 0:
        parser.error("--speed is above 0")
    facts = json.loads(arguments.measured.read_text())
    print("; ".join(f"{key}: {value}" for key, value in facts["machine"].items()))
    if not quiet(facts):
        print("provisional: the machine did other work; measure.py measures anew")
    print(*checks(facts), sep="\n")
    print("\nnodes up to which the efficiency is one half or more (powers of two)\n")
    print(table(["network", "interconnect", "rows", *LEVERS], limits(facts, arguments.speed)))
    print("\nrows on each node from which the efficiency of weak scaling is one half or more\n")
    print(table(["network", "interconnect", "16 nodes", "256", "4,096"], needed(facts, arguments.speed)))
    print("\nweak scaling on 4,096 nodes of InfiniBand, if the time of a node's step varies\n")
    head = ["network", "measured", "not at all", "by 5%", "as measured", "so, and a reduction every 8 steps"]
    print(table(head, jitters(facts, arguments.speed)))
    if arguments.picture:
        picture(arguments.picture, facts, arguments.speed)
        print(f"\nWrote {arguments.picture}")


if __name__ == "__main__":
    main()
