"""Outputs of a network whose weights are arrays, as scikit-learn keeps them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
from scipy.sparse import issparse

from viva_tensor import autograd, kernels, nn
from viva_tensor.kernels.arrays import Array
from viva_tensor.sklearn.parameters import ACTIVATIONS

BLOCK_ROWS = 1024  # whose activations stay in a cache from one layer to the next
SPARSE_BLOCK_ROWS = 4096  # of sparse rows, which take time to cut out


def _recorded(bend: Callable[..., Any]) -> Callable[..., Array]:
    """Return an activation of variables as one of arrays; ``out`` is where its result may lie, and is not used."""

    def function(x: Array, out: Array | None = None) -> Array:
        variable, tape = autograd.new_constant(autograd.new_tape(), x)
        return cast(Array, bend(tape, variable).value.data)

    return function


BENDS: dict[str, Callable[..., Array] | None] = {
    **{name: _recorded(nn.ACTIVATIONS[ours]) for name, ours in ACTIVATIONS.items()},
    "relu": kernels.relu,
    "tanh": kernels.tanh,
    "logistic": kernels.sigmoid,
    "identity": None,
}


def outputs(x: Any, coefs: Sequence[Array], intercepts: Sequence[Array], activation: str) -> Array:
    """Return outputs [rows, out], before the last activation, for rows x [rows, in].

    Parameters
    ----------
    x : ndarray or sparse matrix of rows
        A sparse one is multiplied as it is.
    coefs, intercepts : sequence of ndarray
        Weights [in, out] and biases [out] of each layer, in the dtype of x.
    activation : str
        The name that scikit-learn has for the activation between the layers.
    """
    count, sparse = x.shape[0], issparse(x)
    compute = partial(_outputs, coefs, intercepts, BENDS[activation], sparse)
    block = SPARSE_BLOCK_ROWS if sparse else BLOCK_ROWS
    if count <= block:
        return compute(x)
    return np.concatenate([compute(x[i : i + block]) for i in range(0, count, block)])


def _outputs(
    coefs: Sequence[Array], intercepts: Sequence[Array], bend: Callable[..., Array] | None, sparse: bool, x: Any
) -> Array:
    hidden: Any = x
    for layer, (w, b) in enumerate(zip(coefs, intercepts, strict=True)):
        if layer and bend is not None:
            hidden = bend(hidden, out=hidden)
        if sparse and layer == 0:
            product = hidden @ w
            hidden = kernels.add(product, b, out=product)
        else:
            hidden = kernels.linear(hidden, w.T, b)
    return cast(Array, hidden)
