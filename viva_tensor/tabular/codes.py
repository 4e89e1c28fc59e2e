"""Codes such as 007: which digits that begin with a zero are such, and where a text file has them among numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from viva_tensor.tabular.data import IndexArray
from viva_tensor.tabular.notation import number_parts
from viva_tensor.tabular.word_forms import is_code, without_zeros

if TYPE_CHECKING:
    import pyarrow as pa

MONTH = re.compile(r"(0[1-9]|1[0-2])\.(19|20)\d\d")
OF_ONE_LENGTH = 0.95  # of the values of a column of codes
FILLERS = ("0", "-1")  # which people write where there is no code
LONG = 4  # digits of codes beside which fillers say nothing; beside shorter ones they may be numbers


class Held(NamedTuple):
    """The columns that hold codes, and notes of those where digits that begin with a zero are numbers."""

    codes: set[str]
    notes: tuple[str, ...]


def slips(words: Iterable[tuple[str, int]]) -> int | None:
    """Return how many values of a column of numbers begin with a zero by a slip, or None if they are codes.

    They are codes where nearly all values are as long as they, as zip codes are, where half begin so, or beside codes
    of another form or words that are no numbers: elsewhere a 05 among numbers is a slip. A month before a year is a
    code if all values are such. Beside these, and digits as long as those of zip codes, 0 and -1 say nothing.

    Parameters
    ----------
    words : iterable of tuple of str and int
        Words and how many rows hold each as a value.

    Examples
    --------
    >>> slips([("12", 3), ("05", 1), ("107", 9)]), slips([("80331", 30), ("01067", 1)]), slips([("05", 1), ("7a", 9)])
    (1, None, None)
    >>> slips([("01.2020", 1), ("10.2020", 8), ("0", 1)]), slips([("01.2020", 1), ("12.5", 8)])
    (None, 1)
    """
    months = others = fillers = 0
    zeros: Counter[int] = Counter()
    lengths: Counter[int] = Counter()
    for word, count in ((word.strip(), count) for word, count in words if count and word.strip()):
        digits, code = word.isdecimal(), is_code(word)
        parts = None if code else number_parts(without_zeros(word))  # behind a sign they say nothing
        # with a letter behind it, as of house numbers, it may be a code, too
        month = MONTH.fullmatch(word) is not None
        if (code and not (digits or month)) or not (code or (parts and not parts["suffix"])):
            return None
        fillers += count if word in FILLERS else 0
        lengths[len(word) if digits else 0] += count if word not in FILLERS else 0
        zeros[len(word)] += count if code and digits else 0
        months, others = months + count * (code and month), others + count * (not month)
    if (months and others == fillers) or _are_codes(zeros, lengths, fillers):
        return None
    return zeros.total() + months


def slips_note(name: str, count: int, total: int) -> str:
    """Return what a person should know of values that begin with a zero and are numbers, for a note of the column.

    Examples
    --------
    >>> slips_note("x", 3, 3000)
    "values that begin with a zero are read as numbers (3 of 3,000); --categorical 'x' reads all as categories"
    """
    few = f"values that begin with a zero are read as numbers ({count:,} of {total:,})"
    return f"{few}; --categorical {name!r} reads all as categories"


def _are_codes(zeros: Counter[int], lengths: Mapping[int, int], fillers: int) -> bool:
    """Return whether digits that begin with a zero are codes; of them and of all but fillers so many have a length."""
    total = sum(lengths.values())
    length = max(lengths, key=lambda one: lengths[one], default=0)
    among = total if length >= LONG else total + fillers
    of_one_length = zeros[length] > 0 and lengths[length] >= OF_ONE_LENGTH * among
    return of_one_length or 0 < total + fillers <= 2 * zeros.total()


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


def hold_codes(tables: Iterable[pa.Table], names: Sequence[str]) -> Held:
    """Return which columns of numbers, read as text, hold a code in any table; a month before a year if all are such.

    Digits that begin with a zero are codes or slips as by :func:`slips`.

    Examples
    --------
    >>> import pyarrow as pa
    >>> table = pa.table({"zip": ["80331", "01067"], "m": ["10.2020", "01.2021"], "x": ["02.1999", "02.2999"]})
    >>> sorted(hold_codes([table], ["zip", "m", "x"]).codes)
    ['m', 'zip']
    >>> sorted(hold_codes([table, table.slice(0, 1), pa.table({"zip": ["80333"], "m": ["1.5"]})], ["zip", "m"]).codes)
    ['zip']
    >>> hold_codes([pa.table({"x": ["12", "05", "107", "260"]})], ["x"]).notes
    ("x: values that begin with a zero are read as numbers (1 of 4); --categorical 'x' reads all as categories",)
    """
    import pyarrow.compute as pc

    found: set[str] = set()
    months: Counter[str] = Counter()  # that begin with a zero
    others: Counter[str] = Counter()  # values that are no months
    zeros: dict[str, Counter[int]] = {name: Counter() for name in names}  # by their length
    lengths: dict[str, Counter[int]] = {name: Counter() for name in names}
    fillers: Counter[str] = Counter()
    for table, name in ((table, name) for table in tables for name in names):
        column = table[name]
        begun = column.filter(pc.match_substring_regex(column, r"^\s*0[\dxX]"))
        for one in pc.value_counts(begun).to_pylist():
            word = one["values"].strip()
            if is_code(word) and word.isdecimal():
                zeros[name][len(word)] += one["counts"]
            elif MONTH.fullmatch(word):
                months[name] += one["counts"]
            elif is_code(word):
                found.add(name)
        whole = column.filter(pc.match_substring_regex(column, r"^\s*\d+\s*$"))
        for one in pc.value_counts(pc.utf8_length(pc.utf8_trim_whitespace(whole))).to_pylist():
            lengths[name][one["values"]] += one["counts"]
        lengths[name][0] += len(column) - column.null_count - len(whole)
        words = pc.utf8_trim_whitespace(column)
        for one, length in zip(FILLERS, (1, 0), strict=True):
            count = pc.sum(pc.equal(words, one)).as_py() or 0
            lengths[name][length] -= count
            fillers[name] += count
        of_month = pc.match_substring_regex(column, rf"^\s*{MONTH.pattern}\s*$")
        others[name] += pc.sum(pc.invert(of_month)).as_py() or 0  # of no values at all, Arrow says neither
    found |= {name for name in months if others[name] == fillers[name]}
    found |= {name for name in names if _are_codes(zeros[name], lengths[name], fillers[name])}
    slipped = {name: zeros[name].total() + months[name] for name in names if name not in found}
    totals = {name: lengths[name].total() + fillers[name] for name in names}
    notes = [f"{one}: {slips_note(one, count, totals[one])}" for one, count in slipped.items() if count]
    return Held(found, tuple(notes))
