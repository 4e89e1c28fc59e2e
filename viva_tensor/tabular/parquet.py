"""A Parquet file whose columns and rows are read when needed, and look as if pandas had read the whole."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from itertools import islice
from operator import is_
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa

LARGE = 64 << 20  # bytes of a table, whose memory is given back as early as can be


def data_frame(table: pa.Table, begin: int = 0) -> pd.DataFrame:
    """Return a table that begins at some row of a file as pandas wrote it, with a named index as a column.

    Examples
    --------
    >>> import pyarrow as pa
    >>> data_frame(pa.table({"size": pa.array(pd.cut([1.0, 2.0], [0, 1, 2]))}))["size"].tolist()
    ['(0, 1]', '(1, 2]']
    """
    table = _hashable(table)
    if not table.schema.pandas_metadata and len(set(table.column_names)) == table.num_columns:
        once = [table]
        del table
        return _by_columns(once)
    table = with_index(table, begin)
    frame = _as_pandas_wrote(table)
    if frame.columns.is_unique:
        for name in set(table.column_names) & set(frame.columns):
            frame[name] = _exact(table[name], frame[name])
    return frame.reset_index(drop=True)


def _hashable(table: pa.Table) -> pa.Table:
    """Return a table without dictionaries of which pandas makes no categories: of intervals, say, or with a null."""
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        if not pa.types.is_dictionary(field.type):
            continue
        kind, stored = field.type.value_type, table.column(i).chunks
        parts = [_without_nulls(one) for one in stored]
        if isinstance(kind, pa.BaseExtensionType):  # whose labels are text
            words = [pa.array(one.dictionary.to_pandas().astype(str)) for one in parts]
            indices = [one.indices for one in parts]
            parts = [pa.DictionaryArray.from_arrays(*pair) for pair in zip(indices, words, strict=True)]
        elif pa.types.is_nested(kind):
            parts = [one.dictionary.take(one.indices) for one in parts]
        elif all(map(is_, parts, stored)):
            continue
        table = table.set_column(i, field.name, pa.chunked_array(parts)) if parts else table
    return table


def _without_nulls(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """Return a column whose dictionary has nothing that is missing: what pointed to that is missing itself."""
    import pyarrow as pa

    words = column.dictionary
    present = ~words.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if present.all():
        return column
    places = pa.array(np.cumsum(present) - 1, mask=~present)
    kept = words.take(pa.array(np.flatnonzero(present)))
    return pa.DictionaryArray.from_arrays(places.take(column.indices), kept, ordered=column.type.ordered)


def _with_known_types(table: pa.Table) -> pa.Table:
    """Return a table that does not say of dictionaries which type they had in pandas, which cannot read its name."""
    stored = table.schema.pandas_metadata or {}
    columns = stored.get("columns", [])
    unread = [str(one["numpy_type"]).startswith("dictionary<") for one in columns]
    if not any(unread):
        return table
    known = [{**one, "numpy_type": "object"} if odd else one for one, odd in zip(columns, unread, strict=True)]
    pandas = json.dumps({**stored, "columns": known}).encode()
    return table.replace_schema_metadata({**table.schema.metadata, b"pandas": pandas})


def _as_pandas_wrote(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = _with_known_types(table).to_pandas(date_as_object=False)
    if frame.index.names != [None]:
        frame = frame.reset_index()
    frame.columns = frame.columns.map(str)
    return frame


def with_index(table: pa.Table, begin: int) -> pa.Table:
    """Return a table that begins at some row of a file, with an index that pandas stored as start and step alone."""
    stored = table.schema.pandas_metadata or {}
    indices = stored.get("index_columns", [])
    if not (len(indices) == 1 and isinstance(indices[0], dict)):
        return table
    index = indices[0]
    pandas = json.dumps({**stored, "index_columns": []}).encode()
    table = table.replace_schema_metadata({**table.schema.metadata, b"pandas": pandas})
    if index["name"] is None:
        return table
    numbers = index["start"] + index["step"] * np.arange(begin, begin + table.num_rows)
    return table.add_column(0, index["name"], [numbers])


def _by_columns(once: list[pa.Table]) -> pd.DataFrame:
    """Return the table in a list, which is taken out, so that each column is let go when it has been converted."""
    import pyarrow as pa

    columns = {}
    table = once.pop()
    large = table.nbytes > LARGE
    while table.num_columns:
        name, stored = table.column_names[0], table.column(0)
        table = table.remove_column(0)
        columns[str(name)] = _exact(stored, stored.to_pandas(date_as_object=False))
        del stored
        if large:
            pa.default_memory_pool().release_unused()  # else Arrow keeps what it was given
    return pd.DataFrame(columns, copy=False)


def _exact(stored: pa.ChunkedArray, column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column of which nothing is lost: integers as such where some are missing, times of day as hours."""
    import pyarrow as pa

    if pa.types.is_integer(stored.type) and stored.null_count:
        sign, bits = "U" * str(stored.type).startswith("u"), stored.type.bit_width
        dtype = getattr(pd, f"{sign}Int{bits}Dtype")()
        return pd.Series(stored.to_pandas(types_mapper=lambda _: dtype).array, index=column.index)
    if pa.types.is_time(stored.type):
        unit = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[stored.type.unit]
        numbers = stored.cast(pa.int32() if stored.type.bit_width == 32 else pa.int64()).to_pandas()
        return pd.Series(numbers.to_numpy(np.float64) / (3600 * unit), index=column.index)
    return column


def clocks_of(schema: pa.Schema) -> list[str]:
    """Return the columns of times of day, which become hours, and durations.

    Examples
    --------
    >>> import pyarrow as pa
    >>> clocks_of(pa.schema({"a": pa.time32("s"), "b": pa.duration("s"), "c": pa.timestamp("s")}))
    ['a', 'b']
    """
    return [one.name for one in schema if str(one.type).startswith(("time32", "time64", "duration"))]


def unknown_to_arrow(table: Any) -> str:
    """Return words about the first column of a polars frame of a type that Arrow does not know, if there is one.

    Examples
    --------
    >>> unknown_to_arrow(pd.DataFrame({"a": [1]}))
    ''
    """
    import pyarrow as pa

    for name in getattr(table, "columns", ()):
        try:
            pa.table(table[[name]])
        except pa.ArrowInvalid:
            kind = table[name].dtype
            return f"column {name!r} is of a type that Arrow does not know, {kind}; cast it to Int64, say, or drop it"
    return ""


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of columns with different names as pandas can look into them.

    Bytes are in the order of this machine, Arrow's dictionaries are categories, and what pandas knows no type for, such
    as a ``string_view``, are objects.

    Examples
    --------
    >>> readable(pd.DataFrame({"a": np.ones(2, ">f8")}))["a"].to_numpy().dtype.isnative
    True
    """
    kinds = {name: kind for name, kind in table.dtypes.items() if isinstance(kind, np.dtype) and not kind.isnative}
    table = table.astype({name: kind.newbyteorder("=") for name, kind in kinds.items()}) if kinds else table
    stored = [str(name) for name, kind in table.dtypes.items() if isinstance(kind, pd.ArrowDtype)]
    changed = {name: column for name in stored if (column := _out_of_arrow(table[name])) is not None}
    table = table.copy(deep=False) if changed else table
    for name, column in changed.items():  # assign would not take a column named self
        table[name] = column
    return table


def _out_of_arrow(column: pd.Series[Any]) -> pd.Series[Any] | None:
    """Return a column of Arrow's as categories or objects, None where pandas can look into it."""
    import pyarrow as pa

    kind = cast(pd.ArrowDtype, column.dtype)
    if pa.types.is_dictionary(kind.pyarrow_dtype):
        return column.astype(object).astype("category")
    try:
        kind.type  # noqa: B018  # raises where it has none
    except NotImplementedError:
        return pd.Series(pa.chunked_array(column).to_pylist(), column.index, dtype=object)
    return None


class ParquetRows:
    """The rows of a Parquet file, which stay there until they are needed, and then are changed if that is wanted.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "table.parquet"
    >>> pd.DataFrame({"carat": [0.2, 0.3, 0.4], "cut": ["Fair", "Ideal", "Fair"]}).to_parquet(path)
    >>> table = ParquetRows(path)
    >>> list(table.columns), len(table)
    (['carat', 'cut'], 3)
    >>> table["cut"].tolist()
    ['Fair', 'Ideal', 'Fair']
    >>> table.rows(1, 3)
       carat    cut
    0    0.3  Ideal
    1    0.4   Fair
    >>> folder.cleanup()
    """

    def __init__(self, path: str | Path, change: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows) -> None:
        import pyarrow.parquet

        self._change = change  # of rows that were read
        self._file = pyarrow.parquet.ParquetFile(path)
        self._schema = self._file.schema_arrow  # each time that a file is asked it makes another
        self._names = frozenset(self._schema.names)
        self._stored = self._schema.pandas_metadata or {}
        self._described = {one.get("field_name", one["name"]): one for one in self._stored.get("columns", [])}
        self.columns: pd.Index[str] = _as_pandas_wrote(with_index(self._schema.empty_table(), 0)).columns

    @property
    def texts(self) -> list[str]:
        """The columns of text; those of categories are none."""
        return self._of_type("string", "large_string", "string_view")

    @property
    def integers(self) -> list[str]:
        """The columns of integers."""
        return self._of_type(*(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))

    @property
    def clocks(self) -> list[str]:
        """The columns of times of day and durations."""
        return [name for name in clocks_of(self._schema) if name in self.columns]

    def _of_type(self, *types: str) -> list[str]:
        return [one.name for one in self._schema if str(one.type) in types and one.name in self.columns]

    def __len__(self) -> int:
        count: int = self._file.metadata.num_rows
        return count

    @property
    def description(self) -> str:
        """What the file says of its columns and groups of rows: their sizes, and the least and largest values."""
        return str(self._file.metadata.to_dict())

    def __getitem__(self, name: str) -> pd.Series[Any]:
        """Return a column."""
        # an index that is no column of the file takes its length from the first column
        columns = [name] if name in self._names else self._schema.names[:1]
        return self._change(data_frame(self._about_itself(self._file.read(columns=columns)))[[name]])[name]

    def first(self, names: Sequence[str], count: int) -> pa.Table:
        """Return the first rows of some columns as they are stored, at most `count` of them."""
        import pyarrow as pa

        batches = [*islice(self._file.iter_batches(count, columns=names), 1)] if names else []
        return pa.Table.from_batches(batches).select(names) if batches else self._schema.empty_table().select(names)

    def last_texts(self) -> pd.DataFrame:
        """Return the last row as it is stored, less columns that hold no text, with its number as index."""
        kinds = {one.name: str(one.type) for one in self._schema if one.name in self.columns}
        of_labels = tuple(f"dictionary<values={kind}" for kind in ("string", "large_string", "string_view"))
        labels = [name for name, kind in kinds.items() if kind.startswith(of_labels)]
        groups = [i for i in range(self._file.num_row_groups) if self._file.metadata.row_group(i).num_rows]
        cells: dict[str, list[Any]] = {}
        if names := [*self.texts, *labels]:
            # in batches, of which one is in memory
            for batch in self._file.iter_batches(row_groups=groups[-1:], columns=names):
                cells = {name: batch[name][-1:].to_pylist() for name in names} if len(batch) else cells
        return pd.DataFrame(cells, index=[len(self) - 1], dtype=object)

    def changed(self, change: Callable[[pd.DataFrame], pd.DataFrame]) -> ParquetRows:
        """Return the rows of the same file, changed in another way when they are read."""
        other = copy.copy(self)
        other._change = change
        return other

    def _about_itself(self, table: pa.Table) -> pa.Table:
        """Return a column whose metadata of pandas say nothing of the others, of which there may be thousands."""
        if not self._stored:
            return table
        kept = {*table.column_names, *(one for one in self._stored["index_columns"] if isinstance(one, str))}
        of_it = {**self._stored, "columns": [self._described[name] for name in kept & self._described.keys()]}
        return table.replace_schema_metadata({b"pandas": json.dumps(of_it).encode()})

    def rows(self, start: int, stop: int) -> pd.DataFrame:
        """Return the rows from start up to but not including stop; row groups without any of them are not read."""
        metadata = self._file.metadata
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        begins = np.cumsum([0, *counts])
        groups = np.flatnonzero((begins[1:] > start) & (begins[:-1] < stop))
        skipped = begins[begins <= start][-1]
        rows = self._file.read_row_groups(groups.tolist()).slice(start - skipped, stop - start)
        return self._change(data_frame(rows, start))
