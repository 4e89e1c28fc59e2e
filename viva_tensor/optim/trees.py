"""Parameters in any tree of tuples, NamedTuples, lists and dicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from viva_tensor.autograd import Variable
from viva_tensor.error import InvalidValue


def leaves(params: Any) -> list[Variable]:
    """Return the variables in a tree of tuples, NamedTuples, lists and dicts, in order, each once.

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
    """Return the same tree with each variable replaced by ``new(variable)``.

    Examples
    --------
    >>> from viva_tensor.autograd import new_tape, new_variable
    >>> a, tape = new_variable(new_tape(), 1.0)
    >>> replaced({"first": [a]}, lambda variable: float(variable.data))
    {'first': [1.0]}
    """
    if isinstance(params, Variable):
        return new(params)
    if isinstance(params, tuple):
        fields = [replaced(one, new) for one in params]
        return type(params)(*fields) if hasattr(params, "_fields") else tuple(fields)
    if isinstance(params, list):
        return [replaced(one, new) for one in params]
    if isinstance(params, dict):
        return {key: replaced(one, new) for key, one in params.items()}
    raise InvalidValue(
        f"found {type(params).__name__} among the parameters, wanted variables",
        operation="optim",
        hint="nest them in tuples, NamedTuples, lists or dicts",
    )
