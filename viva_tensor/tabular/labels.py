"""Labels of categories and classes, which are one however a program wrote them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from zlib import crc32

import numpy as np

from viva_tensor.tabular.data import MIDNIGHT
from viva_tensor.tabular.notation import is_date, is_time
from viva_tensor.tabular.word_forms import is_plain, without_zeros

WIDENED = 16  # characters or more that a number of float32 mostly has where it is written as one of float64
MOMENT = re.compile(r"([\d/-]+)[ Tt](\d{2}:\d{2})(:\d{2})?(\.\d+)?")
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
    >>> normal("2024-01-31T10:30"), normal("2024-01-31T00:00:00.000")
    ('2024-01-31 10:30:00', '2024-01-31')
    """
    word = label.strip()
    if (moment := MOMENT.fullmatch(word)) is not None and is_date(word.upper()):  # effects have it in small letters
        date, clock, seconds, fraction = moment.groups(default="")
        return f"{date} {clock}{seconds or ':00'}{fraction.rstrip('0').rstrip('.')}".removesuffix(MIDNIGHT)
    if is_time(word):
        return _clock(word)
    if not is_plain(word) or len(word) > 40:
        return word.casefold()
    number = Decimal(_of_float32(word)).normalize()
    return "0" if not number else f"{number:f}" if abs(number.adjusted()) < 40 else str(number)


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


def _clock(word: str) -> str:
    """Return a time of day or duration as H:MM:SS; with days less than none before it, as it is."""
    days, between, clock = re.sub(r" days? \+?", " days ", word).rpartition(" days ")
    if days.startswith("-"):
        return word
    hours, minutes = without_zeros(clock).split(":", 1)
    hours = str(24 * int(days) + int(hours)) if between else hours
    return f"{hours}:{minutes}" + ":00" * (":" not in minutes)
