"""Reading files into tables: text as people write it, and the formats of spreadsheets, databases and other programs."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from viva_tensor.tabular.data import DataError, Table, one_line
from viva_tensor.tabular.layout import SEPARATORS, Layout, check_quotes, find_layout, repair
from viva_tensor.tabular.notation import ISO, Dates, Notation, Numbers, Words, is_plain, normal
from viva_tensor.tabular.parquet import ParquetRows, data_frame
from viva_tensor.tabular.recognition import Writing, recognise, recognise_all

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE = 1 << 20  # bytes of a text file in which its layout is looked for
PIECE = 1 << 20
TEXT = {"csv": SEPARATORS, "tsv": ("\t", ",", ";", "|"), "txt": ("\t", ",", ";", "|")}
TYPED: dict[str, Callable[[Path], pd.DataFrame]] = {  # formats that know what their columns hold
    "feather": lambda path: data_frame(_feather(path)),
    "json": lambda path: data_frame(_json_records(path)),
    "jsonl": lambda path: data_frame(_json_lines(path)),
    "xlsx": lambda path: pd.read_excel(path, keep_default_na=False, na_values=[""]),
}
COMPRESSED: dict[str, Callable[[Path], Any]] = {
    "gz": gzip.open,
    "bz2": bz2.open,
    "xz": lzma.open,
    "zip": lambda path: _only_member(path),
}
READABLE = ".csv, .tsv, .txt (also as .gz, .bz2, .xz or .zip), .parquet, .feather, .json, .jsonl or .xlsx"
UNREADABLE = (OSError, ValueError, OverflowError, RecursionError, EOFError, NotImplementedError, zlib.error,
              lzma.LZMAError, zipfile.BadZipFile)  # fmt: skip
SIGNATURES = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class Reading:
    """What a user says about a file; what is left open is found out.

    Attributes
    ----------
    separator, encoding : str
        Of a text file; without them, the separator that fits best, and UTF-8 or what a byte order mark says.
    header : bool, optional
        Whether the first line has the names of the columns.
    writing : Writing
        How values are written.
    """

    separator: str = ""
    encoding: str = ""
    header: bool | None = None
    writing: Writing = field(default_factory=Writing)

    def __post_init__(self) -> None:
        if len(self.separator) > 1 or self.separator in ('"', "\n", "\r"):
            raise DataError(f"columns are separated by one character such as ';', not {self.separator!r}")
        try:
            codecs.lookup(self.encoding or "utf-8")
        except (LookupError, ValueError):
            raise DataError(f"no encoding {self.encoding!r}; usual ones are utf-8, cp1252 and latin-1") from None


class Source(NamedTuple):
    """A table that was read, how its text columns are written, and what a person should know about both.

    Attributes
    ----------
    table : DataFrame or ParquetRows
    notations : dict
        The notation of each column that was text in the file and is numbers or dates in the table.
    notes : tuple of str
    doubt : str
        A name that looks like a value, if the file may lack a header.
    """

    table: Table
    notations: Mapping[str, Notation] = {}
    notes: tuple[str, ...] = ()
    doubt: str = ""


def read_table(path: str | Path, text: Collection[str] = ()) -> pd.DataFrame:
    """Read a file into a DataFrame, as :func:`read` does without options.

    Raises
    ------
    DataError
    """
    table = read(path, text=text).table
    return table.rows(0, len(table)) if isinstance(table, ParquetRows) else table


def read(
    path: str | Path,
    reading: Reading | None = None,
    *,
    text: Collection[str] = (),
    notations: Mapping[str, Notation] | None = None,
    whole: bool = True,
) -> Source:
    """Read a file as a table.

    Parameters
    ----------
    path : str or Path
        The suffix tells the format: .csv, .tsv or .txt (also as .gz, .bz2, .xz or .zip), .parquet, .feather, .json,
        .jsonl or .xlsx.
    reading : Reading, optional
    text : collection of str
        Columns of a text file to read as text, even if every value looks like a number.
    notations : mapping, optional
        How columns are written, as found in another file; a value that is written otherwise is an error.
    whole : bool
        If false, the rows of a Parquet file stay there until they are needed.

    Returns
    -------
    Source
        With rows numbered from 0, in the order of the file. Of a text file blank lines are skipped, spaces around
        names and values are dropped, and a row that is too short lacks its last values, which is noted. A text is
        missing only where it is empty, or is a word that ``reading.writing.missing`` names.

    Raises
    ------
    DataError
        If the file is missing, unreadable, empty or of another format, two columns have the same name, a quote is not
        closed, or a value does not fit its column.
    """
    path, reading = Path(path), reading or Reading()
    with _reading(path) as kind:
        if kind in TEXT:
            source = _read_text(path, TEXT[kind], reading, text, notations or {})
        elif kind == "parquet":
            rows = ParquetRows(path)
            source = Source(rows.rows(0, len(rows)) if whole else rows)
        else:
            source = _recognised(TYPED[kind](path), reading.writing, text, notations or {})
    _check_names(path, source.table.columns)
    if not (len(source.table) and len(source.table.columns)):
        raise DataError(f"{path} has no rows")
    return source


def check_file(path: Path) -> str:
    """Return the format of a file, by its suffix.

    Raises
    ------
    DataError
        If there is no such file, or its suffix is not known.
    """
    if os.path.isdir(path):
        raise DataError(f"{path} is a directory; name a file in it, {READABLE}")
    if not os.path.exists(path):
        raise DataError(f"no such file: {path}")
    *_, before, last = ["", "", *path.name.lower().split(".")]
    if (kind := before if last in COMPRESSED else last) in TEXT or (kind == last and kind in {*TYPED, "parquet"}):
        return kind
    raise DataError(f"cannot tell the format of {path}; name a file {READABLE}")


@contextmanager
def _reading(path: Path) -> Iterator[str]:
    """Yield the kind of a file, and turn the errors of reading it into a DataError."""
    kind = check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of openpyxl, about parts of a workbook that hold no data
            yield kind
    except DataError as error:
        if path.name in str(error):
            raise
        raise DataError(f"{path}: {error}") from error
    except ImportError as error:
        wanted = {"xlsx": "pip install openpyxl"}.get(kind, 'pip install "viva-tensor[train]"')
        raise DataError(f"cannot read {path} without {error.name or 'another package'}; {wanted}") from error
    except (
        OSError,
        ValueError,
        EOFError,
        NotImplementedError,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
    ) as error:
        raise DataError(f"cannot read {path} as {kind.upper()}: {one_line(error)}") from error


def _check_names(path: Path, names: pd.Index[str]) -> None:
    if not names.is_unique:
        raise DataError(f"{path} has two columns named {names[names.duplicated()][0]!r}; rename one")


@contextmanager
def _opened(path: Path, encoding: str) -> Iterator[IO[bytes]]:
    """Open a text file as UTF-8 without a byte order mark."""
    with COMPRESSED.get(path.name.lower().rpartition(".")[2], _plain)(path) as file:
        start = file.read(4)
        mark, marked = next(((mark, name) for mark, name in SIGNATURES if start.startswith(mark)), (b"", ""))
        encoding = codecs.lookup(encoding or marked or "utf-8").name
        if encoding == "utf-8":
            file.seek(len(mark))
            yield file
            return
        file.seek(0)
        try:
            yield io.BytesIO(file.read().decode(encoding).encode())
        except UnicodeError as error:
            raise DataError(f"cannot read {path} as {encoding} text: {one_line(error)}") from error


def _plain(path: Path) -> IO[bytes]:
    return path.open("rb")


def _only_member(path: Path) -> IO[bytes]:
    archive = zipfile.ZipFile(path)
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
    if len(names) != 1:
        raise DataError(f"{path} holds {len(names)} files, wanted one; unpack it")
    return archive.open(names[0])


def _feather(path: Path) -> pa.Table:
    import pyarrow.feather

    return pyarrow.feather.read_table(path)


def _json_lines(path: Path) -> pa.Table:
    import pyarrow.json

    return pyarrow.json.read_json(path)


def _json_records(path: Path) -> pa.Table:
    import pyarrow as pa

    records = json.loads(path.read_text(encoding="utf-8"))
    if not (isinstance(records, list) and all(isinstance(record, dict) for record in records)):
        raise DataError(f"cannot read {path}: wanted a list of objects, one for each row")
    names = dict.fromkeys(name for record in records for name in record)
    return pa.table({name: [record.get(name) for record in records] for name in names})


def _read_text(
    path: Path, separators: Sequence[str], reading: Reading, text: Collection[str], notations: Mapping[str, Notation]
) -> Source:
    with _opened(path, reading.encoding) as file:
        _check_bytes(path, file)
        sample = _sample(file)
        if not sample.strip():
            raise DataError(f"{path} is empty")
        layout = find_layout(sample, [reading.separator] if reading.separator else separators, reading.header)
        _check_names(path, pd.Index(layout.names))
        strings = [name for name in layout.names if name in text or _only_as_text(notations.get(name))]
        parsed, notes = _parse(path, file, layout, strings, reading.writing.point)
        doubles = [name for name in parsed.column_names if str(parsed.schema.field(name).type) == "double"]
        table = data_frame(parsed)
        del parsed
        source = _recognised(table, reading.writing, text, notations, {"."} if doubles else set())
        if doubles and reading.writing.point != "," and _decimal_commas(source.notations):
            # 1.234 may mean a thousand then
            again, _ = _parse(path, file, layout, doubles, reading.writing.point)
            source = _again(source, data_frame(again.select(doubles)), reading.writing)
    return source._replace(notes=(*layout.notes, *notes, *source.notes), doubt=layout.doubt)


def _only_as_text(notation: Notation | None) -> bool:
    """Return whether values written so could be taken for other numbers."""
    return (isinstance(notation, Dates) and notation.format != ISO) or (
        isinstance(notation, Numbers) and notation.decimal == ","
    )


def _decimal_commas(notations: Mapping[str, Notation]) -> bool:
    found = {getattr(notation, "decimal", "") for notation in notations.values()}
    return "," in found and "." not in found


def _again(source: Source, texts: pd.DataFrame, writing: Writing) -> Source:
    """Return a table with columns recognised once more, where others have commas before decimals."""
    table, notations, notes = source.table, dict(source.notations), list(source.notes)
    assert isinstance(table, pd.DataFrame)
    for name in texts.columns:
        found = recognise(name, texts[name], writing, ",")
        if found.notation is not None and getattr(found.notation, "decimal", ".") == ",":
            table[name] = found.notation.parse(texts[name])
            notations[name] = found.notation
            notes.append(found.note)
    return source._replace(table=table, notations=notations, notes=tuple(notes))


def _check_bytes(path: Path, file: IO[bytes]) -> None:
    """Raise if a file holds bytes that are no UTF-8 text, and leave it where it was."""
    start = file.tell()
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, lines = start, 1
    while True:
        piece = file.read(PIECE)
        if (found := piece.find(0)) >= 0:
            raise DataError(
                f"cannot read {path}: not text in UTF-8 (byte {offset + found} is NUL); name its --encoding"
            )
        try:
            decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            line = lines + error.object[: error.start].count(b"\n")
            context = error.object[max(0, error.start - 10) : error.start + 10].decode("cp1252", "replace")
            context = " ".join(context.split())
            raise DataError(
                f"cannot read {path}: line {line} is no text in UTF-8; in cp1252 it would read {context!r}: "
                "--encoding cp1252, or another"
            ) from None
        if not piece:
            break
        offset, lines = offset + len(piece), lines + piece.count(b"\n")
    file.seek(start)


def _sample(file: IO[bytes]) -> str:
    """Return the whole lines at the beginning of a file, and leave it where it was."""
    start = file.tell()
    content = file.read(SAMPLE)
    if len(content) == SAMPLE:
        content = content[: max(content.rfind(b"\n"), content.rfind(b"\r")) + 1] or content
    file.seek(start)
    return codecs.getincrementaldecoder("utf-8")().decode(content)


def _parse(
    path: Path, file: IO[bytes], layout: Layout, strings: Collection[str], point: str
) -> tuple[pa.Table, tuple[str, ...]]:
    """Return the rows of a text file, with columns to read as text, and notes; leave the file where it was."""
    import pyarrow as pa
    from pyarrow import csv

    start = file.tell()

    def rows(content: IO[bytes], separator: str) -> pa.Table:
        return csv.read_csv(
            content,
            read_options=csv.ReadOptions(column_names=layout.names),
            parse_options=csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                null_values=[""],
                strings_can_be_null=True,
                decimal_point=point,
                column_types=dict.fromkeys(strings, pa.string()),
            ),
        )

    def lines() -> Iterator[str]:
        file.seek(start + layout.offset)
        return iter(io.TextIOWrapper(io.BufferedReader(_Open(file)), "utf-8", newline=""))

    notes: tuple[str, ...] = ()
    try:
        file.seek(start + layout.offset)
        if not file.read(1):
            raise DataError(f"{path} has no rows")
        if len(layout.names) == 1:
            raise pa.ArrowInvalid("a line of spaces may be blank or a row")
        file.seek(start + layout.offset)
        table = rows(file, layout.separator)
        if any(_has_line_breaks(column) for column in table.columns):
            check_quotes(str(path), lines(), layout)
    except pa.ArrowInvalid:
        whole = repair(str(path), lines(), layout)
        if not whole.content:
            raise DataError(f"{path} has no rows") from None
        table = rows(io.BytesIO(whole.content), ",")
        if whole.short:
            notes = (f"{whole.short:,} rows lack their last values; the first of them is line {whole.line}",)
    file.seek(start)
    return table, notes


class _Open(io.RawIOBase):
    """A file that stays open when what reads it is gone."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._file.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _has_line_breaks(column: pa.ChunkedArray) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(column.type):
        return False
    return bool(pc.any(pc.match_substring_regex(column, "[\r\n]")).as_py())


def _recognised(
    table: pd.DataFrame,
    writing: Writing,
    text: Collection[str],
    known: Mapping[str, Notation],
    decimals: set[str] | None = None,
) -> Source:
    """Return a table whose text columns of numbers and dates are such."""
    table.columns = table.columns.map(str)
    notes, notations = [], dict(known)
    strings = [name for name in table.columns if table.columns.is_unique and _is_text(table[name])]
    if {"%m", "%d"} <= set(re.findall("%.", writing.date_format)):  # 20241231 is a number to a reader
        for name in table.columns.difference([*strings, *text, *known]):
            if pd.api.types.is_integer_dtype(table[name]):
                digits = table[name].astype("string")
                if Dates(writing.date_format).times(digits.dropna().unique().tolist()).notna().all():
                    table[name] = digits
                    strings.append(name)
    for name in strings:
        if name in known:
            table[name] = known[name].parse(table[name])
        elif name in text:
            table[name] = _labels(table[name])
    found = recognise_all(
        {name: table[name] for name in strings if name not in known and name not in text}, writing, decimals or set()
    )
    for name, one in found.items():
        if one.note:
            notes.append(one.note)
        if one.notation is not None:
            table[name], notations[name] = one.notation.parse(table[name]), one.notation
        else:
            table[name] = table[name].str.strip() if table[name].dtype != object else table[name].map(_stripped)
    if writing.missing:
        notes += _drop_missing(table, writing.missing)
    return Source(table, notations, tuple(notes))


def _is_text(column: pd.Series[Any]) -> bool:
    return pd.api.types.infer_dtype(column, skipna=True) in {"string", "mixed-integer", "mixed"}


def _stripped(value: Any) -> Any:
    return value.strip() or None if isinstance(value, str) else value


def _labels(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a text column without spaces around its values; numbers in one form, unless one is a code such as 007."""
    words = Words(column)
    stripped = [word.strip() for word in words.written]
    if all(is_plain(word) for word in stripped if word):
        stripped = [normal(word) for word in stripped]
    labels = np.array([*(word or None for word in stripped), None], dtype=object)
    return pd.Series(labels[words.codes], index=column.index, name=column.name)


def _drop_missing(table: pd.DataFrame, missing: Sequence[str]) -> list[str]:
    """Make the words for missing values missing in columns of numbers and text, and describe how many there were."""
    notes = []
    for name in table.columns:
        column = table[name]
        for word in missing:
            if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
                which = column == float(word) if is_plain(word) else None
            else:
                which = column == word if _is_text(column) else None
            if which is not None and (count := int(which.fillna(False).sum())):
                notes.append(f"{name}: missing where it says {word!r} ({count:,})")
                column = column.mask(which.fillna(False).to_numpy(bool))
        table[name] = column
    return notes
