"""Activation functions on the tape, and the table of names that :func:`viva_tensor.nn.mlp_forward` knows."""

from __future__ import annotations

from collections.abc import Callable

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable, operations, relu
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.checks import real

__all__ = [
    "ACTIVATIONS",
    "gelu",
    "identity",
    "leaky_relu",
    "log_softmax",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]


def leaky_relu(tape: Tape, x: Variable, slope: float = 0.01) -> Traced[Variable]:
    """Record x where x > 0, else slope · x; see :func:`viva_tensor.kernels.leaky_relu`.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [-1.0, 2.0])
    >>> leaky_relu(tape, x, 0.5).value.data
    array([-0.5,  2. ], dtype=float32)
    """
    return autograd.record(tape, operations.LEAKY_RELU, x, slope=real("leaky_relu", "slope", slope))


def gelu(tape: Tape, x: Variable, approximate: str = "none") -> Traced[Variable]:
    """Record x · Φ(x), or its approximation by "tanh"; see :func:`viva_tensor.kernels.gelu`.

    Raises
    ------
    InvalidValue
        If there is no such approximation.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [0.0, 1.0])
    >>> gelu(tape, x).value.data.round(4)
    array([0.    , 0.8413], dtype=float32)
    """
    kinds = {"none": operations.GELU, "tanh": operations.GELU_TANH}
    if not isinstance(approximate, str) or approximate not in kinds:
        raise InvalidValue(f"approximate={approximate!r}", operation="gelu", hint=f"choose one of {', '.join(kinds)}")
    return autograd.record(tape, kinds[approximate], x)


def sigmoid(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record 1 / (1 + e⁻ˣ); see :func:`viva_tensor.kernels.sigmoid`.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [0.0])
    >>> sigmoid(tape, x).value.data
    array([0.5], dtype=float32)
    """
    return autograd.record(tape, operations.SIGMOID, x)


def tanh(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record the hyperbolic tangent; see :func:`viva_tensor.kernels.tanh`.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [0.0, 0.5])
    >>> tanh(tape, x).value.data.round(4)
    array([0.    , 0.4621], dtype=float32)
    """
    return autograd.record(tape, operations.TANH, x)


def softplus(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record ln(1 + eˣ); see :func:`viva_tensor.kernels.softplus`.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [0.0])
    >>> softplus(tape, x).value.data.round(4)
    array([0.6931], dtype=float32)
    """
    return autograd.record(tape, operations.SOFTPLUS, x)


def silu(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record x · sigmoid(x), also called Swish; see :func:`viva_tensor.kernels.silu`.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [0.0, 1.0])
    >>> silu(tape, x).value.data.round(4)
    array([0.    , 0.7311], dtype=float32)
    """
    return autograd.record(tape, operations.SILU, x)


def softmax(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record the softmax along the last axis; see :func:`viva_tensor.kernels.softmax`.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [[0.0, 0.0]])
    >>> softmax(tape, x).value.data
    array([[0.5, 0.5]], dtype=float32)
    """
    return autograd.record(tape, operations.SOFTMAX, x)


def log_softmax(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record the logarithm of the softmax along the last axis; see :func:`viva_tensor.kernels.log_softmax`.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [[0.0, 0.0]])
    >>> log_softmax(tape, x).value.data.round(4)
    array([[-0.6931, -0.6931]], dtype=float32)
    """
    return autograd.record(tape, operations.LOG_SOFTMAX, x)


def identity(tape: Tape, x: Variable) -> Traced[Variable]:
    """Return x itself.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [1.0])
    >>> identity(tape, x).value is x
    True
    """
    return Traced(x, tape)


ACTIVATIONS: dict[str, Callable[[Tape, Variable], Traced[Variable]]] = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "gelu": gelu,
    "silu": silu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "softplus": softplus,
    "identity": identity,
}


def activation_of(operation: str, name: str) -> Callable[[Tape, Variable], Traced[Variable]]:
    """Return the activation of that name.

    Raises
    ------
    InvalidValue
        If there is none.

    Examples
    --------
    >>> activation_of("mlp_forward", "relu") is relu
    True
    """
    found = ACTIVATIONS.get(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidValue(f"activation={name!r}", operation=operation, hint=f"choose one of {', '.join(ACTIVATIONS)}")
    return found
