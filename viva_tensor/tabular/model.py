"""A network trained on a table, for use on new rows, and the record of its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from viva_tensor.tabular.columns import Categorical, Date, Numeric
from viva_tensor.tabular.data import DataError, IndexArray, Table, as_table, kind_of, rows_of
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.insight import Insight
from viva_tensor.tabular.notation import PLAIN, Dates, Notation
from viva_tensor.tabular.recognition import Writing, overruled
from viva_tensor.tabular.targets import ClassScores, NumberScores, Target
from viva_tensor.tabular.typed_columns import Expected
from viva_tensor.train import Fit, Layers, Settings, predict

Scores = NumberScores | ClassScores


@dataclass(frozen=True)
class Origin:
    """What is kept of the table that a model was trained on, to read other tables like it.

    Attributes
    ----------
    notations : mapping
        How columns that are numbers or dates were written in the file.
    writing : Writing
        What the user said about how values are written.
    id : str, optional
        The column that names the rows.
    """

    notations: Mapping[str, Notation] = field(default_factory=dict, hash=False)
    writing: Writing = Writing()  # noqa: RUF009  # frozen
    id: str | None = None


@dataclass(frozen=True)
class Model:
    """A trained network with everything needed to use it on new rows."""

    target: Target
    encoding: Encoding
    layers: Layers
    activation: str
    origin: Origin = Origin()

    def expected(self, writing: Writing | None = None) -> Expected:
        """Return what is known of the columns of other files; `writing` overrules how values were written in training.

        Only the columns that the model uses, and that which names rows, must hold what they held there.
        """
        columns = self.encoding.columns
        text = [column.name for column in columns if isinstance(column, Categorical)]
        numbers = [column.name for column in columns if isinstance(column, Numeric)]
        said = (writing or Writing()).or_else(Writing(missing=self.origin.writing.missing))
        written = {name: overruled(one, said) for name, one in self.origin.notations.items()}
        named = [self.origin.id] if self.origin.id else []
        only = [*(column.name for column in columns), *named]
        return Expected(text=[*text, *named], numbers=numbers, notations=written, only=only)

    @property
    def known_columns(self) -> set[str]:
        """The target and all columns of the training rows, including those left out."""
        used = {column.name for column in self.encoding.columns}
        named = {self.origin.id} if self.origin.id else set()
        return {self.target.name, *used, *named, *self.encoding.left_out}

    def predict(self, table: Any) -> pd.DataFrame:
        """Return predictions for a table: columns row (from 0), predicted, and for classes their probabilities.

        The table may be a DataFrame of pandas or polars, or any with Arrow's interface.

        The column that named the rows in training is carried over, if the table has it.

        Raises
        ------
        DataError
            If the columns are not those of the training rows, or a value does not fit its column.
        """
        table = rows_of(as_table(table), 0, len(table))
        encoded = self.encoding.encode(self._parsed(table))
        decoded = self.target.decode(predict(self.layers, encoded, self.activation))
        return name_rows(decoded, np.arange(len(table)), table, self.origin.id)

    def unfamiliar(self, table: pd.DataFrame) -> tuple[str, ...]:
        """Describe values unlike those of the training rows, a line for each column that has some."""
        return self.encoding.unfamiliar(self._parsed(table))

    def _parsed(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table whose columns of text are numbers and dates where the model wants them."""
        wanted = {column.name for column in self.encoding.columns if not isinstance(column, Categorical)}
        texts = [name for name in table.columns if name in wanted and kind_of(table[name]) == "text"]
        usual = {column.name: Dates() for column in self.encoding.columns if isinstance(column, Date)}
        written = usual | dict(self.origin.notations)
        return table.assign(**{name: written.get(name, PLAIN).parse(table[name]) for name in texts})


def name_rows(predicted: pd.DataFrame, rows: IndexArray, table: Table, id: str | None) -> pd.DataFrame:
    """Return predictions with the index of each row before them, and its name if there is a column of names."""
    named = predicted.copy()
    named.insert(0, "row", rows)
    if id is not None and id in table.columns:
        if id in named.columns:
            raise DataError(f"the column {id!r} that names rows has the name of a column of predictions; rename it")
        named.insert(1, id, table[id].iloc[rows].to_numpy())
    return named


@dataclass(frozen=True)
class Run:
    """A trained network, how it was trained, and its scores on the test rows beside baselines."""

    settings: Settings
    test_fraction: float
    target: Target
    encoding: Encoding
    origin: Origin
    fit: Fit
    rows: Mapping[str, int]
    notes: tuple[str, ...]
    threads: int
    ranks: int
    test: (
        pd.DataFrame
    )  # row (in the table, from 0), its name if it has one, actual, predicted, and for classes their probabilities
    scores: Mapping[str, Scores]
    insight: Insight | None = None

    @property
    def model(self) -> Model:
        return Model(self.target, self.encoding, self.fit.layers, self.settings.activation, self.origin)
