"""Ensembles of networks that share most weights and are trained at once, as one [1]_.

Hidden values are [batch, members, width]. In this order the rows of all members, one below the other, are those of one
product with the weights that they share, and what a member has of its own repeats along rows, for batches of any size.
A head is a product for each member.

>>> from viva_tensor.nn import mse_loss
>>> tape = autograd.new_tape()
>>> hidden, tape = batch_ensemble(tape, 3, 8, members=4, scale="signs")
>>> head, tape = linear_ensemble(tape, 8, 1, members=4)
>>> x, tape = autograd.new_constant(tape, np.ones((5, 3), np.float32))
>>> y, tape = autograd.new_constant(tape, np.ones((5, 1), np.float32))
>>> h, tape = batch_ensemble_forward(tape, hidden, x)
>>> h, tape = autograd.relu(tape, h)
>>> outputs, tape = linear_ensemble_forward(tape, head, h)
>>> loss, tape = ensemble_loss(tape, mse_loss, outputs, y)      # to train on: each member's own
>>> prediction, tape = ensemble_mean(tape, outputs)             # to predict by
>>> outputs.shape, loss.shape, prediction.shape
((5, 4, 1), (), (5, 1))

.. [1] Y. Gorishniy, A. Kotelnikov and A. Babenko, TabM: advancing tabular deep learning with parameter-efficient
   ensembling, ICLR 2025, arXiv:2410.24210.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.autograd.operators import ARITHMETIC, refuses
from viva_tensor.autograd.tape import new_leaves, node_of
from viva_tensor.error import DimensionError, InvalidShape, InvalidValue
from viva_tensor.kernels.arrays import Array, empty, float_dtype, same_shape
from viva_tensor.kernels.checks import generator, is_iterable, is_whole, shown
from viva_tensor.nn.activations import sigmoid, softmax
from viva_tensor.nn.initializers import check_sizes, root_uniform
from viva_tensor.nn.layers import check_layer

__all__ = [
    "BatchEnsemble",
    "LinearEnsemble",
    "batch_ensemble",
    "batch_ensemble_forward",
    "ensemble_loss",
    "ensemble_mean",
    "linear_ensemble",
    "linear_ensemble_forward",
]


@refuses(ARITHMETIC)
class BatchEnsemble(NamedTuple):
    """A fully connected layer that members share, with scales and a bias of each.

    Attributes
    ----------
    w : Variable, shape [out, in]
    r : Variable, shape [members, in]
    s, b : Variable, shape [members, out]
    """

    w: Variable
    r: Variable
    s: Variable
    b: Variable


def batch_ensemble(
    tape: Tape,
    in_features: int,
    out_features: int,
    members: int,
    *,
    scale: str = "ones",
    chunks: Sequence[int] | None = None,
    rng: np.random.Generator | None = None,
    dtype: DTypeLike = "float32",
) -> Traced[BatchEnsemble]:
    r"""Record a new fully connected layer for an ensemble, with its weights begun as in TabM [1]_.

    Parameters
    ----------
    tape : Tape
    in_features, out_features, members : int
        At least 1.
    scale : {"ones", "signs", "normal"}
        What the scales of inputs begin as: members differ by them at first, so those of the first layer are random, -1
        and 1 for plain numbers or normal for embeddings. Scales of outputs begin as 1.
    chunks : sequence of int, optional
        Inputs of each feature, side by side: a member draws one scale for each feature. By default one for each input.
    rng : numpy.random.Generator, optional
        By default one with fresh entropy.
    dtype : {"float32", "float64"}

    Returns
    -------
    Traced of BatchEnsemble
        Weights and a bias, the same for all members at first, are uniform on :math:`\pm 1 / \sqrt{in}`.

    Raises
    ------
    InvalidShape
        If a size is less than 1, more than memory holds, or chunks are not of ``in_features`` inputs together.
    InvalidValue, DtypeError
        If there is no such scale; as :func:`viva_tensor.nn.linear`.

    References
    ----------
    .. [1] Y. Gorishniy, A. Kotelnikov and A. Babenko, TabM: advancing tabular deep learning with parameter-efficient
       ensembling, ICLR 2025, arXiv:2410.24210, section 3.3.

    Examples
    --------
    >>> layer, tape = batch_ensemble(autograd.new_tape(), 3, 5, members=2, scale="signs", chunks=(2, 1))
    >>> layer.w.data.shape, layer.r.data.shape, layer.b.data.shape
    ((5, 3), (2, 3), (2, 5))
    >>> bool((abs(layer.r.data) == 1).all()), bool((layer.r.data[:, 0] == layer.r.data[:, 1]).all())
    (True, True)
    """
    operation = "batch_ensemble"
    in_features, out_features, members = check_sizes(
        operation, in_features=in_features, out_features=out_features, members=members
    )
    rng = generator(operation, rng)
    r = first_scales(operation, rng, (members, in_features), scale, chunks, dtype)
    w = root_uniform(operation, rng, (out_features, in_features), in_features, dtype)
    s, b = (empty(operation, (members, out_features), r.dtype) for _ in range(2))
    s.fill(1)
    b[...] = root_uniform(operation, rng, (out_features,), in_features, dtype)
    variables, tape = new_leaves(tape, (w, r, s, b))
    return Traced(BatchEnsemble(*variables), tape)


def batch_ensemble_forward(tape: Tape, layer: BatchEnsemble, x: Variable) -> Traced[Variable]:
    r"""Apply a layer of an ensemble, :math:`y_k = s_k \circ (W (r_k \circ x_k)) + b_k` for member k [1]_.

    Parameters
    ----------
    tape : Tape
    layer : BatchEnsemble
    x : Variable [batch, in] or [batch, members, in]
        One batch for all members, or values of each.

    Returns
    -------
    Traced of Variable [batch, members, out]

    Raises
    ------
    DimensionError, ShapeMismatch
        If x has other axes; if features or members differ.
    InvalidValue, DtypeError, ForeignVariable
        If the layer is another; if dtypes differ; if a variable is not on this tape.

    References
    ----------
    .. [1] Y. Wen, D. Tran and J. Ba, BatchEnsemble: an alternative approach to efficient ensemble and lifelong
       learning, ICLR 2020, arXiv:2002.06715, eq. 5.

    Examples
    --------
    >>> tape, made = autograd.new_tape(), []
    >>> for data in ([[1.0, 2.0]], [[1.0, 1.0], [1.0, -1.0]], [[1.0], [10.0]], [[0.0], [0.5]]):
    ...     variable, tape = autograd.new_variable(tape, data)
    ...     made.append(variable)
    >>> x, tape = autograd.new_constant(tape, [[3.0, 4.0]])
    >>> batch_ensemble_forward(tape, BatchEnsemble(*made), x).value.data
    array([[[ 11. ],
            [-49.5]]], dtype=float32)
    """
    check_layer("batch_ensemble_forward", layer, BatchEnsemble)
    scaled, tape = scaled_inputs(tape, "batch_ensemble_forward", layer.r, x)
    wt, tape = autograd.transpose(tape, layer.w)
    product, tape = autograd.matmul(tape, scaled, wt)
    product, tape = autograd.mul(tape, product, layer.s)
    return autograd.add(tape, product, layer.b)


@refuses(ARITHMETIC)
class LinearEnsemble(NamedTuple):
    """A fully connected layer of each member.

    Attributes
    ----------
    w : Variable, shape [members, in, out]
    b : Variable, shape [members, out]
    """

    w: Variable
    b: Variable


def linear_ensemble(
    tape: Tape,
    in_features: int,
    out_features: int,
    members: int,
    *,
    rng: np.random.Generator | None = None,
    dtype: DTypeLike = "float32",
) -> Traced[LinearEnsemble]:
    r"""Record a new fully connected layer of each member, such as the heads of an ensemble.

    Weights and biases are uniform on :math:`\pm 1 / \sqrt{in}`.

    Raises
    ------
    InvalidShape, InvalidValue, DtypeError
        As :func:`batch_ensemble`.

    Examples
    --------
    >>> layer, tape = linear_ensemble(autograd.new_tape(), 3, 1, members=4, rng=np.random.default_rng(0))
    >>> layer.w.data.shape, layer.b.data.shape
    ((4, 3, 1), (4, 1))
    """
    operation = "linear_ensemble"
    in_features, out_features, members = check_sizes(
        operation, in_features=in_features, out_features=out_features, members=members
    )
    rng = generator(operation, rng)
    w = root_uniform(operation, rng, (members, in_features, out_features), in_features, dtype)
    b = root_uniform(operation, rng, (members, out_features), in_features, dtype)
    variables, tape = new_leaves(tape, (w, b))
    return Traced(LinearEnsemble(*variables), tape)


def linear_ensemble_forward(tape: Tape, layer: LinearEnsemble, x: Variable) -> Traced[Variable]:
    r"""Apply the layer of each member to its values, :math:`y_k = x_k W_k + b_k`, as products of a batch.

    Parameters
    ----------
    tape : Tape
    layer : LinearEnsemble
    x : Variable [batch, members, in]

    Returns
    -------
    Traced of Variable [batch, members, out]

    Raises
    ------
    DimensionError, ShapeMismatch, InvalidValue, DtypeError, ForeignVariable
        As :func:`batch_ensemble_forward`.

    Examples
    --------
    >>> w, tape = autograd.new_variable(autograd.new_tape(), [[[1.0]], [[10.0]]])
    >>> b, tape = autograd.new_variable(tape, [[0.0], [0.5]])
    >>> x, tape = autograd.new_constant(tape, [[[1.0], [2.0]], [[3.0], [4.0]]])
    >>> linear_ensemble_forward(tape, LinearEnsemble(w, b), x).value.data[..., 0]
    array([[ 1. , 20.5],
           [ 3. , 40.5]], dtype=float32)
    """
    operation = "linear_ensemble_forward"
    check_layer(operation, layer, LinearEnsemble)
    members, features, _ = node_of(tape, layer.w, operation).output.data.shape
    shape = node_of(tape, x, operation).output.data.shape
    if len(shape) != 3:
        raise DimensionError(f"x of shape {shape}", operation=operation, hint="x is [batch, members, in]")
    same_shape(operation, (shape[0], members, features), shape, "x is [batch, members, in]")
    own, tape = autograd.transpose(tape, x, (1, 0, 2))
    product, tape = autograd.matmul(tape, own, layer.w)
    product, tape = autograd.transpose(tape, product, (1, 0, 2))
    return autograd.add(tape, product, layer.b)


def ensemble_loss(
    tape: Tape,
    loss: Callable[..., Traced[Variable]],
    outputs: Variable,
    target: Variable,
    *,
    sample_weight: Variable | None = None,
    **options: Any,
) -> Traced[Variable]:
    """Record the mean over members of the loss of each, which trains every member by itself, not their mean.

    Parameters
    ----------
    tape : Tape
    loss : callable
        Such as :func:`viva_tensor.nn.mse_loss` or :func:`viva_tensor.nn.cross_entropy`, with its mean over rows.
    outputs : Variable [batch, members, ...]
    target : Variable [batch, ...]
        The same for all members.
    sample_weight : Variable, shape [batch], optional
    **options
        Of the loss. With ``reduction="sum"`` it is the sum over the rows and members, with "none" that of outputs
        [batch · members, ...]: the members of the first row, of the second, and so on.

    Raises
    ------
    DimensionError, ShapeMismatch, ForeignVariable
        If outputs have no members; if the rows differ; as the loss.

    Examples
    --------
    >>> from viva_tensor.nn import cross_entropy
    >>> outputs, tape = autograd.new_variable(autograd.new_tape(), np.zeros((3, 4, 2)))
    >>> labels, tape = autograd.new_constant(tape, np.array([0.0, 1.0, 1.0]))
    >>> round(float(ensemble_loss(tape, cross_entropy, outputs, labels).value.data), 4)
    0.6931
    """
    shape = _outputs_shape(tape, "ensemble_loss", outputs)
    given = {"target": target} if sample_weight is None else {"target": target, "sample_weight": sample_weight}
    each, tape = autograd.reshape(tape, outputs, (-1, *shape[2:]))
    for name, one in given.items():
        own = node_of(tape, one, "ensemble_loss").output.data.shape
        same_shape("ensemble_loss", shape[:1], own[:1], f"{name} has a row for each of outputs {shape}")
        rows, tape = autograd.expand_dims(tape, one, 1)
        ones = np.ones((shape[1], *[1] * (len(own) - 1)), one.data.dtype)
        repeated, tape = autograd.mul(tape, rows, ones)
        given[name], tape = autograd.reshape(tape, repeated, (-1, *own[1:]))
    return loss(tape, each, given.pop("target"), **given, **options)


def ensemble_mean(tape: Tape, outputs: Variable, *, link: str = "identity") -> Traced[Variable]:
    """Record the mean of what members predict: of their outputs, or of their probabilities.

    Parameters
    ----------
    tape : Tape
    outputs : Variable [batch, members, out]
    link : {"identity", "softmax", "sigmoid"}
        What makes predictions of outputs.

    Returns
    -------
    Traced of Variable [batch, out]

    Raises
    ------
    DimensionError, InvalidValue, ForeignVariable
        If outputs have other axes; if there is no such link; if outputs are not on this tape.

    Examples
    --------
    >>> outputs, tape = autograd.new_variable(autograd.new_tape(), [[[0.0], [100.0]]])
    >>> ensemble_mean(tape, outputs).value.data, ensemble_mean(tape, outputs, link="sigmoid").value.data
    (array([[50.]], dtype=float32), array([[0.75]], dtype=float32))
    """
    if len(_outputs_shape(tape, "ensemble_mean", outputs)) != 3:
        hint = "outputs are [batch, members, out]"
        raise DimensionError(f"outputs of shape {outputs.data.shape}", operation="ensemble_mean", hint=hint)
    if link not in ("identity", "softmax", "sigmoid"):
        hint = "choose one of identity, softmax, sigmoid"
        raise InvalidValue(f"link={link!r}", operation="ensemble_mean", hint=hint)
    if link != "identity":
        outputs, tape = (softmax if link == "softmax" else sigmoid)(tape, outputs)
    return autograd.mean(tape, outputs, axis=1)


def _outputs_shape(tape: Tape, operation: str, outputs: Variable) -> tuple[int, ...]:
    shape: tuple[int, ...] = node_of(tape, outputs, operation).output.data.shape
    if len(shape) < 2:
        hint = "outputs are [batch, members, out]"
        raise DimensionError(f"outputs of shape {shape}", operation=operation, hint=hint)
    return shape


def first_scales(
    operation: str,
    rng: np.random.Generator,
    shape: tuple[int, int],
    scale: str,
    chunks: Sequence[int] | None,
    dtype: DTypeLike,
) -> Array:
    """Return the first scales of inputs [members, in]; see :func:`batch_ensemble`.

    Examples
    --------
    >>> first_scales("batch_ensemble", np.random.default_rng(0), (2, 3), "ones", None, "float32")
    array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)
    """
    if scale not in ("ones", "signs", "normal"):
        raise InvalidValue(f"scale={scale!r}", operation=operation, hint="choose one of ones, signs, normal")
    members, features = shape
    scales = empty(operation, shape, float_dtype(operation, dtype))
    sizes = np.ones(features, np.int64) if chunks is None else _chunks(operation, chunks, features)
    if scale == "ones":
        scales.fill(1)
    elif scale == "signs":
        scales[...] = np.repeat(rng.integers(0, 2, (members, len(sizes))) * 2 - 1, sizes, axis=1)
    else:
        scales[...] = np.repeat(rng.standard_normal((members, len(sizes))), sizes, axis=1)
    return scales


def _chunks(operation: str, chunks: Sequence[int], features: int) -> Array:
    """Return the inputs of each feature, checked."""
    whole = is_iterable(chunks) and all(is_whole(size) and size >= 1 for size in chunks)
    if not whole or sum(map(int, chunks)) != features:
        hint = "give the number of inputs of each feature"
        raise InvalidShape(f"chunks={shown(chunks)} of {features} inputs", operation=operation, hint=hint)
    return np.array([int(size) for size in chunks])


def scaled_inputs(tape: Tape, operation: str, r: Variable, x: Variable) -> Traced[Variable]:
    """Record what members share, or each has, times their scales [batch, members, in].

    Examples
    --------
    >>> r, tape = autograd.new_variable(autograd.new_tape(), [[1.0, 1.0], [-1.0, 1.0]])
    >>> x, tape = autograd.new_constant(tape, [[3.0, 4.0]])
    >>> scaled_inputs(tape, "batch_ensemble_forward", r, x).value.data
    array([[[ 3.,  4.],
            [-3.,  4.]]], dtype=float32)
    """
    members, features = node_of(tape, r, operation).output.data.shape
    shape = node_of(tape, x, operation).output.data.shape
    hint = "x is [batch, in] or [batch, members, in]"
    if len(shape) not in (2, 3):
        raise DimensionError(f"x of shape {shape}", operation=operation, hint=hint)
    same_shape(operation, (shape[0], *[members] * (len(shape) - 2), features), shape, hint)
    if len(shape) == 2:
        x, tape = autograd.expand_dims(tape, x, 1)
    return autograd.mul(tape, x, r)
