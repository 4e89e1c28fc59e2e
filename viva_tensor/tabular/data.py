"""Tables: reading a file, taking its target, splitting its rows."""

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

AS_IT_IS: dict[str, Any] = {"dtype": "str", "keep_default_na": False}
READABLE = ".csv, .tsv, .csv.gz, .tsv.gz or .parquet"

Table = pd.DataFrame | ParquetRows
IndexArray = npt.NDArray[np.int64]


class DataError(ValueError):
    """A table, or what was asked of it, cannot be used for training; the message is one line for the user."""


class Split(NamedTuple):
    """Row numbers of the three disjoint parts of a table, each an int64 array."""

    train: IndexArray
    validation: IndexArray
    test: IndexArray


def diamonds_path() -> Path:
    """Path of the bundled diamonds table: 53,940 diamonds, nine properties each and a price in US dollars."""
    return Path(str(resources.files("viva_tensor"))) / "datasets" / "diamonds.csv.gz"


def read_table(path: str | Path, text: Collection[str] = ()) -> pd.DataFrame:
    """Read a CSV or TSV file with a header line (gzipped or not), or a Parquet file.

    Parameters
    ----------
    path : str or Path
        The suffix tells the format: .csv, .tsv, .csv.gz, .tsv.gz or .parquet.
    text : collection of str
        Columns of a CSV or TSV file that are text even where every value looks like a number.

    Returns
    -------
    DataFrame
        Rows numbered from 0, in the order of the file. In CSV and TSV, blank lines are no rows, and a row shorter than
        the header lacks its last values.

    Raises
    ------
    DataError
        If the file is missing, unreadable, empty or of another format, or two columns have one name.
    """
    path = Path(path)
    with _reading(path) as kind:
        if kind == "parquet":
            rows = ParquetRows(path)
            table = rows.rows(0, len(rows))
        else:
            separator = "," if kind == "csv" else "\t"
            dtype = dict.fromkeys(text, "str")
            with _text(path) as file:
                _check_header(path, pd.read_csv(file, sep=separator, header=None, nrows=1, **AS_IT_IS).iloc[0])
            with _text(path) as file:
                table = pd.read_csv(file, sep=separator, dtype=dtype, index_col=False, low_memory=False)
            table.columns = table.columns.map(str)
    _check_table(path, table)
    return table


def open_table(path: str | Path) -> Table:
    """As :func:`read_table`, but the rows of a Parquet file stay there until they are asked for.

    Raises
    ------
    DataError
        As :func:`read_table`.
    """
    path = Path(path)
    if not path.name.lower().endswith(".parquet"):
        return read_table(path)
    with _reading(path):
        table = ParquetRows(path)
    _check_table(path, table)
    return table


def rows_of(table: Table, start: int, stop: int) -> pd.DataFrame:
    """The rows of a table from start to before stop."""
    return table.rows(start, stop) if isinstance(table, ParquetRows) else table.iloc[start:stop]


@contextmanager
def _reading(path: Path) -> Iterator[str]:
    """The kind of a file to read: csv, tsv or parquet; what reading it raises becomes a DataError."""
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
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise DataError(f"{path} has two columns named {twice!r}; rename one")
    if not (len(table) and len(table.columns)):
        raise DataError(f"{path} has no rows")


@contextmanager
def _text(path: Path) -> Iterator[IO[Any]]:
    """A text file for pandas, which would misread two things in silence: NUL bytes, at which fields end, and blank
    lines that end in a carriage return alone, at which fields shift.
    """
    read: Any = gzip.open if path.name.lower().endswith(".gz") else open
    place, last, bare = 0, b"", False
    with read(path, "rb") as file:
        while chunk := file.read(1 << 20):
            if (found := chunk.find(0)) >= 0:
                raise DataError(f"cannot read {path}: not UTF-8 text (byte {place + found} is NUL)")
            bare = bare or (last + chunk[:-1]).count(b"\r") > (last + chunk).count(b"\r\n")
            place, last = place + len(chunk), chunk[-1:]
        bare = bare or last == b"\r"
    with read(path, "rt", encoding="utf-8-sig") if bare else read(path, "rb") as file:
        yield file


def _check_header(path: Path, header: pd.Series[Any]) -> None:
    """Refuse two columns of one name: pandas would call the second "a" "a.1"."""
    names = [str(name) or f"Unnamed: {i}" for i, name in enumerate(header)]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise DataError(f"{path} has two columns named {name!r}; rename one")


def target_kind(table: Table, target: str) -> str:
    """Tell what column `target` holds: "number", predicted as it is, or "class", for text, categories and booleans.

    Raises
    ------
    DataError
        If there is no such column, or it can be neither.

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
    match kind_of(table[target]):
        case "empty":
            raise DataError(f"column {target!r} has no values")
        case "number":
            return "number"
        case "text" | "boolean":
            return "class"
        case kind:
            held = "dates" if kind == "date" else "other values"
            raise DataError(f"training needs numbers, text or booleans to predict; column {target!r} holds {held}")


def split_rows(n_rows: int, test_fraction: float = 0.2, validation_fraction: float = 0.1, seed: int = 0) -> Split:
    """Divide the rows of a table at random into training, validation and test rows.

    The test part is taken from all rows, the validation part from the rest; each has at least one row, training two.

    Raises
    ------
    DataError
        If there are too few rows for that.

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
    """Tell what a column holds: number, boolean, date, text, empty (nothing but missing values) or other."""
    dtype = column.dtype
    if bool(column.isna().all()):
        return "empty"
    if isinstance(dtype, pd.CategoricalDtype):
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
    """A column of numbers, booleans or dates (then: days since `origin`) as float64, NaN where missing or infinite."""
    if (kind := kind_of(column)) == ("date" if origin is None else "number"):  # pandas would count nanoseconds
        raise DataError(f"column {column.name!r} must hold {'numbers' if origin is None else 'dates'}, not {kind}s")
    try:
        if origin is None:
            if column.dtype == object:
                column = column.map(_in_range)
            values = pd.to_numeric(column).to_numpy(np.float64, na_value=np.nan)
        else:
            days = (pd.to_datetime(column, utc=True) - pd.Timestamp(origin)) / pd.Timedelta(days=1)
            values = days.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        held = "numbers" if origin is None else "dates"
        raise DataError(f"column {column.name!r} must hold {held}: {one_line(error)}") from error
    return np.where(np.isfinite(values), values, np.nan)


def _in_range(value: Any) -> Any:
    """A value, but infinity for a whole number that float64 does not hold, which pandas refuses."""
    return math.inf if isinstance(value, int) and abs(value) > sys.float_info.max else value


def labels_of(column: pd.Series[Any]) -> tuple[npt.NDArray[np.intp], list[str]]:
    """The code of every row, -1 where missing, and the label of every code; two codes may have one label.

    Examples
    --------
    >>> labels_of(pd.Series([True, None, False, True]))
    (array([ 0, -1,  1,  0]), ['True', 'False'])
    """
    codes, values = pd.factorize(column)
    # a missing value turns integers into floats, which must not change their label
    return codes, [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values]


def one_line(error: BaseException) -> str:
    """Return what an error says, without line breaks; its type if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
