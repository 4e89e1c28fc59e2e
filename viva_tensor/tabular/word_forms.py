"""What a word of text looks like: a code, a number as programs write it, a season, or a time with its offset."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[+-]?(?=\.?\d)(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d+)?")
_CODE = re.compile(r"0\d+|0[1-9]\.(19|20)\d\d|0[xX][0-9a-fA-F]+")
_OFFSET = re.compile(r"\d{2}:\d{2}(:\d{2}(\.\d+)?)?\s?(Z|[+-]\d{2}:?\d{2})$")
_SEASON = re.compile(r"(\d{4})[-/](\d{2})")


def is_code(word: str) -> bool:
    """Return whether a word is of digits that begin with a zero, a month before a year, or hexadecimal: no count.

    Examples
    --------
    >>> [is_code(word) for word in ("007", "01.2020", "0x1F", "01.50", "01,5", "0.5", "10.2020")]
    [True, True, True, False, False, False, False]
    """
    return _CODE.fullmatch(word.strip()) is not None


def without_zeros(word: str) -> str:
    """Return a word without the zeros that its digits begin with.

    Examples
    --------
    >>> without_zeros("007"), without_zeros("-00,50"), without_zeros("0")
    ('7', '-0,50', '0')
    """
    return re.sub(r"^(\s*[+-]?)0+(?=\d)", r"\1", word)


def has_offset(word: str) -> bool:
    """Return whether a word ends with a time and its offset from UTC.

    Examples
    --------
    >>> [has_offset(word) for word in ("2024-01-31T10:00Z", "2024-01-31 10:00:00+02:00", "2024-01-31")]
    [True, True, False]
    """
    return _OFFSET.search(word) is not None


def is_season(word: str) -> bool:
    """Return whether a word is a year and the last two digits of the next, as those of seasons and fiscal years are.

    Examples
    --------
    >>> [is_season(word) for word in ("2008/09", "1999-00", "2008/10", "2008-09-01")]
    [True, True, False, False]
    """
    match = _SEASON.fullmatch(word)
    return match is not None and (int(match[1]) + 1) % 100 == int(match[2])


def is_plain(word: str) -> bool:
    """Return whether a word is a number as programs write it, without a leading zero.

    Examples
    --------
    >>> [is_plain(word) for word in ("12", "-1.5e3", "007", "1,5", ".")]
    [True, True, False, False, False]
    """
    return _PLAIN.fullmatch(word) is not None
