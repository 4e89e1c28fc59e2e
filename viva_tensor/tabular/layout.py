"""Where the table lies in a text file: what separates its columns, and which lines come before its first row."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, zip_longest
from typing import NamedTuple

from viva_tensor.tabular.codes import slips
from viva_tensor.tabular.notation import Convention, is_date, number_parts
from viva_tensor.tabular.word_forms import is_code, is_plain
from viva_tensor.tabular.words import MARKERS

SEPARATORS = (",", ";", "\t", "|")
UNNAMED = "Unnamed: "  # with the index of a column, its name where the file has none
LONGEST_FIELD = (1 << 31) - 1
INNER = 3  # lines within a quoted field that look like rows, if there are two columns; with more one is enough
FEWEST = 3  # rows that tell whether they have names of their own, or units above them
RECORDS = 2000  # looked at
LONGEST_UNIT = 12  # characters
OF_UNITS = re.compile(r"(?<=[^\W\d_])\^?-?[1-9](?!\d)|10\^\d+|/10+")  # digits, as in km/h^2, 10^6 m3 and l/100km
RULE = re.compile(r"-{3,}(\+-{3,})*")  # below the names that psql writes; without a + it may be a word
NO_UNITS = frozenset(("inf", "infinity", "\\n", "true", "false"))
# of columns beside those with units
DESCRIPTIONS = frozenset(("text", "string", "name", "label", "category", "id", "code"))


class Record(NamedTuple):
    """A row of a text file, its first line, counted from 1, the characters before it, and whether it has no text."""

    fields: list[str]
    line: int
    offset: int
    blank: bool = False

    @property
    def filled(self) -> int:
        """How many fields are not empty."""
        return sum(map(bool, map(str.strip, self.fields)))


def is_blank(line: str, fields: Sequence[str]) -> bool:
    """Return whether a line, the last of its fields, has no text; a quote, as of a missing value, is some.

    Examples
    --------
    >>> lines = ["", "  ", '""', '" "', ","]
    >>> [is_blank(line, fields) for line, fields in zip(lines, csv.reader(lines), strict=True)]
    [True, True, False, False, False]
    """
    return len(fields) < 2 and not line.strip(" \t\r\n")


@dataclass(frozen=True)
class Layout:
    """The separator and names of the columns, and where the first row begins.

    Attributes
    ----------
    separator : str
    names : tuple of str
    line, offset : int
        The line of the first row, counted from 1, and the bytes before it in UTF-8.
    notes : tuple of str
        What a person should know: what was left out, and guesses.
    doubt : str
        A field of the header that looks like data, if there is one.
    codes : tuple of str
        Columns with values such as 007 or 01.2020, which name something and are no numbers.
    pointed : bool
        Whether a value has a point that cannot stand between thousands.
    """

    separator: str
    names: tuple[str, ...]
    line: int
    offset: int
    notes: tuple[str, ...] = ()
    doubt: str = ""
    codes: tuple[str, ...] = ()
    pointed: bool = False


def find_layout(sample: str, separators: Sequence[str], header: bool | None, *, footed: bool = False) -> Layout:
    """Return the layout of a file that begins with `sample`; of separators that fit equally well the first is taken.

    Without `header`, the first line with as many fields as most has the names, and lines before it that are blank,
    begin with # or have one field alone are left out; so is a line of units below it. If `header` is true, the first
    line has the names, whatever it looks like; if it is false, the columns are called column1, column2, ... Of a file
    that is `footed`, below whose rows their number stands as psql writes it, one column may be ruled, too.

    Examples
    --------
    >>> layout = find_layout("Sales of May\\n\\nday;price\\n;EUR\\n1;2,5\\n2;7,5\\n3;9\\n4;9\\n", SEPARATORS, None)
    >>> layout.separator, layout.names, layout.line
    (';', ('day', 'price'), 5)
    >>> print(*layout.notes, sep="\\n")
    columns are separated by ';'
    line 1 is not a row and is left out: 'Sales of May'
    line 4 has units and is left out: 'EUR'
    """
    read = ((one, _records(sample, one)) for one in separators)
    separator, records = max(read, key=lambda pair: _fitness(pair[1], header))
    notes = [] if separator == separators[0] else [f"columns are separated by {separator!r}"]
    filled = [record for record in records if not record.blank]
    if not filled:
        return Layout(separator, (), 1, 0)
    if header is False:
        width = _width(filled)
        names = tuple(f"column{i + 1}" for i in range(width))
        offset = len(sample[: filled[0].offset].encode())
        return Layout(separator, names, filled[0].line, offset, tuple(notes), codes=_codes(names, filled))
    at = 0 if header else _header(filled)
    notes += [_left_out(record) for record in filled[:at] if record.filled]
    first, rows = filled[at], filled[at + 1 :]
    fields = [field.strip() for field in first.fields]
    if at or not header:
        fields[0] = fields[0].lstrip("# ") or fields[0]
    if rows and all(len(row.fields) == len(fields) + 1 and not row.fields[-1] for row in rows):
        fields.append("")
    rows, left_out = _without_descriptions(fields, rows, header, footed=footed)
    notes += left_out
    quoted = all(sample.startswith('"', row.offset) for row in rows)
    if _has_row_names(fields, rows) and (quoted or separator != "," or not _has_decimal_commas(rows)):
        notes.append(f"line {first.line} has one name fewer than there are columns: the first column names the rows")
        fields.insert(0, "")
    names = tuple(name or f"{UNNAMED}{i}" for i, name in enumerate(fields))
    doubt = "" if header else next((field for field in fields if is_value(field)), "")
    if rows:
        line, offset = rows[0].line, rows[0].offset
    else:
        line, offset = first.line + 1, len(sample)
    return Layout(
        separator, names, line, len(sample[:offset].encode()), tuple(notes), doubt, _codes(names, rows), _pointed(rows)
    )


class Names(NamedTuple):
    """The names of the columns of a sheet, and where its rows begin.

    Attributes
    ----------
    names : tuple of str
    row : int
        The index of the first row of values.
    notes : tuple of str
        What was left out.
    doubt : str
        A name that looks like data, if there is one.
    """

    names: tuple[str, ...]
    row: int
    notes: tuple[str, ...] = ()
    doubt: str = ""


def find_names(rows: Sequence[Sequence[str]], header: bool | None = None) -> Names:
    """Return the names of the columns of a sheet that begins with `rows`.

    Without `header`, the first row that is not blank has them, or one below titles: the first that has a name for each
    column filled below it, or the first of several cells below rows of a first cell alone. None of its cells is a
    value, most rows from there on have several, and values below it or a blank row above set it apart. If `header` is
    true, the first row that is not blank has the names; if it is false, the columns are called column1, column2, ...

    Examples
    --------
    >>> find_names([["", ""], ["Sales of May", ""], ["day", "price"], ["1", "2.5"]])
    Names(names=('day', 'price'), row=3, notes=("line 2 is not a row and is left out: 'Sales of May'",), doubt='')
    """
    used = [i for i, cells in enumerate(zip(*rows, strict=True)) if any(map(str.strip, cells))]
    records = [Record([row[i].strip() for i in used], line, 0) for line, row in enumerate(rows, 1)]
    filled = [record for record in records if record.filled]
    if not filled:
        return Names((), 0)
    if header is False:
        return Names(tuple(f"column{i + 1}" for i in range(len(rows[0]))), filled[0].line - 1)
    names = filled[0] if header else _names_of_sheet(records)
    below = [record for record in filled if record.line > names.line]
    notes = [_left_out(record) for record in filled if record.line < names.line]
    row = names.line
    kept, left_out = _without_descriptions(names.fields, below, header)
    notes += left_out
    if left_out:
        row = below[len(below) - len(kept) - 1].line
    cells = dict(zip(used, names.fields, strict=True))
    doubt = "" if header else next(filter(is_value, names.fields), "")
    return Names(tuple(cells.get(i) or f"{UNNAMED}{i}" for i in range(len(rows[0]))), row, tuple(notes), doubt)


def _names_of_sheet(records: Sequence[Record]) -> Record:
    """Return the row of names: one below titles that stands apart from them, or the first that is not blank."""
    first = next(record for record in records if record.filled)
    several = next((record for record in records if record.filled > 1), first)
    titles = all(record.fields[0] for record in records[: several.line - 1] if record.filled)
    for names in (records[_header(records)], several if titles else first):
        above, below = records[first.line - 1 : names.line - 1], records[names.line :]
        wide = [record.filled > 1 for record in below if record.filled]
        apart = any(not record.filled for record in above) or any(is_value(one) for row in below for one in row.fields)
        if names.line > first.line and apart and sum(wide) >= len(wide) / 2 and not any(map(is_value, names.fields)):
            return names
    return first


def _left_out(record: Record) -> str:
    return f"line {record.line} is not a row and is left out: {_shown(record.fields)}"


def _without_descriptions(
    names: Sequence[str], rows: list[Record], header: bool | None, *, footed: bool = False
) -> tuple[list[Record], list[str]]:
    """Return rows without those below the names that say what columns hold, and notes of these."""
    line = "".join(rows[0].fields).strip() if rows else ""
    if RULE.fullmatch(line) and (footed or "+" in line):
        return rows[1:], [f"line {rows[0].line} is ruled and is left out: {_shown(rows[0].fields)}"]
    for count, row in enumerate(rows[:2], 1):  # of Qualtrics a line of questions and one of their identifiers
        if row.filled and all(field.strip().startswith('{"ImportId"') for field in row.fields if field.strip()):
            lines = " and ".join(str(one.line) for one in rows[:count])
            return rows[count:], [f"questions and identifiers of Qualtrics are left out, which begin in line {lines}"]
    if header is None and _has_units(names, rows):
        return rows[1:], [f"line {rows[0].line} has units and is left out: {_shown(rows[0].fields)}"]
    return rows, []


def _has_row_names(names: Sequence[str], rows: Sequence[Record]) -> bool:
    """Return whether rows have a name before their values, as R writes them: words or 1, 2, 3, ..., each once."""
    if len(rows) < FEWEST or any(len(row.fields) != len(names) + 1 for row in rows):
        return False
    first, *columns = _columns(rows)
    words = [top != "" and not is_value(top) and top.casefold() not in MARKERS for top, *_ in columns]
    if any(word and all(map(is_value, rest)) for word, (_, *rest) in zip(words, columns, strict=True)):
        return False  # the first row has the names, below a title
    counted = [str(i + 1) for i in range(len(first))]
    return len({*first}) == len(first) and (first == counted or not any(map(is_value, first)))


def _has_decimal_commas(rows: Sequence[Record]) -> bool:
    """Return whether commas between columns may stand before decimals, those after the names of rows left aside."""
    return any(
        all(one.lstrip("+-").isdecimal() and two.isdecimal() for one, two in zip(before, after, strict=True))
        for before, after in pairwise(_columns(rows)[1:])
    )


def _columns(rows: Sequence[Record]) -> list[list[str]]:
    return [[field.strip() for field in fields] for fields in zip(*(row.fields for row in rows), strict=True)]


def _pointed(rows: Sequence[Record]) -> bool:
    fields = (field.strip().lstrip("+-") for row in rows for field in row.fields)
    grouped = Convention(",", ".")
    return any(is_plain(field) and "." in field and not grouped.fits(field) for field in fields)


def _codes(names: Sequence[str], rows: Sequence[Record]) -> tuple[str, ...]:
    columns = zip_longest(*(row.fields for row in rows), fillvalue="")
    named = [(name, fields) for name, fields in zip(names, columns, strict=False) if any(map(is_code, fields))]
    # slips are read as numbers until all rows are looked at
    return tuple(name for name, fields in named if slips(Counter(fields).items()) is None)


def _records(sample: str, separator: str) -> list[Record]:
    consumed = 0

    def lines() -> Iterator[str]:
        nonlocal consumed
        for line in io.StringIO(sample, newline=""):
            consumed += len(line)
            yield line

    records = []
    with long_fields():
        reader = csv.reader(lines(), delimiter=separator)
        line, offset = 1, 0
        for fields in reader:
            records.append(Record(fields, line, offset, is_blank(sample[offset:consumed], fields)))
            line, offset = reader.line_num + 1, consumed
            if len(records) == RECORDS:
                break
    return records


def _width(records: Sequence[Record]) -> int:
    """Return how many fields most records have."""
    counts = Counter(len(record.fields) for record in records)
    return max(counts, key=lambda width: (counts[width], width))


def _fitness(records: Sequence[Record], header: bool | None) -> tuple[bool, float, float, int]:
    """Return how well a separator divides records: the names, the share of equal width, and of fields that are values.

    What is within fields, such as 1;4;7, may have one width below names that have none. Of separators that are alike in
    all that, the one whose names stand first is better.
    """
    some = [record for record in records if not record.blank]
    width = _width(some) if some else 1
    if width == 1:
        return False, 0.5, 0.0, 0
    at = 0 if header is not None else _header(some)
    named = header is False or len(some[at].fields) > 1
    of_width = [record for record in some if len(record.fields) == width]
    fields = [field for record in of_width[1:] for field in record.fields]
    return named, round(len(of_width) / len(some), 2), sum(map(is_value, fields)) / max(len(fields), 1), -at


def _header(records: Sequence[Record]) -> int:
    """Return the index of the record with the names: usually the first, or one below titles and comments.

    It has a name for each column that is filled below it.
    """
    width = _width(records)
    last = _last_filled(records)
    columns = len(last)
    for i, record in enumerate(records):
        below = records[i + 1] if i + 1 < len(records) else None
        comment = record.fields[0].startswith("#") and width > 1
        if comment and len(record.fields) == width and below is not None and any(map(is_value, below.fields)):
            return i
        if comment:
            continue
        # a few names in a late row are those of a sparse table's end
        whole = record.filled >= columns or (record.filled > 1 and 2 * i < len(records))
        named = whole and len(record.fields) == width and _names_columns(record.fields, i, last)
        if named or below is None or not (columns > 1 and _is_title(record, below, columns)):
            break
    else:
        return 0
    others = [one for one in records[:i] if not one.fields[0].startswith("#")]
    return i if named or not others else 0


def _is_title(record: Record, below: Record, columns: int) -> bool:
    """Return whether a row fills too few columns to have their names: half, or not all if the next row is blank."""
    return record.filled <= max(1, columns // 2) or (record.filled < columns and not below.filled)


def _last_filled(records: Sequence[Record]) -> dict[int, int]:
    """Return the index of the last record that fills each column, of those that one fills."""
    return {c: i for i, record in enumerate(records) for c, field in enumerate(record.fields) if field.strip()}


def _names_columns(fields: Sequence[str], index: int, last: Mapping[int, int]) -> bool:
    """Return whether fields have no value, and one that is filled for each column with something below."""
    gaps = any(last.get(c, -1) > index for c, field in enumerate(fields) if not field.strip())
    return not (gaps or any(map(is_value, fields)))


def _has_units(names: Sequence[str], rows: Sequence[Record]) -> bool:
    """Return whether the first row has units: no value where all others have one, and nothing that others have too."""
    if len(rows) < 1 + FEWEST or any(len(row.fields) != len(names) for row in rows):
        return False
    units = 0
    for name, first, *others in zip(names, *(row.fields for row in rows), strict=True):
        unit, rest = first.strip(), [field.strip() for field in others if field.strip()]
        of_values = bool(rest) and all(is_value(field) or field.casefold() in MARKERS for field in rest)
        if unit and not (name and _may_be_unit(unit, rest, of_values)):
            return False
        units += bool(unit) and of_values
    return units > 0


def _may_be_unit(unit: str, rest: Sequence[str], of_values: bool) -> bool:
    """Return whether a cell may be a unit, above values such as numbers, or above text."""
    if len(unit) > LONGEST_UNIT or unit in rest:
        return False
    if of_values:
        odd = is_value(unit) or unit.casefold() in MARKERS or unit.lstrip("+-").casefold() in NO_UNITS
        return not odd and not any(map(str.isdigit, OF_UNITS.sub("", unit)))
    described = unit.casefold() in DESCRIPTIONS or (unit[0] in "([" and unit[-1] in ")]")
    words = any(map(str.isalpha, unit)) and not described
    # words stand above dates and times, as hh:mm does, but above other words they are one of them
    others = any(not any(map(str.isdigit, field)) for field in rest)
    return not rest or not (any(map(str.isdigit, unit)) or (words and others))


@lru_cache(maxsize=4096)  # a few lines are looked at with every separator, and again for names and units
def is_value(field: str) -> bool:
    """Return whether a field is a number or date, and so no name.

    Examples
    --------
    >>> is_value(" 2,5"), is_value("2024-01-31"), is_value("m2")
    (True, True, False)
    """
    word = field.strip()
    return number_parts(word) is not None or is_date(word)


def _shown(fields: Sequence[str]) -> str:
    text = ", ".join(field.strip() for field in fields if field.strip())
    return repr(text if len(text) <= 60 else text[:60] + "...")


@contextmanager
def long_fields() -> Iterator[None]:
    """Let the module csv read fields of any length."""
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)
