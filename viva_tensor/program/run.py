"""The checked arguments of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array
from viva_tensor.optim import Rates


@dataclass(frozen=True)
class Run:
    """The checked arguments of :meth:`Step.run`."""

    arrays: list[Array]  # all rows of each input
    chosen: Array | None  # indices of the rows to train on; None: all
    batch_size: int
    epochs: int
    rng: np.random.Generator | None  # None: the rows in their order
    schedule: Callable[[int], float | Rates] | None
    callback: Callable[[int, float], object] | None
    shared: bool

    @property
    def count(self) -> int:
        """Rows in an epoch."""
        return len(self.arrays[0]) if self.chosen is None else len(self.chosen)

    def order(self) -> Array | None:
        """Draw the indices of rows in the order of one epoch; None: all rows in their order."""
        if self.rng is None:
            return self.chosen
        order = self.rng.permutation(self.count)
        if type(self.rng) is not np.random.Generator:  # anything with such a method
            order = chosen_rows("run", order, self.count)
            if len(order) != self.count:
                got = f"a permutation of {len(order)} rows, wanted {self.count}"
                raise InvalidValue(got, operation="run", hint="give rng=np.random.default_rng(seed)")
        return order if self.chosen is None else self.chosen[order]


def chosen_rows(operation: str, numbers: ArrayLike, count: int) -> Array:
    """Return indices of rows, checked, as int64: a copy, which stays as it was checked.

    Examples
    --------
    >>> chosen_rows("run", [2, 0], count=3)
    array([2, 0])
    """
    hint = "give the numbers of some rows, such as np.arange(10) or np.flatnonzero(mask)"
    if np.ma.is_masked(numbers):
        raise InvalidValue("rows are masked, and the mask would be lost", operation=operation, hint=hint)
    try:
        chosen = np.asarray(numbers)
    except ValueError as reason:
        raise InvalidValue(f"no array can be made of rows ({reason})", operation=operation, hint=hint) from None
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not chosen.size:
        got = f"rows of dtype {chosen.dtype} and shape {chosen.shape}"
        raise InvalidValue(got, operation=operation, hint=hint)
    for number in (chosen.min(), chosen.max()):
        if not 0 <= number < count:
            raise InvalidValue(f"row {number} of {count}", operation=operation, hint=f"rows are 0 to {count - 1}")
    return np.array(chosen, np.int64, order="C")
