"""Rows that are read or made only when training needs them, such as those of a file larger than memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from viva_tensor.error import InvalidShape, InvalidValue
from viva_tensor.kernels.arrays import Float32Array, as_numbers
from viva_tensor.kernels.checks import is_whole
from viva_tensor.train.rows import LEAST_WEIGHT, Arrays, Rows, check_weights, checked_rows
from viva_tensor.train.settings import Settings
from viva_tensor.train.sparse import SparseRows, arrays_of, kind_of, numbers_of_x

Features = npt.ArrayLike | SparseRows
Piece = tuple[Features, npt.ArrayLike] | tuple[Features, npt.ArrayLike, npt.ArrayLike]


class RowSource(Protocol):
    """Rows to train on, for :func:`fit`, of which only some are in memory at a time.

    Attributes
    ----------
    shape : (int, int)
        Rows in an epoch, and features.
    repeats : bool, optional
        Whether all epochs have the same rows, of which only the first is checked then.
    digest : str, optional
        What tells these rows from others, such as a SHA-256 of all of them. A checkpoint keeps it, and goes on with a
        source of the same alone; without it only the first piece is compared.

    Examples
    --------
    >>> class Squares:
    ...     shape = 1000, 1
    ...     def epoch(self, rng):
    ...         for _ in range(10):
    ...             x = rng.uniform(-1, 1, (100, 1))
    ...             yield x, x**2
    >>> from viva_tensor.train import Settings, fit
    >>> fit(Squares(), settings=Settings(hidden=(8,), epochs=20)).history["train_loss"][-1] < 0.01
    True
    """

    @property
    def shape(self) -> tuple[int, int]: ...

    def epoch(self, rng: np.random.Generator) -> Iterator[Piece]:
        """Yield all rows once, in pieces (x, y) or (x, y, weights), shuffled by the generator.

        They are as for :func:`fit`, but weights are above 0, from 2⁻¹⁰⁰ to 2¹⁰⁰.
        """
        ...


def is_source(rows: object) -> TypeGuard[RowSource]:
    """Return whether rows come from a source; a table with a column called epoch is none."""
    return callable(getattr(type(rows), "epoch", None))


class SourcedRows:
    """The rows of a source, checked as they come."""

    def __init__(self, source: RowSource, settings: Settings, classes: int | None) -> None:
        self._source, self._settings, self._classes = source, settings, classes
        self._seen = False  # and so checked, once and for all
        self._parts = 0  # of a piece: two arrays, or three
        self._kind: tuple[object, ...] = ()  # of the features of a piece
        shape = getattr(source, "shape", None)
        if not (isinstance(shape, tuple) and len(shape) == 2 and all(map(is_whole, shape))):
            hint = "give it (rows, features)"
            raise InvalidValue(f"the shape of the source is {shape!r}", operation="fit", hint=hint)
        count, features = map(int, shape)
        if count < 1 or features < 1:
            hint = "give some rows" if count < 1 else "give some columns"
            raise InvalidShape(f"the source has shape {source.shape}", operation="fit", hint=hint)
        self.count, self.features = count, features
        self.digest = getattr(source, "digest", None)
        if not (self.digest is None or isinstance(self.digest, str)):
            hint = "give it text, such as the hexdigest of a SHA-256 of the rows, or leave it out"
            raise InvalidValue(f"the digest of the source is {self.digest!r:.100}", operation="fit", hint=hint)
        first = next(self._pieces(np.random.default_rng(0)), None)  # any piece
        if first is None:
            raise InvalidValue("the source has no rows in its epoch", operation="fit")
        self._first = first.take(slice(None))

    def take(self, which: slice) -> Rows:
        """Return some of the first rows."""
        return self._first.take(which)

    def epoch(self, rng: np.random.Generator, batch_size: int) -> Iterator[Arrays]:
        """Yield the rows of an epoch in pieces of whole batches but for the last."""
        done = 0
        for arrays in whole_batches((rows.arrays for rows in self._pieces(rng)), batch_size):
            done += len(arrays[0])
            if done > self.count:
                break
            yield arrays
        if done != self.count:
            more = " or more" if done > self.count else ""
            raise InvalidValue(f"the source has {done} rows{more} in an epoch, and said {self.count}", operation="fit")
        self._seen = bool(getattr(self._source, "repeats", False))

    def look_again(self) -> None:
        """Check the rows of the next epoch, as was done with the first."""
        self._seen = False

    def _pieces(self, rng: np.random.Generator) -> Iterator[Rows]:
        what = "rows of a source"
        pieces = self._source.epoch(rng)
        if not isinstance(pieces, Iterable):
            got = f"the epoch of the source is a {type(pieces).__name__}"
            raise InvalidValue(got, operation="fit", hint="yield features and targets, (x, y), or (x, y, weights)")
        for piece in pieces:
            if not (isinstance(piece, tuple) and len(piece) in (2, 3)):
                got = f"the source yields a {type(piece).__name__}"
                raise InvalidValue(got, operation="fit", hint="yield features and targets, (x, y), or (x, y, weights)")
            self._parts = self._parts or len(piece)
            if len(piece) != self._parts:
                got = f"the source yields pieces of {self._parts} and of {len(piece)} arrays"
                raise InvalidValue(got, operation="fit", hint="give all rows weights, or none")
            features = numbers_of_x(f"fit on {what}", piece[0], self._settings.dtype)
            targets = as_numbers(f"fit on {what}", "y", piece[1], self._settings.dtype)
            if not self._seen:
                rows = checked_rows(what, features, targets, self._settings, self._classes)
                if rows.x.shape[1] != self.features or len(rows.indices) != len(rows.x):
                    got = f"a piece of shape {rows.x.shape}, {len(rows.indices)} of its rows with a target"
                    hint = f"give {self.features} features, and only rows with a target"
                    raise InvalidShape(got, operation=f"fit on {what}", hint=hint)
            shapes = features.shape[1:], targets.shape[1:]
            kind = *shapes, kind_of(features), *(array.shape[1:] for array in arrays_of(features))
            self._kind = self._kind or kind
            if kind != self._kind:
                hint = (
                    "give arrays alone, or sparse rows alone, of the same features, runs, number of entries and outputs"
                )
                raise InvalidShape("a piece of another kind than the first", operation=f"fit on {what}", hint=hint)
            targets = targets if targets.ndim == 2 or self._settings.loss == "cross_entropy" else targets[:, None]
            weights = self._weights(f"fit on {what}", piece[2], len(features)) if len(piece) == 3 else None
            yield Rows(features, targets, np.arange(len(features)), weights)

    def _weights(self, operation: str, weights: npt.ArrayLike, rows: int) -> Float32Array:
        numbers = check_weights(operation, weights, rows)
        wrong = ~((numbers >= LEAST_WEIGHT) & (numbers <= 1 / LEAST_WEIGHT))
        if wrong.any():
            row = int(np.argmax(wrong))
            hint = "only ratios count: divide all by one number; leave rows of weight 0 out"
            raise InvalidValue(f"the weight of row {row} of a piece is {numbers[row]}", operation=operation, hint=hint)
        return numbers.astype(self._settings.dtype)


def whole_batches(pieces: Iterable[Arrays], batch_size: int) -> Iterator[Arrays]:
    """Yield the same rows in pieces of whole batches, but for the last.

    Examples
    --------
    >>> pieces = [(np.zeros((rows, 2)), np.zeros(rows)) for rows in (5, 1, 6)]
    >>> [len(x) for x, _ in whole_batches(pieces, 4)]
    [4, 8]
    """
    left: Arrays | None = None
    for piece in pieces:
        arrays = piece
        if left is not None and len(left[0]):
            arrays = tuple(np.concatenate(both) for both in zip(left, piece, strict=True))
        whole = len(arrays[0]) // batch_size * batch_size
        if whole:
            yield tuple(array[:whole] for array in arrays)
        left = tuple(array[whole:].copy() for array in arrays)  # for the source may fill its arrays anew
    if left is not None and len(left[0]):
        yield left
