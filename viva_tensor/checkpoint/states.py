"""Training states: all that a run needs to go on bit for bit, in one file."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from viva_tensor import files, optim, program
from viva_tensor.checkpoint.codec import RECORDS, decoded, encoded, record_names
from viva_tensor.checkpoint.storage import DTYPES, opened, packed, tensors_of
from viva_tensor.error import InvalidFile, InvalidValue, TensorError
from viva_tensor.kernels.arrays import Array

FORMAT = "checkpoint 2"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on.

    Parameters
    ----------
    state : State
        From :meth:`viva_tensor.program.Step.state` or :mod:`viva_tensor.optim`: parameters, the optimiser's moments and
        the number of steps.
    optimizer : record of :mod:`viva_tensor.optim`
    rng : numpy.random.Generator, optional
        The generator that shuffles the batches, in its present state. It goes on with the same bits, as do children
        that it spawns. Record and compile the step first, with other generators: recording draws from them.
    epoch : int
        Number of whole epochs.
    history : mapping of str to list of numbers
        Columns, such as the losses of each epoch.
    metadata : mapping of str
        Anything else that JSON can hold, arrays, and more generators, such as the one for a step's dropouts.

    Raises
    ------
    InvalidValue
        If a field has another type.
    """

    state: Any
    optimizer: Any
    rng: np.random.Generator | None = None
    epoch: int = 0
    history: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        optimizer = isinstance(self.optimizer, optim.Optimizer) and type(self.optimizer) in record_names()
        states = (program.State, optim.State)
        for name, right, wanted in (
            ("state", type(self.state) in states, "a state of a compiled step or of optim.init"),
            ("optimizer", optimizer, "an optimiser of viva_tensor.optim"),
            ("rng", self.rng is None or isinstance(self.rng, np.random.Generator), "a numpy.random.Generator or None"),
            ("epoch", type(self.epoch) is int and self.epoch >= 0, "a number from 0"),
            ("history", isinstance(self.history, Mapping), "a mapping"),
            ("metadata", isinstance(self.metadata, Mapping), "a mapping"),
        ):
            if not right:
                got = type(getattr(self, name)).__name__
                raise InvalidValue(f"{name} is {got}, wanted {wanted}", operation="Checkpoint")


RECORDS["checkpoint.Checkpoint"] = Checkpoint


def save(path: str | os.PathLike[str], checkpoint: Checkpoint) -> Path:
    """Write a checkpoint in one step, so that a crash or a full disk leaves the last good file, and return its path.

    Raises
    ------
    InvalidValue
        If it holds something other than data; the message says where. Nothing is written then.
    OSError, ImportError
        As :func:`save_weights`.

    Examples
    --------
    >>> from viva_tensor import autograd, optim
    >>> import tempfile
    >>> sgd = optim.SGD(lr=0.1)
    >>> w, tape = autograd.new_variable(autograd.new_tape(), [1.0, 2.0])
    >>> rng = np.random.default_rng(3)
    >>> checkpoint = Checkpoint(optim.init(sgd, w), sgd, rng, epoch=2, history={"train_loss": [0.5, 0.25]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = load(save(Path(folder) / "epoch-2.safetensors", checkpoint))
    >>> again.optimizer, again.epoch, again.history
    (SGD(lr=0.1, ...), 2, {'train_loss': [0.5, 0.25]})
    >>> again.rng.random() == rng.random()
    True
    """
    if not isinstance(checkpoint, Checkpoint):
        raise InvalidValue(f"got {type(checkpoint).__name__}, wanted a Checkpoint", operation="save")
    tensors: dict[str, Array] = {}
    try:
        tree = json.dumps(encoded(checkpoint, "checkpoint", tensors), allow_nan=False)
        metadata = {"viva_tensor": FORMAT, "written": str(time.time_ns()), "checkpoint": tree}
        content = packed(tensors, metadata)
    except (RecursionError, UnicodeError) as error:
        got = f"the checkpoint cannot be written ({type(error).__name__}: {error!s:.100})"
        raise InvalidValue(got, operation="save", hint="give trees of finite depth, and text of Unicode") from None
    return files.replace(path, content)


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint that :func:`save` wrote, whole or not at all; see there for an example.

    Raises
    ------
    InvalidFile
        If the file is truncated, was changed since it was written, or holds something else; the message names the file
        and the fault.
    OSError, ImportError
        As :func:`load_weights`.
    """
    metadata, unused = tensors_of("load", path, DTYPES)
    if metadata.get("viva_tensor") != FORMAT:
        raise InvalidFile(
            f"{os.fspath(path)} holds no checkpoint", operation="load", hint="load_weights reads weights alone"
        )
    try:
        checkpoint = decoded(json.loads(metadata["checkpoint"]), unused)
        if not isinstance(checkpoint, Checkpoint) or unused:
            raise ValueError(f"{len(unused)} tensors too many" if unused else "no record of a checkpoint")
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, TensorError) as error:
        raise InvalidFile(
            f"{os.fspath(path)} is a damaged checkpoint, or one of another version ({type(error).__name__}: {error})",
            operation="load",
            hint="load the previous one",
        ) from error
    return checkpoint


def latest(folder: str | os.PathLike[str]) -> Path | None:
    """Return the path of the last written, readable checkpoint in a folder, or None if there is none.

    Only files named ``*.safetensors`` are considered. Damaged files and files that are not checkpoints are skipped.

    Raises
    ------
    OSError
        If there is no such folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(latest(folder))
    None
    """
    found = []
    for path in files.as_path("latest", folder).iterdir():
        if path.suffix == ".safetensors" and path.is_file():  # opening a pipe might block for ever
            with suppress(InvalidFile, OSError, ValueError), opened("latest", path) as file:
                metadata = file.metadata() or {}
                if metadata.get("viva_tensor") == FORMAT:
                    found.append((int(metadata.get("written", "")), path))
    for _, path in sorted(found, reverse=True):
        with suppress(InvalidFile, OSError):
            load(path)
            return path
    return None
