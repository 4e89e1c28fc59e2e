"""Optional packages, with the command that installs them where they are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["extra"]


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import packages of an extra inside this context; if one is missing, the error says how to install it.

    Raises
    ------
    ImportError

    Examples
    --------
    >>> with extra("train"):
    ...     import a_package_that_is_missing
    Traceback (most recent call last):
    ...
    ImportError: this needs a_package_that_is_missing; pip install "viva-tensor[train]"
    """
    try:
        yield
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError):  # it is there, and says itself what is broken
            raise
        raise ImportError(f'this needs {error.name}; pip install "viva-tensor[{name}]"', name=error.name) from error
