"""Targets that are refused, and what becomes of an estimator whose fit is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import numpy as np
from sklearn import get_config

from viva_tensor.error import InvalidValue


@contextmanager
def as_before_if_refused(estimator: Any) -> Iterator[None]:
    """Give an estimator the attributes back that it had if a block raises.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> model = Ridge()
    >>> try:
    ...     with as_before_if_refused(model):
    ...         model.n_features_in_ = 3
    ...         raise ValueError("no rows")
    ... except ValueError:
    ...     hasattr(model, "n_features_in_")
    False
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        estimator.__dict__ = before
        raise


@contextmanager
def surrogates_told(operation: str) -> Iterator[None]:
    """Say what is wrong with text that no encoding has, which pandas cannot hold in its columns.

    Examples
    --------
    >>> with surrogates_told("fit"):
    ...     "a\\udcff".encode()
    Traceback (most recent call last):
    ...
    viva_tensor.error.InvalidValue: fit: text has a lone surrogate, 'a\\udcff'; decode it with errors='replace', say
    """
    try:
        yield
    except UnicodeEncodeError as error:
        got = f"text has a lone surrogate, {error.object!r:.100}"
        raise InvalidValue(got, operation=operation, hint="decode it with errors='replace', say") from error


def check_of_numpy(operation: str, **given: Any) -> None:
    """Raise if scikit-learn's array_api_dispatch leaves arrays of another library as they are, such as torch's.

    Examples
    --------
    >>> check_of_numpy("fit", X=np.ones(2), y=[1, 2])
    """
    if not get_config()["array_api_dispatch"]:
        return
    for name, array in given.items():
        if hasattr(type(array), "device") and not isinstance(array, np.ndarray):  # of a frame it may be a column
            got = f"{name} is a {type(array).__module__}.{type(array).__name__} under array_api_dispatch=True"
            hint = "set it to False, so that arrays are converted, or pass them through np.asarray"
            raise InvalidValue(f"{got}, wanted an array of NumPy", operation=operation, hint=hint)


def check_no_mask(operation: str, **given: Any) -> None:
    """Raise if values are masked, which scikit-learn's checks would take for those below the mask.

    Examples
    --------
    >>> check_no_mask("fit", X=np.ma.masked_array([1.0, 2.0], mask=False))
    >>> check_no_mask("fit", X=np.ma.masked_array([1.0, 2.0], mask=[True, False]))
    Traceback (most recent call last):
    viva_tensor.error.InvalidValue: fit: X is masked, and its mask would be lost; leave these rows out, or fill it ...
    """
    for name, array in given.items():
        if np.ma.is_masked(array):
            hint = "leave these rows out, or fill it with .filled()"
            raise InvalidValue(f"{name} is masked, and its mask would be lost", operation=operation, hint=hint)


def check_no_times(y: Any) -> None:
    """Raise if targets that are to be numbers are dates or durations: they would be learned in units of their memory.

    Examples
    --------
    >>> check_no_times(np.array([1, 2]))
    >>> check_no_times(np.array([1, 2], "m8[h]"))
    Traceback (most recent call last):
    ...
    viva_tensor.error.InvalidValue: fit: y holds durations (timedelta64[h]), wanted numbers; give them in seconds, say
    """
    dtype: Any = getattr(y, "dtype", None)  # also of pandas, whose dates with a time zone are objects to NumPy
    dtype = dtype if hasattr(dtype, "kind") else np.asarray(y).dtype
    kind, found = dtype.kind, str(dtype)
    if kind == "O" and (objects := np.asarray(y, object).ravel()).size and isinstance(objects[0], date | timedelta):
        kind, found = "m" if isinstance(objects[0], timedelta) else "M", type(objects[0]).__name__
    if kind in "mM":
        what, hint = ("dates", "the days since one of them") if kind == "M" else ("durations", "them in seconds")
        raise InvalidValue(f"y holds {what} ({found}), wanted numbers", operation="fit", hint=f"give {hint}, say")
