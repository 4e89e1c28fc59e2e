"""What both estimators of tables do: everything but the targets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from viva_tensor.error import InvalidValue
from viva_tensor.kernels.checks import is_number
from viva_tensor.sklearn.frames import Frame, as_frame, words_of
from viva_tensor.sklearn.refusals import as_before_if_refused, check_of_numpy, surrogates_told
from viva_tensor.tabular import Members, Roles, Task, Writing, fit, report
from viva_tensor.tabular.columns import Categorical, Column
from viva_tensor.tabular.data import kind_of
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.missing_words import drop_missing
from viva_tensor.tabular.notation import Times
from viva_tensor.tabular.preparing import Prepared
from viva_tensor.tabular.presets import DEFAULT, Choice, Situation, choose
from viva_tensor.tabular.progress import bars
from viva_tensor.tabular.reading import Source
from viva_tensor.tabular.typed_columns import check_scales, times_as_hours
from viva_tensor.train import Settings
from viva_tensor.train.rows import check_weights

SEEDS = 1 << 31
MOST_PARTS = 100  # of the rows, of which a network alone is validated on one


class TabularBase(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
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

    def _targets(self, y: Any, others: Any = ()) -> pd.Series[Any]:
        """Return checked targets as a column without a name; `others` are those of rows that do not count."""
        raise NotImplementedError

    def _asked(self, targets: pd.Series[Any]) -> dict[str, Any]:
        """Return what is asked of a task of this kind alone, with such targets."""
        raise NotImplementedError

    def fit(self, X: Any, y: Any, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Train on a table X [rows, columns] and targets y [rows].

        Parameters
        ----------
        X : DataFrame of pandas or polars, another table with Arrow's interface, or array_like
        y : array_like
        sample_weight : array_like [rows] or float, optional
            How much each row counts, from 0, in training and in the choice of the best weights. A row of weight 0 is as
            good as none, except that its class is known, with the probability 0 if no other row has it.

        Raises
        ------
        ValueError
            If X, y or weights cannot be learned from, they differ in their number of rows, or a parameter is out of its
            range. The estimator is then as before.
        """
        with as_before_if_refused(self), surrogates_told("fit"):
            self._fit(X, y, sample_weight)
        return self

    def _fit(self, X: Any, y: Any, sample_weight: npt.ArrayLike | None) -> None:
        choice = self._choice
        check_of_numpy("fit", X=X, y=y)
        frame = as_frame(X, self.missing, rows=2)
        validate_data(self, frame.given, y, skip_check_array=True)
        categorical, words = self._categorical(frame), words_of(self.missing)
        timed = times_as_hours(frame.table, Expected(text=categorical))
        drop_missing(frame.table, words, Expected(only=timed), timed)
        y_kept = without_mask(y)
        table, weights, others = frame.table, None, np.array([])
        if sample_weight is not None:
            check_consistent_length(table, y)
            each = np.full(len(table), sample_weight) if is_number(sample_weight) else sample_weight
            weights = check_weights("fit", each, len(table))
            kept = weights > 0
            if not kept.any():
                hint = "Sample weights must contain at least one non-zero number"
                raise InvalidValue("sample_weight is zero in all rows", operation="fit", hint=hint)
            y_all = np.asanyarray(y_kept)  # a mask is kept, to be refused where it counts
            table, weights, y_kept, others = table[kept], weights[kept], y_all[kept], y_all[~kept]
        column = self._targets(y_kept, others)
        check_consistent_length(table, column)
        target = _name_of(y, frame.table)
        whole = [name for name in map(str, frame.table.columns) if pd.api.types.is_integer_dtype(frame.table[name])]
        # what numbers the rows is a feature like others here, since the caller chose the columns
        roles = Roles(categorical=categorical, numeric=tuple(name for name in whole if name not in categorical))
        writing = Writing(missing=words)
        table = pd.concat([table, column.set_axis(table.index).rename(target)], axis=1)
        task = Task(target, self._kind, roles=roles, writing=writing, loss=self.loss, metric=self.metric)
        task = replace(task, **self._asked(column))
        shown = bool(self.verbose)
        with bars(shown):
            # its columns hold what their dtypes say, and hours were times of day
            source = Source(table, {name: Times() for name in timed if name not in categorical})
            way = choice(Situation(len(table), len(table.columns)))
            fitted = fit(source, task, way, weights=weights, progress=shown, started=self._tell)
        self.model_ = fitted.model
        _warn_of(fitted.model.encoding.left_out, table)
        self.preset_ = fitted.preset
        self.history_ = fitted.fit.history

    @property
    def _choice(self) -> Callable[[Situation], Choice]:
        """Return, for a table of some size, how it is learned; raise now if a parameter is out of its range."""
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
            return lambda _: Choice(settings if state is None else replace(settings, **said))
        if fraction is not None:
            said["validation_fraction"] = fraction
        return lambda situation: _validated(choose(self.preset, situation, said), fraction)

    def _categorical(self, frame: Frame) -> tuple[str, ...]:
        """Return the names of columns that are said to be categories, by name or index."""
        given, names = self.categorical, list(frame.table.columns)
        if given is None:
            return ()
        if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray | pd.Index | pd.Series):
            raise InvalidValue(f"categorical={given!r}, wanted a sequence of columns", operation="fit")
        if isinstance(given, pd.Series):  # a mask may have the names of columns, in any order
            if given.isna().any():
                raise InvalidValue(f"categorical={given.tolist()!r:.100} has missing values", operation="fit")
            given = (given[names] if set(given.index) == set(names) else given).tolist()
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
        check_of_numpy("predict", X=X)
        with surrogates_told("predict"):
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
        table = frame.table.set_axis(list(names), axis=1)
        _check_no_bytes(table, self.model_.encoding.columns)
        check_scales(table, self.model_.expected())  # a table of a file may hold the hours of its times, a frame not
        predicted = self.model_.predict(table)
        for told in self.model_.other_clocks(table):
            warnings.warn(f"predict: {told}", stacklevel=3)
        return predicted

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


def without_mask(y: Any) -> Any:
    """Return integers or booleans of pandas' or Arrow's own kinds as NumPy's, if none is missing; others as they are.

    NumPy would make floats or objects of them.

    Examples
    --------
    >>> without_mask(pd.Series([2**60, 2**60 + 1], dtype="Int64")).tolist()
    [1152921504606846976, 1152921504606846977]
    >>> without_mask(pd.DataFrame({"y": [True, False]}, dtype="boolean")).tolist()
    [[True], [False]]
    """
    column = y.iloc[:, 0] if isinstance(y, pd.DataFrame) and y.shape[1] == 1 else y
    kind = getattr(getattr(column, "dtype", None), "numpy_dtype", None)  # which pandas' own kinds alone have
    if kind is None or kind.kind not in "iub" or column.isna().any():
        return y
    return column.to_numpy(kind).reshape(y.shape)


def check_present(y: Any) -> None:
    """Raise if a target is missing: also as pandas' NA, which scikit-learn does not know in text, or masked.

    Examples
    --------
    >>> check_present(["a", None])
    Traceback (most recent call last):
    viva_tensor.error.InvalidValue: fit: Input y contains NaN; leave rows without a target out
    """
    if np.ma.is_masked(y):
        raise InvalidValue("y is masked", operation="fit", hint="leave rows without a target out")
    if np.any(pd.isna(np.asarray(y, dtype=object))):
        raise InvalidValue("Input y contains NaN", operation="fit", hint="leave rows without a target out")


def _validated(choice: Choice, fraction: float | None) -> Choice:
    """Return a choice in which a network alone is validated on about such a share of the rows, one of equal parts."""
    members = choice.members
    if fraction is None or members is None or members.count > 1:
        return choice
    if fraction > 0.5:
        got = f"validation_fraction={fraction} beside the preset {choice.preset}"
        raise InvalidValue(got, operation="fit", hint="give at most a half")
    return replace(choice, settings=replace(members, parts=min(MOST_PARTS, round(1 / fraction))))


def _check_no_bytes(table: pd.DataFrame, columns: Sequence[Column]) -> None:
    """Raise if bytes are where text was learned, of which they would silently be no category."""
    for one in columns:
        if not isinstance(one, Categorical) or pd.api.types.infer_dtype(table[one.name], skipna=True) != "bytes":
            continue
        if not any(label.startswith(("b'", 'b"')) for label in one.categories):
            got = f"column {one.name!r} holds bytes, wanted text as in fit"
            raise InvalidValue(got, operation="predict", hint=f"decode them: X[{one.name!r}].str.decode('utf-8')")


def _warn_of(left_out: Mapping[str, str], table: pd.DataFrame) -> None:
    """Warn of columns that are no features, but those that tell nothing."""
    others = {name: why for name, why in left_out.items() if why not in ("constant", "all values missing")}
    if others:
        texts = any(kind_of(table[name]) == "text" for name in others)
        hint = "; text of numbers or dates must become such first, as pandas.to_numeric does" if texts else ""
        each = ", ".join(f"{name} ({why})" for name, why in others.items())
        warnings.warn(f"fit: columns left out: {each}{hint}", stacklevel=4)


def _name_of(y: Any, table: pd.DataFrame) -> str:
    """Return a name for the target that no column of the table has: its own, if it has one, or else what it is."""
    own = getattr(y, "name", None)
    own = own if isinstance(own, str) and own else "y"
    names = (own, "y", *(f"target{'_' * more}" for more in range(table.shape[1] + 1)))
    return next(name for name in names if name not in table.columns)
