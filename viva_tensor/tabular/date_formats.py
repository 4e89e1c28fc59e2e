"""The formats in which text may be dates, and that in which it can be nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from viva_tensor.tabular.notation import Dates
from viva_tensor.tabular.words import Words

MANY = 0.5  # with this share of dates or numbers, that a column is read as text is worth a line
NEARLY_ALL = 0.9  # a column with this share of dates or numbers is one of these, and what does not fit is a fault
MAY_BE = re.compile(r"\d[./ -]+\d+[./ -]+\d|\d[./-]\d{4}|\d.*[^\W\d_]{3}|[^\W\d_]{3}.*\d|\d年")
PROBE = 2000  # words looked at before all of a column are
DAYS = ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y",
        "%d %b %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%a %d %b %Y", "%Y-%m-%d",
        "%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日")  # fmt: skip
MONTHS = ("%m.%Y", "%m/%Y", "%m-%Y", "%b %Y", "%B %Y", "%b-%Y", "%b-%y")
CLOCKS = {  # by their colons
    0: ("", " %I %p", " %I%p"),
    1: (" %H:%M", ", %H:%M", " %I:%M %p", ", %I:%M %p", " %I:%M%p"),
    2: (" %H:%M:%S", ", %H:%M:%S", " %H:%M:%S.%f", " %I:%M:%S %p", ", %I:%M:%S %p", " %I:%M:%S%p"),
}


def clear_formats(words: Words) -> list[str]:
    """Return the only format in which words can be dates, if there is but one: of days, with years of four digits.

    Years of two digits might be days, but not where months come first and some day is beyond 12. Words in ISO 8601,
    which are read beside every format, tell nothing.

    Examples
    --------
    >>> import pandas as pd
    >>> [clear_formats(Words(pd.Series([word]))) for word in ("31.12.2024", "1/2/2024", "31.12.24", "12/31/24")]
    [['%d.%m.%Y'], [], [], ['%m/%d/%y']]
    >>> clear_formats(Words(pd.Series(["2024-12-30", "31.12.2024"])))
    ['%d.%m.%Y']
    """
    fitting = _fitting(_shares(_not_in_iso(words)))
    clear = [one for one in fitting if ("%d" in one and "%Y" in one) or one.startswith("%m/%d/%y")]
    return clear if len(fitting) == 1 else []


def date_hint(words: Words) -> str:
    """Return how to say that text is dates, if it may be.

    Examples
    --------
    >>> import pandas as pd
    >>> date_hint(Words(pd.Series(["31.12.24"])))
    "if values such as '31.12.24' are dates: --date-format '%d.%m.%y'"
    >>> date_hint(Words(pd.Series(["31/12/2024", "12/30/2024", "1/2/2024"])))
    "its values are dates in several formats (67% '%m/%d/%Y', 67% '%d/%m/%Y'); write all of them in one"
    """
    some = _not_in_iso(words)
    shares = _shares(some)
    if fitting := _fitting(shares):
        options = " or ".join(f"--date-format {one!r}" for one in fitting)
        return f"if values such as {some[0]!r} are dates: {options}"
    mixed = ", ".join(f"{share:.0%} {one!r}" for one, share in shares.items() if share >= MANY)
    return f"its values are dates in several formats ({mixed}); write all of them in one" if mixed else ""


def _fitting(shares: Mapping[str, float]) -> list[str]:
    """Return the formats that all words fit, or else nearly all; %B only where %b does not fit, too."""
    best = max(shares.values(), default=0.0)
    fitting = [one for one, share in shares.items() if share == best >= NEARLY_ALL]
    return [one for one in fitting if "%B" not in one or one.replace("%B", "%b") not in fitting]


def _not_in_iso(words: Words) -> list[str]:
    """Return the first words that are no dates in ISO 8601, which are known."""
    some = words.present[:PROBE]
    return [word for word, known in zip(some, Dates().times(some).notna(), strict=True) if not known]


def _shares(some: Sequence[str]) -> dict[str, float]:
    """Return the share of words that fit each format that any fits."""
    first = list(filter(MAY_BE.search, some[:20]))
    if not first or len(first) < NEARLY_ALL * len(some[:20]):
        return {}
    clocks = CLOCKS.get(first[0].count(":"), ())
    formats = [*(MONTHS if "" in clocks else ()), *(day + clock for clock in clocks for day in DAYS)]
    fits = {one: Dates(one).times(some).notna().mean() for one in formats if Dates(one).times(first).notna().any()}
    return {one: share for one, share in fits.items() if share}
