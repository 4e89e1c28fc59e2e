"""One network of several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from viva_tensor.kernels.arrays import Array
from viva_tensor.train import Layers


def joined_network(networks: Sequence[Layers], weights: Sequence[float]) -> list[Array]:
    """Return the arrays of one network whose outputs are a weighted sum of those of several of the same depth.

    Its hidden layers hold the units of all side by side; weights from one network to another are 0.

    Examples
    --------
    >>> from viva_tensor import autograd, nn
    >>> one, tape = nn.mlp(autograd.new_tape(), (2, 3, 3, 1), rng=np.random.default_rng(0))
    >>> other, tape = nn.mlp(tape, (2, 4, 4, 1), rng=np.random.default_rng(1))
    >>> [array.shape for array in joined_network([one, other], [0.5, 0.5])]
    [(7, 2), (7,), (7, 7), (7,), (1, 7), (1,)]
    """
    depth, made = len(networks[0]), []
    for i in range(depth):
        w, b = ([layers[i][part].data for layers in networks] for part in (0, 1))
        if i == depth - 1:
            w, b = ([weight * array for weight, array in zip(weights, arrays, strict=True)] for arrays in (w, b))
        if depth == 1:
            made.append(np.sum(w, axis=0, dtype=w[0].dtype))
        elif i == depth - 1:
            made.append(np.concatenate(w, axis=1))
        else:
            made.append(np.concatenate(w) if i == 0 else _block_diagonal(w))
        made.append(np.sum(b, axis=0, dtype=b[0].dtype) if i == depth - 1 else np.concatenate(b))
    return made


def _block_diagonal(blocks: Sequence[Array]) -> Array:
    """Return a matrix of matrices along its diagonal, and 0 elsewhere."""
    ends = np.cumsum([block.shape for block in blocks], axis=0)
    whole = np.zeros(ends[-1], blocks[0].dtype)
    for block, (row, column) in zip(blocks, ends, strict=True):
        whole[row - len(block) : row, column - block.shape[1] : column] = block
    return whole
