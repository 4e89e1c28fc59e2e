"""Columns of a table as float32 features.

An `Encoding` is fitted on training rows only, and describes itself as plain JSON, so that new rows can be encoded
exactly as the training rows were. Values that are missing, NaN or infinite all count as missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from viva_tensor.tabular.columns import Categorical, Column, Effect, Numeric, column_from_dict
from viva_tensor.tabular.data import (
    DataError,
    IndexArray,
    Table,
    did_you_mean,
    one_line,
)
from viva_tensor.tabular.progress import counted

BLOCK = 65536  # rows encoded at a time
UNNAMED = re.compile(r"column\d+")  # the names of columns in a file without a line of names


@dataclass(frozen=True)
class Encoding:
    """How the columns of a table become features; `left_out` gives the reason for each column that does not.

    `notes` are lines about columns, for a person.

    Examples
    --------
    >>> from viva_tensor.tabular.column_choice import fit_encoding
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
        """The indices of the features that are neither bins nor effects: other learners in a blend should differ."""
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
                hint = "; if the file has no header line, give --no-header"
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
