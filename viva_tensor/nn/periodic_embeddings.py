"""Embeddings of numbers as vectors that are made of waves of the number.

Each feature of a table has frequencies of its own. Numbers [batch, features] become vectors [batch, features, width],
to be reshaped to ``(-1, features * width)`` for a linear layer.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.autograd.operators import ARITHMETIC, refuses
from viva_tensor.autograd.tape import new_leaves
from viva_tensor.error import InvalidShape
from viva_tensor.kernels.arrays import empty, float_dtype
from viva_tensor.kernels.checks import flag, generator, positive
from viva_tensor.nn.initializers import check_sizes, root_uniform
from viva_tensor.nn.layers import check_layer
from viva_tensor.nn.numeric_embeddings import as_column

__all__ = ["PBLD", "Periodic", "pbld", "pbld_forward", "periodic", "periodic_forward"]


@refuses(ARITHMETIC)
class Periodic(NamedTuple):
    """Frequencies of each feature, and a linear map of the sines and cosines.

    Attributes
    ----------
    c : Variable, shape [features, frequencies]
    w : Variable, shape [features, 2 frequencies, width], or [2 frequencies, width] if features share it
    b : Variable, shape [features, width] or [width]
    """

    c: Variable
    w: Variable
    b: Variable


def periodic(
    tape: Tape,
    features: int,
    width: int = 24,
    *,
    frequencies: int = 48,
    sigma: float = 0.01,
    lite: bool = False,
    rng: np.random.Generator | None = None,
    dtype: DTypeLike = "float32",
) -> Traced[Periodic]:
    r"""Record a new periodic embedding of each feature, known as PLR [1]_.

    Parameters
    ----------
    tape : Tape
    features : int
    width : int
        Numbers in the vector of a feature.
    frequencies : int
        Of each feature.
    sigma : float
        The standard deviation of the first frequencies, cut off at 3 σ. It decides much: 0.01 to 1 are worth a try.
    lite : bool
        Whether all features share one linear map of their sines and cosines [2]_.
    rng : numpy.random.Generator, optional
        By default one with fresh entropy.
    dtype : {"float32", "float64"}

    Raises
    ------
    InvalidShape
        If a size is less than 1, or more than memory holds.
    InvalidValue, DtypeError
        If sigma is not above 0; as :func:`viva_tensor.nn.linear`.

    References
    ----------
    .. [1] Y. Gorishniy, I. Rubachev and A. Babenko, On embeddings for numerical features in tabular deep learning,
       NeurIPS 2022, arXiv:2203.05556, section 3.3.
    .. [2] Y. Gorishniy et al., TabR: tabular deep learning meets nearest neighbors, ICLR 2024, arXiv:2307.14338.

    Examples
    --------
    >>> layer, tape = periodic(autograd.new_tape(), 3, 8, frequencies=16, sigma=0.1)
    >>> layer.c.data.shape, layer.w.data.shape, bool(abs(layer.c.data).max() <= 0.3)
    ((3, 16), (3, 32, 8), True)
    """
    features, width, frequencies = check_sizes("periodic", features=features, width=width, frequencies=frequencies)
    positive("periodic", "sigma", sigma)
    own = () if flag("periodic", "lite", lite) else (features,)
    rng, dtype = generator("periodic", rng), float_dtype("periodic", dtype)
    c = empty("periodic", (features, frequencies), dtype)
    c[...] = rng.standard_normal(c.shape)
    while (far := np.abs(c) > 3).any():
        c[far] = rng.standard_normal(int(far.sum()))
    c *= sigma
    w = root_uniform("periodic", rng, (*own, 2 * frequencies, width), 2 * frequencies, dtype)
    b = root_uniform("periodic", rng, (*own, width), 2 * frequencies, dtype)
    variables, tape = new_leaves(tape, (c, w, b))
    return Traced(Periodic(*variables), tape)


def periodic_forward(tape: Tape, layer: Periodic, x: Variable) -> Traced[Variable]:
    r"""Embed numbers by waves, :math:`\mathrm{relu}(b + W [\cos 2\pi c x, \sin 2\pi c x])` [1]_.

    Parameters
    ----------
    tape : Tape
    layer : Periodic
    x : Variable [batch, features]

    Returns
    -------
    Traced of Variable [batch, features, width]

    Raises
    ------
    DimensionError, ShapeMismatch
        If x is no matrix, or of other features than the layer's.
    InvalidValue, DtypeError, ForeignVariable
        If the layer is another; if dtypes differ; if a variable is not on this tape.

    References
    ----------
    .. [1] Y. Gorishniy, I. Rubachev and A. Babenko, On embeddings for numerical features in tabular deep learning,
       NeurIPS 2022, arXiv:2203.05556, section 3.3.

    Examples
    --------
    >>> tape, made = autograd.new_tape(), []
    >>> for data in ([[0.25]], [[[2.0], [3.0]]], [[0.5]]):
    ...     variable, tape = autograd.new_variable(tape, data)
    ...     made.append(variable)
    >>> x, tape = autograd.new_constant(tape, [[0.0], [1.0]])
    >>> periodic_forward(tape, Periodic(*made), x).value.data.ravel()
    array([2.5, 3.5], dtype=float32)
    """
    check_layer("periodic_forward", layer, Periodic)
    angles, tape = _angles(tape, "periodic_forward", layer.c, x)
    cosines, tape = autograd.cos(tape, angles)
    sines, tape = autograd.sin(tape, angles)
    waves, tape = autograd.concatenate(tape, (cosines, sines), axis=-1)
    vector, tape = _mapped(tape, waves, layer.w, layer.b)
    return autograd.relu(tape, vector)


@refuses(ARITHMETIC)
class PBLD(NamedTuple):
    """Waves of each feature with frequencies and phases, and an affine map of their cosines.

    Attributes
    ----------
    c, phase : Variable, shape [features, hidden]
    w : Variable, shape [features, hidden, width - 1]
    b : Variable, shape [features, width - 1]
    """

    c: Variable
    phase: Variable
    w: Variable
    b: Variable


def pbld(
    tape: Tape,
    features: int,
    width: int = 4,
    *,
    hidden: int = 16,
    sigma: float = 0.1,
    rng: np.random.Generator | None = None,
    dtype: DTypeLike = "float32",
) -> Traced[PBLD]:
    r"""Record a new embedding of each feature by cosines beside the number itself, that of RealMLP [1]_.

    Parameters
    ----------
    tape : Tape
    features : int
    width : int
        Numbers in the vector of a feature, at least 2: the last is the number itself.
    hidden : int
        Cosines of each feature.
    sigma : float
        The standard deviation of the first frequencies. Phases are uniform on :math:`\pm\pi`, the affine map on
        :math:`\pm 1 / \sqrt{hidden}`.
    rng : numpy.random.Generator, optional
        By default one with fresh entropy.
    dtype : {"float32", "float64"}

    Raises
    ------
    InvalidShape
        If there are no features or cosines, the width is less than 2, or more than memory holds.
    InvalidValue, DtypeError
        If sigma is not above 0; as :func:`viva_tensor.nn.linear`.

    References
    ----------
    .. [1] D. Holzmüller, L. Grinsztajn and I. Steinwart, Better by default: strong pre-tuned MLPs and boosted trees on
       tabular data, NeurIPS 2024, arXiv:2407.04491.

    Examples
    --------
    >>> layer, tape = pbld(autograd.new_tape(), 5)
    >>> [variable.data.shape for variable in layer]
    [(5, 16), (5, 16), (5, 16, 3), (5, 3)]
    """
    features, hidden, width = check_sizes("pbld", features=features, hidden=hidden, width=width)
    if width < 2:
        hint = "the last of a vector is the number itself, beside at least one other"
        raise InvalidShape(f"width={width}", operation="pbld", hint=hint)
    positive("pbld", "sigma", sigma)
    rng, dtype = generator("pbld", rng), float_dtype("pbld", dtype)
    c, phase = (empty("pbld", (features, hidden), dtype) for _ in range(2))
    c[...] = rng.standard_normal(c.shape) * sigma
    phase[...] = rng.uniform(-math.pi, math.pi, c.shape)
    w = root_uniform("pbld", rng, (features, hidden, width - 1), hidden, dtype)
    b = root_uniform("pbld", rng, (features, width - 1), hidden, dtype)
    variables, tape = new_leaves(tape, (c, phase, w, b))
    return Traced(PBLD(*variables), tape)


def pbld_forward(tape: Tape, layer: PBLD, x: Variable) -> Traced[Variable]:
    r"""Embed numbers by cosines and themselves, :math:`[W \cos(2\pi c x + \varphi) + b, x]` [1]_.

    Parameters
    ----------
    tape : Tape
    layer : PBLD
    x : Variable [batch, features]

    Returns
    -------
    Traced of Variable [batch, features, width]

    Raises
    ------
    DimensionError, ShapeMismatch, InvalidValue, DtypeError, ForeignVariable
        As :func:`periodic_forward`.

    References
    ----------
    .. [1] D. Holzmüller, L. Grinsztajn and I. Steinwart, Better by default: strong pre-tuned MLPs and boosted trees on
       tabular data, NeurIPS 2024, arXiv:2407.04491.

    Examples
    --------
    >>> tape, made = autograd.new_tape(), []
    >>> for data in ([[0.5]], [[0.0]], [[[2.0]]], [[0.25]]):
    ...     variable, tape = autograd.new_variable(tape, data)
    ...     made.append(variable)
    >>> x, tape = autograd.new_constant(tape, [[0.0], [1.0]])
    >>> pbld_forward(tape, PBLD(*made), x).value.data
    array([[[ 2.25,  0.  ]],
           [[-1.75,  1.  ]]], dtype=float32)
    """
    check_layer("pbld_forward", layer, PBLD)
    angles, tape = _angles(tape, "pbld_forward", layer.c, x)
    phases, tape = autograd.expand_dims(tape, layer.phase, 1)
    angles, tape = autograd.add(tape, angles, phases)
    cosines, tape = autograd.cos(tape, angles)
    vector, tape = _mapped(tape, cosines, layer.w, layer.b)
    itself, tape = autograd.expand_dims(tape, x, 2)
    return autograd.concatenate(tape, (vector, itself), axis=-1)


def _angles(tape: Tape, operation: str, c: Variable, x: Variable) -> Traced[Variable]:
    """Record 2π c x of each frequency of each feature [features, batch, frequencies], as outer products."""
    turned, tape = autograd.mul(tape, c, 2 * math.pi)
    turned, tape = autograd.expand_dims(tape, turned, 1)
    numbers, tape = as_column(tape, operation, x, c.shape[0])
    numbers, tape = autograd.transpose(tape, numbers, (1, 0, 2))
    return autograd.matmul(tape, numbers, turned)


def _mapped(tape: Tape, waves: Variable, w: Variable, b: Variable) -> Traced[Variable]:
    """Record the affine map of what each feature has, with the batch in front."""
    vector, tape = autograd.matmul(tape, waves, w)
    vector, tape = autograd.transpose(tape, vector, (1, 0, 2))
    return autograd.add(tape, vector, b)
