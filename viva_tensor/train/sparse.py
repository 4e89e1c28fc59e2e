"""Rows of few numbers: features that are mostly 0, or mostly equal to the next, and a network's first layer on them.

The first layer's product then is a sum of a few rows of its weights, or of running sums of its weights, for each row.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from viva_tensor import autograd, nn
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.error import DtypeError, IndexOutOfBounds, InvalidShape, InvalidValue
from viva_tensor.kernels.along import as_starts
from viva_tensor.kernels.arrays import Array, as_numbers, float_dtype
from viva_tensor.kernels.checks import check_count

MOST_FEATURES = 1 << 24  # float32 holds each index up to this
CHEAPER = 4.0  # features per entry, from which sums of rows of the weights take less time than a product


@dataclass(frozen=True, eq=False)
class SparseRows:
    r"""A matrix of features [rows, features] by its entries, as many in each row; what is not an entry is 0.

    With ``starts`` the entries are differences of neighbours: features from the first on, and from each of these
    indices on, are a run, and

    .. math:: x_{ic} = \sum_{j \ge c} s_{ij}

    over the entries s of feature c and those after it in its run. So a number in bins, of which the first are 1, one is
    a fraction and the last are 0, has two entries.

    Parameters
    ----------
    indices : array_like [rows, entries]
        The feature of each entry. Entries of the same feature add up.
    values : array_like [rows, entries]
    features : int
    starts : sequence of int, optional
        In ascending order. None: the entries are the features themselves.

    Raises
    ------
    DtypeError, InvalidShape, InvalidValue, IndexOutOfBounds
        If indices and values are no matrices of one shape, an index or a start is no whole number, or it is not that of
        a feature.

    Examples
    --------
    >>> SparseRows([[0, 2], [1, 2]], [[5.0, 1.0], [6.0, 2.0]], features=3).dense().tolist()
    [[5.0, 0.0, 1.0], [0.0, 6.0, 2.0]]
    >>> SparseRows([[1, 0], [3, 2]], [[0.25, 0.75], [0.5, 0.5]], 4, starts=(0,)).dense().tolist()
    [[1.0, 0.25, 0.0, 0.0], [1.0, 1.0, 1.0, 0.5]]
    """

    indices: Array
    values: Array
    features: int
    starts: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        name = "SparseRows"
        double = getattr(self.values, "dtype", None) == np.float64
        values = as_numbers(name, "values", self.values, np.float64 if double else np.float32)
        indices = as_numbers(name, "indices", self.indices, values.dtype)
        if indices.ndim != 2 or indices.shape != values.shape or not indices.shape[1]:
            got = f"indices have shape {indices.shape}, values {values.shape}"
            hint = "give both [rows, entries], of rows with fewer entries some of value 0"
            raise InvalidShape(got, operation=name, hint=hint)
        features = check_count(name, "features", self.features)
        if features > MOST_FEATURES:
            raise InvalidValue(f"features={features}, wanted at most {MOST_FEATURES}", operation=name)
        wrong = ~((indices >= 0) & (indices < features) & (indices == np.floor(indices)))
        if wrong.any():
            row, place = np.argwhere(wrong)[0]
            index = float(indices[row, place])
            if index.is_integer():
                hint = f"features run from 0 to {features - 1}, and indices[{row}, {place}] is none of them"
                raise IndexOutOfBounds(int(index), features, operation=name, hint=hint)
            got = f"indices[{row}, {place}] is {index:g}, wanted a whole number from 0 to {features - 1}"
            raise InvalidValue(got, operation=name)
        starts = None if self.starts is None else as_starts(name, self.starts, features)
        for attribute, value in (("values", values), ("indices", indices), ("features", features), ("starts", starts)):
            object.__setattr__(self, attribute, value)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return len(self.values), self.features

    @property
    def ndim(self) -> int:
        """2, as of any matrix."""
        return 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values."""
        return self.values.dtype

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> SparseRows:
        """Return some rows, by a slice, a mask or their indices."""
        try:
            chosen = None if isinstance(rows, tuple) else self.indices[rows]
        except IndexError:
            chosen = None
        if chosen is None or chosen.ndim != 2:
            got = f"of {len(self)} rows those at {reprlib.repr(rows)}"
            hint = "give a slice such as x[:8], a mask, or an array of indices"
            raise InvalidValue(got, operation="SparseRows", hint=hint)
        return self._of(chosen, self.values[rows])

    def astype(self, dtype: npt.DTypeLike) -> SparseRows:
        """Return the same rows with values in float32 or float64."""
        dtype = float_dtype("SparseRows", dtype)
        return self._of(self.indices.astype(dtype, copy=False), as_numbers("SparseRows", "values", self.values, dtype))

    def _of(self, indices: Array, values: Array) -> SparseRows:
        """Return features of the same kind by entries that need no check."""
        other = copy(self)
        vars(other).update(indices=indices, values=values)
        return other

    def dense(self) -> Array:
        """Return the features as an array [rows, features]."""
        features = np.zeros(self.shape, self.dtype)
        rows = np.arange(len(self))
        for place, values in zip(self.indices.T.astype(np.intp), self.values.T, strict=True):
            features[rows, place] += values
        bounds = range(self.features + 1) if self.starts is None else sorted({0, *self.starts, self.features})
        for start, stop in pairwise(bounds):
            if stop - start > 1:
                features[:, start:stop] = features[:, start:stop][:, ::-1].cumsum(axis=1)[:, ::-1]
        return features


def numbers_of_x(operation: str, x: Any, dtype: npt.DTypeLike) -> Any:
    """Return features of rows in a dtype."""
    if hasattr(x, "tocsr"):
        got, hint = f"x is a {type(x).__name__} of SciPy", "give x.toarray(), or train.SparseRows"
        raise DtypeError(got, operation=operation, hint=hint)
    return x.astype(dtype) if isinstance(x, SparseRows) else as_numbers(operation, "x", x, dtype)


def kind_of(x: object) -> object:
    """Return what a compiled network depends on beside the shape of rows: the runs of sparse ones, or else a word."""
    return getattr(x, "starts", "an array")


def arrays_of(x: Array | SparseRows) -> tuple[Array, ...]:
    """Return what a compiled network takes for some rows: their features, or the indices and values of the entries."""
    return (x.indices, x.values) if isinstance(x, SparseRows) else (x,)


def turned(arrays: Iterable[Array], sparse: bool) -> list[Array]:
    """Return the arrays of layers, for sparse rows with the first weights as [in, out], to add up rows of; or back."""
    first, *others = arrays
    return [np.ascontiguousarray(first.T) if sparse else first, *others]


def forward(
    tape: Tape,
    layers: tuple[nn.Linear, ...],
    inputs: tuple[Variable, ...],
    like: Array | SparseRows,
    activation: str,
    dropout_rate: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Traced[Variable]:
    """Record the outputs of a network for inputs as :func:`arrays_of` gives them, with weights :func:`turned`.

    Dropouts are those of :func:`viva_tensor.nn.mlp_forward`.
    """
    if not isinstance(like, SparseRows):
        return nn.mlp_forward(tape, layers, *inputs, activation=activation, dropout_rate=dropout_rate, rng=rng)
    (table, bias), *others = layers
    if like.starts is not None:
        table, tape = autograd.cumsum(tape, table, axis=0, starts=like.starts)
    outputs, tape = autograd.embedding_bag(tape, table, *inputs)
    outputs, tape = autograd.add(tape, outputs, bias)
    if not others:
        return Traced(outputs, tape)
    hidden, tape = nn.ACTIVATIONS[activation](tape, outputs)
    if dropout_rate:
        hidden, tape = nn.dropout(tape, hidden, dropout_rate, rng=rng)
    return nn.mlp_forward(tape, others, hidden, activation=activation, dropout_rate=dropout_rate, rng=rng)
