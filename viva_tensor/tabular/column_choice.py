"""How each column of a table is best encoded, chosen from its training rows; `encoding.py` is what comes of it."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from viva_tensor.distributed import ALONE, Ranks
from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular.columns import CLIP, DAYS, Categorical, Column, Date, Numeric
from viva_tensor.tabular.data import (
    EPOCH,
    DataError,
    IndexArray,
    Table,
    check_sequence,
    has_offsets,
    kind_of,
    label_of,
    labels_of,
    numbers_of,
)
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.labels import mark_of
from viva_tensor.tabular.progress import counted

MAX_CATEGORIES = 64
MOST_OTHERS = 10_000  # rarer categories that are marked as known; a model has a number for each
MOST_BINNED = 2_000_000  # rows times bins of a column
PARTS = {"year": (48, 24, 12), "week": (7,), "day": (48, 24, 12)}  # bins of each
IDENTIFIER_SHARE = 0.9  # a text column with this share of distinct values identifies its rows
GAP = 3.0  # times as far as the next value: what lies beyond is absurd
SPARE = 3.0  # times as far as any value of few
FAR = 20.0  # distances of the quartiles, beyond which a value does not count for mean and deviation
SEVERAL = 2  # rows with one far value
LEAST_ROWS = 20  # of an integer column that is taken for a running number
TOO_CLOSE = "values too large or too close together for float64"
IDENTIFIER_NAME = re.compile(
    r"(|.*[\W_])(id|Id|ID|[iI]ndex|idx|[kK]ey|[nN]r|[nN]o|[rR]ow|rownames|rowid|#)|.*[a-z]I[dD]|Unnamed: \d+"
)


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


class NoFeatures(DataError):
    """No column is left to learn from; the message says why each is left out."""


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
    bins, which hold as many rows each; dates also have their place in the year, the week and the day, with as many
    ``bins`` also by weekdays and by parts of the day and the year as long as each other; the 64 most frequent texts or
    categories are one-hot encoded. A column is left out if it is constant, all missing, of another kind, a text that
    differs in nearly every row, or integers that number the rows. Each rank looks at some of the columns.

    Raises
    ------
    NoFeatures
        If no column is left.
    """
    names = [name for name in table.columns if name not in (target, roles.id, *roles.drop)]
    with ranks.fail_together("fit_encoding"):
        looked_at = names[ranks.local_slice(len(names))]
        bar = counted(looked_at, "looking at columns", len(looked_at))
        local = {name: _fit_column(table[name], rows, roles, bins) for name in bar}
    fitted = {name: column for share in ranks.all(local) for name, column in share.items()}
    if any(not isinstance(one.column, str) and not one.numbers_rows for one in fitted.values()):
        row_numbers = _Fitted("it numbers the rows; --numeric keeps it")
        fitted = {name: row_numbers if one.numbers_rows else one for name, one in fitted.items()}
    left_out = {name: one.column for name, one in fitted.items() if isinstance(one.column, str)}
    columns = tuple(one.column for one in fitted.values() if not isinstance(one.column, str))
    if not columns:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise NoFeatures("no usable feature column" + (f" ({reasons})" if reasons else " besides the target"))
    left_out |= dict.fromkeys(roles.drop, "dropped as asked")
    return Encoding(columns, left_out, tuple(one.note for one in fitted.values() if one.note))


class _Fitted(NamedTuple):
    """How to encode a column, or the reason to leave it out; and whether it only numbers the rows."""

    column: Column | str
    numbers_rows: bool = False
    note: str = ""


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
    if scaled == "constant" and selected.nunique() > 1:
        return _Fitted(TOO_CLOSE)
    scaled = replace(scaled, durations=kind == "duration") if isinstance(scaled, Numeric) else scaled
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
    told = f"{kinds:,} categories in the training rows, of which the {MAX_CATEGORIES} most frequent are kept apart"
    return f"{fitted.name}: {told}; {others.sum():,} of these rows have others"


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
    number = distinct[counts.argmax()]
    value = next(form for form in (f"{number:g}", label_of(number)) if float(form) == number)  # the shorter if exact
    hint = f"if it means missing: --missing {value} (of an estimator: missing=[{value}])"
    return f"{fitted.name}: {counts.max():,} rows have {value}, far from most others; {hint}"


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
        edges = edges_of(values[~absent], bins) if bins else ()
        near = np.clip(values, *_bounds(values))
        mean, std = float(near.mean()), 1.0 if low == high else float(near.std())
    if low == high and not missing:
        return "constant"
    if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
        return TOO_CLOSE
    first, third = np.quantile(values[~absent], [0.25, 0.75])
    sparse = bins > 0 and bool(first == third) and len(np.unique(values)) > 2
    if not (edges or sparse):  # beside bins that tell small values apart a long tail does no harm
        return Numeric(name, median, mean, std, missing, low, high)
    with np.errstate(over="ignore"):
        scaled = (values - mean) / std
    further = SPARE if sparse else 1.0  # where most values are alike, few rows tell how far others reach
    reach = -_reach(-scaled) * further, _reach(scaled) * further
    return Numeric(name, median, mean, std, missing, low, high, edges, reach)


def _reach(scaled: Float64Array) -> float:
    """Return up to which number values are told apart: that after which the next is too far from it, or `CLIP`."""
    far = np.concatenate([[CLIP], np.sort(scaled[scaled > CLIP])])
    gaps = far[1:] > GAP * far[:-1]
    return float(far[np.argmax(gaps) if gaps.any() else -1])


def edges_of(values: Float64Array, bins: int) -> tuple[float, ...]:
    """Return the edges of bins with as many values each, or all distinct values if they are few; none for two.

    Examples
    --------
    >>> edges_of(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 2), edges_of(np.array([1.0, 2.0, 2.0]), 2)
    ((1.0, 3.0, 5.0), ())
    """
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
    parts = tuple(next((part for part in PARTS[cycle] if part <= bins), 1) for cycle in telling) if bins else ()
    return Date(name, origin.isoformat(), scaled, telling, has_offsets(column), parts)


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
    ordered = sorted(counts, key=lambda label: (-counts[label], label))
    frequent, rare = ordered[:MAX_CATEGORIES], ordered[MAX_CATEGORIES:]
    others = tuple(sorted({*map(mark_of, rare)})) if len(rare) <= MOST_OTHERS else None
    return Categorical(name, tuple(sorted(frequent)), missing, others)
