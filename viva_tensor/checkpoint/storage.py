"""safetensors files with a checksum, so that a changed bit raises an error.

The format is that of https://github.com/huggingface/safetensors. Files of other libraries have no checksum, and are
read as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from viva_tensor import files
from viva_tensor.error import InvalidFile
from viva_tensor.extras import extra
from viva_tensor.kernels.arrays import Array

CHECKSUM = "sha256"  # a file that names its format has one
FLOATS = {"F32": "float32", "F64": "float64"}
DTYPES = FLOATS | {"BOOL": "bool", "F16": "float16"}
DTYPES |= {f"{kind[0].upper()}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}


def checksum(path: str | os.PathLike[str]) -> str | None:
    """Return the checksum stored in a file, or None in a file of another library.

    Raises
    ------
    InvalidFile
        If it is not a whole safetensors file.
    OSError, ImportError
        As :func:`load_weights`.

    Examples
    --------
    >>> from viva_tensor import autograd, nn
    >>> from viva_tensor.checkpoint import save_weights
    >>> import tempfile
    >>> from pathlib import Path
    >>> layer, tape = nn.linear(autograd.new_tape(), 3, 2, rng=np.random.default_rng(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(checksum(save_weights(Path(folder) / "model.safetensors", [layer])))
    64
    """
    with opened("checksum", path) as file:
        found: str | None = (file.metadata() or {}).get(CHECKSUM)
    return found


def packed(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a safetensors file with a checksum."""
    with extra("train"):
        import safetensors.numpy

    # the library writes an array's memory and ignores its strides
    plain = {name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in tensors.items()}
    written = safetensors.numpy.save(plain, {**metadata, CHECKSUM: digest(metadata, plain)})
    # the library writes the metadata in random order; the same content must give the same file
    described, end = _header(written)
    header = json.dumps(described, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return b"".join((len(header).to_bytes(8, "little"), header, memoryview(written)[end:]))


def packed_checksum(content: bytes) -> str:
    """Return the checksum in what :func:`packed` returned.

    Examples
    --------
    >>> len(packed_checksum(packed({"a": np.ones(2)}, {})))
    64
    """
    found: str = _header(content)[0]["__metadata__"][CHECKSUM]
    return found


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    """Return the header of a file's content, and where it ends."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), end


def digest(metadata: Mapping[str, str], tensors: Mapping[str, Array]) -> str:
    """Return the SHA-256 of a file's content, independent of its order."""
    described = [(name, tensors[name].dtype.name, tensors[name].shape) for name in sorted(tensors)]
    said = sorted((name, text) for name, text in metadata.items() if name != CHECKSUM)
    digest = hashlib.sha256(json.dumps([said, described]).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@contextmanager
def opened(operation: str, path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a safetensors file; raise unless its header can be read and fits its size."""
    with extra("train"):
        from safetensors import SafetensorError, safe_open

    path = files.as_path(operation, path)
    with open(path, "rb"):  # raises the system's error if it cannot be opened
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except InvalidFile:
        raise
    except (SafetensorError, ValueError) as error:  # NumPy's error for impossible shapes
        raise InvalidFile(
            f"{os.fspath(path)} is no whole safetensors file ({error})",
            operation=operation,
            hint="it may have been truncated, or have another format",
        ) from None


def tensors_of(
    operation: str,
    path: str | os.PathLike[str],
    dtypes: Collection[str],
    check_names: Callable[[Collection[str]], None] = lambda names: None,
) -> tuple[Mapping[str, str], dict[str, Array]]:
    """Return the metadata and the read-only arrays of a file; raise if an array has another dtype than these."""
    tensors = {}
    with opened(operation, path) as file:
        metadata = file.metadata() or {}
        for name in file.keys():  # noqa: SIM118  # not a mapping
            dtype = file.get_slice(name).get_dtype()
            if dtype not in dtypes:
                check_names(file.keys())  # what does not belong here need not be cast
                raise InvalidFile(
                    f"{os.fspath(path)}: {name} is {dtype}, wanted {' or '.join(dtypes)}",
                    operation=operation,
                    hint="cast it before saving",
                )
            tensors[name] = file.get_tensor(name)
            tensors[name].setflags(write=False)
    if (CHECKSUM in metadata or "viva_tensor" in metadata) and metadata.get(CHECKSUM) != digest(metadata, tensors):
        raise InvalidFile(
            f"{os.fspath(path)} is not as it was written: its checksum differs",
            operation=operation,
            hint="copy it again, or load the previous one",
        )
    return metadata, tensors
