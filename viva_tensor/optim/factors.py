"""Factors of an optimiser's rate and decay, which give some parameters steps of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from viva_tensor.autograd import Variable
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.checks import at_least_0
from viva_tensor.optim.trees import leaves

__all__ = ["Factors", "factors_of"]


@dataclass(frozen=True, slots=True)
class Factors:
    """Factors of the learning rate and the weight decay for some parameters.

    Parameters
    ----------
    lr : float
        At least 0; with 0 a parameter and its moments stay as they are, whatever its gradient.
    weight_decay : float
        At least 0.

    Raises
    ------
    InvalidValue
        If a number is out of its range.

    Examples
    --------
    >>> Factors(lr=0.1)
    Factors(lr=0.1, weight_decay=1.0)
    """

    lr: float = 1.0
    weight_decay: float = 1.0

    def __post_init__(self) -> None:
        at_least_0("Factors", "lr", self.lr)
        at_least_0("Factors", "weight_decay", self.weight_decay)


def factors_of(operation: str, factors: Any, params: Any) -> tuple[tuple[float, float], ...]:
    """Return the factors of rate and decay of each leaf of a tree of parameters, in the order of :func:`leaves`.

    Parameters
    ----------
    operation : str
        That errors name.
    factors : Factors, None, or a tree of them
        Like the tree of parameters; a record or None, for 1, may stand for a whole branch.
    params : tree of Variable

    Raises
    ------
    InvalidValue
        If the trees do not fit together, or give a shared parameter different factors.

    Examples
    --------
    >>> from viva_tensor.autograd import new_tape, new_variable
    >>> a, tape = new_variable(new_tape(), 1.0)
    >>> b, tape = new_variable(tape, 2.0)
    >>> factors_of("update", {"b": Factors(lr=0.1), "a": None}, {"a": [a], "b": (b, b)})
    ((1.0, 1.0), (0.1, 1.0))
    """
    if factors is None:
        return ()
    found: dict[Variable, Factors] = {}
    for variable, one in _paired(operation, factors, params):
        if found.setdefault(variable, one) != one:
            hint = "give a shared parameter the same factors everywhere"
            raise InvalidValue(f"{found[variable]} and {one} for one parameter", operation=operation, hint=hint)
    each = (found[variable] for variable in leaves(params))
    return tuple((float(one.lr), float(one.weight_decay)) for one in each)


def _paired(operation: str, factors: Any, params: Any) -> Iterator[tuple[Variable, Factors]]:
    """Yield each variable of a tree with its factors."""
    if factors is None or isinstance(factors, Factors):
        for variable in leaves(params):
            yield variable, factors or Factors()
    elif isinstance(factors, dict) and isinstance(params, dict) and factors.keys() == params.keys():
        for key, branch in params.items():
            yield from _paired(operation, factors[key], branch)
    elif isinstance(factors, (tuple, list)) and isinstance(params, (tuple, list)) and len(factors) == len(params):
        for one, branch in zip(factors, params, strict=True):
            yield from _paired(operation, one, branch)
    else:
        got = f"factors of type {type(factors).__name__} for parameters of type {type(params).__name__}"
        if isinstance(factors, dict) and isinstance(params, dict):
            others = ", ".join(sorted(map(repr, factors.keys() ^ params.keys())))
            got = f"factors and parameters differ in the keys {others}"
        elif isinstance(factors, (tuple, list)) and isinstance(params, (tuple, list)):
            got = f"{len(factors)} factors for {len(params)} parameters"
        hint = "give a tree like that of the parameters, with Factors or None in place of whole branches"
        raise InvalidValue(got, operation=operation, hint=hint)
