"""L-BFGS: minimising a smooth function from its values and gradients, with curvature from its last steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.error import DimensionError, InvalidValue, ShapeMismatch
from viva_tensor.kernels.arrays import as_numbers
from viva_tensor.kernels.checks import at_least_0, is_whole, shown
from viva_tensor.optim.line_search import Point, strong_wolfe

__all__ = ["Minimum", "lbfgs"]

Float64Array = np.ndarray[Any, np.dtype[np.float64]]
Objective = Callable[[Float64Array], tuple[float, ArrayLike]]


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
    function: Objective,
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

    with :math:`H_k` the inverse of the Hessian as the last steps show it, in its compact form [3]_. Defaults, stopping
    rules and steps are those of SciPy's ``minimize(method="L-BFGS-B")`` without bounds. It stops when the largest
    element of the gradient is at most ``gradient_tolerance``, or when a step decreases the value by no more than
    ``value_tolerance`` times the larger of both values and 1.

    Parameters
    ----------
    function : callable
        Takes a vector of float64 and returns the value and the gradient there. For a recorded loss, see
        :func:`viva_tensor.program.compile_objective`.
    start : array_like [n]
    history : int
        The number of steps that are remembered, at least 1.
    gradient_tolerance, value_tolerance : float
        At least 0.
    max_iterations, max_evaluations : int
        Counts from 0 on. A line search that has begun is finished.
    callback : callable, optional
        Called after each step with a :class:`Minimum` of the moment; to stop, it raises StopIteration.

    Returns
    -------
    Minimum

    Raises
    ------
    DimensionError, ShapeMismatch
        If the start is no vector; if a gradient has another shape.
    InvalidValue
        If an option is out of its range; if the value or gradient at the start is not finite.

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
    _check_count("history", history, 1)
    _check_count("max_iterations", max_iterations, 0)
    _check_count("max_evaluations", max_evaluations, 0)
    flat = at_least_0("lbfgs", "gradient_tolerance", gradient_tolerance)
    level = at_least_0("lbfgs", "value_tolerance", value_tolerance)
    x = as_numbers("lbfgs", "start", start, np.float64).copy()
    if x.ndim != 1:
        raise DimensionError(f"start has shape {x.shape}", operation="lbfgs", hint="give a vector")
    counted = _Counted(function)
    value, gradient = counted(x)
    if not (np.isfinite(value) and np.isfinite(gradient).all()):
        hint = "start where the function is finite"
        raise InvalidValue(f"the value at the start is {value}", operation="lbfgs", hint=hint)
    memory = _Memory(history, x.size)
    done, iterations = float(np.abs(gradient).max(initial=0)) <= flat, 0
    reason = "the gradient is small" if done else ""
    while not reason:
        if iterations >= max_iterations or counted.calls >= max_evaluations:
            reason = f"the most {'iterations' if iterations >= max_iterations else 'evaluations'} were made"
            break
        direction = memory.direction(gradient)
        found = _searched(counted, x, Point(0.0, value, float(gradient @ direction)), direction, bool(memory))
        if found is None:
            if not memory:
                reason = "no step along the gradient decreases the value"
                break
            memory = _Memory(history, x.size)  # once more, along the gradient
            continue
        before, iterations = value, iterations + 1
        step, (value, new) = found.step * direction, counted.last
        x = x + step
        memory.add(step, new - gradient)
        gradient = new
        if np.abs(gradient).max() <= flat:
            done, reason = True, "the gradient is small"
        elif before - value <= level * max(abs(before), abs(value), 1.0):
            done, reason = True, "the value hardly changes"
        if callback is not None:
            try:
                callback(Minimum(x.copy(), value, gradient.copy(), iterations, counted.calls, done, reason))
            except StopIteration:
                reason = reason or "the callback stopped it"
    return Minimum(x, value, gradient, iterations, counted.calls, done, reason)


def _check_count(name: str, count: int, least: int) -> None:
    if not (is_whole(count) and count >= least):
        hint = f"give a whole number of at least {least}"
        raise InvalidValue(f"{name}={shown(count)}", operation="lbfgs", hint=hint)


def _searched(function: _Counted, x: Float64Array, start: Point, direction: Float64Array, scaled: bool) -> Point | None:
    """Return the step to take along a direction; None if there is none. The first steps have at most the length 1."""
    if not start.slope < 0:
        return None
    first = 1.0 if scaled else min(1.0, 1 / float(np.sqrt(direction @ direction)))

    def along(step: float) -> tuple[float, float]:
        value, gradient = function(x + step * direction)
        return value, float(gradient @ direction)

    return strong_wolfe(along, start, first)


class _Counted:
    """A function whose results are checked, counted and remembered."""

    def __init__(self, function: Objective) -> None:
        self._function = function
        self.calls = 0

    def __call__(self, x: Float64Array) -> tuple[float, Float64Array]:
        value, gradient = self._function(x)
        self.calls += 1
        found = as_numbers("lbfgs", "the gradient", gradient, np.float64).copy()  # which may be overwritten
        if found.shape != x.shape:
            hint = "the gradient has the shape of the start"
            raise ShapeMismatch(x.shape, found.shape, operation="lbfgs", hint=hint)
        self.last = float(value), found
        return self.last


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

    def add(self, step: Float64Array, change: Float64Array) -> None:
        """Remember a step, unless the curvature along it is no more than rounding."""
        curvature, size = float(step @ change), float(change @ change)
        if curvature <= np.finfo(np.float64).eps * size:
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
