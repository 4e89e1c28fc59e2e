"""Options of the command line that several commands have, and what their text means."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pandas as pd
from click.core import ParameterSource

from viva_tensor import files
from viva_tensor.tabular.reading import Reading
from viva_tensor.tabular.recognition import Writing


class NamedPath(click.Path):
    """A path that is not empty: Python would take an empty one for the current folder."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Return a path from its text."""
        return super().convert(value, parameter, context) if value != "" else self.fail("an empty path names no file")


class TablePath(NamedPath):
    """The path of a table, which is read from its beginning more than once."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Return a path from its text."""
        path = super().convert(value, parameter, context)
        try:
            stream = files.is_stream(path)
        except OSError as error:  # such as a folder that may not be entered
            self.fail(f"cannot read {path}: {error.strerror or error}")
        hint = "it can be read only once; save its contents to a file such as table.csv first"
        return path if not stream else self.fail(f"{path} is a pipe or a device: {hint}")


class PicturePath(NamedPath):
    """The path of a picture that can be written, which is found out before what it shows is computed."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Return a path from its text."""
        path = super().convert(value, parameter, context)
        try:
            if not Path(path).parent.is_dir():
                self.fail(f"there is no folder {Path(path).parent}")
            files.check_writable(Path(path))
        except OSError as error:
            self.fail(f"cannot write to {path}: {error.strerror or error}")
        return path


class Number(click.FloatRange):
    """A finite number in a range; a range alone would let nan pass, which is neither below nor above anything."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Return a number from its text."""
        number = super().convert(value, parameter, context)
        return number if math.isfinite(number) else self.fail(f"{value} is not finite")


OF_ONE = ("hidden", "epochs", "batch_size", "activation", "optimizer", "lr", "momentum", "patience")
PATH = NamedPath(path_type=Path)
PICTURE = PicturePath(path_type=str, dir_okay=False)
TABLE = TablePath(path_type=Path)
COUNT = click.IntRange(min=1)
SHARE = Number(0, 1, min_open=True, max_open=True)
POSITIVE = Number(0, min_open=True)


class Failure(click.ClickException):
    """A failure shown as one line on stderr with exit code 2, as for a wrong option."""

    exit_code = 2


def parse_hidden(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    """Return layer widths from a comma-separated list."""
    try:
        widths = tuple(int(width) for width in text.split(","))
    except ValueError:
        widths = ()
    if not widths or min(widths) < 1:
        raise Failure(f"--hidden takes layer widths such as 128,64; got {text!r}")
    return widths


def names(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return names from comma-separated lists; one with a comma stands in quotes, as in CSV."""
    try:
        rows = [row for text in given for row in csv.reader([text], skipinitialspace=True, strict=True)]
    except csv.Error as error:
        got = f"{parameter.opts[0]} takes names separated by commas, with quotes around a name that has a comma"
        raise Failure(f"{got}; got {' '.join(given)} ({error})") from error
    found = [name.strip() for row in rows for name in row]
    return tuple(filter(None, found))


def names_option(flag: str, names_of: str, text: str) -> Callable[[Any], Any]:
    """Return an option for a list of names, which may be given several times."""
    return click.option(flag, metavar=f"{names_of},...", multiple=True, callback=names, help=text, show_default=False)


def shares(context: click.Context, parameter: click.Parameter, text: str) -> tuple[float, ...]:
    """Return shares from a comma-separated list."""
    return tuple(_share(one, parameter, context) for one in text.split(","))


def _share(text: str, parameter: click.Parameter, context: click.Context) -> float:
    found: float = SHARE.convert(text.strip(), parameter, context)
    return found


def class_weights(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, float] | str | None:
    """Return what is said of the weights of classes: label=number several times, or balanced."""
    if given == ("balanced",):
        return "balanced"
    weights = {}
    for one in given:
        label, equals, number = one.rpartition("=")
        if label in weights:
            raise Failure(f"--class-weight has two weights for {label!r}, wanted one")
        try:
            weights[label] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise Failure(f"--class-weight takes balanced alone, or a label and a number such as yes=2; got {one!r}")
    return weights or None


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a file is written."""
    for option in reversed(
        (
            click.option("--sep", metavar="CHAR", help="Column separator.  [default: the one that fits]"),
            click.option("--encoding", metavar="NAME", help="Encoding of a text file.  [default: utf-8]"),
            click.option("--decimal", metavar="CHAR", help="Decimal mark: . or ,  [default: the one that fits]"),
            click.option("--thousands", metavar="CHAR", help="Thousands separator.  [default: the one that fits]"),
            names_option("--missing", "WORD", "Words to be read as missing values."),
            click.option(
                "--date-format", metavar="FORMAT", help="Format of all dates that are not ISO 8601, such as %d.%m.%Y."
            ),
            click.option(
                "--header/--no-header", default=None, help="Whether the first line has names.  [default: detected]"
            ),
            click.option(
                "--sheet",
                metavar="TITLE",
                help="Sheet of a workbook.  [default: the first visible one that is not empty]",
            ),
        )
    ):
        command = option(command)
    return command


def check_dates(date_format: str | None) -> None:
    """Raise if no dates could be written so."""
    try:
        pd.to_datetime(pd.Series(["a date"]), format=date_format or "ISO8601", errors="coerce")
    except (ValueError, re.error) as error:
        raise Failure(f"--date-format takes a format such as %d.%m.%Y; got {date_format!r} ({error})") from error


def reading_of(said: dict[str, Any]) -> Reading:
    """Return how to read a file from the options of `reading_options`, which are taken out of all options."""
    separator, encoding, header = said.pop("sep"), said.pop("encoding"), said.pop("header")
    sheet = said.pop("sheet") or ""
    check_dates(said["date_format"])
    writing = Writing(**{name: said.pop(name) or usual for name, usual in dataclasses.asdict(Writing()).items()})
    return Reading({"\\t": "\t", "tab": "\t"}.get(separator, separator) or "", encoding or "", header, writing, sheet)


def of_one(context: click.Context) -> list[str]:
    """Return the options given that are for one network."""
    given = [name for name in OF_ONE if context.get_parameter_source(name) is not ParameterSource.DEFAULT]
    return [f"--{name.replace('_', '-')}" for name in given]
