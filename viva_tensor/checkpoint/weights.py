"""Weights of networks, with PyTorch's names and its layout [out, in], so that both libraries read the files."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from viva_tensor import autograd, files, nn
from viva_tensor.autograd import Tape, Traced
from viva_tensor.checkpoint.storage import FLOATS, packed, tensors_of
from viva_tensor.error import InvalidFile, InvalidValue
from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.checks import is_iterable
from viva_tensor.nn.layers import is_linear

WEIGHTS = "weights 1"
NAME = re.compile(r"(0|[1-9][0-9]{0,8})\.(weight|bias)")


def save_weights(path: str | os.PathLike[str], layers: Sequence[nn.Linear]) -> Path:
    """Write the weights of linear layers with an activation after each but the last, and return the path.

    The tensors are named as in a PyTorch ``Sequential(Linear, activation, Linear, ...)``: 0.weight [out, in], 0.bias
    [out], 2.weight, ... ``load_state_dict(safetensors.torch.load_file(path))`` accepts them as they are.

    Parameters
    ----------
    path : str or path-like
        Replaced in one step; see :func:`viva_tensor.files.replace`.
    layers : sequence of Linear
        Of one dtype, each with as many inputs as the previous one has outputs.

    Raises
    ------
    InvalidValue
        If these are not such layers. Nothing is written then.
    OSError, ImportError
        If the file cannot be written (the old one remains); without safetensors.

    Examples
    --------
    >>> import numpy as np
    >>> import tempfile
    >>> layer, tape = nn.linear(autograd.new_tape(), 3, 2, rng=np.random.default_rng(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_weights(Path(folder) / "model.safetensors", [layer])
    ...     (again,), tape = load_weights(path)
    >>> np.array_equal(again.w.data, layer.w.data)
    True
    """
    return files.replace(path, packed_weights("save_weights", layers))


def packed_weights(operation: str, layers: Sequence[nn.Linear]) -> bytes:
    """Return the content of the file that :func:`save_weights` writes; errors name the operation.

    Raises
    ------
    InvalidValue
        If these are no sequence of linear layers of one network.

    Examples
    --------
    >>> import numpy as np
    >>> import tempfile
    >>> layer, tape = nn.linear(autograd.new_tape(), 3, 2, rng=np.random.default_rng(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = save_weights(Path(folder) / "model.safetensors", [layer]).read_bytes()
    >>> written == packed_weights("example", [layer])
    True
    """
    tensors = {}
    hint = "give a sequence of linear layers"
    if not is_iterable(layers):
        raise InvalidValue(f"layers are a {type(layers).__name__}", operation=operation, hint=hint)
    for i, layer in enumerate(layers):
        if not is_linear(layer):
            got = f"found {type(layer).__name__} among the layers, wanted Linear of variables"
            raise InvalidValue(got, operation=operation, hint=hint)
        tensors[f"{2 * i}.weight"] = layer.w.data
        tensors[f"{2 * i}.bias"] = layer.b.data
    if fault := _fault(tensors):
        raise InvalidValue(fault, operation=operation, hint="give the layers of one network, in order")
    return packed(tensors, {"viva_tensor": WEIGHTS})


def load_weights(path: str | os.PathLike[str], tape: Tape | None = None) -> Traced[tuple[nn.Linear, ...]]:
    """Record the linear layers of a file, written here or from a PyTorch ``Sequential``.

    Parameters
    ----------
    path : str or path-like
        Holds tensors 0.weight [out, in] and 0.bias [out], and so on with increasing numbers; numbers that are missing
        belong to activations, which have no weights.
    tape : Tape, optional
        Where the layers are recorded; an empty one by default.

    Raises
    ------
    InvalidFile
        If it is not a whole safetensors file, was changed since it was written here, or holds anything but such layers;
        the message names the file and the fault.
    OSError, ImportError
        If the file cannot be opened; without safetensors.

    Examples
    --------
    See :func:`save_weights`.
    """

    def check(fault: str) -> None:
        if fault:
            hint = "save the state_dict of a Sequential of Linear layers and activations"
            raise InvalidFile(f"{os.fspath(path)}: {fault}", operation="load_weights", hint=hint)

    tensors = tensors_of("load_weights", path, FLOATS, lambda names: check(_misnamed(names)))[1]
    check(_fault(tensors))
    tape = autograd.new_tape() if tape is None else tape
    layers = []
    for number in _numbers(tensors):
        w, tape = autograd.new_variable(tape, tensors[f"{number}.weight"])
        b, tape = autograd.new_variable(tape, tensors[f"{number}.bias"])
        layers.append(nn.Linear(w, b))
    return Traced(tuple(layers), tape)


def _numbers(tensors: Mapping[str, Array]) -> list[int]:
    return sorted({int(name.partition(".")[0]) for name in tensors})


def _misnamed(names: Collection[str]) -> str:
    """Return which name is not that of a layer's tensor; empty if all are."""
    return next(
        (f"the name {one!r} is not like '0.weight' and '0.bias'" for one in names if not NAME.fullmatch(one)), ""
    )


def _fault(tensors: Mapping[str, Array]) -> str:
    """Return why tensors are not a chain of linear layers; empty if they are."""
    if not tensors:
        return "there are no layers"
    if misnamed := _misnamed(tensors):
        return misnamed
    for name, array in tensors.items():
        wanted = "[out, in]" if name.endswith("weight") else "[out]"
        if array.ndim != wanted.count(",") + 1 or 0 in array.shape:
            return f"{name} has shape {array.shape}, wanted {wanted}"
    dtypes = sorted({str(array.dtype) for array in tensors.values()})
    if len(dtypes) > 1:
        return f"mixed dtypes: {' and '.join(dtypes)}"
    features = None
    for number in _numbers(tensors):
        w, b = tensors.get(f"{number}.weight"), tensors.get(f"{number}.bias")
        if w is None or b is None:
            there, missing = ("bias", "weight") if w is None else ("weight", "bias")
            return f"{number}.{there} has no {number}.{missing} beside it"
        if b.shape != w.shape[:1]:
            return f"{number}.bias has shape {b.shape}, wanted {w.shape[:1]} beside {number}.weight {w.shape}"
        if features not in (None, w.shape[1]):
            return f"{number}.weight {w.shape} takes {w.shape[1]} features, the layer before gives {features}"
        features = w.shape[0]
    return ""
