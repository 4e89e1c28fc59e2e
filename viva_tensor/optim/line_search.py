"""A search along a line for a step that decreases a function enough and leaves little slope."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Point", "strong_wolfe"]

DECREASE = 1e-3  # of what the slope at 0 promises
SLOPE = 0.9  # of that at 0, which may be left
PRECISION = 0.1  # the width of an interval, relative to its end, from which it is not divided further
WIDEN = 4.0
SHRINK = 0.66
BACK = 0.1  # from where the function is not finite


class Point(NamedTuple):
    """A step along the line, with the function's value and slope there."""

    step: float
    value: float
    slope: float


def strong_wolfe(
    function: Callable[[float], tuple[float, float]],
    start: Point,
    step: float,
    *,
    longest: float = 1e10,
    most: int = 20,
) -> Point | None:
    r"""Return a step t > 0 that fulfils the strong Wolfe conditions, the last one tried; None if there is none.

    .. math:: f(t) \le f(0) + 10^{-3} t f'(0), \quad |f'(t)| \le 0.9 |f'(0)|

    Where rounding or the longest step leaves nothing to try, the last step counts if it decreases the value. The
    intervals, trial steps and safeguards are those of [1]_, so that the steps are those of SciPy's L-BFGS-B.

    Parameters
    ----------
    function : callable
        Takes a step and returns the value and the slope there.
    start : Point
        At step 0, with a negative slope.
    step : float
        The first to try.
    longest : float
        The longest to try.
    most : int
        The most evaluations.

    References
    ----------
    .. [1] J. J. Moré and D. J. Thuente, Line search algorithms with guaranteed sufficient decrease, ACM Transactions
       on Mathematical Software 20(3), 1994.

    Examples
    --------
    >>> strong_wolfe(lambda t: ((t - 3) ** 2, 2 * (t - 3)), Point(0.0, 9.0, -6.0), step=0.1).step
    0.5
    """
    promised = DECREASE * start.slope
    best, other, bracketed, lowering = start, start, False, True  # lowering: no step has yet decreased enough
    low, high = 0.0, step + WIDEN * step
    width, width_before = longest, 2 * longest
    for _ in range(most):
        trial = Point(step, *function(step))
        if not (math.isfinite(trial.value) and math.isfinite(trial.slope)):
            step = best.step + BACK * (step - best.step)
            continue
        enough = start.value + step * promised
        if lowering and trial.value <= enough and trial.slope >= 0:
            lowering = False
        if trial.value <= enough and abs(trial.slope) <= -SLOPE * start.slope:
            return trial
        if _stuck(trial, enough, promised, (low, high), bracketed, longest):
            return trial if trial.value < start.value else None
        if lowering and enough < trial.value <= best.value:  # look at the function less what is promised
            points = [_less(point, promised) for point in (best, other, trial)]
            first, second, step, bracketed = _next(points[0], points[1], points[2], bracketed, low, high)
            best, other = _less(first, -promised), _less(second, -promised)
        else:
            best, other, step, bracketed = _next(best, other, trial, bracketed, low, high)
        if bracketed:
            if abs(other.step - best.step) >= SHRINK * width_before:
                step = best.step + (other.step - best.step) / 2
            width_before, width = width, abs(other.step - best.step)
            low, high = sorted((best.step, other.step))
        else:
            low, high = step + 1.1 * (step - best.step), step + WIDEN * (step - best.step)
        step = min(max(step, 0.0), longest)
        if bracketed and (step <= low or step >= high or high - low <= PRECISION * high):
            step = best.step
    return None


def _stuck(
    trial: Point, enough: float, promised: float, interval: tuple[float, float], bracketed: bool, longest: float
) -> bool:
    """Return whether rounding or the longest step leaves nothing to try."""
    low, high = interval
    inside = not bracketed or (low < trial.step < high and high - low > PRECISION * high)
    at_the_end = trial.step == longest and trial.value <= enough and trial.slope <= promised
    return not inside or at_the_end


def _less(point: Point, slope: float) -> Point:
    """Return a point of the function less a line through the origin."""
    return Point(point.step, point.value - point.step * slope, point.slope - slope)


def _cubic(a: Point, b: Point) -> tuple[float, float]:
    """Return θ and γ of the cubic through two points with their slopes; γ² is 0 where rounding makes it negative."""
    theta = 3 * (a.value - b.value) / (b.step - a.step) + a.slope + b.slope
    scale = max(abs(theta), abs(a.slope), abs(b.slope))
    inside = (theta / scale) ** 2 - (a.slope / scale) * (b.slope / scale)
    return theta, scale * math.sqrt(max(0.0, inside))


def _next(
    best: Point, other: Point, trial: Point, bracketed: bool, low: float, high: float
) -> tuple[Point, Point, float, bool]:
    """Return the ends of the next interval, the next step, and whether a minimum is bracketed (section 4 of [1]_)."""
    away = trial.step - best.step
    opposite = trial.slope * math.copysign(1, best.slope) < 0
    if trial.value > best.value:  # case 1: a minimum lies between
        theta, gamma = _cubic(best, trial)
        gamma = math.copysign(gamma, away)
        ratio = ((gamma - best.slope) + theta) / (((gamma - best.slope) + gamma) + trial.slope)
        cubic = best.step + ratio * away
        parabola = best.slope / ((best.value - trial.value) / away + best.slope) / 2
        quadratic = best.step + parabola * away
        nearer = abs(cubic - best.step) < abs(quadratic - best.step)
        step = cubic if nearer else cubic + (quadratic - cubic) / 2
        return best, trial, step, True
    if opposite:  # case 2: the slope has changed its sign
        theta, gamma = _cubic(best, trial)
        gamma = math.copysign(gamma, -away)
        ratio = ((gamma - trial.slope) + theta) / (((gamma - trial.slope) + gamma) + best.slope)
        cubic = trial.step - ratio * away
        secant = trial.step - trial.slope / (trial.slope - best.slope) * away
        return trial, best, max(cubic, secant, key=lambda one: abs(one - trial.step)), True
    if abs(trial.slope) < abs(best.slope):  # case 3: the slope becomes less
        step = _flatter(best, trial, away, bracketed, low, high)
        if bracketed:
            end = trial.step + SHRINK * (other.step - trial.step)
            step = min(end, step) if trial.step > best.step else max(end, step)
        else:
            step = min(max(step, low), high)
        return trial, other, step, bracketed
    if bracketed:  # case 4: it does not
        theta, gamma = _cubic(trial, other)
        gamma = math.copysign(gamma, other.step - trial.step)
        ratio = ((gamma - trial.slope) + theta) / (((gamma - trial.slope) + gamma) + other.slope)
        return trial, other, trial.step + ratio * (other.step - trial.step), bracketed
    return trial, other, high if trial.step > best.step else low, bracketed


def _flatter(best: Point, trial: Point, away: float, bracketed: bool, low: float, high: float) -> float:
    """Return the step of case 3: of a cubic, if it has a minimum beyond the trial, or of the secant."""
    theta, gamma = _cubic(best, trial)
    gamma = math.copysign(gamma, -away)
    ratio = ((gamma - trial.slope) + theta) / ((gamma + (best.slope - trial.slope)) + gamma)
    end = high if trial.step > best.step else low
    cubic = trial.step - ratio * away if ratio < 0 and gamma else end
    secant = trial.step - trial.slope / (trial.slope - best.slope) * away
    choose = min if bracketed else max
    return choose(cubic, secant, key=lambda one: abs(one - trial.step))
