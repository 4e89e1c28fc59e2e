"""Hosts on one machine: network namespaces with a virtual cable each into one bridge, so that ranks need a network.

Linux, as root, with iproute2, and an MPI with Hydra (MPICH's mpiexec).
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME, NETWORK = "viva", "10.213.77"
LAUNCHER = f"""#!/bin/sh
# What Hydra calls instead of ssh: options, the host, and a command
while [ "${{1#-}}" != "$1" ]; do shift; done
host=$1
shift
exec ip netns exec {NAME}$((${{host##*.}} - 1)) sh -c "$*"
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextmanager
def hosts(count: int, rate: str | None = None) -> Iterator[list[str]]:
    """What comes before ``-n`` on the command line of mpiexec, while so many hosts are there, at that rate (``1gbit``).

    The command must be started in the first of them; that is part of it.
    """
    made: list[list[str]] = []
    try:
        ip("link", "add", NAME, "type", "bridge")
        made.append(["link", "del", NAME])
        ip("link", "set", NAME, "up")
        for host in range(count):
            ip("netns", "add", f"{NAME}{host}")
            made.append(["netns", "del", f"{NAME}{host}"])
            ip("link", "add", f"{NAME}-{host}", "type", "veth", "peer", "name", "eth0", "netns", f"{NAME}{host}")
            made.append(["link", "del", f"{NAME}-{host}"])  # first: namespaces are taken down later, on their own
            ip("link", "set", f"{NAME}-{host}", "master", NAME, "up")
            inside = ("-n", f"{NAME}{host}")
            ip(*inside, "address", "add", f"{NETWORK}.{host + 1}/24", "dev", "eth0")
            ip(*inside, "link", "set", "eth0", "up")
            ip(*inside, "link", "set", "lo", "up")
            if rate:
                limit = ["root", "tbf", "rate", rate, "burst", "128kb", "latency", "50ms"]
                subprocess.run(["tc", *inside, "qdisc", "add", "dev", "eth0", *limit], check=True)
        addresses = [f"{NETWORK}.{host + 1}" for host in range(count)]
        with tempfile.TemporaryDirectory() as folder:
            launcher = Path(folder) / "enter"
            launcher.write_text(LAUNCHER)
            launcher.chmod(0o755)
            start = ["ip", "netns", "exec", f"{NAME}0", "mpiexec", "-localhost", addresses[0]]
            yield [*start, "-launcher", "ssh", "-launcher-exec", str(launcher), "-hosts", ",".join(addresses)]
    finally:
        for one in reversed(made):
            subprocess.run(["ip", *one], check=False)


def received(host: int) -> int:
    """The bytes that a host has received from the others."""
    shown = subprocess.run(
        ["ip", "netns", "exec", f"{NAME}{host}", "cat", "/proc/net/dev"], check=True, capture_output=True, text=True
    )
    return int(next(line for line in shown.stdout.splitlines() if "eth0:" in line).split(":")[1].split()[0])
