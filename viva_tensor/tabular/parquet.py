"""A Parquet file of which a column or some rows are read at a time, as pandas reads the whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa


def _framed(table: pa.Table, begin: int = 0) -> pd.DataFrame:
    """A table, from some row of a file on, as pandas wrote it, an index with a name as a column."""
    frame: pd.DataFrame = table.to_pandas()
    indices = (table.schema.pandas_metadata or {}).get("index_columns", [])
    if len(indices) == 1 and isinstance(indices[0], dict):  # told by its begin and step alone
        frame, index = frame.reset_index(drop=True), indices[0]
        if index["name"] is not None:
            numbers = index["start"] + index["step"] * np.arange(begin, begin + table.num_rows)
            frame = pd.concat([pd.Series(numbers, name=index["name"]), frame], axis=1)
    elif frame.index.names != [None]:
        frame = frame.reset_index()
    frame.columns = frame.columns.map(str)
    return frame.reset_index(drop=True)


class ParquetRows:
    """The rows of a Parquet file, which stay there until they are asked for.

    Parameters
    ----------
    path : str or Path

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

    def __init__(self, path: str | Path) -> None:
        import pyarrow.parquet

        self._file = pyarrow.parquet.ParquetFile(path)
        self.columns: pd.Index[str] = _framed(self._file.schema_arrow.empty_table()).columns

    def __len__(self) -> int:
        count: int = self._file.metadata.num_rows
        return count

    def __getitem__(self, name: str) -> pd.Series[Any]:
        """A column."""
        # one beside it, for the number of rows where an index is no column of the file
        columns = [name] if name in self._file.schema_arrow.names else self._file.schema_arrow.names[:1]
        return _framed(self._file.read(columns=columns))[name]

    def rows(self, start: int, stop: int) -> pd.DataFrame:
        """The rows from start to before stop; groups of rows without any of them are not read."""
        groups, before, skipped = [], 0, 0
        for group in range(self._file.metadata.num_row_groups):
            after = before + self._file.metadata.row_group(group).num_rows
            if after <= start:
                skipped = after
            elif before < stop:
                groups.append(group)
            before = after
        return _framed(self._file.read_row_groups(groups).slice(start - skipped, stop - start), start)
