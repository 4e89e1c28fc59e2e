"""A table made ready for training: what is to be learned, from which columns, and which rows are for what."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from viva_tensor.distributed import ALONE, Ranks
from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.kernels.checks import is_number, shown
from viva_tensor.tabular.class_weights import weights_of_classes
from viva_tensor.tabular.column_choice import NoFeatures, Roles, fit_encoding, infinite_in
from viva_tensor.tabular.data import (
    AnyTable,
    DataError,
    Split,
    Table,
    as_table,
    check_column,
    kind_of,
    number_of,
    split_rows,
    target_kind,
)
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.losses import Aim, loss_of
from viva_tensor.tabular.missing_words import without_marks
from viva_tensor.tabular.origin import Origin
from viva_tensor.tabular.reading import Source, totals
from viva_tensor.tabular.recognition import Writing
from viva_tensor.tabular.suggestions import suggestions
from viva_tensor.tabular.targets import Classes, Target, fit_target, values_of
from viva_tensor.tabular.typed_columns import typed
from viva_tensor.train import Settings
from viva_tensor.train.rows import shares_of

TEST_FRACTION = 0.2
PREDICTED = ("row", "actual")  # columns of predictions beside those of the target


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
        Share of the rows kept for the test, below 1.
    roles : Roles
        What the user says about the other columns.
    writing : Writing
        What the user said about how values are written, to be kept for other files.
    loss : {"squared", "absolute", "huber", "poisson", "quantile", "log-loss"}, optional
        What is minimised: of numbers "squared" by default, of classes always "log-loss". Numbers are divided by their
        standard deviation, from which on "huber" is linear. "poisson" predicts the mean of counts as an exponential.
    quantile : float or sequence of float
        The share of rows that lie below the predictions, with the loss "quantile". Several are learned at once: that
        nearest to the median is the prediction, and each is a column of predictions such as "90%".
    interval : float, optional
        The share of rows whose value is to lie between the columns "lower" and "upper" of predictions, of a number.
        Both quantiles are learned beside the prediction, and moved by a margin that gives them this share on rows that
        were not learned from.
    class_weight : "balanced" or mapping to float, optional
        How much rows of a class count in training and validation, by its value, 1 for those not named; balanced ones
        have n / (classes · rows of the class), rows counted by their weights. Of a table in memory, on one process.
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
    quantile: float | Sequence[float] = dataclasses.field(default=0.5, hash=False)
    metric: str | None = None
    interval: float | None = None
    class_weight: str | Mapping[Any, float] | None = dataclasses.field(default=None, hash=False)

    def __post_init__(self) -> None:
        if self.kind not in (None, "number", "class"):
            raise DataError(f"kind={self.kind!r}, wanted 'number' or 'class'")
        if not (is_number(self.test_fraction) and 0 <= self.test_fraction < 1):
            raise DataError(f"test_fraction={shown(self.test_fraction)}, wanted a share from 0 to below 1")

    @property
    def aim(self) -> Aim:
        """What is minimised."""
        return Aim(self.loss, self.quantile, self.interval)

    @property
    def expected(self) -> Expected:
        """What the columns of a file must hold for it, to be read so."""
        named = [self.roles.id] if self.roles.id else []
        text = [*self.roles.categorical, *named, *([self.target] if self.kind == "class" else [])]
        return Expected(text=text, numbers=self.roles.numeric, unused=self.roles.drop, names=named)


def task_of(task: Task | str, **others: Any) -> Task:
    """Return a task, or that of predicting the column of this name, with other attributes where they are not None.

    Raises
    ------
    DataError
        If it is neither.

    Examples
    --------
    >>> task_of("price", loss="quantile", quantile=0.9).quantile
    0.9
    """
    task = Task(task) if isinstance(task, str) else task
    if not isinstance(task, Task):
        raise DataError(f"got {task!r}, wanted a Task, or the name of the column to predict")
    return dataclasses.replace(task, **{name: value for name, value in others.items() if value is not None})


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


def source_of(source: Source | AnyTable, task: Task) -> Source:
    """Return a table with its text columns of numbers and dates as such, as in a file; what was read is so already.

    Raises
    ------
    DataError
        If it is no table, or a value does not fit its column.

    Examples
    --------
    >>> import pandas as pd
    >>> found = source_of(pd.DataFrame({"price": ["1,5", "n/a"], "day": ["2024-01-02", None]}), Task("price"))
    >>> found.table["price"].tolist(), str(found.table["day"][0].date())
    ([1.5, nan], '2024-01-02')
    """
    if isinstance(source, Source):
        return source
    table = as_table(source)
    if not isinstance(table, pd.DataFrame):
        return Source(table)
    below = totals(table, task.writing.missing)
    try:
        found = typed(table.copy(deep=False), task.writing, task.expected)
    except DataError as error:
        if "--" not in str(error):
            raise
        raise DataError(f"{error} (of a data frame: Task(writing=Writing(...), roles=Roles(...)))") from error
    return Source(found.table, found.notations, (*found.notes, *below))


def prepare(
    source: Source | AnyTable,
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
    source = source_of(source, task)
    table, roles = source.table, task.roles
    try:
        for name in (task.target, *roles.drop, *roles.categorical, *roles.numeric, *([roles.id] if roles.id else [])):
            check_column(table, name)
    except DataError as error:
        if not source.doubt:
            raise
        raise DataError(f"{error}; {source.doubt}") from None
    _check_roles(table, task)
    column = table[task.target]
    found = target_kind(table, task.target)
    if task.kind == "number" != found:
        words = column[column.map(lambda value: isinstance(value, str))]
        example = f", such as {words.iloc[0]!r} in row {words.index[0]}" if len(words) else ""
        raise DataError(f"column {task.target!r} does not hold numbers{example}; it can only be predicted as classes")
    column, lacking = without_marks(column) if "class" in (task.kind, found) else (column, "")
    values, labels = values_of(column, task.kind or found)
    loss = loss_of(task.aim, bool(labels), task.target)
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
    if roles.id in (*PREDICTED, *target.decode(np.zeros((0, target.outputs), np.float32)).columns):
        raise DataError(f"the column {roles.id!r}, which names rows, is called like a column of predictions; rename it")
    of_class = None
    if task.class_weight is not None:
        counted = None if shares is None else shares[split.given]
        of_class = weights_of_classes(task.class_weight, target, values[split.given], counted)
        shares = of_class.of_rows(values) * (1.0 if shares is None else shares)
        shares /= shares[kept].max()  # so that sums of squares are finite
    try:
        encoding = fit_encoding(table, split.train, task.target, ranks, roles, bins)
    except NoFeatures as error:
        raise DataError("; ".join([str(error), *source.notes])) from None
    notes = [
        *source.notes,
        *filter(None, [lacking, infinite_in(column)]),
        *encoding.notes,
        *(_rare(target, values, split) if len(split.test) else []),
    ]
    notes += ranks.from_first("suggestions", lambda: suggestions(table, encoding, target, values, split.train))
    origin = Origin(source.notations, task.writing, roles.id)
    counts = {name: len(part) for name, part in split._asdict().items()}
    if of_class is not None:
        notes.append(str(of_class))
    if len(kept) < len(present):
        notes.append(f"left out: {number_of(len(present) - len(kept), 'row')} of weight 0")
    rows = {"read": len(table), "without_target": len(table) - len(present), **counts}
    return Prepared(table, target, values, encoding, split, origin, tuple(notes), rows, shares)


def _check_roles(table: Table, task: Task) -> None:
    """Raise if what is said of columns does not go together, or not with what they hold."""
    roles = task.roles
    named = {
        "dropped": roles.drop, "numeric": roles.numeric, "categorical": roles.categorical,
        "the name of rows": [] if roles.id is None else [roles.id], "predicted": [task.target],
    }  # fmt: skip
    for (one, columns), (other, others) in combinations(named.items(), 2):
        for name in set(columns).intersection(others):
            hint = ""
            if other == "predicted":
                told = "--task or kind= says how to predict it"
                left = {"dropped": "leave it out of --drop", "the name of rows": "name another with --id"}
                hint = f"; {left.get(one, told)}"
            raise DataError(f"the column {name!r} cannot be both {one} and {other}{hint}")
    for name in roles.numeric:
        column = table[name]
        if kind_of(column) != "text":
            continue
        texts = column[column.map(lambda value: isinstance(value, str)).to_numpy(bool)]
        if len(texts):
            got = f"row {texts.index[0]} has {texts.iloc[0]!r}"
            raise DataError(f"the column {name!r} is to be numeric, but holds text: {got}")


def _rare(target: Target, values: Float64Array, split: Split) -> list[str]:
    """Name the classes that test rows lack, since there are too few of them."""
    if not isinstance(target, Classes):
        return []
    lacking = [i for i in range(target.outputs) if not (values[split.test] == i).any()]
    counts = {i: number_of(int((values == i).sum()), "row") for i in lacking}
    return [
        f"{target.name}: no test row is of class {target.labels[i]!r}, which has {count}" for i, count in counts.items()
    ]
