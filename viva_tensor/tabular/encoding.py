"""Columns of a table as float32 features.

An `Encoding` is fitted on training rows only, and describes itself as plain JSON, so that new rows can be encoded
exactly as the training rows were. Values that are missing, NaN or infinite all count as missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from viva_tensor.distributed import ALONE, Ranks
from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular.data import DataError, IndexArray, Table, kind_of, labels_of, numbers_of, one_line

MAX_CATEGORIES = 64
IDENTIFIER_SHARE = 0.9  # a text column with this share of distinct values identifies its rows
CLIP = 10.0  # standard deviations; one absurd value must not outweigh all others
MISSING = "(missing)"


@dataclass(frozen=True)
class Numeric:
    """A number, boolean or date as ``(value - mean) / std``, clipped to ±10, with `median` for a missing value.

    If `missing`, a second feature is 1 where the value is missing. Dates are days since `origin`.
    """

    name: str
    median: float
    mean: float
    std: float
    missing: bool = False
    origin: str | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        return (self.name, f"{self.name}={MISSING}") if self.missing else (self.name,)

    def encode(self, column: pd.Series[Any]) -> Float64Array:
        values = numbers_of(column, self.origin)
        absent = np.isnan(values)
        with np.errstate(over="ignore"):
            scaled = np.clip((np.where(absent, self.median, values) - self.mean) / self.std, -CLIP, CLIP)
        return np.column_stack([scaled, absent] if self.missing else [scaled])


@dataclass(frozen=True)
class Categorical:
    """A text or category as one feature per category: 1 for the category of the row, 0 elsewhere.

    A value outside `categories` is 0 everywhere. If `missing`, a last feature is 1 where the value is missing.
    """

    name: str
    categories: tuple[str, ...]
    missing: bool = False

    @property
    def feature_names(self) -> tuple[str, ...]:
        labels = (*self.categories, MISSING) if self.missing else self.categories
        return tuple(f"{self.name}={label}" for label in labels)

    def encode(self, column: pd.Series[Any]) -> npt.NDArray[np.bool_]:
        codes, labels = labels_of(column)
        index = {category: i for i, category in enumerate(self.categories)}
        n = len(self.categories)
        # code -1, a missing value, finds the last entry
        indices = np.array([*(index.get(label, -1) for label in labels), n])[codes]
        one_hot: npt.NDArray[np.bool_] = indices[:, None] == np.arange(n + self.missing)
        return one_hot


@dataclass(frozen=True)
class Encoding:
    """How the columns of a table become features; `left_out` gives the reason for each column that does not.

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

    columns: tuple[Numeric | Categorical, ...]
    left_out: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(name for column in self.columns for name in column.feature_names)

    def encode(self, table: pd.DataFrame) -> npt.NDArray[np.float32]:
        """Return the features of `table`: a C-contiguous float32 array [rows, features] without NaN or infinity.

        Raises
        ------
        DataError
            If a column is missing, or holds text where the training rows held numbers.
        """
        absent = [column.name for column in self.columns if column.name not in table.columns]
        if absent:
            raise DataError(f"the table lacks columns used in training: {', '.join(absent)}")
        features = np.empty((len(table), len(self.feature_names)), np.float32)
        start = 0
        for column in self.columns:
            stop = start + len(column.feature_names)
            features[:, start:stop] = column.encode(table[column.name])
            start = stop
        return features

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
            return cls(tuple(map(_column_from_dict, record["columns"])), dict(record["left_out"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not the description of an encoding: {one_line(error)}") from error


def fit_encoding(
    table: Table, rows: IndexArray | None = None, target: str | None = None, ranks: Ranks = ALONE
) -> Encoding:
    """Choose the encoding of every column of `table` but the target from the training rows, or from all rows.

    Numbers, booleans and dates are standardised; the 64 most frequent texts or categories are one-hot encoded. A column
    is left out if it is constant, all missing, of another kind, or a text that differs in nearly every row. Each rank
    looks at some of the columns.

    Raises
    ------
    DataError
        If no column is left.
    """
    names = [name for name in table.columns if name != target]
    with ranks.fail_together("fit_encoding"):
        local = {
            name: _fit_column(name, table[name] if rows is None else table[name].iloc[rows])
            for name in names[ranks.local_slice(len(names))]
        }
    fitted = {name: column for share in ranks.all(local) for name, column in share.items()}
    left_out = {name: reason for name, reason in fitted.items() if isinstance(reason, str)}
    columns = tuple(column for column in fitted.values() if not isinstance(column, str))
    if not columns:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise DataError("no usable feature column" + (f" ({reasons})" if reasons else " besides the target"))
    return Encoding(columns, left_out)


def _fit_column(name: str, column: pd.Series[Any]) -> Numeric | Categorical | str:
    """Return how to encode a column, or the reason to leave it out."""
    kind = kind_of(column)
    if kind == "empty":
        return "all values missing"
    if kind == "other":
        return "neither numbers nor text nor dates"
    return _fit_categorical(name, column) if kind == "text" else _fit_numeric(name, column, is_date=kind == "date")


def _fit_numeric(name: str, column: pd.Series[Any], is_date: bool) -> Numeric | str:
    origin = pd.to_datetime(column, utc=True).min().isoformat() if is_date else None
    values = numbers_of(column, origin)
    absent = np.isnan(values)
    if absent.all():
        return "all values missing"
    missing = bool(absent.any())
    with np.errstate(over="ignore", invalid="ignore"):
        median = float(np.median(values[~absent]))
        values = np.where(absent, median, values)
        constant = bool(values.min() == values.max())
        mean, std = float(values.mean()), 1.0 if constant else float(values.std())
    if constant and not missing:
        return "constant"
    if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
        return "values too large or too close together for float64"
    return Numeric(name, median, mean, std, missing, origin)


def _fit_categorical(name: str, column: pd.Series[Any]) -> Categorical | str:
    codes, labels = labels_of(column)
    missing = bool((codes < 0).any())
    counts: Counter[str] = Counter()
    for label, count in zip(labels, np.bincount(codes[codes >= 0], minlength=len(labels)).tolist(), strict=True):
        counts[label] += count
    if len(counts) == 1 and not missing:
        return "constant"
    if len(counts) > 1 and len(counts) >= IDENTIFIER_SHARE * counts.total():
        return "identifier: the text differs in nearly every row"
    frequent = sorted(counts, key=lambda label: (-counts[label], label))[:MAX_CATEGORIES]
    return Categorical(name, tuple(sorted(frequent)), missing)


def _column_from_dict(record: Mapping[str, Any]) -> Numeric | Categorical:
    if record["kind"] == "categorical":
        return Categorical(str(record["name"]), tuple(map(str, record["categories"])), bool(record["missing"]))
    if record["kind"] != "numeric":
        raise ValueError(f"unknown kind {record['kind']!r}")
    median, mean, std = (float(record[key]) for key in ("median", "mean", "std"))
    if not (np.isfinite([median, mean, std]).all() and std > 0):
        raise ValueError(f"column {record['name']!r} has no finite median, mean and positive std")
    return Numeric(str(record["name"]), median, mean, std, bool(record["missing"]), record["origin"])
