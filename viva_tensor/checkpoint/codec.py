"""Values as JSON and arrays, and back: data only, never executed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from viva_tensor import optim, program
from viva_tensor.checkpoint.storage import DTYPES
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.checks import shown

ROOMS = {"optim": optim, "program": program}  # their public records can be saved
RECORDS: dict[str, type] = {}  # records of this room, by their names in files
GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
MOST_POOL = 1024  # of a seed sequence: seeding takes quadratic time
MOST_BITS = 14_284  # of an int: Python parses at most 4,300 digits


@cache
def records() -> dict[str, type]:
    """Return the records that a checkpoint may hold, by room and name: optim.SGD, program.State, ..."""
    public = {f"{name}.{record}": getattr(room, record) for name, room in ROOMS.items() for record in room.__all__}
    return {
        name: record
        for name, record in (public | RECORDS).items()
        if isinstance(record, type) and (dataclasses.is_dataclass(record) or hasattr(record, "_fields"))
    }


@cache
def record_names() -> dict[type, str]:
    return {record: name for name, record in records().items()}


def encoded(value: Any, path: str, tensors: dict[str, Array]) -> Any:
    """Return a value as JSON; add its arrays to `tensors`. Values unknown to JSON become objects with a kind, "$"."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise InvalidValue(f"{path} is {shown(value)}", operation="save", hint=f"give at most {MOST_BITS} bits")
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$": "float", "value": str(value)}
    plain = isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray)
    if plain and value.dtype.name in DTYPES.values():
        while path in tensors:  # a key "a.b" and a key "b" inside "a" have one path
            path += "'"
        tensors[path] = value
        return {"$": "array", "name": path}
    if type(value) in record_names():
        names = value._fields if hasattr(value, "_fields") else [field.name for field in dataclasses.fields(value)]
        fields = {name: encoded(getattr(value, name), f"{path}.{name}", tensors) for name in names}
        return {"$": "record", "name": record_names()[type(value)], "fields": fields}
    if type(value) in (list, tuple):
        items = [encoded(item, f"{path}.{i}", tensors) for i, item in enumerate(value)]
        return items if type(value) is list else {"$": "tuple", "items": items}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value) and "$" not in value:
        return {key: encoded(item, f"{path}.{key}", tensors) for key, item in value.items()}
    if isinstance(value, np.random.Generator) and type(value.bit_generator).__name__ in GENERATORS:
        seeds: Any = value.bit_generator.seed_seq
        seed = seeds.state if isinstance(seeds, np.random.SeedSequence) else None
        return {
            "$": "generator",
            "state": encoded(value.bit_generator.state, f"{path}.state", tensors),
            "seed": encoded(seed, f"{path}.seed", tensors),
        }
    raise InvalidValue(
        f"{path} is {_kind(value)}, which a checkpoint cannot hold",
        operation="save",
        hint="give numbers, strings, arrays, lists, tuples, mappings with text as keys (but '$'), and records of this "
        "library",
    )


def _kind(value: Any) -> str:
    """Return what a value is that a checkpoint cannot hold."""
    if isinstance(value, Mapping):
        keys = [one for one in value if not isinstance(one, str) or one == "$"]
        return f"of type {type(value).__name__} with the key {keys[0]!r}"
    kind = type(value).__name__
    return f"an array of {value.dtype}" if kind == "ndarray" else f"of type {kind}"


def decoded(tree: Any, tensors: dict[str, Array]) -> Any:
    """Return the value that `encoded` turned into JSON; remove its arrays from `tensors`."""
    if isinstance(tree, list):
        return [decoded(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    match tree.get("$"):
        case None:
            return {key: decoded(item, tensors) for key, item in tree.items()}
        case "float":
            return float(tree["value"])
        case "array":
            return tensors.pop(tree["name"])
        case "tuple":
            return tuple(decoded(item, tensors) for item in tree["items"])
        case "record":
            fields = {name: decoded(item, tensors) for name, item in tree["fields"].items()}
            return records()[tree["name"]](**fields)
        case "generator":
            return _generator(decoded(tree["state"], tensors), decoded(tree["seed"], tensors))
        case other:
            raise ValueError(f"unknown kind {other!r}")


def _generator(state: dict[str, Any], seed: dict[str, Any] | None) -> np.random.Generator:
    """Return the generator of a state, after checking the numbers that NumPy does not check."""
    kind = state["bit_generator"]
    if kind not in GENERATORS:
        raise ValueError(f"unknown generator {kind!r}")
    if kind == "MT19937" and not 0 <= (position := state["state"]["pos"]) <= 624:
        raise ValueError(f"pos is {position}, wanted 0 to 624")
    if kind == "Philox" and not 0 <= (position := state["buffer_pos"]) <= 4:
        raise ValueError(f"buffer_pos is {position}, wanted 0 to 4")
    if seed and not seed["pool_size"] <= MOST_POOL:
        raise ValueError(f"pool_size is {seed['pool_size']}, wanted at most {MOST_POOL}")
    bits = getattr(np.random, kind)(np.random.SeedSequence(**seed) if seed else None)
    bits.state = state
    return np.random.Generator(bits)
