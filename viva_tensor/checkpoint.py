"""Weights and whole training states in safetensors files.

Weights carry PyTorch's names and its layout [out, in], so that files go both ways. A checkpoint holds all that a run
needs to go on bit for bit: arrays as tensors, everything else as JSON in the metadata of the same file. Both are data
only; nothing in a file is ever executed. Both carry a checksum, so that a bit that changed since raises an error; files
of other libraries, which have none, are read as they are.

The format is that of https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from viva_tensor import autograd, files, nn, optim, program
from viva_tensor.autograd import Tape, Traced
from viva_tensor.error import InvalidFile, InvalidValue, TensorError
from viva_tensor.extras import extra
from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.checks import is_iterable, shown

__all__ = ["Checkpoint", "checksum", "latest", "load", "load_weights", "save", "save_weights"]


WEIGHTS, FORMAT = "weights 1", "checkpoint 2"
CHECKSUM = "sha256"  # a file that names its format has one
FLOATS = {"F32": "float32", "F64": "float64"}
DTYPES = FLOATS | {
    "BOOL": "bool",
    "F16": "float16",
    **{
        f"{letter}{bits}": f"{kind}{bits}" for letter, kind in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
    },
}
NAME = re.compile(r"(0|[1-9][0-9]{0,8})\.(weight|bias)")
ROOMS = (optim, program)  # whose records are kept
GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
# numbers that NumPy takes unseen: places in a buffer, and a size in whose square the time to seed grows
PLACES = {"MT19937": ("state", "pos", 624), "Philox": ("buffer_pos", 4)}
MOST_POOL = 1024
MOST_BITS = 14_284  # of an int: Python reads no more than 4,300 digits


def save_weights(path: str | os.PathLike[str], layers: Sequence[nn.Linear]) -> Path:
    """Write the weights of a network of linear layers with an activation between each two.

    The tensors are named as in a PyTorch ``Sequential(Linear, activation, Linear, ...)``: 0.weight [out, in], 0.bias
    [out], 2.weight, ... ``load_state_dict(safetensors.torch.load_file(path))`` takes them as they are.

    Parameters
    ----------
    path : str or path-like
        Replaced in one step; see :func:`viva_tensor.files.replace`.
    layers : sequence of Linear
        Of one dtype, each with as many inputs as the one before has outputs.

    Returns
    -------
    Path

    Raises
    ------
    InvalidValue
        If these are no such layers. Nothing is written then.
    OSError
        If the file cannot be written; what was there before still is.
    ImportError
        Without safetensors.

    Examples
    --------
    >>> import tempfile
    >>> layer, tape = nn.linear(autograd.new_tape(), 3, 2, rng=np.random.default_rng(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_weights(Path(folder) / "model.safetensors", [layer])
    ...     (again,), tape = load_weights(path)
    >>> np.array_equal(again.w.data, layer.w.data)
    True
    """
    tensors = {}
    if not is_iterable(layers):
        hint = "give a sequence of linear layers"
        raise InvalidValue(f"layers are a {type(layers).__name__}", operation="save_weights", hint=hint)
    for i, layer in enumerate(layers):
        if not (isinstance(layer, nn.Linear) and all(isinstance(one, autograd.Variable) for one in layer)):
            raise InvalidValue(
                f"found {type(layer).__name__} among the layers, wanted Linear of variables",
                operation="save_weights",
                hint="give a sequence of linear layers",
            )
        tensors[f"{2 * i}.weight"] = layer.w.data
        tensors[f"{2 * i}.bias"] = layer.b.data
    if fault := _fault(tensors):
        raise InvalidValue(fault, operation="save_weights", hint="give the layers of one network, in order")
    return files.replace(path, _bytes(tensors, {"viva_tensor": WEIGHTS}))


def load_weights(path: str | os.PathLike[str], tape: Tape | None = None) -> Traced[tuple[nn.Linear, ...]]:
    """Record the linear layers of a file, written here or from a PyTorch ``Sequential``.

    Parameters
    ----------
    path : str or path-like
        Tensors 0.weight [out, in] and 0.bias [out], and so on with growing numbers; the numbers between belong to
        activations, which have no weights.
    tape : Tape, optional
        Where the layers are recorded; an empty one by default.

    Returns
    -------
    Traced of tuple of Linear

    Raises
    ------
    InvalidFile
        If the file is no whole safetensors file, was changed since it was written here, or holds anything else than
        such layers; it names the file and what is wrong.
    OSError
        If the file cannot be opened.
    ImportError
        Without safetensors.

    Examples
    --------
    See :func:`save_weights`.
    """
    tensors = _tensors("load_weights", path, FLOATS)[1]
    if fault := _fault(tensors):
        raise InvalidFile(
            f"{os.fspath(path)}: {fault}",
            operation="load_weights",
            hint="save the state_dict of a Sequential of Linear layers and activations",
        )
    tape = autograd.new_tape() if tape is None else tape
    layers = []
    for place in _places(tensors):
        w, tape = autograd.new_variable(tape, tensors[f"{place}.weight"])
        b, tape = autograd.new_variable(tape, tensors[f"{place}.bias"])
        layers.append(nn.Linear(w, b))
    return Traced(tuple(layers), tape)


def checksum(path: str | os.PathLike[str]) -> str | None:
    """The checksum that a file carries, by which two files of one shape can be told apart; None if it has none.

    Parameters
    ----------
    path : str or path-like
        Written here, or by another library, which gives none.

    Raises
    ------
    InvalidFile
        If the file is no whole safetensors file.
    OSError
        If the file cannot be opened.
    ImportError
        Without safetensors.

    Examples
    --------
    >>> import tempfile
    >>> layer, tape = nn.linear(autograd.new_tape(), 3, 2, rng=np.random.default_rng(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(checksum(save_weights(Path(folder) / "model.safetensors", [layer])))
    64
    """
    with _opened("checksum", path) as file:
        found: str | None = (file.metadata() or {}).get(CHECKSUM)
    return found


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
        known = _record_names()
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
        tree = _encoded(checkpoint, "checkpoint", tensors)
        metadata = {
            "viva_tensor": FORMAT,
            "written": str(time.time_ns()),
            "checkpoint": json.dumps(tree, allow_nan=False),
        }
        content = _bytes(tensors, metadata)
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
    metadata, tensors = _tensors("load", path, DTYPES)
    if metadata.get("viva_tensor") != FORMAT:
        raise InvalidFile(
            f"{os.fspath(path)} holds no checkpoint",
            operation="load",
            hint="weights alone are read by load_weights",
        )
    unused = dict(tensors)
    try:
        checkpoint = _decoded(json.loads(metadata["checkpoint"]), unused)
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
            with suppress(InvalidFile, OSError, ValueError), _opened("latest", path) as file:
                metadata = file.metadata() or {}
                if metadata.get("viva_tensor") == FORMAT:
                    found.append((int(metadata.get("written", "")), path))
    for _, path in sorted(found, reverse=True):
        with suppress(InvalidFile, OSError):
            load(path)
            return path
    return None


def _places(tensors: Mapping[str, Array]) -> list[int]:
    """The numbers of the layers."""
    return sorted({int(name.partition(".")[0]) for name in tensors})


def _fault(tensors: Mapping[str, Array]) -> str:
    """Tell what keeps tensors from being a chain of linear layers; empty if nothing does."""
    if not tensors:
        return "there are no layers"
    for name, array in tensors.items():
        found = NAME.fullmatch(name)
        if not found:
            return f"the name {name!r} is not like '0.weight' and '0.bias'"
        wanted = "[out, in]" if found[2] == "weight" else "[out]"
        if array.ndim != wanted.count(",") + 1 or 0 in array.shape:
            return f"{name} has shape {array.shape}, wanted {wanted}"
    dtypes = sorted({str(array.dtype) for array in tensors.values()})
    if len(dtypes) > 1:
        return f"mixed dtypes: {' and '.join(dtypes)}"
    features = None
    for place in _places(tensors):
        w, b = tensors.get(f"{place}.weight"), tensors.get(f"{place}.bias")
        if w is None or b is None:
            there, missing = ("bias", "weight") if w is None else ("weight", "bias")
            return f"{place}.{there} has no {place}.{missing} beside it"
        if b.shape != w.shape[:1]:
            return f"{place}.bias has shape {b.shape}, wanted {w.shape[:1]} beside {place}.weight {w.shape}"
        if features not in (None, w.shape[1]):
            return f"{place}.weight {w.shape} takes {w.shape[1]} features, the layer before gives {features}"
        features = w.shape[0]
    return ""


def _bytes(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with a checksum."""
    with extra("train"):
        import safetensors.numpy

    # the library writes the memory of an array without looking at its strides
    plain = {name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in tensors.items()}
    written = safetensors.numpy.save(plain, {**metadata, CHECKSUM: _checksum(metadata, plain)})
    # the library writes the metadata in an order of chance; the same content shall be the same file
    end = 8 + int.from_bytes(written[:8], "little")
    header = json.dumps(json.loads(written[8:end]), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return b"".join((len(header).to_bytes(8, "little"), header, memoryview(written)[end:]))


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, Array]) -> str:
    """SHA-256 of all that a file says, whatever the order in which it says it."""
    described = [(name, tensors[name].dtype.name, tensors[name].shape) for name in sorted(tensors)]
    said = sorted((name, text) for name, text in metadata.items() if name != CHECKSUM)
    digest = hashlib.sha256(json.dumps([said, described]).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@contextmanager
def _opened(operation: str, path: str | os.PathLike[str]) -> Iterator[Any]:
    """A safetensors file whose header was read and fits its size."""
    with extra("train"):
        from safetensors import SafetensorError, safe_open

    path = files.as_path(operation, path)
    with open(path, "rb"):  # the system's own error, if it cannot be opened
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except InvalidFile:
        raise
    except (SafetensorError, ValueError) as error:  # NumPy's of shapes that no array can have
        raise InvalidFile(
            f"{os.fspath(path)} is no whole safetensors file ({error})",
            operation=operation,
            hint="it may have been cut short, or be of another format",
        ) from None


def _tensors(
    operation: str, path: str | os.PathLike[str], dtypes: Collection[str]
) -> tuple[Mapping[str, str], dict[str, Array]]:
    """The metadata and the read-only arrays of a file, all of these dtypes."""
    tensors = {}
    with _opened(operation, path) as file:
        metadata = file.metadata() or {}
        for name in file.keys():  # noqa: SIM118  # no mapping
            dtype = file.get_slice(name).get_dtype()
            if dtype not in dtypes:
                raise InvalidFile(
                    f"{os.fspath(path)}: {name} is {dtype}, wanted {' or '.join(dtypes)}",
                    operation=operation,
                    hint="cast it before saving",
                )
            tensors[name] = file.get_tensor(name)
            tensors[name].setflags(write=False)
    if (CHECKSUM in metadata or "viva_tensor" in metadata) and metadata.get(CHECKSUM) != _checksum(metadata, tensors):
        raise InvalidFile(
            f"{os.fspath(path)} is not as it was written: its checksum differs",
            operation=operation,
            hint="copy it anew, or take the one before",
        )
    return metadata, tensors


@cache
def _records() -> dict[str, type]:
    """The public records that a checkpoint may hold, by room and name: optim.SGD, program.State, ..."""
    public = {
        f"{room.__name__.rpartition('.')[2]}.{name}": getattr(room, name) for room in ROOMS for name in room.__all__
    }
    public["checkpoint.Checkpoint"] = Checkpoint
    return {
        name: one
        for name, one in public.items()
        if isinstance(one, type) and (dataclasses.is_dataclass(one) or hasattr(one, "_fields"))
    }


@cache
def _record_names() -> dict[type, str]:
    return {one: name for name, one in _records().items()}


def _fields(record: Any) -> tuple[str, ...]:
    if dataclasses.is_dataclass(record):
        return tuple(field.name for field in dataclasses.fields(record))
    return tuple(record._fields)


def _encoded(value: Any, place: str, tensors: dict[str, Array]) -> Any:
    """A value as JSON; arrays go to `tensors`. What JSON does not have becomes an object with its kind under "$"."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise InvalidValue(f"{place} is {shown(value)}", operation="save", hint=f"give at most {MOST_BITS} bits")
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$": "float", "value": str(value)}
    plain = isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray)
    if plain and value.dtype.name in DTYPES.values():
        while place in tensors:  # the key "a.b" beside a "b" inside an "a"
            place += "'"
        tensors[place] = value
        return {"$": "array", "name": place}
    if type(value) in _record_names():
        fields = {name: _encoded(getattr(value, name), f"{place}.{name}", tensors) for name in _fields(value)}
        return {"$": "record", "name": _record_names()[type(value)], "fields": fields}
    if type(value) in (list, tuple):
        items = [_encoded(item, f"{place}.{i}", tensors) for i, item in enumerate(value)]
        return items if type(value) is list else {"$": "tuple", "items": items}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value) and "$" not in value:
        return {key: _encoded(item, f"{place}.{key}", tensors) for key, item in value.items()}
    if isinstance(value, np.random.Generator) and type(value.bit_generator).__name__ in GENERATORS:
        seeds: Any = value.bit_generator.seed_seq
        return {
            "$": "generator",
            "state": _encoded(value.bit_generator.state, f"{place}.state", tensors),
            "seed": _encoded(
                seeds.state if isinstance(seeds, np.random.SeedSequence) else None, f"{place}.seed", tensors
            ),
        }
    kind = f"an array of {value.dtype}" if plain else f"of type {type(value).__name__}"
    raise InvalidValue(
        f"{place} is {kind}, which a checkpoint cannot hold",
        operation="save",
        hint="give numbers, strings, arrays, lists, tuples, mappings with such names, and records of this library",
    )


def _decoded(tree: Any, tensors: dict[str, Array]) -> Any:
    """Rebuild what `_encoded` made JSON of; each array is taken out of `tensors`."""
    if isinstance(tree, list):
        return [_decoded(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    match tree.get("$"):
        case None:
            return {key: _decoded(item, tensors) for key, item in tree.items()}
        case "float":
            return float(tree["value"])
        case "array":
            return tensors.pop(tree["name"])
        case "tuple":
            return tuple(_decoded(item, tensors) for item in tree["items"])
        case "record":
            fields = {name: _decoded(item, tensors) for name, item in tree["fields"].items()}
            return _records()[tree["name"]](**fields)
        case "generator":
            return _generator(_decoded(tree["state"], tensors), _decoded(tree["seed"], tensors))
        case other:
            raise ValueError(f"unknown kind {other!r}")


def _generator(state: dict[str, Any], seed: dict[str, Any] | None) -> np.random.Generator:
    if state["bit_generator"] not in GENERATORS:
        raise ValueError(f"unknown generator {state['bit_generator']!r}")
    *path, last = PLACES.get(state["bit_generator"], (None,))
    place: Any = state
    for name in path:
        place = place[name]
    if last is not None and not 0 <= place <= last:
        raise ValueError(f"{path[-1]} is {place}, wanted 0 to {last}")
    if seed and not seed["pool_size"] <= MOST_POOL:
        raise ValueError(f"pool_size is {seed['pool_size']}, wanted at most {MOST_POOL}")
    bits = getattr(np.random, state["bit_generator"])(np.random.SeedSequence(**seed) if seed else None)
    bits.state = state
    return np.random.Generator(bits)
