"""Activation functions, each followed by its backward pass.

All take float32 or float64 arrays of any shape and strides, and return a new array of that shape or fill ``out``, which
may be an operand. They raise :class:`DtypeError` for other dtypes and :class:`ShapeMismatch` if ``out`` or a gradient
has another shape. A backward pass takes the gradient of the loss with respect to the output, and the input x or the
output y, whichever its formula needs.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from viva_tensor.error import InvalidValue
from viva_tensor.kernels._broadcasting import unary, unary_backward
from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.checks import real

__all__ = [
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "mish",
    "mish_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
]

_GELU = {"none": ("gelu", "gelu_backward"), "tanh": ("gelu_tanh", "gelu_tanh_backward")}


def relu(x: ArrayLike, out: Array | None = None) -> Array:
    r"""Apply the rectified linear unit [1]_, :math:`\max(x, 0)`; NaN stays NaN.

    Parameters
    ----------
    x : array_like, float32 or float64
    out : ndarray of the same shape, optional
        Filled and returned; it may be x.

    Returns
    -------
    ndarray
        Of the shape of x.

    Raises
    ------
    DtypeError, ShapeMismatch
        If the dtype is neither float32 nor float64; if ``out`` has another shape.

    References
    ----------
    .. [1] V. Nair and G. E. Hinton, Rectified linear units improve restricted Boltzmann machines, ICML 2010.

    Examples
    --------
    >>> relu([-1.0, 0.0, 2.0])
    array([0., 0., 2.], dtype=float32)
    """
    return unary("relu", x, out)


def relu_backward(grad: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """Return the gradient of :func:`relu` at x: 0 where x ≤ 0, and ``grad`` everywhere else, also where x is NaN.

    Parameters
    ----------
    grad, x : array_like, float32 or float64, of one shape and dtype
        Gradient of the loss with respect to ``relu(x)``, and the input x.
    out : ndarray of the same shape, optional
        As in :func:`relu`.

    Examples
    --------
    >>> relu_backward([1.0, 1.0, 1.0], [-1.0, 0.0, 2.0])
    array([0., 0., 1.], dtype=float32)
    """
    return unary_backward("relu_backward", grad, x, out)


def leaky_relu(x: ArrayLike, slope: float = 0.01, out: Array | None = None) -> Array:
    """Apply the leaky rectified linear unit [1]_, :math:`x` for :math:`x > 0`, else :math:`s x`.

    References
    ----------
    .. [1] A. L. Maas, A. Y. Hannun and A. Y. Ng, Rectifier nonlinearities improve neural network acoustic models,
       ICML 2013.

    Examples
    --------
    >>> leaky_relu([-1.0, 2.0], 0.1)
    array([-0.1,  2. ], dtype=float32)
    """
    factor = slope if slope.__class__ is float else real("leaky_relu", "slope", slope)
    return unary("leaky_relu", x, out, factor)


def leaky_relu_backward(grad: ArrayLike, x: ArrayLike, slope: float = 0.01, out: Array | None = None) -> Array:
    r"""Return the gradient of :func:`leaky_relu` at x, :math:`s g` where :math:`x \le 0`, else :math:`g`, also at NaN.

    Examples
    --------
    >>> leaky_relu_backward([1.0, 1.0], [-1.0, 2.0], 0.1)
    array([0.1, 1. ], dtype=float32)
    """
    factor = slope if slope.__class__ is float else real("leaky_relu_backward", "slope", slope)
    return unary_backward("leaky_relu_backward", grad, x, out, factor)


def elu(x: ArrayLike, alpha: float = 1.0, out: Array | None = None) -> Array:
    r"""Apply the exponential linear unit [1]_, :math:`x` for :math:`x \ge 0`, else :math:`\alpha (e^x - 1)`.

    References
    ----------
    .. [1] D.-A. Clevert, T. Unterthiner and S. Hochreiter, Fast and accurate deep network learning by exponential
       linear units (ELUs), ICLR 2016, arXiv:1511.07289.

    Examples
    --------
    >>> elu([-1.0, 2.0]).round(4)
    array([-0.6321,  2.    ], dtype=float32)
    """
    factor = alpha if alpha.__class__ is float else real("elu", "alpha", alpha)
    return unary("elu", x, out, factor)


def elu_backward(grad: ArrayLike, x: ArrayLike, alpha: float = 1.0, out: Array | None = None) -> Array:
    r"""Return the gradient of :func:`elu` at x, :math:`g \alpha e^x` if :math:`x \le 0`, else :math:`g`, also at NaN.

    Examples
    --------
    >>> elu_backward([1.0, 1.0], [-1.0, 2.0]).round(4)
    array([0.3679, 1.    ], dtype=float32)
    """
    factor = alpha if alpha.__class__ is float else real("elu_backward", "alpha", alpha)
    return unary_backward("elu_backward", grad, x, out, factor)


def sigmoid(x: ArrayLike, out: Array | None = None) -> Array:
    r"""Apply the logistic function, :math:`\sigma(x) = 1 / (1 + e^{-x})`; results for negative x keep their precision.

    Examples
    --------
    >>> sigmoid([0.0, 1000.0])
    array([0.5, 1. ], dtype=float32)
    """
    return unary("sigmoid", x, out)


def sigmoid_backward(grad: ArrayLike, y: ArrayLike, out: Array | None = None) -> Array:
    r"""Return the gradient of :func:`sigmoid` at its output y, :math:`g \cdot y (1 - y)`.

    It is exactly 0 where y is rounded to 1: from x = 16.6 on in float32, from 36.7 on in float64. For negative x it
    follows eˣ.

    Examples
    --------
    >>> sigmoid_backward([1.0], [0.5])
    array([0.25], dtype=float32)
    """
    return unary_backward("sigmoid_backward", grad, y, out)


def tanh(x: ArrayLike, out: Array | None = None) -> Array:
    """Apply the hyperbolic tangent, :math:`(e^{2x} - 1) / (e^{2x} + 1)`, within 4 units in the last place.

    Examples
    --------
    >>> tanh([0.0, 0.5]).round(4)
    array([0.    , 0.4621], dtype=float32)
    """
    return unary("tanh", x, out)


def tanh_backward(grad: ArrayLike, y: ArrayLike, out: Array | None = None) -> Array:
    r"""Return the gradient of :func:`tanh` at its output y, :math:`g \cdot (1 - y^2)`.

    It is exactly 0 where y is rounded to ±1: from |x| = 9.1 on in float32, from 19.1 on in float64.

    Examples
    --------
    >>> tanh_backward([1.0], [0.5])
    array([0.75], dtype=float32)
    """
    return unary_backward("tanh_backward", grad, y, out)


def softplus(x: ArrayLike, out: Array | None = None) -> Array:
    r"""Apply the smooth relu [1]_, :math:`\ln(1 + e^x) = \max(x, 0) + \ln(1 + e^{-|x|})`.

    References
    ----------
    .. [1] C. Dugas et al., Incorporating second-order functional knowledge for better option pricing, NIPS 2000.

    Examples
    --------
    >>> softplus([0.0, 100.0]).round(4)
    array([  0.6931, 100.    ], dtype=float32)
    """
    return unary("softplus", x, out)


def softplus_backward(grad: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    r"""Return the gradient of :func:`softplus` at x, :math:`g \cdot \sigma(x)`.

    Examples
    --------
    >>> softplus_backward([1.0], [0.0])
    array([0.5], dtype=float32)
    """
    return unary_backward("softplus_backward", grad, x, out)


def silu(x: ArrayLike, out: Array | None = None) -> Array:
    r"""Apply the sigmoid linear unit [1]_ or Swish, :math:`x \cdot \sigma(x)`; its limit at :math:`-\infty` is -0.

    References
    ----------
    .. [1] S. Elfwing, E. Uchibe and K. Doya, Sigmoid-weighted linear units for neural network function approximation in
       reinforcement learning, Neural Networks 107, 2018.

    Examples
    --------
    >>> silu([0.0, 1.0]).round(4)
    array([0.    , 0.7311], dtype=float32)
    """
    return unary("silu", x, out)


def silu_backward(grad: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    r"""Return the gradient of :func:`silu` at x, :math:`g \cdot (\sigma + x \sigma (1 - \sigma))`.

    Examples
    --------
    >>> silu_backward([1.0], [0.0])
    array([0.5], dtype=float32)
    """
    return unary_backward("silu_backward", grad, x, out)


def mish(x: ArrayLike, out: Array | None = None) -> Array:
    r"""Apply :math:`x \tanh(\ln(1 + e^x)) = x \, \frac{n^2 + 2n}{n^2 + 2n + 2}`, n = eˣ [1]_; the limit at -∞ is -0.

    References
    ----------
    .. [1] D. Misra, Mish: a self regularized non-monotonic activation function, BMVC 2020, arXiv:1908.08681.

    Examples
    --------
    >>> mish([-1.0, 2.0]).round(4)
    array([-0.3034,  1.944 ], dtype=float32)
    """
    return unary("mish", x, out)


def mish_backward(grad: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    r"""Return the gradient of :func:`mish` at x, :math:`g (t + x (1 - t^2) \sigma(x))` with t = tanh(softplus(x)).

    Examples
    --------
    >>> mish_backward([1.0], [0.0])
    array([0.6], dtype=float32)
    """
    return unary_backward("mish_backward", grad, x, out)


def gelu(x: ArrayLike, approximate: str = "none", out: Array | None = None) -> Array:
    r"""Apply the Gaussian error linear unit [1]_: :math:`x \cdot \Phi(x) = \frac{x}{2} (1 + \mathrm{erf}(x / \sqrt2))`.

    At :math:`-\infty` the result is the limit, -0.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        "tanh": :math:`\frac{x}{2} (1 + \tanh(\sqrt{2/\pi} (x + 0.044715 x^3)))` instead.

    Raises
    ------
    InvalidValue
        If there is no such approximation.

    References
    ----------
    .. [1] D. Hendrycks and K. Gimpel, Gaussian error linear units (GELUs), arXiv:1606.08415, 2016.

    Examples
    --------
    >>> gelu([0.0, 1.0]).round(4)
    array([0.    , 0.8413], dtype=float32)
    """
    return unary(_gelu("gelu", approximate)[0], x, out, operation="gelu")


def gelu_backward(grad: ArrayLike, x: ArrayLike, approximate: str = "none", out: Array | None = None) -> Array:
    r"""Return the gradient of :func:`gelu` at x, :math:`g \cdot (\Phi(x) + x \varphi(x))`, or of its approximation.

    Examples
    --------
    >>> gelu_backward([1.0], [0.0])
    array([0.5], dtype=float32)
    """
    return unary_backward(_gelu("gelu_backward", approximate)[1], grad, x, out, operation="gelu_backward")


def _gelu(operation: str, approximate: str) -> tuple[str, str]:
    found = _GELU.get(approximate) if isinstance(approximate, str) else None
    if found is None:
        raise InvalidValue(
            f"approximate={approximate!r}", operation=operation, hint=f"choose one of {', '.join(_GELU)}"
        )
    return found
