"""Rows of a text file whose quotes close and whose width is that of the header, or the line at which they do not."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.layout import INNER, Layout, is_blank, is_value, long_fields

BY_SPACES = "; --sep ' ' if columns are separated by spaces"


class Repaired(NamedTuple):
    """Rows of equal width as CSV, how many were too short, and the line of the first of them."""

    content: bytes
    short: int
    line: int


def repair(path: str, lines: Iterator[str], layout: Layout) -> Repaired:
    """Return the rows of a file, from its first row on, with missing values at the end of those that are too short.

    Raises
    ------
    DataError
        If a row is too long, or a quote is not closed where a field ends: the message names the line.
    """
    width, short, line = len(layout.names), 0, 0
    content = io.StringIO(newline="")
    writer = csv.writer(content, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for number, fields in _strict(path, lines, layout):
        if len(fields) > width:
            raise DataError(
                f"cannot read {path}: line {number} has {len(fields)} fields, the header has {width}; --sep names "
                "another separator"
            )
        if len(fields) < width:
            short, line = short + 1, line or number
        writer.writerow(fields + [""] * (width - len(fields)))
    return Repaired(content.getvalue().encode(), short, line)


def check_quotes(path: str, lines: Iterator[str], layout: Layout) -> None:
    """Raise if a quote is not closed where a field ends, or rows seem to lie within a quoted field."""
    for _ in _strict(path, lines, layout):
        pass


def check_rows(path: str, lines: Iterator[str], layout: Layout) -> None:
    """Raise as `check_quotes`, or if a row has more or fewer fields than there are columns."""
    for number, fields in _strict(path, lines, layout):
        if len(fields) != len(layout.names):
            raise DataError(
                f"cannot read {path} in blocks: line {number} has {len(fields)} fields, the header has "
                f"{len(layout.names)}; complete it, or read the file as a whole"
            )


def _strict(path: str, lines: Iterator[str], layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the line it begins on."""
    width, last = len(layout.names), ""

    def seen() -> Iterator[str]:
        nonlocal last
        for line in lines:
            last = line
            yield line

    with long_fields():
        reader = csv.reader(seen(), delimiter=layout.separator, strict=True)
        line = layout.line
        try:
            for fields in reader:
                end = layout.line + reader.line_num
                if end - line > 1 and _swallowed(fields, layout.separator, width):
                    raise DataError(
                        f"cannot read {path}: the quote that opens in line {line} closes only in line {end - 1}, and "
                        "there seem to be rows between; remove it, or double quotes within a quoted field"
                    )
                if not is_blank(last, fields):
                    yield line, fields
                line = end
        except csv.Error as error:
            raise DataError(
                f"cannot read {path}: a quote that opens in line {line} is not closed where its field ends ({error}); "
                "remove it, or double quotes within a quoted field" + ("" if width > 1 else BY_SPACES)
            ) from error


def _swallowed(fields: Sequence[str], separator: str, width: int) -> bool:
    """Return whether a field has lines within that look like rows, below what one leaves and above what one begins."""
    for at, field in enumerate(fields):
        lines = [line.split(separator) for line in field.splitlines()]
        inner = lines[1:-1]
        if (
            width > 1
            and len(inner) >= (INNER if width == 2 else 1)
            and all(len(line) == width for line in inner)
            # a quote too many opens and closes within rows of that width, too
            and len(lines[0]) == width - at
            and len(lines[-1]) == width - len(fields) + at + 1
            and _as_beside(fields, inner, at)
        ):
            return True
    return False


def _as_beside(fields: Sequence[str], lines: Sequence[Sequence[str]], at: int) -> bool:
    """Return whether lines in one field have values where those beside it are values, if some are."""
    values = [i for i, field in enumerate(fields) if i != at and is_value(field)]
    return not values or any(is_value(line[i]) for line in lines for i in values if i < len(line))
