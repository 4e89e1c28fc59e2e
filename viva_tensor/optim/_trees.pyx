"""Walks through trees of tuples, NamedTuples, lists and dicts, at each step of an optimiser."""

from viva_tensor.autograd import Variable
from viva_tensor.error import InvalidValue


cdef int collect(params, dict found) except -1:
    if isinstance(params, Variable):
        found[params] = params
    elif isinstance(params, (tuple, list)):
        for one in params:
            collect(one, found)
    elif isinstance(params, dict):
        for one in params.values():
            collect(one, found)
    else:
        raise stranger(params)
    return 0


def leaves(params):
    """Return the variables in a tree, in order, each once."""
    cdef dict found = {}
    collect(params, found)
    return list(found)


cpdef replaced(params, new):
    """Return the same tree with each variable replaced by ``new(variable)``."""
    if isinstance(params, Variable):
        return new(params)
    if isinstance(params, (tuple, list)):
        fields = [replaced(one, new) for one in params]
        if isinstance(params, list):
            return fields
        return type(params)(*fields) if hasattr(params, "_fields") else tuple(fields)
    if isinstance(params, dict):
        return {key: replaced(one, new) for key, one in params.items()}
    raise stranger(params)


cdef object stranger(params):
    return InvalidValue(
        f"found {type(params).__name__} among the parameters, wanted variables",
        operation="optim",
        hint="nest them in tuples, NamedTuples, lists or dicts",
    )
