"""Optimisers as records, with pure functions over any nesting of variables.

>>> from viva_tensor import autograd
>>> w, tape = autograd.new_variable(autograd.new_tape(), 3.0)
>>> loss, tape = autograd.mul(tape, w, w)
>>> sgd = SGD(lr=0.25)
>>> (w, state), tape = update(autograd.new_tape(), sgd, init(sgd, w), w, autograd.backward(tape, loss))
>>> float(w.data)
1.5
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from viva_tensor import kernels, operations
from viva_tensor.autograd import Gradients, Tape, Traced, Variable
from viva_tensor.error import InvalidValue
from viva_tensor.kernels._arrays import freeze

__all__ = ["SGD", "SGDState", "init", "leaves", "replaced", "update"]

Array = np.ndarray[Any, np.dtype[Any]]
P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class SGD:
    r"""Stochastic gradient descent: :math:`v \leftarrow \mu v + g`, :math:`w \leftarrow w - \eta v`.

    Parameters
    ----------
    lr : float
        η, above 0.
    momentum : float
        μ, from 0 up to but not including 1. With 0 nothing is kept between steps.

    Raises
    ------
    InvalidValue
        If a number is out of its range.

    References
    ----------
    .. [1] H. Robbins and S. Monro, A stochastic approximation method, Annals of Mathematical Statistics 22(3), 1951.
    .. [2] I. Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013; here, as
       in PyTorch, the learning rate multiplies v instead of g.

    Examples
    --------
    >>> SGD(lr=0.1)
    SGD(lr=0.1, momentum=0.0)
    """

    lr: float = 0.01
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise InvalidValue(f"lr={self.lr}, wanted a number above 0", operation="SGD", mend="0.01 is a usual start")
        if not 0 <= self.momentum < 1:
            raise InvalidValue(f"momentum={self.momentum}, wanted 0 ≤ momentum < 1", operation="SGD")


class SGDState(NamedTuple):
    """A velocity for each parameter in the order of :func:`leaves`; None before the first step or without momentum."""

    velocity: tuple[Array | None, ...]


def init(optimizer: SGD, params: Any) -> SGDState:
    """The state before the first step.

    Parameters
    ----------
    optimizer : SGD
    params : Variable, or any nesting of tuples, NamedTuples, lists and dicts of them

    Returns
    -------
    SGDState

    Examples
    --------
    >>> from viva_tensor.autograd import new_tape, new_variable
    >>> w, tape = new_variable(new_tape(), [1.0])
    >>> init(SGD(), {"w": w})
    SGDState(velocity=(None,))
    """
    return SGDState((None,) * len(leaves(params)))


def update(
    tape: Tape, optimizer: SGD, state: SGDState, params: P, grads: Mapping[int, Array]
) -> Traced[tuple[P, SGDState]]:
    """Take one step. Nothing is changed: the new parameters are new variables on the given tape.

    Parameters
    ----------
    tape : Tape
        Where the new parameters are recorded; usually ``autograd.new_tape()``, which lets go of the old step.
    optimizer : SGD
    state : SGDState
    params : Variable, or any nesting of tuples, NamedTuples, lists and dicts of them
    grads : Gradients
        From :func:`viva_tensor.autograd.backward` on the tape of these parameters.

    Returns
    -------
    Traced of (params, state)

    Raises
    ------
    ForeignVariable, NoGradient
        If the gradients are not those of these parameters.
    InvalidValue, ShapeMismatch
        If the state is that of other parameters.

    Examples
    --------
    >>> from viva_tensor import autograd
    >>> w, tape = autograd.new_variable(autograd.new_tape(), [1.0, 2.0])
    >>> loss, tape = autograd.sum(tape, w)
    >>> sgd = SGD(lr=0.5)
    >>> (params, state), tape = update(
    ...     autograd.new_tape(), sgd, init(sgd, [w]), [w], autograd.backward(tape, loss))
    >>> params[0].data
    array([0.5, 1.5], dtype=float32)
    """
    known = len(state.velocity)
    new: dict[Variable, Variable] = {}
    velocities: list[Array | None] = []
    by_variable = isinstance(grads, Gradients)

    def stepped(variable: Variable) -> Variable:
        nonlocal tape
        if variable not in new:
            place = len(new)
            grad = grads[variable if by_variable else variable.id]  # type: ignore[index]
            velocity = state.velocity[place] if place < known else None
            data, velocity = _step(optimizer, variable.data, grad, velocity)
            velocities.append(velocity)
            new[variable], tape = tape._record(operations.VARIABLE, data, tracked=True)
        return new[variable]

    stepped_params = replaced(params, stepped)
    if len(new) != known:
        raise InvalidValue(
            f"the state is for {known} parameters, got {len(new)}",
            operation="update",
            mend="use the state that came with these parameters, or init",
        )
    return Traced((stepped_params, SGDState(tuple(velocities))), tape)


def _step(optimizer: SGD, w: Array, grad: Array, velocity: Array | None) -> tuple[Array, Array | None]:
    """New weights and velocity, read-only. The first velocity is the gradient itself."""
    if optimizer.momentum and velocity is None:
        data, _ = kernels.sgd(w, grad, optimizer.lr)
        velocity = grad.copy() if grad.flags.writeable else grad
    else:
        data, velocity = kernels.sgd(w, grad, optimizer.lr, optimizer.momentum, velocity)
    freeze(data)
    if velocity is not None:
        freeze(velocity)
    return data, velocity


def leaves(params: Any) -> list[Variable]:
    """The variables in a nesting of tuples, NamedTuples, lists and dicts, in order, each once.

    Examples
    --------
    >>> from viva_tensor.autograd import new_tape, new_variable
    >>> a, tape = new_variable(new_tape(), 1.0)
    >>> b, tape = new_variable(tape, 2.0)
    >>> [leaf.id for leaf in leaves({"first": (a, b), "tied": a})]
    [0, 1]
    """
    found: dict[Variable, Variable] = {}
    replaced(params, lambda variable: found.setdefault(variable, variable))
    return list(found)


def replaced(params: Any, new: Callable[[Variable], Variable]) -> Any:
    """The same nesting with each variable replaced by ``new(variable)``."""
    if isinstance(params, Variable):
        return new(params)
    if isinstance(params, tuple):
        parts = [replaced(part, new) for part in params]
        return type(params)(*parts) if hasattr(params, "_fields") else tuple(parts)
    if isinstance(params, list):
        return [replaced(part, new) for part in params]
    if isinstance(params, dict):
        return {key: replaced(part, new) for key, part in params.items()}
    raise InvalidValue(
        f"found {type(params).__name__} among the parameters, wanted variables",
        operation="optim",
        mend="nest them in tuples, NamedTuples, lists or dicts",
    )
