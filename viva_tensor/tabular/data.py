"""Tables: reading a file, recognising its columns, splitting its rows."""

from __future__ import annotations

import difflib
import gzip
import math
import os
import sys
import warnings
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular.parquet import ParquetRows

READABLE = ".csv, .tsv, .csv.gz, .tsv.gz or .parquet"

Table = pd.DataFrame | ParquetRows
IndexArray = npt.NDArray[np.int64]


class DataError(ValueError):
    """A table or a request that training cannot use; the message is one line for the user."""


class Split(NamedTuple):
    """Row indices of the three disjoint parts of a table, each an int64 array."""

    train: IndexArray
    validation: IndexArray
    test: IndexArray


def diamonds_path() -> Path:
    """Return the path of the bundled table: 53,940 diamonds, each with nine properties and a price in US dollars."""
    return Path(str(resources.files("viva_tensor"))) / "datasets" / "diamonds.csv.gz"


def read_table(path: str | Path, text: Collection[str] = ()) -> pd.DataFrame:
    """Read a CSV or TSV file with a header line (gzipped or not), or a Parquet file.

    Parameters
    ----------
    path : str or Path
        The suffix tells the format: .csv, .tsv, .csv.gz, .tsv.gz or .parquet.
    text : collection of str
        Columns of a CSV or TSV file to read as text, even if every value looks like a number.

    Returns
    -------
    DataFrame
        Rows numbered from 0, in the order of the file. In CSV and TSV, blank lines are skipped, and a row shorter than
        the header lacks its last values.

    Raises
    ------
    DataError
        If the file is missing, unreadable, empty or of another format, or two columns have the same name.
    """
    path = Path(path)
    with _reading(path) as kind:
        if kind == "parquet":
            rows = ParquetRows(path)
            table = rows.rows(0, len(rows))
        else:
            separator = "," if kind == "csv" else "\t"
            with _text(path) as file:
                first = pd.read_csv(file, sep=separator, header=None, nrows=1, dtype="str", keep_default_na=False)
            # pandas would call the second of two columns "a" "a.1"
            _check_names(path, pd.Index([str(name) or f"Unnamed: {i}" for i, name in enumerate(first.iloc[0])]))
            with _text(path) as file:
                dtype = dict.fromkeys(text, "str")
                table = pd.read_csv(file, sep=separator, dtype=dtype, index_col=False, low_memory=False)
            table.columns = table.columns.map(str)
    _check_table(path, table)
    return table


def open_table(path: str | Path) -> Table:
    """Open a table as :func:`read_table` does, but leave the rows of a Parquet file there until they are needed."""
    path = Path(path)
    if not path.name.lower().endswith(".parquet"):
        return read_table(path)
    with _reading(path):
        table = ParquetRows(path)
    _check_table(path, table)
    return table


def rows_of(table: Table, start: int, stop: int) -> pd.DataFrame:
    """Return the rows of a table from `start` up to but not including `stop`."""
    return table.rows(start, stop) if isinstance(table, ParquetRows) else table.iloc[start:stop]


@contextmanager
def _reading(path: Path) -> Iterator[str]:
    """Yield the kind of a file, csv, tsv or parquet, and turn the errors of reading it into a DataError."""
    if os.path.isdir(path):
        raise DataError(f"{path} is a directory; name a {READABLE} file in it")
    if not os.path.exists(path):
        raise DataError(f"no such file: {path}")
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if kind not in {"csv", "tsv", "parquet"} or path.name.lower().endswith(".parquet.gz"):
        raise DataError(f"cannot tell the format of {path}; name a {READABLE} file")
    try:
        with warnings.catch_warnings():
            # pandas only warns when rows are longer than the header, and then drops or shifts their values
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield kind
    except DataError:
        raise
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} is empty") from None
    except ImportError as error:
        raise DataError(f'cannot read {path} without pyarrow; pip install "viva-tensor[train]"') from error
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {path}: not UTF-8 text (byte {error.start})") from error
    except (OSError, ValueError, EOFError, NotImplementedError, zlib.error, pd.errors.ParserWarning) as error:
        raise DataError(f"cannot read {path} as {kind.upper()}: {one_line(error)}") from error


def _check_table(path: Path, table: Table) -> None:
    _check_names(path, table.columns)
    if not (len(table) and len(table.columns)):
        raise DataError(f"{path} has no rows")


def _check_names(path: Path, names: pd.Index[str]) -> None:
    if not names.is_unique:
        raise DataError(f"{path} has two columns named {names[names.duplicated()][0]!r}; rename one")


@contextmanager
def _text(path: Path) -> Iterator[IO[Any]]:
    """Open a text file for pandas, which silently misreads NUL bytes, where fields end, and blank lines that end in a
    carriage return alone, where fields shift.
    """
    read: Any = gzip.open if path.name.lower().endswith(".gz") else open
    offset, last, bare = 0, b"", False
    with read(path, "rb") as file:
        while chunk := file.read(1 << 20):
            if (found := chunk.find(0)) >= 0:
                raise DataError(f"cannot read {path}: not UTF-8 text (byte {offset + found} is NUL)")
            bare = bare or (last + chunk[:-1]).count(b"\r") > (last + chunk).count(b"\r\n")
            offset, last = offset + len(chunk), chunk[-1:]
        bare = bare or last == b"\r"
    with read(path, "rt", encoding="utf-8-sig") if bare else read(path, "rb") as file:
        yield file


def target_kind(table: Table, target: str) -> str:
    """Return the kind of column `target`: "number", or "class" for text, categories and booleans.

    Raises
    ------
    DataError
        If there is no such column, or it is of neither kind.

    Examples
    --------
    >>> target_kind(pd.DataFrame({"cut": ["Fair", None, "Ideal"]}), "cut")
    'class'
    """
    if target not in table.columns:
        folded = {str(name).casefold(): name for name in table.columns}
        near = difflib.get_close_matches(target.casefold(), list(folded), n=1)
        hint = f"; did you mean {folded[near[0]]!r}?" if near else "."
        raise DataError(f"no column {target!r}{hint} The columns are: {', '.join(map(str, table.columns))}")
    kind = kind_of(table[target])
    if kind == "empty":
        raise DataError(f"column {target!r} has no values")
    if kind in {"date", "other"}:
        held = "dates" if kind == "date" else "other values"
        raise DataError(f"training needs numbers, text or booleans to predict; column {target!r} holds {held}")
    return "number" if kind == "number" else "class"


def split_rows(n_rows: int, test_fraction: float = 0.2, validation_fraction: float = 0.1, seed: int = 0) -> Split:
    """Divide the rows of a table at random into training, validation and test rows.

    Test rows are drawn from all rows, validation rows from the rest; there is at least one of each, and two to train.

    Raises
    ------
    DataError
        If there are too few rows.

    Examples
    --------
    >>> [len(part) for part in split_rows(100)]
    [72, 8, 20]
    """
    n_test = max(1, round(n_rows * test_fraction))
    n_validation = max(1, round((n_rows - n_test) * validation_fraction))
    if n_rows - n_test - n_validation < 2:
        raise DataError(
            f"{n_rows} {'row' if n_rows == 1 else 'rows'} with a target are too few to split into training, "
            f"validation and test rows with a test fraction of {test_fraction:g}"
        )
    order = np.random.default_rng(seed).permutation(n_rows)
    test, validation, train = np.split(order, [n_test, n_test + n_validation])
    return Split(train, validation, test)


def kind_of(column: pd.Series[Any]) -> str:
    """Return the kind of a column: number, boolean, date, text, empty (all values missing) or other."""
    if bool(column.isna().all()):
        return "empty"
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "text"
    match pd.api.types.infer_dtype(column, skipna=True):
        case "integer" | "floating" | "decimal" | "mixed-integer-float":
            return "number"
        case "boolean":
            return "boolean"
        case "datetime64" | "datetime" | "date":
            return "date"
        case "string" | "mixed-integer":
            return "text"
        case _:
            return "other"


def numbers_of(column: pd.Series[Any], origin: str | None = None) -> Float64Array:
    """Return a column of numbers or booleans, or of dates as days since `origin`, as float64.

    Missing and infinite values are NaN.
    """
    wanted = "numbers" if origin is None else "dates"
    if (kind := kind_of(column)) == ("date" if origin is None else "number"):  # pandas would count nanoseconds
        raise DataError(f"column {column.name!r} must hold {wanted}, not {kind}s")
    try:
        if origin is None:
            if column.dtype == object:
                column = column.map(_in_range)
            values = pd.to_numeric(column).to_numpy(np.float64, na_value=np.nan)
        else:
            days = (pd.to_datetime(column, utc=True) - pd.Timestamp(origin)) / pd.Timedelta(days=1)
            values = days.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(f"column {column.name!r} must hold {wanted}: {one_line(error)}") from error
    return np.where(np.isfinite(values), values, np.nan)


def _in_range(value: Any) -> Any:
    """Return a value, or infinity for an integer beyond float64, which pandas refuses."""
    return math.inf if isinstance(value, int) and abs(value) > sys.float_info.max else value


def labels_of(column: pd.Series[Any]) -> tuple[npt.NDArray[np.intp], list[str]]:
    """Return the code of every row, -1 where missing, and the label of every code; two codes may share a label.

    Examples
    --------
    >>> labels_of(pd.Series([True, None, False, True]))
    (array([ 0, -1,  1,  0]), ['True', 'False'])
    """
    codes, values = pd.factorize(column)
    # a missing value turns integers into floats, which must not change their label
    return codes, [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values]


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks, or its type if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__
