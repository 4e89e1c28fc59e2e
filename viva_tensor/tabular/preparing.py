"""A table made ready for training: what is to be learned, from which columns, and which rows are for what."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from viva_tensor.distributed import ALONE, Ranks
from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular.data import (
    DataError,
    Split,
    Table,
    as_table,
    check_column,
    number_of,
    split_rows,
    target_kind,
)
from viva_tensor.tabular.encoding import Encoding, Roles, fit_encoding
from viva_tensor.tabular.losses import loss_of
from viva_tensor.tabular.model import Origin
from viva_tensor.tabular.reading import Source
from viva_tensor.tabular.recognition import Writing
from viva_tensor.tabular.suggestions import suggestions
from viva_tensor.tabular.targets import Classes, Target, fit_target, values_of
from viva_tensor.tabular.typed_columns import Expected
from viva_tensor.train import Settings
from viva_tensor.train.rows import shares_of

TEST_FRACTION = 0.2


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be learned from a table.

    Attributes
    ----------
    target : str
        The column to predict.
    kind : {"number", "class"}, optional
        How to treat it; by default text, categories and booleans are classes.
    test_fraction : float
        Share of the rows kept for the test.
    roles : Roles
        What the user says about the other columns.
    writing : Writing
        What the user said about how values are written, to be kept for other files.
    loss : {"squared", "absolute", "huber", "poisson", "quantile", "log-loss"}, optional
        What is minimised: of numbers "squared" by default, of classes always "log-loss". Numbers are divided by their
        standard deviation, from which on "huber" is linear. "poisson" predicts the mean of counts as an exponential.
    quantile : float
        The share of rows that lie below the predictions, with the loss "quantile".
    metric : {"rmse", "mae", "r2", "accuracy", "log-loss", "auc"}, optional
        What tells on the validation rows which epoch is best, instead of the loss, and is told of the test rows. Of
        several ranks it is the mean over their validation rows. Needs
        ``pip install "viva-tensor[sklearn]"``.
    """

    target: str
    kind: str | None = None
    test_fraction: float = TEST_FRACTION
    roles: Roles = Roles()  # noqa: RUF009  # frozen
    writing: Writing = Writing()  # noqa: RUF009  # frozen
    loss: str | None = None
    quantile: float = 0.5
    metric: str | None = None

    @property
    def expected(self) -> Expected:
        """What the columns of a file must hold for it, to be read so."""
        named = [self.roles.id] if self.roles.id else []
        text = [*self.roles.categorical, *named, *([self.target] if self.kind == "class" else [])]
        return Expected(text=text, numbers=self.roles.numeric, unused=self.roles.drop)


def task_of(
    task: Task | str, loss: str | None = None, quantile: float | None = None, metric: str | None = None
) -> Task:
    """Return a task, or that of predicting the column of this name, with another loss or metric if one is given.

    Examples
    --------
    >>> task_of("price", "quantile", 0.9).quantile
    0.9
    """
    task = Task(task) if isinstance(task, str) else task
    quantile = task.quantile if quantile is None else quantile
    loss, metric = task.loss if loss is None else loss, task.metric if metric is None else metric
    return dataclasses.replace(task, loss=loss, quantile=quantile, metric=metric)


class Prepared(NamedTuple):
    """A table made ready for training: its target, features and parts, and what a person should know before."""

    table: Table
    target: Target
    values: Float64Array
    encoding: Encoding
    split: Split
    origin: Origin
    notes: tuple[str, ...]
    rows: dict[str, int]  # how many there are of each kind
    weights: Float64Array | None = None  # of all rows of the table, if they differ


def prepare(
    source: Source | Table,
    task: Task,
    settings: Settings,
    ranks: Ranks = ALONE,
    bins: int = 0,
    weights: npt.ArrayLike | None = None,
) -> Prepared:
    """Choose target, features, and training, validation and test rows; rows without a target are left out.

    Numbers get ``bins`` beside their value (:func:`fit_encoding`). The encoding and the scaling of the target are
    fitted on the training rows; those of classes have each class in its share. Rows of weight 0 are left out, too.

    Raises
    ------
    DataError
        If the table cannot be used.
    DtypeError, ShapeMismatch, InvalidValue
        If the weights are not a number for each row, of at least 0.
    """
    source = source if isinstance(source, Source) else Source(as_table(source))
    table, roles = source.table, task.roles
    try:
        for name in (task.target, *roles.drop, *roles.categorical, *roles.numeric, *([roles.id] if roles.id else [])):
            check_column(table, name)
    except DataError as error:
        if not source.doubt:
            raise
        raise DataError(
            f"{error}; {source.doubt!r} looks like a value: if there is no line of names, --no-header"
        ) from None
    if roles.id in ("row", "actual", "predicted"):
        raise DataError(f"the column {roles.id!r} that names rows has the name of a column of predictions; rename it")
    if task.target in roles.drop:
        raise DataError(f"the column {task.target!r} cannot both be dropped and predicted")
    column = table[task.target]
    found = target_kind(table, task.target)
    if task.kind == "number" != found:
        words = column[column.map(lambda value: isinstance(value, str))]
        example = f", such as {words.iloc[0]!r} in row {words.index[0]}" if len(words) else ""
        raise DataError(f"column {task.target!r} does not hold numbers{example}; it can only be predicted as classes")
    values, labels = values_of(column, task.kind or found)
    loss = loss_of(task.loss, task.quantile, bool(labels), task.target)
    present = kept = np.flatnonzero(np.isfinite(values))
    shares = None
    if weights is not None and len(kept):
        shares = shares_of("fit", weights, len(table), kept)
        kept = kept[shares[kept] > 0]
        shares = None if (shares[kept] == 1).all() else shares
    classes = values[kept] if labels else None
    parts = split_rows(len(kept), task.test_fraction, settings.validation_fraction, settings.seed, classes)
    split = Split(*(kept[part] for part in parts))
    target = fit_target(task.target, values[split.train], labels, loss)
    encoding = fit_encoding(table, split.train, task.target, ranks, roles, bins)
    notes = [*source.notes, *encoding.notes, *(_rare(target, values, split) if len(split.test) else [])]
    notes += ranks.from_first("suggestions", lambda: suggestions(table, encoding, target, values, split.train))
    origin = Origin(source.notations, task.writing, roles.id)
    counts = {name: len(part) for name, part in split._asdict().items()}
    if len(kept) < len(present):
        notes.append(f"left out: {number_of(len(present) - len(kept), 'row')} of weight 0")
    rows = {"read": len(table), "without_target": len(table) - len(present), **counts}
    return Prepared(table, target, values, encoding, split, origin, tuple(notes), rows, shares)


def _rare(target: Target, values: Float64Array, split: Split) -> list[str]:
    """Name the classes that test rows lack, since there are too few of them."""
    if not isinstance(target, Classes):
        return []
    lacking = [i for i in range(target.outputs) if not (values[split.test] == i).any()]
    counts = {i: number_of(int((values == i).sum()), "row") for i in lacking}
    return [
        f"{target.name}: no test row is of class {target.labels[i]!r}, which has {count}" for i, count in counts.items()
    ]
