"""Checkpoints with something in each field, and files of any content."""

from collections.abc import Callable
from typing import Any

import numpy as np

from support.networks import network
from viva_tensor import checkpoint, error, optim, program
from viva_tensor.checkpoint import Checkpoint, storage

SIZES = (3, 8, 5, 2)


def arrays(layers):
    return [array for layer in layers for array in (layer.w.data, layer.b.data)]


def same(a, b):
    """Equal in structure, types and bits."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return type(a) is type(b) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and (a == b or (a != a and b != b))


def full(rng):
    """A checkpoint with something in each field."""
    state = program.State(*[(rng.standard_normal((2, 3)), np.float32([np.nan, -0.0]))] * 2, 7, "SGD")
    return Checkpoint(
        state,
        optim.SGD(lr=0.1, momentum=0.9),
        rng,
        epoch=3,
        history={"epoch": [1, 2, 3], "loss": [0.1, float("nan"), float("inf")]},
        metadata={"name": "täble", "nested": {"deep": [1, None, True, {"a": (1, 2)}]}, "big": 2**200, "empty": {}},
    )


def signed(path, tensors, metadata):
    """A file with a checksum, whatever it holds."""
    path.write_bytes(storage.packed(tensors, {key: text for key, text in metadata.items() if key != "sha256"}))
    return path


# files that were written here, each with what reads it
WRITTEN: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "checkpoint": (lambda path, rng: checkpoint.save(path, full(rng)), checkpoint.load),
    "weights": (
        lambda path, rng: checkpoint.save_weights(path, network(rng, "float32", (2, 3, 1))[0]),
        checkpoint.load_weights,
    ),
}


def read_or_refused(path):
    """Read a file in every way; whatever it holds, it is read, or refused in words."""
    for read in (checkpoint.load, checkpoint.load_weights):
        try:
            read(path)
        except error.InvalidFile as refused:
            if str(path) not in str(refused):
                raise AssertionError(refused) from refused
    checkpoint.latest(path.parent)
