"""Bars on a terminal for what comes before training: reading a file, and encoding its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Any, TypeVar, cast

from tqdm import tqdm

from viva_tensor.train.progress import on_terminal

T = TypeVar("T")
_wanted = ContextVar("bars", default=False)


@contextmanager
def bars(wanted: bool) -> Iterator[None]:
    """Show bars within, if they are wanted and stderr is a terminal."""
    token = _wanted.set(wanted and on_terminal())
    try:
        yield
    finally:
        _wanted.reset(token)


def counted(items: Iterable[T], what: str, total: int, size: Callable[[T], int] = lambda _: 1) -> Iterator[T]:
    """Yield the same items, with a bar over them.

    Examples
    --------
    >>> list(counted("abc", "letters", 3))
    ['a', 'b', 'c']
    """
    with bar_of(what, total) as bar:
        for item in items:
            yield item
            bar.update(size(item))


def bar_of(what: str, total: int) -> tqdm[Any]:
    """Return a bar that is moved by hand."""
    return tqdm(total=total, **_style(what))


@contextmanager
def bytes_counted(file: IO[bytes], what: str) -> Iterator[IO[bytes]]:
    """Yield a file whose read bytes are counted; how often it is read is not known."""
    if not _wanted.get():
        yield file
        return
    with tqdm.wrapattr(file, "read", bytes=True, **_style(what)) as watched:
        yield cast(IO[bytes], watched)


def _style(what: str) -> dict[str, Any]:
    return {"desc": what, "disable": not _wanted.get(), "unit_scale": True, "leave": False, "dynamic_ncols": True}
