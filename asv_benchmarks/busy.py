"""How fast steps are while other programs use the processors, ours beside other libraries'.

usage: python asv_benchmarks/busy.py [--seconds 1] [--libraries viva_tensor,torch,jax] [--networks NAME,...]

For each network, library and number of threads: steps per second beside other loads, each measured in a process of its
own; then what two threads do beside one under the same load (goal: at least 0.91), and beside what their share of the
processors allows (goal: at least 0.8). Runs for minutes, on a machine of two processors that does nothing else.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from benchmarks import peers

NETWORKS = {  # rows of a batch, and widths
    "1-4-1": (5, (1, 4, 1)),
    "64-128-64-1": (128, (64, 128, 64, 1)),
    "784-256-128-10": (128, (784, 256, 128, 10)),
    "1024-4096-1024": (256, (1024, 4096, 1024)),
}
LOADS = ("idle", "1 loop", "2 loops", "4 loops", "2 niced", "training", "quota 1.0", "quota 1.5", "one core")
SHARES = (2, 4 / 3, 1, 2 / 3, 2, 1, 1, 1.5, 1)  # processors that are left to two threads
LOOP = "while True: pass"
QUOTAS = Path("/sys/fs/cgroup/cpu/viva_tensor_busy"), Path("/sys/fs/cgroup/viva_tensor_busy")  # of both versions


@contextmanager
def loops(count: int, niceness: int = 0) -> Iterator[None]:
    """Keep so many processors busy."""
    command = ["nice", "-n", str(niceness), sys.executable, "-c", LOOP]
    running = [subprocess.Popen(command) for _ in range(count)]
    time.sleep(0.2)
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


@contextmanager
def another_training() -> Iterator[None]:
    """Let another process train with as many threads."""
    command = [sys.executable, __file__, "--measure", "viva_tensor", "2", "784-256-128-10", "60"]
    other = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    time.sleep(2)
    try:
        yield
    finally:
        other.kill()
        other.wait()


@contextmanager
def quota(processors: float) -> Iterator[Path]:
    """Make a control group with so many processors' time; the file to which its processes are written."""
    group = next(one for one in QUOTAS if one.parent.is_dir())
    group.mkdir(exist_ok=True)
    try:
        if (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text(str(int(1e5 * processors)))
        else:
            (group / "cpu.max").write_text(f"{int(1e5 * processors)} 100000")
        yield group / "cgroup.procs"
    finally:
        with suppress(OSError):
            group.rmdir()


def made(network: str) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Return inputs, targets and weights."""
    batch, widths = NETWORKS[network]
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((batch, widths[0]), "f4"), rng.standard_normal((batch, widths[-1]), "f4")
    return x, y, peers.weights_of(widths)


def viva_step(network: str, threads: int) -> Callable[[], object]:
    from benchmarks.workloads import CompiledStep

    import viva_tensor

    viva_tensor.set_num_threads(threads)
    return CompiledStep(*made(network))


def torch_step(network: str, threads: int) -> Callable[[], object]:
    import torch

    torch.set_num_threads(threads)
    x, y, weights = made(network)
    model = peers.torch_model(weights)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()

    return step


def jax_step(network: str, threads: int) -> Callable[[], object]:
    import jax

    x, y, params = made(network)

    def loss(params, x, y):
        return ((peers.jax_forward(params, x) - y) ** 2).mean()

    @jax.jit
    def update(params):
        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, jax.grad(loss)(params, x, y))

    def step() -> None:
        nonlocal params
        params = jax.block_until_ready(update(params))

    return step


def lightgbm_step(network: str, threads: int) -> Callable[[], object]:
    """Return one iteration of boosting on 100 batches of rows: not the same work, but the same loads."""
    import lightgbm

    batch, widths = NETWORKS[network]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100 * batch, widths[0]), "f4")
    data = lightgbm.Dataset(x, x[:, 0] + rng.standard_normal(len(x), "f4"))
    return lightgbm.Booster({"num_threads": threads, "verbose": -1, "min_data_in_leaf": 5}, data).update


STEPS = {"viva_tensor": viva_step, "torch": torch_step, "jax": jax_step, "lightgbm": lightgbm_step}


def measure(library: str, threads: int, network: str, seconds: float) -> float:
    """Return the steps per second of a library in this process."""
    if library == "jax" and threads < (os.cpu_count() or 1):  # takes as many threads as there are processors
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    step = STEPS[library](network, threads)
    warm = time.perf_counter() + 0.3
    while time.perf_counter() < warm:
        step()
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        step()
        count += 1
    return count / passed


def rate(
    library: str, threads: int, network: str, seconds: float, group: Path | None = None, pin: bool = False
) -> float:
    """Return the steps per second of a library in a process of its own."""

    def prepare() -> None:
        if group is not None:
            group.write_text(str(os.getpid()))
        if pin:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])

    command = [sys.executable, __file__, "--measure", library, str(threads), network, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=prepare)
    return float(done.stdout)


def report(library: str, threads: int, network: str, seconds: float) -> list[float]:
    """Print a line of steps per second, idle and beside each load; return them."""
    rates = []
    for load in (loops(0), loops(1), loops(2), loops(4), loops(2, 19), another_training()):
        with load:
            rates.append(rate(library, threads, network, seconds))
    for processors in (1.0, 1.5):
        try:
            with quota(processors) as group:
                rates.append(rate(library, threads, network, seconds, group=group))
        except (OSError, StopIteration):
            rates.append(float("nan"))
    rates.append(rate(library, threads, network, seconds, pin=True))
    print(f"{network:<16}{library:<12}{threads:>2}  " + "".join(f"{one:>11,.0f}" for one in rates), flush=True)
    return rates


def compare(one: list[float], two: list[float]) -> None:
    """Print two threads beside one under the same load, and beside what the share of the processors allows.

    The scheduler deals two processors out evenly among our two threads and those of the others. A share of one
    processor allows what one thread does alone; more of them lead up to what two do.
    """
    allowed = [one[0] * min(share, 1) + max(two[0] - one[0], 0) * max(share - 1, 0) for share in SHARES]
    for title, others in (("two threads ÷ one", one), ("÷ what the share allows", allowed)):
        ratios = "".join(f"{rate / other:>11.2f}" for rate, other in zip(two, others, strict=True))
        print(f"{title:<32}" + ratios, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--libraries", default=",".join(name for name in STEPS if find_spec(name)))
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        library, threads, network, seconds = options.measure
        print(measure(library, int(threads), network, float(seconds)))
        return
    print(f"{'steps a second':<28}T  " + "".join(f"{load:>11}" for load in LOADS))
    for network in options.networks.split(","):
        for library in options.libraries.split(","):
            one, two = (report(library, threads, network, options.seconds) for threads in (1, 2))
            compare(one, two)


if __name__ == "__main__":
    main()
