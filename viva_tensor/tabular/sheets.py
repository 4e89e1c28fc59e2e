"""Workbooks of spreadsheets: the sheet, the names of its columns, and what its cells hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from viva_tensor.tabular.data import check_names
from viva_tensor.tabular.layout import find_names
from viva_tensor.tabular.typed_columns import Expected

TITLES = 100  # rows of a sheet among which the names of its columns are looked for


def first_sheet(path: Path, expected: Expected) -> tuple[pd.DataFrame, Sequence[str]]:
    """Return the first sheet of a workbook, and notes that name the other sheets and rows that are left out.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "table.xlsx"
    ...     pd.DataFrame([["Sales of May", None], ["day", "price"], [1, 2.5]]).to_excel(path, index=False, header=False)
    ...     print(*first_sheet(path, Expected()), sep="\\n")
       day  price
    0    1    2.5
    ["line 1 is no row and left out: 'Sales of May'"]
    """
    with pd.ExcelFile(path) as book:
        first, *others = map(str, book.sheet_names)
        top = _top(book)
        at, notes = find_names(top)
        # pandas would call the second of two columns "a" "a.1"
        check_names(path, pd.Index([name for name in top[at] if name] if top else []))

        def cells(dtype: Any) -> pd.DataFrame:
            return pd.read_excel(book, skiprows=at, keep_default_na=False, na_values=[""], dtype=dtype)

        table = cells(dict.fromkeys(expected.text, "str"))
        if names := [name for name in table if _may_be_booleans(table[name])]:
            for name, column in cells(object)[names].items():
                if column.map(lambda cell: isinstance(cell, bool)).eq(column.notna()).all():
                    table[name] = column.astype("boolean")
    table.columns = pd.Index(map(_heading, table.columns))
    check_names(path, table.columns)
    return table, [*([f"read: the sheet {first!r}; not {', '.join(map(repr, others))}"] if others else []), *notes]


def _may_be_booleans(column: pd.Series[Any]) -> bool:
    """Return whether a column that pandas made numbers of may hold booleans with gaps between them."""
    return column.dtype == np.float64 and bool(column.isna().any()) and set(column.dropna()) <= {0.0, 1.0}


def _heading(cell: object) -> str:
    """Return a cell of the line of names as text; a date as ISO 8601 has it."""
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time() else cell.isoformat(sep=" ")
    return str(cell).strip()


def _top(book: pd.ExcelFile) -> list[list[str]]:
    """Return the first rows of a workbook as text."""
    top = pd.read_excel(book, header=None, nrows=TITLES, dtype=object, keep_default_na=False)
    return [[str(cell) for cell in row] for row in top.itertuples(index=False)]
