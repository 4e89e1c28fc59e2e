"""Rows to train on: features, targets and weights, of which the features may be sparse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.model_selection import train_test_split

from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array


@dataclass(frozen=True)
class Rows:
    """Rows in one dtype.

    Attributes
    ----------
    x : ndarray [rows, in], or a sparse matrix of rows
    target : ndarray [rows, out], or [rows] for indices of classes
    weight : ndarray [rows], or None
    """

    x: Any
    target: Array
    weight: Array | None = None

    def __len__(self) -> int:
        return len(self.target)

    @property
    def sparse(self) -> bool:
        """Whether the features are a sparse matrix."""
        return bool(issparse(self.x))

    def all(self) -> tuple[Any, ...]:
        """Return features, targets, and weights if there are some."""
        return (self.x, self.target) if self.weight is None else (self.x, self.target, self.weight)

    def weighted(self) -> Rows:
        """Return the rows with weights, of 1 if they have none."""
        return self if self.weight is not None else replace(self, weight=np.ones(len(self), self.target.dtype))

    def check_weights(self, order: Array, batch_size: int) -> None:
        """Raise if the weights of a batch sum to 0, so that there is no mean."""
        if self.weight is not None:
            sums = np.add.reduceat(self.weight[order], range(0, len(order), batch_size))
            if not sums.all():
                hint = "leave rows of weight 0 out, or raise batch_size"
                raise InvalidValue("the weights of the rows of a batch sum to 0", operation="fit", hint=hint)

    def split(self, fraction: float, stratified: bool, random: np.random.RandomState) -> tuple[Rows, Rows]:
        """Return rows to train on, and some for validation, drawn as scikit-learn draws them."""
        strata = self.target.astype(bool) if stratified else None
        parts = train_test_split(*self.all(), random_state=random, test_size=fraction, stratify=strata)
        training, validation = Rows(*parts[::2]), Rows(*parts[1::2])
        if len(validation) < 2:
            reason = f"The validation set is too small, it has {len(validation)} rows"
            raise InvalidValue(reason, operation="fit", hint="raise validation_fraction or give more rows")
        return training, validation
