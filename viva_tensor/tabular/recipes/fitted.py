"""What a recipe's fit returns: a network with its preprocessing, which predicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array
from viva_tensor.tabular.recipes.network import Predictor, TableNetwork, flat
from viva_tensor.tabular.recipes.preprocessing import Standard
from viva_tensor.tabular.recipes.rows import Rows, check_columns, checked_rows


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network for tables.

    Attributes
    ----------
    network : TableNetwork
        What is made of rows, and what the layers are.
    layers : tree of Variable
        The weights of the best epoch.
    target : Standard, optional
        What outputs are in terms of numbers to predict; None for classes.
    labels : tuple of str
        The names of the classes, in the order of the probabilities, if the targets were text.
    columns : (int, int)
        How many numbers and categories a row has.
    history : dict of list
        Columns with a value for each epoch, ready for ``pandas.DataFrame``: epoch, learning_rate (of the last step),
        train_loss, validation_error (root mean squared error, or the share of wrong classes).
    best_epoch : int
        The epoch of ``layers``, from 1.
    seconds : float
        Time of training and validation.
    interrupted : bool
        Whether Ctrl-C ended it.
    """

    network: TableNetwork
    layers: Any = field(repr=False)
    target: Standard | None
    labels: tuple[str, ...]
    columns: tuple[int, int]
    history: dict[str, list[float]] = field(repr=False)
    best_epoch: int
    seconds: float
    interrupted: bool
    predictor: Predictor = field(repr=False)

    def predict(self, x: npt.ArrayLike | None, categories: npt.ArrayLike | None = None) -> Array:
        """Return the number for each row [rows], or the probability of each class [rows, classes].

        Parameters
        ----------
        x : array_like [rows, numbers], optional
        categories : array_like of int [rows, columns], optional
            Codes as in training; one that did not occur there counts as missing.

        Raises
        ------
        DimensionError, ShapeMismatch, InvalidShape, DtypeError, InvalidValue
            If rows are not like those of the fit, or numbers are missing.
        """
        rows = checked_rows("predict", x, categories)
        check_columns("predict", self.columns, rows)
        return decoded(self.target, self._outputs(rows))

    def predict_classes(self, x: npt.ArrayLike | None, categories: npt.ArrayLike | None = None) -> npt.NDArray[Any]:
        """Return the most probable class of each row, by its label if it has one.

        Raises
        ------
        InvalidValue
            If numbers were learned.
        DimensionError, ShapeMismatch, InvalidShape, DtypeError
            As :meth:`predict`.
        """
        if self.target is not None:
            raise InvalidValue("numbers were learned, no classes", operation="predict_classes", hint="call predict")
        classes: npt.NDArray[Any] = self.predict(x, categories).argmax(axis=1)
        names: npt.NDArray[Any] = np.array(self.labels, dtype=object)
        return names[classes] if self.labels else classes

    def _outputs(self, rows: Rows) -> Array:
        return self.predictor(flat(self.layers), self.network.inputs(rows))


def decoded(target: Standard | None, outputs: Array) -> Array:
    """Return predictions of a network's outputs: numbers [rows], or probabilities as they are.

    Examples
    --------
    >>> decoded(Standard(1.0, 2.0, -9.0, 9.0), np.array([[0.5]], np.float32))
    array([2.])
    """
    return outputs if target is None else target.decode(outputs[:, 0])
