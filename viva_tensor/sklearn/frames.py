"""What estimators of tables take for X, as data frames with a name for each column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils import check_array

from viva_tensor.error import InvalidValue
from viva_tensor.tabular.data import as_table, label_of, rows_of
from viva_tensor.tabular.missing_words import drop_missing
from viva_tensor.tabular.parquet import readable


class Frame(NamedTuple):
    """A table.

    Attributes
    ----------
    table : DataFrame
        With text as the names of its columns.
    given : DataFrame or ndarray
        The same as scikit-learn sees it, with or without names.
    named : bool
        Whether the names are the user's.
    """

    table: pd.DataFrame
    given: Any
    named: bool


def as_frame(X: Any, missing: Sequence[Any] | None = None, rows: int = 1, operation: str = "fit") -> Frame:
    """Return a data frame for a table or array; the cells that hold one of the words for `missing` do not hold a value.

    It has at least so many rows.

    Raises
    ------
    ValueError
        If there are too few rows, or no columns, an array is not a matrix, or two columns have one name.

    Examples
    --------
    >>> as_frame([[1, "a"], ["?", "b"]], missing=["?"]).table.isna().sum().tolist()
    [1, 0]
    >>> as_frame([[1, "a"], [2, "b"]]).table["x0"].tolist()
    [1, 2]
    >>> as_frame(np.zeros((2, 3))).table.columns.tolist()
    ['x0', 'x1', 'x2']
    """
    if isinstance(missing, str) or not isinstance(missing, Sequence | np.ndarray | pd.Series | pd.Index | None):
        raise InvalidValue(f"missing={missing!r}, wanted a sequence of words or numbers", operation="fit")
    if isinstance(X, list | tuple) and any(map(np.ma.is_masked, X)):
        X = np.ma.vstack(X)
    if isinstance(X, np.ma.MaskedArray):  # whose mask would be lost
        cells = X.data.astype(object)
        cells[np.ma.getmaskarray(X)] = None
        X = cells
    lazy = type(X).__name__ == "LazyFrame"  # which is told what to do
    if lazy or (hasattr(X, "__arrow_c_stream__") and len(getattr(X, "shape", (0, 0))) == 2):
        table = X if isinstance(X, pd.DataFrame) else as_table(X)
        table = rows_of(table, 0, len(table))
        if len(table) < rows or not len(table.columns):  # raises in scikit-learn's words
            check_array(np.zeros(table.shape), ensure_min_samples=rows)
        named = all(isinstance(name, str) for name in table.columns)
        if named:
            table = table.set_axis(list(map(str, table.columns)), axis=1)  # NumPy's would be found under no name
        given: Any = table
    else:
        given = check_array(X, dtype=None, ensure_all_finite=False, ensure_min_samples=rows)
        if given.dtype.kind in "US" and not hasattr(X, "dtype"):  # a list, of which NumPy makes text if some is
            given = check_array(X, dtype=object, ensure_all_finite=False)
        table = pd.DataFrame(given)
        table = table.infer_objects() if given.dtype == object else table
        named = False
    if not named:
        table = table.set_axis([f"x{i}" for i in range(table.shape[1])], axis=1)
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise InvalidValue(f"X has two columns named {twice!r}", operation=operation, hint="rename one")
    table = readable(table).copy(deep=False)
    drop_missing(table, words_of(missing))
    return Frame(table, given, named)


def words_of(missing: Sequence[Any] | None) -> tuple[str, ...]:
    """Return what stands for missing values as words; NaN and None are missing anyway.

    Examples
    --------
    >>> words_of(["?", -1, 2.0, np.nan, None])
    ('?', '-1', '2')
    """
    nested = [one for one in (() if missing is None else missing) if not pd.api.types.is_scalar(one)]
    if nested:
        got, hint = f"missing has {nested[0]!r}, wanted words or numbers", "give them in one sequence, as ['?', -1]"
        raise InvalidValue(got, operation="fit", hint=hint)
    return tuple(label_of(one) for one in (() if missing is None else missing) if not pd.isna(one))
