"""Workbooks of spreadsheets: the sheet, the names of its columns, and what its cells hold."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from viva_tensor.tabular.data import DataError, check_names, label_of, one_line
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.layout import UNNAMED, find_names
from viva_tensor.tabular.words import BoolArray

OLE = bytes.fromhex("d0cf11e0a1b11ae1")  # what files of old Office programs and encrypted ones begin with
DAY_0 = datetime(1899, 12, 31)  # as which openpyxl has 0 days
FIRST_DATE = datetime(1900, 3, 1)  # beside times and durations, earlier ones are such, too
FORMULA, MERGED = re.compile(rb"[<:]f[ >/]"), re.compile(rb"[<:]mergeCell[ /]")  # in the XML of a sheet
PIECE, LONGEST = 1 << 20, 12  # bytes read at once, and of a mark at most
TITLES = 100  # rows of a sheet among which the names of its columns are looked for


class Sheet(NamedTuple):
    """A table, what a person should know of it, and a name that looks like a value, if it may lack names.

    Attributes
    ----------
    table : DataFrame
    notes : tuple of str
    doubt : str
    others : str
        Which sheet was read, and which not, if that was not said.
    clocks : list of str
        Columns of times of day that are hours in the table.
    """

    table: pd.DataFrame
    notes: tuple[str, ...] = ()
    doubt: str = ""
    others: str = ""
    clocks: Sequence[str] = ()


def read_sheet(path: Path, expected: Expected, title: str = "", header: bool | None = None) -> Sheet:
    """Return the sheet of a workbook with a title, or the first that is shown and not blank.

    With it come notes of other sheets, of rows left out, and of cells below the first of merged ones, which have its
    value in each row. Without `header`, it is found out whether and where a row has the names of the columns. A column
    with a cell of text holds its cells as they are, so that it is recognised as those of text files are.

    Raises
    ------
    DataError
        If there is no such sheet, or none with values.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "table.xlsx"
    ...     rows = [["Sales of May", None], ["day", "zip"], [1, "01067"]]
    ...     pd.DataFrame(rows).to_excel(path, index=False, header=False)
    ...     read_sheet(path, Expected())
    Sheet(table=   day    zip
    0    1  01067, notes=("line 1 is not a row and is left out: 'Sales of May'",), doubt='', others='', clocks=())
    """
    with _workbook(path) as book:
        sheets = book.book.worksheets  # without those of a chart alone
        titles = [sheet.title for sheet in sheets]
        if title and title not in titles:
            raise DataError(f"{path} has no sheet {title!r}; its sheets are {', '.join(map(repr, titles))}")
        shown = [title] if title else [one.title for one in sheets if one.sheet_state == "visible"] or titles[:1]
        first, cells = _first_with_cells(book, shown)
    left = [] if title else [repr(one) for one in titles if one != first]
    others = f"read only the sheet {first!r}, not {', '.join(left)} (--sheet names another)" if left else ""
    found = find_names(_words(cells[:TITLES]), header)
    check_names(path, pd.Index(found.names))
    rows = cells[found.row :].reset_index(drop=True)
    filled = _fill_merged(path, first, rows, found.row)
    columns = {name: rows[i] for i, name in enumerate(found.names) if name != f"{UNNAMED}{i}" or rows[i].notna().any()}
    gaps = {i: name for i, name in enumerate(found.names) if name in columns and rows[i].isna().any()}
    formulas = _formulas(path, first, gaps, rows, found.row) if gaps else []
    zeros = _drop_date_0(columns, expected)
    table = pd.DataFrame(
        {name: _held(column, text=name in expected.text) for name, column in columns.items()}, index=rows.index
    )
    merged = [f"{name} ({filled[i]:,})" for i, name in enumerate(found.names) if filled[i]]
    merges = [f"{', '.join(merged)}: merged cells all get the value of the first"] if merged else []
    which = [others] if others else []
    return Sheet(table, (*which, *found.notes, *merges, *formulas, *zeros), found.doubt, others)


def _first_with_cells(book: pd.ExcelFile, titles: Sequence[str]) -> tuple[str, pd.DataFrame]:
    """Return the title and cells of the first of some sheets in which a cell has a value."""
    for title in titles:
        cells = pd.read_excel(book, sheet_name=title, header=None, dtype=object, keep_default_na=False, na_values=[""])
        if cells.notna().any(axis=None):
            return title, cells
    shown = ", ".join(map(repr, titles))
    raise DataError(f"no cell of the sheets read has a value ({shown}); name the sheet with the table: --sheet TITLE")


def _fill_merged(path: Path, sheet: str, rows: pd.DataFrame, before: int) -> list[int]:
    """Give cells that were merged over several rows the value of the first, and return how many of each column."""
    counts = [0] * rows.shape[1]
    if not _has(MERGED, path):
        return counts
    with _workbook(path, read_only=False) as book:  # which alone tells them
        merged = [one.bounds for one in book.book[sheet].merged_cells.ranges]
    for column, first, _, last in merged:
        inside = before < first <= before + len(rows) and column <= rows.shape[1]  # counted from 1
        if inside and last > first:
            place = slice(first - before - 1, last - before)
            below = rows.iloc[place, column - 1]
            counts[column - 1] += int(below.isna().sum()) if pd.notna(below.iloc[0]) else 0
            rows.iloc[place, column - 1] = below.iloc[0]
    return counts


def _formulas(path: Path, sheet: str, columns: Mapping[int, str], rows: pd.DataFrame, before: int) -> list[str]:
    """Return a note if cells of columns lack the values of formulas, as programs other than spreadsheets write them."""
    if not _has(FORMULA, path):
        return []
    lacking = rows[[*columns]].isna().to_numpy()
    place = (path, sheet, [*columns], before, len(rows))
    found = lacking & _of_type("f", *place, data_only=False)
    if found.any():
        found &= ~_of_type("str", *place, data_only=True)  # of empty texts, which are values
    counts = [
        f"{name} ({which.sum():,}, the first in row {which.argmax()})"
        for name, which in zip(columns.values(), found.T, strict=True)
        if which.any()
    ]
    hint = "formulas without stored values; open the file once in a spreadsheet and save it"
    return [f"{', '.join(counts)}: {hint}"] if counts else []


def _has(mark: re.Pattern[bytes], path: Path) -> bool:
    """Return whether any sheet has what is marked so, by its bytes: reading cells once more takes long."""
    with zipfile.ZipFile(path) as book:
        for name in book.namelist():
            if name.startswith("xl/worksheets/"):
                with book.open(name) as file:
                    piece = b""
                    while more := file.read(PIECE):
                        if mark.search(piece := piece[-LONGEST:] + more):
                            return True
    return False


def _of_type(
    kind: str, path: Path, sheet: str, columns: Sequence[int], before: int, count: int, *, data_only: bool
) -> BoolArray:
    """Return which cells of some columns are of a kind of openpyxl's, in `count` rows that follow those before."""
    found = np.zeros((count, len(columns)), bool)
    with _workbook(path, data_only=data_only) as book:
        book.book[sheet].reset_dimensions()  # which may be written wrong
        cells = book.book[sheet].iter_rows(min_row=before + 1, max_row=before + count)
        for which, row in zip(found, cells, strict=False):
            which[:] = [i < len(row) and row[i].data_type == kind for i in columns]
    return found


@contextmanager
def _workbook(path: Path, **options: bool) -> Iterator[pd.ExcelFile]:
    """Open a workbook, and turn what openpyxl raises for a damaged one into a DataError."""
    with path.open("rb") as file:
        if file.read(len(OLE)) == OLE:
            raise DataError(f"cannot read {path}: it is encrypted or an old .xls; save it as .xlsx without a password")
    try:
        with pd.ExcelFile(path, engine="openpyxl", engine_kwargs=options) as book:
            yield book
    except (SyntaxError, AttributeError) as error:  # of XML that is cut off, and of sheets that lack a part
        raise DataError(f"cannot read {path} as XLSX; it seems to be damaged: {one_line(error)}") from error


def _words(cells: pd.DataFrame) -> list[list[str]]:
    return [[_word(cell) for cell in row] for row in cells.itertuples(index=False)]


def _word(cell: Any) -> str:
    """Return a cell as text; a date as ISO 8601 has it."""
    if pd.isna(cell):
        return ""
    if isinstance(cell, datetime):
        return label_of(cell)
    if isinstance(cell, timedelta):
        return label_of(cell).rstrip("0") if cell.microseconds else label_of(cell)
    return str(cell)


def _lasting(cell: Any) -> Any:
    """Return a date before those that people have as the duration that a cell of times has beyond 24 hours."""
    return cell - DAY_0 if isinstance(cell, datetime) and cell < FIRST_DATE else cell


def _drop_date_0(columns: dict[str, pd.Series[Any]], expected: Expected) -> list[str]:
    """Make Excel's date 0, which openpyxl has as a time of 0:00, missing among dates, and tell how many there were.

    Raises
    ------
    DataError
        If other times stand among dates.
    """
    notes = []
    for name in [name for name in columns if expected.uses(name) and name not in expected.text]:
        column = columns[name]
        times = column.map(lambda cell: isinstance(cell, time | timedelta)).astype(bool)
        if not times.any():
            continue
        dates = column.map(lambda cell: isinstance(cell, datetime) and cell >= FIRST_DATE).sum()
        zero = column == time()
        others = column.index[times & ~zero]
        of_dates = dates or name in expected.dates
        if not of_dates or (len(others) and 2 * dates <= column.notna().sum()):  # a column of times, or of neither
            continue
        if len(others):
            got = f"{label_of(column[others[0]])!r} in row {others[0]}"
            hint = f"correct the cell or empty it; if all values are categories: --categorical {name!r}"
            raise DataError(f"column {name!r} holds dates, but not {got}; {hint}")
        columns[name] = column.mask(zero)
        place = f"({zero.sum():,}, the first in row {zero.argmax()})"
        notes.append(f"{name}: missing where the date is 0, Excel's 1900-01-00 {place}")
    return notes


def _held(column: pd.Series[Any], *, text: bool) -> pd.Series[Any]:
    """Return the cells of a column as what they are; as words if text is wanted, or where text stands beside others."""
    if column.map(lambda cell: isinstance(cell, time | timedelta)).any():
        column = column.map(_lasting)
    found = column.infer_objects()
    kind = pd.api.types.infer_dtype(found, skipna=True)
    if text:
        return column.map(_word, na_action="ignore")
    if found.dtype != object or kind == "time":
        return found
    if kind == "boolean":
        return found.astype("boolean")
    if found.dropna().map(lambda cell: isinstance(cell, int | float)).all():
        return pd.to_numeric(found)
    lasting = kind == "mixed" and found.dropna().map(lambda cell: isinstance(cell, time | timedelta)).all()
    return found.map(_word_beside_text) if lasting or found.map(lambda cell: isinstance(cell, str)).any() else found


def _word_beside_text(cell: Any) -> Any:
    """Return a cell of a column that holds text, too: a boolean or date as a word, any other as it is."""
    if isinstance(cell, bool):
        return str(cell).lower()
    return _word(cell) if isinstance(cell, date | time | timedelta) else cell
