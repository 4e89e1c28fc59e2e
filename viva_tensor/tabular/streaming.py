"""Files that are larger than memory: a random sample of their rows, and all rows in blocks."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular.data import DataError, IndexArray, check_names
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.memory import free_memory, needed_memory
from viva_tensor.tabular.parquet import ParquetRows, clocks_of, data_frame, with_index
from viva_tensor.tabular.progress import counted
from viva_tensor.tabular.reading import TEXT, Reading, Source, read, read_columns, reading_errors, totals
from viva_tensor.tabular.recognition import Writing
from viva_tensor.tabular.stored_text import parsed, recognised
from viva_tensor.tabular.strict_rows import check_quotes, check_rows
from viva_tensor.tabular.text_files import TextFile, csv_options, has_quotes_or_breaks, last_rows, opened, read_rows
from viva_tensor.tabular.typed_columns import Shown, typed

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE = 500_000  # rows
BLOCK = 65_536  # rows of a Parquet file
BYTES = 8 << 20  # of a text file in a block
FIRST = 64 << 20  # bytes of a text file that tell what its columns hold
STREAMED = (*TEXT, "parquet")
Frames = Callable[[Expected], Iterator[pd.DataFrame]]


@dataclass(frozen=True)
class Stream:
    """A table of which only a sample is in memory.

    Attributes
    ----------
    source : Source
        A random sample of the rows, in their order; the index of the table has their numbers.
    indices : ndarray of int
        Their indices in the table.
    rows : int
        How many rows there are in all.
    frames : callable
        Returns all rows in blocks, given what is expected of columns; rows are numbered on from block to block.
    """

    source: Source
    indices: IndexArray
    rows: int
    frames: Frames

    @property
    def note(self) -> str:
        """Say what was drawn."""
        return (
            f"read in blocks: encodings are chosen and the network tested on a random sample of {len(self.indices):,} "
            f"of {self.rows:,} rows; the others are for training"
        )


def stream(path: str | Path, reading: Reading | None = None, expected: Expected | None = None) -> Stream:
    """Read a text or Parquet file in blocks, to train on more rows than memory holds.

    Parameters
    ----------
    path, reading, expected
        As those of :func:`read`.

    Returns
    -------
    Stream
        For :func:`viva_tensor.tabular.run`.

    Raises
    ------
    DataError
        As :func:`read`; also if a row of a text file is too short, or its encoding is not UTF-8.
    """
    path, reading, expected = Path(path), reading or Reading(), expected or Expected()
    with reading_errors(path) as kind:
        version = _version(path)
        if kind not in STREAMED:
            raise DataError(f"{path} cannot be read in blocks; only .csv and .parquet files can")
        if kind == "parquet":
            as_stored = ParquetRows(path)
            check_names(path, as_stored.columns)
            drawn, missing = sample(_parquet(path), SAMPLE), reading.writing.missing
            table = data_frame(drawn.table).set_axis(pd.Index(drawn.indices))
            texts = recognised(table, reading.writing, expected, clocks_of(drawn.table.schema))
            change = partial(parsed, notations=texts.notations, missing=missing, expected=expected)
            notes = (*texts.notes, *totals(as_stored, missing))
            source = Source(change(table), texts.notations, notes)
            frames = _Frames(path, version, partial(_parquet_frames, path, change))
            return Stream(source, drawn.indices, drawn.rows, frames)
        with opened(path, reading.encoding, whole=False) as content:
            separators = [reading.separator] if reading.separator else TEXT[kind]
            file = _SampledFile(path, content, separators, reading.header, reading.encoding)
            source = read_columns(file, reading, expected)
        frames = _Frames(path, version, partial(_text_frames, file, reading.writing, expected))
        return Stream(source, file.indices, file.rows, frames)


def _version(path: Path) -> tuple[int, int, int]:
    """Return what another file of this name, or one that was written to, has otherwise."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


@dataclass(frozen=True)
class _Frames:
    """All rows of a file in blocks, as long as it is the one that the sample was drawn from."""

    path: Path
    version: tuple[int, int, int]
    read: Frames

    def __call__(self, known: Expected) -> Iterator[pd.DataFrame]:
        with reading_errors(self.path):
            self._check()
            yield from self.read(known)
            self._check()

    def _check(self) -> None:
        if _version(self.path) != self.version:
            raise DataError(f"{self.path} has changed since its sample was drawn; it must not change during a run")


def read_or_stream(path: Path, reading: Reading, expected: Expected, most: float | None = None) -> Source | Stream:
    """Read a file as :func:`read`, or in blocks if it would take more bytes than `most`, by default half of those free.

    Raises
    ------
    DataError
    """
    with reading_errors(path) as kind:
        whole = kind not in STREAMED or needed_memory(path) <= (free_memory() / 2 if most is None else most)
    return read(path, reading, expected, whole=False) if whole else stream(path, reading, expected)


class Sampled(NamedTuple):
    """Some rows of a table, chosen at random with the same chance for each, and how many there are in all."""

    table: pa.Table
    indices: IndexArray
    rows: int


def sample(tables: Iterable[pa.Table], count: int, seed: int = 0) -> Sampled:
    """Return so many of the rows of some tables, those with the smallest of random keys, in their order.

    Examples
    --------
    >>> import pyarrow as pa
    >>> drawn = sample([pa.table({"a": range(50)}), pa.table({"a": range(50, 90)})], 4)
    >>> drawn.table["a"].to_pylist() == drawn.indices.tolist(), len(drawn.indices), drawn.rows
    (True, 4, 90)
    """
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    kept: list[pa.Table] = []
    keys: list[Float64Array] = []
    indices: list[IndexArray] = []
    rows, bound = 0, 1.0

    def only_smallest() -> None:
        nonlocal kept, keys, indices, bound
        key, index = np.concatenate(keys), np.concatenate(indices)
        smallest = np.sort(np.argsort(key, kind="stable")[:count])
        kept, keys, indices = (
            [pa.concat_tables(kept).take(smallest).combine_chunks()],
            [key[smallest]],
            [index[smallest]],
        )
        bound = float(key[smallest].max())

    for table in tables:
        key = rng.random(len(table))
        chosen = np.flatnonzero(key < bound)
        kept.append(table.take(chosen))
        keys.append(key[chosen])
        indices.append(rows + chosen)
        rows += len(table)
        if sum(map(len, keys)) > 2 * count:
            only_smallest()
    if not rows:
        raise DataError("there are no rows")
    only_smallest()
    return Sampled(kept[0], indices[0], rows)


class _SampledFile(TextFile):
    """A text file that gives a sample of its rows when it is read, and all of them in blocks."""

    def __init__(
        self, path: Path, file: IO[bytes], separators: Sequence[str], header: bool | None, encoding: str
    ) -> None:
        super().__init__(path, file, separators, header)
        self._encoding = encoding
        self._types: dict[str, pa.DataType] = {}
        self.indices: IndexArray  # of the sample
        self.rows: int
        self._last: pd.DataFrame

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}  # closed by then, and blocks open their own

    def numbered(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame.set_axis(pd.Index(self.indices))

    def last(self, frame: pd.DataFrame) -> pd.DataFrame:
        return self._last

    def read(self, strings: Collection[str], point: str) -> tuple[pa.Table, tuple[str, ...]]:
        """Return a sample of the rows, some columns as text; the same rows whenever it is called."""
        import pyarrow as pa

        self._require_rows()
        if len(self.layout.names) == 1:
            raise DataError(f"cannot read {self._path} in blocks: it has only one column, and features are needed, too")
        while True:
            try:
                if not self._types:
                    start = io.BytesIO(self._first_rows(FIRST, whole=False))
                    first = read_rows(start, self.layout.names, self.layout.separator, {}, point)
                    self._types = {one.name: one.type for one in first.schema}
                table, self.indices, self.rows = sample(self._watched(strings, point), SAMPLE)
                return table, ()
            except pa.ArrowInvalid as error:
                self._widen(str(error))

    def blocks(self, strings: Collection[str], point: str) -> Iterator[pa.Table]:
        """Yield all rows, some columns as text."""
        import pyarrow as pa
        from pyarrow import csv

        types = self._types | dict.fromkeys(strings, pa.string())
        options = csv_options(self.layout.names, self.layout.separator, types, point)
        options["read_options"].block_size = BYTES
        # opened anew each time: the thread of a reader that was given up may still read ahead
        with opened(self._path, self._encoding, whole=False) as content:
            for batch in csv.open_csv(self._rewound(content), **options):
                yield pa.Table.from_batches([batch])

    def _watched(self, strings: Collection[str], point: str) -> Iterator[pa.Table]:
        """Yield all rows, and look whether quotes swallow some."""
        suspicious, rows, block = False, 0, None
        for block in self.blocks(strings, point):
            suspicious, rows = suspicious or has_quotes_or_breaks(block), rows + len(block)
            yield block
        if block is not None:
            self._last = last_rows(data_frame(block), rows - len(block))
        if suspicious:
            check_quotes(str(self._path), self._lines(), self.layout)

    def _widen(self, error: str) -> None:
        """Let a column hold more than its first rows do, if an error of Arrow says that it must."""
        import pyarrow as pa

        # with one thread Arrow names the row, too
        found = re.match(r"In CSV column #(\d+): (?:Row #\d+: )?CSV conversion error to (\w+)", error)
        if found is None or found[2] == "string":
            check_rows(str(self._path), self._lines(), self.layout)
            raise DataError(f"cannot read {self._path} in blocks: {error}")
        wider = {"null": pa.int64(), "int64": pa.float64()}.get(found[2], pa.string())
        self._types[self.layout.names[int(found[1])]] = wider


def _parquet(path: Path) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        # of several row groups at once Arrow would keep all that were read
        batches = (
            batch for group in range(file.num_row_groups) for batch in file.iter_batches(BLOCK, row_groups=[group])
        )
        begin = 0
        for batch in counted(batches, f"reading {path.name}", file.metadata.num_rows, len):
            yield with_index(pa.Table.from_batches([batch]), begin)
            begin += len(batch)


def _parquet_frames(
    path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], known: Expected
) -> Iterator[pd.DataFrame]:
    for frame in _numbered(_parquet(path)):
        yield change(frame)


def _text_frames(file: _SampledFile, writing: Writing, asked: Expected, known: Expected) -> Iterator[pd.DataFrame]:
    # each column in the type that the sample had, or labels would be written otherwise
    written = Expected(notations=known.notations)
    codes = file.codes(asked)
    strings = [name for name in file.layout.names if name in codes or asked.as_text(name) or written.as_text(name)]
    for frame in _numbered(file.blocks(strings, writing.point)):
        yield typed(frame, writing, known, Shown(codes=codes)).table


def _numbered(tables: Iterable[pa.Table]) -> Iterator[pd.DataFrame]:
    """Yield tables as frames whose rows are numbered on."""
    begin = 0
    for table in tables:
        frame = data_frame(table)
        yield frame.set_axis(pd.RangeIndex(begin, begin + len(frame)))
        begin += len(frame)
