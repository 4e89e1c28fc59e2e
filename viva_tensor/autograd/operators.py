"""Python's operators on variables and layers: refused, each with the function to call.

An operation takes a tape and returns the next, for which an operator has no room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from viva_tensor.error import NoOperator

C = TypeVar("C", bound=type)
WITHOUT_GRADIENT = "it has no derivative; compute it with NumPy from .data, the values as they were recorded"
COMPARISONS = {"lt": ("<", "less"), "le": ("<=", "less_equal"), "gt": (">", "greater"), "ge": (">=", "greater_equal")}
Refused = dict[str, tuple[str, str]]  # {name of a method: (operator, hint)}


ARITHMETIC: Refused = {
    f"__{side}{name}__": (symbol, hint)
    for name, symbol, hint in (
        ("add", "+", "call autograd.add(tape, a, b)"),
        ("sub", "-", "call autograd.sub(tape, a, b)"),
        ("mul", "*", "call autograd.mul(tape, a, b); one of them may be a number"),
        ("truediv", "/", "call autograd.div(tape, a, b)"),
        ("matmul", "@", "call autograd.matmul(tape, a, b)"),
        ("pow", "**", "call autograd.pow(tape, a, 2.0)"),
        ("floordiv", "//", WITHOUT_GRADIENT),
        ("mod", "%", WITHOUT_GRADIENT),
        ("divmod", "divmod()", WITHOUT_GRADIENT),
        ("and", "&", WITHOUT_GRADIENT),
        ("or", "|", WITHOUT_GRADIENT),
        ("xor", "^", WITHOUT_GRADIENT),
        ("lshift", "<<", WITHOUT_GRADIENT),
        ("rshift", ">>", WITHOUT_GRADIENT),
    )
    for side in ("", "r")
} | {
    "__invert__": ("~", WITHOUT_GRADIENT),
    "__neg__": ("-", "call autograd.mul(tape, a, -1.0)"),
    "__pos__": ("+", "the variable itself is the same"),
    "__abs__": ("abs()", "call autograd.abs(tape, a)"),
}
ORDER: Refused = {
    f"__{name}__": (symbol, f"call autograd.{function}(tape, a, b); of a.data a program keeps the recorded values")
    for name, (symbol, function) in COMPARISONS.items()
}
INDEXING: Refused = {
    "__getitem__": ("[]", "call autograd.slice(tape, a, index), or index the values: a.data"),
    "__setitem__": ("[] =", "variables do not change; record a new one"),
    "__delitem__": ("del []", "variables do not change; record a new one"),
    "__iter__": ("unpacking", "its fields are a.id and a.data; autograd.slice(tape, a, index) makes views"),
    "__len__": ("len()", "rows are counted by a.shape[0]"),
    "__contains__": ("in", "look among the values: a.data"),
}
VALUES: Refused = {
    "__bool__": ("bool()", "take the value, bool(a.data), or ask whether it is None"),
    "__float__": ("float()", "take the value: float(a.data)"),
    "__int__": ("int()", "take the value: int(a.data)"),
    "__complex__": ("complex()", "take the value: complex(a.data)"),
    "__round__": ("round()", "take the value: round(float(a.data))"),
    "__array__": ("numpy", "take the values: a.data"),
    "__array_function__": ("numpy", "call the function of this kind in autograd, or take the values: a.data"),
    "__array_ufunc__": ("numpy", "call the function of this kind in autograd, or take the values: a.data"),
}


ATTRIBUTES = {
    "T": "call autograd.transpose(tape, a)",
    "backward": "call autograd.backward(tape, a)",
    "detach": "call autograd.stop_gradient(tape, a)",
    "grad": "autograd.backward(tape, loss)[a] is its gradient",
    "item": "take the value: float(a.data)",
    "numpy": "take the values: a.data",
    "size": "count the values: a.data.size",
}
FUNCTIONS = "operations are functions that take a tape, such as autograd.sum(tape, a)"


def missing(variable: object, name: str) -> NoReturn:
    """Raise AttributeError with what takes the place of an attribute or method that a variable does not have."""
    got = f"{type(variable).__name__!r} object has no attribute {name!r}"
    raise AttributeError(f"{got}; {ATTRIBUTES.get(name, FUNCTIONS)}", name=name, obj=variable)


def refuses(*kinds: Refused) -> Callable[[C], C]:
    """Make a class's operators raise NoOperator with the function to call.

    Examples
    --------
    >>> @refuses(ARITHMETIC)
    ... class Layer(tuple):
    ...     pass
    >>> 2 * Layer()
    Traceback (most recent call last):
    viva_tensor.error.NoOperator: *: a Layer does not take this; call autograd.mul(tape, a, b); one of them may ...
    """

    def refusing(cls: C) -> C:
        for kind in kinds:
            for method, (operator, hint) in kind.items():
                setattr(cls, method, _refusal(operator, hint))
        return cls

    return refusing


def _refusal(operator: str, hint: str) -> Callable[..., NoReturn]:
    def refuse(self: object, *others: Any, **options: Any) -> NoReturn:
        raise NoOperator(f"a {type(self).__name__} does not take this", operation=operator, hint=hint)

    return refuse
