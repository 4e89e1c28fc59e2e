"""Estimators of tables as they are: data frames of numbers, text, categories, booleans and dates, with missing values.

They train as :func:`viva_tensor.tabular.run` does, on all rows that they are given. A column holds what its dtype says:
text is categories, whatever it looks like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array, Float64Array
from viva_tensor.sklearn.parameters import known_weights
from viva_tensor.sklearn.refusals import check_no_times
from viva_tensor.sklearn.tabular_base import TabularBase, check_present
from viva_tensor.tabular import Members
from viva_tensor.tabular.data import labels_of
from viva_tensor.tabular.losses import LOG_LOSS
from viva_tensor.tabular.missing_words import without_marks
from viva_tensor.train import Settings


class TabularRegressor(RegressorMixin, TabularBase):  # type: ignore[misc]
    """Regression on tables as they are, with scikit-learn's interface.

    Numbers, booleans, durations, times of day and dates are standardised, text and categories one-hot encoded, missing
    values marked and filled, all fitted in ``fit``. Text is always categories, even of numbers; a column of text that
    differs in nearly every row is left out, with a warning. What is trained is one network, or the mean of five, as
    :func:`viva_tensor.tabular.run` decides. Some rows are set aside to decide when training stops, none for a test.

    Parameters
    ----------
    preset : {"default", "fast", "best"}
        See :func:`viva_tensor.tabular.run`.
    settings : Settings or Members, optional
        Of one network or of several, instead of a preset.
    categorical : sequence of str, int or bool, optional
        Columns of numbers that are categories, by name or index, or a mask of all columns.
    missing : sequence, optional
        Words or numbers that stand for missing values, besides NaN and None.
    loss : {"squared", "absolute", "huber", "poisson", "quantile"}, optional
        What is minimised, "squared" by default; see :class:`viva_tensor.tabular.Task`.
    metric : {"rmse", "mae", "r2"}, optional
        What decides on validation rows which epoch is best, instead of the loss.
    validation_fraction : float, optional
        The share of the rows that decide when to stop training one network; by default, what suits their number. Of
        several networks, each is validated on a part of its own. With the preset "fast" the share is rounded to the
        nearest of 1/2, 1/3, ... Settings have their own.
    random_state : int, RandomState or None
        Determines the rows for validation, the weights and the order of the rows. With an int, the bits of a model are
        the same with any number of threads, except with "best" or :class:`viva_tensor.tabular.Best`: how much these
        train depends on how long it takes.
    verbose : bool or int
        Print how the columns are interpreted, and show a progress bar during training.
    quantile : float or sequence of float
        The share of rows that lie below the predictions, with ``loss="quantile"``; if there are several,
        :meth:`predict` returns the one nearest to the median.
    interval : float, optional
        The share of rows whose value is to lie in the intervals of :meth:`predict_interval`.

    Attributes
    ----------
    model_ : viva_tensor.tabular.Model
        The trained network with the encoding of its columns; ``model_.save(folder)`` writes both.
    preset_ : viva_tensor.tabular.defaults.Preset
        How many networks were trained, and why.
    history_ : dict of list
        The losses after each epoch.
    n_features_in_, feature_names_in_ : int, ndarray of str
        Columns of X; the names exist if X was a data frame. Later frames may then have them in any order.

    Examples
    --------
    >>> import pandas as pd
    >>> X = pd.DataFrame({"size": [i / 2 for i in range(60)], "kind": ["a", "b", None] * 20})
    >>> y = 10.0 * X["size"] + (X["kind"] == "a") * 50
    >>> model = TabularRegressor(random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.99
    True
    """

    _kind = "number"

    def __init__(
        self,
        preset: str = "default",
        *,
        settings: Settings | Members | None = None,
        categorical: Sequence[str | int] | None = None,
        missing: Sequence[Any] | None = None,
        loss: str | None = None,
        quantile: float | Sequence[float] = 0.5,
        interval: float | None = None,
        metric: str | None = None,
        validation_fraction: float | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int = False,
    ) -> None:
        super().__init__(
            preset,
            settings=settings,
            categorical=categorical,
            missing=missing,
            loss=loss,
            metric=metric,
            validation_fraction=validation_fraction,
            random_state=random_state,
            verbose=verbose,
        )
        self.quantile = quantile
        self.interval = interval

    def predict(self, X: Any) -> Float64Array:
        """Return a number for each row of a table.

        Raises
        ------
        ValueError
            If a column of the training is missing, or holds something else.
        """
        return self._predicted(X)["predicted"].to_numpy(np.float64)

    def predict_interval(self, X: Any) -> Float64Array:
        """Return the lower and upper ends [rows, 2] of an interval for each row of a table.

        A share ``interval`` of the rows of ``fit`` lie in their intervals, as predicted by networks that did not
        learn from them, as in conformalized quantile regression (Romano et al., 2019). Other rows of the same kind do
        about as often.

        Raises
        ------
        ValueError
            As :meth:`predict`, or if the estimator was fitted without ``interval``.
        """
        predicted = self._predicted(X)
        if "lower" not in predicted:
            hint = "give interval=0.9, say, and fit again"
            raise InvalidValue("fitted without an interval", operation="predict_interval", hint=hint)
        return predicted[["lower", "upper"]].to_numpy(np.float64)

    def predict_quantiles(self, X: Any) -> Float64Array:
        """Return the quantiles [rows, quantiles] of each row in rising order, if the estimator was fitted with several.

        Raises
        ------
        ValueError
            As :meth:`predict`, or if the estimator was fitted without several quantiles.
        """
        predicted = self._predicted(X)
        columns = [name for name in map(str, predicted.columns) if name.endswith("%")]
        if not columns:
            hint = 'give loss="quantile", quantile=(0.1, 0.5, 0.9), say, and fit again'
            raise InvalidValue("fitted without several quantiles", operation="predict_quantiles", hint=hint)
        return predicted[columns].to_numpy(np.float64)

    def _asked(self, targets: pd.Series[Any]) -> dict[str, Any]:
        if self.loss == LOG_LOSS:
            raise InvalidValue(f"loss={self.loss!r} is for classes", operation="fit", hint="use TabularClassifier")
        return {"quantile": self.quantile, "interval": self.interval}

    def _targets(self, y: Any, others: Any = ()) -> pd.Series[Any]:
        check_present(y)
        check_no_times(y)
        numbers = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        return pd.Series(column_or_1d(numbers, warn=True))


class TabularClassifier(ClassifierMixin, TabularBase):  # type: ignore[misc]
    """Classification of rows of tables as they are, with scikit-learn's interface.

    Parameters and attributes are those of :class:`TabularRegressor`, without ``quantile`` and ``interval``, with
    "log-loss" as the only loss, and the metrics "accuracy", "log-loss" and "auc"; columns are treated as there.

    Parameters
    ----------
    class_weight : dict or "balanced", optional
        How much rows of a class count, 1 for those not named, with a warning of labels that y lacks; balanced ones have
        n / (classes · rows of the class), rows counted by their weights.

    Attributes
    ----------
    classes_ : ndarray
        The distinct values of y, sorted. Those whose rows all have weight 0 have the probability 0.

    Examples
    --------
    >>> import pandas as pd
    >>> X = pd.DataFrame({"weight": [float(i % 10) for i in range(90)], "legs": ["two", "four", "four"] * 30})
    >>> y = ["bird" if legs == "two" else "dog" for legs in X["legs"]]
    >>> model = TabularClassifier(random_state=0).fit(X, y)
    >>> model.predict(X[:2]).tolist(), model.classes_.tolist()
    (['bird', 'dog'], ['bird', 'dog'])
    """

    _kind = "class"

    def __init__(
        self,
        preset: str = "default",
        *,
        settings: Settings | Members | None = None,
        categorical: Sequence[str | int] | None = None,
        missing: Sequence[Any] | None = None,
        loss: str | None = None,
        metric: str | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        validation_fraction: float | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int = False,
    ) -> None:
        super().__init__(
            preset,
            settings=settings,
            categorical=categorical,
            missing=missing,
            loss=loss,
            metric=metric,
            validation_fraction=validation_fraction,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the most probable class of each row of a table.

        Raises
        ------
        ValueError
            As :meth:`TabularRegressor.predict`.
        """
        most = self.predict_proba(X).argmax(axis=1)
        return cast(npt.NDArray[Any], self.classes_[most])

    def predict_proba(self, X: Any) -> Float64Array:
        """Return probabilities [rows, classes] in the order of ``classes_``."""
        predicted = self._predicted(X)
        target = self.model_.target
        columns = [f"{target.name}={label}" for label in self._labels()]
        return predicted.reindex(columns=columns, fill_value=0.0).to_numpy(np.float64)  # of classes without weight

    def predict_log_proba(self, X: Any) -> Float64Array:
        """Return logarithms of :meth:`predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def _asked(self, targets: pd.Series[Any]) -> dict[str, Any]:
        """Return the weights of the classes that are learned, by the name of each in the model."""
        given = self.class_weight
        if not isinstance(given, Mapping):
            return {"class_weight": given}
        known = known_weights(given, self.classes_, "fit", stacklevel=4)
        named, learned = zip(self.classes_, self._labels(), strict=True), set(targets)
        weights = {label: known[one] for one, label in named if one in known and label in learned}
        return {"class_weight": weights or None}

    def _labels(self) -> list[str]:
        """Return the name of each class in the model."""
        return labels_of(pd.Series(self.classes_))[1]

    def _targets(self, y: Any, others: Any = ()) -> pd.Series[Any]:
        check_present(y)
        if len(others):  # which may lack a class
            others = others[~pd.isna(others).any(axis=tuple(range(1, others.ndim)))]
            y = np.concatenate([y, others])
        values: Array = column_or_1d(check_array(y, ensure_2d=False, dtype=None, input_name="y"), warn=True)
        _check_order(values)
        check_classification_targets(values)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)  # for pandas
        self.classes_, codes = np.unique(values, return_inverse=True)
        codes = codes[: len(codes) - len(others)]
        found = self.classes_[np.unique(codes)].tolist()
        if len(found) < 2:
            got = f"y holds one class{' in rows with a weight' * (len(self.classes_) > 1)}, {found[0]!r}"
            raise InvalidValue(f"{got}, wanted at least two classes", operation="fit", hint="give rows of others")
        column = pd.Series(np.array(self._labels(), dtype=object)[codes])
        absent = column[without_marks(column)[0].isna()]
        if len(absent):
            got = f"y has the label {absent.iloc[0]!r}, a missing value beside numbers or words of truth"
            hint = "leave these rows out, or name the class otherwise"
            raise InvalidValue(got, operation="fit", hint=hint)
        return column


def _check_order(labels: Array) -> None:
    """Raise if labels are of kinds that cannot be sorted together."""
    kinds = sorted({type(one).__name__ for one in labels}) if labels.dtype == object else []
    if len(kinds) < 2:
        return
    try:
        np.unique(labels)
    except TypeError as error:
        hint = "make all of them text, say"
        got = f"y has labels that have no order: {' and '.join(kinds)}"
        raise InvalidValue(got, operation="fit", hint=hint) from error
