"""Estimators of tables as they are: data frames of numbers, text, categories, booleans and dates, with missing values.

They train as :func:`viva_tensor.tabular.run` does, on all rows that they are given. A column holds what its dtype says:
text is categories, whatever it looks like.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array, Float64Array
from viva_tensor.kernels.checks import is_number
from viva_tensor.sklearn.frames import Frame, as_frame, words_of
from viva_tensor.sklearn.parameters import known_weights
from viva_tensor.sklearn.refusals import as_before_if_refused, check_no_times
from viva_tensor.tabular import Members, Roles, Task, Writing, fit, report
from viva_tensor.tabular.data import kind_of, labels_of
from viva_tensor.tabular.losses import LOG_LOSS
from viva_tensor.tabular.preparing import Prepared
from viva_tensor.tabular.presets import DEFAULT, Choice, Situation, choose
from viva_tensor.tabular.progress import bars
from viva_tensor.tabular.reading import Source
from viva_tensor.train import Settings
from viva_tensor.train.rows import check_weights

SEEDS = 1 << 31
MOST_PARTS = 100  # of the rows, of which a network alone is validated on one


class _Tabular(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The common base of both estimators: everything but the targets."""

    _kind: str  # of the target, as Task names it

    def __init__(
        self,
        preset: str = "default",
        *,
        settings: Settings | Members | None = None,
        categorical: Sequence[str | int] | None = None,
        missing: Sequence[Any] | None = None,
        loss: str | None = None,
        metric: str | None = None,
        validation_fraction: float | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int = False,
    ) -> None:
        self.preset = preset
        self.settings = settings
        self.categorical = categorical
        self.missing = missing
        self.loss = loss
        self.metric = metric
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.verbose = verbose

    def _targets(self, y: Any) -> pd.Series[Any]:
        """Return checked targets as a column without a name."""
        raise NotImplementedError

    def _asked(self) -> dict[str, Any]:
        """Return what is asked of a task of this kind alone."""
        raise NotImplementedError

    def fit(self, X: Any, y: Any, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Train on a table X [rows, columns] and targets y [rows].

        Parameters
        ----------
        X : DataFrame of pandas or polars, another table with Arrow's interface, or array_like
        y : array_like
        sample_weight : array_like [rows] or float, optional
            How much each row counts, from 0, in training and in the choice of the best weights. A row of weight 0 is as
            good as none.

        Raises
        ------
        ValueError
            If X, y or weights cannot be learned from, they differ in their number of rows, or a parameter is out of its
            range. The estimator is then as before.
        """
        with as_before_if_refused(self):
            self._fit(X, y, sample_weight)
        return self

    def _fit(self, X: Any, y: Any, sample_weight: npt.ArrayLike | None) -> None:
        choice = self._choice
        frame = as_frame(X, self.missing, rows=2)
        validate_data(self, frame.given, y, skip_check_array=True)
        table, y_kept, weights = frame.table, y, None
        if sample_weight is not None:
            check_consistent_length(table, y)
            each = np.full(len(table), sample_weight) if is_number(sample_weight) else sample_weight
            weights = check_weights("fit", each, len(table))
            kept = weights > 0
            if not kept.any():
                hint = "Sample weights must contain at least one non-zero number"
                raise InvalidValue("sample_weight is zero in all rows", operation="fit", hint=hint)
            table, y_kept, weights = table[kept], np.asarray(y)[kept], weights[kept]
        column = self._targets(y_kept)
        check_consistent_length(table, column)
        target = _name_of(y, frame.table)
        categorical = self._categorical(frame)
        whole = [name for name in map(str, frame.table.columns) if pd.api.types.is_integer_dtype(frame.table[name])]
        # what numbers the rows is a feature like others here, since the caller chose the columns
        roles = Roles(categorical=categorical, numeric=tuple(name for name in whole if name not in categorical))
        writing = Writing(missing=words_of(self.missing))
        table = table.assign(**{target: column.to_numpy()})
        task = Task(target, self._kind, roles=roles, writing=writing, loss=self.loss, metric=self.metric)
        task = replace(task, **self._asked())
        shown = bool(self.verbose)
        with bars(shown):
            source = Source(table)  # its columns hold what their dtypes say
            fitted = fit(source, task, choice(len(table)), weights=weights, progress=shown, started=self._tell)
        self.model_ = fitted.model
        _warn_of(fitted.model.encoding.left_out, table)
        self.preset_ = fitted.preset
        self.history_ = fitted.fit.history

    @property
    def _choice(self) -> Callable[[int], Choice]:
        """Return, for a number of rows, how they are learned; raise now if a parameter is out of its range."""
        if not isinstance(self.verbose, bool | np.bool_ | int | np.integer) or self.verbose < 0:
            raise InvalidValue(f"verbose={self.verbose!r}, wanted True, False or a count from 0", operation="fit")
        if not (self.settings is None or isinstance(self.settings, Settings | Members)):
            got = f"settings={self.settings!r}, wanted train.Settings, tabular.Members or None"
            raise InvalidValue(got, operation="fit")
        fraction = self.validation_fraction
        if not (fraction is None or (is_number(fraction) and 0 < fraction < 1)):
            got = f"validation_fraction={fraction!r}, wanted a number between 0 and 1, or None"
            raise InvalidValue(got, operation="fit")
        state, settings = self.random_state, self.settings
        whole = isinstance(state, int | np.integer)
        said: dict[str, Any] = {"seed": int(cast(int, state)) if whole else check_random_state(state).randint(SEEDS)}
        if settings is not None and self.preset != DEFAULT:
            got = f"preset={self.preset!r} beside settings"
            raise InvalidValue(got, operation="fit", hint="give one of them")
        if settings is not None:
            return lambda rows: Choice(settings if state is None else replace(settings, **said))
        if fraction is not None:
            said["validation_fraction"] = fraction
        return lambda rows: _validated(choose(self.preset, Situation(rows), said), fraction)

    def _categorical(self, frame: Frame) -> tuple[str, ...]:
        """Return the names of columns that are said to be categories, by name or index."""
        given = self.categorical
        if given is None:
            return ()
        if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray | pd.Index):
            raise InvalidValue(f"categorical={given!r}, wanted a sequence of columns", operation="fit")
        names = list(frame.table.columns)
        if len(given) and all(isinstance(one, bool | np.bool_) for one in given):
            if len(given) != len(names):
                got = f"categorical is a mask of {len(given)}, and X has {len(names)} columns"
                raise InvalidValue(got, operation="fit", hint="give one value for each column, names or indices")
            return tuple(name for name, chosen in zip(names, given, strict=True) if chosen)
        by_index = dict(enumerate(names))
        for one in given:
            if one not in by_index and one not in names:
                got = f"categorical has {one!r}, which is no column"
                hint = f"the columns are {', '.join(names)}, or indices from 0"
                raise InvalidValue(got, operation="fit", hint=hint)
        return tuple(by_index[one] if one in by_index else str(one) for one in given)

    def _tell(self, prepared: Prepared) -> None:
        if self.verbose:
            print(report.opening(prepared, type(self).__name__))

    def _predicted(self, X: Any) -> pd.DataFrame:
        """Return the predictions of the model for a table with the columns of the training, in any order."""
        check_is_fitted(self)
        frame = as_frame(X, operation="predict")  # the model knows the words for missing values
        names = getattr(self, "feature_names_in_", None)
        if names is not None and frame.named:
            lacking = [name for name in names if name not in frame.table.columns]
            if lacking:
                raise InvalidValue(
                    f"X lacks columns that it had in fit: {', '.join(lacking)}",
                    operation="predict",
                    hint="The feature names should match those that were passed during fit",
                )
            table = frame.table[list(names)]
            frame = Frame(table, table, named=True)
        validate_data(self, frame.given, reset=False, skip_check_array=True)
        if names is None:
            names = [f"x{i}" for i in range(frame.table.shape[1])]
        return self.model_.predict(frame.table.set_axis(list(names), axis=1))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


class TabularRegressor(RegressorMixin, _Tabular):  # type: ignore[misc]
    """Regression on tables as they are, with scikit-learn's interface.

    Numbers, booleans and dates are standardised, text and categories one-hot encoded, missing values marked and filled,
    all fitted in ``fit``. Text is categories, also that of numbers; a column of text that differs in nearly every row
    is left out, with a warning. What is trained is one network, or the mean of five, as
    :func:`viva_tensor.tabular.run` decides. A part of the rows is set aside to stop training; none for a test.

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
        What tells on validation rows which epoch is best, instead of the loss.
    validation_fraction : float, optional
        The share of the rows by which the training of one network is stopped; by default what suits their number. Of
        several networks each is validated by its own part; with the preset "fast" it is a half at most, and the nearest
        of 1/2, 1/3, ... Settings have their own.
    random_state : int, RandomState or None
        Determines the rows for validation, the weights and the order of the rows. The bits of a model are the same for
        an int, at any number of threads.
    verbose : bool or int
        Print what the columns are taken for, and show a bar while training.
    quantile : float or sequence of float
        The share of rows that lie below the predictions, with ``loss="quantile"``; of several that nearest to the
        median is what :meth:`predict` returns.
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
        Columns of X; the names exist if X was a data frame. Then later ones may have them in any order.

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

        The share ``interval`` of the rows of ``fit`` lies in theirs, by what networks say that did not learn from them,
        as in conformalized quantile regression (Romano et al., 2019). Other rows of the same kind do about as often.

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
        """Return the quantiles [rows, quantiles] of each row of a table, rising, of an estimator with several.

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

    def _asked(self) -> dict[str, Any]:
        if self.loss == LOG_LOSS:
            raise InvalidValue(f"loss={self.loss!r} is for classes", operation="fit", hint="use TabularClassifier")
        return {"quantile": self.quantile, "interval": self.interval}

    def _targets(self, y: Any) -> pd.Series[Any]:
        _check_present(y)
        numbers = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        check_no_times(y)
        return pd.Series(column_or_1d(numbers, warn=True))


class TabularClassifier(ClassifierMixin, _Tabular):  # type: ignore[misc]
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
        The distinct values of y, sorted.

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
        return predicted[columns].to_numpy(np.float64)

    def predict_log_proba(self, X: Any) -> Float64Array:
        """Return logarithms of :meth:`predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def _asked(self) -> dict[str, Any]:
        """Return the weights of classes, by the name of each in the model."""
        given = self.class_weight
        if not isinstance(given, Mapping):
            return {"class_weight": given}
        known = known_weights(given, self.classes_, "fit", stacklevel=4)
        named = zip(self.classes_, self._labels(), strict=True)
        return {"class_weight": {label: known[one] for one, label in named if one in known} or None}

    def _labels(self) -> list[str]:
        """Return the name of each class in the model."""
        return labels_of(pd.Series(self.classes_))[1]

    def _targets(self, y: Any) -> pd.Series[Any]:
        _check_present(y)
        if isinstance(y, pd.Series) and pd.api.types.is_bool_dtype(y):
            y = np.asarray(y, dtype=bool)  # also of pandas' own kind, which would become numbers
        values: Array = column_or_1d(check_array(y, ensure_2d=False, dtype=None, input_name="y"), warn=True)
        check_classification_targets(values)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)  # for pandas
        self.classes_, codes = np.unique(values, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidValue(
                f"y holds one class, {self.classes_.tolist()[0]!r}, wanted at least two classes",
                operation="fit",
                hint="give rows of others",
            )
        return pd.Series(np.array(self._labels(), dtype=object)[codes])


def _validated(choice: Choice, fraction: float | None) -> Choice:
    """Return a choice in which a network alone is validated on about such a share of the rows, one of equal parts."""
    members = choice.members
    if fraction is None or members is None or members.count > 1:
        return choice
    if fraction > 0.5:
        got = f"validation_fraction={fraction} beside the preset {choice.preset}"
        raise InvalidValue(got, operation="fit", hint="give at most a half")
    return replace(choice, settings=replace(members, parts=min(MOST_PARTS, round(1 / fraction))))


def _check_present(y: Any) -> None:
    """Raise if a target is missing: also as pandas' NA, which scikit-learn does not know in text, or masked."""
    if np.ma.is_masked(y):
        raise InvalidValue("y is masked", operation="fit", hint="leave rows without a target out")
    if np.any(pd.isna(np.asarray(y, dtype=object))):
        raise InvalidValue("Input y contains NaN", operation="fit", hint="leave rows without a target out")


def _warn_of(left_out: Mapping[str, str], table: pd.DataFrame) -> None:
    """Warn of columns that are no features, but those that tell nothing."""
    others = {name: why for name, why in left_out.items() if why not in ("constant", "all values missing")}
    if others:
        hint = ""
        if any(table[name].dtype.kind == "m" for name in others):
            hint += "; durations must become numbers first, as .dt.total_seconds() does"
        if any(kind_of(table[name]) == "text" for name in others):
            hint += "; text of numbers or dates must become such first, as pandas.to_numeric does"
        each = ", ".join(f"{name} ({why})" for name, why in others.items())
        warnings.warn(f"fit: columns left out: {each}{hint}", stacklevel=4)


def _name_of(y: Any, table: pd.DataFrame) -> str:
    """Return a name for the target that no column of the table has: its own, if it has one."""
    name = getattr(y, "name", None)
    name = name if isinstance(name, str) and name else "y"
    while name in table.columns:
        name += "_"
    return name
