"""RealMLP: a multilayer perceptron for tables with many refinements, and constants tuned on many data sets [1]_.

.. [1] D. Holzmüller, L. Grinsztajn and I. Steinwart, Better by default: strong pre-tuned MLPs and boosted trees on
   tabular data, NeurIPS 2024, arXiv:2407.04491.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from viva_tensor import autograd, kernels, nn, optim
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.autograd.tape import new_leaves
from viva_tensor.kernels.arrays import Array, Float32Array
from viva_tensor.kernels.checks import check_count
from viva_tensor.optim import Factors, Rates
from viva_tensor.tabular.recipes.network import TableNetwork
from viva_tensor.tabular.recipes.preprocessing import Categories, RobustScaling, one_hot
from viva_tensor.tabular.recipes.recipe import Recipe, widths
from viva_tensor.tabular.recipes.rows import Rows
from viva_tensor.tabular.recipes.training import Course

LEAST_RATE = 1e-30  # where a schedule is 0: moments go on, and no weight changes
DRAWN = 5  # rows, of whose values a first bias is a mean
MOST_INITIAL = 1 << 25  # numbers of a layer's outputs, from which first weights are made


@dataclass(frozen=True)
class RealMLP(Recipe):
    r"""A perceptron whose every part is tuned for tables, with the tuned defaults of its authors [1]_.

    Numbers, and categories of few values as 0 and 1, are scaled by their quartiles and smoothly clipped; numbers are
    embedded by cosines (:func:`viva_tensor.nn.pbld`), categories of many values by trained vectors. Then come a
    trained factor for each input, and layers :math:`z = x W / \sqrt{in} + b` with the activation
    :math:`x + \alpha (f(x) - x)`, α trained, f SELU for classes and Mish for numbers, and dropout. First weights make
    the variance of each unit 1, first biases lay its bend among training rows. The learning rate makes four cycles
    that get longer (:func:`cycles`), dropout and weight decay fall in the second half (:func:`flat_then_falling`).
    The weights of the best epoch are kept, the last of equally good ones.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    lr : float, optional
        By default 0.04 for classes and 0.2 for numbers.
    epochs, batch_size : int
    betas : (float, float)
        Of Adam.
    weight_decay : float
        Decoupled. Of parameters with a factor f of the learning rate, the decay has the factor f², as in the authors'
        program; biases do not decay.
    dropout : float
    label_smoothing : float
        Of classes. 0 is better where probabilities count, not only the most probable class.
    frequencies, embedding : int
        Cosines of each number, and the width of its embedding, of which the last is the number itself.
    sigma : float
        The standard deviation of first frequencies.
    most_one_hot : int
        Categories of a column up to which each is a column of 0 and 1, or both together one of 1 and −1.
    category_embedding : int
        The width of the embedding of other categories.
    validation_fraction : float
        The share of the rows by which the best epoch is chosen, if no such rows are given.

    Raises
    ------
    InvalidValue
        If a number is out of its range.

    References
    ----------
    .. [1] D. Holzmüller, L. Grinsztajn and I. Steinwart, Better by default: strong pre-tuned MLPs and boosted trees on
       tabular data, NeurIPS 2024, arXiv:2407.04491; constants, and what the text leaves open, from their program
       pytabkit.

    Examples
    --------
    >>> RealMLP(epochs=0)
    Traceback (most recent call last):
    ...
    viva_tensor.error.InvalidValue: RealMLP: epochs=0, wanted a whole number of at least 1
    """

    hidden: tuple[int, ...] = (256, 256, 256)
    lr: float | None = None
    epochs: int = 256
    batch_size: int = 256
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.02
    dropout: float = 0.15
    label_smoothing: float = 0.1
    frequencies: int = 16
    embedding: int = 4
    sigma: float = 0.1
    most_one_hot: int = 8
    category_embedding: int = 8
    validation_fraction: float = 0.2

    clipped: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", widths("RealMLP", self.hidden))
        counts = ("epochs", "batch_size", "frequencies", "most_one_hot", "category_embedding")
        self._check(counts, ("lr", "sigma"), ("dropout", "label_smoothing", "validation_fraction"))
        object.__setattr__(self, "embedding", check_count("RealMLP", "embedding", self.embedding, least=2))
        object.__setattr__(self, "betas", optim.AdamW(betas=self.betas).betas)

    def network(self, rows: Rows, classes: int | None, rng: np.random.Generator) -> RealMLPNetwork:
        """Return the network for a table, from its training rows."""
        categories = Categories.of(rows.codes)
        few = [size <= self.most_one_hot for size in categories.sizes]
        flags = _flags(categories, few, rows)
        return RealMLPNetwork(self, classes, RobustScaling.of(rows.x), categories, tuple(few), RobustScaling.of(flags))

    def course(self, network: RealMLPNetwork, rows: int) -> Course:
        """Return how a network is trained on so many rows."""
        batch = min(self.batch_size, rows)
        steps = rows // batch * self.epochs
        lr = self.lr if self.lr is not None else 0.2 if network.classes is None else 0.04

        def schedule(number: int) -> Rates:
            share = (number - 1) / steps
            later = flat_then_falling(share)
            return Rates(max(lr * cycles(share), LEAST_RATE), self.weight_decay * later, dropout_factor=later)

        return Course(
            optim.AdamW(lr=lr, betas=self.betas, weight_decay=self.weight_decay),
            batch,
            self.epochs,
            factors=network.factors(),
            schedule=schedule,
            whole_batches=True,
            latest=True,
        )


class Hidden(NamedTuple):
    """A hidden layer, and the α of each unit's activation."""

    linear: nn.Linear
    alpha: Variable


class RealMLPLayers(NamedTuple):
    """The layers of a RealMLP.

    Attributes
    ----------
    numbers : PBLD, or ()
    categories : Embedding, or ()
        One table for all columns: of each column a row for what is missing, then one for each category.
    scale : Variable [in]
    hidden : tuple of Hidden
        With weights W / √in, where the paper has W. Their factors of rate and decay make every step that of W, but
        that Adam's ε counts for √in times less.
    last : Linear
    """

    numbers: nn.PBLD | tuple[()]
    categories: nn.Embedding | tuple[()]
    scale: Variable
    hidden: tuple[Hidden, ...]
    last: nn.Linear


class RealMLPNetwork(TableNetwork):
    """RealMLP for one table.

    Inputs are those that there are of: numbers; categories of few values as 0 and 1; places in the table of embeddings.
    """

    def __init__(
        self,
        recipe: RealMLP,
        classes: int | None,
        numbers: RobustScaling,
        categories: Categories,
        few: tuple[bool, ...],
        flags: RobustScaling,
    ) -> None:
        self.recipe, self.classes = recipe, classes
        self.numbers, self.categories, self.few, self.flags = numbers, categories, few, flags
        self.many = [size + 1 for size, is_few in zip(categories.sizes, few, strict=True) if not is_few]
        self.bend = nn.mish if classes is None else nn.selu

    def inputs(self, rows: Rows) -> tuple[Float32Array, ...]:
        """Return what the network takes for some rows."""
        found = [self.numbers(rows.x), self.flags(_flags(self.categories, self.few, rows))]
        if self.many:
            starts = np.cumsum([0, *self.many[:-1]])
            chosen = [column for column, is_few in enumerate(self.few) if not is_few]
            found.append((self.categories.indices(rows.codes)[:, chosen] + starts).astype(rows.x.dtype))
        return tuple(array for array in found if array.shape[1])

    def new(self, inputs: Sequence[Array], rng: np.random.Generator) -> Traced[RealMLPLayers]:
        """Record new layers whose units have variance 1 over these inputs, and bends among them, dropout included."""
        recipe, tape = self.recipe, autograd.new_tape()
        dtype = inputs[0].dtype
        numbers: nn.PBLD | tuple[()] = ()
        categories: nn.Embedding | tuple[()] = ()
        if self._width(0):
            given: dict[str, Any] = {"hidden": recipe.frequencies, "sigma": recipe.sigma, "rng": rng, "dtype": dtype}
            numbers, tape = nn.pbld(tape, self._width(0), recipe.embedding, **given)
        if self.many:
            categories, tape = nn.embedding(tape, sum(self.many), recipe.category_embedding, rng=rng, dtype=dtype)
        few = rng.permutation(len(inputs[0]))[: max(MOST_INITIAL // max(recipe.hidden), 1)]
        constants, tape = new_leaves(tape, (array[few] for array in inputs), autograd.new_constant)
        scale, tape = autograd.new_variable(tape, np.ones(self._features, dtype))
        nothing: Any = ()
        values, tape = self._joined(tape, RealMLPLayers(numbers, categories, scale, (), nothing), constants)
        hidden = []
        for width in recipe.hidden:
            linear, outputs, tape = _initial(tape, values.data, width, rng)
            alpha, tape = autograd.new_variable(tape, np.ones(width, dtype))
            hidden.append(Hidden(linear, alpha))
            values, tape = autograd.sequence(autograd.new_constant(tape, outputs), self.bend)
            values, tape = nn.dropout(tape, values, recipe.dropout, rng=rng)
        last, _, tape = _initial(tape, values.data, self.classes or 1, rng)
        return Traced(RealMLPLayers(numbers, categories, scale, tuple(hidden), last), tape)

    def factors(self) -> RealMLPLayers:
        """Return the factors of each parameter's learning rate and decay, as a tree like that of the layers."""
        sizes = (self._features, *self.recipe.hidden)
        slow: Any = Factors(0.1, 0.1)
        scaled: list[Any] = [(_scaled(size), _BIAS) for size in sizes]
        hidden = tuple(Hidden(linear, slow) for linear in scaled[:-1])
        numbers: Any = slow if self._width(0) else ()
        categories: Any = Factors() if self.many else ()
        scale: Any = Factors(6.0, 6.0)
        return RealMLPLayers(numbers, categories, scale, hidden, scaled[-1])

    def forward(
        self, tape: Tape, layers: RealMLPLayers, inputs: Sequence[Variable], rng: np.random.Generator | None = None
    ) -> Traced[Variable]:
        """Record the outputs for a batch; with a generator as in training, with dropout."""
        values, tape = self._joined(tape, layers, inputs)
        values, tape = autograd.mul(tape, values, layers.scale)
        for layer in layers.hidden:
            values, tape = nn.linear_forward(tape, layer.linear, values)
            bent, tape = self.bend(tape, values)
            change, tape = autograd.sub(tape, bent, values)
            change, tape = autograd.mul(tape, change, layer.alpha)
            values, tape = autograd.add(tape, values, change)
            if rng is not None and self.recipe.dropout:
                values, tape = nn.dropout(tape, values, self.recipe.dropout, rng=rng)
        return nn.linear_forward(tape, layers.last, values)

    def loss(self, tape: Tape, outputs: Variable, target: Variable) -> Traced[Variable]:
        """Record the mean squared error, or the cross-entropy with smoothed labels."""
        if self.classes is None:
            return nn.mse_loss(tape, outputs, target)
        return nn.cross_entropy(tape, outputs, target, label_smoothing=self.recipe.label_smoothing)

    def prediction(self, tape: Tape, outputs: Variable) -> Traced[Variable]:
        """Record the standardised number, or the probability of each class."""
        return Traced(outputs, tape) if self.classes is None else nn.softmax(tape, outputs)

    def _width(self, kind: int) -> int:
        return len((self.numbers, self.flags)[kind].center)

    @property
    def _features(self) -> int:
        embedded = len(self.many) * self.recipe.category_embedding
        return self._width(0) * self.recipe.embedding + self._width(1) + embedded

    def _joined(self, tape: Tape, layers: RealMLPLayers, inputs: Sequence[Variable]) -> Traced[Variable]:
        """Record embeddings of numbers, columns of 0 and 1, and embeddings of categories side by side."""
        left, parts = list(inputs), []
        if isinstance(layers.numbers, nn.PBLD):
            embedded, tape = nn.pbld_forward(tape, layers.numbers, left.pop(0))
            part, tape = autograd.reshape(tape, embedded, (-1, embedded.shape[1] * embedded.shape[2]))
            parts.append(part)
        if self._width(1):
            parts.append(left.pop(0))
        if isinstance(layers.categories, nn.Embedding):
            embedded, tape = nn.embedding_forward(tape, layers.categories, left.pop(0))
            part, tape = autograd.reshape(tape, embedded, (-1, embedded.shape[1] * embedded.shape[2]))
            parts.append(part)
        return autograd.concatenate(tape, parts, axis=1) if len(parts) > 1 else Traced(parts[0], tape)


_BIAS = Factors(0.1, 0.0)


def _scaled(inputs: int) -> Factors:
    """Return the factors for weights W / √in, whose steps are those of W, and whose decay is that of W."""
    return Factors(1 / math.sqrt(inputs), math.sqrt(inputs))


def _flags(categories: Categories, few: Sequence[bool], rows: Rows) -> Float32Array:
    """Return categories of few values as columns of 0 and 1, or of 1 and −1."""
    chosen = [column for column, is_few in enumerate(few) if is_few]
    sizes = [categories.sizes[column] for column in chosen]
    return one_hot(categories.indices(rows.codes)[:, chosen], sizes, signed=True).astype(rows.x.dtype)


def _initial(tape: Tape, x: Array, width: int, rng: np.random.Generator) -> tuple[nn.Linear, Array, Tape]:
    """Record a layer whose outputs for x have variance 1 before the bias; return it and its outputs.

    A bias is minus a mean of a unit's values in five rows, with random weights, so that its bend lies among rows.
    """
    w = rng.standard_normal((x.shape[1], width)).astype(x.dtype) / np.sqrt(x.shape[1], dtype=x.dtype)
    outputs = kernels.matmul(x, w)
    deviation = outputs.std(axis=0)
    deviation[deviation == 0] = 1
    w, outputs = w / deviation, outputs / deviation
    weights = rng.standard_exponential((DRAWN, width))
    weights /= weights.sum(axis=0)
    rows = rng.integers(0, len(x), (DRAWN, width))
    b = -(outputs[rows, np.arange(width)] * weights).sum(axis=0).astype(x.dtype)
    weight, tape = autograd.new_variable(tape, np.ascontiguousarray(w.T))
    bias, tape = autograd.new_variable(tape, b)
    return nn.Linear(weight, bias), outputs + b, tape


def cycles(share: float) -> float:
    r"""Return the factor of RealMLP's learning rate at a share t of all steps.

    .. math:: (1 - \cos 2 \pi \log_2(1 + 15 t)) / 2

    It rises from 0 to 1 and falls to 0 four times; each cycle is twice as long as the one before.

    Examples
    --------
    >>> [round(cycles(share), 6) for share in (0, (2**0.5 - 1) / 15, 1 / 15, 3 / 15, 7 / 15, 0.6876)]
    [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    """
    return (1 - math.cos(2 * math.pi * math.log2(1 + 15 * share))) / 2


def flat_then_falling(share: float) -> float:
    r"""Return the factor of RealMLP's dropout and decay at a share t of all steps: 1, after a half falling to 0.

    .. math:: (1 + \cos \pi (\max(1, 2 t) - 1)) / 2

    Examples
    --------
    >>> [round(flat_then_falling(share), 6) for share in (0, 0.5, 0.75, 1)]
    [1.0, 1.0, 0.5, 0.0]
    """
    return (1 + math.cos(math.pi * (max(1.0, 2 * share) - 1))) / 2
