"""Columns of a table as float32 features.

An `Encoding` is fitted on training rows only, and describes itself as plain JSON, so that new rows can be encoded
exactly as the training rows were. Values that are missing, NaN or infinite all count as missing.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from viva_tensor.distributed import ALONE, Ranks
from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular.columns import CLIP, DAYS, Categorical, Column, Date, Effect, Numeric, column_from_dict
from viva_tensor.tabular.data import (
    EPOCH,
    DataError,
    IndexArray,
    Table,
    check_sequence,
    did_you_mean,
    has_offsets,
    kind_of,
    labels_of,
    numbers_of,
    one_line,
)
from viva_tensor.tabular.progress import counted

MAX_CATEGORIES = 64
BLOCK = 65536  # rows encoded at a time
IDENTIFIER_SHARE = 0.9  # a text column with this share of distinct values identifies its rows
GAP = 3.0  # times as far as the next value: what lies beyond is absurd
FAR = 20.0  # distances of the quartiles, beyond which a value does not count for mean and deviation
SEVERAL = 2  # rows with one far value
LEAST_ROWS = 20  # of an integer column that is taken for a running number
IDENTIFIER_NAME = re.compile(
    r"(|.*[\W_])(id|Id|ID|[iI]ndex|idx|[kK]ey|[nN]r|[nN]o|[rR]ow|rownames|rowid|#)|.*[a-z]I[dD]|Unnamed: \d+"
)
UNNAMED = re.compile(r"column\d+")  # the names of columns in a file without a line of names


@dataclass(frozen=True)
class Roles:
    """What a user says about columns.

    Attributes
    ----------
    drop : tuple of str
        Columns to leave out.
    categorical : tuple of str
        Columns whose values are categories, though they look like numbers.
    numeric : tuple of str
        Columns of numbers to keep as such, though they look like the number of a row.
    id : str, optional
        A column that names the rows: no feature, but carried over to predictions.
    """

    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    id: str | None = None

    def __post_init__(self) -> None:
        check_sequence("columns", drop=self.drop, categorical=self.categorical, numeric=self.numeric)


@dataclass(frozen=True)
class Encoding:
    """How the columns of a table become features; `left_out` gives the reason for each column that does not.

    `notes` are lines about columns, for a person.

    Examples
    --------
    >>> table = pd.DataFrame({"carat": [0.2, 0.3, None, 0.4], "cut": ["Fair", "Ideal", "Fair", "Fair"], "shop": 1})
    >>> encoding = fit_encoding(table)
    >>> encoding.feature_names
    ('carat', 'carat=(missing)', 'cut=Fair', 'cut=Ideal')
    >>> dict(encoding.left_out)
    {'shop': 'constant'}
    >>> encoding.encode(table).shape
    (4, 4)
    >>> Encoding.from_dict(encoding.to_dict()) == encoding
    True
    """

    columns: tuple[Column, ...]
    left_out: Mapping[str, str] = field(default_factory=dict, hash=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(name for column in self.columns for name in column.feature_names)

    @property
    def unbinned(self) -> IndexArray:
        """The indices of the features that are no bins, which linear models do not need."""
        return np.flatnonzero([not is_bin for column in self.columns for is_bin in column.binned])

    @property
    def plain(self) -> IndexArray:
        """The indices of the features that are neither bins nor effects: what other learners would be given."""
        effects = [isinstance(column, Effect) for column in self.columns for _ in column.feature_names]
        return np.setdiff1d(self.unbinned, np.flatnonzero(effects))

    @property
    def places(self) -> dict[str, IndexArray]:
        """The indices of the features of each column of the table."""
        names = np.array([column.name for column in self.columns for _ in column.feature_names])
        return {name: np.flatnonzero(names == name) for name in dict.fromkeys(column.name for column in self.columns)}

    def encode(self, table: Table) -> npt.NDArray[np.float32]:
        """Return the features of `table`: a C-contiguous float32 array [rows, features] without NaN or infinity.

        One column after another is read, and encoded in blocks of rows, so that little more than the features is held.

        Raises
        ------
        DataError
            If a column is missing, or holds text where the training rows held numbers.
        """
        features = np.empty((len(table), len(self.feature_names)), np.float32)
        start = 0
        for column, blocks in pieces(self, table):
            stop = start + len(column.feature_names)
            for rows, values in blocks:
                features[rows, start:stop] = column.encode(values)
            start = stop
        return features

    def unfamiliar(self, table: pd.DataFrame) -> tuple[str, ...]:
        """Describe values unlike those of the training rows: beyond their range, or in none of their categories.

        Where each value has an effect, all others are unlike.
        """
        self.check(table)
        effects = {column.name for column in self.columns if isinstance(column, Effect)}
        lines = []
        for column in self.columns:
            values = table[column.name]
            if column.name in effects and isinstance(column, Numeric | Categorical):  # the effect tells, but of missing
                usual = column.median if isinstance(column, Numeric) else column.categories[0]
                values = values.astype(object).where(values.isna(), usual)
            lines.append(column.unfamiliar(values))
        return tuple(filter(None, lines))

    def check(self, table: Table) -> None:
        """Raise if a table lacks a column.

        Raises
        ------
        DataError
        """
        absent = [name for name in dict.fromkeys(one.name for one in self.columns) if name not in table.columns]
        if absent:
            hint = did_you_mean(absent[0], [name for name in table.columns if name not in absent])
            if all(map(UNNAMED.fullmatch, absent)):
                hint = "; if the file has no line of names: --no-header"
            raise DataError(f"the table lacks columns used in training: {', '.join(absent)}{hint}")

    def to_dict(self) -> dict[str, Any]:
        """Return the encoding as numbers, strings, lists and dicts for JSON."""
        columns = [{"kind": type(column).__name__.lower(), **asdict(column)} for column in self.columns]
        return {"columns": columns, "left_out": dict(self.left_out)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Encoding:
        """Return the encoding that `to_dict` described.

        Raises
        ------
        DataError
            If `record` is not such a description.
        """
        try:
            return cls(tuple(map(column_from_dict, record["columns"])), dict(record["left_out"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not the description of an encoding: {one_line(error)}") from error


def pieces(encoding: Encoding, table: Table) -> Iterator[tuple[Column, Iterator[tuple[slice, pd.Series[Any]]]]]:
    """Yield each column of an encoding with the table's values, in blocks of rows; one column is read after another.

    Raises
    ------
    DataError
        If the table lacks a column.
    """
    encoding.check(table)
    starts = range(0, len(table), BLOCK)
    for column in counted(encoding.columns, "encoding columns", len(encoding.columns)):
        values = table[column.name]
        yield column, ((slice(row, row + BLOCK), values.iloc[row : row + BLOCK]) for row in starts)


def fit_encoding(
    table: Table,
    rows: IndexArray | None = None,
    target: str | None = None,
    ranks: Ranks = ALONE,
    roles: Roles = Roles(),  # frozen
    bins: int = 0,
) -> Encoding:
    """Choose the encoding of every column of `table` but the target from the training rows, or from all rows.

    Numbers, booleans, durations and dates are standardised, and with ``bins`` also have a feature for each of so many
    bins, which hold as many rows each; dates also have their place in the year, the week and the day; the 64 most
    frequent texts or categories are one-hot encoded. A column is left out if it is constant, all missing, of
    another kind, a text that differs in nearly every row, or integers that number the rows. Each rank looks at some of
    the columns.

    Raises
    ------
    DataError
        If no column is left.
    """
    names = [name for name in table.columns if name not in (target, roles.id, *roles.drop)]
    with ranks.fail_together("fit_encoding"):
        looked_at = names[ranks.local_slice(len(names))]
        bar = counted(looked_at, "looking at columns", len(looked_at))
        local = {name: _fit_column(table[name], rows, roles, bins) for name in bar}
    fitted = {name: column for share in ranks.all(local) for name, column in share.items()}
    if any(not isinstance(one.column, str) and not one.numbers_rows for one in fitted.values()):
        fitted = {name: one.without_row_numbers() for name, one in fitted.items()}
    left_out = {name: one.column for name, one in fitted.items() if isinstance(one.column, str)}
    columns = tuple(one.column for one in fitted.values() if not isinstance(one.column, str))
    if not columns:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise DataError("no usable feature column" + (f" ({reasons})" if reasons else " besides the target"))
    left_out |= dict.fromkeys(roles.drop, "dropped as asked")
    return Encoding(columns, left_out, tuple(one.note for one in fitted.values() if one.note))


class _Fitted(NamedTuple):
    """How to encode a column, or the reason to leave it out; and whether it only numbers the rows."""

    column: Column | str
    numbers_rows: bool = False
    note: str = ""

    def without_row_numbers(self) -> _Fitted:
        return _Fitted("it numbers the rows; --numeric keeps it") if self.numbers_rows else self


def _fit_column(column: pd.Series[Any], rows: IndexArray | None, roles: Roles, bins: int) -> _Fitted:
    name = str(column.name)
    selected = column if rows is None else column.iloc[rows]
    kind = "text" if name in roles.categorical else kind_of(selected)
    match kind:
        case "empty":
            return _Fitted("all values missing")
        case "other":
            return _Fitted("neither numbers nor text nor dates")
        case "text":
            fitted = _fit_categorical(name, selected, keep=name in roles.categorical)
            return _Fitted(fitted, note=_rest(fitted, selected))
        case "date":
            return _Fitted(_fit_date(name, selected, bins))
    scaled = _fit_numeric(name, numbers_of(selected), bins)
    if kind == "duration":
        return _Fitted(scaled, note=f"{name}: durations, in hours")
    return _Fitted(
        scaled,
        numbers_rows=kind == "number" and name not in roles.numeric and _numbers_rows(column),
        note=infinite_in(column) or (_far(scaled, column) if kind == "number" else ""),
    )


def _numbers_rows(column: pd.Series[Any]) -> bool:
    """Return whether integers count the rows, or differ in all of them and are called an index or the like."""
    if not pd.api.types.is_integer_dtype(column) or len(column) < LEAST_ROWS or column.isna().any():
        return False
    values = column.to_numpy(np.int64)
    if values[0] in (0, 1) and bool((np.diff(values) == 1).all()):  # else it may be years
        return True
    if not isinstance(column.index, pd.RangeIndex) and pd.api.types.is_integer_dtype(column.index):
        beside = values - column.index.to_numpy(np.int64)  # of some rows of a file
        if beside[0] in (0, 1) and bool((beside == beside[0]).all()):
            return True
    return bool(IDENTIFIER_NAME.fullmatch(str(column.name))) and column.is_unique


def _rest(fitted: Categorical | str, column: pd.Series[Any]) -> str:
    """Describe the rows whose category is not among the most frequent, if there are any."""
    if isinstance(fitted, str) or len(fitted.categories) < MAX_CATEGORIES:
        return ""
    codes, labels = labels_of(column)
    others = np.array([label not in fitted.categories for label in (*labels, fitted.categories[0])])[codes]
    if not others.any():
        return ""
    kinds = len(set(labels))
    told = f"{kinds:,} categories, of which the {MAX_CATEGORIES} most frequent are told apart"
    return f"{fitted.name}: {told}; {others.sum():,} rows are of others"


def _bounds(values: Float64Array) -> tuple[float, float]:
    """Return how far values may lie from the median: so many times the distance of the quartiles.

    If these are equal, as where most values are 0, it is the median distance of the values that differ.
    """
    first, median, third = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    typical = third - first
    if not typical:
        typical = float(np.median(np.abs(values[values != median] - median))) if (values != median).any() else math.inf
    return median - FAR * typical, median + FAR * typical


def _far(fitted: Numeric | str, column: pd.Series[Any]) -> str:
    """Describe a value that lies absurdly far from all others, as words for missing ones such as -999 do."""
    values = numbers_of(column)
    present = values[~np.isnan(values)]
    if isinstance(fitted, str) or not len(present):
        return ""
    low, high = _bounds(present)
    far = (values < low) | (values > high)
    distinct, counts = np.unique(values[far], return_counts=True)
    if not len(distinct) or counts.max() < SEVERAL:
        return ""
    value = distinct[counts.argmax()]
    hint = f"if it means missing: --missing {value:g}"
    return f"{fitted.name}: {counts.max():,} rows have {value:g}, far from most others; {hint}"


def infinite_in(column: pd.Series[Any]) -> str:
    """Return words about the infinite values of a column, if it has some.

    Examples
    --------
    >>> infinite_in(pd.Series([1.0, float("inf")], name="x"))
    'x: infinite values count as missing (1)'
    """
    if not pd.api.types.is_float_dtype(column):
        return ""
    count = int(np.isinf(column.to_numpy(np.float64, na_value=np.nan)).sum())
    return f"{column.name}: infinite values count as missing ({count:,})" if count else ""


def _fit_numeric(name: str, values: Float64Array, bins: int) -> Numeric | str:
    absent = np.isnan(values)
    if absent.all():
        return "all values missing"
    missing = bool(absent.any())
    with np.errstate(over="ignore", invalid="ignore"):
        median = float(np.median(values[~absent] if missing else values))
        values = np.where(absent, median, values) if missing else values
        low, high = float(values.min()), float(values.max())
        edges = _edges(values[~absent], bins) if bins else ()
        near = np.clip(values, *_bounds(values))
        mean, std = float(near.mean()), 1.0 if low == high else float(near.std())
    if low == high and not missing:
        return "constant"
    if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
        return "values too large or too close together for float64"
    if not edges:  # beside bins that tell small values apart a long tail does no harm
        return Numeric(name, median, mean, std, missing, low, high)
    with np.errstate(over="ignore"):
        scaled = (values - mean) / std
    return Numeric(name, median, mean, std, missing, low, high, edges, (-_reach(-scaled), _reach(scaled)))


def _reach(scaled: Float64Array) -> float:
    """Return up to which number values are told apart: that after which the next is too far from it, or `CLIP`."""
    far = np.concatenate([[CLIP], np.sort(scaled[scaled > CLIP])])
    gaps = far[1:] > GAP * far[:-1]
    return float(far[np.argmax(gaps) if gaps.any() else -1])


def _edges(values: Float64Array, bins: int) -> tuple[float, ...]:
    """Return the edges of bins with as many values each, or all distinct values if they are few; none for two."""
    distinct = np.unique(values)
    if len(distinct) > bins + 1:
        distinct = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
    return tuple(distinct.tolist()) if len(distinct) > 2 else ()


def _fit_date(name: str, column: pd.Series[Any], bins: int) -> Date | str:
    origin = pd.to_datetime(column, utc=True).min()
    days = numbers_of(column, origin.isoformat())
    scaled = _fit_numeric(name, days, bins)
    if isinstance(scaled, str):
        return scaled
    present = days[~np.isnan(days)] + numbers_of(pd.Series([origin]), EPOCH)[0]
    span, dates = float(np.ptp(present)), len(np.unique(np.floor(present)))
    cycles = {
        "year": span > DAYS["year"],  # else the day of the year says no more than the day
        "week": span > 2 * DAYS["week"] and dates > span / 4,  # of monthly dates the weekday is chance
        "day": span > 2 and len(np.unique(np.mod(present, 1.0).round(6))) > 1,
    }
    telling = tuple(cycle for cycle, tells in cycles.items() if tells)
    return Date(name, origin.isoformat(), scaled, telling, has_offsets(column))


def _fit_categorical(name: str, column: pd.Series[Any], keep: bool) -> Categorical | str:
    codes, labels = labels_of(column)
    missing = bool((codes < 0).any())
    counts: Counter[str] = Counter()
    for label, count in zip(labels, np.bincount(codes[codes >= 0], minlength=len(labels)).tolist(), strict=True):
        counts[label] += count
    if not counts:
        return "all values missing"
    if len(counts) == 1 and not missing:
        return "constant"
    # a few words in a column that is mostly empty, as merged cells are, identify nothing
    named = counts.total() if 2 * counts.total() >= len(codes) or len(counts) > MAX_CATEGORIES else len(codes)
    if not keep and len(counts) > 1 and len(counts) >= IDENTIFIER_SHARE * named:
        return "identifier: the text differs in nearly every row" + " that has one" * missing
    frequent = sorted(counts, key=lambda label: (-counts[label], label))[:MAX_CATEGORIES]
    return Categorical(name, tuple(sorted(frequent)), missing)
