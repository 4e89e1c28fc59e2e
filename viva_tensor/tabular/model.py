"""A network trained on a table, for use on new rows, and the record of its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from viva_tensor.tabular.encoding import Categorical, Encoding
from viva_tensor.tabular.targets import ClassScores, NumberScores, Target
from viva_tensor.train import Fit, Layers, Settings, predict

Scores = NumberScores | ClassScores


@dataclass(frozen=True)
class Model:
    """A trained network with everything needed to use it on new rows."""

    target: Target
    encoding: Encoding
    layers: Layers
    activation: str

    @property
    def text_columns(self) -> list[str]:
        """Columns to read as text; see :func:`viva_tensor.tabular.data.read_table`."""
        return [column.name for column in self.encoding.columns if isinstance(column, Categorical)]

    @property
    def known_columns(self) -> set[str]:
        """The target and all columns of the training rows, including those left out."""
        used = {column.name for column in self.encoding.columns}
        return {self.target.name, *used, *self.encoding.left_out}

    def predict(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return predictions for a table: columns row (from 0), predicted, and for classes their probabilities.

        Raises
        ------
        DataError
            If the columns are not those of the training rows.
        """
        decoded = self.target.decode(predict(self.layers, self.encoding.encode(table), self.activation))
        decoded.insert(0, "row", np.arange(len(table)))
        return decoded


@dataclass(frozen=True)
class Run:
    """A trained network, how it was trained, and its scores on the test rows beside baselines."""

    settings: Settings
    test_fraction: float
    target: Target
    encoding: Encoding
    fit: Fit
    rows: Mapping[str, int]
    threads: int
    ranks: int
    test: pd.DataFrame  # row (in the table, from 0), actual, predicted, and for classes their probabilities
    scores: Mapping[str, Scores]

    @property
    def model(self) -> Model:
        return Model(self.target, self.encoding, self.fit.layers, self.settings.activation)
