"""Activation functions on the tape, and the table of names that :func:`viva_tensor.nn.mlp_forward` knows."""

from __future__ import annotations

from collections.abc import Callable

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable, operations, relu
from viva_tensor.autograd.tape import node_of
from viva_tensor.error import InvalidShape, InvalidValue
from viva_tensor.kernels.checks import real

__all__ = [
    "ACTIVATIONS",
    "elu",
    "gelu",
    "glu",
    "hardtanh",
    "identity",
    "leaky_relu",
    "log_softmax",
    "mish",
    "prelu",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softsign",
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


def prelu(tape: Tape, x: Variable, slope: Variable) -> Traced[Variable]:
    r"""Record x where x > 0, else slope · x, with a slope that is learned [1]_.

    The gradient at NaN is that of slope · x.

    Parameters
    ----------
    tape : Tape
    x : Variable
    slope : Variable
        One number, or one for each feature along the last axis; usually begun at 0.25.

    References
    ----------
    .. [1] K. He et al., Delving deep into rectifiers, ICCV 2015, arXiv:1502.01852.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [-2.0, 2.0])
    >>> slope, tape = autograd.new_variable(tape, 0.25)
    >>> prelu(tape, x, slope).value.data
    array([-0.5,  2. ], dtype=float32)
    """
    below, tape = autograd.clip(tape, x, high=0.0)
    below, tape = autograd.mul(tape, below, slope)
    positive, tape = autograd.greater(tape, x, 0.0)
    above, tape = autograd.record(tape, operations.CHOSEN, x, positive)  # relu would add its slope of 1 at NaN
    return autograd.add(tape, above, below)


def elu(tape: Tape, x: Variable, alpha: float = 1.0) -> Traced[Variable]:
    """Record x where x > 0, else α(eˣ - 1); see :func:`viva_tensor.kernels.elu`.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [-1.0, 2.0])
    >>> elu(tape, x).value.data.round(4)
    array([-0.6321,  2.    ], dtype=float32)
    """
    return autograd.record(tape, operations.ELU, x, alpha=real("elu", "alpha", alpha))


def selu(tape: Tape, x: Variable) -> Traced[Variable]:
    r"""Record the scaled ELU, :math:`\lambda\,\mathrm{elu}(x; \alpha)`, which keeps mean 0 and variance 1 [1]_.

    λ = 1.0507009873554805, α = 1.6732632423543772. The gradient at NaN is λ times that of the output.

    References
    ----------
    .. [1] G. Klambauer et al., Self-normalizing neural networks, NIPS 2017, arXiv:1706.02515.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [-1.0, 2.0])
    >>> selu(tape, x).value.data.round(4)
    array([-1.1113,  2.1014], dtype=float32)
    """
    bent, tape = elu(tape, x, 1.6732632423543772)
    return autograd.record(tape, operations.SCALE, bent, factor=1.0507009873554805)


def mish(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record x · tanh(softplus(x)); see :func:`viva_tensor.kernels.mish`.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [-1.0, 2.0])
    >>> mish(tape, x).value.data.round(4)
    array([-0.3034,  1.944 ], dtype=float32)
    """
    return autograd.record(tape, operations.MISH, x)


def softsign(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record x / (1 + |x|).

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [-1.0, 3.0])
    >>> softsign(tape, x).value.data
    array([-0.5 ,  0.75], dtype=float32)
    """
    size, tape = autograd.abs(tape, x)
    size, tape = autograd.add(tape, size, 1.0)
    return autograd.div(tape, x, size)


def hardtanh(tape: Tape, x: Variable, low: float = -1.0, high: float = 1.0) -> Traced[Variable]:
    """Record x within bounds; see :func:`viva_tensor.autograd.clip`.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [-3.0, 0.5])
    >>> hardtanh(tape, x).value.data
    array([-1. ,  0.5], dtype=float32)
    """
    return autograd.clip(tape, x, low, high)


def softmin(tape: Tape, x: Variable) -> Traced[Variable]:
    """Record the softmax of -x along the last axis.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [0.0, 0.0])
    >>> softmin(tape, x).value.data
    array([0.5, 0.5], dtype=float32)
    """
    return autograd.sequence(autograd.record(tape, operations.SCALE, x, factor=-1.0), softmax)


def glu(tape: Tape, x: Variable) -> Traced[Variable]:
    r"""Record the gated linear unit, :math:`a \cdot \sigma(b)` of the two halves of x along the last axis [1]_.

    Raises
    ------
    InvalidShape
        If the last axis cannot be halved.

    References
    ----------
    .. [1] Y. N. Dauphin et al., Language modeling with gated convolutional networks, ICML 2017, arXiv:1612.08083.

    Examples
    --------
    >>> x, tape = autograd.new_variable(autograd.new_tape(), [3.0, 0.0])
    >>> glu(tape, x).value.data
    array([1.5], dtype=float32)
    """
    shape = node_of(tape, x, "glu").output.data.shape
    if not shape or shape[-1] % 2:
        raise InvalidShape(f"x of shape {shape}", operation="glu", hint="give an even number of features, two halves")
    (value, gate), tape = autograd.split(tape, x, 2, axis=-1)
    gate, tape = sigmoid(tape, gate)
    return autograd.mul(tape, value, gate)


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
    "elu": elu,
    "selu": selu,
    "mish": mish,
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
