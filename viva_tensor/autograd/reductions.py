"""Sums, means, norms, extremes and running sums along axes, as functions (tape, variable) -> Traced."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence

import numpy as np

from viva_tensor.autograd import operations
from viva_tensor.autograd.choices import equal, stop_gradient, where
from viva_tensor.autograd.functions import abs, add, div, exp, log, pow, sqrt, square, sub
from viva_tensor.autograd.operations import Counted
from viva_tensor.autograd.shaping import frozen, squeeze
from viva_tensor.autograd.tape import (
    Tape,
    Traced,
    Variable,
    new_constant,
    new_tape,  # noqa: F401  # in the examples
    new_variable,  # noqa: F401
    node_of,
    record,
)
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.along import as_starts
from viva_tensor.kernels.arrays import Axes, Whole, axes_of
from viva_tensor.kernels.checks import flag, is_whole, real, shown

__all__ = ["cumsum", "logsumexp", "max", "mean", "min", "norm", "std", "sum", "sum_of_squares", "var"]


def sum(tape: Tape, x: Variable, axis: Axes = None, keepdims: bool = False) -> Traced[Variable]:
    """Record the sum over all elements or over the given axes; see :func:`viva_tensor.kernels.sum`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [[1.0, 2.0], [3.0, 4.0]])
    >>> sum(tape, x, axis=0).value.data
    array([4., 6.], dtype=float32)
    """
    return record(tape, operations.SUM, x, axis=frozen(axis), keepdims=flag("sum", "keepdims", keepdims))


def sum_of_squares(tape: Tape, x: Variable) -> Traced[Variable]:
    r"""Record the sum of the squares of all elements, :math:`\sum x^2`; see :func:`viva_tensor.kernels.sum_of_squares`.

    A penalty on weights is cheap in a compiled step if it is recorded after the forward pass: the update adds its
    gradient, unless gradients are clipped, added up over parts of a batch, or averaged over ranks.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [3.0, 4.0])
    >>> sum_of_squares(tape, x).value.data
    array(25., dtype=float32)
    """
    return record(tape, operations.SUM_OF_SQUARES, x)


def mean(tape: Tape, x: Variable, axis: Axes = None, keepdims: bool = False) -> Traced[Variable]:
    """Record the mean over all elements or over the given axes; see :func:`viva_tensor.kernels.mean`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [2.0, 4.0])
    >>> mean(tape, x).value.data
    array(3., dtype=float32)
    """
    return record(tape, operations.MEAN, x, axis=frozen(axis), keepdims=flag("mean", "keepdims", keepdims))


def var(tape: Tape, x: Variable, axis: Axes = None, ddof: int = 0, keepdims: bool = False) -> Traced[Variable]:
    r"""Record the variance over all elements or over the given axes, :math:`\frac{1}{n - d} \sum (x - \bar x)^2`.

    Parameters
    ----------
    tape : Tape
    x : Variable
    axis : int or sequence of int, optional
        All axes by default.
    ddof : int
        d, which is subtracted from the number of elements n; 1 makes the estimate from a sample unbiased.
    keepdims : bool
        Whether to keep summed axes, with size 1.

    Raises
    ------
    InvalidValue
        If ddof is not a whole number from 0 to n - 1.
    IndexOutOfBounds, DimensionError
        As :func:`sum`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0, 3.0])
    >>> float(var(tape, x, ddof=1).value.data)
    1.0
    """
    _check_ddof("var", tape, x, axis, ddof)
    off, tape = _off_mean(tape, x, axis)
    squares, tape = square(tape, off)
    if ddof == 0:
        return mean(tape, squares, axis, keepdims)
    total, tape = sum(tape, squares, axis, keepdims)
    count, tape = _count("var", tape, x, axis, ddof, keepdims)
    return div(tape, total, count)


def std(tape: Tape, x: Variable, axis: Axes = None, ddof: int = 0, keepdims: bool = False) -> Traced[Variable]:
    """Record the standard deviation, the root of :func:`var`, whose arguments and errors are the same.

    The gradient is 0 where all elements are equal.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0, 3.0])
    >>> float(std(tape, x, ddof=1).value.data)
    1.0
    """
    _check_ddof("std", tape, x, axis, ddof)
    off, tape = _off_mean(tape, x, axis)
    size, tape = norm(tape, off, axis=axis, keepdims=keepdims)
    count, tape = _count("std", tape, x, axis, ddof, keepdims)
    root, tape = sqrt(tape, count)
    return div(tape, size, root)


def max(tape: Tape, x: Variable, axis: Axes = None, keepdims: bool = False) -> Traced[Variable]:
    """Record the largest of all elements or along the given axes; see :func:`viva_tensor.kernels.max`.

    Equal elements share the gradient equally.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [[1.0, 4.0], [3.0, 2.0]])
    >>> max(tape, x, axis=0).value.data
    array([3., 4.], dtype=float32)
    """
    return record(tape, operations.MAX, x, axis=frozen(axis), keepdims=flag("max", "keepdims", keepdims))


def min(tape: Tape, x: Variable, axis: Axes = None, keepdims: bool = False) -> Traced[Variable]:
    """Record the smallest of all elements or along the given axes; see :func:`max`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [[1.0, 4.0], [3.0, 2.0]])
    >>> min(tape, x, axis=0).value.data
    array([1., 2.], dtype=float32)
    """
    return record(tape, operations.MIN, x, axis=frozen(axis), keepdims=flag("min", "keepdims", keepdims))


def norm(tape: Tape, x: Variable, ord: float = 2, axis: Axes = None, keepdims: bool = False) -> Traced[Variable]:
    r"""Record the norm of all elements or along the given axes, :math:`(\sum |x|^p)^{1/p}`.

    Several axes are taken as one, so that of a matrix this is the norm of Frobenius. Powers are added as they are:
    beyond the root of the largest number they overflow, and below that of the smallest they vanish. Where the norm is
    0, its derivatives are 0.

    Parameters
    ----------
    tape : Tape
    x : Variable
    ord : float
        p: 2 by default, 1 for the sum of magnitudes, ``math.inf`` for the largest, or any other number from 1 on.
    axis : int or sequence of int, optional
        All axes by default.
    keepdims : bool
        Whether to keep reduced axes, with size 1.

    Raises
    ------
    InvalidValue, InvalidShape
        If ord is below 1; if it is infinite, and there is nothing to compare.
    IndexOutOfBounds, DimensionError
        As :func:`sum`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [3.0, 4.0])
    >>> float(norm(tape, x).value.data)
    5.0
    """
    p = real("norm", "ord", ord)
    if not p >= 1:
        raise InvalidValue(f"ord={shown(ord)}", operation="norm", hint="give a number from 1 on, or math.inf")
    shape, keepdims = node_of(tape, x, "norm").output.data.shape, flag("norm", "keepdims", keepdims)
    along = axes_of("norm", axis, shape)
    if p == 2:
        return record(tape, operations.NORM, x, axis=frozen(axis), keepdims=keepdims)
    sizes, tape = abs(tape, x)
    if p == 1:
        return sum(tape, sizes, axis, keepdims)
    if math.isinf(p):
        axes = Counted(along, "norm", 1, "give at least one element along each axis")
        axes.check(shape)
        return record(tape, operations.MAX, sizes, axis=axes, keepdims=keepdims)
    powers, tape = pow(tape, sizes, p)
    total, tape = sum(tape, powers, axis, keepdims)
    root, tape = pow(tape, total, 1 / p)
    return where(tape, total, root, 0.0)  # the slope of the root is infinite at 0


def logsumexp(tape: Tape, x: Variable, axis: Axes = None, keepdims: bool = False) -> Traced[Variable]:
    r"""Record :math:`\ln \sum e^{x}` over all elements or over the given axes, without overflow.

    The gradient is the softmax; where all elements are -∞, it is NaN, and where one is ∞, 0. In forward mode, as of
    :func:`jvp` and where :func:`jacobian` uses it, the tangent is 0 where all elements are -∞, and NaN where one that
    moves is ∞.

    Raises
    ------
    InvalidShape
        If there is nothing to sum.
    IndexOutOfBounds, DimensionError, InvalidValue
        As :func:`sum`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1000.0, 1000.0])
    >>> round(float(logsumexp(tape, x).value.data), 3)
    1000.693
    """
    shape = node_of(tape, x, "logsumexp").output.data.shape
    axes = Counted(axes_of("logsumexp", axis, shape), "logsumexp", 1, "give at least one element along each axis")
    axes.check(shape)
    top, tape = record(tape, operations.MAX, x, axis=axes, keepdims=True)
    rest, tape = sub(tape, top, top)
    finite, tape = equal(tape, rest, 0.0)
    top, tape = where(tape, finite, top, 0.0)  # an infinite one would give ∞ - ∞
    top, tape = stop_gradient(tape, top)
    shifted, tape = sub(tape, x, top)
    powers, tape = exp(tape, shifted)
    total, tape = sum(tape, powers, axis, keepdims)
    logarithm, tape = log(tape, total)
    if not flag("logsumexp", "keepdims", keepdims):
        top, tape = squeeze(tape, top, axes)
    return add(tape, logarithm, top)


def cumsum(tape: Tape, x: Variable, axis: Whole = 0, starts: Sequence[int] = ()) -> Traced[Variable]:
    """Record the sums up to each element along an axis, from the last start on; see :func:`viva_tensor.kernels.cumsum`.

    Examples
    --------
    >>> x, tape = new_variable(new_tape(), [1.0, 2.0, 3.0])
    >>> cumsum(tape, x).value.data
    array([1., 3., 6.], dtype=float32)
    """
    shape = node_of(tape, x, "cumsum").output.data.shape
    (axis,) = axes_of("cumsum", (axis,), shape)
    return record(tape, operations.CUMSUM, x, axis=axis, starts=as_starts("cumsum", starts, shape[axis]))


def _check_ddof(operation: str, tape: Tape, x: Variable, axis: Axes, ddof: int) -> None:
    shape = node_of(tape, x, operation).output.data.shape
    count = math.prod(shape[i] for i in axes_of(operation, axis, shape))
    if not is_whole(ddof) or not 0 <= ddof < builtins.max(count, 1):
        hint = f"give a whole number from 0 to {count - 1}, one less than the elements"
        raise InvalidValue(f"ddof={shown(ddof)}", operation=operation, hint=hint)


def _off_mean(tape: Tape, x: Variable, axis: Axes) -> Traced[Variable]:
    """Record the differences from the mean."""
    middle, tape = mean(tape, x, axis, keepdims=True)
    return sub(tape, x, middle)


def _count(operation: str, tape: Tape, x: Variable, axis: Axes, ddof: int, keepdims: bool) -> Traced[Variable]:
    """Record the number of elements less ddof, since a program may see other numbers of rows, but not too few."""
    least = int(ddof) + 1 if ddof else 0  # the variance of nothing is NaN
    axes = Counted(axes_of(operation, axis, x.shape), operation, least, f"give more elements than ddof={shown(ddof)}")
    one, tape = new_constant(tape, np.ones((), x.dtype))
    ones, tape = record(tape, operations.BROADCAST, one, x)
    number, tape = record(tape, operations.SUM, ones, axis=axes, keepdims=flag(operation, "keepdims", keepdims))
    return sub(tape, number, float(ddof))
