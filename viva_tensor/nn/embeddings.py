"""Tables whose rows stand for categories."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.autograd.operators import ARITHMETIC, refuses
from viva_tensor.kernels.arrays import empty, float_dtype
from viva_tensor.kernels.checks import generator
from viva_tensor.nn.initializers import check_sizes
from viva_tensor.nn.layers import check_layer

__all__ = ["Embedding", "embedding", "embedding_forward"]


@refuses(ARITHMETIC)
class Embedding(NamedTuple):
    """A row of numbers for each category.

    Attributes
    ----------
    w : Variable, shape [categories, features]
    """

    w: Variable


def embedding(
    tape: Tape,
    categories: int,
    features: int,
    *,
    rng: np.random.Generator | None = None,
    dtype: DTypeLike = "float32",
) -> Traced[Embedding]:
    """Record a new table of embeddings, drawn from the standard normal distribution as in PyTorch.

    Parameters
    ----------
    tape : Tape
    categories, features : int
        Rows and columns of the table, at least 1.
    rng : numpy.random.Generator, optional
        By default one with fresh entropy.
    dtype : {"float32", "float64"}

    Raises
    ------
    InvalidShape
        If a size is less than 1, or more than memory holds.
    InvalidValue, DtypeError
        If ``rng`` is not a generator; if the dtype is neither float32 nor float64.

    Examples
    --------
    >>> layer, tape = embedding(autograd.new_tape(), 10, 4, rng=np.random.default_rng(0))
    >>> layer.w.data.shape
    (10, 4)
    """
    categories, features = check_sizes("embedding", categories=categories, features=features)
    rng, dtype = generator("embedding", rng), float_dtype("embedding", dtype)
    table = empty("embedding", (categories, features), dtype)
    table[...] = rng.standard_normal(table.shape)
    w, tape = autograd.new_variable(tape, table)
    return Traced(Embedding(w), tape)


def embedding_forward(tape: Tape, layer: Embedding, indices: Variable | ArrayLike) -> Traced[Variable]:
    """Record the rows of some categories; see :func:`viva_tensor.autograd.take`.

    Parameters
    ----------
    tape : Tape
    layer : Embedding
    indices : Variable or array_like, of any shape
        Whole numbers. A variable of the layer's dtype may be an input of a compiled program.

    Returns
    -------
    Traced of Variable [..., features]

    Raises
    ------
    IndexOutOfBounds, InvalidValue, DtypeError, ForeignVariable
        If there is no such category; if ``layer`` is another; as :func:`viva_tensor.autograd.take`.

    Examples
    --------
    >>> table, tape = autograd.new_variable(autograd.new_tape(), [[0.0, 0.5], [1.0, 1.5]])
    >>> embedding_forward(tape, Embedding(table), [1, 0, 1]).value.data
    array([[1. , 1.5],
           [0. , 0.5],
           [1. , 1.5]], dtype=float32)
    """
    check_layer("embedding_forward", layer, Embedding)
    return autograd.take(tape, layer.w, indices)
