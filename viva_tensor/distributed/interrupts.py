"""Ctrl-C while ranks depend on each other: held back until all of them can be told."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")


class Interrupts:
    """A context in which Ctrl-C waits for :meth:`check`, or for the end of the outermost one.

    Python runs signal handlers on the main thread alone, so only there is anything to hold back.

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
        self._came: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            if not self._depth:
                handler = signal.getsignal(signal.SIGINT)
                self._handler = handler if callable(handler) else None
                if self._handler is not None:
                    signal.signal(signal.SIGINT, self._hold)
            self._depth += 1

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            self._depth -= 1
            if not self._depth and self._handler is not None:
                signal.signal(signal.SIGINT, self._handler)
                self.check()

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self._came = number, frame

    def check(self) -> None:
        """Do what a Ctrl-C that has come meanwhile does: by default, raise KeyboardInterrupt."""
        if self._came is not None and self._handler is not None:
            came, self._came = self._came, None
            self._handler(*came)

    def allowed(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return what a function gives that Ctrl-C may end."""
        if not self._depth or self._handler is None or threading.current_thread() is not threading.main_thread():
            return function(*arguments)
        signal.signal(signal.SIGINT, self._handler)
        try:
            self.check()
            return function(*arguments)
        finally:
            signal.signal(signal.SIGINT, self._hold)
