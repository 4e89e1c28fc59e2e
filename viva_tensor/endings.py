"""How commands end: errors in one line, interruptions with what they leave, and output that cannot be written."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import click

from viva_tensor import files
from viva_tensor.distributed import Ranks
from viva_tensor.distributed.interrupts import terminations
from viva_tensor.error import InvalidFile, InvalidValue, TensorError
from viva_tensor.options import Failure
from viva_tensor.tabular.data import DataError
from viva_tensor.train import DivergenceError


class Interrupted(click.ClickException):
    """An interruption by Ctrl-C or SIGTERM, with the exit code of a program ended by SIGINT."""

    exit_code = 130


class Unsaved(Failure):
    """A trained network whose files cannot be written."""


@contextmanager
def failures() -> Iterator[None]:
    """Show errors that the user can correct, and warnings, as one line each."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = lambda message, *_: click.echo(f"Warning: {message}", err=True)
            yield
    except DivergenceError as error:
        raise Failure(f"{error} (--lr)") from error
    except (DataError, TensorError) as error:
        raise Failure(str(error)) from error
    except OSError as error:
        if isinstance(error, BrokenPipeError) and not error.filename:  # nobody reads on: click ends quietly
            raise
        raise Failure(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error
    except MemoryError as error:
        raise Failure(_lacking(error)) from error


def _lacking(error: MemoryError) -> str:
    return f"not enough memory: {error}" if str(error) else "not enough memory"


@contextmanager
def alone_in(output: Path, ranks: Ranks) -> Iterator[None]:
    """Keep other trainings out of a folder, or raise if one is there."""
    with files.held(output) if ranks.first else nullcontext(True) as alone:
        if not ranks.from_first("train", lambda: alone):
            raise Failure(f"another training is writing to {output}; wait for it, or name another folder with --output")
        yield


@contextmanager
def interruptions(checkpoint: Path, resume: bool, written: Sequence[Path]) -> Iterator[None]:
    """After an interruption, a lack of memory or files that cannot be written, tell what is whole, and how to go on.

    SIGTERM is an interruption, too.

    Parameters
    ----------
    checkpoint : Path
    resume : bool
        Whether a checkpoint that is there already is of this run.
    written : list of Path
        The files that are written by then.
    """
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() and not resume else None
    try:
        with terminations():
            yield
    except (KeyboardInterrupt, MemoryError, Unsaved) as error:
        left = []  # as far as this rank knows: the first one of a job writes a checkpoint when it hears of it
        if written:
            left.append(f"complete files in {written[0].parent}: {', '.join(path.name for path in written)}")
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
            left.append(f"the same command with --resume continues from {checkpoint}")
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted("; ".join(["interrupted", *(left or ["nothing had been written yet"])])) from None
        said = _lacking(error) if isinstance(error, MemoryError) else error.message
        raise Failure("; ".join([said, *left])) from error


@contextmanager
def resuming(resume: bool) -> Iterator[None]:
    """Name the options that mend an error of a checkpoint."""
    try:
        yield
    except InvalidFile as error:
        if not resume:
            raise
        raise Failure(f"{error}; or start anew with --force in place of --resume") from error
    except InvalidValue as error:
        if not resume:
            raise
        hint = "or start anew with --force in place of --resume"
        if "with other rows" in error.reason:  # and settings as they were
            hint = f"use the same --memory, too: it decides whether rows are read in blocks; {hint}"
        raise Failure(f"{error} ({hint})") from error


@contextmanager
def printing() -> Iterator[None]:
    """Write what is printed at once, or say in one line that it cannot be written."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        with suppress(OSError):  # or the rest would be written at the end of the process, and fail again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Failure(f"cannot write to standard output: {error.strerror or error}") from error


class Command(click.Command):
    """A command whose help may find no room on standard output."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Return a context, unless an option such as --help prints something and ends it."""
        with printing():
            return super().make_context(*arguments, **options)


class Group(Command, click.Group):
    """A group of such commands."""

    command_class = Command


def say(text: str, nl: bool = True) -> None:
    """Print a text, with a question mark for each character that the encoding of the terminal lacks."""
    with printing():
        try:
            click.echo(text, nl=nl)
        except UnicodeEncodeError as error:
            click.echo(text.encode(error.encoding, "replace").decode(error.encoding), nl=nl)
