"""Gradients of backward against central differences; offered as ``autograd.check_gradients``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.autograd.backward import backward
from viva_tensor.autograd.tape import Tape, Variable, new_leaves, new_tape
from viva_tensor.error import GradientMismatch, InvalidValue
from viva_tensor.kernels.arrays import Array, as_array, freeze
from viva_tensor.kernels.checks import check_number, generator

STEP = float(np.finfo(np.float64).eps ** (1 / 3))  # balances truncation and rounding of a central difference
TOLERANCE = {"float32": 2e-4, "float64": 1e-6}
FLOOR = 1e-8


def check_gradients(
    function: Callable[..., Any],
    *arrays: ArrayLike,
    rng: np.random.Generator | None = None,
    tolerance: float | None = None,
    scale: float = 1.0,
) -> None:
    r"""Compare the gradients from backward with central differences, element by element.

    Let :math:`f(x) = \sum_i s_i y_i(x)` with random weights :math:`s` of the outputs :math:`y`. The gradient of f from
    :func:`backward`, in the dtype of the arrays, is compared with

    .. math:: d_j = \frac{f(x + h e_j) - f(x - h e_j)}{2h}, \qquad h = \varepsilon^{1/3} \max(c, |x_j|),

    in float64, whose unit of rounding is :math:`\varepsilon`, with the scale c; h is the best step [1]_.

    Parameters
    ----------
    function : callable
        Called as ``function(tape, *variables)``, with variables of the dtype of the arrays and of float64, it returns a
        Traced variable of any shape. The same input must always give the same output: make generators inside.
    *arrays : array_like, float32 or float64
        Values of the variables. float64 finds smaller errors. Every element costs two calls of the function.
    rng : numpy.random.Generator, optional
        Draws the weights; by default they are always the same.
    tolerance : float, optional
        τ; by default :math:`2 \cdot 10^{-4}` for float32, which leaves room for some thousand roundings, and
        :math:`10^{-6}` for float64.
    scale : float
        c, above 0: the size of changes of the input that change the function by much. Give it where that is far from 1,
        as for inputs in units such as 1e-9 m: at the usual one wrong gradients pass there.

    Raises
    ------
    GradientMismatch
        Unless for each element :math:`|g_j - d_j| \le \tau \max_k(|g_k|, |d_j|) + 10^{-8}(c + \sum_i |s_i y_i| / c)`,
        with k over the elements of the same input; it names the input, the element and both numbers. The last term
        allows for the error of the difference itself: truncation, :math:`h^2 |f'''| / 6`, and rounding, a small
        multiple of :math:`\varepsilon |f| / h`.
    InvalidValue
        If there are no arrays, the function is not a function of its input, ``rng`` is no generator, or ``scale`` is
        not above 0.
    DtypeError
        If an array is neither float32 nor float64.

    Notes
    -----
    At a kink, such as 0 for relu, the difference lies between the slopes on both sides, and the check rightly fails.

    References
    ----------
    .. [1] W. H. Press et al., Numerical Recipes, 3rd ed., 2007, 5.7.

    Examples
    --------
    >>> from viva_tensor import autograd
    >>> autograd.check_gradients(autograd.mul, np.array([1.0, 2.0]), np.array([3.0, -4.0]))
    >>> def not_its_gradient(tape, x):
    ...     copy, tape = autograd.new_constant(tape, x.data)
    ...     return autograd.mul(tape, x, copy)
    >>> autograd.check_gradients(not_its_gradient, np.array([2.0]))
    Traceback (most recent call last):
    ...
    viva_tensor.error.GradientMismatch: check_gradients: input 0, element (0,): backward gives ...
    """
    if not arrays:
        raise InvalidValue("no arrays", operation="check_gradients", hint="give a value for each variable")
    scale = check_number("check_gradients", "scale", scale, "scale > 0", lambda number: number > 0)
    rng = generator("check_gradients", np.random.default_rng(0) if rng is None else rng)
    points = [as_array("check_gradients", array) for array in arrays]
    result, variables, tape = _recorded(function, points)
    seed = np.asarray(rng.standard_normal(result.data.shape), result.data.dtype)
    grads = backward(tape, result, seed=seed)

    exact = [point.astype(np.float64) for point in points]
    for point in exact:
        freeze(point)  # tapes hold it without a copy
    weighed, again = (seed * _recorded(function, exact)[0].data for _ in range(2))
    if not np.array_equal(weighed, again, equal_nan=True):
        raise InvalidValue(
            "the function gave two different values of one input",
            operation="check_gradients",
            hint="make its random generators inside it, from a fixed seed",
        )
    floor = FLOOR * (scale + float(np.abs(weighed).sum()) / scale)
    for number, (variable, point) in enumerate(zip(variables, exact, strict=True)):
        grad = grads[variable].astype(np.float64)
        largest = float(np.abs(grad).max(initial=0))
        share = TOLERANCE[str(variable.data.dtype)] if tolerance is None else tolerance
        for index in np.ndindex(point.shape):
            difference = _difference(function, exact, number, index, seed, STEP * scale)
            found = float(grad[index])
            near = abs(found - difference) <= share * max(largest, abs(difference)) + floor
            if not (near and np.isfinite(difference)):
                raise GradientMismatch(
                    number,
                    index,
                    found,
                    difference,
                    operation="check_gradients",
                    hint="correct the gradient rule, or move the point away from a kink, or give scale= if the "
                    f"function bends within {STEP * scale:.0e}",
                )


def _difference(
    function: Callable[..., Any],
    points: Sequence[Array],
    number: int,
    index: tuple[int, ...],
    seed: Array,
    least: float,
) -> float:
    """Return the central difference along one element, divided by the distance of the rounded points."""
    moved, results = points[number].copy(), []
    step = max(least, STEP * abs(float(moved[index])))
    ends = (float(moved[index]) + step, float(moved[index]) - step)
    for end in ends:
        moved[index] = end
        results.append(_recorded(function, [*points[:number], moved, *points[number + 1 :]])[0].data)
    with np.errstate(invalid="ignore"):  # ∞ - ∞ is NaN, which no gradient equals
        return float((seed * (results[0] - results[1])).sum()) / (ends[0] - ends[1])


def _recorded(function: Callable[..., Any], points: Sequence[Array]) -> tuple[Variable, tuple[Variable, ...], Tape]:
    variables, tape = new_leaves(new_tape(), points)
    traced = function(tape, *variables)
    if not (isinstance(traced, tuple) and len(traced) == 2 and isinstance(traced[0], Variable)):
        raise InvalidValue(
            f"the function gave {type(traced).__name__}, wanted a traced variable",
            operation="check_gradients",
            hint="return what the last operation returned, variable and tape",
        )
    return traced[0], variables, traced[1]
