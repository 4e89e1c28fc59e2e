"""What the values of a column tell of the target, and whether that is more than chance (empirical Bayes)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from viva_tensor.kernels.arrays import Float64Array
from viva_tensor.tabular.data import IndexArray
from viva_tensor.tabular.preparing import Prepared
from viva_tensor.tabular.targets import Classes, Target

MOST_CLASSES = 10
SIGNIFICANT = 5.0  # standard deviations of chance
ROUGH = 0.2  # the share of the variance between values that lies between neighbours; 1 where their order tells nothing


class Estimate(NamedTuple):
    """What was found out about a column: of each output the rows that its mean counts for, and the effects' spread."""

    shrinkage: Float64Array
    spread: Float64Array
    significance: Float64Array  # of the variance between values
    roughness: Float64Array  # as ROUGH
    rough_significance: Float64Array

    def tells(self, ordered: bool) -> bool:
        """Return whether the values tell something of the target; if they are ordered, other than by their order."""
        told = (self.significance > SIGNIFICANT) & np.isfinite(self.shrinkage) & (self.spread > 0)
        if ordered:
            told &= (self.rough_significance > SIGNIFICANT) & (self.roughness >= ROUGH)
        return bool(told.any())


def shares_of(prepared: Prepared, rows: IndexArray) -> Float64Array:
    """Return how much each of some rows counts: 1 in the mean."""
    if prepared.weights is None:
        return np.ones(len(rows))
    return prepared.weights[rows] / max(float(prepared.weights[rows].mean()), 1e-300)


def centred(values: Float64Array, target: Target, shares: Float64Array) -> Float64Array:
    """Return what effects are means of, less the mean of all rows: a number, or whether a row is of each class."""
    if not isinstance(target, Classes):
        numbers = target.encode(values)[:, :1].astype(np.float64)  # the same for each output
    else:
        numbers = np.eye(target.outputs)[values.astype(int)]
        numbers = numbers[:, 1:] if target.outputs == 2 else numbers
    numbers -= np.average(numbers, axis=0, weights=shares)
    return numbers


class Sums(NamedTuple):
    """The sums over the rows of each value: of their shares and the squares of these, and of what effects are of."""

    shares: Float64Array  # [values]
    squares: Float64Array  # [values]
    wanted: Float64Array  # [values, outputs]

    @property
    def chance(self) -> Float64Array:
        """The variance of the sum over a value [values, 1], by that of a row and the shares: 1 where all are alike."""
        return (self.squares / self.shares)[:, None]


def sums_of(codes: IndexArray, wanted: Float64Array, shares: Float64Array, values: int) -> Sums:
    """Return the sums over the rows of each of so many values."""

    def summed(given: Float64Array) -> Float64Array:
        sums: Float64Array = np.bincount(codes, given, minlength=values).astype(np.float64)
        return sums

    return Sums(summed(shares), summed(shares**2), np.stack([summed(shares * one) for one in wanted.T], axis=1))


def added(parts: Sequence[Sums]) -> Sums:
    """Return the sums over the rows of several parts."""
    return Sums(*(np.sum(one, axis=0) for one in zip(*parts, strict=True)))


def estimated(sums: Sums, wanted: Float64Array, shares: Float64Array) -> Estimate:
    """Return what the sums over the rows of each value tell; rows vary alike, whatever their shares."""
    sums = Sums(*(one[sums.shares > 0] for one in sums))
    counts, chance = sums.shares[:, None], sums.chance
    rows, neighbours = shares.sum(), len(counts) - 1
    means = sums.wanted / counts
    between = (counts * means**2).sum(axis=0) - sums.wanted.sum(axis=0) ** 2 / rows
    within = ((shares[:, None] * wanted**2).sum(axis=0) - (counts * means**2).sum(axis=0)) / max(rows - chance.sum(), 1)
    common = sums.squares.sum() / rows
    within = np.maximum(within, 0)  # which rounding may miss where values tell all of the target
    freedom = chance.sum() - common  # the mean of between by within, where only chance tells values apart
    spread = (chance**2).sum() - 2 * (counts * chance**2).sum() / rows + common**2  # and half its variance
    apart = 1 / (chance[1:] / counts[1:] + chance[:-1] / counts[:-1])  # rows that a difference of neighbours counts for
    steps = (apart * np.diff(means, axis=0) ** 2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        typical = (rows - (counts**2).sum() / rows) / freedom  # rows of a value
        variance = (between / freedom - within) / typical
        shrinkage = np.where(variance > 0, within / variance, np.inf)
        rough = (steps - neighbours * within) / (2 * apart.sum())
        effects = sums.wanted / (counts + chance * shrinkage)
        return Estimate(
            shrinkage,
            np.sqrt((counts * effects**2).sum(axis=0) / rows),
            (between / within - freedom) / np.sqrt(2 * spread),
            np.where(variance > 0, rough / variance, 0.0),
            (steps / within - neighbours) / np.sqrt(3 * neighbours),  # neighbours' differences are correlated
        )


def shrunk(sums: Sums, estimate: Estimate) -> Float64Array:
    """Return the effects of each value [values, outputs], so that those of all training rows have variance 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        effects = sums.wanted / (sums.shares[:, None] + sums.chance * estimate.shrinkage) / estimate.spread
    return np.nan_to_num(effects, nan=0.0, posinf=0.0, neginf=0.0)
