"""A run in a child that is killed at random moments, and goes on from its checkpoint, again and again."""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from viva_tensor import checkpoint, optim, train

EPOCHS, NAME = 12, "run.safetensors"
SETTINGS = train.Settings(
    hidden=(96, 96), optimizer=optim.Adam(lr=1e-3), epochs=EPOCHS, batch_size=32, activation="tanh", seed=5
)


def data():
    rng = np.random.default_rng(3)
    x = rng.integers(-8, 9, (256, 20)).astype(np.float32) / 8
    return x, x[:, :3] * x[:, 3:6]


def fitted(path):
    """The end of a run, from its checkpoint where there is one, as bytes."""
    made = train.fit(*data(), SETTINGS, checkpoint=path, checkpoint_epochs=1, resume=path.exists())
    arrays = [array.tobytes() for layer in made.layers for array in (layer.w.data, layer.b.data)]
    return b"".join(arrays) + repr(made.history).encode()


def in_child(work):
    """The number of a child that does some work and ends."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as failure:
            print(f"the child: {failure!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child


def killed_after(child, seconds):
    """Whether the child was killed; False if it ended by itself before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            assert status == 0, f"the child ended with status {status}"
            return False
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def clean(folder):
    """Take away what was left half written; how many files that were."""
    left = list(folder.glob(".*.tmp"))
    for one in left:
        one.unlink()
    return len(left)


def run(folder, times, rng, say=print):
    """Kill so many times; the numbers of kills and of runs that came to their end."""
    path, done = folder / NAME, folder / "done"
    start = time.monotonic()
    assert not killed_after(in_child(lambda: done.write_bytes(fitted(path))), 300), "a run takes 300 seconds"
    whole, wanted = time.monotonic() - start, done.read_bytes()
    path.unlink()
    kills = ended = without = writing = 0
    last = 0
    while kills < times:
        child = in_child(lambda: done.write_bytes(fitted(path)))
        if killed_after(child, rng.uniform(0, whole)):
            kills += 1
            writing += clean(folder)
            if not path.exists():
                without += 1
                assert last == 0, "the checkpoint is gone"
                continue
            kept = checkpoint.load(path)
            assert checkpoint.latest(folder) == path
            assert kept.epoch >= last, "the checkpoint went back"
            last = kept.epoch
        else:
            assert done.read_bytes() == wanted, "another end than that of a run that was never interrupted"
            ended, last = ended + 1, 0
            path.unlink()
    while path.exists():  # the one under way
        assert not killed_after(in_child(lambda: done.write_bytes(fitted(path))), 300)
        assert done.read_bytes() == wanted
        ended, last = ended + 1, 0
        path.unlink()
    say(f"{kills} kills, {without} of them before the first checkpoint and {writing} while one was written;")
    say(f"{ended} runs came to their end, each with the bits of the uninterrupted one")
    return kills, ended


def full_disk(folder, say=print):
    """A checkpoint that finds no room names the file, and leaves the one before."""
    import resource

    path = folder / NAME
    done = folder / "done"

    def starved():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2, resource.RLIM_INFINITY))
        try:
            fitted(path)
        except OSError as failure:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            done.write_text(str(failure))

    child = in_child(lambda: fitted(path))
    while not path.exists():
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    clean(folder)
    before = path.read_bytes()
    assert not killed_after(in_child(starved), 300)
    said = done.read_text()
    assert str(path) in said, said
    assert path.read_bytes() == before
    checkpoint.load(path)
    assert clean(folder) == 0
    say(f"a full disk: {said}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        run(Path(name), int(sys.argv[1]), random.Random(1))
        full_disk(Path(name))
