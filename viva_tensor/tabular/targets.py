"""The column to predict as targets of training, and the network's outputs as predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from viva_tensor import nn
from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.data import DataError, labels_of, numbers_of
from viva_tensor.tabular.quantiles import Quantile, Several, percent
from viva_tensor.tabular.scores import ClassScores, Scores, number_scores, of_prediction
from viva_tensor.train.settings import Loss

LARGEST = 600.0  # logarithm of a prediction
CLIP = 1e6  # standard deviations; training rows are within √rows


@dataclass(frozen=True)
class Number:
    """A number, learned as ``(value - mean) / std``.

    Examples
    --------
    >>> target = Number("price", mean=10.0, std=2.0)
    >>> target.encode(np.array([8.0, 12.0])).tolist()
    [[-1.0], [1.0]]
    >>> target.decode(np.array([[1.5]], np.float32))
       predicted
    0       13.0
    """

    name: str
    mean: float
    std: float
    loss: str | Loss = field(default="mse", compare=False)  # of training; prediction does not need it

    @property
    def outputs(self) -> int:
        return 1

    def encode(self, values: Float64Array) -> Float32Array:
        """Return the targets of training [rows, 1] for values [rows], within ±10⁶, since losses square them."""
        with np.errstate(over="ignore"):
            return np.clip((values - self.mean) / self.std, -CLIP, CLIP).astype(np.float32)[:, None]

    def decode(self, output: Float32Array) -> pd.DataFrame:
        """Return predictions for the network's outputs [rows, 1]."""
        return pd.DataFrame({"predicted": output[:, 0].astype(np.float64) * self.std + self.mean})

    def actual(self, values: Float64Array) -> Float64Array:
        return values

    def values(self, encoded: Float32Array) -> Float64Array:
        """Return the values [rows] of targets of training [rows, 1]."""
        return encoded[:, 0].astype(np.float64) * self.std + self.mean

    def score(self, values: Float64Array, predicted: Float64Array) -> Scores:
        """Return the errors of predictions [rows], and the loss that they were to minimise.

        Examples
        --------
        >>> Number("price", 0.0, 1.0).score(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
        NumberScores(rmse=1.0, mae=1.0, r2=0.0)
        """
        return number_scores(values, predicted, self.loss)


@dataclass(frozen=True)
class Count(Number):
    """A number of at least 0, learned as the logarithm of its mean over that of all rows, by the Poisson loss.

    Examples
    --------
    >>> target = Count("calls", mean=4.0, std=2.0)
    >>> target.encode(np.array([0.0, 8.0])).tolist()
    [[0.0], [2.0]]
    >>> target.decode(np.array([[0.0]], np.float32))
       predicted
    0        4.0
    """

    loss: str | Loss = field(default=nn.poisson_loss, compare=False)

    def encode(self, values: Float64Array) -> Float32Array:
        """Return the targets of training [rows, 1]: values [rows] as multiples of the mean, at most 10⁶.

        Raises
        ------
        DataError
            If a value is below 0.
        """
        if (values < 0).any():
            raise DataError(f"column {self.name!r} holds {values[values < 0][0]:g}; the Poisson loss is for counts")
        return np.minimum(values / self.mean, CLIP).astype(np.float32)[:, None]

    def values(self, encoded: Float32Array) -> Float64Array:
        """Return the values [rows] of targets of training [rows, 1]."""
        return encoded[:, 0].astype(np.float64) * self.mean

    def decode(self, output: Float32Array) -> pd.DataFrame:
        """Return predicted means for the network's outputs [rows, 1]."""
        return pd.DataFrame({"predicted": np.exp(np.minimum(output[:, 0].astype(np.float64), LARGEST)) * self.mean})


@dataclass(frozen=True)
class Ranged(Number):
    """A number with quantiles of the values that rows like it have: an output for the prediction, one for each after.

    Attributes
    ----------
    levels : tuple of float
        The quantiles beside the prediction, rising.
    """

    levels: tuple[float, ...] = (0.05, 0.95)

    @property
    def outputs(self) -> int:
        return 1 + len(self.levels)

    def encode(self, values: Float64Array) -> Float32Array:
        """Return the targets of training [rows, outputs], the same for each output."""
        return np.repeat(super().encode(values), self.outputs, axis=1)

    @property
    def quantile_columns(self) -> dict[str, float]:
        """The columns of predictions that hold quantiles, rising, and which these are."""
        raise NotImplementedError

    def measures(self, values: Float64Array, decoded: pd.DataFrame) -> dict[str, float]:
        """Return how often values [rows] lie where predictions of them say."""
        raise NotImplementedError


@dataclass(frozen=True)
class Interval(Ranged):
    """A number with an interval between two quantiles, whose ends never cross.

    Attributes
    ----------
    margin : float
        By how many standard deviations of the target each end lies further out, :meth:`calibrated`.

    Examples
    --------
    >>> target = Interval("price", mean=10.0, std=2.0, levels=(0.05, 0.95), margin=0.5)
    >>> target.decode(np.array([[0.0, -1.0, 2.0]], np.float32))
       predicted  lower  upper
    0       10.0    7.0   15.0
    """

    margin: float = 0.0

    @property
    def point(self) -> Number:
        """The target of the prediction alone."""
        return Number(self.name, self.mean, self.std, of_prediction(self.loss))

    @property
    def quantile_columns(self) -> dict[str, float]:
        return {"lower": self.levels[0], "upper": self.levels[-1]}

    @property
    def coverage(self) -> float:
        """The share of rows that are to lie within the interval."""
        return self.levels[-1] - self.levels[0]

    def decode(self, output: Float32Array) -> pd.DataFrame:
        """Return predictions and the ends of their intervals for the network's outputs [rows, 3]."""
        lower, upper = self._ends(output)
        ends = {"lower": lower * self.std + self.mean, "upper": upper * self.std + self.mean}
        return super().decode(output).assign(**ends)

    def measures(self, values: Float64Array, decoded: pd.DataFrame) -> dict[str, float]:
        """Return the share of rows within their intervals, and the mean width of these.

        Examples
        --------
        >>> target = Interval("price", mean=0.0, std=1.0)
        >>> decoded = target.decode(np.array([[0.0, -1.0, 2.0], [0.0, -1.0, 1.0]], np.float32))
        >>> target.measures(np.array([1.5, 1.5]), decoded)
        {'coverage': 0.5, 'width': 2.5}
        """
        within = (decoded["lower"] <= values) & (values <= decoded["upper"])
        return {"coverage": float(within.mean()), "width": float((decoded["upper"] - decoded["lower"]).mean())}

    def calibrated(self, output: Float32Array, encoded: Float32Array, weights: Float64Array | None = None) -> Interval:
        """Return the target with the margin by which intervals of rows that were not learned from hold their share.

        It is that of conformalized quantile regression [1]_, from outputs and targets [rows, outputs] of such rows.

        References
        ----------
        .. [1] Y. Romano, E. Patterson and E. Candes, Conformalized quantile regression, NeurIPS 2019.

        Examples
        --------
        >>> target = Interval("price", mean=0.0, std=1.0, levels=(0.1, 0.9))
        >>> y = np.repeat(np.arange(-5, 5, dtype=np.float32)[:, None], 3, axis=1)
        >>> target.calibrated(np.zeros((10, 3), np.float32), y).margin
        4.0
        """
        plain, y = replace(self, margin=0.0), encoded[:, 0].astype(np.float64)
        lower, upper = plain._ends(output)
        outside = np.maximum(lower - y, y - upper)
        shares = np.ones(len(y)) if weights is None else weights
        order = np.argsort(outside, kind="stable")
        reached = np.cumsum(shares[order]) >= min(self.coverage * (1 + 1 / len(y)), 1.0) * shares.sum() * (1 - 1e-12)
        return replace(self, margin=float(outside[order[np.argmax(reached)]]))

    def _ends(self, output: Float32Array) -> tuple[Float64Array, Float64Array]:
        """Return both ends of each row's interval, in standard deviations; the prediction lies between them."""
        rising = np.sort(output.astype(np.float64), axis=1)
        point = output[:, 0].astype(np.float64)
        return np.minimum(rising[:, 0] - self.margin, point), np.maximum(rising[:, -1] + self.margin, point)


@dataclass(frozen=True)
class Quantiles(Ranged):
    """A number of which several quantiles are predicted; outputs are sorted, so that they never cross [1]_.

    Attributes
    ----------
    level : float
        The quantile that is the prediction.

    References
    ----------
    .. [1] V. Chernozhukov, I. Fernandez-Val and A. Galichon, Quantile and probability curves without crossing,
       Econometrica 78(3), 2010.

    Examples
    --------
    >>> Quantiles("price", mean=10.0, std=2.0, levels=(0.1, 0.9), level=0.5).decode(np.array([[0, 2, -1]], np.float32))
       predicted  10%   50%   90%
    0       10.0  8.0  10.0  14.0
    """

    level: float = 0.5

    @property
    def quantile_columns(self) -> dict[str, float]:
        return {percent(level): level for level in sorted((self.level, *self.levels))}

    @property
    def names(self) -> list[str]:
        """The columns of predictions that hold quantiles, rising."""
        return list(self.quantile_columns)

    def decode(self, output: Float32Array) -> pd.DataFrame:
        """Return the prediction and all quantiles for the network's outputs [rows, outputs]."""
        quantiles = np.sort(output.astype(np.float64), axis=1) * self.std + self.mean
        columns = {name: quantiles[:, i] for i, name in enumerate(self.names)}
        return pd.DataFrame({"predicted": columns[percent(self.level)], **columns})

    def measures(self, values: Float64Array, decoded: pd.DataFrame) -> dict[str, float]:
        """Return the share of rows below each quantile."""
        return {f"below {name}": float((values < decoded[name]).mean()) for name in self.names}


@dataclass(frozen=True)
class Classes:
    """One of several labels, learned as its index in `labels`; outputs are logits, one for each label.

    Examples
    --------
    >>> target = Classes("cut", labels=("Fair", "Ideal"))
    >>> target.decode(np.array([[0.0, 0.0], [-20.0, 20.0]], np.float32)).round(2)
      predicted  cut=Fair  cut=Ideal
    0      Fair       0.5        0.5
    1     Ideal       0.0        1.0
    """

    name: str
    labels: tuple[str, ...]

    loss = "cross_entropy"

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def encode(self, values: Float64Array) -> Float32Array:
        """Return the targets of training [rows] for class indices [rows]."""
        return values.astype(np.float32)

    def probabilities(self, output: Float32Array) -> Float64Array:
        """Return the probability of each label [rows, labels]: softmax of the network's outputs."""
        shifted = output.astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        powers = np.exp(shifted)
        result: Float64Array = powers / powers.sum(axis=1, keepdims=True)
        return result

    def decode(self, output: Float32Array) -> pd.DataFrame:
        """Return the most probable label of each row, and the probability of each label."""
        probabilities = self.probabilities(output)
        columns = {f"{self.name}={label}": probabilities[:, i] for i, label in enumerate(self.labels)}
        return pd.DataFrame({"predicted": self.actual(probabilities.argmax(axis=1)), **columns})

    def actual(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the labels of class indices."""
        labels: npt.NDArray[Any] = np.array(self.labels, dtype=object)[values.astype(int)]
        return labels

    def score(self, values: Float64Array, probabilities: Float64Array) -> ClassScores:
        """Return the scores of probabilities [rows, labels], raised to at least 2⁻²³, the resolution of float32.

        Examples
        --------
        >>> Classes("cut", ("Fair", "Ideal")).score(np.array([0.0, 1.0]), np.array([[1.0, 0.0], [0.5, 0.5]]))
        ClassScores(accuracy=0.5, log_loss=0.34657359027997264)
        """
        actual = values.astype(int)
        right = probabilities[np.arange(len(actual)), actual]
        log_loss = float(-np.mean(np.log(np.clip(right, 2.0**-23, 1))))
        return ClassScores(float(np.mean(probabilities.argmax(axis=1) == actual)), log_loss)


Target = Number | Classes


def values_of(column: pd.Series[Any], kind: str) -> tuple[Float64Array, tuple[str, ...]]:
    """Return a target column as float64, NaN where missing or infinite, and the sorted labels if its kind is "class".

    A class is represented by the index of its label.

    Examples
    --------
    >>> values_of(pd.Series(["b", None, "a"]), "class")
    (array([ 1., nan,  0.]), ('a', 'b'))
    >>> values_of(pd.Series([326, None, 334]), "number")
    (array([326.,  nan, 334.]), ())
    """
    if kind == "number":
        return numbers_of(column), ()
    codes, labels = labels_of(column)
    ordered = tuple(sorted(set(labels)))
    index = {label: float(i) for i, label in enumerate(ordered)}
    return np.array([*(index[label] for label in labels), np.nan])[codes], ordered  # code -1 finds the last entry


def fit_target(name: str, values: Float64Array, labels: tuple[str, ...], loss: str | Loss = "mse") -> Target:
    """Return the target with its labels or scaling fitted on training rows, and the loss that numbers are learned by.

    Raises
    ------
    DataError
        If the target is constant, cannot be scaled, or has too many classes for the rows.
    """
    if labels:
        counts = np.unique(values, return_counts=True)[1]
        if len(counts) == 1:
            raise DataError(f"the target {name!r} is constant ({labels[int(values[0])]}) in the training rows")
        if len(labels) > len(values) / 2:
            raise DataError(
                f"the target {name!r} has {len(labels)} classes for {len(values)} training rows; several rows of each "
                "class are needed"
            )
        return Classes(name, labels)
    if values.min() == values.max():
        raise DataError(f"the target {name!r} is constant ({values[0]:g}) in the training rows; nothing to learn")
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(values.mean()), float(values.std())
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise DataError(f"the values of the target {name!r} are too large or too close together for float64")
    if loss is nn.poisson_loss:
        if not mean > 0:
            raise DataError(f"the mean of {name!r} is {mean:g} in the training rows; the Poisson loss is for counts")
        return Count(name, mean, std)
    if isinstance(loss, Several):
        if isinstance(loss.first, Quantile) and not loss.interval:
            return Quantiles(name, mean, std, loss, loss.levels, loss.first.quantile)
        return Interval(name, mean, std, loss, loss.levels)
    return Number(name, mean, std, loss)
