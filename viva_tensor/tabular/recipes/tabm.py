"""TabM: an ensemble of perceptrons for tables that share most of their weights, trained as one network [1]_.

.. [1] Y. Gorishniy, A. Kotelnikov and A. Babenko, TabM: advancing tabular deep learning with parameter-efficient
   ensembling, ICLR 2025, arXiv:2410.24210.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np

from viva_tensor import autograd, nn, optim
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.kernels.arrays import Array, Float32Array
from viva_tensor.kernels.checks import check_count, flag
from viva_tensor.nn.numeric_embeddings import locate, quantile_edges
from viva_tensor.tabular.recipes.network import TableNetwork
from viva_tensor.tabular.recipes.preprocessing import Categories, QuantileNormal, one_hot
from viva_tensor.tabular.recipes.recipe import Recipe
from viva_tensor.tabular.recipes.rows import Rows
from viva_tensor.tabular.recipes.training import Course

ROWS_OF_BLOCK = 8192  # of all members, in one forward pass


@dataclass(frozen=True)
class TabM(Recipe):
    r"""An ensemble of perceptrons that share weights, with piecewise linear embeddings of numbers [1]_.

    Numbers become quantiles of the normal distribution, and vectors that are piecewise linear in them
    (:func:`viva_tensor.nn.piecewise_linear`); categories become columns of 0 and 1. Each member k multiplies what all
    share by scales of its own, :math:`s_k \circ (W (r_k \circ x)) + b_k` (:func:`viva_tensor.nn.batch_ensemble`), with
    relu and dropout after each layer, and has a head of its own. Each is trained for itself, on the same batches; what
    is predicted, and tells when to stop, is the mean of the numbers or of the probabilities of all.

    Parameters
    ----------
    members : int
    width : int
        Units of each hidden layer.
    layers : int, optional
        Hidden layers; by default 2 with embeddings of numbers, and 3 without.
    mini : bool
        Whether members have scales of the inputs alone (:func:`viva_tensor.nn.tabm_mini`).
    bins, embedding : int
        Of each number: bins that hold as many rows each, at most, and the width of the vector. 0 bins: numbers as they
        are.
    dropout : float
    lr, weight_decay, clip_norm : float
        Of AdamW.
    batch_size : int
    patience : int
        Training stops with the first epoch that is more than so many after the best.
    epochs : int, optional
        At most.
    validation_fraction : float
        The share of the rows by which the best epoch is chosen, if no such rows are given.

    Raises
    ------
    InvalidValue
        If a number is out of its range.

    References
    ----------
    .. [1] Y. Gorishniy, A. Kotelnikov and A. Babenko, TabM: advancing tabular deep learning with parameter-efficient
       ensembling, ICLR 2025, arXiv:2410.24210; constants from their program tabm.

    Examples
    --------
    >>> TabM(members=8, width=64, bins=0).depth
    3
    """

    members: int = 32
    width: int = 512
    layers: int | None = None
    mini: bool = False
    bins: int = 48
    embedding: int = 16
    dropout: float = 0.1
    lr: float = 2e-3
    weight_decay: float = 3e-4
    clip_norm: float | None = 1.0
    batch_size: int = 256
    patience: int = 16
    epochs: int | None = None
    validation_fraction: float = 0.2

    clipped: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts = ("members", "width", "layers", "embedding", "batch_size", "patience", "epochs")
        self._check(counts, ("lr", "clip_norm"), ("dropout", "validation_fraction"))
        object.__setattr__(self, "bins", check_count("TabM", "bins", self.bins, least=0))
        object.__setattr__(self, "mini", flag("TabM", "mini", self.mini))

    @property
    def depth(self) -> int:
        """The number of hidden layers."""
        return self.layers if self.layers is not None else 2 if self.bins else 3

    def network(self, rows: Rows, classes: int | None, rng: np.random.Generator) -> TabMNetwork:
        """Return the network for a table, from its training rows."""
        quantiles = QuantileNormal.of(rows.x, rng)
        normal = quantiles(rows.x)
        varied = np.flatnonzero((rows.x != rows.x[0]).any(axis=0) & (normal != normal[0]).any(axis=0))
        edges = quantile_edges(normal[:, varied], self.bins) if self.bins and len(varied) else []
        return TabMNetwork(self, classes, quantiles, varied, edges, Categories.of(rows.codes))

    def course(self, network: TabMNetwork, rows: int) -> Course:
        """Return how a network is trained on so many rows."""
        adam = optim.AdamW(lr=self.lr, weight_decay=self.weight_decay, clip_norm=self.clip_norm)
        return Course(adam, min(self.batch_size, rows), self.epochs, self.patience)


class TabMLayers(NamedTuple):
    """The layers of a TabM.

    Attributes
    ----------
    numbers : PiecewiseLinearB, or ()
    hidden : tuple of BatchEnsemble, or TabMMini
    heads : LinearEnsemble
    """

    numbers: nn.PiecewiseLinearB | tuple[()]
    hidden: tuple[nn.BatchEnsemble, ...] | nn.TabMMini
    heads: nn.LinearEnsemble


class TabMNetwork(TableNetwork):
    """TabM for one table.

    Inputs are those that there are of: places among bins, fractions of bins, numbers; categories as 0 and 1.
    """

    def __init__(
        self,
        recipe: TabM,
        classes: int | None,
        quantiles: QuantileNormal,
        varied: Array,
        edges: Sequence[Array],
        categories: Categories,
    ) -> None:
        self.recipe, self.classes = recipe, classes
        self.quantiles, self.varied, self.edges, self.categories = quantiles, varied, list(edges), categories
        self.block = max(ROWS_OF_BLOCK // recipe.members, 1)

    def inputs(self, rows: Rows) -> tuple[Float32Array, ...]:
        """Return what the network takes for some rows."""
        found: list[Any] = []
        if len(self.varied):
            normal = self.quantiles(rows.x)[:, self.varied]
            found += list(locate(self.edges, normal)) if self.edges else [normal]
        found.append(one_hot(self.categories.indices(rows.codes), self.categories.sizes))
        return tuple(array for array in found if array.shape[1])

    def new(self, inputs: Sequence[Array], rng: np.random.Generator) -> Traced[TabMLayers]:
        """Record new layers."""
        recipe, tape = self.recipe, autograd.new_tape()
        given: dict[str, Any] = {"rng": rng, "dtype": inputs[0].dtype}
        numbers: Any = ()
        if self.edges:
            numbers, tape = nn.piecewise_linear(tape, self.edges, recipe.embedding, **given)
        chunks = [recipe.embedding if self.edges else 1] * len(self.varied)
        chunks += [size for size in self.categories.sizes if size]
        sizes = [sum(chunks), *[recipe.width] * recipe.depth]
        first: dict[str, Any] = {"scale": "normal" if self.edges else "signs", "chunks": chunks}
        hidden: Any = []
        if recipe.mini:
            hidden, tape = nn.tabm_mini(tape, sizes, recipe.members, **first, **given)
        else:
            for before, after in pairwise(sizes):
                layer, tape = nn.batch_ensemble(tape, before, after, recipe.members, **first, **given)
                hidden, first = (*hidden, layer), {}
        heads, tape = nn.linear_ensemble(tape, recipe.width, self.classes or 1, recipe.members, **given)
        return Traced(TabMLayers(numbers, hidden, heads), tape)

    def forward(
        self, tape: Tape, layers: TabMLayers, inputs: Sequence[Variable], rng: np.random.Generator | None = None
    ) -> Traced[Variable]:
        """Record the outputs of each member for a batch [rows, members, outputs]; with a generator with dropout."""
        values, tape = self._joined(tape, layers, inputs)
        rate = 0.0 if rng is None else self.recipe.dropout
        if isinstance(layers.hidden, nn.TabMMini):
            values, tape = nn.tabm_mini_forward(tape, layers.hidden, values, dropout_rate=rate, rng=rng)
        else:
            for layer in layers.hidden:
                values, tape = nn.batch_ensemble_forward(tape, layer, values)
                values, tape = autograd.relu(tape, values)
                if rate:
                    values, tape = nn.dropout(tape, values, rate, rng=rng)
        return nn.linear_ensemble_forward(tape, layers.heads, values)

    def loss(self, tape: Tape, outputs: Variable, target: Variable) -> Traced[Variable]:
        """Record the mean of all members' losses."""
        return nn.ensemble_loss(tape, nn.mse_loss if self.classes is None else nn.cross_entropy, outputs, target)

    def prediction(self, tape: Tape, outputs: Variable) -> Traced[Variable]:
        """Record the mean of the members' numbers or probabilities."""
        return nn.ensemble_mean(tape, outputs, link="identity" if self.classes is None else "softmax")

    def _joined(self, tape: Tape, layers: TabMLayers, inputs: Sequence[Variable]) -> Traced[Variable]:
        """Record embeddings of numbers, or numbers, beside columns of 0 and 1."""
        parts = list(inputs)
        if isinstance(layers.numbers, nn.PiecewiseLinearB):
            located = nn.Located(*parts[:3])
            embedded, tape = nn.piecewise_linear_forward(tape, layers.numbers, located)
            whole, tape = autograd.reshape(tape, embedded, (-1, embedded.shape[1] * embedded.shape[2]))
            parts = [whole, *parts[3:]]
        return autograd.concatenate(tape, parts, axis=1) if len(parts) > 1 else Traced(parts[0], tape)
