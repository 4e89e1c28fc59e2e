"""Labels of categories and classes, which are one however a program wrote them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from zlib import crc32

import numpy as np

from viva_tensor.tabular.data import MIDNIGHT
from viva_tensor.tabular.notation import is_date, is_time
from viva_tensor.tabular.word_forms import is_plain

WIDENED = 16  # characters or more that a number of float32 mostly has where it is written as one of float64
LONGEST = 40  # characters of a number or a clock
MOMENT = re.compile(r"([\d/-]+)[ Tt](\d{2}:\d{2})(:\d{2})?(\.\d+)?(?: ?([Zz]|[+-]\d{2}:?\d{2}))?")
CLOCK = re.compile(r"(?:(-?\d+) days? \+?)?(-?)(\d+):(\d{2})(?::(\d{2}))?(?:\.(\d+))?")
EXACT = Context(prec=2 * LONGEST, Emax=MAX_EMAX, Emin=MIN_EMIN)
LARGEST = float(np.finfo(np.float32).max)


def index_among(labels: Sequence[str]) -> Callable[[str], int]:
    """Return a function that gives the index of a label: its own, or that of the only one of its form; -1 for others.

    Examples
    --------
    >>> index = index_among(["1", "Red", "red"])
    >>> [index(label) for label in ("1.0", "red", "RED", "2")]
    [0, 2, -1, -1]
    """
    exact = {label: i for i, label in enumerate(labels)}
    forms = Counter(map(normal, labels))
    alike = {normal(label): i for i, label in enumerate(labels) if forms[normal(label)] == 1}
    return lambda label: exact[label] if label in exact else alike.get(normal(label), -1)


def normal(label: str) -> str:
    """Return the form in which labels are one, however a program wrote them: 1 and 1.0, Red and red, 7:30 and 07:30:00.

    Examples
    --------
    >>> normal("1.50"), normal("-0.0"), normal("007"), normal(" Red")
    ('1.5', '0', '007', 'red')
    >>> normal("0.10000000149011612")  # the nearest of float32 to 0.1
    '0.1'
    >>> normal("2024-01-31 00:00:00"), normal("07:30"), normal("1 days 02:00:00")
    ('2024-01-31', '7:30:00', '26:00:00')
    >>> normal("2024-01-31T10:30"), normal("2024-01-31T00:00:00.000"), normal("2024-01-31T10:30+0200")
    ('2024-01-31 10:30:00', '2024-01-31', '2024-01-31 08:30:00+00:00')
    """
    word = label.strip()
    if "/" in word and is_date(word.upper()):
        word = word.replace("/", "-")
    if (moment := MOMENT.fullmatch(word)) is not None and is_date(word.upper()):  # effects have it in small letters
        return _moment(*moment.groups(default=""))
    short = len(word) <= LONGEST
    if short and is_time(word) and (clock := CLOCK.fullmatch(word)) is not None:
        return _clock(*clock.groups(default=""))
    if not (short and is_plain(word)):
        return word.casefold()
    try:
        number = Decimal(_of_float32(word)).normalize(EXACT)
    except ArithmeticError:  # 7e1234567890123456789 is no number that anybody meant
        return word.casefold()
    return "0" if not number else f"{number:f}" if abs(number.adjusted()) < LONGEST else str(number)


def _of_float32(word: str) -> str:
    """Return a number with a fraction and as many digits as one of float32 widened, or thirds, in those of float32."""
    if len(word.lstrip("-")) < WIDENED or (number := float(word)).is_integer() or abs(number) > LARGEST:
        return word
    return str(np.float32(number))


def mark_of(label: str) -> int:
    """Return a number of 32 bits that labels of one form share, to recognise many in little memory.

    Examples
    --------
    >>> mark_of("1.0") == mark_of("1"), mark_of("Red") == mark_of("blue")
    (True, False)
    """
    return crc32(normal(label).encode(errors="surrogatepass"))


def _moment(date: str, clock: str, seconds: str, fraction: str, offset: str) -> str:
    """Return a date with a time of day in ISO 8601: the date alone at midnight, in UTC where it says its offset."""
    fraction = fraction.rstrip("0").rstrip(".")
    if not offset:
        return f"{date} {clock}{seconds or ':00'}{fraction}".removesuffix(MIDNIGHT)
    zone = offset.upper().replace("Z", "+00:00")
    try:
        moment = datetime.fromisoformat(f"{date} {clock}{seconds}{zone}").astimezone(UTC)
    except (OverflowError, ValueError):  # before the year 1 or after 9999 in UTC, or in the year 0
        return f"{date} {clock}{seconds or ':00'}{fraction}{zone}"
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction}+00:00"


def _clock(days: str, sign: str, hours: str, minutes: str, seconds: str, fraction: str) -> str:
    """Return a time of day or duration as H:MM:SS with as many hours as it has, and a sign below none."""
    whole = ((24 * int(days or 0) + int(hours)) * 60 + int(minutes)) * 60 + int(seconds or 0)
    parts = 10 ** len(fraction)
    total = whole * parts + int(fraction or 0)
    whole, rest = divmod(abs(total), parts)
    sign = "-" if total < 0 else sign * (total > 0)
    after = f".{rest:0{len(fraction)}}".rstrip("0") if rest else ""
    return f"{sign}{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}{after}"
