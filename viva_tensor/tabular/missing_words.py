"""Words that stand for missing values in columns of any kind: those that a person names, and marks among classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from viva_tensor.tabular.data import EPOCH, kind_of, labels_of, numbers_of
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.labels import normal
from viva_tensor.tabular.notation import Dates, Times, is_date, is_time
from viva_tensor.tabular.word_forms import has_offset, is_plain
from viva_tensor.tabular.words import MARKS, BoolArray

# whether a word may be a value of a column of some kind, and which values are that
Comparison = tuple[Callable[[str], bool], Callable[["pd.Series[Any]", str], BoolArray]]


def is_mark(label: str) -> bool:
    """Return whether a label of a class is a mark of a missing value, and no word, which may be a class.

    Examples
    --------
    >>> [is_mark(label) for label in ("NA", " n/a", "?", "none", "unknown")]
    [True, True, True, False, False]
    """
    return label.strip().casefold() in MARKS


def marks_are_missing(labels: Collection[str]) -> bool:
    """Return whether marks of missing values are no classes beside these: truths alone, or numbers alone.

    Examples
    --------
    >>> [marks_are_missing(labels) for labels in (["TRUE", "FALSE"], ["0", "1"], ["0", "none"], ["1", "1.0"])]
    [True, True, False, False]
    """
    forms = set(map(normal, labels))
    return len(forms) > 1 and (all(map(is_plain, forms)) or forms == {"true", "false"})


def without_marks(column: pd.Series[Any]) -> tuple[pd.Series[Any], str]:
    """Return a column of classes without marks of missing values beside truths or numbers, and how many there were.

    Examples
    --------
    >>> without_marks(pd.Series(["TRUE", "NA", "FALSE"], name="y"))[1]
    "y: read as missing: 'NA' (1)"
    """
    codes, labels = labels_of(column)
    marked = np.array([*map(is_mark, labels), False], bool)
    others = {label for label, mark in zip(labels, marked[:-1], strict=True) if not mark}
    if not (marked.any() and marks_are_missing(others)):
        return column, ""
    which = marked[codes]  # code -1 finds the last entry
    counts = Counter(labels[code] for code in codes[which])
    told = ", ".join(f"{label!r} ({count:,})" for label, count in counts.items())
    return column.mask(which), f"{column.name}: read as missing: {told}"


def drop_missing(
    table: pd.DataFrame, missing: Sequence[str], expected: Expected | None = None, timed: Collection[str] = ()
) -> list[str]:
    """Make the words for missing values missing in columns of any kind, and tell how many there were.

    Parameters
    ----------
    table : DataFrame
        Is changed.
    missing : sequence of str
    expected : Expected, optional
        What is known of columns; those that are not used stay as they are.
    timed : collection of str
        Columns of times of day, as hours.
    """
    expected, words = expected or Expected(), [word.strip() for word in missing]
    notes = []
    for name in filter(expected.uses, table.columns if words else ()):
        for word, which in _places(table[name], words, name in timed):
            notes.append(f"{name}: read as missing: {word!r} ({which.sum():,})")
            column = table[name]
            if pd.api.types.is_integer_dtype(column):
                column = column.astype("UInt64" if pd.api.types.is_unsigned_integer_dtype(column) else "Int64")
            table[name] = column.mask(which)
    return notes


def _places(column: pd.Series[Any], words: Sequence[str], timed: bool) -> Iterator[tuple[str, BoolArray]]:
    """Yield which values of a column are a word, as text or the number, date or time it stands for, if some are."""
    kind = kind_of(column)
    if kind == "text":
        codes, labels = labels_of(column)
        stripped = [label.strip() for label in labels]
        for word in words:
            if word in stripped:
                yield word, np.array([*(label == word for label in stripped), False])[codes]
    elif kind == "other" and column.dtype == object:  # such as dates beside a word
        texts = column.map(lambda value: value.strip() if isinstance(value, str) else None)
        for word in words:
            if (which := (texts == word).to_numpy(bool)).any():
                yield word, which
        column = column.mask(texts.isin(words))
        kind = kind_of(column)
    comparisons: dict[str, Comparison] = {
        "number": (is_time, _hours_that_are) if timed else (is_plain, _numbers_that_are),
        "duration": (is_time, _hours_that_are),
        "date": (is_date, _times_that_are),
    }
    if kind in comparisons:
        stands_for_one, same = comparisons[kind]
        for word in filter(stands_for_one, words):
            if (which := same(column, word)).any():
                yield word, which


def _hours_that_are(column: pd.Series[Any], word: str) -> BoolArray:
    found: BoolArray = numbers_of(column) == Times().hours([word])[0]
    return found


def _numbers_that_are(column: pd.Series[Any], word: str) -> BoolArray:
    exact = Decimal(word)
    if pd.api.types.is_integer_dtype(column):
        same = column == int(exact) if exact == int(exact) else pd.Series(False, column.index)
    elif pd.api.types.is_float_dtype(column):
        with np.errstate(over="ignore"):
            same = column == np.float64(word).astype(column.to_numpy().dtype)  # as it is where it stands
    else:
        same = (column == exact) | (column == float(word))  # decimals, or numbers of several kinds
    found: BoolArray = same.fillna(False).to_numpy(bool)
    return found


def _times_that_are(column: pd.Series[Any], word: str) -> BoolArray:
    if isinstance(column.dtype, pd.DatetimeTZDtype) and not has_offset(word):
        column = column.dt.tz_localize(None)  # by the clock on the wall
    found: BoolArray = numbers_of(column, EPOCH) == numbers_of(Dates().times([word]), EPOCH)[0]
    return found
