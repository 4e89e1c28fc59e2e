"""Two million small steps: memory stays flat, no step grows slower, and telemetry counts each of them.

A 1-4-1 network makes half of the steps one call at a time and half inside `run`; then one eager step for each hundred,
which records a tape and forgets it. The resident set may grow by 4 MB from the end of the first tenth on. A step may
take half as much processor time again in the last tenth as in the first, by the fastest of 20 parts, which what else
runs on the machine hardly touches.

    python -m stress.long_run [--steps 2000000]    # about 5 minutes; Linux, for /proc
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from viva_tensor import autograd, nn, optim, program, telemetry

Array = np.ndarray[Any, Any]
GROWTH = 4 << 20
SLOWER = 1.5
PARTS = 200


def resident() -> int:
    """Return how much memory this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def network(optimizer: optim.Optimizer) -> tuple[Any, autograd.Tape, Array, Array, optim.Optimizer]:
    """Return layers, their tape, inputs and targets, and the optimiser."""
    x = np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
    y = x * x
    layers, tape = nn.mlp(autograd.new_tape(), (1, 4, 1), rng=np.random.default_rng(0))
    return layers, tape, x, y, optimizer


def compiled() -> tuple[program.Step, Array, Array]:
    """Return a step, inputs and targets."""
    layers, tape, X, Y, optimizer = network(optim.Adam(lr=1e-3))
    x, tape = autograd.new_constant(tape, X)
    y, tape = autograd.new_constant(tape, Y)
    output, tape = nn.mlp_forward(tape, layers, x)
    loss, tape = nn.mse_loss(tape, output, y)
    return program.compile_step(tape, loss=loss, params=layers, inputs=(x, y), optimizer=optimizer), X, Y


def watched(name: str, steps: int, part: Callable[[int], object]) -> bool:
    """Call `part` with a number of steps again and again; return whether memory and times stayed as they were."""
    each = max(steps // PARTS, 1)
    times, sizes = [], []
    for _ in range(PARTS):
        start = time.process_time()
        part(each)
        times.append((time.process_time() - start) / each)
        sizes.append(resident())
    tenth = PARTS // 10
    first, last = min(times[:tenth]), min(times[-tenth:])
    growth = max(sizes[tenth:]) - sizes[tenth - 1]
    fine = growth <= GROWTH and last <= SLOWER * first
    print(
        f"{name}: {each * PARTS:,} steps; {first * 1e6:.3f} µs a step in the first tenth, {last * 1e6:.3f} in the last "
        f"(at most {max(times) * 1e6:.3f}); resident {sizes[-1] / 2**20:.1f} MB, grown by "
        f"{growth / 1024:.0f} KB since the first tenth{'' if fine else ': NOT FLAT'}",
        flush=True,
    )
    return fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2_000_000)
    steps = parser.parse_args().steps
    telemetry.reset()
    fine = []

    step, X, Y = compiled()

    def called(count: int) -> None:
        for _ in range(count):
            loss = step(X, Y)
        assert math.isfinite(loss)

    fine.append(watched("step(X, Y)", steps // 2, called))

    inside, X, Y = compiled()
    fine.append(watched("run", steps // 2, lambda n: inside.run(X, Y, batch_size=5, epochs=n, shuffle=False)))
    assert step.steps == inside.steps == steps // 2 // PARTS * PARTS
    assert step.state().params[0].tobytes() == inside.state().params[0].tobytes(), "other bits in run"

    layers, fresh, X, Y, optimizer = network(optim.SGD(lr=1e-2))
    state = optim.init(optimizer, layers)

    def eager(count: int) -> None:
        nonlocal layers, state, fresh
        for _ in range(count):
            x, tape = autograd.new_constant(fresh, X)
            output, tape = nn.mlp_forward(tape, layers, x)
            y, tape = autograd.new_constant(tape, Y)
            loss, tape = nn.mse_loss(tape, output, y)
            grads = autograd.backward(tape, loss)
            (layers, state), fresh = optim.update(autograd.new_tape(), optimizer, state, layers, grads)

    fine.append(watched("eager", max(steps // 100, PARTS), eager))
    counts = telemetry.snapshot()["backward"]
    wanted = max(steps // 100, PARTS) // PARTS * PARTS
    assert counts["count"] == wanted, f"telemetry counted {counts['count']} of {wanted} backward passes"

    telemetry.reset()
    for _ in range(3):
        telemetry.record("counter", (1 << 63) - 1, nodes=(1 << 63) - 1)
    found = telemetry.snapshot()["counter"]
    assert (found["count"], found["nodes"]) == (3, 3 * ((1 << 63) - 1)), found
    assert math.isclose(found["total"], 3 * 2.0**63 * 1e-9), found
    print(f"telemetry: {counts['count']:,} backward passes counted; sums beyond 2⁶³ stay whole")
    sys.exit(not all(fine))


if __name__ == "__main__":
    main()
