"""TabM-mini: an ensemble of networks that share all hidden layers [1]_.

.. [1] Y. Gorishniy, A. Kotelnikov and A. Babenko, TabM: advancing tabular deep learning with parameter-efficient
   ensembling, ICLR 2025, arXiv:2410.24210.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable, operations
from viva_tensor.autograd.operators import ARITHMETIC, refuses
from viva_tensor.autograd.tape import new_leaves
from viva_tensor.error import InvalidShape
from viva_tensor.kernels.checks import generator, is_iterable, shown
from viva_tensor.nn.activations import activation_of
from viva_tensor.nn.ensembles import first_scales, scaled_inputs
from viva_tensor.nn.initializers import check_sizes, root_uniform
from viva_tensor.nn.layers import Linear, check_layer, dropout, linear_forward

__all__ = ["TabMMini", "tabm_mini", "tabm_mini_forward"]


@refuses(ARITHMETIC)
class TabMMini(NamedTuple):
    """Fully connected layers that members share, and the scales of their inputs that each member has.

    Attributes
    ----------
    r : Variable, shape [members, in]
    layers : tuple of Linear
    """

    r: Variable
    layers: tuple[Linear, ...]


def tabm_mini(
    tape: Tape,
    sizes: Sequence[int],
    members: int,
    *,
    scale: str = "signs",
    chunks: Sequence[int] | None = None,
    rng: np.random.Generator | None = None,
    dtype: DTypeLike = "float32",
) -> Traced[TabMMini]:
    """Record the hidden layers of an ensemble whose members differ by scales of the inputs and by their heads alone.

    Parameters
    ----------
    tape : Tape
    sizes : sequence of int
        Features of the input and of each hidden layer.
    members : int
    scale, chunks, rng, dtype
        As of :func:`viva_tensor.nn.batch_ensemble`.

    Raises
    ------
    InvalidShape, InvalidValue, DtypeError
        If there are fewer than two sizes; as :func:`viva_tensor.nn.batch_ensemble`.

    Examples
    --------
    >>> layer, tape = tabm_mini(autograd.new_tape(), (3, 8, 8), members=4)
    >>> layer.r.data.shape, [one.w.data.shape for one in layer.layers]
    ((4, 3), [(8, 3), (8, 8)])
    """
    if not is_iterable(sizes) or len(sizes := tuple(sizes)) < 2:
        hint = "name the features of the input and of each hidden layer"
        raise InvalidShape(f"sizes={shown(sizes)}", operation="tabm_mini", hint=hint)
    (members,) = check_sizes("tabm_mini", members=members)
    sizes = [check_sizes("tabm_mini", sizes=size)[0] for size in sizes]
    rng = generator("tabm_mini", rng)
    scales = first_scales("tabm_mini", rng, (members, sizes[0]), scale, chunks, dtype)
    r, tape = autograd.new_variable(tape, scales)
    layers = []
    for inputs, outputs in pairwise(sizes):
        arrays = (root_uniform("tabm_mini", rng, shape, inputs, dtype) for shape in ((outputs, inputs), (outputs,)))
        variables, tape = new_leaves(tape, arrays)
        layers.append(Linear(*variables))
    return Traced(TabMMini(r, tuple(layers)), tape)


def tabm_mini_forward(
    tape: Tape,
    layer: TabMMini,
    x: Variable,
    *,
    activation: str = "relu",
    dropout_rate: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Traced[Variable]:
    r"""Scale a batch for each member, :math:`r_k \circ x`, and apply the layers, an activation after each [1]_.

    Parameters
    ----------
    tape : Tape
    layer : TabMMini
    x : Variable [batch, in] or [batch, members, in]
    activation : str
        One of ``nn.ACTIVATIONS``.
    dropout_rate : float
        For training: the share of each layer's outputs that :func:`viva_tensor.nn.dropout` sets to 0.
    rng : numpy.random.Generator, optional
        For dropout; by default one with fresh entropy.

    Returns
    -------
    Traced of Variable [batch, members, out]

    Raises
    ------
    DimensionError, ShapeMismatch, InvalidValue, DtypeError, ForeignVariable
        As :func:`viva_tensor.nn.batch_ensemble_forward`; if there is no such activation.

    References
    ----------
    .. [1] Y. Gorishniy, A. Kotelnikov and A. Babenko, TabM: advancing tabular deep learning with parameter-efficient
       ensembling, ICLR 2025, arXiv:2410.24210, section 3.3.

    Examples
    --------
    >>> layer, tape = tabm_mini(autograd.new_tape(), (3, 8, 6), members=4)
    >>> x, tape = autograd.new_constant(tape, np.ones((5, 3), np.float32))
    >>> tabm_mini_forward(tape, layer, x).value.data.shape
    (5, 4, 6)
    """
    check_layer("tabm_mini_forward", layer, TabMMini)
    bend = activation_of("tabm_mini_forward", activation)
    h, tape = scaled_inputs(tape, "tabm_mini_forward", layer.r, x)
    batch, members, features = h.shape
    h, tape = autograd.reshape(tape, h, (-1, features))
    for one in layer.layers:
        h, tape = linear_forward(tape, one, h)
        h, tape = bend(tape, h)
        if dropout_rate:
            h, tape = dropout(tape, h, dropout_rate, rng=rng)
    shape = operations.RowGroups((batch, members, h.shape[1]))
    return autograd.record(tape, operations.RESHAPE, h, shape=shape)
