"""Embeddings of numbers as vectors that are piecewise linear in the number [1]_.

Each feature of a table has weights of its own. Numbers [batch, features] become vectors [batch, features, width], to be
reshaped to ``(-1, features * width)`` for a linear layer. What is needed of a number, its bin and the fraction of it,
depends on no weights: :func:`locate` computes both in NumPy.

.. [1] Y. Gorishniy, I. Rubachev and A. Babenko, On embeddings for numerical features in tabular deep learning,
   NeurIPS 2022, arXiv:2203.05556.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.autograd.operators import ARITHMETIC, refuses
from viva_tensor.autograd.tape import new_leaves, node_of
from viva_tensor.error import DimensionError, InvalidValue
from viva_tensor.kernels.arrays import Array, as_array, empty, float_dtype, same_shape
from viva_tensor.kernels.checks import check_count, generator, is_iterable
from viva_tensor.nn.initializers import check_sizes, root_uniform
from viva_tensor.nn.layers import check_layer

__all__ = [
    "Located",
    "PiecewiseLinear",
    "PiecewiseLinearB",
    "locate",
    "piecewise_linear",
    "piecewise_linear_forward",
    "quantile_edges",
]


@refuses(ARITHMETIC)
class PiecewiseLinear(NamedTuple):
    """What each bin of each feature adds to a vector, and where the vector begins.

    Attributes
    ----------
    w : Variable, shape [features, bins, width]
        For features with fewer bins than others, the last rows are not used.
    b : Variable, shape [features, width]
    """

    w: Variable
    b: Variable


@refuses(ARITHMETIC)
class PiecewiseLinearB(NamedTuple):
    """What each bin of each feature adds to a linear function of the number.

    Attributes
    ----------
    w : Variable, shape [features, bins, width]
        For features with fewer bins than others, the last rows are not used.
    slope, b : Variable, shape [features, width]
    """

    w: Variable
    slope: Variable
    b: Variable


@refuses(ARITHMETIC)
class Located(NamedTuple):
    """Numbers, and where they lie among the edges of bins: three arrays, or variables that hold them.

    Attributes
    ----------
    rows : Variable or ndarray, shape [batch, features]
        Of each number the row of all features' bins one below the other, each feature with as many as the most has.
    fractions : Variable or ndarray, shape [batch, features]
        How far a number lies from the left to the right edge of its bin. In the first bin it may be below 0, in the
        last above 1.
    x : Variable or ndarray, shape [batch, features]
        The numbers.
    """

    rows: Variable | Array
    fractions: Variable | Array
    x: Variable | Array


def quantile_edges(x: ArrayLike, bins: int = 48) -> list[Array]:
    """Return the edges of bins that hold as many rows each, for each column; edges that coincide are one.

    Parameters
    ----------
    x : array_like, shape [rows, features]
    bins : int
        At most.

    Returns
    -------
    list of ndarray of float64
        At most ``bins`` + 1 ascending numbers each, from the smallest to the largest of the column.

    Raises
    ------
    DimensionError
        If x is no matrix, or has no rows.
    InvalidValue
        If x is not finite, if a column has one value only, or there are no bins.

    Examples
    --------
    >>> quantile_edges([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [8.0, 3.0]], bins=2)
    [array([0. , 1.5, 8. ]), array([1., 3.])]
    """
    x = as_array("quantile_edges", x)
    bins = check_count("quantile_edges", "bins", bins)
    if x.ndim != 2 or not len(x):
        raise DimensionError(f"x of shape {x.shape}", operation="quantile_edges", hint="x is [rows, features]")
    finite = np.isfinite(x).all(axis=0)
    varied = (x != x[0]).any(axis=0)
    for fine, what, hint in (
        (finite, "numbers that are not finite", "fill what is missing first"),
        (varied, "one value only", "leave it out: it says nothing"),
    ):
        if not fine.all():
            got = f"column {int(np.argmin(fine))} has {what}"
            raise InvalidValue(got, operation="quantile_edges", hint=hint)
    quantiles = np.quantile(x.astype(np.float64), np.linspace(0, 1, bins + 1), axis=0)
    return [np.unique(column) for column in quantiles.T]


def locate(edges: Sequence[ArrayLike], x: ArrayLike) -> Located:
    r"""Return the bin of each number, and which fraction of it lies below the number.

    The fraction of x between the edges a and b is :math:`(x - a) / (b - a)`.

    Parameters
    ----------
    edges : sequence of array_like
        For each feature two or more ascending numbers, as :func:`quantile_edges` returns them.
    x : array_like, shape [rows, features]
        Numbers outside all edges are in the first or last bin. NaN has the fraction NaN.

    Returns
    -------
    Located
        Arrays of the dtype of x, each an input of what :func:`piecewise_linear_forward` records.

    Raises
    ------
    DimensionError, ShapeMismatch
        If x is no matrix, or has another number of columns than there are edges for.
    InvalidValue
        If the edges of a feature are fewer than two, not finite or not ascending.

    Examples
    --------
    >>> found = locate([[0.0, 1.0, 3.0], [0.0, 10.0]], [[0.5, 2.5], [2.0, 12.0]])
    >>> found.rows, found.fractions
    (array([[0., 2.],
            [1., 2.]], dtype=float32), array([[0.5 , 0.25],
            [0.5 , 1.2 ]], dtype=float32))
    """
    checked = _edges("locate", edges)
    x = as_array("locate", x)
    if x.ndim != 2:
        raise DimensionError(f"x of shape {x.shape}", operation="locate", hint="x is [rows, features]")
    same_shape("locate", (len(x), len(checked)), x.shape, "give edges for each column")
    most = _most_bins(checked)
    rows, fractions = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # far outside all edges, infinite or NaN: so is the fraction
        for feature, own in enumerate(checked):
            column = x[:, feature].astype(np.float64)
            bins = np.searchsorted(own[1:-1], column, side="right")
            rows[:, feature] = feature * most + bins
            fractions[:, feature] = (column - own[bins]) / (own[bins + 1] - own[bins])
    return Located(rows, fractions, x)


def _edges(operation: str, edges: Sequence[ArrayLike]) -> list[Array]:
    """Return the edges of each feature in float64, checked."""
    hint = "give two or more ascending numbers for each feature"
    if not is_iterable(edges) or not len(edges):
        raise InvalidValue(f"edges are a {type(edges).__name__}", operation=operation, hint=hint)
    found = [np.asarray(as_array(operation, own), np.float64) for own in edges]
    for feature, own in enumerate(found):
        if own.ndim != 1 or len(own) < 2 or not np.isfinite(own).all() or not (np.diff(own) > 0).all():
            what = f"of shape {own.shape}" if own.ndim != 1 or len(own) < 2 else "not finite or not ascending"
            raise InvalidValue(f"the edges of feature {feature} are {what}", operation=operation, hint=hint)
    return found


def _most_bins(edges: Sequence[Array]) -> int:
    return max(len(own) for own in edges) - 1


def piecewise_linear(
    tape: Tape,
    edges: Sequence[ArrayLike],
    width: int,
    *,
    version: str = "B",
    rng: np.random.Generator | None = None,
    dtype: DTypeLike = "float32",
) -> Traced[PiecewiseLinear] | Traced[PiecewiseLinearB]:
    r"""Record a new piecewise linear embedding of each feature.

    Parameters
    ----------
    tape : Tape
    edges : sequence of array_like
        For each feature two or more ascending numbers, as :func:`quantile_edges` returns them.
    width : int
        Numbers in the vector of a feature.
    version : {"B", "A"}
        "B" begins as a linear function, with 0 for all bins, and learns what bins add to it [1]_. "A" has the bins
        alone, with random weights [2]_.
    rng : numpy.random.Generator, optional
        By default one with fresh entropy.
    dtype : {"float32", "float64"}

    Returns
    -------
    Traced of PiecewiseLinearB, or of PiecewiseLinear for version A
        Random weights are uniform on :math:`\pm 1 / \sqrt{n}`, where n is the number of bins in version A, and the
        width in version B.

    Raises
    ------
    InvalidShape
        If the width is less than 1, or more than memory holds.
    InvalidValue, DtypeError
        If edges do not ascend; if there is no such version; as :func:`viva_tensor.nn.linear`.

    References
    ----------
    .. [1] Y. Gorishniy, A. Kotelnikov and A. Babenko, TabM: advancing tabular deep learning with parameter-efficient
       ensembling, ICLR 2025, arXiv:2410.24210.
    .. [2] Y. Gorishniy, I. Rubachev and A. Babenko, On embeddings for numerical features in tabular deep learning,
       NeurIPS 2022, arXiv:2203.05556, section 3.2.

    Examples
    --------
    >>> layer, tape = piecewise_linear(autograd.new_tape(), [[0.0, 1.0, 3.0], [0.0, 9.0]], 4)
    >>> layer.w.data.shape, layer.slope.data.shape, bool(layer.w.data.any())
    ((2, 2, 4), (2, 4), False)
    """
    (width,) = check_sizes("piecewise_linear", width=width)
    checked = _edges("piecewise_linear", edges)
    if version not in ("A", "B"):
        raise InvalidValue(f"version={version!r}", operation="piecewise_linear", hint="choose A or B")
    rng = generator("piecewise_linear", rng)
    features, bins = len(checked), _most_bins(checked)
    if version == "A":
        arrays = [
            root_uniform("piecewise_linear", rng, shape, bins, dtype)
            for shape in ((features, bins, width), (features, width))
        ]
        (w, b), tape = new_leaves(tape, arrays)
        return Traced(PiecewiseLinear(w, b), tape)
    nothing = empty("piecewise_linear", (features, bins, width), float_dtype("piecewise_linear", dtype))
    nothing.fill(0)
    line = [root_uniform("piecewise_linear", rng, (features, width), width, dtype) for _ in range(2)]
    (w, slope, b), tape = new_leaves(tape, (nothing, *line))
    return Traced(PiecewiseLinearB(w, slope, b), tape)


def piecewise_linear_forward(
    tape: Tape, layer: PiecewiseLinear | PiecewiseLinearB, located: Located
) -> Traced[Variable]:
    r"""Embed numbers by the sum of their bins, :math:`b + \sum_{s<t} W_s + f W_t` for the fraction f of the bin t [1]_.

    This is the product of W with the piecewise linear encoding, which is 1 for bins below that of the number and 0 for
    bins above, from two rows of a table: W and its sums along the bins. Version B adds :math:`x w`.

    Parameters
    ----------
    tape : Tape
    layer : PiecewiseLinear or PiecewiseLinearB
    located : Located
        What :func:`locate` returns for the edges that the layer was made for; its arrays, or variables that may be
        inputs of a program, in which version A does not use x.

    Returns
    -------
    Traced of Variable [batch, features, width]

    Raises
    ------
    DimensionError, ShapeMismatch, IndexOutOfBounds
        If the numbers are no matrix, or of other features than the layer's; if there is no such bin.
    InvalidValue, DtypeError, ForeignVariable
        If the layer is another, or ``located`` is none; if dtypes differ; if a variable is not on this tape.

    References
    ----------
    .. [1] Y. Gorishniy, I. Rubachev and A. Babenko, On embeddings for numerical features in tabular deep learning,
       NeurIPS 2022, arXiv:2203.05556, eq. 1.

    Examples
    --------
    >>> w, tape = autograd.new_variable(autograd.new_tape(), [[[1.0], [10.0]]])
    >>> b, tape = autograd.new_variable(tape, [[0.5]])
    >>> located = locate([[0.0, 1.0, 3.0]], [[0.5], [2.0]])
    >>> piecewise_linear_forward(tape, PiecewiseLinear(w, b), located).value.data.ravel()
    array([1. , 6.5], dtype=float32)
    """
    operation = "piecewise_linear_forward"
    if not isinstance(layer, PiecewiseLinearB):
        check_layer(operation, layer, PiecewiseLinear)
    if not isinstance(located, Located):
        got = f"located is {type(located).__name__}"
        raise InvalidValue(got, operation=operation, hint="give what locate returns, or a Located of variables")
    features, _, width = node_of(tape, layer.w, operation).output.data.shape
    fractions, tape = as_column(tape, operation, located.fractions, features)
    lower, tape = autograd.slice(tape, layer.w, np.s_[:, :-1])
    shifted, tape = autograd.pad(tape, lower, ((0, 0), (1, 0), (0, 0)))
    before, tape = autograd.cumsum(tape, shifted, axis=1)  # cumsum(w) - w would lose small bins below a large one
    tables = []
    for table in (before, layer.w):
        rows, tape = autograd.reshape(tape, table, (-1, width))
        taken, tape = autograd.take(tape, rows, located.rows)
        tables.append(taken)
    start, rise = tables
    part, tape = autograd.mul(tape, rise, fractions)
    vector, tape = autograd.add(tape, start, part)
    if isinstance(layer, PiecewiseLinearB):
        x, tape = as_column(tape, operation, located.x, features)
        line, tape = autograd.mul(tape, x, layer.slope)
        vector, tape = autograd.add(tape, vector, line)
    return autograd.add(tape, vector, layer.b)


def as_column(tape: Tape, operation: str, x: Variable | Array, features: int) -> Traced[Variable]:
    """Record numbers [batch, features] as vectors of length 1 each.

    Examples
    --------
    >>> as_column(autograd.new_tape(), "pbld_forward", np.ones((4, 3)), 3).value.shape
    (4, 3, 1)
    """
    if not isinstance(x, Variable):
        x, tape = autograd.new_constant(tape, x)
    shape = node_of(tape, x, operation).output.data.shape
    if len(shape) != 2:
        raise DimensionError(f"numbers of shape {shape}", operation=operation, hint="numbers are [batch, features]")
    same_shape(operation, (shape[0], features), shape, f"the layer is of {features} features")
    return autograd.expand_dims(tape, x, 2)
