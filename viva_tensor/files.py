"""Files that are whole or not there: how everything that this library writes reaches the disk."""

from __future__ import annotations

import glob
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from viva_tensor.error import InvalidValue

__all__ = ["as_path", "replace"]

ABANDONED = 3600  # seconds for which nobody has written to a temporary file


def as_path(operation: str, path: object) -> Path:
    """Return the path of a file, if it names one.

    Raises
    ------
    InvalidValue
        If it is no text or path, or names nothing.

    Examples
    --------
    >>> as_path("load", 3)
    Traceback (most recent call last):
    viva_tensor.error.InvalidValue: load: the path is 3, wanted that of a file; give it as text or pathlib.Path
    """
    found = Path(path) if isinstance(path, str | os.PathLike) and isinstance(os.fspath(path), str) else None
    if found is None or not found.name or "\0" in found.name:
        hint = "give it as text or pathlib.Path"
        raise InvalidValue(f"the path is {path!r:.100}, wanted that of a file", operation=operation, hint=hint)
    return found


def replace(path: str | os.PathLike[str], content: bytes) -> Path:
    """Put a file in the place of `path` in one step, so that no reader and no crash ever sees half of it.

    The content goes to a temporary file in the same folder and to the disk (``fsync``), which then takes the name; the
    folder is synchronised last, so that the new name survives a power cut too. A temporary file of this name that a
    process left behind when it was killed is removed once it is an hour old.

    Parameters
    ----------
    path : str or path-like
    content : bytes

    Returns
    -------
    Path
        ``path`` itself.

    Raises
    ------
    InvalidValue
        If the path names no file.
    OSError
        If the file cannot be written; it names ``path``. What was there before is still there, and nothing else.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace(Path(folder) / "note", b"whole").read_bytes()
    b'whole'
    """
    path = as_path("write", path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    _forget_abandoned(path)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    _synchronise(path.parent)
    return path


def _forget_abandoned(path: Path) -> None:
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()


def _synchronise(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
