"""What recipes make of numbers and categories before the network: statistics of the training rows, and their use."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array, Float32Array, Float64Array
from viva_tensor.tabular.recipes.rows import IntArray

MOST_QUANTILES, LEAST_QUANTILES, ROWS_OF_QUANTILE = 1000, 10, 30
NOISE = 1e-5
EDGE = 1e-7  # of the share of rows, within which a number is taken for the smallest or the largest


class RobustScaling(NamedTuple):
    r"""Numbers as distances from the median, in interquartile ranges, smoothly clipped [1]_.

    .. math:: f(s (x - q_{1/2})), \quad f(z) = z / \sqrt{1 + (z / 3)^2}

    with :math:`s = 1 / (q_{3/4} - q_{1/4})`, or 2 / (largest − smallest) where the quartiles coincide, or 0 for a
    column of one value.

    Attributes
    ----------
    center, scale : ndarray [columns]

    References
    ----------
    .. [1] D. Holzmüller, L. Grinsztajn and I. Steinwart, Better by default: strong pre-tuned MLPs and boosted trees on
       tabular data, NeurIPS 2024, arXiv:2407.04491, section 3.
    """

    center: Float32Array
    scale: Float32Array

    @classmethod
    def of(cls, x: Float32Array) -> RobustScaling:
        """Return the scaling of columns with the statistics of these rows.

        Examples
        --------
        >>> RobustScaling.of(np.array([[0, 0, 5], [1, 0, 5], [2, 0, 5], [3, 0, 5], [4, 8, 5]], np.float32))
        RobustScaling(center=array([2., 0., 5.], dtype=float32), scale=array([0.5 , 0.25, 0.  ], dtype=float32))
        """
        low, center, high = (np.quantile(x, share, axis=0).astype(x.dtype) for share in (0.25, 0.5, 0.75))
        width = high - low
        width = np.where(width == 0, (x.max(axis=0) - x.min(axis=0)) / 2, width)
        return cls(center, np.divide(1, width, out=np.zeros_like(width), where=width != 0))

    def __call__(self, x: Float32Array) -> Float32Array:
        """Return scaled numbers, between −3 and 3.

        Examples
        --------
        >>> scaling = RobustScaling(np.float32([1]), np.float32([0.5]))
        >>> scaling(np.array([[1.0], [9.0], [1e30]], np.float32)).ravel().round(3)
        array([0. , 2.4, 3. ], dtype=float32)
        """
        scaled = (x - self.center) * self.scale
        clipped: Float32Array = scaled / np.hypot(np.float32(1), scaled / np.float32(3))
        return clipped


class QuantileNormal(NamedTuple):
    """Numbers as quantiles of the normal distribution, by their place among those of the training rows.

    Statistics are those of scikit-learn's ``QuantileTransformer(output_distribution="normal")`` on numbers with a
    little noise, which tells ties apart, as in the programs of TabM's authors.

    Attributes
    ----------
    quantiles : ndarray of float64 [quantiles, columns]
    """

    quantiles: Float64Array

    @classmethod
    def of(cls, x: Float32Array, rng: np.random.Generator) -> QuantileNormal:
        """Return the quantiles of these rows.

        Examples
        --------
        >>> QuantileNormal.of(np.zeros((60, 2), np.float32), np.random.default_rng(0)).quantiles.shape
        (10, 2)
        """
        count = max(min(len(x) // ROWS_OF_QUANTILE, MOST_QUANTILES), LEAST_QUANTILES)
        noisy = x + rng.normal(0, NOISE, x.shape)
        quantiles = np.quantile(noisy, np.linspace(0, 1, min(count, len(x))), axis=0)
        return cls(np.maximum.accumulate(quantiles))

    def __call__(self, x: Float32Array) -> Float32Array:
        """Return what a normal distribution has at the same quantiles, from −5.2 to 5.2.

        Examples
        --------
        >>> QuantileNormal(np.array([[0.0], [1.0], [4.0]]))(np.array([[-9], [1], [2.5]], np.float32)).round(3).ravel()
        array([-5.199,  0.   ,  0.674], dtype=float32)
        """
        shares = np.linspace(0, 1, len(self.quantiles))
        made = np.empty(x.shape, np.float32)
        for column, edges in enumerate(self.quantiles.T):
            numbers = x[:, column].astype(np.float64)
            below = np.interp(numbers, edges, shares)
            above = np.interp(-numbers, -edges[::-1], -shares[::-1])
            place = (below - above) / 2
            place[numbers + EDGE > edges[-1]] = 1
            place[numbers - EDGE < edges[0]] = 0
            made[:, column] = normal_quantiles(place)
        return made


def normal_quantiles(shares: Float64Array) -> Float64Array:
    """Return the numbers below which these shares of a normal distribution lie, cut off at 10⁻⁷ from 0 and 1.

    Examples
    --------
    >>> normal_quantiles(np.array([0.0, 0.5, 0.975])).round(3)
    array([-5.199,  0.   ,  1.96 ])
    """
    edge = EDGE - np.spacing(1)
    distinct, where = np.unique(np.clip(shares, edge, 1 - edge), return_inverse=True)
    quantile = NormalDist().inv_cdf
    found: Float64Array = np.array([quantile(share) for share in distinct.tolist()])[where]
    return found


class Categories(NamedTuple):
    """The codes of each column that training rows hold; others, and those below 0, count as missing.

    Attributes
    ----------
    known : tuple of ndarray
        Ascending.
    """

    known: tuple[IntArray, ...]

    @classmethod
    def of(cls, codes: IntArray) -> Categories:
        """Return the categories of these rows.

        Examples
        --------
        >>> Categories.of(np.array([[3, 0], [7, -1], [3, 0]])).sizes
        [2, 1]
        """
        return cls(tuple(np.unique(column[column >= 0]) for column in codes.T))

    @property
    def sizes(self) -> list[int]:
        """How many categories each column has."""
        return [len(known) for known in self.known]

    def indices(self, codes: IntArray) -> IntArray:
        """Return the place of each code among the known ones of its column, from 1; 0 for what is missing.

        Examples
        --------
        >>> Categories((np.array([3, 7]),)).indices(np.array([[7], [4], [3], [-1]])).ravel()
        array([2, 0, 1, 0])
        """
        found = np.zeros(codes.shape, np.int64)
        for column, known in enumerate(self.known):
            if len(known):
                place = np.minimum(np.searchsorted(known, codes[:, column]), len(known) - 1)
                found[:, column] = np.where(known[place] == codes[:, column], place + 1, 0)
        return found


def one_hot(indices: IntArray, sizes: Sequence[int], signed: bool = False) -> Float32Array:
    """Return a column for each category, 1 where a row is of it; rows of a missing category have 0 in all.

    Parameters
    ----------
    indices : ndarray of int [rows, columns]
        As :meth:`Categories.indices` returns them.
    sizes : sequence of int
        Categories of each column.
    signed : bool
        Whether two categories are one column of 1, −1, and 0 for what is missing, and one is 1, or −1 if missing.

    Examples
    --------
    >>> one_hot(np.array([[1, 2], [0, 3], [2, 0]]), (2, 3), signed=True)
    array([[ 1.,  0.,  1.,  0.],
           [ 0.,  0.,  0.,  1.],
           [-1.,  0.,  0.,  0.]], dtype=float32)
    """
    made: list[Array] = [np.zeros((len(indices), 0), np.float32)]
    for column, size in zip(indices.T, sizes, strict=True):
        if signed and size in (1, 2):
            values = [-1, 1] if size == 1 else [0, 1, -1]
            made.append(np.array(values, np.float32)[column][:, None])
        else:
            made.append((column[:, None] == np.arange(1, size + 1)).astype(np.float32))
    return np.concatenate(made, axis=1)


class Standard(NamedTuple):
    """Targets that are numbers, standardised; predictions stay within those of the training rows if they are clipped.

    Attributes
    ----------
    mean, deviation, low, high : float
        Of the training rows; low and high are infinite if nothing is clipped.
    """

    mean: float
    deviation: float
    low: float
    high: float

    @classmethod
    def of(cls, y: Float64Array, clipped: bool) -> Standard:
        """Return the standardisation of these targets.

        Raises
        ------
        InvalidValue
            If float64 does not hold their variance.

        Examples
        --------
        >>> Standard.of(np.array([1.0, 3.0]), clipped=True)
        Standard(mean=2.0, deviation=1.0, low=1.0, high=3.0)
        """
        low, high = float(y.min()), float(y.max())
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = float(y.mean()), float(y.std())
        if not np.isfinite(deviation) or (deviation == 0 and low < high):
            got = f"y goes from {low:g} to {high:g}, whose variance float64 does not hold"
            raise InvalidValue(got, operation="fit", hint="divide y by its magnitude, and multiply predictions by it")
        return cls(mean, deviation, *((low, high) if clipped else (-np.inf, np.inf)))

    def encode(self, y: Float64Array) -> Float32Array:
        """Return standardised targets; those of one value become 0."""
        made: Float32Array = ((y - self.mean) / (self.deviation or 1.0)).astype(np.float32)
        return made

    def decode(self, outputs: Float32Array) -> Float64Array:
        """Return the predictions that outputs mean.

        Examples
        --------
        >>> Standard(mean=10.0, deviation=2.0, low=9.0, high=12.0).decode(np.array([-3.0, 0.5], np.float32))
        array([ 9., 11.])
        """
        decoded: Float64Array = np.clip(outputs.astype(np.float64) * self.deviation + self.mean, self.low, self.high)
        return decoded
