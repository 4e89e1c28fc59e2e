"""Optimiser updates: new arrays from old ones, in one pass each; and the norm of gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np

from viva_tensor.error import InvalidValue
from viva_tensor.kernels import _updates
from viva_tensor.kernels._updates import Rule as Rule
from viva_tensor.kernels._updates import clipping as clipping
from viva_tensor.kernels._updates import sum_chunks as sum_chunks
from viva_tensor.kernels.arrays import UNSUITABLE, Array, as_arrays, same_shape
from viva_tensor.kernels.checks import is_step_count
from viva_tensor.kernels.sums import chunk_squares

__all__ = ["adam", "lion", "norm", "rmsprop", "sgd"]


def sgd(
    w: Array,
    grad: Array,
    lr: float,
    momentum: float = 0.0,
    velocity: Array | None = None,
    *,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> tuple[Array, Array | None]:
    r"""Make one step of stochastic gradient descent [1]_: :math:`v' = \mu v + g`, :math:`w' = w - \eta v'`.

    Parameters
    ----------
    w, grad : ndarray, float32 or float64, of one shape and dtype
    lr, momentum : float
        η and μ.
    velocity : ndarray of the same shape, optional
        v; without it w' = w - η·g. A subnormal number counts as 0 where there is no gradient, here and in the moments
        of the others: without gradients they decay to such numbers, with which processors take far longer.
    nesterov : bool
        Step by g + μ·v' instead of v'.
    weight_decay : float
        λ: g + λ·w replaces g.

    Returns
    -------
    tuple
        The new weights, and the new velocity or None. The arguments are left unchanged.

    Raises
    ------
    ShapeMismatch, DtypeError
        If the shapes or dtypes differ.

    References
    ----------
    .. [1] B. T. Polyak, Some methods of speeding up the convergence of iteration methods, USSR Computational
       Mathematics and Mathematical Physics 4(5), 1964; in the form of Sutskever et al., ICML 2013, without its factor
       of η in v.

    Examples
    --------
    >>> import numpy as np
    >>> sgd(np.array([1.0]), np.array([0.5]), lr=0.1)
    (array([0.95]), None)
    """
    rule = Rule("descent", lr, momentum=momentum, decay=weight_decay, nesterov=nesterov)
    rule.next_step()
    return updated("sgd", rule, w, grad, velocity)[:2]


def adam(
    w: Array,
    grad: Array,
    first: Array,
    second: Array,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    *,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> tuple[Array, Array, Array]:
    r"""Make one step of Adam [1]_.

    .. math::

        m' = \beta_1 m + (1 - \beta_1) g, \quad s' = \beta_2 s + (1 - \beta_2) g^2, \quad
        w' = w - \eta \frac{m' / (1 - \beta_1^n)}{\sqrt{s' / (1 - \beta_2^n)} + \varepsilon}

    The result is the new weights and moments; other parameters and errors are as in :func:`sgd`.

    Parameters
    ----------
    first, second : ndarray of the same shape and dtype
        m and s: zeros before the first step.
    step : int
        n, the number of this step, from 1.
    lr, betas, eps : float, (float, float), float
        η, (β₁, β₂) and ε.
    decoupled : bool
        As in AdamW [2]_: weight decay starts the step from (1 - η·λ)·w instead.

    Raises
    ------
    InvalidValue
        If the step is not a whole number from 1.

    References
    ----------
    .. [1] D. P. Kingma and J. Ba, Adam: a method for stochastic optimization, ICLR 2015, arXiv:1412.6980.
    .. [2] I. Loshchilov and F. Hutter, Decoupled weight decay regularization, ICLR 2019, arXiv:1711.05101.

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(1)
    >>> w, first, second = adam(np.array([1.0]), np.array([0.5]), zero, zero, step=1, lr=0.1)
    >>> w.round(6), first.round(6), second.round(6)
    (array([0.9]), array([0.05]), array([0.00025]))
    """
    if not is_step_count(step, least=1):
        hint = "count the step under way too"
        raise InvalidValue(f"step={step!r}, wanted a whole number from 1 to 2**62 - 1", operation="adam", hint=hint)
    rule = Rule(
        "adam",
        lr,
        momentum=betas[0],
        square_momentum=betas[1],
        epsilon=eps,
        decay=weight_decay,
        decoupled=decoupled,
        steps=step - 1,
    )
    rule.next_step()
    return cast(tuple[Array, Array, Array], updated("adam", rule, w, grad, first, second))


def rmsprop(
    w: Array,
    grad: Array,
    square: Array,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    velocity: Array | None = None,
    *,
    weight_decay: float = 0.0,
) -> tuple[Array, Array, Array | None]:
    r"""Make one step of RMSprop [1]_.

    .. math::

        s' = \alpha s + (1 - \alpha) g^2, \quad d = g / (\sqrt{s'} + \varepsilon), \quad
        v' = \mu v + d, \quad w' = w - \eta v'

    Other parameters and the errors are as in :func:`sgd`.

    Parameters
    ----------
    square : ndarray of the same shape and dtype
        s: zeros before the first step.
    lr, alpha, eps, momentum : float
        η, α, ε and μ.
    velocity : ndarray of the same shape and dtype, optional
        v; without it w' = w - η·d.

    Returns
    -------
    tuple
        The new weights, the new s, and the new velocity or None.

    References
    ----------
    .. [1] T. Tieleman and G. Hinton, Lecture 6.5: RMSprop, Coursera, Neural Networks for Machine Learning, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> w, square, _ = rmsprop(np.array([1.0]), np.array([0.5]), np.zeros(1), lr=0.01)
    >>> w.round(6), square.round(6)
    (array([0.9]), array([0.0025]))
    """
    rule = Rule("rmsprop", lr, momentum=momentum, square_momentum=alpha, epsilon=eps, decay=weight_decay)
    rule.next_step()
    new_w, new_velocity, new_square = updated("rmsprop", rule, w, grad, velocity, square)
    return new_w, cast(Array, new_square), new_velocity


def lion(
    w: Array,
    grad: Array,
    first: Array,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.99),
    *,
    weight_decay: float = 0.0,
) -> tuple[Array, Array]:
    r"""Make one step of Lion [1]_.

    .. math::

        w' = (1 - \eta \lambda) w - \eta \, \mathrm{sign}(\beta_1 m + (1 - \beta_1) g), \quad
        m' = \beta_2 m + (1 - \beta_2) g

    The result is the new weights and moment; other parameters and errors are as in :func:`sgd`.

    Parameters
    ----------
    first : ndarray of the same shape and dtype
        m: zeros before the first step.
    lr, betas : float, (float, float)
        η and (β₁, β₂).

    References
    ----------
    .. [1] X. Chen et al., Symbolic discovery of optimization algorithms, NeurIPS 2023, arXiv:2302.06675.

    Examples
    --------
    >>> import numpy as np
    >>> lion(np.array([1.0]), np.array([-5.0]), np.zeros(1), lr=0.25)
    (array([1.25]), array([-0.05]))
    """
    rule = Rule("lion", lr, momentum=betas[0], square_momentum=betas[1], decay=weight_decay, decoupled=True)
    rule.next_step()
    new_w, new_first, _ = updated("lion", rule, w, grad, first)
    return cast(tuple[Array, Array], (new_w, new_first))


def updated(
    operation: str,
    rule: Rule,
    w: Array,
    grad: Array,
    first: Array | None = None,
    second: Array | None = None,
    scale: float = 1.0,
    factors: tuple[float, float] = (1.0, 1.0),
) -> tuple[Array, Array | None, Array | None]:
    """Return the new weights and moments after the current step of a rule, with scale·grad as gradient.

    ``factors`` are those of the rule's rate and decay.
    """
    try:
        return _updates.update(rule, w, grad, first, second, scale, factors)
    except UNSUITABLE:
        arrays = as_arrays(operation, w, grad, *(one for one in (first, second) if one is not None))
        for array in arrays[1:]:
            same_shape(operation, arrays[0].shape, array.shape, "weights, gradient and moments have one shape")
        w, grad, *moments = (np.ascontiguousarray(array).reshape(array.shape) for array in arrays)
        first, second = (None if one is None else moments.pop(0) for one in (first, second))
        return _updates.update(rule, w, grad, first, second, scale, factors)


def norm(arrays: Iterable[Array]) -> float:
    """Return the 2-norm of all arrays together, 0.0 of nothing, in an order of sums that depends on shapes alone.

    Parameters
    ----------
    arrays : iterable of ndarray, float32 or float64
        Of any shapes and layouts. Each is read in row-major order, in chunks of 8192 elements. The squares of a chunk
        are added in the dtype of the array; the chunks are added in order in float64.

    Raises
    ------
    DtypeError
        If a dtype is neither float32 nor float64.

    Examples
    --------
    >>> import numpy as np
    >>> norm([np.array([3.0]), np.array([[0.0], [4.0]])])
    5.0
    """
    return float(np.sqrt(squared_norm(arrays)))


def squared_norm(arrays: Iterable[Array]) -> float:
    """Return the square of :func:`norm`.

    Examples
    --------
    >>> import numpy as np
    >>> squared_norm([np.array([3.0]), np.array([4.0])])
    25.0
    """
    total = 0.0
    for array in arrays:
        for squares in chunk_squares("norm", array).tolist():  # of all arrays, one after another in float64
            total += squares
    return total
