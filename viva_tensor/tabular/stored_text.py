"""Numbers and dates that a Parquet file holds as text: recognised once, and parsed in whatever rows are read."""

from __future__ import annotations

from calendar import day_abbr, month_abbr
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from viva_tensor.tabular.data import DataError, kind_of
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.missing_words import drop_missing
from viva_tensor.tabular.notation import Notation, Times, number_parts
from viva_tensor.tabular.parquet import ParquetRows
from viva_tensor.tabular.recognition import Writing, recognise
from viva_tensor.tabular.typed_columns import Shown, check_scales, check_timeless, typed
from viva_tensor.tabular.word_forms import is_plain
from viva_tensor.tabular.words import ERRORS, Words

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE = 2000  # rows that tell whether a whole column is worth a look

NAMED = {name.casefold()[:3] for name in (*day_abbr, *month_abbr) if name}


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
    expected = with_sets(expected)
    # with a format, dates may be integers such as 20240131
    integers = [*filter(expected.uses, rows.integers if writing.date_format else ())]
    texts = [name for name in rows.texts if expected.uses(name) and name not in expected.text]
    known = {*expected.numbers, *expected.notations}
    first = rows.first(texts, SAMPLE)
    whole = first.num_rows == len(rows)
    names = [one for one in texts if one in known or _tells(first[one], writing, whole=whole)]
    plain = {}
    if not (whole or writing.date_format):
        notes = {name: _plain_note(name, first[name].to_pandas(), writing) for name in names if name not in known}
        plain = {name: note for name, note in notes.items() if note is not None and not _lacks(first[name], writing)}
    measured = [name for name in expected.notations if name in rows.columns and name not in (*texts, *rows.clocks)]
    for name in filter(expected.uses, measured):
        check_scales(rows[name].to_frame(), expected)
    check_timeless(rows.clocks, expected)
    columns = {name: rows[name] for name in (*names, *integers) if name not in plain}
    found = recognised(pd.DataFrame(columns), writing, expected)
    clocks = {name: Times() for name in rows.clocks if expected.uses(name) and name not in expected.text}
    return Stored(clocks | dict(found.notations), (*filter(None, plain.values()), *found.notes))


def with_sets(expected: Expected) -> Expected:
    """Return what is expected of columns, so that each of thousands is looked up at once.

    Examples
    --------
    >>> with_sets(Expected(unused=["id"])).unused
    frozenset({'id'})
    """
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
        return whole or _lacks(first, writing) or recognise("", first.to_pandas(), writing) != (None, "", "")
    except DataError:
        return True  # all rows will say more


def _may_be_more(word: str, writing: Writing) -> bool:
    """Return whether a word may be a number, date, time, error of a spreadsheet or missing value."""
    letters = word[:1].isalpha() and word[:3].casefold() not in NAMED
    return not letters or word in writing.missing or number_parts(word) is not None


def recognised(table: pd.DataFrame, writing: Writing, expected: Expected, clocks: Collection[str] = ()) -> Stored:
    """Return how the text columns of a table are written; those that are expected as text are not looked at.

    `clocks` are columns of times of day that are hours already.

    A file that could hold numbers as such, and has them as text, may use them as names, so plain digits stay text.

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
    expected = with_sets(expected)
    known = {*expected.numbers, *expected.notations} | ({*table.columns} if writing.date_format else set())
    names = [one for one in table.columns if expected.uses(one) and one not in expected.text and one not in known]
    notes = {name: _plain_note(name, table[name], writing) for name in names if kind_of(table[name]) == "text"}
    plain = [name for name, note in notes.items() if note is not None]
    unused = {*expected.unused, *expected.text, *plain}
    others = replace(expected, text=(), unused=unused)
    found = typed(table.copy(deep=False), writing, others, Shown(clocks=clocks))
    lacking = drop_missing(table[plain], [*writing.missing, *sorted(ERRORS)])
    return Stored(found.notations, (*filter(None, notes.values()), *lacking, *found.notes))


def _plain_note(name: str, column: pd.Series[Any], writing: Writing) -> str | None:
    """Return what to say of text if half of its first words are plain numbers, nothing if not all are; else None."""
    words = Words(column.dropna()[:SAMPLE], writing.missing)
    numbers = [word for word in words.words if is_plain(word)]
    if not numbers or 2 * len(numbers) < len(words.words):
        return None
    if not all(map(is_plain, words.present)):
        return ""
    return f"{name}: text, as in the file, though values such as {numbers[0]!r} are numbers: --numeric {name!r}"


def _lacks(column: pa.ChunkedArray, writing: Writing) -> bool:
    """Return whether some words stand for missing values."""
    return not {*writing.missing, *ERRORS}.isdisjoint(word.strip() for word in column.drop_null().to_pylist())


def parsed(
    rows: pd.DataFrame, notations: Mapping[str, Notation], missing: Sequence[str], expected: Expected | None = None
) -> pd.DataFrame:
    """Return rows with numbers and dates where text has a notation, and without words for missing values.

    Nor have columns that stay text without being expected as such, and are used, what a spreadsheet has for errors.

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
    table, expected = rows.copy(deep=False), expected or Expected()
    drop_missing(table, missing, timed=[name for name, one in notations.items() if isinstance(one, Times)])
    texts = [one for one in rows.columns if expected.uses(one) and pd.api.types.is_string_dtype(rows.dtypes[one])]
    drop_missing(table, [*ERRORS], Expected(only={*texts} - {*notations, *expected.text}))
    return typed(table, Writing(missing=tuple(missing)), Expected(notations=notations, only=frozenset(notations))).table
