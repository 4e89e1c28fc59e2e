"""Ctrl-C while ranks depend on each other: held back until it can be passed on to all of them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")


class Interrupts:
    """A context in which Ctrl-C waits for :meth:`check`, or for the end of the outermost ``with``.

    Python runs signal handlers on the main thread only, so nothing is held back on other threads.

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
        self._handler: Callable[[int, FrameType | None], Any] | None = None
        self._held: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> None:
        if not _on_main_thread():
            return
        if not self._depth:
            handler = signal.getsignal(signal.SIGINT)
            self._handler = handler if callable(handler) else None
            if self._handler is not None:
                signal.signal(signal.SIGINT, self._hold)
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        if not _on_main_thread():
            return
        self._depth -= 1
        if not self._depth and self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self.check()

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self._held = number, frame

    def check(self) -> None:
        """Act on a Ctrl-C that was held back: by default, raise KeyboardInterrupt."""
        if self._held is not None and self._handler is not None:
            held, self._held = self._held, None
            self._handler(*held)

    def interruptible(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function that Ctrl-C may end at once; return its result."""
        if not self._depth or self._handler is None or not _on_main_thread():
            return function(*arguments)
        signal.signal(signal.SIGINT, self._handler)
        try:
            self.check()
            return function(*arguments)
        finally:
            signal.signal(signal.SIGINT, self._hold)


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
