"""L-BFGS: minimising a smooth function from its values and gradients, with curvature from its last steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.error import DimensionError, InvalidValue, ShapeMismatch
from viva_tensor.kernels.arrays import NO_NUMBERS, Float64Array, as_numbers
from viva_tensor.kernels.checks import at_least_0, check_count, shown
from viva_tensor.optim.line_search import Point, strong_wolfe

__all__ = ["Minimum", "lbfgs"]

ValueAndGradient = Callable[[Float64Array], tuple[float, ArrayLike]]

NO_VALUES = (*NO_NUMBERS, bool, np.bool_)  # most of which float() would take


class Minimum(NamedTuple):
    """What :func:`lbfgs` found.

    Attributes
    ----------
    x : ndarray of float64
    value : float
    gradient : ndarray of float64
    iterations, evaluations : int
        The number of steps, and of calls of the function.
    converged : bool
    reason : str
        Why it stopped, in words.
    """

    x: Float64Array
    value: float
    gradient: Float64Array
    iterations: int
    evaluations: int
    converged: bool
    reason: str


def lbfgs(
    function: ValueAndGradient,
    start: ArrayLike,
    *,
    history: int = 10,
    gradient_tolerance: float = 1e-5,
    value_tolerance: float = 2.2e-9,
    max_iterations: int = 15_000,
    max_evaluations: int = 15_000,
    callback: Callable[[Minimum], object] | None = None,
) -> Minimum:
    r"""Minimise a smooth function by L-BFGS [1]_ with a strong Wolfe line search [2]_.

    .. math:: x_{k+1} = x_k - t_k H_k \nabla f(x_k)

    with :math:`H_k` the inverse of the Hessian as the last steps show it, in its compact form [3]_. Stopping rules,
    steps and, to two digits, defaults are those of SciPy's ``minimize(method="L-BFGS-B")``, without bounds. It stops
    when the largest element of the gradient is at most ``gradient_tolerance``, or when a step decreases the value by no
    more than ``value_tolerance`` times the larger of both values and 1.

    Parameters
    ----------
    function : callable
        Takes a vector of float64, which it may overwrite, and returns the value and the gradient there. For a recorded
        loss, see :func:`viva_tensor.program.compile_objective`.
    start : array_like [n]
    history : int
        The number of steps that are remembered, at least 1.
    gradient_tolerance, value_tolerance : float
        At least 0.
    max_iterations, max_evaluations : int
        Counts from 0 on. A line search that has begun is finished; none begins after the last evaluation, where one
        more does with SciPy's ``maxfun``.
    callback : callable, optional
        Called after each step with a :class:`Minimum` of the moment; to stop, it raises StopIteration.

    Returns
    -------
    Minimum
        If a line search ends without a step, as at the edge of where the function is finite, the lowest finite point
        that it tried.

    Raises
    ------
    DimensionError, ShapeMismatch
        If the start is no vector; if a gradient has another shape.
    InvalidValue
        If an option is out of its range; if the function returns no pair of a number and a gradient; if the value or
        gradient at the start is not finite.

    References
    ----------
    .. [1] D. C. Liu and J. Nocedal, On the limited memory BFGS method for large scale optimization, Mathematical
       Programming 45, 1989.
    .. [2] J. J. Moré and D. J. Thuente, Line search algorithms with guaranteed sufficient decrease, ACM Transactions
       on Mathematical Software 20(3), 1994.
    .. [3] R. H. Byrd, J. Nocedal and R. B. Schnabel, Representations of quasi-Newton matrices and their use in limited
       memory methods, Mathematical Programming 63, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> found = lbfgs(lambda x: (((x - 3) ** 2).sum(), 2 * (x - 3)), np.zeros(2))
    >>> found.x.round(6), found.converged
    (array([3., 3.]), True)
    """
    history = check_count("lbfgs", "history", history)
    max_iterations = check_count("lbfgs", "max_iterations", max_iterations, least=0)
    max_evaluations = check_count("lbfgs", "max_evaluations", max_evaluations, least=0)
    flat = at_least_0("lbfgs", "gradient_tolerance", gradient_tolerance)
    level = at_least_0("lbfgs", "value_tolerance", value_tolerance)
    if not (callback is None or callable(callback)):
        raise InvalidValue(f"callback={shown(callback)}, wanted a function or None", operation="lbfgs")
    counted = _Counted(function)
    at = lowest = _started(counted, start)
    memory = _Memory(history, at.x.size)
    done, iterations = float(np.abs(at.gradient).max(initial=0)) <= flat, 0
    reason = "the gradient is small" if done else ""
    while not reason:
        if iterations >= max_iterations or counted.calls >= max_evaluations:
            reason = f"the most {'iterations' if iterations >= max_iterations else 'evaluations'} were made"
            break
        line = _Line(counted, at, memory.direction(at.gradient), lowest)
        found = line.searched(scaled=iterations > 0)
        if found is None:
            lowest = line.lowest
            if not memory:
                reason = line.why()
                break
            memory = _Memory(history, at.x.size)  # once more, along the gradient
            continue
        before, iterations = at, iterations + 1
        at = lowest = line.last
        memory.add(found.step * line.direction, before.gradient, at.gradient)
        if np.abs(at.gradient).max() <= flat:
            done, reason = True, "the gradient is small"
        elif before.value - at.value <= level * max(abs(before.value), abs(at.value), 1.0):
            done, reason = True, "the value hardly changes"
        if callback is not None:
            try:
                callback(Minimum(at.x.copy(), at.value, at.gradient.copy(), iterations, counted.calls, done, reason))
            except StopIteration:
                reason = reason or "the callback stopped it"
    return Minimum(*lowest, iterations, counted.calls, done, reason)


class _At(NamedTuple):
    """A point, with the value and the gradient there."""

    x: Float64Array
    value: float
    gradient: Float64Array

    def unfit(self) -> str:
        """Return what of it is not finite, if anything."""
        if not math.isfinite(self.value):
            return "value"
        return "" if np.isfinite(self.gradient).all() else "gradient"


class _Counted:
    """A function whose results are checked and counted."""

    def __init__(self, function: ValueAndGradient) -> None:
        if not callable(function):
            hint = "give a function that takes a vector and returns (value, gradient)"
            raise InvalidValue(f"function is a {type(function).__name__}", operation="lbfgs", hint=hint)
        self._function = function
        self.calls = 0

    def __call__(self, x: Float64Array) -> _At:
        """Return x with the value and the gradient there."""
        result: Any = self._function(x.copy())  # which the function may overwrite
        self.calls += 1
        try:
            value, gradient = result
        except (TypeError, ValueError):
            alone = "None" if result is None else f"a {type(result).__name__}"
            raise _no_pair(f"{len(result)} results" if isinstance(result, tuple | list) else alone) from None
        if gradient is None:  # which would become NaN
            raise _no_pair("the gradient None")
        found = as_numbers("lbfgs", "the gradient", gradient, np.float64).copy()  # which may be overwritten
        if found.shape != x.shape:
            hint = "the gradient has the shape of the start"
            raise ShapeMismatch(x.shape, found.shape, operation="lbfgs", hint=hint)
        return _At(x, _number(value), found)


def _number(value: Any) -> float:
    """Return a value of the function as a float; NaN and infinities pass."""
    if getattr(value, "ndim", 0) != 0:
        raise _no_pair(f"a value of shape {tuple(value.shape)}")
    one = value[()] if isinstance(value, np.ndarray) else value  # an array may hold text
    if not isinstance(one, NO_VALUES):
        try:
            return float(one)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            pass
    raise _no_pair(f"the value {shown(one)}")


def _no_pair(got: str) -> InvalidValue:
    """Return the error for what is no pair of a number and a gradient."""
    hint = "return a number, and the gradient as a vector like the start"
    return InvalidValue(f"the function returned {got}, wanted (value, gradient)", operation="lbfgs", hint=hint)


def _started(function: _Counted, start: ArrayLike) -> _At:
    """Return the point to start from, checked."""
    x = as_numbers("lbfgs", "start", start, np.float64).copy()
    if x.ndim != 1:
        raise DimensionError(f"start has shape {x.shape}", operation="lbfgs", hint="give a vector")
    at = function(x)
    unfit = at.unfit()
    if unfit:
        bad = f"is {at.value}" if unfit == "value" else f"contains {at.gradient[~np.isfinite(at.gradient)][0]}"
        hint = "start where the function is finite, and its gradient"
        raise InvalidValue(f"the {unfit} at the start {bad}", operation="lbfgs", hint=hint)
    return at


class _Line:
    """The function along a line, with what a search has seen there."""

    def __init__(self, function: _Counted, start: _At, direction: Float64Array, lowest: _At) -> None:
        self._function, self._start, self.direction = function, start, direction
        self.last = start
        self.lowest = lowest  # finite point, of this search and those before it from the same start
        self._tried: list[tuple[float, str]] = []  # steps, with what was not finite there, if anything

    def searched(self, *, scaled: bool) -> Point | None:
        """Return the step to take; None if there is none. The first that is tried unscaled has the length 1."""
        start = Point(0.0, self._start.value, self._slope(self._start))
        if not math.isfinite(start.slope):
            self._tried.append((0.0, "slope"))
        if not -math.inf < start.slope < 0:
            return None
        first = 1.0 if scaled else 1 / float(np.sqrt(self.direction @ self.direction))
        return strong_wolfe(self._along, start, first)

    def _along(self, step: float) -> tuple[float, float]:
        """Return the value and the slope after a step."""
        self.last = self._function(self._start.x + step * self.direction)
        unfit = self.last.unfit()
        slope = math.nan if unfit else self._slope(self.last)
        if not unfit and self.last.value < self.lowest.value:
            self.lowest = self.last
        if not np.array_equal(self.last.x, self._start.x):  # steps that rounding takes away say nothing
            self._tried.append((step, unfit or ("" if math.isfinite(slope) else "slope")))
        return self.last.value, slope

    def _slope(self, at: _At) -> float:
        """Return the slope at a point, which may overflow where the gradient is finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            return float(at.gradient @ self.direction)

    def why(self) -> str:
        """Return why there is no step. If values rise at once, it does not matter that others are not finite."""
        lower = self.lowest is not self._start
        unfit = [what for _, what in sorted(self._tried)]  # the nearest first
        if any(unfit[:1]) or (lower and any(unfit)):
            return f"the {next(filter(None, unfit))} is not finite along the line"
        if lower:
            return "no step along the gradient fulfils the Wolfe conditions"
        return "no step along the gradient decreases the value"


class _Memory:
    """The last steps s and changes of the gradient y, as rows of two matrices, and their products."""

    def __init__(self, history: int, size: int) -> None:
        self._most = history
        self._steps = np.empty((0, size))
        self._changes = np.empty((0, size))
        self._triangle = np.empty((0, 0))  # of sᵢ · yⱼ, i ≤ j
        self._products = np.empty((0, 0))  # of yᵢ · yⱼ
        self._scale = 1.0

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: Float64Array, before: Float64Array, after: Float64Array) -> None:
        """Remember a step between two gradients, unless the slope along it changed by no more than rounding."""
        change = after - before
        curvature, size = float(step @ change), float(change @ change)
        if curvature <= np.finfo(np.float64).eps * -float(before @ step):
            return
        drop = int(len(self) == self._most)
        self._steps = np.concatenate((self._steps[drop:], step[None]))
        self._changes = np.concatenate((self._changes[drop:], change[None]))
        self._triangle = _grown(self._triangle[drop:, drop:], self._steps @ change, 0.0)
        column = self._changes @ change
        self._products = _grown(self._products[drop:, drop:], column, column[:-1])
        self._scale = curvature / size

    def direction(self, gradient: Float64Array) -> Float64Array:
        """Return -H · gradient, by theorem 2.2 of Byrd, Nocedal and Schnabel."""
        if not len(self):
            return -gradient
        along, changed = self._steps @ gradient, self._scale * (self._changes @ gradient)
        inner = np.linalg.solve(self._triangle, along)
        middle = np.diag(self._triangle) * inner + self._scale * (self._products @ inner) - changed
        outer = np.linalg.solve(self._triangle.T, middle)
        return -self._scale * (gradient - inner @ self._changes) - outer @ self._steps


def _grown(square: Float64Array, column: Float64Array, row: Any) -> Float64Array:
    """Return a square matrix with one more column, and one more row before its last element."""
    size = len(column)
    grown = np.empty((size, size))
    grown[:-1, :-1] = square
    grown[:, -1] = column
    grown[-1, :-1] = row
    return grown
