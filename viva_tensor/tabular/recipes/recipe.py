"""The fit that recipes share: rows and targets checked, a split for validation, training, and what is returned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array, Float32Array, Float64Array
from viva_tensor.kernels.checks import at_least_0, check_count, flag, is_iterable, positive, share
from viva_tensor.tabular.recipes.fitted import Fitted, decoded
from viva_tensor.tabular.recipes.network import TableNetwork
from viva_tensor.tabular.recipes.preprocessing import Standard
from viva_tensor.tabular.recipes.rows import Rows, checked_rows, checked_targets, split_rows
from viva_tensor.tabular.recipes.training import Course, Training, train
from viva_tensor.train.labels import labels_of, numbers_of


class Recipe(ABC):
    """The base of the records: how a network for tables is made and trained."""

    __slots__ = ()

    validation_fraction: float
    clipped: ClassVar[bool]  # whether predicted numbers stay within those of the training rows

    @abstractmethod
    def network(self, rows: Rows, classes: int | None, rng: np.random.Generator) -> TableNetwork:
        """Return the network for a table, from its training rows; ``classes`` is None for numbers."""

    @abstractmethod
    def course(self, network: Any, rows: int) -> Course:
        """Return how a network is trained on so many rows."""

    def fit(
        self,
        x: npt.ArrayLike | None,
        categories: npt.ArrayLike | None,
        y: npt.ArrayLike,
        *,
        validation: tuple[npt.ArrayLike | None, npt.ArrayLike | None, npt.ArrayLike] | npt.ArrayLike | None = None,
        classes: int | None = None,
        seed: int = 0,
        progress: bool = False,
    ) -> Fitted:
        """Train a network, in float32; the same rows and seed give the same bits at any number of threads.

        On an interruption from the keyboard the best of the whole epochs so far is returned, with a warning; so it is
        if weights become infinite or NaN.

        Parameters
        ----------
        x : array_like [rows, numbers], optional
            Columns of numbers, none of them missing.
        categories : array_like of int [rows, columns], optional
            The code of each row's category in each column; what is below 0, and a code that training rows lack, counts
            as missing.
        y : array_like [rows]
            Numbers; or with ``classes`` the number of each row's class, or classes as text.
        validation : (x, categories, y), or array_like of int, optional
            Rows by which the best epoch is chosen, or their indices; by default a share ``validation_fraction`` of the
            rows, at random.
        classes : int, optional
            The number of classes; None for numbers, or if y is text.
        seed : int
            Of the validation rows, the weights, the order of the rows and dropout.
        progress : bool
            Show a bar on stderr, if that is a terminal.

        Returns
        -------
        Fitted

        Raises
        ------
        DimensionError, ShapeMismatch, InvalidShape, DtypeError, InvalidValue
            If rows or targets cannot be used.
        DivergenceError
            If the loss is not finite in the first epoch.
        """
        seed = check_count("fit", "seed", seed, least=0)
        progress = flag("fit", "progress", progress)
        rows = checked_rows("fit", x, categories)
        labels = labels_of(y)
        numbered = partial(numbers_of, "validation rows", labels=labels) if labels else None
        classes = _classes(classes, labels)
        target = checked_targets("fit", numbers_of("rows", y, labels) if labels else y, len(rows.x), classes)
        split = split_rows(rows, target, validation, self.validation_fraction, seed, classes, numbered)
        rng = np.random.default_rng(seed)
        network = self.network(split.rows, classes, rng)
        standard = Standard.of(split.y, self.clipped) if classes is None else None
        inputs = network.inputs(split.rows)
        if not inputs:
            hint = "give a column whose values differ"
            raise InvalidValue("all columns have one value only", operation="fit", hint=hint)
        layers = network.new(inputs, rng).value
        wanted = split.y.astype(np.float32) if standard is None else standard.encode(split.y)[:, None]
        training = Training(network, layers, self.course(network, len(split.y)), inputs, wanted, rng)
        error_of = partial(_error, standard, split.validation_y)
        trained = train(training, error_of, network.inputs(split.validation), progress)
        return Fitted(
            network=network,
            layers=trained.layers,
            target=standard,
            labels=labels,
            columns=rows.columns,
            history=trained.history,
            best_epoch=trained.best_epoch,
            seconds=trained.seconds,
            interrupted=trained.interrupted,
            predictor=trained.predictor,
        )

    def _check(self, counts: tuple[str, ...], above_0: tuple[str, ...], shares: tuple[str, ...]) -> None:
        """Check the numbers of a record: counts of at least 1, numbers above 0, and shares below 1."""
        name = type(self).__name__
        # what may be None says so in its type
        known = fields(self)  # type: ignore[arg-type]  # recipes are dataclasses
        absent = {one.name for one in known if getattr(self, one.name) is None and "None" in str(one.type)}
        for one in counts:
            if one not in absent:
                object.__setattr__(self, one, check_count(name, one, getattr(self, one)))
        for one in above_0:
            if one not in absent:
                positive(name, one, getattr(self, one))
        for one in shares:
            share(name, one, getattr(self, one))
        at_least_0(name, "weight_decay", getattr(self, "weight_decay", 0.0))


def _classes(classes: int | None, labels: tuple[str, ...]) -> int | None:
    """Return the number of classes, checked."""
    if classes is not None:
        classes = check_count("fit", "classes", classes, least=2)
    if labels and classes not in (None, len(labels)):
        got = f"classes={classes}, and y holds {len(labels)} labels"
        raise InvalidValue(got, operation="fit", hint="leave classes out: the labels say how many")
    if len(labels) == 1:
        raise InvalidValue(f"y holds only {labels[0]!r}", operation="fit", hint="give rows of two classes or more")
    return len(labels) if labels else classes


def _error(target: Standard | None, y: Float64Array, outputs: Float32Array) -> float:
    """Return the root mean squared error of predictions, or the share of wrong classes."""
    predicted: Array = decoded(target, outputs)
    if target is None:
        wrong = predicted.argmax(axis=1) != y
        return float(wrong.mean()) if np.isfinite(predicted).all() else np.nan
    return float(np.sqrt(np.mean((predicted - y) ** 2)))


def widths(name: str, values: Any) -> tuple[int, ...]:
    """Return the widths of hidden layers as a tuple, checked.

    Examples
    --------
    >>> widths("RealMLP", [256, 128])
    (256, 128)
    """
    if not is_iterable(values) or not len(found := tuple(values)):
        raise InvalidValue(f"hidden={values!r}", operation=name, hint="give the width of each hidden layer, as (256,)")
    return tuple(check_count(name, "hidden", one) for one in found)
