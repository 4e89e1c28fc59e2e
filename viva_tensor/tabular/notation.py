"""How a column of text writes numbers, dates and times."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.word_forms import date_in_english, has_offset, is_code
from viva_tensor.tabular.words import BoolArray, Words

ISO = "ISO8601"
INT64 = np.iinfo(np.int64)

_CURRENCY = r"[$€£¥₹]|USD|EUR|GBP|CHF|JPY"
_UNIT = r"(?:[%‰°€$£¥₹²³/·]|[^\W\d_]){1,12}"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?)\s*(?P<prefix>{_CURRENCY})?\s*(?P<inner>[+-]?)(?P<body>\d[\d.,' _]*|[.,]\d+)"
    rf"(?P<power>[eE][+-]?\d+)?\s*(?P<suffix>{_UNIT})?"
)
# A value without such a word is another number: 950 beside 1.2k, 0.5 beside 12.5%.
_SCALE = re.compile(
    rf"[%‰]|([kKMGTB]|(?i:tsd|tausend|thousand|mn|mln|mio|million(s|en)?|bn|mrd|billion(s|en)?|milliarden?|milliards?"
    rf"|trillion(s|en)?|lakh|crore|тыс|млн|млрд)|[十百千]?[万萬億亿])({_CURRENCY}|元|円)?|[kKMGT]i?(W|Wh|B|Hz)|(?i:pct|percent|prozent)"
)
# Credit and debit (in German H and S) beside amounts are their sign, and Cr may be crore; one letter alone is a unit.
_SIDES = {"C": "D", "D": "C", "S": "H", "H": "S"}
_ISO_DATE = re.compile(
    r"\d{4}([-/])(0[1-9]|1[0-2])(\1(0[1-9]|[12]\d|3[01])"
    r"([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?\s?(Z|[+-]\d{2}:?\d{2})?)?)?"
)
_TIME = re.compile(r"(-?)(\d+):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?")
_OF_TWELVE = re.compile(r"(0?[1-9]|1[0-2])(:[0-5]\d(?::[0-5]\d(?:\.\d+)?)?)?\s?([AaPp])\.?[Mm]\.?")
_DAYS = re.compile(r"(-?\d{1,9}) days? \+?(\d[\d:.]*)")  # before a clock, as pandas writes durations


class Convention(NamedTuple):
    """The character before decimals, and that between thousands, if there is one."""

    decimal: str
    thousands: str = ""

    def fits(self, body: str) -> bool:
        """Return whether digits and separators are a number in this convention.

        Examples
        --------
        >>> Convention(",", ".").fits("1.234,5"), Convention(".", ",").fits("1.234,5")
        (True, False)
        >>> [Convention(".", ",").fits(body) for body in ("1,00,000.5", "12,34,56,789", "100,00,000", "1,00,00")]
        [True, True, False, False]
        """
        whole, _, decimals = body.partition(self.decimal)
        if (decimals and not decimals.isdigit()) or not (whole or decimals):
            return False
        if not whole or whole.isdigit():
            return True
        first, *groups = whole.split(self.thousands) if self.thousands else [whole]
        if not groups or first.startswith("0") or not all(map(str.isdigit, (first, *groups))):
            return False
        *inner, last = map(len, groups)
        of_three = len(first) <= 3 and all(size == 3 for size in inner)
        # lakhs and crores: groups of two before the last
        of_two = self.thousands == "," and inner != [] and len(first) <= 2 and all(size == 2 for size in inner)
        return last == 3 and (of_three or of_two)

    def plain(self, body: str) -> str:
        """Return digits and separators as Python writes the number.

        Examples
        --------
        >>> Convention(",", ".").plain("1.234,5")
        '1234.5'
        """
        return (body.replace(self.thousands, "") if self.thousands else body).replace(self.decimal, ".")


CONVENTIONS = tuple(
    Convention(decimal, thousands)
    for thousands in ("", ",", ".", "'", " ", "_")
    for decimal in ".,"
    if decimal != thousands
)


def number_parts(word: str) -> re.Match[str] | None:
    """Return sign, prefix, inner sign, body, power and suffix of a word that may be a number in some convention.

    A code such as 007, or a month such as 01.2020, is none.
    """
    match = _parts(word)
    return None if match is None or is_code(match["body"]) else match


def is_scale(suffix: str) -> bool:
    """Return whether a word beside numbers scales them, so that those without it are other numbers.

    Examples
    --------
    >>> [is_scale(suffix) for suffix in ("k", "Mio", "T€", "%", "kg", "€", "")]
    [True, True, True, True, False, False, False]
    """
    return _SCALE.fullmatch(suffix) is not None


def is_side(suffix: str, others: Collection[str] = ()) -> bool:
    """Return whether a word beside numbers, others with `others`, may say credit or debit, and so what their sign is.

    Examples
    --------
    >>> [is_side(suffix) for suffix in ("CR", "Dr", "C", "kg")]
    [True, True, False, False]
    >>> is_side("C", ["D"]), is_side("S", ["C", "H"]), is_side("C", ["F"])
    (True, True, False)
    """
    return suffix.casefold() in ("cr", "dr") or _SIDES.get(suffix) in others


def same_unit(parts: re.Match[str], suffix: str, *, side: bool = False) -> bool:
    """Return whether the parts of a number are in a unit: with it, or without it if that says the same.

    It does not if the unit scales, or is a `side` of an account.

    Examples
    --------
    >>> [same_unit(number_parts(word), "k") for word in ("1.2k", "950", "0", "3M")]
    [True, False, True, False]
    >>> same_unit(number_parts("950"), "kg"), same_unit(number_parts("950"), "CR", side=True)
    (True, False)
    """
    if parts["suffix"]:
        return bool(parts["suffix"] == suffix)
    return not (side or is_scale(suffix)) or not parts["body"].strip("0., ")


def _parts(word: str) -> re.Match[str] | None:
    return _NUMBER.fullmatch(word[1:-1].strip() if word.startswith("(") and word.endswith(")") else word)


@dataclass(frozen=True)
class Numbers:
    """Numbers with separators, and a currency or unit before or after them; in parentheses they are negative.

    `missing` and the words in MARKERS stand for missing values.

    Examples
    --------
    >>> euros = Numbers(decimal=",", thousands=".", suffix="€")
    >>> euros.parse(pd.Series(["1.234,50 €", "n/a", "(7,5 €)"])).tolist()
    [1234.5, nan, -7.5]
    """

    decimal: str = "."
    thousands: str = ""
    prefix: str = ""
    suffix: str = ""
    missing: tuple[str, ...] = ()

    def parse(self, column: pd.Series[Any]) -> pd.Series[Any]:
        """Return text as numbers: integers if all are, without a way through float64, else float64.

        Raises
        ------
        DataError
            If a value is not written so; the message names it and its row.
        """
        # numbers beside text, as in a sheet, have no notation; with decimal commas their text would be another number
        if self.decimal == "," and (numbers := column.map(_is_number).to_numpy(bool)).any():
            texts = self.parse(column.mask(numbers)).astype(np.float64)
            return texts.mask(numbers, pd.to_numeric(column.where(numbers)))
        words = Words(column, self.missing)
        values = [None if absent else self.value(word) for word, absent in zip(words.words, words.absent, strict=True)]
        _refuse_misfits(column, words, np.array([value is not None for value in values], bool), self)
        found = [value for value in values if value is not None]
        if all(isinstance(value, int) and INT64.min <= value <= INT64.max for value in found):
            whole = pd.array([*values, None], dtype="Int64")[words.codes]
            series = pd.Series(whole, index=column.index, name=column.name)
            return series if series.isna().any() else series.astype(np.int64)
        numbers = np.array([*(np.nan if value is None else float(value) for value in values), np.nan])
        return pd.Series(numbers[words.codes], index=column.index, name=column.name)

    def value(self, word: str) -> int | float | None:
        """Return the number that a word stands for, or None if it is not written so; a unit may be missing.

        A word that scales may not, but beside zero. Where numbers are known to be meant, those that begin with a zero
        are such, too.

        Examples
        --------
        >>> Numbers(decimal=",").value("05,50")
        5.5
        """
        parts = _parts(word)
        if word.startswith("(") and parts is not None and parts["sign"] + parts["inner"]:
            return None  # whether that is negative twice, nobody knows
        if parts is None or (parts["prefix"] or self.prefix) != self.prefix or not same_unit(parts, self.suffix):
            return None
        convention, body = Convention(self.decimal, self.thousands), parts["body"].strip()
        if not convention.fits(body):
            return None
        number = ("-" if "-" in (parts["sign"], parts["inner"]) else "") + convention.plain(body)
        value = float(number + (parts["power"] or "")) if parts["power"] or "." in number else _integer(number)
        return -value if word.startswith("(") else value

    def __str__(self) -> str:
        signs = [f"{self.decimal!r} before decimals"] if self.decimal != "." else []
        signs += [f"{self.thousands!r} between thousands"] if self.thousands else []
        signs += [f"{affix!r} beside them" for affix in (self.prefix, self.suffix) if affix]
        return "numbers" + (f" with {' and '.join(signs)}" if signs else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 300 else float(digits)


@dataclass(frozen=True)
class Dates:
    """Dates and times in ISO 8601 (YYYY-MM, YYYY-MM-DD, with a time, with an offset) or in a format of ``strptime``.

    Beside a format, those in ISO 8601 are read, too. Times with an offset become UTC, and are marked so if all have
    one. `missing` and the words in MARKERS stand for missing values.

    Examples
    --------
    >>> Dates("%d.%m.%Y").parse(pd.Series(["31.12.2024", "2023-12-31", "?"])).dt.year.tolist()
    [2024.0, 2023.0, nan]
    """

    format: str = ISO
    missing: tuple[str, ...] = ()

    def parse(self, column: pd.Series[Any]) -> pd.Series[Any]:
        """Return text as times.

        Raises
        ------
        DataError
            If a value is not written so; the message names it and its row.
        """
        words = Words(column, self.missing)
        times = self.read(words.words)
        _refuse_misfits(column, words, times.notna().to_numpy(), self)
        times = times.mask(words.absent)
        values = times.reindex(words.codes)  # code -1 is no label, and so missing
        parsed = pd.Series(values.to_numpy(), index=column.index, name=column.name)
        present = words.present
        return parsed.dt.tz_localize("UTC") if present and all(map(has_offset, present)) else parsed

    def read(self, words: Sequence[str]) -> pd.Series[Any]:
        """Return all words of a column as times; those in ISO 8601, too, if none in the format is another date there.

        Examples
        --------
        >>> Dates("%Y-%d-%m").read(["2024-31-12", "2023-12-30"]).dt.month.tolist()
        [12, 12]
        >>> Dates("%Y-%d-%m").read(["2024-31-12", "2023-12-30", "2024-02-03"]).dt.month.tolist()
        [12.0, nan, 3.0]
        """
        times = self.times(words)
        if self.format == ISO:
            return times
        iso = Dates().times(words)
        doubtful = (times.notna() & iso.notna() & (times != iso)).any()
        return times if doubtful else times.fillna(iso)

    def times(self, words: Sequence[str]) -> pd.Series[Any]:
        """Return words as times, missing where they are not written so."""
        if self.format == ISO:
            words = [word.replace("/", "-") if _ISO_DATE.fullmatch(word) else "" for word in words]
        elif "%b" in self.format or "%B" in self.format:
            words = [date_in_english(word, self.format) for word in words]
        words = ["" if word in ("now", "today") else word for word in words]  # which pandas takes for the present
        times = pd.to_datetime(pd.Series(words, dtype=object), format=self.format, errors="coerce", utc=True)
        return times.dt.tz_localize(None)

    def __str__(self) -> str:
        return "dates" if self.format == ISO else f"dates written as {self.format}"


@dataclass(frozen=True)
class Times:
    """Times of day and durations as H:MM, H:MM:SS or H:MM:SS.S, of any number of hours; they become hours.

    Before them there may be days, as pandas writes durations: 1 days 02:00:00. Behind a time of day there may be AM or
    PM, and then minutes may lack.

    `missing` and the words in MARKERS stand for missing values.

    Examples
    --------
    >>> Times().parse(pd.Series(["7:30", "26:15:36", "-"])).tolist()
    [7.5, 26.26, nan]
    """

    missing: tuple[str, ...] = ()

    def parse(self, column: pd.Series[Any]) -> pd.Series[Any]:
        """Return text as hours.

        Raises
        ------
        DataError
            If a value is not written so; the message names it and its row.
        """
        words = Words(column, self.missing)
        hours = self.hours(words.words)
        _refuse_misfits(column, words, ~np.isnan(hours), self)
        absent = words.absent | np.isin(hours, self.hours(self.missing))  # 00:00 is 0:00:00
        hours = np.append(np.where(absent, np.nan, hours), np.nan)
        return pd.Series(hours[words.codes], index=column.index, name=column.name)

    def hours(self, words: Sequence[str]) -> Float64Array:
        """Return words as hours, NaN where they are not written so.

        Examples
        --------
        >>> Times().hours(["24:00", "-0:30:00", "3:1", "10:61", "930"]).tolist()
        [24.0, -0.5, nan, nan, nan]
        >>> Times().hours(["0 days 00:30:00", "-1 days +23:30:00"]).tolist()
        [0.5, -0.5]
        >>> Times().hours(["12:00 AM", "12:30 pm", "9:15 p.m.", "13:00 PM", "12 AM"]).tolist()
        [0.0, 12.5, 21.25, nan, 0.0]
        """
        return np.array([_hours(_of_day(word)) for word in words], np.float64)

    def __str__(self) -> str:
        return "times"


def _of_day(word: str) -> str:
    """Return a clock of twelve hours as one of 24, and other words as they are."""
    match = _OF_TWELVE.fullmatch(word)
    if match is None:
        return word
    return f"{int(match[1]) % 12 + 12 * (match[3] in 'Pp')}{match[2] or ':00'}"


def _hours(word: str) -> float:
    if (dated := _DAYS.fullmatch(word)) is not None:
        return 24 * int(dated[1]) + _hours(dated[2])
    match = _TIME.fullmatch(word)
    if match is None:
        return np.nan
    sign, hours, minutes, seconds = match.groups()
    total = (3600 * float(hours) + 60 * int(minutes) + float(seconds or 0)) / 3600  # to the bit as of a column of times
    return -total if sign else total


Notation = Numbers | Dates | Times
PLAIN = Numbers()


def _refuse_misfits(column: pd.Series[Any], words: Words, fits: BoolArray, notation: Notation) -> None:
    misfits = ~fits & ~words.absent
    if misfits.any():
        hint = "; write them as H:MM or H:MM:SS" if isinstance(notation, Times) else ""
        raise DataError(f"column {column.name!r} must hold {notation}, not {words.example(misfits)}{hint}")


def notation_to_dict(notation: Notation) -> dict[str, Any]:
    """Return a notation as strings and lists for JSON."""
    return {"kind": type(notation).__name__.lower(), **asdict(notation)}


def notation_from_dict(record: Mapping[str, Any]) -> Notation:
    """Return the notation that `notation_to_dict` described.

    Raises
    ------
    DataError
        If `record` is not such a description.
    """
    try:
        fields = {name: str(value) for name, value in record.items() if name not in ("kind", "missing")}
        kinds: dict[str, Callable[..., Notation]] = {"numbers": Numbers, "dates": Dates, "times": Times}
        return kinds[record["kind"]](**fields, missing=tuple(map(str, record["missing"])))
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"not the description of how a column is written: {record!r}"[:200]) from error


def is_date(word: str) -> bool:
    """Return whether a word is a date in ISO 8601, with or without a time, and in the calendar.

    Examples
    --------
    >>> [is_date(word) for word in ("2024-02-29", "2023-02-29", "2024")]
    [True, False, False]
    """
    return _ISO_DATE.fullmatch(word) is not None and bool(Dates().times([word]).notna().all())


def is_time(word: str) -> bool:
    """Return whether a word is a time of day or a duration as H:MM, H:MM:SS or with fractions of a second.

    One with AM or PM is none here: the labels of models have those as they were written.

    Examples
    --------
    >>> [is_time(word) for word in ("7:30", "26:10:00", "3:1", "2:75")]
    [True, True, False, False]
    """
    return not np.isnan(_hours(word))
