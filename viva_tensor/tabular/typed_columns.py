"""Columns of a table that was read, as what they hold: text becomes numbers and dates where it is written as such."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from viva_tensor.tabular.data import DataError, kind_of, label_of, numbers_of
from viva_tensor.tabular.date_formats import clear_formats, date_hint
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.labels import normal
from viva_tensor.tabular.missing_words import drop_missing
from viva_tensor.tabular.notation import ISO, PLAIN, Dates, Notation, Numbers, Times, is_scale, is_side
from viva_tensor.tabular.recognition import Recognised, Writing, recognise, recognise_all
from viva_tensor.tabular.word_forms import is_code, is_plain
from viva_tensor.tabular.words import ERRORS, Words, without_zeros_in

SOME = 0.3  # of integers that are dates, if those that begin with a zero look like none
PROBE = 1000  # of them
BELOW = "since values of other rows begin with a zero or are codes"


class Typed(NamedTuple):
    """A table whose columns hold what they are, how those of text were written, and what a person should know of it.

    `decimals` are what text columns show to stand before decimals.
    """

    table: pd.DataFrame
    notations: dict[str, Notation]
    notes: list[str]
    decimals: set[str]


class Shown(NamedTuple):
    """What a file shows of its columns beside the values that were read.

    Attributes
    ----------
    decimals : collection of str
        What other columns show to stand before decimals.
    codes : collection of str
        Columns that have codes such as 007 in other rows, and so no numbers.
    clocks : collection of str
        Columns of times of day that are hours already.
    """

    decimals: Collection[str] = ()
    codes: Collection[str] = ()
    clocks: Collection[str] = ()


NOTHING_SHOWN = Shown()


def typed(table: pd.DataFrame, writing: Writing, expected: Expected, shown: Shown = NOTHING_SHOWN) -> Typed:
    """Return a table whose text columns of numbers and dates are such.

    Parameters
    ----------
    table : DataFrame
        Is changed.
    writing : Writing
    expected : Expected
    shown : Shown

    Raises
    ------
    DataError
        If a value does not fit its column.
    """
    check_scales(table, expected, shown.clocks)
    notes = drop_missing(table, writing.missing, Expected(only=_mixed_columns(table, expected)))
    of_times = [name for name in table.columns if kind_of(table[name]) == "duration" or _is_of_times(table[name])]
    check_timeless([*of_times, *shown.clocks], expected)
    notations: dict[str, Notation] = dict(expected.notations)
    hours = [name for name in table.columns if name in shown.clocks and expected.uses(name)]
    timed = [*times_as_hours(table, expected), *(name for name in hours if kind_of(table[name]) == "number")]
    notes += [f"{name}: times of day, as hours" for name in timed if name not in expected.text]
    for name in filter(expected.uses, table.columns):
        if name not in expected.text and (name in timed or kind_of(table[name]) == "duration"):
            notations.setdefault(name, Times())
    strings = [
        name
        for name in filter(expected.uses, table.columns)
        if _is_text(table[name]) or (name in expected.notations and kind_of(table[name]) == "text")
    ]
    for name in digit_dates(table, writing, expected):
        notation = expected.notations.get(name)
        table[name] = _digits(table[name], notation.format if isinstance(notation, Dates) else writing.date_format)
        strings.append(name)
    open_columns = {}
    for name in strings:
        if name in expected.notations:
            table[name] = _as_known(table[name], expected.notations[name])
        elif name in expected.text:
            column, note = _without_errors(table[name])
            # a model finds the category of each form itself, and may tell apart what it would make one here
            table[name] = _labels(column, as_written=name in expected.names or expected.only is not None)
            notes += [note] if note else []
        else:
            open_columns[name] = without_zeros_in(table[name]) if name in expected.numbers else table[name]
    found = recognise_all(open_columns, writing, {*shown.decimals, *decimals_told(expected.notations.values())})
    coded = {*shown.codes} - {*expected.numbers}
    for name, one in found.items():
        # with some of its own at hand, it was judged by them
        if name in coded and isinstance(one.notation, Numbers) and not any(map(is_code, Words(table[name]).words)):
            found[name] = one = Recognised(None, f"{name}: text, {BELOW}; --numeric {name!r} reads them as numbers")
        _check_unscaled(table[name], one, expected)
        check_timeless([name] * isinstance(one.notation, Times), expected)
        notes += [*filter(None, [one.note, _apply(table, notations, name, one)])]
    timed += [name for name, one in notations.items() if isinstance(one, Times)]
    notes += drop_missing(table, writing.missing, expected, timed)
    if writing.date_format and not any(writing.date_format == getattr(one, "format", "") for one in notations.values()):
        notes.append(f"no column was taken for dates written as {writing.date_format}")
    return Typed(table, notations, notes, {one.decimal for one in found.values()})


def _mixed_columns(table: pd.DataFrame, expected: Expected) -> list[str]:
    """Return the columns of objects of several kinds, such as times beside words, that are not read as text is.

    Examples
    --------
    >>> from datetime import time
    >>> _mixed_columns(pd.DataFrame({"t": [time(7), "?"], "x": [1.5, "?"], "b": [True, "?"]}), Expected())
    ['t', 'b']
    """
    objects = [name for name in filter(expected.uses, table.columns) if table[name].dtype == object]
    mixed = [name for name in objects if kind_of(table[name]) == "other"]
    return [name for name in mixed if not table[name].dropna().map(lambda value: isinstance(value, str | float)).all()]


class OtherDates(DataError):
    """Dates that are not written as expected; the message says by which option of the command line they are read."""


def _as_known(column: pd.Series[Any], notation: Notation) -> pd.Series[Any]:
    """Return text parsed in its notation; dates also in another format, if it is clear, which else the error names."""
    try:
        return notation.parse(column)
    except DataError as error:
        if not isinstance(notation, Dates):
            raise
        words = Words(column, notation.missing)
        for clear in clear_formats(words):
            return replace(notation, format=clear).parse(column)
        hint = date_hint(words)  # the format that was said is that of the error
        if not hint or repr(notation.format) in hint:
            raise
        raise OtherDates(f"{error}; {hint}") from error


def times_as_hours(table: pd.DataFrame, expected: Expected) -> list[str]:
    """Make times of day hours, or text in columns that are to be text, and return the names of their columns.

    Examples
    --------
    >>> from datetime import time
    >>> table = pd.DataFrame({"a": [time(7, 30), None], "b": 1})
    >>> times_as_hours(table, Expected()), table["a"].tolist()
    (['a'], [7.5, nan])
    """
    timed = [name for name in filter(expected.uses, table.columns) if _is_of_times(table[name])]
    for name in timed:
        if name in expected.text:
            table[name] = table[name].map(label_of, na_action="ignore")
        else:
            table[name] = table[name].map(_hours_since_midnight)
    return timed


def decimals_told(notations: Iterable[Notation]) -> set[str]:
    """Return what stands before decimals by the notations that tell: those with commas before them or in thousands.

    Examples
    --------
    >>> decimals_told([Numbers(",", suffix="€"), Numbers(suffix="kg")]), decimals_told([Numbers(".", ",")])
    ({','}, {'.'})
    """
    return {one.decimal for one in notations if isinstance(one, Numbers) and "," in (one.decimal, one.thousands)}


def check_scales(table: pd.DataFrame, expected: Expected, clocks: Collection[str] = ()) -> None:
    """Raise if a file has plain numbers where those of training were times or had a word that scales, such as '%'.

    Of a data frame the numbers may be such as were read from a file; `clocks` are columns of times that are hours.

    Raises
    ------
    DataError

    Examples
    --------
    >>> check_scales(pd.DataFrame({"t": [7.5]}), Expected(numbers=["t"], notations={"t": Times()}), clocks=["t"])
    """
    for name in filter(expected.uses, table.columns):
        notation = expected.notations.get(name)
        scaled = isinstance(notation, Numbers) and is_scale(notation.suffix)
        if name in clocks or name not in expected.numbers or not (scaled or isinstance(notation, Times)):
            continue
        if kind_of(table[name]) == "number" and (which := np.nan_to_num(numbers_of(table[name])) != 0).any():
            row, suffix = int(np.argmax(which)), repr(getattr(notation, "suffix", ""))
            told = (
                f"holds numbers without {suffix}, such as {table[name].iloc[row]} in row {row}, but had {suffix} in "
                f"training; write {suffix} beside all of them, as text"
                if scaled
                else f"holds plain numbers, such as {table[name].iloc[row]} in row {row}, but held times in training; "
                "write them as H:MM or H:MM:SS"
            )
            raise DataError(f"column {name!r} {told}")


def check_timeless(timed: Iterable[str], expected: Expected) -> None:
    """Raise if one of the columns of durations or times of day is used where a model knows other numbers.

    Raises
    ------
    DataError

    Examples
    --------
    >>> check_timeless(["t"], Expected(timeless=["t"]))
    Traceback (most recent call last):
    viva_tensor.tabular.data.DataError: column 't' holds durations or times of day, but held plain numbers in \
    training; give numbers in the unit used there, such as the column / pd.Timedelta(minutes=1)
    """
    for name in filter(expected.uses, timed):
        if name in expected.timeless:
            raise DataError(
                f"column {name!r} holds durations or times of day, but held plain numbers in training; give numbers "
                "in the unit used there, such as the column / pd.Timedelta(minutes=1)"
            )


def _check_unscaled(column: pd.Series[Any], found: Recognised, expected: Expected) -> None:
    """Raise if a file has a word that scales, such as '%', beside numbers of which a model knows no such word."""
    # without a model, all columns may hold anything, and those said to be numbers may have the word
    if expected.only is None or column.name not in expected.numbers or not isinstance(found.notation, Numbers):
        return
    if is_scale(suffix := found.notation.suffix) or is_side(suffix):
        words = Words(column)
        value, row = words.first(np.array([word.endswith(suffix) for word in words.words]))
        raise DataError(
            f"column {column.name!r} holds numbers with {suffix!r}, such as {value} in row {row}, but had none in "
            "training; write all of them as in the training table"
        )


def typed_again(before: Typed, texts: pd.DataFrame, writing: Writing) -> Typed:
    """Return a table with columns of numbers read once more, from text, where others have commas before decimals.

    There 1.234 may be a thousand and more; a column that holds 1.5, too, cannot be meant so, and shows that in this
    file points stand before decimals.
    """
    found = {name: recognise(name, texts[name], writing, ",") for name in texts.columns}
    pointed = next((name for name, one in found.items() if one.decimal == "."), "")
    for name, one in found.items():
        notation = one.notation if isinstance(one.notation, Numbers) else PLAIN
        words = Words(texts[name])
        points = np.array(["." in word for word in words.words], bool)
        if notation.decimal == "," and pointed and points.any():
            value, row = words.first(points)
            before.notes.append(f"{name}: '.' is read as the decimal mark, as in {pointed}; row {row} has {value}")
            notation = PLAIN
        before.notations[name] = notation
        if notation.decimal == ",":
            before.table[name] = notation.parse(texts[name])
            before.notes.append(one.note)
    return before


def has_decimal_commas(found: Typed) -> bool:
    """Return whether columns have commas before decimals, and none of those that were text a point."""
    written = {one.decimal for one in found.notations.values() if isinstance(one, Numbers) and one != PLAIN}
    return "," in written and "." not in found.decimals


def _apply(table: pd.DataFrame, notations: dict[str, Notation], name: str, found: Recognised) -> str:
    """Make a column what it was found to be, and tell how many values of text are errors of a spreadsheet."""
    if found.notation is not None:
        table[name], notations[name] = found.notation.parse(table[name]), found.notation
        return ""
    table[name], note = _without_errors(table[name])
    return note


def _without_errors(column: pd.Series[Any]) -> tuple[pd.Series[Any], str]:
    """Return text without spaces around it and without errors of a spreadsheet, and how many of these there were."""
    column = column.map(_stripped)
    failed = column.isin(ERRORS)
    counts = [f"{word!r} ({count:,})" for word, count in column[failed].value_counts().items()]
    if not counts:
        return column, ""
    return column.mask(failed), f"{column.name}: read as missing: {', '.join(counts)}"


def digit_dates(table: pd.DataFrame, writing: Writing, expected: Expected) -> list[str]:
    """Return the columns of integers that are dates, such as 20241231 or 202412.

    Some may lack a zero that they begin with.
    """
    known = {name: one for name, one in expected.notations.items() if isinstance(one, Dates) and one.format != ISO}
    parts = re.findall("%.", writing.date_format)
    # a year alone would fit any number of four digits
    asked = Dates(writing.date_format) if sum(part in ("%Y", "%y", "%m", "%d") for part in parts) > 1 else None
    least, width = _widths(writing.date_format)
    found = []
    for name in table.columns:
        if not (expected.uses(name) and pd.api.types.is_integer_dtype(table[name])):
            continue
        if name in known:
            found.append(name)
        elif asked is not None and name not in (*expected.text, *expected.numbers, *expected.notations):
            digits = table[name].dropna()[:PROBE].astype("string").tolist()
            fits = asked.times([word if least <= len(word) <= width else "" for word in digits])
            if fits.notna().mean() > SOME:
                found.append(name)
    return found


def _widths(date_format: str) -> tuple[int, int]:
    """Return how many digits dates of a format have at least, without a zero that they begin with, and at most."""
    parts = re.findall("%.", date_format)
    width = sum(4 if part == "%Y" else 2 for part in parts)
    return width if parts[:1] == ["%Y"] else width - 1, width


def _digits(column: pd.Series[Any], date_format: str) -> pd.Series[Any]:
    """Return integers that are dates as text, with the zero that some of them have lost."""
    words = column.astype("string")
    least, width = _widths(date_format)
    return words.where((words.str.len() != least) | (least == width), "0" + words)


def _is_of_times(column: pd.Series[Any]) -> bool:
    return pd.api.types.infer_dtype(column, skipna=True) == "time"


def _hours_since_midnight(time: Any) -> float:
    return math.nan if pd.isna(time) else time.hour + time.minute / 60 + (time.second + time.microsecond / 1e6) / 3600


def _is_text(column: pd.Series[Any]) -> bool:
    if kind_of(column) == "number":
        return False
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "mixed":
        return bool(column.dropna().map(lambda value: isinstance(value, str | int | float)).all())
    return kind in {"string", "mixed-integer"}


def _stripped(value: Any) -> Any:
    return value.strip() or None if isinstance(value, str) else value


def _labels(column: pd.Series[Any], *, as_written: bool) -> pd.Series[Any]:
    """Return a text column without spaces around its values; numbers in one form, unless one is a code such as 007.

    Nor if two become one by that: they may be versions, such as 1.1 and 1.10.
    """
    words = Words(column)
    stripped = [word.strip() for word in words.written]
    if not as_written and all(is_plain(word) for word in stripped if word):
        forms = [normal(word) for word in stripped]
        stripped = forms if len(set(forms)) == len(set(stripped)) else stripped
    labels = np.array([*(word or None for word in stripped), None], dtype=object)
    return pd.Series(labels[words.codes], index=column.index, name=column.name)
