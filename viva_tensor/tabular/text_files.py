"""Text files of values between separators: opened in their encoding, found their layout, and read as columns."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import math
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pandas as pd

from viva_tensor.tabular.codes import Held, hold_codes, suspects
from viva_tensor.tabular.data import DataError, check_names, number_of, one_line
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.layout import find_layout
from viva_tensor.tabular.progress import bytes_counted
from viva_tensor.tabular.recognition import Writing
from viva_tensor.tabular.sheets import OLE
from viva_tensor.tabular.strict_rows import check_quotes, repair
from viva_tensor.tabular.word_forms import is_code

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE = 1 << 20  # bytes of a text file in which its layout is looked for
PIECE = 2 << 20
# what psql and other programs of databases write below rows
_ROWS = rb"\(\d+ row(?:s|\(s\))?(?: affected)?\)"
FOOTER = re.compile(
    rb'(?<=[\r\n])[ \t]*(?:"%(rows)b"|%(rows)b)[,;|\t ]*\s*(?:Time: [\d.,]+ ms\s*)?\Z' % {b"rows": _ROWS}
)
TAIL = 256  # bytes in which it is looked for
LAST = 10  # rows, of which those at the end may be of separators alone
COMPRESSED: dict[str, Callable[[Path], Any]] = {
    "gz": gzip.open,
    "bz2": bz2.open,
    "xz": lzma.open,
    "zip": lambda path: _only_member(path),
}
SIGNATURES = (  # that of UTF-32 begins as that of UTF-16 does
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NO_TEXT = {  # what files begin with that are none of text, and what their names must end with
    b"\x1f\x8b": ("gzip", ".gz"),
    b"PK\x03\x04": ("a workbook or a zip archive", ".xlsx or .zip"),
    b"\xfd7zXZ\x00": ("xz", ".xz"),
    b"PAR1\x15": ("Parquet", ".parquet"),
    b"ARROW1\x00": ("Feather", ".feather"),
    OLE: ("an old or encrypted workbook", ".xlsx, and Excel must have saved it so, without a password"),
}


class TextFile:
    """A text file whose layout was found, to be read as often as is needed.

    Attributes
    ----------
    layout : Layout
    """

    def __init__(self, path: Path, file: IO[bytes], separators: Sequence[str], header: bool | None) -> None:
        self._path, self._file, self._start = path, file, file.tell()
        self._end, footer = self._check_bytes()
        self._cut = bool(footer)
        sample = self._sample()
        if not sample.strip():
            raise DataError(f"{path} is empty")
        layout = find_layout(sample, separators, header, footed=bool(footer))
        self.layout = replace(layout, notes=(*layout.notes, footer)) if footer else layout
        no_names = "rename one, or --no-header if the first line has values and no names"
        check_names(path, pd.Index(self.layout.names), "rename one" if header else no_names)

    def read(self, strings: Collection[str], point: str) -> tuple[pa.Table, tuple[str, ...]]:
        """Return all rows, some columns as text, and notes about rows that are too short."""
        import pyarrow as pa

        def rows(content: IO[bytes], separator: str, types: Mapping[str, pa.DataType]) -> pa.Table:
            return read_rows(
                content, self.layout.names, separator, {**types, **dict.fromkeys(strings, pa.string())}, point
            )

        self._require_rows()
        try:
            if len(self.layout.names) == 1:
                raise pa.ArrowInvalid("a line of spaces may be blank or a row")
            # Arrow keeps the text of a file until it knows what all columns hold, so it is told what the first rows say
            first = rows(io.BytesIO(self._first_rows(SAMPLE)), self.layout.separator, {})
            types = {one.name: one.type for one in first.schema if not pa.types.is_null(one.type)}
            try:
                table = rows(self._rewound(), self.layout.separator, types)
            except pa.ArrowInvalid:
                table = rows(self._rewound(), self.layout.separator, {})
            if has_quotes_or_breaks(table):
                check_quotes(str(self._path), self._lines(), self.layout)
        except pa.ArrowInvalid:
            whole = repair(str(self._path), self._lines(), self.layout)
            if not whole.content:
                raise DataError(f"{self._path} has no rows") from None
            table = rows(io.BytesIO(whole.content), ",", {})
            if whole.short:
                return table, (
                    f"{number_of(whole.short, 'row')} without the last values, the first in line {whole.line}",
                )
        return table, ()

    def blocks(self, strings: Collection[str], point: str) -> Iterator[pa.Table]:
        """Yield all rows, some columns as text."""
        yield self.read(strings, point)[0]

    def find_codes(self, numbers: Sequence[str], writing: Writing) -> Held:
        """Return the columns of numbers that hold a code in any row, and notes of those where such values are numbers.

        A code may also be a word for a missing value, which is lost in numbers.
        """
        columns = {self.layout.names.index(name) for name in numbers}
        some = [self.layout.names[i] for i in sorted(suspects(self._pieces(), self.layout.separator, columns))]
        if not some or any(map(is_code, writing.missing)):
            return Held({*some}, ())  # to be judged by their words
        return hold_codes(self.blocks(some, writing.point), some)

    def codes(self, expected: Expected) -> set[str]:
        """Return the columns of codes, less those that are said to be numbers."""
        return {name for name in self.layout.codes if name not in expected.numbers}

    def numbered(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return what was read, with the numbers of the rows in the file as index."""
        return frame

    def last(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the last rows of the file, of which a frame with some or all of its rows was read."""
        return last_rows(frame)

    def _require_rows(self) -> None:
        if not self._rewound().read(1):
            raise DataError(f"{self._path} has no rows")

    def _first_rows(self, count: int, *, whole: bool = True) -> bytes:
        """Return lines of some bytes from the first row on, up to one at whose end no quote is open.

        If there is none, all lines are returned, or those bytes if the whole file must not be read.
        """
        content = self._rewound().read(count)
        if len(content) < count:
            return content
        end = position = quotes = 0
        for line in io.BytesIO(content):
            position, quotes = position + len(line), quotes + line.count(b'"')
            if quotes % 2 == 0 and line.endswith(b"\n"):
                end = position
        if end:
            return content[:end]
        return self._rewound().read() if whole else content

    def _rewound(self, file: IO[bytes] | None = None) -> IO[bytes]:
        """Return this file, or another that has been opened for it, at its first row, and up to its last."""
        file, begin = file or self._file, self._start + self.layout.offset
        file.seek(begin)
        return io.BufferedReader(_Open(file, self._end - begin)) if self._cut else file

    def _pieces(self) -> Iterator[bytes]:
        file = self._rewound()
        while piece := file.read(PIECE):
            yield piece + file.readline()

    def _lines(self) -> Iterator[str]:
        return iter(io.TextIOWrapper(io.BufferedReader(_Open(self._rewound())), "utf-8", newline=""))

    def _check_bytes(self) -> tuple[int, str]:
        """Return where rows end, and a note of what is below them; raise if the file has bytes that are no UTF-8."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        offset, lines, tail = self._start, 1, b""
        while True:
            piece = self._file.read(PIECE)
            if (found := piece.find(0)) >= 0:
                raise DataError(
                    f"cannot read {self._path}: not text in UTF-8 (byte {offset + found} is NUL); name its --encoding"
                )
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                line = lines + _breaks(tail, error.object[: error.start])
                context = error.object[max(0, error.start - 10) : error.start + 10].decode("cp1252", "replace")
                context = " ".join(context.split())
                raise DataError(
                    f"cannot read {self._path}: line {line} is not UTF-8 text; in cp1252 it would read {context!r}: "
                    "give --encoding cp1252, or another"
                ) from None
            if not piece:
                break
            offset, lines = offset + len(piece), lines + _breaks(tail, piece)
            tail = (tail + piece[-TAIL:])[-TAIL:]
        if (below := FOOTER.search(tail)) is None:
            return offset, ""
        line = lines - _breaks(b"", below[0])
        return offset - len(below[0]), f"line {line} is not a row and is left out: {below[0].decode().strip()!r}"

    def _sample(self) -> str:
        """Return the whole lines at the beginning of the file."""
        self._file.seek(self._start)
        content = self._file.read(min(SAMPLE, self._end - self._start))
        if len(content) == SAMPLE:
            content = content[: max(content.rfind(b"\n"), content.rfind(b"\r")) + 1] or content
        return codecs.getincrementaldecoder("utf-8")().decode(content)


def _breaks(before: bytes, text: bytes) -> int:
    """Return how many lines end in a text that follows another; one ends with CR, LF or both."""
    both = text.count(b"\r\n") + (before.endswith(b"\r") and text.startswith(b"\n"))
    return text.count(b"\n") + text.count(b"\r") - both


class _Open(io.RawIOBase):
    """A file, or so many bytes of it, that stays open when what reads it is gone."""

    def __init__(self, file: IO[bytes], most: float = math.inf) -> None:
        self._file, self._left = file, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._file.read(int(min(len(buffer), self._left)))
        self._left -= len(piece)
        buffer[: len(piece)] = piece
        return len(piece)


def csv_options(names: Sequence[str], separator: str, types: Mapping[str, pa.DataType], point: str) -> dict[str, Any]:
    """Return the options of Arrow for rows without a header, in which only what is empty is missing."""
    from pyarrow import csv

    return {
        "read_options": csv.ReadOptions(column_names=names, block_size=PIECE),
        "parse_options": csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        "convert_options": csv.ConvertOptions(
            null_values=[""], strings_can_be_null=True, decimal_point=point, column_types=types
        ),
    }


def read_rows(
    content: IO[bytes], names: Sequence[str], separator: str, types: Mapping[str, pa.DataType], point: str
) -> pa.Table:
    """Return all rows of a text, some columns of types that are known."""
    from pyarrow import csv

    return csv.read_csv(content, **csv_options(names, separator, types, point))


def has_quotes_or_breaks(table: pa.Table) -> bool:
    """Return whether a text column has a value with a quote or a line break in it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = [column for column in table.columns if pa.types.is_string(column.type)]
    return any(pc.any(pc.match_substring_regex(column, '[\r\n"]')).as_py() for column in texts)


def last_rows(table: pd.DataFrame, begin: int = 0) -> pd.DataFrame:
    """Return the last rows of a table that begins at some row of a file, with their numbers in it as index.

    Examples
    --------
    >>> last_rows(pd.DataFrame({"a": [1, 2]}), 7).index.tolist()
    [7, 8]
    """
    some = table.iloc[-LAST:]
    end = begin + len(table)
    return some.set_axis(pd.RangeIndex(end - len(some), end))


@contextmanager
def opened(path: Path, encoding: str, *, whole: bool = True) -> Iterator[IO[bytes]]:
    """Open a text file as UTF-8 without a byte order mark; of another encoding the whole must fit in memory."""
    with COMPRESSED.get(path.name.lower().rpartition(".")[2], partial(open, mode="rb"))(path) as file:
        start = file.read(8)
        for begin, (what, suffix) in NO_TEXT.items():
            if start.startswith(begin):
                raise DataError(f"cannot read {path} as text: it is {what}; its name must end with {suffix}")
        mark, marked = next(((mark, name) for mark, name in SIGNATURES if start.startswith(mark)), (b"", ""))
        encoding = codecs.lookup(encoding or marked or "utf-8").name
        if encoding == "utf-8":
            file.seek(len(mark))
            with bytes_counted(file, f"reading {path.name}") as counted:
                yield counted
            return
        if not whole:
            raise DataError(f"cannot read {path} in blocks: it is {encoding} text, wanted UTF-8 (iconv -f {encoding})")
        file.seek(0)
        try:
            yield io.BytesIO(file.read().decode(encoding).encode())
        except UnicodeError as error:
            raise DataError(f"cannot read {path} as {encoding} text: {one_line(error)}") from error


def _only_member(path: Path) -> IO[bytes]:
    archive = zipfile.ZipFile(path)
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
    if len(names) != 1:
        raise DataError(f"{path} holds {len(names)} files, wanted one; unpack it")
    return archive.open(names[0])
