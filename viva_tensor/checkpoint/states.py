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

from viva_tensor import files
from viva_tensor.checkpoint.codec import OWN, decoded, encoded, record_names
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
        Of :meth:`viva_tensor.program.Step.state`, or one of :mod:`viva_tensor.optim`: parameters, the optimiser's
        moments and the number of steps.
    optimizer : record of :mod:`viva_tensor.optim`
    rng : numpy.random.Generator, optional
        What shuffles the batches, as it stands. It goes on with the same bits, children that it spawns included. Record
        and compile the step with other generators first: those that draw would not stand where they stood.
    epoch : int
        Whole epochs made.
    history : mapping of str to list of numbers
        Columns, such as the losses of each epoch.
    metadata : mapping of str
        Anything else that JSON can hold, arrays, and more generators, such as that of a step's dropouts.

    Raises
    ------
    InvalidValue
        If a field is of another type.
    """

    state: Any
    optimizer: Any
    rng: np.random.Generator | None = None
    epoch: int = 0
    history: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        known = record_names()
        for name, right, wanted in (
            ("state", type(self.state) in known, "a state of a compiled step"),
            ("optimizer", type(self.optimizer) in known, "a record of viva_tensor.optim"),
            ("rng", self.rng is None or isinstance(self.rng, np.random.Generator), "a numpy.random.Generator or None"),
            ("epoch", type(self.epoch) is int and self.epoch >= 0, "a number from 0"),
            ("history", isinstance(self.history, Mapping), "a mapping"),
            ("metadata", isinstance(self.metadata, Mapping), "a mapping"),
        ):
            if not right:
                got = type(getattr(self, name)).__name__
                raise InvalidValue(f"{name} is {got}, wanted {wanted}", operation="Checkpoint")


OWN["checkpoint.Checkpoint"] = Checkpoint


def save(path: str | os.PathLike[str], checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, in one step: after a crash or on a full disk the last good file is still there.

    Parameters
    ----------
    path : str or path-like
    checkpoint : Checkpoint

    Returns
    -------
    Path

    Raises
    ------
    InvalidValue
        If it holds something that is no data; it names the place. Nothing is written then.
    OSError
        If the file cannot be written; what was there before still is.
    ImportError
        Without safetensors.

    Examples
    --------
    >>> import numpy as np
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
        tree = encoded(checkpoint, "checkpoint", tensors)
        metadata = {
            "viva_tensor": FORMAT,
            "written": str(time.time_ns()),
            "checkpoint": json.dumps(tree, allow_nan=False),
        }
        content = packed(tensors, metadata)
    except (RecursionError, UnicodeError) as error:
        got = f"what cannot be written ({type(error).__name__}: {error!s:.100})"
        raise InvalidValue(got, operation="save", hint="give trees of finite depth, and text of Unicode") from None
    return files.replace(path, content)


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        Written by :func:`save`.

    Returns
    -------
    Checkpoint

    Raises
    ------
    InvalidFile
        If the file is truncated, was changed since it was written, or holds something else; it names the file and what
        is wrong.
    OSError
        If the file cannot be opened.
    ImportError
        Without safetensors.

    Examples
    --------
    See :func:`save`.
    """
    metadata, tensors = tensors_of("load", path, DTYPES)
    if metadata.get("viva_tensor") != FORMAT:
        raise InvalidFile(
            f"{os.fspath(path)} holds no checkpoint",
            operation="load",
            hint="weights alone are read by load_weights",
        )
    unused = dict(tensors)
    try:
        checkpoint = decoded(json.loads(metadata["checkpoint"]), unused)
        if not isinstance(checkpoint, Checkpoint) or unused:
            raise ValueError(f"{len(unused)} tensors too many" if unused else "no record of a checkpoint")
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, TensorError) as error:
        raise InvalidFile(
            f"{os.fspath(path)} is a damaged checkpoint, or one of another version ({type(error).__name__}: {error})",
            operation="load",
            hint="take the one before",
        ) from error
    return checkpoint


def latest(folder: str | os.PathLike[str]) -> Path | None:
    """The checkpoint in a folder that was written last and can be read; None if there is none.

    Files that are no checkpoints are passed over, damaged ones too.

    Parameters
    ----------
    folder : str or path-like
        Its files named ``*.safetensors`` are looked at, whatever they are called else.

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
        if path.suffix == ".safetensors" and path.is_file():  # to open a pipe might take for ever
            with suppress(InvalidFile, OSError, ValueError), opened("latest", path) as file:
                metadata = file.metadata() or {}
                if metadata.get("viva_tensor") == FORMAT:
                    found.append((int(metadata.get("written", "")), path))
    for _, path in sorted(found, reverse=True):
        with suppress(InvalidFile, OSError):
            load(path)
            return path
    return None
