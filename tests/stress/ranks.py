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
import shutil
import subprocess
import sys
from pathlib import Path

RANKS = """
import faulthandler, os, signal, sys, threading, time
import numpy as np
from mpi4py import MPI
import viva_tensor as vt
from viva_tensor import autograd, error, nn, optim, program
from viva_tensor.program import ranks

comm = MPI.COMM_WORLD
rank, size = comm.rank, comm.size
seconds, seed = float(sys.argv[1]), int(sys.argv[2])
vt.set_num_threads(1)
ranks.BUCKET = 4096

def compiled(**options):
    rng = np.random.default_rng(seed)
    x, tape = autograd.new_constant(autograd.new_tape(), np.zeros((8, 16), "f4"))
    y, tape = autograd.new_constant(tape, np.zeros((8, 3), "f4"))
    layers, tape = nn.mlp(tape, (16, 64, 64, 48, 3), rng=rng)
    output, tape = nn.mlp_forward(tape, layers, x, dropout_rate=0.2, rng=rng)
    loss, tape = nn.mse_loss(tape, output, y)
    return program.compile_step(
        tape, loss=loss, params=layers, inputs=(x, y), optimizer=optim.Adam(lr=1e-3, clip_norm=1.0), comm=comm,
        rng=rng, **options,
    )

class Failed(Exception):
    pass

def fail(*_):
    raise Failed

def interrupted(number, frame):
    # what comes after a run, before the next one, would end a program; here it is let go
    if step._interrupts._depth:
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupted)
own = np.random.default_rng(rank)
X, Y = own.random((23 + 9 * rank, 16), "f4"), own.random((23 + 9 * rank, 3), "f4")
common = np.random.default_rng(seed)    # draws alike on every rank
steps = [compiled(overlap=overlap, shard_state=shard) for overlap in (False, True) for shard in (False, True)]
counts = dict.fromkeys(["KeyboardInterrupt", "Failed", "MemoryError", "none"], 0)
end = comm.bcast(time.time() + seconds)
while comm.bcast(time.time() < end):
    step = steps[common.integers(len(steps))]
    victim, kind, delay, at = common.integers(size), common.integers(4), common.random() * 0.02, common.integers(1, 25)
    first = step.steps
    faulthandler.dump_traceback_later(60, exit=True)
    schedule = callback = None
    if rank == victim:
        if kind == 0:
            timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
        elif kind == 1:
            schedule = lambda number: fail() if number == first + at else 1e-3
        elif kind == 2:
            callback = lambda epoch, loss: fail() if epoch == 1 + at % 3 else None
        else:
            backward, start, called = step._backward, step._reducer.start, [0]
            def unlucky():
                called[0] += 1
                if called[0] == at:
                    raise MemoryError
                start()
            def gradients(inputs):      # only what computes them may fail so
                step._reducer.start = unlucky
                try:
                    return backward(inputs)
                finally:
                    del step._reducer.start
            step._backward = gradients
    schedule = schedule or (lambda number: 1e-3)
    happened = "none"
    if rank == victim and kind == 0:
        timer.start()
    try:
        step.run(X, Y, batch_size=8, epochs=3, rng=own, callback=callback, schedule=schedule)
    except (KeyboardInterrupt, Failed, MemoryError) as problem:
        happened = type(problem).__name__
    except error.RankError as problem:
        happened = str(problem)
    if rank == victim:
        if kind == 0:
            timer.join()
        elif kind == 3:
            del step._backward
    everything = comm.allgather(happened)
    told = everything[victim]
    counts[told] += 1
    wanted = "none" if told == "none" else f"step: rank {victim} failed with {told}: "
    assert all(one == wanted for i, one in enumerate(everything) if i != victim), everything
    state = step.state()
    digest = ranks._digest((*state.params, *(array for slot in state.moments for array in slot), state.steps))
    assert len(set(comm.allgather(digest))) == 1
    assert told != "none" or state.steps > first
    assert len(set(comm.allgather(step(X[:8], Y[:8])))) == 1
if rank == 0:
    print(*(f"{count} x {name}" for name, count in counts.items()), sep=", ")
    assert all(counts.values()), counts
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    mpiexec = shutil.which("mpiexec", path=path)
    if mpiexec is None:
        sys.exit('mpiexec is missing: pip install "viva-tensor[mpi]"')
    command = [sys.executable, "-m", "mpi4py", "-c", RANKS, str(options.seconds), str(options.seed)]
    done = subprocess.run([mpiexec, "-n", str(options.ranks), *command], check=False, timeout=options.seconds + 120)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
