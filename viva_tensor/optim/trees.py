"""Parameters in any tree of tuples, NamedTuples, lists and dicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from viva_tensor.autograd import Variable
from viva_tensor.optim import _trees


def leaves(params: Any) -> list[Variable]:
    """Return the variables in a tree of tuples, NamedTuples, lists and dicts, in order, each once.

    Raises
    ------
    InvalidValue
        If something else is among them, or trees lie more than 500 deep in each other, as in one that contains itself.

    Examples
    --------
    >>> from viva_tensor.autograd import new_tape, new_variable
    >>> a, tape = new_variable(new_tape(), 1.0)
    >>> b, tape = new_variable(tape, 2.0)
    >>> [leaf.id for leaf in leaves({"first": (a, b), "tied": a})]
    [0, 1]
    """
    return _trees.leaves(params)


def replaced(params: Any, new: Callable[[Variable], Variable]) -> Any:
    """Return the same tree, of the same types, with each variable replaced by ``new(variable)``.

    Examples
    --------
    >>> from viva_tensor.autograd import new_tape, new_variable
    >>> a, tape = new_variable(new_tape(), 1.0)
    >>> replaced({"first": [a]}, lambda variable: float(variable.data))
    {'first': [1.0]}
    """
    return _trees.replaced(params, new)
