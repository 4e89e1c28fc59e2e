"""Numbers and dates that a Parquet file holds as text: recognised once, and parsed in whatever rows are read."""

from __future__ import annotations

from calendar import month_abbr
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from viva_tensor.tabular.data import DataError, kind_of
from viva_tensor.tabular.notation import Notation, Words, is_plain, number_parts
from viva_tensor.tabular.parquet import ParquetRows
from viva_tensor.tabular.recognition import Writing, recognise
from viva_tensor.tabular.typed_columns import Expected, typed, without_missing

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE = 2000  # rows that tell whether a whole column is worth a look

MONTHS = {month.casefold()[:3] for month in month_abbr if month}


class Stored(NamedTuple):
    """How text columns of numbers and dates are written, and what a person should know of text columns."""

    notations: Mapping[str, Notation]
    notes: tuple[str, ...]


def judged(rows: ParquetRows, writing: Writing, expected: Expected) -> Stored:
    """Return how the text columns of a file are written: by all rows of those that its first ones say more of.

    Raises
    ------
    DataError
        If a value does not fit its column.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/table.parquet"
    ...     pd.DataFrame({"day": ["2024-01-31", "2024-02-29"], "n": [1, 2]}).to_parquet(path)
    ...     judged(ParquetRows(path), Writing(), Expected()).notes
    ("day: dates; row 0 has '2024-01-31'",)
    """
    expected = _with_sets(expected)
    # with a format, dates may be integers such as 20240131
    integers = [*filter(expected.uses, rows.integers if writing.date_format else ())]
    texts = [name for name in rows.texts if expected.uses(name) and name not in expected.text]
    known = {*expected.numbers, *expected.notations}
    first = rows.first(texts, SAMPLE)
    whole = first.num_rows == len(rows)
    names = [one for one in texts if one in known or _tells(first[one], writing, whole=whole)]
    return recognised(pd.DataFrame({name: rows[name] for name in (*names, *integers)}), writing, expected)


def _with_sets(expected: Expected) -> Expected:
    """Return what is expected of columns, so that each of thousands is looked up at once."""
    only = None if expected.only is None else frozenset(expected.only)
    return replace(expected, text=frozenset(expected.text), unused=frozenset(expected.unused), only=only)


def _tells(first: pa.ChunkedArray, writing: Writing, *, whole: bool) -> bool:
    """Return whether by its first rows, which may be the whole, a text column may be more than labels."""
    words = [word for word in first.unique().to_pylist() if word and not word.isspace()]
    if not words:
        return not whole
    if not (writing.date_format or any(_may_be_more(word.strip(), writing) for word in words)):
        return False
    try:
        return whole or recognise("", first.to_pandas(), writing) != (None, "", "")
    except DataError:
        return True  # all rows will say more


def _may_be_more(word: str, writing: Writing) -> bool:
    """Return whether a word may be a number, date, time, error of a spreadsheet or missing value."""
    letters = word[:1].isalpha() and word[:3].casefold() not in MONTHS
    return not letters or word in writing.missing or number_parts(word) is not None


def recognised(table: pd.DataFrame, writing: Writing, expected: Expected) -> Stored:
    """Return how the text columns of a table are written; those that are expected as text are not looked at.

    A file that could hold numbers as such, and has them as text, may mean names by them: they stay text, if not more
    than digits and a point shows what they are.

    Raises
    ------
    DataError
        If a value does not fit its column.

    Examples
    --------
    >>> table = pd.DataFrame({"share": ["12,5 %", "7 %"], "zip": ["10115", "80331"]})
    >>> recognised(table, Writing(), Expected(text=["zip"])).notes
    ("share: numbers with ',' before decimals and '%' beside them; row 0 has '12,5 %'",)
    """
    expected = _with_sets(expected)
    known = {*expected.numbers, *expected.notations} | ({*table.columns} if writing.date_format else set())
    names = [one for one in table.columns if expected.uses(one) and one not in expected.text and one not in known]
    plain = {name: word for name in names if kind_of(table[name]) == "text" and (word := _plain(table[name]))}
    unused = {*expected.unused, *expected.text, *plain}
    others = Expected(numbers=expected.numbers, notations=expected.notations, unused=unused, only=expected.only)
    found = typed(table.copy(deep=False), writing, others)
    notes = [
        f"{name}: text, as in the file, though values such as {word!r} are numbers: --numeric {name!r}"
        for name, word in plain.items()
    ]
    return Stored(found.notations, (*notes, *found.notes))


def _plain(column: pd.Series[Any]) -> str:
    """Return a plain number of a text column, if half of its words are such, or nothing."""
    words = Words(column).words
    numbers = [word for word in words if is_plain(word)]
    return numbers[0] if 2 * len(numbers) >= len(words) else ""


def parsed(rows: pd.DataFrame, notations: Mapping[str, Notation], missing: Sequence[str]) -> pd.DataFrame:
    """Return rows with numbers and dates where text has a notation, and without words for missing values.

    Raises
    ------
    DataError
        If a value is written otherwise.

    Examples
    --------
    >>> from viva_tensor.tabular.notation import Numbers
    >>> rows = pd.DataFrame({"share": ["12,5 %", "gone"]})
    >>> parsed(rows, {"share": Numbers(decimal=",", suffix="%")}, ["gone"])["share"].tolist()
    [12.5, nan]
    """
    return typed(
        without_missing(rows, missing), Writing(), Expected(notations=notations, only=frozenset(notations))
    ).table
