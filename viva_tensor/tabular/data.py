"""Tables: finding their columns, what these hold, and splitting the rows."""

from __future__ import annotations

import difflib
import math
from bisect import bisect_left
from collections.abc import Hashable, Iterable
from datetime import datetime, time, timedelta
from decimal import Decimal
from importlib import resources
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from viva_tensor.distributed.agreement import digest
from viva_tensor.extras import extra
from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular.parquet import ParquetRows, data_frame, readable, unknown_to_arrow

SAMPLED = 1_000  # rows of a digest: some of all, or those that a Parquet file begins with
EPOCH = "1969-12-29"  # a Monday, from which weeks are counted
MIDNIGHT = " 00:00:00"  # which some programs write behind a date

Table = pd.DataFrame | ParquetRows


class ArrowTable(Protocol):
    """A table of polars, Arrow or another library with Arrow's interface."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


AnyTable = Table | ArrowTable
IndexArray = npt.NDArray[np.int64]


class DataError(ValueError):
    """A table or a request that training cannot use; the message is one line for the user."""


class Split(NamedTuple):
    """Row indices of the three disjoint parts of a table, each an int64 array."""

    train: IndexArray
    validation: IndexArray
    test: IndexArray

    @property
    def given(self) -> IndexArray:
        """All rows that are not for the test."""
        return np.concatenate([self.train, self.validation])


def diamonds_path() -> Path:
    """Return the path of the bundled table: 53,940 diamonds, each with nine properties and a price in US dollars."""
    return Path(str(resources.files("viva_tensor"))) / "datasets" / "diamonds.csv.gz"


def as_table(table: Any) -> Table:
    """Return a table of another library (Arrow, polars, or any with Arrow's interface) as a DataFrame.

    The names of its columns are text: a number becomes its digits.

    Raises
    ------
    DataError
        If it is no table, or two of its columns have one name.

    Examples
    --------
    >>> import pyarrow as pa
    >>> as_table(pa.table({"a": [2**53 + 1, None]}))["a"].tolist()
    [9007199254740993, <NA>]
    """
    if isinstance(table, ParquetRows):
        return table
    if isinstance(table, pd.DataFrame):
        return _named(table)
    got = f"wanted a table such as a pandas or polars DataFrame, got {type(table).__name__}"
    if not hasattr(table, "__arrow_c_stream__"):
        lazy = type(table).__name__ == "LazyFrame"
        raise DataError(f"{got}; {'call .collect()' if lazy else 'for arrays: train.fit(x, y)'}")
    with extra("train"):
        import pyarrow as pa

    try:
        found = pa.table(table)
    except pa.ArrowInvalid as error:  # one column has the interface, too
        raise DataError(unknown_to_arrow(table) or f"{got}: {one_line(error)}") from error
    return _named(data_frame(found))


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns have different names, all of them text."""
    if not all(type(name) is str for name in table.columns):  # NumPy's are found under no name
        table = table.set_axis(list(map(str, table.columns)), axis=1)
    check_names("the table", table.columns)
    return readable(table)


def rows_of(table: Table, start: int, stop: int) -> pd.DataFrame:
    """Return the rows of a table from `start` up to but not including `stop`."""
    return table.rows(start, stop) if isinstance(table, ParquetRows) else table.iloc[start:stop]


def digest_of(table: Table) -> str:
    """Return a digest of a table by some of its rows; of a Parquet file, also by what it says of all.

    Examples
    --------
    >>> one, other = pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]})
    >>> digest_of(one) == digest_of(one.copy()), digest_of(one) == digest_of(other)
    (True, False)
    """
    if isinstance(table, ParquetRows):
        described, some = table.description, table.rows(0, min(len(table), SAMPLED))
    else:
        described, some = "", table.iloc[:: max(1, len(table) // SAMPLED)]
    known = [name for name in some if kind_of(some[name]) != "other"]  # objects may be written by their place in memory
    rows = pd.util.hash_pandas_object(some[known].astype(str), index=False).to_numpy()
    return digest(f"{len(table)} rows of {list(map(str, table.columns))}{described}".encode(), rows)


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
    check_column(table, target)
    kind = kind_of(table[target])
    if kind == "empty":
        raise DataError(f"column {target!r} has no values")
    if kind in {"date", "duration", "other"}:
        held = "other values" if kind == "other" else f"{kind}s"
        hint = "; divide them by a unit of time, such as pd.Timedelta(hours=1)" if kind == "duration" else ""
        raise DataError(f"training needs numbers, text or booleans to predict; column {target!r} holds {held}{hint}")
    return "number" if kind == "number" else "class"


def check_names(table: Path | str, names: pd.Index[str], hint: str = "rename one") -> None:
    """Raise if two columns of a table, or of the file that it is in, have the same name, with a hint.

    Raises
    ------
    DataError
    """
    if not names.is_unique:
        raise DataError(f"{table} has two columns named {names[names.duplicated()][0]!r}; {hint}")


def check_column(table: Table, name: str) -> None:
    """Raise if a table has no column of this name, with the columns that it has.

    Raises
    ------
    DataError
    """
    if name not in table.columns:
        hint = did_you_mean(name, table.columns) or "."
        raise DataError(f"no column {name!r}{hint} The columns are: {', '.join(map(str, table.columns))}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a question that names the nearest of some names of columns, or nothing.

    Examples
    --------
    >>> did_you_mean("Carat", ["carat", "cut"]), did_you_mean("price", ["carat", "cut"])
    ("; did you mean 'carat'?", '')
    """
    folded = {one.casefold(): one for one in map(str, names)}
    near = [folded[one] for one in difflib.get_close_matches(name.casefold(), list(folded), n=1)]
    quoted = f""" (in a list of names: '"{near[0]}"')""" if near and "," in near[0] else ""
    return f"; did you mean {near[0]!r}{quoted}?" if near else ""


def split_rows(
    n_rows: int,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.1,
    seed: int = 0,
    classes: npt.ArrayLike | None = None,
) -> Split:
    """Divide the rows of a table at random into training, validation and test rows.

    Test rows are drawn from all rows, validation rows from the rest; there is at least one of each, and two to train.
    With a test fraction of 0 there are no test rows.
    With the class number of each row, each part has its share of each class, and training rows have at least one row of
    each.

    Raises
    ------
    DataError
        If there are too few rows.

    Examples
    --------
    >>> [len(part) for part in split_rows(100)]
    [72, 8, 20]
    """

    def sizes(n_rows: int) -> tuple[int, int, int]:
        n_test = max(1, round(n_rows * test_fraction)) if test_fraction else 0
        n_validation = max(1, round((n_rows - n_test) * validation_fraction))
        return n_test, n_validation, n_rows - n_test - n_validation

    n_test, n_validation, n_train = sizes(n_rows)
    if n_train < 2:
        parts = "training, validation and test rows" if n_test else "training and validation rows"
        share = f" with a test fraction of {test_fraction:g}" if n_test else ""
        few = f"{number_of(n_rows, 'row')} with a target {'is' if n_rows == 1 else 'are'} too few"
        wanted = bisect_left(range(2**40), 2, key=lambda rows: sizes(rows)[2])
        raise DataError(f"{few} to split into {parts}{share}; wanted {wanted:,} or more")
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_rows)
    if classes is not None:
        order = order[np.argsort(_positions(np.asarray(classes)[order], rng), kind="stable")]
    test, validation, train = np.split(order, [n_test, n_test + n_validation])
    return Split(train, validation, test)


def _positions(classes: npt.NDArray[Any], rng: np.random.Generator) -> Float64Array:
    """Return positions from 0 to 1 that spread the rows of each class evenly, the last of each behind 1."""
    positions = np.empty(len(classes))
    for one in np.unique(classes):
        rows = np.flatnonzero(classes == one)
        positions[rows] = (np.arange(len(rows)) + rng.uniform(size=len(rows))) / len(rows)
        positions[rows[-1]] = 2.0
    return positions


def kind_of(column: pd.Series[Any]) -> str:
    """Return the kind of a column: number, boolean, date, duration, text, empty (all values missing) or other."""
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
        case "timedelta64" | "timedelta":
            return "duration"
        case "mixed-integer" | "mixed" if _all_numbers(column):
            return "number"
        case "string" | "mixed-integer":
            return "text"
        case _:
            return "other"


def _all_numbers(column: pd.Series[Any]) -> bool:
    """Return whether objects are numbers of any kinds that have an order; booleans are 0 and 1."""
    return bool(column.dropna().map(lambda value: isinstance(value, Real | Decimal | np.bool_)).all())


def numbers_of(column: pd.Series[Any], origin: str | None = None) -> Float64Array:
    """Return a column of numbers, booleans or durations in hours, or of dates as days since `origin`, as float64.

    Missing and infinite values are NaN.
    """
    wanted = "numbers" if origin is None else "dates"
    kind = kind_of(column)
    if kind == "empty":  # which may be that of dates or durations
        return np.full(len(column), np.nan)
    if kind in ({"date"} if origin is None else {"number", "duration"}):  # pandas would count nanoseconds
        raise DataError(f"column {column.name!r} must hold {wanted}, not {kind}s")
    try:
        if origin is None:
            if kind == "duration":
                column = pd.to_timedelta(column) / pd.Timedelta(hours=1)
            elif column.dtype == object:
                column = column.map(_as_float)
            elif kind == "number" and isinstance(column.dtype, pd.ArrowDtype) and column.dtype.kind not in "iu":
                column = column.astype("double[pyarrow]")  # of decimals and halves pandas knows no missing ones
            values = pd.to_numeric(column).to_numpy(np.float64, na_value=np.nan)
        else:
            start = pd.Timestamp(origin)
            start = start.tz_convert("UTC") if start.tzinfo else start.tz_localize("UTC")
            days = (pd.to_datetime(column, utc=True) - start) / pd.Timedelta(days=1)
            values = days.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(f"column {column.name!r} must hold {wanted}: {one_line(error)}") from error
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, np.nan)


def _as_float(value: Any) -> Any:
    """Return a number of any kind as float64, infinity beyond it, and other values as they are."""
    try:
        return float(value) if isinstance(value, Real | Decimal | np.bool_) else value
    except OverflowError:
        return math.inf


def has_offsets(column: pd.Series[Any]) -> bool | None:
    """Return whether dates have an offset from UTC or a time zone, None if there are no dates or some have one.

    Examples
    --------
    >>> days = pd.Series(pd.to_datetime([None, "2024-01-31"]))
    >>> has_offsets(days), has_offsets(days.dt.tz_localize("Asia/Tokyo")), has_offsets(days[:1])
    (False, True, None)
    """
    dates = column.dropna()
    some = dates if dates.dtype == object else dates[:1]
    found = {getattr(one, "tzinfo", None) is not None for one in some}
    return found.pop() if len(found) == 1 else None


def labels_of(column: pd.Series[Any]) -> tuple[npt.NDArray[np.intp], list[str]]:
    """Return the code of every row, -1 where missing, and the label of every code; two codes may share a label.

    Examples
    --------
    >>> labels_of(pd.Series([True, None, False, True]))
    (array([ 0, -1,  1,  0]), ['True', 'False'])
    """
    try:
        codes, values = pd.factorize(column)
    except TypeError as error:  # lists and dicts
        got = next((type(one).__name__ for one in column if not isinstance(one, Hashable)), "tuple")
        hint = "make text of them, or leave the column out"
        raise DataError(f"column {column.name!r} must hold text, numbers or dates, not a {got}; {hint}") from error
    return codes, [label_of(value) for value in values]


def label_of(value: object) -> str:
    """Return the label of a value of a column: of a date without a time, that which text files have.

    Times of day and durations are H:MM:SS.

    Examples
    --------
    >>> label_of(1), label_of(1.0), label_of(True), label_of("1")  # a missing value turns integers into floats
    ('1', '1', 'True', '1')
    >>> label_of(pd.Timestamp("2024-01-31")), label_of(pd.Timestamp("2024-01-31 10:30"))
    ('2024-01-31', '2024-01-31 10:30:00')
    >>> label_of(time(7, 30)), label_of(timedelta(hours=7)), label_of(pd.Timedelta(days=1, seconds=-0.5))
    ('7:30:00', '7:00:00', '23:59:59.500000')
    >>> label_of(np.datetime64("2024-01-31T00:00")), label_of(np.timedelta64(99, "h"))
    ('2024-01-31', '99:00:00')
    """
    if isinstance(value, np.datetime64 | np.timedelta64):
        value = pd.Timestamp(value) if isinstance(value, np.datetime64) else pd.Timedelta(value)
    if isinstance(value, datetime):
        return str(value).removesuffix(MIDNIGHT)
    if isinstance(value, time):
        return str(value).removeprefix("0")
    if isinstance(value, timedelta):
        return _clock(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _clock(duration: timedelta) -> str:
    """Return a duration as H:MM:SS, with as many hours as it has."""
    micros = abs(duration) // timedelta(microseconds=1)
    minutes, rest = divmod(micros, 60_000_000)
    fraction = f".{rest % 1_000_000:06}" if rest % 1_000_000 else ""
    sign = "-" if duration < timedelta(0) else ""
    return f"{sign}{minutes // 60}:{minutes % 60:02}:{rest // 1_000_000:02}{fraction}"


def check_sequence(wanted: str, **given: object) -> None:
    """Raise DataError if what should be a sequence of texts is one text, whose characters it would be.

    Examples
    --------
    >>> check_sequence("columns", drop="price")
    Traceback (most recent call last):
    viva_tensor.tabular.data.DataError: drop='price', wanted a sequence of columns, such as ('price',)
    """
    for name, value in given.items():
        if isinstance(value, str):
            raise DataError(f"{name}={value!r}, wanted a sequence of {wanted}, such as ({value!r},)")


def number_of(count: int, noun: str) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> number_of(1, "row"), number_of(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks, or its type if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__
