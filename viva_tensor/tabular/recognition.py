"""Recognising what the text columns of a file hold: numbers, dates, times, or text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from viva_tensor.tabular.codes import slips, slips_note
from viva_tensor.tabular.data import DataError, IndexArray, check_sequence
from viva_tensor.tabular.date_formats import MANY, NEARLY_ALL, PROBE, clear_formats, date_hint
from viva_tensor.tabular.notation import (
    CONVENTIONS,
    ISO,
    Convention,
    Dates,
    Notation,
    Numbers,
    Times,
    is_scale,
    is_side,
    number_parts,
    same_unit,
)
from viva_tensor.tabular.word_forms import has_offset, is_code, is_season
from viva_tensor.tabular.words import MARKERS, BoolArray, Words, is_total, without_zeros_in

OF_LAKHS = re.compile(r"\d{1,2},\d\d,\d{3}")  # or three numbers in a list


@dataclass(frozen=True)
class Writing:
    """What a user says about how values are written; empty where it is for the library to find out.

    Attributes
    ----------
    missing : tuple of str
        Words that stand for a missing value, in any column.
    decimal, thousands : str
        Characters before decimals and between thousands.
    date_format : str
        The format of dates, as for ``strptime``, in all columns of them; those of ISO 8601 are known in any case.
    """

    missing: tuple[str, ...] = ()
    decimal: str = ""
    thousands: str = ""
    date_format: str = ""

    def __post_init__(self) -> None:
        check_sequence("words", missing=self.missing)
        if self.decimal not in ("", ".", ","):
            raise DataError(f"the decimal mark is '.' or ',', not {self.decimal!r}")
        if len(self.thousands) > 1 or self.thousands.isalnum():
            raise DataError(f"thousands are separated by one character such as ',', not {self.thousands!r}")
        if self.thousands and self.thousands == self.decimal:
            raise DataError(f"the decimal mark and the thousands separator cannot both be {self.decimal!r}")

    @property
    def point(self) -> str:
        """The character before decimals that goes with these options."""
        return self.decimal or ("," if self.thousands == "." else ".")

    def or_else(self, other: Writing) -> Writing:
        """Return what is said here, and of what is left open here what is said in another."""
        decimal, thousands = self.separators(other.decimal, other.thousands)
        return Writing(self.missing or other.missing, decimal, thousands, self.date_format or other.date_format)

    def separators(self, decimal: str, thousands: str) -> tuple[str, str]:
        """Return what stands before decimals and between thousands, by what was before and what is said here.

        If what is said of one was the other before, they change places.

        Examples
        --------
        >>> Writing(decimal=".").separators(",", "."), Writing(decimal=".").separators(",", " ")
        (('.', ','), ('.', ' '))
        """
        new = self.decimal or decimal, self.thousands or thousands
        if new[0] and new[0] == new[1]:
            other = ".,".replace(new[0], "")
            return (new[0], other) if self.decimal else (other, new[1])
        return new

    def conventions(self) -> tuple[Convention, ...]:
        """Return the conventions that remain possible, the plainest first."""
        if self.thousands:
            return (Convention(self.point), Convention(self.point, self.thousands))
        return tuple(one for one in CONVENTIONS if self.decimal in ("", one.decimal))


def overruled(notation: Notation, writing: Writing) -> Notation:
    """Return a notation with what a user says of it."""
    notation = replace(notation, missing=(*notation.missing, *writing.missing))
    if isinstance(notation, Dates):
        return replace(notation, format=writing.date_format or notation.format)
    if isinstance(notation, Times):
        return notation
    decimal, thousands = writing.separators(notation.decimal, notation.thousands)
    return replace(notation, decimal=decimal, thousands=thousands)


class AmbiguousNumbers(DataError):
    """Numbers whose commas may stand before decimals or between thousands."""


class Recognised(NamedTuple):
    """How a column is written (None: as text), a line about it for the user, and the decimal separator it shows."""

    notation: Notation | None
    note: str = ""
    decimal: str = ""


def recognise_all(
    columns: Mapping[str, pd.Series[Any]], writing: Writing, decimals: Collection[str] = ()
) -> dict[str, Recognised]:
    """Return how each text column of a file is written; columns that leave it open follow the others.

    `decimals` are what columns that are no text show to stand before decimals; text columns tell more surely.

    Raises
    ------
    DataError
        If a value does not fit its column, or a comma can be read in two ways and no other column tells.
    """
    found: dict[str, Recognised] = {}
    for name, column in columns.items():
        with suppress(AmbiguousNumbers):
            found[name] = recognise(name, column, writing)
    shown = {one.decimal for one in found.values() if one.decimal} or set(decimals)
    told = next(iter(shown)) if len(shown) == 1 else ""
    again = {name: recognise(name, columns[name], writing, told) for name in columns if name not in found}
    if told == "," and "." not in decimals:  # then 1.234 is a thousand and more, in all columns that leave it open
        numbers = [name for name, one in found.items() if isinstance(one.notation, Numbers) and not one.decimal]
        again |= {name: _with_commas(found[name], recognise(name, columns[name], writing, told)) for name in numbers}
    return {name: again.get(name) or found[name] for name in columns}


def _with_commas(found: Recognised, again: Recognised) -> Recognised:
    """Return how numbers that left it open are written where others have commas before decimals."""
    if not isinstance(again.notation, Numbers) or again.notation.decimal != ",":
        return found
    if again.notation.thousands:
        return again
    # of digits alone, those of other files may have points between thousands
    return found._replace(notation=replace(again.notation, thousands="."))


def recognise(name: str, column: pd.Series[Any], writing: Writing, decimal: str = "") -> Recognised:
    """Return how a text column is written; `decimal` decides where two readings are possible.

    A column in which at least nine of ten values are numbers, dates or times is one of these.

    Raises
    ------
    DataError
        If such a column holds other words than those for a missing value.
    AmbiguousNumbers
        If a comma can be read in two ways and there is no `decimal`.

    Examples
    --------
    >>> recognise("price", pd.Series(["1,200.5", "950.5", "n/a"]), Writing()).note
    "price: numbers with ',' between thousands, missing where they say 'n/a' (1); row 0 has '1,200.5'"
    >>> recognise("cut", pd.Series(["Fair", "Ideal", "n/a"]), Writing())
    Recognised(notation=None, note='', decimal='')
    """
    words = Words(column, writing.missing)
    season = _season(words)
    asked = [writing.date_format] if writing.date_format else []
    usual = [] if season else [*([] if asked else clear_formats(words)), ISO]
    notations: list[Dates | Times] = [*map(Dates, [*asked, *usual]), Times()]
    for one in notations:
        if found := _of_clock_or_calendar(name, words, one):
            return found
    rows = words.rows
    share = _share(words, _fit_numbers)
    code = next(filter(is_code, words.present), "")
    if code and share + _share(words, lambda some, _: np.array(list(map(is_code, some)), bool)) >= MANY:
        if (slipped := slips(zip(words.words, rows.tolist(), strict=True))) is not None:
            again = recognise(name, without_zeros_in(column), writing, decimal)
            note = f"{again.note}; {slips_note(name, slipped, rows.sum())}"
            return again._replace(note=note) if again.notation is not None else again
        zeros = f"begin with a zero; --numeric {name!r} reads them as numbers"
        note = f"{name}: text, since values such as {code!r} {zeros if code.isdigit() or '.' in code else 'are codes'}"
        return Recognised(None, "; ".join(filter(None, [note, _date_hint(words, writing)])))
    if share >= MANY and not writing.thousands and (example := _may_be_lists(words)):
        hint = f"values such as {example!r} may be lists; with --thousands , they are numbers"
        return Recognised(None, f"{name}: text, since {hint}")
    if share >= NEARLY_ALL:
        notation, shown = _number_notation(name, words, writing, decimal)
        fits = np.array([notation.value(word) is not None for word in words.words], bool)
        fits &= _in_unit([number_parts(word) for word in words.words], notation.suffix)
        return _described(name, words, notation, fits)._replace(decimal=shown)
    if share >= MANY:
        return Recognised(None, f"{name}: text, though {share:.0%} of its values are numbers{_two_scales(words)}")
    hint = f"values such as {season!r} are a year and the next" if season else _date_hint(words, writing)
    return Recognised(None, f"{name}: text; {hint}" if hint else "")


def _date_hint(words: Words, writing: Writing) -> str:
    """Return how to say that text is dates, if it may be and no format was said."""
    return "" if writing.date_format else date_hint(words)


def _may_be_lists(words: Words) -> str:
    """Return the first of several words if each has commas as numbers of lakhs have, and lists may have; else ""."""
    present = words.present
    return present[0] if present and all(map(OF_LAKHS.fullmatch, present)) else ""


def _season(words: Words) -> str:
    """Return the first of several words that are each a year and the next, which as months would be dates; else ""."""
    present = words.present
    return present[0] if len(present) > 1 and all(map(is_season, present)) else ""


def _of_clock_or_calendar(name: str, words: Words, notation: Dates | Times) -> Recognised | None:
    """Return what a column is recognised as if many of its values fit a notation."""

    def fit(some: Sequence[str]) -> BoolArray:
        times = notation.read(some) if isinstance(notation, Dates) else notation.hours(some)
        return np.asarray(pd.notna(times), bool)

    # those in ISO 8601 alone have no format
    if isinstance(notation, Dates) and notation.format != ISO and not notation.times(words.present).notna().any():
        return None
    share = _share(words, lambda some, _: fit(some))
    if share >= NEARLY_ALL:
        return _described(name, words, notation, fit(words.words))
    return Recognised(None, f"{name}: text, though {share:.0%} of its values are {notation}") if share >= MANY else None


def _share(words: Words, fit: Callable[[Sequence[str], IndexArray], BoolArray]) -> float:
    """Return the share of the rows with a value whose word fits; 0 if some of many words show that few do."""
    counts, step = words.rows, len(words.words) // PROBE
    if step > 1 and np.mean(fit(words.words[::step], counts[::step]) | words.absent[::step]) < MANY / 2:
        return 0.0
    return float(counts[fit(words.words, counts)].sum() / counts.sum()) if counts.any() else 0.0


def _described(name: str, words: Words, notation: Notation, fits: BoolArray) -> Recognised:
    """Return a notation with the words that mean missing, or raise if another word does not fit."""
    misfits = ~fits & ~words.absent
    if misfits.any():
        first = int(np.flatnonzero(misfits)[0])
        word = words.words[first]
        hint = f"if {word!r} means missing: --missing {word!r}, if all are categories: --categorical {name!r}"
        if is_total(word) and misfits.sum() == 1 == words.counts[first] and words.codes[words.codes >= 0][-1] == first:
            hint = "the last row seems to be a total: remove it from the table"
        raise DataError(
            f"column {name!r} holds {notation}, but not {words.example(misfits)}{_two_scales(words)}; {hint}"
        )
    counts = words.counts
    taken = {words.words[i]: int(counts[i]) for i in np.flatnonzero(words.absent) if words.words[i]}
    own = tuple(word for word in taken if word.casefold() not in MARKERS)
    said = [*["as hours"] * isinstance(notation, Times), *_in_iso(words, notation), *_without_affix(words, notation)]
    if taken:
        said.append(f"missing where they say {', '.join(f'{word!r} ({count:,})' for word, count in taken.items())}")
    if any(word.startswith("(") for word in words.words):
        said.append("negative in parentheses")
    if isinstance(notation, Dates) and len(set(map(has_offset, words.present))) == 2:
        said.append("times without an offset are taken as UTC")
    value, row = words.first(~words.absent)
    note = f"{name}: {', '.join([str(notation), *said])}; row {row} has {value}"
    return Recognised(replace(notation, missing=own), note)


def _in_iso(words: Words, notation: Notation) -> list[str]:
    """Return how many dates are in ISO 8601 where others are in another format."""
    if not isinstance(notation, Dates) or notation.format == ISO:
        return []
    count = words.rows[Dates().times(words.words).notna().to_numpy()].sum()
    return [f"{count:,} in ISO 8601"] if count else []


def _without_affix(words: Words, notation: Notation) -> list[str]:
    """Return how many values lack the currency or unit that others have beside them, if some do."""
    if not isinstance(notation, Numbers):
        return []
    lines = []
    for group, affix in (("prefix", notation.prefix), ("suffix", notation.suffix)):
        parts = [number_parts(word) if affix else None for word in words.words]
        lacking = words.rows[np.array([match is not None and not match[group] for match in parts], bool)].sum()
        lines += [f"{lacking:,} without {affix!r}"] if lacking else []
    return lines


def _two_scales(words: Words) -> str:
    """Return examples of numbers with and without the word that scales them, if there are both."""
    parts = [number_parts(word) for word in words.words]
    suffix = _suffix(parts, words.rows)
    same = _in_unit(parts, suffix) & np.array([match is not None for match in parts], bool)
    signs = _sides(parts)
    scaled = [
        match is not None and any(is_scale(one) or one in signs for one in (match["suffix"] or "", suffix))
        for match in parts
    ]
    others = np.array(scaled, bool) & ~same & ~words.absent
    if not (others.any() and same.any()):
        return ""
    (other, row), (usual, usual_row) = words.first(others), words.first(same & ~words.absent)
    sides = [match["suffix"] for match in parts if match is not None and match["suffix"] in signs]
    wanted = (
        f"if {sides[0]!r} is a sign, write it as '-' or '+' before the number" if sides else "all must have one scale"
    )
    return f"; row {row} has {other}, row {usual_row} {usual}: {wanted}"


def _fit_numbers(words: Sequence[str], rows: IndexArray) -> BoolArray:
    """Return which words, each of so many rows, may be numbers, without a unit or with that of most."""
    parts = [number_parts(word) for word in words]
    written = [match is not None and any(one.fits(match["body"].strip()) for one in CONVENTIONS) for match in parts]
    return np.array(written, bool) & _in_unit(parts, _suffix(parts, rows))


def _in_unit(parts: Sequence[Any], suffix: str) -> BoolArray:
    """Return which numbers are in a unit, or say the same without it; what is no number may be."""
    side = suffix in _sides(parts)
    return np.array([match is None or same_unit(match, suffix, side=side) for match in parts], bool)


def _sides(parts: Sequence[Any]) -> set[str]:
    """Return the words beside numbers that may be their sign."""
    suffixes = {match["suffix"] for match in parts if match is not None and match["suffix"]}
    return {one for one in suffixes if is_side(one, suffixes)}


def _most_common(parts: Sequence[Any], group: str) -> str:
    counts = Counter(match[group] for match in parts if match is not None and match[group])
    return counts.most_common(1)[0][0] if counts else ""


def _suffix(parts: Sequence[Any], rows: IndexArray) -> str:
    """Return the unit of most words; one that scales, or a sign, only if as many rows have it as have none."""
    suffix = _most_common(parts, "suffix")
    if not is_scale(suffix) and suffix not in _sides(parts):
        return suffix
    counts: Counter[str] = Counter()
    for match, count in zip(parts, rows.tolist(), strict=False):
        counts[(match["suffix"] or "") if match is not None else "no number"] += count
    return suffix if counts[suffix] >= counts[""] else ""


def _number_notation(name: str, words: Words, writing: Writing, decimal: str) -> tuple[Numbers, str]:
    """Return the notation that most values fit, and the decimal separator that they show."""
    parts = [number_parts(word) for word in words.words]
    counts = words.rows
    affixes = _most_common(parts, "prefix"), _suffix(parts, counts)
    bodies = [match["body"].strip() if match else "" for match in parts]
    rows = {
        one: int(counts[np.array([one.fits(body) for body in bodies], bool)].sum()) for one in writing.conventions()
    }
    best = [one for one in rows if rows[one] == max(rows.values())]
    decimals = {one.decimal for one in best}
    separated = [body for body in bodies if "," in body or "." in body]
    if len(decimals) == 2 and decimal:
        best = [one for one in best if one.decimal == decimal]
    elif len(decimals) == 2 and (ambiguous := [body for body in separated if "," in body or any(affixes)]):
        _refuse_two_conventions(name, words, bodies)
        body = ambiguous[0]
        which = np.array([one == body for one in bodies], bool)
        mark = "," if "," in body else "."
        other = ".,".replace(mark, "")
        readings = " or ".join(one.plain(body) for one in (Convention(other, mark), Convention(mark)))
        hint = f"give --thousands {mark} or --decimal {mark}"
        raise AmbiguousNumbers(f"column {name!r} holds {words.example(which)}, which is {readings}; {hint}")
    shown = best[0].decimal if len(decimals) == 1 and any(best[0].decimal in body for body in bodies) else ""
    return Numbers(*best[0], *affixes), shown


def _refuse_two_conventions(name: str, words: Words, bodies: Sequence[str]) -> None:
    """Raise if some numbers can have but a point before decimals, and others but a comma."""
    ways = [{one.decimal for one in CONVENTIONS if one.fits(body)} for body in bodies]
    points, commas = (np.array([way == {mark} for way in ways], bool) for mark in ".,")
    if points.any() and commas.any():
        told = [f"{value} in row {row}" for value, row in (words.first(points), words.first(commas))]
        raise DataError(
            f"column {name!r} holds {told[0]} with a decimal point and {told[1]} with a decimal comma; write all of "
            f"them in one way, or take them as text: --categorical {name!r}"
        )
