"""Files that are whole or absent: the way in which this library writes all of its files."""

from __future__ import annotations

import errno
import glob
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from viva_tensor.error import InvalidValue

__all__ = [
    "as_path",
    "check_writable",
    "held",
    "is_stream",
    "json_bytes",
    "readable",
    "remove_abandoned",
    "replace",
    "replace_all",
]

ABANDONED = 3600  # seconds since a temporary file was last written to
LONG = 100  # bytes of a name that is not repeated in that of the temporary file: together they might be too many


def as_path(operation: str, path: object) -> Path:
    """Return the argument as a path.

    Raises
    ------
    InvalidValue
        If it is neither text nor a path, or does not name a file.

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
    """Write or replace a file in one step, so that no reader and no crash ever leaves half of it; return its path.

    The content is written to a temporary file in the same folder and to the disk (``fsync``); then the file is renamed,
    and the folder is synchronised, so that the new name survives a power cut. A temporary file of this name that a
    killed process left behind is removed once it is an hour old. A link stays, and the file that it leads to is
    replaced, which keeps its permissions; one that must not be written to is not. What is there and no file, such as a
    pipe, is written to.

    Raises
    ------
    InvalidValue
        If the path does not name a file.
    OSError
        If the file cannot be written; it names ``path``. The old file remains, and nothing else.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace(Path(folder) / "note", b"whole").read_bytes()
    b'whole'
    """
    (path,) = replace_all({as_path("write", path): content})
    return path


def replace_all(contents: Mapping[Path, bytes | None]) -> list[Path]:
    """Write, replace or remove (None) files, as :func:`replace` does, once all is on the disk; return those written.

    They are renamed and removed in the order given, one directly after the other, which others may see.

    Raises
    ------
    OSError
        If one of them cannot be written; it names the file. All old files remain, unless it is the renaming that fails.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     old, new = replace(Path(folder) / "old", b""), Path(folder) / "new"
    ...     written = replace_all({old: None, new: b"whole"})
    ...     os.listdir(folder), written == [new]
    (['new'], True)
    """
    for path in contents:
        with _named(path):
            _check_unprotected(path)
    with ExitStack() as stack:
        ready = {path: stack.enter_context(_ready(path, content)) for path, content in contents.items()}
        for path, put_in_place in ready.items():
            with _named(path):
                put_in_place()
    for folder in dict.fromkeys(Path(os.path.realpath(path)).parent for path in contents if not is_stream(path)):
        with _named(folder):
            _synchronise(folder)
    return [path for path, content in contents.items() if content is not None]


def check_writable(path: Path) -> None:
    """Raise if a file and the folders that it lacks cannot be written, before the work that it is for; nothing is left.

    Raises
    ------
    OSError
        It names ``path``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_writable(Path(folder) / "new" / "note")
    ...     os.listdir(folder)
    []
    """
    with _named(path):
        with suppress(FileNotFoundError):
            path.stat()  # a name that is too long
        _check_unprotected(path)
        if is_stream(path):
            return
        whole = Path(os.path.realpath(path))
        with _temporary(next(folder for folder in whole.parents if folder.exists()) / whole.name) as temporary:
            temporary.touch()


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Make a folder and hold it; yield whether no other process holds it. If it stays empty, it is removed in the end.

    The system forgets who holds a folder when the process ends, even if it is killed. Where folders cannot be held, as
    on Windows, on some disks of a network, and where one may not be listed, nobody is kept out.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as above:
    ...     with held(Path(above) / "new") as first, held(Path(above) / "new") as second:
    ...         print(first, second)
    ...     os.listdir(above)
    True False
    []
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    handle = None
    with suppress(PermissionError):  # it may be written to, but not read
        handle = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        yield handle is None or _lock(handle)
    finally:
        with suppress(OSError):  # not empty
            for one in made:
                one.rmdir()
        if handle is not None:
            os.close(handle)


def _check_unprotected(path: Path) -> None:
    """Raise if a file must not be written to: a folder that may be would let it be replaced all the same.

    Or if it is a folder, which would be found only when it is to be replaced.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not is_stream(path) and path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _lock(handle: int) -> bool:
    """Return whether no other process has a lock on what is open."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # this disk has no locks
        return True
    return True


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name a path in errors of the system, instead of that of a temporary file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        hint = " (a file that is mounted cannot be replaced; mount its folder)" if error.errno == errno.EBUSY else ""
        raise OSError(error.errno, f"{error.strerror}{hint}", os.fspath(path)) from error


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield the name of a temporary file beside a file, and remove it."""
    temporary = path.with_name(f".{_stem(path)}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        yield temporary
    finally:
        with suppress(OSError):  # the error that it failed with says more
            temporary.unlink()


def _stem(path: Path) -> str:
    name = os.fsencode(path.name)
    return path.name if len(name) <= LONG else sha256(name).hexdigest()


def is_stream(path: Path) -> bool:
    """Return whether a path leads to what is there and is no file that could be replaced, such as a pipe or a device.

    Examples
    --------
    >>> is_stream(Path(os.devnull)), is_stream(Path("no such file")), is_stream(Path("."))
    (True, False, False)
    """
    return _descriptor(path) is not None or (path.exists() and not (path.is_file() or path.is_dir()))


def _descriptor(path: Path) -> int | None:
    """Return the descriptor of this process that a path names: opened anew, its file would begin at 0 again."""
    name = {"/dev/stdout": "/dev/fd/1", "/dev/stderr": "/dev/fd/2"}.get(os.fspath(path), os.fspath(path))
    folder, _, number = name.rpartition("/")
    return int(number) if folder in ("/dev/fd", "/proc/self/fd") and number.isdecimal() else None


@contextmanager
def _ready(path: Path, content: bytes | None) -> Iterator[Callable[[], None]]:
    """Write the content of a file to the disk, beside it; yield what puts it in its place."""
    if content is None:
        yield partial(path.unlink, missing_ok=True)
        return
    if is_stream(path):
        yield partial(_write_stream, path, content)
        return
    whole = Path(os.path.realpath(path))
    with _temporary(whole) as temporary:
        with _named(path):
            remove_abandoned(whole)
            with open(temporary, "wb") as file:
                if whole.exists():
                    os.chmod(temporary, stat.S_IMODE(whole.stat().st_mode))
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        yield partial(os.replace, temporary, whole)


def _write_stream(path: Path, content: bytes) -> None:
    descriptor = _descriptor(path)
    with open(path if descriptor is None else descriptor, "wb", closefd=descriptor is None) as stream:
        stream.write(content)


def remove_abandoned(path: Path, any_age: bool = False) -> None:
    """Remove temporary files that killed processes left beside a file: those of an hour, or all if nobody writes it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / ".note.1.1.tmp").touch()
    ...     remove_abandoned(Path(folder) / "note")
    ...     print(os.listdir(folder))
    ...     remove_abandoned(Path(folder) / "note", any_age=True)
    ...     print(os.listdir(folder))
    ['.note.1.1.tmp']
    []
    """
    path = Path(os.path.realpath(path))
    for left in path.parent.glob(f".{glob.escape(_stem(path))}.*.tmp"):
        with suppress(OSError):
            if any_age or time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()


def _synchronise(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a folder
        return
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # it may be written to, but not read; the file has its name by now
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def readable(name: str) -> str:
    """Return a name of a file, as the system gave it, as text that can be written: bytes that are no UTF-8 become �.

    Examples
    --------
    >>> readable(b"M\\xc3\\xbcnchen.csv".decode("ascii", "surrogateescape")), readable("M\\udcfcnchen.csv")
    ('München.csv', 'M�nchen.csv')
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def json_bytes(record: Mapping[str, Any]) -> bytes:
    """Return a record as the content of a JSON file for people and programs.

    Examples
    --------
    >>> json_bytes({"a": [1]})
    b'{\\n  "a": [\\n    1\\n  ]\\n}\\n'
    """
    return json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False).encode() + b"\n"
