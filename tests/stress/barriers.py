"""That ThreadSanitizer sees a race where a planned barrier is missing: leaves out each in turn and runs the program.

Needs a ThreadSanitizer build: `bash tests/stress/sanitize thread` calls it, for two minutes. Each barrier takes a
process, whose exit status tells of races. A program with all its barriers must have none. Without one of them there may
be none either: where two instructions happen to share out their work alike, or one that shares memory writes the rows
that another reads, each thread meets only itself. A few barriers are such; if a third were, the detector would be
taken to be blind.

Why each barrier is there is written in viva_tensor/program/scheduling.py.
"""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

import viva_tensor as vt
from viva_tensor import autograd, nn, optim, program
from viva_tensor.program import planning, thresholds
from viva_tensor.program.scheduling import deal

FOUND = 66  # exit status of a process in which ThreadSanitizer found something
NONE = 1000  # more barriers than any program has
BATCH = 190  # no multiple of the threads: shares by rows and by elements differ
TEAMS = thresholds.Thresholds(**thresholds.EVERYWHERE)  # for all instructions
thresholds.use(TEAMS)


def regression(rng: np.random.Generator) -> program.Step:
    return network(rng, (64, 160, 96, 64), optim.SGD(lr=0.01, momentum=0.9))


def sharing(rng: np.random.Generator) -> program.Step:
    """Temporaries share memory."""
    thresholds.use(replace(TEAMS, unshared=0))
    return network(rng, (64, 160, 160, 96, 64), optim.SGD(lr=0.01))


def clipping(rng: np.random.Generator) -> program.Step:
    return network(rng, (64, 160, 96), optim.Adam(lr=0.01, clip_norm=1.0), normalized=True)


def network(
    rng: np.random.Generator, sizes: tuple[int, ...], optimizer: optim.Optimizer, normalized: bool = False
) -> program.Step:
    x, tape = autograd.new_constant(autograd.new_tape(), data(rng, sizes[0]))
    y, tape = autograd.new_constant(tape, data(rng, sizes[-1]))
    h: Any = x
    layers: list[Any] = []
    for fan_in, fan_out in pairwise(sizes):
        layer, tape = nn.linear(tape, fan_in, fan_out, rng=rng)
        layers.append(layer)
        h, tape = nn.linear_forward(tape, layer, h)
        if normalized:
            norm, tape = nn.layer_norm(tape, fan_out)
            layers.append(norm)
            h, tape = nn.layer_norm_forward(tape, norm, h)
        h, tape = nn.tanh(tape, h)
    loss, tape = nn.mse_loss(tape, h, y)
    return program.compile_step(tape, loss=loss, params=layers, inputs=(x, y), optimizer=optimizer)


def data(rng: np.random.Generator, columns: int) -> np.ndarray[Any, Any]:
    return rng.standard_normal((BATCH, columns)).astype("f4")


PROGRAMS = {made.__name__: made for made in (regression, sharing, clipping)}


def run(name: str, missing: int) -> int:
    """Compile without one of the barriers and make some steps; how many barriers there were."""
    found = 0

    def deal_without(planned: list[Any], *rest: Any) -> None:
        nonlocal found
        deal(planned, *rest)
        barred = [one for one in planned if one.barrier]
        found = len(barred)
        if missing < found:
            barred[missing].barrier = False

    vars(planning)["deal"] = deal_without
    rng = np.random.default_rng(0)
    with vt.num_threads(3):
        step = PROGRAMS[name](rng)
        x, y = (variable.data for variable in step._source.inputs)
        for _ in range(3):
            step(x, y)
        step.run(x, y, batch_size=BATCH, rng=rng)  # gathers rows, with a barrier of its own behind
    return found


def races(name: str, missing: int) -> tuple[int, str]:
    """How many barriers a program has, and what ThreadSanitizer says of it without one of them."""
    done = subprocess.run(
        [sys.executable, "-m", "stress.barriers", name, str(missing)],
        env=os.environ | {"TSAN_OPTIONS": "log_path=stderr"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode not in (0, FOUND):
        raise SystemExit(done.stderr)
    return int(done.stdout), done.stderr if done.returncode == FOUND else ""


def main() -> bool:
    """Whether there is no race with all barriers, and one without most of them."""
    held = True
    for name in PROGRAMS:
        barriers, said = races(name, NONE)
        if said:
            print(f"{name}: a race with all barriers\n{said}")
        idle = [missing for missing in range(barriers) if not races(name, missing)[1]]
        print(
            f"{name}: {barriers} barriers; a race without each of {barriers - len(idle)}, none without numbers {idle}"
        )
        held = held and not said and 3 * len(idle) < barriers
    return held


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(not main())
    print(run(sys.argv[1], int(sys.argv[2])))
