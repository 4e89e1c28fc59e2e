"""What a word of text looks like: a code, a number as programs write it, a season, a date or a time with its offset."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[+-]?(?=\.?\d)(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d+)?")
_CODE = re.compile(r"0\d+|0[1-9]\.(19|20)\d\d|0[xX][0-9a-fA-F]+")
_OFFSET = re.compile(r"\d{2}:\d{2}(:\d{2}(\.\d+)?)?\s?(Z|[+-]\d{2}:?\d{2})$")
_SEASON = re.compile(r"(\d{4})[-/](\d{2})")
_MONTHS = """
January jan januar januari janvier janv enero ene gennaio gen janeiro jänner jän
February feb februar februari février fevrier févr fevr fév febrero febbraio fevereiro fev
March mar märz maerz mär mrz mars marzo março marco maart mrt
April apr avril avr abril abr aprile
May mai mayo maggio mag maio mei
June jun juni juin junio giugno giu junho
July jul juli juillet juil julio luglio lug julho
August aug août aout agosto ago augustus
September sep sept septembre septiembre setiembre set settembre setembro
October oct oktober okt octobre octubre ottobre ott outubro out
November nov novembre noviembre novembro
December dec dezember dez décembre decembre déc diciembre dic dicembre dezembro
"""  # in English, and as Germans, French, Spaniards, Italians, Portuguese and Dutch write them
_MONTH_OF = {name: line.split()[0] for line in _MONTHS.strip().splitlines() for name in line.casefold().split()}
_NAME = re.compile(r"([^\W\d_]{3,})\.?")
_ORDINAL = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th|er|º|\.(?= ))")
_OF = re.compile(r"\bdel? ", re.IGNORECASE)


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


def date_in_english(word: str, form: str) -> str:
    """Return a date with the name of its month in English, long for a format with %B and short for others.

    The day has no point or ending behind it, and "de" is left out, unless the format has these.

    Examples
    --------
    >>> date_in_english("11. März 2025", "%d %B %Y"), date_in_english("1er févr. 2024", "%d %b %Y")
    ('11 March 2025', '1 Feb 2024')
    >>> date_in_english("22 de enero de 2024", "%d %b %Y"), date_in_english("Sept. 3rd, 2024", "%b %d, %Y")
    ('22 Jan 2024', 'Sep 3, 2024')
    """

    def named(match: re.Match[str]) -> str:
        month = _MONTH_OF.get(match[1].casefold(), "")
        in_english = match[1].casefold() in (month.casefold(), month[:3].casefold())
        return match[1] if in_english or not month else month if "%B" in form else month[:3]

    word = word if ". " in form else _ORDINAL.sub(r"\1", word)
    return _NAME.sub(named, word if "de " in form else _OF.sub("", word))
