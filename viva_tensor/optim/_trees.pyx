"""Walks through trees of tuples, NamedTuples, lists and dicts, at each step of an optimiser."""

from copy import copy

from viva_tensor.autograd import Variable
from viva_tensor.error import InvalidValue


cdef enum:
    DEEPEST = 500  # trees in trees, which the usual stack of a thread holds


cdef int collect(params, dict found, int depth) except -1:
    if isinstance(params, Variable):
        found[params] = params
        return 0
    if depth > DEEPEST:
        raise too_deep()
    if isinstance(params, (tuple, list)):
        for one in params:
            collect(one, found, depth + 1)
    elif isinstance(params, dict):
        for one in params.values():
            collect(one, found, depth + 1)
    else:
        raise stranger(params)
    return 0


def leaves(params):
    """Return the variables in a tree, in order, each once."""
    cdef dict found = {}
    collect(params, found, 0)
    return list(found)


def replaced(params, new):
    """Return the same tree, of the same types, with each variable replaced by ``new(variable)``."""
    return rebuilt(params, new, 0)


cdef object rebuilt(params, new, int depth):
    if isinstance(params, Variable):
        return new(params)
    if depth > DEEPEST:
        raise too_deep()
    if isinstance(params, (tuple, list)):
        fields = [rebuilt(one, new, depth + 1) for one in params]
        if type(params) is list:
            return fields
        if isinstance(params, list):
            made = copy(params)
            made[:] = fields
            return made
        if hasattr(params, "_fields"):
            return type(params)(*fields)
        return tuple(fields) if type(params) is tuple else tuple.__new__(type(params), fields)
    if isinstance(params, dict):
        made = {key: rebuilt(one, new, depth + 1) for key, one in params.items()}
        if type(params) is dict:
            return made
        fields = copy(params)
        fields.update(made)
        return fields
    raise stranger(params)


cdef object too_deep():
    return InvalidValue(
        f"trees of parameters lie more than {DEEPEST} deep in each other",
        operation="optim",
        hint="does one contain itself?",
    )


cdef object stranger(params):
    return InvalidValue(
        f"found {type(params).__name__} among the parameters, wanted variables",
        operation="optim",
        hint="nest them in tuples, NamedTuples, lists or dicts",
    )
