"""Reading files into tables: text as people write it, and the formats of spreadsheets, databases and other programs."""

from __future__ import annotations

import codecs
import lzma
import os
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from viva_tensor.tabular.data import DataError, Table, check_names, number_of, one_line, rows_of
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.json_files import json_lines, json_records
from viva_tensor.tabular.layout import SEPARATORS, UNNAMED, is_value
from viva_tensor.tabular.notation import Notation, is_time
from viva_tensor.tabular.parquet import ParquetRows, clocks_of, data_frame
from viva_tensor.tabular.recognition import Writing
from viva_tensor.tabular.sheets import Sheet, read_sheet
from viva_tensor.tabular.stored_text import judged, parsed, with_sets
from viva_tensor.tabular.text_files import COMPRESSED, TextFile, last_rows, opened
from viva_tensor.tabular.typed_columns import Shown, Typed, digit_dates, has_decimal_commas, typed, typed_again
from viva_tensor.tabular.words import MARKERS, is_total

TEXT = {"csv": SEPARATORS, "tsv": ("\t", ",", ";", "|"), "txt": ("\t", ",", ";", "|")}
JSON = {"json": json_records, "jsonl": json_lines, "ndjson": json_lines}
READABLE = ".csv, .tsv, .txt (also as .gz, .bz2, .xz or .zip), .parquet, .feather, .json, .jsonl, .ndjson or .xlsx"
UNREADABLE = (OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError, EOFError,
              NotImplementedError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """What a user says about a file; what is left open is found out.

    Attributes
    ----------
    separator, encoding : str
        Of a text file; without them, the separator that fits best, and UTF-8 or what a byte order mark says.
    header : bool, optional
        Whether the first line of a text file or sheet has the names of the columns.
    writing : Writing
        How values are written.
    sheet : str
        Title of the sheet of a workbook; without it, the first that is shown and not blank.
    """

    separator: str = ""
    encoding: str = ""
    header: bool | None = None
    writing: Writing = field(default_factory=Writing)
    sheet: str = ""

    def __post_init__(self) -> None:
        if len(self.separator) > 1 or self.separator in ('"', "\n", "\r"):
            raise DataError(f"columns are separated by one character such as ';', not {self.separator!r}")
        try:
            codecs.lookup(self.encoding or "utf-8")
        except (LookupError, ValueError):
            raise DataError(f"no encoding {self.encoding!r}; usual ones are utf-8, cp1252 and latin-1") from None


class Source(NamedTuple):
    """A table that was read, how its text columns are written, and what a person should know about both.

    Attributes
    ----------
    table : DataFrame or ParquetRows
    notations : dict
        The notation of each column that was text in the file and is numbers or dates in the table, or held times.
    notes : tuple of str
    doubt : str
        Why a column may not be found, if the file may lack a line of names or has other sheets, and what to say then.
    """

    table: Table
    notations: Mapping[str, Notation] = {}
    notes: tuple[str, ...] = ()
    doubt: str = ""


def read_table(path: str | Path, text: Collection[str] = ()) -> pd.DataFrame:
    """Read a file into a DataFrame, as :func:`read` does without options.

    Raises
    ------
    DataError
    """
    table = read(path, expected=Expected(text=text)).table
    return table.rows(0, len(table)) if isinstance(table, ParquetRows) else table


def read(
    path: str | Path, reading: Reading | None = None, expected: Expected | None = None, *, whole: bool = True
) -> Source:
    """Read a file as a table.

    Parameters
    ----------
    path : str or Path
        The suffix tells the format: .csv, .tsv or .txt (also as .gz, .bz2, .xz or .zip), .parquet, .feather, .json,
        .jsonl, .ndjson or .xlsx.
    reading : Reading, optional
    expected : Expected, optional
        What is known of columns.
    whole : bool
        If false, the rows of a Parquet file stay there until they are needed.

    Returns
    -------
    Source
        With rows numbered from 0, in the order of the file. Of a text file blank lines are skipped, spaces around
        names and values are dropped, and a row that is too short lacks its last values, which is noted. A text is
        missing only where it is empty, or is a word that ``reading.writing.missing`` names. Plain numbers that a
        Parquet file holds as text may be names and stay text, which is noted; those of other formats become numbers.

    Raises
    ------
    DataError
        If the file is missing, unreadable, empty or of another format, two columns have the same name, a quote is not
        closed, or a value does not fit its column.
    """
    path, reading, expected = Path(path), reading or Reading(), expected or Expected()
    with reading_errors(path) as kind:
        if kind in TEXT:
            source = _read_text(path, TEXT[kind], reading, expected)
        elif kind == "parquet":
            as_stored = ParquetRows(path)
            check_names(path, as_stored.columns)
            missing, texts = reading.writing.missing, judged(as_stored, reading.writing, expected)
            rows = as_stored.changed(
                partial(parsed, notations=texts.notations, missing=missing, expected=with_sets(expected))
            )
            notes = (*texts.notes, *totals(as_stored, missing))
            source = Source(rows.rows(0, len(rows)) if whole else rows, texts.notations, notes)
        else:
            sheet = _sheet(path, kind, reading, expected)
            check_names(path, sheet.table.columns)
            below = totals(sheet.table, reading.writing.missing)
            found = _recognised(sheet.table, reading.writing, expected, Shown(clocks=sheet.clocks))
            doubt = "; ".join(filter(None, [sheet.others, _doubt(sheet.doubt)]))
            source = Source(found.table, found.notations, (*sheet.notes, *found.notes, *below), doubt)
    check_names(path, source.table.columns)
    if not (len(source.table) and len(source.table.columns)):
        raise DataError(f"{path} has no rows")
    return source


def totals(table: Table, missing: Collection[str] = (), last: pd.DataFrame | None = None) -> list[str]:
    """Return a note if the last row seems to be a total: its one text is a word for that, and in no other row.

    Rows without values below it are none. It is looked for in what a file has, where words for `missing` values are no
    texts, unless one is that word. `last` are the last rows by their numbers, if the table is a sample.

    Examples
    --------
    >>> totals(pd.DataFrame({"at": ["north", "south", "Total"], "sales": [2, 3, 5]}))
    ["row 2, the last, seems to be a total ('Total' in at) but is used like any other row; if it is a total, remove it"]
    """
    if len(table) < 2:
        return []
    if last is None:
        last = table.last_texts() if isinstance(table, ParquetRows) else last_rows(table)
    filled = last.dropna(how="all")
    if filled.empty:
        return []
    cells = {str(name): cell.strip() for name, cell in filled.iloc[-1].items() if isinstance(cell, str)}
    texts = [name for name, cell in cells.items() if is_total(cell) or not _says_nothing(cell, missing)]
    if len(texts) != 1 or not is_total(word := cells[name := texts[0]]):
        return []
    if sum(isinstance(cell, str) and cell.strip() == word for cell in table[name]) > 1:
        return []
    which = "the last" if filled.index[-1] == last.index[-1] else "the last with a value"
    told = f"row {filled.index[-1]}, {which}, seems to be a total ({word!r} in {name})"
    return [f"{told} but is used like any other row; if it is a total, remove it"]


def _says_nothing(cell: str, missing: Collection[str]) -> bool:
    """Return whether a cell is a value or a word for a missing one."""
    return cell in missing or cell.casefold() in MARKERS or is_value(cell) or is_time(cell)


def check_file(path: Path) -> str:
    """Return the format of a file, by its suffix.

    Raises
    ------
    DataError
        If there is no such file, or its suffix is not known.
    """
    if os.path.isdir(path):
        raise DataError(f"{path} is a directory; name a file in it, {READABLE}")
    if not os.path.exists(path):
        raise DataError(f"no such file: {path}")
    *_, before, last = ["", "", *path.name.lower().split(".")]
    if (kind := before if last in COMPRESSED else last) in TEXT or (
        kind == last and kind in {*JSON, "feather", "parquet", "xlsx"}
    ):
        return kind
    raise DataError(f"cannot tell the format of {path}; name a file {READABLE}")


@contextmanager
def reading_errors(path: Path) -> Iterator[str]:
    """Yield the kind of a file, and turn the errors of reading it into a DataError."""
    kind = check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of openpyxl, about parts of a workbook that hold no data
            yield kind
    except DataError as error:
        if path.name in str(error):
            raise
        raise DataError(f"{path}: {error}") from error
    except ImportError as error:
        missing = f" without {error.name}" if error.name else f": {one_line(error)}"
        raise DataError(f'cannot read {path}{missing}; pip install -U "viva-tensor[train]"') from error
    except UNREADABLE as error:
        raise DataError(f"cannot read {path} as {kind.upper()}: {one_line(error)}") from error
    except Exception as error:
        if type(error).__name__ != "ArrowException":  # which has no kind where the system refuses a thread
            raise
        hint = "allow more processes and threads (ulimit -u), or more memory (ulimit -v)"
        raise DataError(f"cannot read {path}: {one_line(error)}; {hint}") from error


def _sheet(path: Path, kind: str, reading: Reading, expected: Expected) -> Sheet:
    """Return the table of a file that knows what its columns hold."""
    if kind != "feather":
        if kind == "xlsx":
            return read_sheet(path, expected, reading.sheet, reading.header)
        return Sheet(JSON[kind](path, expected))
    import pyarrow.feather

    table = pyarrow.feather.read_table(path)
    return Sheet(data_frame(table), clocks=clocks_of(table.schema))


def _read_text(path: Path, separators: Sequence[str], reading: Reading, expected: Expected) -> Source:
    with opened(path, reading.encoding) as content, _memory_given_back():
        file = TextFile(path, content, [reading.separator] if reading.separator else separators, reading.header)
        return read_columns(file, reading, expected)


@contextmanager
def _memory_given_back() -> Iterator[None]:
    """Let Arrow take memory from the system itself: its own pools keep pages until all columns that share them go."""
    import pyarrow as pa

    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def read_columns(file: TextFile, reading: Reading, expected: Expected) -> Source:
    """Return the rows of a text file with columns that hold what they are."""
    point = reading.writing.point
    rows, notes = file.read(_strings(file, expected), point)
    numbers = [one.name for one in rows.schema if str(one.type) in ("int64", "double") and expected.uses(one.name)]
    numbers = [name for name in numbers if name not in {*expected.numbers, *expected.notations}]
    held = file.find_codes(numbers, reading.writing)
    layout = file.layout
    file.layout = replace(layout, codes=(*layout.codes, *sorted(held.codes)), notes=(*layout.notes, *held.notes))
    if held.codes:
        del rows
        rows, notes = file.read(_strings(file, expected), point)
    kinds = {one.name: str(one.type) for one in rows.schema}
    clocks = clocks_of(rows.schema)
    # what was written as to be known may not be read in another way
    doubles = [name for name, kind in kinds.items() if kind == "double" and name not in expected.notations]
    once = [rows]
    del rows
    table = file.numbered(data_frame(once.pop()))  # which then lets go of each column that it has converted
    # as numbers, dates such as 01022024 have lost a zero
    if digits := digit_dates(table, reading.writing, expected):
        again, _ = file.read(digits, point)
        for name in digits:
            table[name] = file.numbered(data_frame(again.select([name])))[name]
    shown = Shown({"."} if doubles and file.layout.pointed else (), file.codes(expected), clocks)
    below = totals(table, reading.writing.missing, file.last(table))
    found = _recognised(table, reading.writing, expected, shown)
    if doubles and point == "." and has_decimal_commas(found):
        again, _ = file.read(doubles, point)
        found = typed_again(found, file.numbered(data_frame(again.select(doubles))), reading.writing)
    notes = (*file.layout.notes, *notes, *found.notes, *below)
    return Source(found.table, found.notations, notes, _doubt(file.layout.doubt))


def _strings(file: TextFile, expected: Expected) -> list[str]:
    """Return the columns of a text file that are read as text."""
    codes = file.codes(expected)
    return [name for name in file.layout.names if name in codes or expected.as_text(name)]


def _recognised(table: pd.DataFrame, writing: Writing, expected: Expected, shown: Shown) -> Typed:
    """Return a table as :func:`typed` does, or raise with what may be the cause if columns have no names."""
    # a first column without a name is an index; text files may end each line with a separator
    nameless = [name for name in table.columns[1:] if name.startswith(UNNAMED) and table[name].notna().any()]
    try:
        return typed(table, writing, expected, shown)
    except DataError as error:
        if not nameless:
            raise
        named, count = [name for name in table.columns if not name.startswith(UNNAMED)], len(nameless)
        raise DataError(
            f"the line {', '.join(named)!r} was taken for the header, but has no name for "
            f"{number_of(count, 'column')}; delete the lines above the names, or add the missing names ({error})"
        ) from error


def _doubt(name: str) -> str:
    return f"{name!r} looks like a value: if there is no header line, give --no-header" if name else ""


def check_reading(path: Path, way: Reading) -> None:
    """Raise if something is said about how a file is written that says so itself.

    Raises
    ------
    DataError
    """
    kind = check_file(path)
    if way.sheet and kind != "xlsx":
        raise DataError(f"{path} has no sheets; the option --sheet is for .xlsx")
    text = replace(way, writing=Writing(), sheet="", header=None if kind == "xlsx" else way.header)
    if kind not in TEXT and text != Reading():
        raise DataError(f"{path} needs no options such as --sep and --encoding, which are for text files")


def as_written(path: str | Path, way: Reading) -> pd.DataFrame:
    """Return the columns of a file as text where they are text in it.

    Raises
    ------
    DataError
        As :func:`read`.
    """
    names = read(path, way, Expected(only=()), whole=False).table.columns
    table = read(path, way, Expected(text=names, only=())).table
    return rows_of(table, 0, len(table))
