"""Codes such as 007 below the rows of a text file that its layout was found in: there they would be read as numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from viva_tensor.tabular.data import IndexArray
from viva_tensor.tabular.word_forms import is_code

if TYPE_CHECKING:
    import pyarrow as pa

OF_ONE_LENGTH = 0.95  # of the values of a column of codes


def suspects(pieces: Iterable[bytes], separator: str, columns: Collection[int]) -> set[int]:
    """Return which columns of numbers seem to hold a code; where it may stand within quotes, any of them may.

    Parameters
    ----------
    pieces : iterable of bytes
        Whole lines of a text.
    separator : str
    columns : collection of int
        The indices of columns that were read as numbers.

    Examples
    --------
    >>> sorted(suspects([b"1,2,a\\n3,4,05\\n", b"5,06,b\\n"], ",", {0, 1}))
    [1]
    >>> sorted(suspects([b'"a, b","1","07"\\n'], ",", {1, 2})), sorted(suspects([b'"a, 05",1,7\\n'], ",", {1, 2}))
    ([2], [1, 2])
    """
    found: set[int] = set()
    for piece in pieces:
        for column in _suspects(b"\n" + piece, separator, columns):
            found |= {column} if column >= 0 else set(columns)
        if len(found) == len(columns):
            break
    return found


def _suspects(text: bytes, separator: str, columns: Collection[int]) -> Iterator[int]:
    """Yield the columns of words that may be codes, and -1 if one may stand within quotes."""
    edge = re.escape(separator).encode() + rb'\s"'
    code = rb"[0-9]+|[1-9]\.(?:19|20)[0-9]{2}|[xX][0-9a-fA-F]+"
    # that it begins with a zero is looked at first, since that finds places fast
    words = re.finditer(rb"0(?<=[%s]0)(?:%s)(?=[%s]|$)" % (edge, code, edge), text)
    at = np.fromiter((word.start() for word in words), np.int64)
    if at.size:
        content = np.frombuffer(text, np.uint8)
        breaks = np.flatnonzero((content == ord("\n")) | (content == ord("\r")))
        start = breaks[np.searchsorted(breaks, at) - 1]
        separators, quotes = (np.flatnonzero(content == ord(one)) for one in (separator, '"'))
        opening, closing, odd = _quotes(content, quotes, breaks, separator)
        within = np.searchsorted(opening, separators) > np.searchsorted(closing, separators)
        column = _count(separators[~within], start, at)
        # the quote right before a word begins it; below a break within quotes, too, others are of an odd number
        column[(_count(quotes, start, at - 1) % 2 == 1) | (_count(odd, start, at) > 0)] = -1
        yield from np.intersect1d(column, [-1, *columns]).tolist()


def _quotes(
    content: npt.NDArray[np.uint8], quotes: IndexArray, breaks: IndexArray, separator: str
) -> tuple[IndexArray, IndexArray, IndexArray]:
    """Return the quotes that open and close, two by two in each line, and those that open where no field begins."""
    first = np.searchsorted(quotes, breaks)
    counts = np.diff(first, append=len(quotes))
    closes = np.arange(len(quotes)) % 2 != np.repeat(first % 2, counts)
    paired = ~closes
    paired[(first + counts - 1)[counts % 2 == 1]] = False
    before = content[quotes - 1]
    begins = np.isin(before, np.array([ord(one) for one in (separator, "\n", "\r", '"')]))
    return quotes[paired], quotes[closes], quotes[~closes & ~begins]


def _count(places: IndexArray, start: IndexArray, end: IndexArray) -> IndexArray:
    """Return how many of some places lie between positions and others."""
    return np.searchsorted(places, end) - np.searchsorted(places, start)


def hold_codes(tables: Iterable[pa.Table], names: Sequence[str]) -> set[str]:
    """Return which text columns hold a code in any of the tables; a month before a year is one where all are such.

    Digits that begin with a zero are codes where nearly all values are as long as they, as zip codes are: elsewhere a
    05 among numbers is a slip.

    Examples
    --------
    >>> import pyarrow as pa
    >>> table = pa.table({"zip": ["80331", "01067"], "m": ["10.2020", "01.2021"], "x": ["02.1999", "02.2999"]})
    >>> sorted(hold_codes([table], ["zip", "m", "x"]))
    ['m', 'zip']
    >>> sorted(hold_codes([table, table.slice(0, 1), pa.table({"zip": ["80333"], "m": ["1.5"]})], ["zip", "m"]))
    ['zip']
    >>> hold_codes([pa.table({"x": ["12", "05", "107", "260"]})], ["x"])
    set()
    """
    import pyarrow.compute as pc

    found: set[str] = set()
    months: set[str] = set()
    others: set[str] = set()
    digits: dict[str, set[int]] = {name: set() for name in names}  # how many those have that begin with a zero
    lengths: dict[str, Counter[int]] = {name: Counter() for name in names}
    for table, name in ((table, name) for table in tables for name in names):
        column = table[name]
        begun = column.filter(pc.match_substring_regex(column, r"^\s*0[\dxX]"))
        for code in filter(is_code, pc.unique(begun).to_pylist()):
            word = code.strip()
            if word.isdigit():
                digits[name].add(len(word))
            else:
                (months if "." in word else found).add(name)
        whole = column.filter(pc.match_substring_regex(column, r"^\s*\d+\s*$"))
        for one in pc.value_counts(pc.utf8_length(pc.utf8_trim_whitespace(whole))).to_pylist():
            lengths[name][one["values"]] += one["counts"]
        # of no values at all, Arrow says neither
        if pc.all(pc.match_substring_regex(column, r"^\s*(0[1-9]|1[0-2])\.(19|20)\d\d\s*$")).as_py() is False:
            others.add(name)
    for name, counts in lengths.items():
        length, count = max(counts.items(), key=lambda one: one[1], default=(0, 0))
        if length in digits[name] and count >= OF_ONE_LENGTH * counts.total():
            found.add(name)
    return found | (months - others)
