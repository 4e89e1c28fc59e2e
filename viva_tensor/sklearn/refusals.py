"""What becomes of an estimator whose fit is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
