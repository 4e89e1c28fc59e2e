"""Activations and other curves of each element, and formulas of rows; each gradient has its own kernel and a slope."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from viva_tensor import kernels
from viva_tensor.autograd.operations.arithmetic import (
    ADD,
    CHAIN_MUL,
    CHOSEN,
    DIV,
    EXP,
    GREATER,
    LESS_EQUAL,
    MUL,
    SCALE,
    SQRT,
    SUB,
    negative,
)
from viva_tensor.autograd.operations.base import (
    Do,
    Operation,
    Value,
    curve,
    elementwise,
    gradient_kernel,
    lowered,
    same,
)
from viva_tensor.autograd.operations.reductions import MEAN, SUM

__all__ = [
    "ABS",
    "AT_LEAST",
    "AT_MOST",
    "ELU",
    "ERF",
    "GELU",
    "GELU_TANH",
    "HUBER",
    "LEAKY_RELU",
    "LOG_COSH",
    "LOG_SOFTMAX",
    "LOG_SOFTMAX_BACKWARD",
    "MISH",
    "NORMALIZE",
    "RELU",
    "SIGMOID",
    "SILU",
    "SOFTMAX",
    "SOFTMAX_BACKWARD",
    "SOFTPLUS",
    "TANH",
]

# Rules for the slope of a gradient's kernel: upstream is the gradient of a loss with respect to the kernel's result,
# grad and x (or y, the output of the curve) are the kernel's operands.


def _bend_of_sigmoid(do: Do, upstream: Value, out: Value, grad: Value, y: Value) -> Any:
    """∂ y(1 - y) / ∂y = 1 - 2y."""
    both = do(MUL, upstream, grad)
    return do(SUB, both, do(SCALE, do(MUL, both, y), factor=2.0))


def _bend_of_tanh(do: Do, upstream: Value, out: Value, grad: Value, y: Value) -> Any:
    """∂ (1 - y²) / ∂y = -2y."""
    return do(SCALE, do(MUL, do(MUL, upstream, grad), y), factor=-2.0)


def _bend_of_erf(do: Do, upstream: Value, out: Value, grad: Value, x: Value) -> Any:
    """erf″ = -2x erf′, and 0 at ±∞."""
    return do(SCALE, do(CHAIN_MUL, do(ERF_BACKWARD, do(MUL, upstream, grad), x), x), factor=-2.0)


def _bend_of_softplus(do: Do, upstream: Value, out: Value, grad: Value, x: Value) -> Any:
    """softplus″ = σ′."""
    return do(SIGMOID_BACKWARD, do(MUL, upstream, grad), do(SIGMOID, x))


def _bend_of_silu(do: Do, upstream: Value, out: Value, grad: Value, x: Value) -> Any:
    """silu″ = 2σ′ + xσ″ with σ″ = σ′(1 - 2σ)."""
    s = do(SIGMOID, x)
    slope = do(SIGMOID_BACKWARD, do(MUL, upstream, grad), s)
    twice = do(SCALE, slope, factor=2.0)
    return do(ADD, twice, do(CHAIN_MUL, do(SUB, slope, do(MUL, twice, s)), x))


def _bend_of_mish(do: Do, upstream: Value, out: Value, grad: Value, x: Value) -> Any:
    """With t = tanh(softplus(x)) and d = (1 - t²)σ: mish″ = 2d + xd(1 - σ - 2tσ)."""
    t, s = do(TANH, do(SOFTPLUS, x)), do(SIGMOID, x)
    d = do(MUL, do(TANH_BACKWARD, do(MUL, upstream, grad), t), s)
    twice = do(SCALE, d, factor=2.0)
    change = do(SUB, do(SUB, d, do(MUL, d, s)), do(MUL, do(MUL, twice, t), s))
    return do(ADD, twice, do(CHAIN_MUL, change, x))


def _bend_of_gelu(do: Do, upstream: Value, out: Value, grad: Value, x: Value) -> Any:
    """gelu″ = φ(x)(2 - x²), where φ(x) = erf′(x/√2) / √8."""
    density = do(ERF_BACKWARD, do(MUL, upstream, grad), do(SCALE, x, factor=math.sqrt(0.5)))
    density = do(SCALE, density, factor=math.sqrt(0.125))
    return do(SUB, do(SCALE, density, factor=2.0), do(CHAIN_MUL, do(CHAIN_MUL, density, x), x))


def _bend_of_gelu_tanh(do: Do, upstream: Value, out: Value, grad: Value, x: Value) -> Any:
    """With T = tanh u, D = 1 - T² and u = c(x + ax³): f″ = Du′ + xDu″/2 - xTDu′², where u″ = 6acx."""
    c, a = math.sqrt(2 / math.pi), 0.044715
    square = do(MUL, x, x)

    def sloped(value: Any) -> Any:
        """Return value · u′."""
        return do(SCALE, do(ADD, value, do(SCALE, do(CHAIN_MUL, value, square), factor=3 * a)), factor=c)

    u = do(SCALE, do(ADD, x, do(SCALE, do(MUL, square, x), factor=a)), factor=c)
    t = do(TANH, u)
    d = do(TANH_BACKWARD, do(MUL, upstream, grad), t)
    first = do(ADD, sloped(d), do(SCALE, do(CHAIN_MUL, d, square), factor=3 * a * c))
    return do(SUB, first, do(CHAIN_MUL, do(MUL, sloped(sloped(d)), t), x))


def _bend_of_huber(do: Do, upstream: Value, out: Value, grad: Value, x: Value, delta: float) -> Any:
    """1 within ±δ, else 0."""
    return do(MUL, do(MUL, upstream, grad), do(GREATER, delta, do(ABS, x)))


def _bend_of_elu(do: Do, upstream: Value, out: Value, grad: Value, x: Value, alpha: float) -> Any:
    """elu″ = elu′, but 0 above 0."""
    both = do(MUL, upstream, grad)
    return do(CHOSEN, do(ELU_BACKWARD, both, x, alpha=alpha), do(LESS_EQUAL, x, 0.0))


def _bend_of_softmax(do: Do, upstream: Value, out: Value, grad: Value, y: Value) -> Any:
    """Of yᵢ(gᵢ - Σgy): vₖ(gₖ - Σgy) - gₖΣvy with the upstream v."""
    first = do(MUL, upstream, do(SUB, grad, _total(do, grad, y)))
    return do(SUB, first, do(MUL, grad, _total(do, upstream, y)))


def _change_of_softmax(do: Do, tangent: Value, out: Value, grad: Value, y: Value) -> Any:
    """Of yᵢ(gᵢ - Σgy), as y changes."""
    first = do(MUL, tangent, do(SUB, grad, _total(do, grad, y)))
    return do(SUB, first, do(MUL, y, _total(do, grad, tangent)))


def _log_softmax_of_grad(do: Do, upstream: Value, out: Value, grad: Value, y: Value) -> Any:
    """The transpose of gᵢ - e^yᵢ Σg: vᵢ - Σv e^y."""
    return do(SUB, upstream, _total(do, upstream, do(EXP, y)))


def _bend_of_log_softmax(do: Do, upstream: Value, out: Value, grad: Value, y: Value) -> Any:
    """Of gᵢ - e^yᵢ Σg: -vᵢ e^yᵢ Σg."""
    total = do(SUM, grad, axis=-1, keepdims=True)
    return negative(do, do(MUL, do(MUL, upstream, do(EXP, y)), total))


def _bend_of_normalize(do: Do, upstream: Value, out: Value, grad: Value, x: Value, epsilon: float) -> Any:
    """With s² = σ² + ε, E for means of rows and N for the kernel itself:

    -(N(v E[gy] + g E[vy]) + y(E[vg] - E[v]E[g] - E[gy]E[vy]) / s) / s.
    """
    v, g = upstream, grad

    def average(a: Any, b: Any) -> Any:
        return do(MEAN, do(MUL, a, b), axis=-1, keepdims=True)

    y = do(NORMALIZE, x, epsilon=epsilon)
    centred = do(SUB, x, do(MEAN, x, axis=-1, keepdims=True))
    s = do(SQRT, do(ADD, average(centred, centred), epsilon))
    gy, vy = average(g, y), average(v, y)
    first = do(NORMALIZE_BACKWARD, do(ADD, do(MUL, v, gy), do(MUL, g, vy)), x, epsilon=epsilon)
    means = do(MUL, do(MEAN, v, axis=-1, keepdims=True), do(MEAN, g, axis=-1, keepdims=True))
    second = do(MUL, y, do(SUB, do(SUB, average(v, g), means), do(MUL, gy, vy)))
    return negative(do, do(DIV, do(ADD, first, do(DIV, second, s)), s))


def _total(do: Do, a: Value, b: Value) -> Any:
    return do(SUM, do(MUL, a, b), axis=-1, keepdims=True)


ABS = curve("abs", kernels.abs, gradient_kernel("abs_backward", kernels.abs_backward))
RELU = curve("relu", kernels.relu, gradient_kernel("relu_backward", kernels.relu_backward))
ELU_BACKWARD = gradient_kernel("elu_backward", kernels.elu_backward, _bend_of_elu, factor="alpha")
ELU = curve("elu", kernels.elu, ELU_BACKWARD, factor="alpha")
AT_LEAST = curve(
    "at_least",
    kernels.at_least,
    gradient_kernel("at_least_backward", kernels.at_least_backward, factor="bound"),
    factor="bound",
)
AT_MOST = curve(
    "at_most",
    kernels.at_most,
    gradient_kernel("at_most_backward", kernels.at_most_backward, factor="bound"),
    factor="bound",
)
LEAKY_RELU = curve(
    "leaky_relu",
    kernels.leaky_relu,
    gradient_kernel("leaky_relu_backward", kernels.leaky_relu_backward, factor="slope"),
    factor="slope",
)
HUBER = curve(
    "huber",
    kernels.huber,
    gradient_kernel("huber_backward", kernels.huber_backward, _bend_of_huber, factor="delta"),
    factor="delta",
)
SIGMOID_BACKWARD = gradient_kernel("sigmoid_backward", kernels.sigmoid_backward, _bend_of_sigmoid)
SIGMOID = curve("sigmoid", kernels.sigmoid, SIGMOID_BACKWARD, of_output=True)
TANH_BACKWARD = gradient_kernel("tanh_backward", kernels.tanh_backward, _bend_of_tanh)
TANH = curve("tanh", kernels.tanh, TANH_BACKWARD, of_output=True)
LOG_COSH = elementwise("log_cosh", kernels.log_cosh, lambda do, grad, out, x: do(MUL, grad, do(TANH, x)))
ERF_BACKWARD = gradient_kernel("erf_backward", kernels.erf_backward, _bend_of_erf)
ERF = curve("erf", kernels.erf, ERF_BACKWARD)
SOFTPLUS = curve(
    "softplus", kernels.softplus, gradient_kernel("softplus_backward", kernels.softplus_backward, _bend_of_softplus)
)
SILU = curve("silu", kernels.silu, gradient_kernel("silu_backward", kernels.silu_backward, _bend_of_silu))
MISH = curve("mish", kernels.mish, gradient_kernel("mish_backward", kernels.mish_backward, _bend_of_mish))
GELU = curve("gelu", kernels.gelu, gradient_kernel("gelu_backward", kernels.gelu_backward, _bend_of_gelu))
GELU_TANH = curve(
    "gelu_tanh",
    partial(kernels.gelu, approximate="tanh"),
    gradient_kernel("gelu_tanh_backward", partial(kernels.gelu_backward, approximate="tanh"), _bend_of_gelu_tanh),
)

_of_rows = partial(gradient_kernel, primitive="rows")
SOFTMAX_BACKWARD = _of_rows("softmax_backward", kernels.softmax_backward, _bend_of_softmax, tangent=_change_of_softmax)
SOFTMAX = curve("softmax", kernels.softmax, SOFTMAX_BACKWARD, of_output=True, primitive="rows")
LOG_SOFTMAX_BACKWARD = Operation(
    "log_softmax_backward",
    same,
    kernels.log_softmax_backward,
    (_log_softmax_of_grad, _bend_of_log_softmax),
    lowered("log_softmax_backward", primitive="rows"),
    ("linear", "symmetric"),
)
LOG_SOFTMAX = Operation(
    "log_softmax",
    same,
    kernels.log_softmax,
    (lambda do, grad, out, x: do(LOG_SOFTMAX_BACKWARD, grad, out),),
    lowered("log_softmax", primitive="rows"),
    (lambda do, tangent, out, x: do(SUB, tangent, _total(do, tangent, do(EXP, out))),),
)
NORMALIZE_BACKWARD: Operation = _of_rows(
    "normalize_backward", kernels.normalize_backward, _bend_of_normalize, factor="epsilon"
)
NORMALIZE = curve("normalize", kernels.normalize, NORMALIZE_BACKWARD, factor="epsilon", primitive="rows")
