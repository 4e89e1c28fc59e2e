"""Ctrl-C and SIGTERM: held back while ranks depend on each other, and as one interruption for who trains."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")

SIGNALS = signal.SIGINT, signal.SIGTERM


class Interrupts:
    """A context in which Ctrl-C waits for :meth:`check`, or for the end of the outermost ``with``.

    So does SIGTERM, if it has a handler. Python runs signal handlers on the main thread only, so nothing is held back
    on other threads.

    Examples
    --------
    >>> before = signal.signal(signal.SIGINT, signal.default_int_handler)
    >>> interrupts = Interrupts()
    >>> with interrupts:
    ...     signal.raise_signal(signal.SIGINT)
    ...     try:
    ...         interrupts.check()
    ...     except KeyboardInterrupt:
    ...         print("now")
    now
    >>> _ = signal.signal(signal.SIGINT, before)
    """

    def __init__(self) -> None:
        self._depth = 0
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._held: dict[int, FrameType | None] = {}

    def __enter__(self) -> None:
        if not _on_main_thread():
            return
        if not self._depth:
            found = {number: signal.getsignal(number) for number in SIGNALS}
            self._handlers = {number: handler for number, handler in found.items() if callable(handler)}
            self._hold_all()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        if not _on_main_thread():
            return
        self._depth -= 1
        if not self._depth:
            self._let_through()
            self.check()

    def _hold_all(self) -> None:
        for number in self._handlers:
            signal.signal(number, self._hold)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self._held[number] = frame

    def _let_through(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Act on a signal that was held back: by default, raise KeyboardInterrupt."""
        held, self._held = self._held, {}
        for number, frame in held.items():
            self._handlers[number](number, frame)

    def interruptible(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function that Ctrl-C may end at once; return its result."""
        if not (self._depth and self._handlers and _on_main_thread()):
            return function(*arguments)
        try:
            self._let_through()
            self.check()
            return function(*arguments)
        finally:
            self._hold_all()


@contextmanager
def terminations() -> Iterator[None]:
    """Make SIGTERM, as of ``kill`` or of a cluster's time limit, raise KeyboardInterrupt as Ctrl-C does.

    That is on the main thread, and where the process would else end at once.

    Examples
    --------
    >>> with terminations():
    ...     try:
    ...         signal.raise_signal(signal.SIGTERM)
    ...     except KeyboardInterrupt:
    ...         print("as of Ctrl-C")
    as of Ctrl-C
    """
    ends = _on_main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ends:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if ends:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
