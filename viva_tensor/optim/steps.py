"""Steps of an optimiser as pure functions, from old parameters and state to new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from viva_tensor import kernels
from viva_tensor.autograd import Gradients, Tape, Traced, Variable
from viva_tensor.autograd.tape import new_variables, no_tape
from viva_tensor.error import InvalidValue, NoGradient
from viva_tensor.kernels.arrays import Array, freeze
from viva_tensor.kernels.checks import is_step_count, positive
from viva_tensor.kernels.updates import clipping, squared_norm, updated
from viva_tensor.optim.factors import factors_of
from viva_tensor.optim.optimizers import Optimizer, check_optimizer
from viva_tensor.optim.trees import leaves, replaced

P = TypeVar("P")


class State(NamedTuple):
    """The state of an optimiser between steps: their number, its moments, and the name of its class.

    ``moments`` holds for each kind of moment (SGD: v, if it has momentum; Adam: m, s; RMSprop: s, and v with momentum;
    Lion: m) a tuple of arrays, one for each parameter in the order of :func:`leaves`. ``optimizer`` is the name of the
    class, or None in a state made by hand, which suits every optimiser with such moments.
    """

    steps: int
    moments: tuple[tuple[Array, ...], ...]
    optimizer: str | None = None


def init(optimizer: Optimizer, params: Any) -> State:
    """Return the state before the first step: moments of zeros.

    Parameters
    ----------
    optimizer : SGD, Adam, AdamW, RMSprop or Lion
    params : Variable, or any tree of tuples, NamedTuples, lists and dicts of them

    Raises
    ------
    InvalidValue
        If it is no optimiser, or if the parameters are not all variables.

    Examples
    --------
    >>> from viva_tensor.autograd import new_tape, new_variable
    >>> from viva_tensor.optim import SGD
    >>> w, tape = new_variable(new_tape(), [1.0])
    >>> init(SGD(momentum=0.9), {"w": w})
    State(steps=0, moments=((array([0.], dtype=float32),),), optimizer='SGD')
    """
    check_optimizer("init", optimizer)
    zeros = [np.zeros_like(variable.data) for variable in leaves(params)]
    for array in zeros:
        freeze(array)
    return State(0, (tuple(zeros),) * len(optimizer.slots), type(optimizer).__name__)


def update(
    tape: Tape, optimizer: Optimizer, state: State, params: P, grads: Mapping[int, Array], factors: Any = None
) -> Traced[tuple[P, State]]:
    """Take one step, and return new parameters, recorded on the given tape, and a new state; nothing is changed.

    Parameters
    ----------
    tape : Tape
        Where the new parameters are recorded; usually ``autograd.new_tape()``, so that the old step can be freed.
    optimizer : SGD, Adam, AdamW, RMSprop or Lion
    state : State
        From :func:`init` or the previous step.
    params
        As for :func:`init`.
    grads : Gradients
        From :func:`viva_tensor.autograd.backward` on the tape of these parameters.
    factors : Factors, or a tree of them, optional
        Factors of rate and decay for some parameters: a tree like ``params``, in which one record may stand for a
        whole branch.

    Raises
    ------
    ForeignVariable, NoGradient
        If the gradients are not those of these parameters.
    InvalidValue, ShapeMismatch, DtypeError
        If it is no optimiser, or if the state belongs to another optimiser or other parameters.

    Examples
    --------
    >>> from viva_tensor import autograd
    >>> from viva_tensor.optim import SGD
    >>> w, tape = autograd.new_variable(autograd.new_tape(), [1.0, 2.0])
    >>> loss, tape = autograd.sum(tape, w)
    >>> sgd = SGD(lr=0.5)
    >>> (params, state), tape = update(
    ...     autograd.new_tape(), sgd, init(sgd, [w]), [w], autograd.backward(tape, loss))
    >>> params[0].data
    array([0.5, 1.5], dtype=float32)
    """
    check_optimizer("update", optimizer)
    if not isinstance(tape, Tape):
        raise no_tape("update", tape)
    if not (isinstance(state, State) and is_step_count(state.steps) and _are_moments(state)):
        raise InvalidValue(f"got the state {state!r:.100}", operation="update", hint="use the one before, or init")
    name = type(optimizer).__name__
    if state.optimizer not in (None, name):
        raise InvalidValue(
            f"got the state of {state.optimizer}, wanted that of {name}",
            operation="update",
            hint=f"start {name} with init, or go on with {state.optimizer}",
        )
    slots, moments = optimizer.slots, state.moments
    if len(moments) != len(slots) or len({len(arrays) for arrays in moments}) > 1:
        raise _foreign_state(slots, state, params)
    variables = leaves(params)
    if moments and len(moments[0]) != len(variables):
        raise _foreign_state(slots, state, params)
    nothing = (None,) * len(variables)
    first = moments[slots.index("first")] if "first" in slots else nothing
    second = moments[slots.index("second")] if "second" in slots else nothing
    gradient: Callable[[Variable], Array] = grads.__getitem__ if isinstance(grads, Gradients) else _by_id(grads)
    arrays = [gradient(variable) for variable in variables]
    scale = 1.0 if optimizer.clip_norm is None else clipping(squared_norm(arrays), optimizer.clip_norm)
    each = factors_of("update", factors, params) or ((1.0, 1.0),) * len(variables)
    rule = optimizer.rule(state.steps)
    rule.next_step()
    made = [
        (variable.data, mean, square)
        if own[0] == 0
        else updated(name, rule, variable.data, array, mean, square, scale, own)
        for variable, array, mean, square, own in zip(variables, arrays, first, second, each, strict=True)
    ]
    weights, tape = new_variables(tape, [one[0] for one in made])
    new = dict(zip(variables, weights, strict=True))
    new_moments: Any = tuple(tuple([one[1 if slot == "first" else 2] for one in made]) for slot in slots)
    for kept in new_moments:
        for array in kept:
            freeze(array)
    return Traced((replaced(params, new.__getitem__), State(int(state.steps) + 1, new_moments, name)), tape)


def _by_id(grads: Mapping[int, Array]) -> Callable[[Variable], Array]:
    """Return the lookup of gradients in a mapping whose keys are ids only."""
    check_mapping("update", grads)

    def gradient(variable: Variable) -> Array:
        if variable.id not in grads:
            hint = "give one for each parameter, by its id"
            raise NoGradient(f"variable {variable.id} has no gradient", operation="update", hint=hint)
        return grads[variable.id]

    return gradient


def check_mapping(operation: str, grads: Any) -> None:
    """Raise unless gradients are a mapping.

    Examples
    --------
    >>> check_mapping("update", [3])
    Traceback (most recent call last):
    viva_tensor.error.InvalidValue: update: gradients of type list; give what backward returns, ...
    """
    if not isinstance(grads, Mapping):
        got = f"gradients of type {type(grads).__name__}"
        raise InvalidValue(got, operation=operation, hint="give what backward returns, or a dict of arrays by id")


def _are_moments(state: State) -> bool:
    kinds = state.moments
    whole = isinstance(kinds, (tuple, list)) and all(isinstance(arrays, (tuple, list)) for arrays in kinds)
    return whole and all(isinstance(array, np.ndarray) for arrays in kinds for array in arrays)


def _foreign_state(slots: tuple[str, ...], state: State, params: Any) -> InvalidValue:
    kept = ", ".join(str(len(arrays)) for arrays in state.moments) or "no"
    return InvalidValue(
        f"the state has moments for {kept} parameters, wanted {len(slots)} for each of {len(leaves(params))}",
        operation="update",
        hint="use the state that came with this optimiser and these parameters, or init",
    )


def clip_by_norm(grads: Mapping[int, Array], max_norm: float) -> Mapping[int, Array]:
    r"""Scale gradients [1]_ by :math:`\min(1, c / (\lVert g \rVert + 10^{-6}))`, with the 2-norm over all of them.

    Parameters
    ----------
    grads : Gradients, or another mapping to arrays
    max_norm : float
        c, above 0.

    Returns
    -------
    Gradients, or a dict
        New arrays. The norm is summed in the order of :func:`viva_tensor.kernels.norm`, over the gradients in their
        order. A single NaN makes all of them NaN.

    Raises
    ------
    InvalidValue
        If ``max_norm`` is not a number above 0, or the gradients are not a mapping.
    DtypeError
        If a dtype is neither float32 nor float64.

    References
    ----------
    .. [1] R. Pascanu, T. Mikolov and Y. Bengio, On the difficulty of training recurrent neural networks, ICML 2013; the
       10⁻⁶ is PyTorch's.

    Examples
    --------
    >>> clip_by_norm({0: np.array([3.0]), 1: np.array([4.0])}, 0.5)
    {0: array([0.29999994]), 1: array([0.39999992])}
    """
    positive("clip_by_norm", "max_norm", max_norm)
    check_mapping("clip_by_norm", grads)
    arrays = dict(grads)
    factor = clipping(squared_norm(arrays.values()), float(max_norm))
    scaled = {key: kernels.scale(array, factor) for key, array in arrays.items()}
    return Gradients(grads._variables, scaled) if isinstance(grads, Gradients) else scaled
