"""The rows that a network is trained on, checked and split."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from viva_tensor import autograd
from viva_tensor.autograd.operations import CONSTANT
from viva_tensor.autograd.tape import new_leaves
from viva_tensor.distributed import ALONE, Ranks
from viva_tensor.error import DimensionError, InvalidShape, InvalidValue, ShapeMismatch
from viva_tensor.kernels.arrays import Float32Array, Float64Array, as_numbers
from viva_tensor.program.run import chosen_rows
from viva_tensor.train.settings import Loss, Settings, recorded
from viva_tensor.train.sparse import SparseRows, arrays_of, numbers_of_x

IntArray = npt.NDArray[np.int64]
Arrays = tuple[Float32Array, ...]  # features, targets and perhaps weights

CLASSIFYING = ("cross_entropy", "binary_cross_entropy")  # losses whose targets are classes, and outputs logits
MOST_CLASSES = 1 << 24  # float32 holds each class number up to this
CHECKED = 65536  # rows checked at a time
LEAST_WEIGHT = 2.0**-100  # of the largest; far enough from 0 to divide by in float32


@dataclass(frozen=True)
class Rows:
    """Checked features [rows, features], targets and perhaps weights [rows], and the indices of the rows to use."""

    x: Float32Array | SparseRows
    y: Float32Array
    indices: IntArray
    weights: Float32Array | None = None

    @property
    def arrays(self) -> Arrays:
        """What a compiled step takes of all rows: features, targets and, if there are some, weights."""
        others = (self.y,) if self.weights is None else (self.y, self.weights)
        return (*arrays_of(self.x), *others)

    @property
    def count(self) -> int:
        """How many rows are used."""
        return len(self.indices)

    @property
    def features(self) -> int:
        """How many features a row has."""
        return int(self.x.shape[1])

    def take(self, which: slice) -> Rows:
        """Return some of the rows to use, without the others."""
        indices = self.indices[which]
        weights = None if self.weights is None else self.weights[indices]
        return Rows(self.x[indices], self.y[indices], np.arange(len(indices)), weights)


def checked_rows(
    what: str,
    x: npt.ArrayLike | SparseRows,
    y: npt.ArrayLike,
    settings: Settings,
    classes: int | None,
    indices: npt.ArrayLike | None = None,
    ranks: Ranks = ALONE,
    weights: npt.ArrayLike | None = None,
) -> Rows:
    """Return all rows or those at some indices, checked; rows without a finite target are left out, with a warning.

    So are those of weight 0, without one. Weights are divided by the largest; if they are all alike there are none.
    Each rank checks the features of its share of the rows.
    """
    operation, loss, dtype = f"fit on {what}", settings.loss, settings.dtype
    with ranks.fail_together(operation):
        features, target = numbers_of_x(operation, x, dtype), as_numbers(operation, "y", y, dtype)
    shapes = f"x has shape {features.shape}, y {target.shape}"
    if features.ndim != 2 or target.ndim not in (1, 2):
        hint = "x is [rows, features], y is [rows] or [rows, outputs]"
        raise DimensionError(shapes, operation=operation, hint=hint)
    if len(features) != len(target):
        wanted = (len(features), *target.shape[1:])
        raise ShapeMismatch(wanted, target.shape, operation=operation, hint="give one target for each row")
    if 0 in features.shape or 0 in target.shape:
        hint = "give some rows" if 0 in (len(features), len(target)) else "give some columns"
        raise InvalidShape(shapes, operation=operation, hint=hint)
    chosen = np.arange(len(features)) if indices is None else chosen_rows(operation, indices, len(features))
    with ranks.fail_together(operation):
        local = chosen[ranks.local_slice(len(chosen))]
        _check_finite(operation, features, local)
    kept = np.logical_and.reduce(np.isfinite(target).reshape(len(target), -1), axis=1)[chosen]
    if not kept.all():
        missing = chosen[~kept]
        if len(missing) == len(kept):
            raise InvalidValue("no row has a finite target", operation=operation)
        if ranks.first:
            known = np.isnan(target[missing]).any(axis=tuple(range(1, target.ndim))).all()
            told = "no finite target" if known else f"no target that is finite in {dtype}"
            warnings.warn(
                f"{operation}: {len(missing)} of {len(kept)} rows have {told}, the first is row {missing[0]}; "
                "they are left out",
                stacklevel=4,
            )
        chosen = chosen[kept]
    if loss in CLASSIFYING:
        _check_labels(operation, target, chosen, str(loss), classes)
    target = target if target.ndim == 2 or loss == "cross_entropy" else target[:, None]
    if weights is None:
        return Rows(features, target, chosen)
    shares = shares_of(operation, weights, len(features), chosen)
    chosen = chosen[shares[chosen] > 0]
    alike = bool((shares[chosen] == 1).all())
    return Rows(features, target, chosen, None if alike else shares.astype(dtype))


def check_function(loss: Loss, rows: Rows, outputs: int, batch: int) -> None:
    """Raise unless a function makes a loss of what is on the tape alone, and takes all targets.

    It is recorded once, on the first batch, so what it reads from arrays in Python would stay as it was there. Its
    constants are therefore compared with those of all rows.

    Raises
    ------
    InvalidValue
        If they differ, or the function refuses a target.
    """
    first = _constants(loss, rows, outputs, slice(min(batch, max(1, rows.count - 1))))
    for start in range(0, rows.count, CHECKED):
        try:
            others = _constants(loss, rows, outputs, slice(start, start + CHECKED))
        except InvalidValue as error:
            counted = f"; rows are counted among those to train on, from {start:,}"
            raise InvalidValue(error.reason + counted, operation=error.operation, hint=error.hint) from error
        if not all(np.array_equal(*two, equal_nan=True) for two in zip(first, others, strict=False)):
            got = f"loss={getattr(loss, '__qualname__', loss)} makes a constant of arrays, and is called but once"
            hint = "compute it from output and target with functions of autograd, or give it as targets"
            raise InvalidValue(got, operation="fit", hint=hint)


def _constants(loss: Loss, rows: Rows, outputs: int, which: slice) -> list[Float32Array]:
    """Return what a function puts on the tape besides outputs, targets and weights of some rows."""
    some = rows.indices[which]
    given = [np.zeros((len(some), outputs), rows.y.dtype), rows.y[some]]
    given += [] if rows.weights is None else [rows.weights[some]]
    inputs, tape = new_leaves(autograd.new_tape(), given, autograd.new_constant)
    longer = recorded(loss, tape, *inputs).tape
    return [node.output.data for node in longer.nodes()[len(tape) :] if node.operation is CONSTANT]


def _check_finite(operation: str, features: Float32Array | SparseRows, rows: IntArray) -> None:
    """Raise if a feature of some rows is infinite or NaN."""
    numbers = arrays_of(features)[-1]
    for start in range(0, len(rows), CHECKED):
        block = rows[start : start + CHECKED]
        bad = np.argwhere(~np.isfinite(numbers[block]))
        if len(bad):
            row, place = block[bad[0, 0]], bad[0, 1]
            column = int(features.indices[row, place]) if isinstance(features, SparseRows) else place
            hint = f"fill in missing values, and scale values too large for {features.dtype}"
            raise InvalidValue(f"x[{row}, {column}] is {numbers[row, place]}", operation=operation, hint=hint)


def check_weights(operation: str, weights: npt.ArrayLike, rows: int) -> Float64Array:
    """Return weights, one for each row, as float64.

    Raises
    ------
    DtypeError, ShapeMismatch, InvalidValue
        If they are not as many numbers as there are rows, or one is negative, infinite or NaN.
    """
    numbers: Float64Array = as_numbers(operation, "weights", weights, "float64")
    if numbers.shape != (rows,):
        raise ShapeMismatch((rows,), numbers.shape, operation=operation, hint="give one weight for each row")
    bad = np.flatnonzero(~(np.isfinite(numbers) & (numbers >= 0)))
    if len(bad):
        hint = "weights are finite and at least 0"
        raise InvalidValue(f"the weight of row {bad[0]} is {numbers[bad[0]]}", operation=operation, hint=hint)
    return numbers


def shares_of(operation: str, weights: npt.ArrayLike, rows: int, chosen: IntArray) -> Float64Array:
    """Return weights divided by the largest of the chosen rows, 0 where next to nothing is left.

    Raises
    ------
    DtypeError, ShapeMismatch, InvalidValue
        As :func:`check_weights`, or if no row has a weight above 0.
    """
    numbers = check_weights(operation, weights, rows)
    largest = numbers[chosen].max()
    if not largest:
        raise InvalidValue("no row has a weight above 0", operation=operation)
    shares: Float64Array = np.minimum(numbers, largest) / largest  # others than the chosen may have larger ones
    return np.where(shares < LEAST_WEIGHT, 0.0, shares)


def _check_labels(operation: str, targets: Float32Array, chosen: IntArray, loss: str, classes: int | None) -> None:
    target, hint = targets[chosen], ""
    if loss == "cross_entropy" and target.ndim == 1:
        most = (MOST_CLASSES if classes is None else classes) - 1
        bad = np.flatnonzero((target < 0) | (target > most) | (target != np.floor(target)))
        wanted = f"class numbers from 0 to {most}"
        hint = "" if classes is None else "classes= says how many there are, where the rows to train on lack the last"
    elif loss == "cross_entropy":
        bad = np.flatnonzero((target < 0).any(axis=1) | (abs(target.sum(axis=1, dtype=np.float64) - 1) > 1e-3))
        wanted = "probabilities that sum to 1"
    else:
        bad = np.flatnonzero(((target < 0) | (target > 1)).reshape(len(target), -1).any(axis=1))
        wanted = "numbers from 0 to 1"
    if len(bad):
        raise InvalidValue(
            f"the target of row {chosen[bad[0]]} is {target[bad[0]]}, wanted {wanted}", operation=operation, hint=hint
        )


def split(rows: Rows, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Return the rows to train on and the rows for validation; a row that is there several times is in one of them."""
    total, kinds = len(rows.indices), len(np.unique(rows.indices))
    count = round(total * fraction)
    if kinds == 1 < total:
        got, hint = f"all {total} rows are row {rows.indices[0]}", "give others, too, or validation_fraction=0"
        raise InvalidValue(got, operation="fit", hint=hint)
    if not 0 < count < total:
        raise InvalidValue(
            f"validation_fraction={fraction} of {total} rows leaves {total - count} to train on, {count} to validate",
            operation="fit",
            hint="give more rows, another fraction, or validation=(x, y)",
        )
    order = np.random.default_rng((seed, 1)).permutation(kinds)  # not the weights' generator
    if kinds < total:  # as in a bootstrap
        _, kind, copies = np.unique(rows.indices, return_inverse=True, return_counts=True)
        most = max(1, int(np.searchsorted(np.cumsum(copies[order]), count, side="right")))
        order, count = np.argsort(~np.isin(kind, order[:most]), kind="stable"), int(copies[order[:most]].sum())
    held_out, kept = np.sort(order[:count]), np.sort(order[count:])
    return replace(rows, indices=rows.indices[kept]), replace(rows, indices=rows.indices[held_out])
