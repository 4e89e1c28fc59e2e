"""The rows that recipes are fitted on, checked: numbers, codes of categories, and targets."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from viva_tensor.error import DimensionError, DtypeError, InvalidShape, InvalidValue, ShapeMismatch
from viva_tensor.kernels.arrays import Float32Array, Float64Array, as_numbers, read
from viva_tensor.kernels.checks import is_whole
from viva_tensor.program.run import chosen_rows

IntArray = npt.NDArray[np.int64]
LARGEST_CODE = np.iinfo(np.int64).max


class Rows(NamedTuple):
    """Numbers [rows, numbers] and codes of categories [rows, columns], either of which may have no columns."""

    x: Float32Array
    codes: IntArray

    def take(self, rows: IntArray) -> Rows:
        """Return some of the rows."""
        return Rows(self.x[rows], self.codes[rows])

    @property
    def columns(self) -> tuple[int, int]:
        """How many numbers and how many categories a row has."""
        return self.x.shape[1], self.codes.shape[1]


class Split(NamedTuple):
    """Rows and targets to train on, and those for validation."""

    rows: Rows
    y: Float64Array
    validation: Rows
    validation_y: Float64Array


def checked_rows(operation: str, x: npt.ArrayLike | None, categories: npt.ArrayLike | None) -> Rows:
    """Return numbers and codes as arrays of as many rows, checked.

    Raises
    ------
    DimensionError, ShapeMismatch, InvalidShape, DtypeError, InvalidValue
        If one is no matrix; if rows differ; if there is nothing; if numbers are no numbers or not finite; if codes are
        not whole.

    Examples
    --------
    >>> checked_rows("fit", [[0.5], [1.5]], [[2], [-1]]).columns
    (1, 1)
    """
    if x is None and categories is None:
        raise InvalidValue("neither x nor categories", operation=operation, hint="give numbers, categories or both")
    numbers = None if x is None else as_numbers(operation, "x", x)
    codes = None if categories is None else _whole(operation, categories)
    for name, array in (("x", numbers), ("categories", codes)):
        if array is not None and array.ndim != 2:
            hint = f"{name} is [rows, columns]"
            raise DimensionError(f"{name} has shape {array.shape}", operation=operation, hint=hint)
    count = len(numbers if numbers is not None else codes if codes is not None else ())
    numbers = np.zeros((count, 0), np.float32) if numbers is None else numbers
    codes = np.zeros((count, 0), np.int64) if codes is None else codes
    if len(codes) != count:
        wanted = (count, codes.shape[1])
        raise ShapeMismatch(wanted, codes.shape, operation=operation, hint="give as many rows of x and of categories")
    rows = Rows(numbers, codes)
    if not count or not sum(rows.columns):
        got = f"x of shape {numbers.shape}, categories of shape {codes.shape}"
        raise InvalidShape(got, operation=operation, hint="give some rows and columns")
    bad = np.argwhere(~np.isfinite(numbers))
    if len(bad):
        row, column = bad[0]
        got = f"x[{row}, {column}] is {numbers[row, column]}"
        raise InvalidValue(got, operation=operation, hint="fill in missing values, for example with the median")
    return rows


def _whole(operation: str, categories: npt.ArrayLike) -> IntArray:
    array = read(operation, categories)
    hint = "give codes, as pandas.factorize(column)[0]; -1 is missing"
    if array.dtype.kind == "O" and all(is_whole(one) and abs(one) <= LARGEST_CODE for one in array.flat):
        array = array.astype(np.int64)  # integers of a table's own
    if array.dtype.kind not in "iub":
        raise DtypeError(f"categories are an array of {array.dtype}, wanted integers", operation=operation, hint=hint)
    if array.dtype.kind == "u" and array.size and array.max() > LARGEST_CODE:
        raise InvalidValue(f"categories hold {array.max()}, beyond 64 bits", operation=operation, hint=hint)
    return array.astype(np.int64)


def checked_targets(operation: str, y: npt.ArrayLike, rows: int, classes: int | None) -> Float64Array:
    """Return targets [rows], checked: finite numbers, or numbers of classes.

    Examples
    --------
    >>> checked_targets("fit", [0, 2, 1], rows=3, classes=3)
    array([0., 2., 1.])
    """
    target: Float64Array = as_numbers(operation, "y", y, np.float64)
    if target.shape != (rows,):
        raise ShapeMismatch((rows,), target.shape, operation=operation, hint="give one target for each row")
    fine = np.isfinite(target)
    wanted = "a finite number"
    if classes is not None:
        fine &= (target >= 0) & (target < classes) & (target == np.floor(target))
        wanted = f"the number of a class from 0 to {classes - 1}"
    if not fine.all():
        row = int(np.argmin(fine))
        hint = "leave rows without a target out"
        raise InvalidValue(f"y[{row}] is {target[row]}, wanted {wanted}", operation=operation, hint=hint)
    return target


def split_rows(
    rows: Rows, y: Float64Array, validation: Any, fraction: float, seed: int, classes: int | None, numbered: Any = None
) -> Split:
    """Return rows to train on and rows for validation: those given, those at some indices, or a share at random.

    Parameters
    ----------
    rows : Rows
    y : ndarray [rows]
    validation : (x, categories, y), array_like of int, or None
    fraction : float
        The share, if nothing is given.
    seed : int
    classes : int, optional
    numbered : callable, optional
        Makes class numbers of the targets that are given for validation.
    """
    if isinstance(validation, tuple):
        if len(validation) != 3:
            hint = "give (x, categories, y), or indices of rows"
            raise InvalidValue(f"validation is a tuple of {len(validation)}", operation="fit", hint=hint)
        x, categories, wanted = validation
        held_out = checked_rows("fit on validation rows", x, categories)
        check_columns("fit on validation rows", rows.columns, held_out)
        wanted = wanted if numbered is None else numbered(wanted)
        return Split(rows, y, held_out, checked_targets("fit on validation rows", wanted, len(held_out.x), classes))
    if validation is None:
        count = round(len(y) * fraction)
        chosen = np.random.default_rng((seed, 1)).permutation(len(y))[:count]  # not the generator of the weights
    else:
        chosen = chosen_rows("fit on validation rows", validation, len(y))
    kept = np.delete(np.arange(len(y)), chosen)
    if not len(kept) or not len(chosen):
        got = f"{len(kept)} of {len(y)} rows to train on, {len(chosen)} to validate"
        raise InvalidValue(got, operation="fit", hint="give more rows, or validation=(x, categories, y)")
    chosen = np.sort(chosen)
    return Split(rows.take(kept), y[kept], rows.take(chosen), y[chosen])


def check_columns(operation: str, columns: tuple[int, int], rows: Rows) -> None:
    """Raise unless rows have so many numbers and categories."""
    if rows.columns != columns:
        got = f"{rows.columns[0]} numbers and {rows.columns[1]} categories"
        raise InvalidShape(
            f"{got} in a row, wanted {columns[0]} and {columns[1]}",
            operation=operation,
            hint="give the columns that the recipe was fitted on, in their order",
        )
