"""Initial weights of shape [out, in], drawn from an explicit generator.

Each rule sets the variance of the weights: Xavier 2 / (in + out), He 2 / in, LeCun 1 / in; "uniform" and "normal" are
distributions with that variance and mean 0. An orthogonal matrix has orthonormal rows, or columns if there are fewer.
Every function returns an ndarray of float64 and shape (fan_out, fan_in).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from viva_tensor.error import InvalidShape, InvalidValue
from viva_tensor.kernels.arrays import Array, empty, float_dtype
from viva_tensor.kernels.checks import generator, is_whole, shown

__all__ = [
    "INITIALIZERS",
    "he_normal",
    "he_uniform",
    "initial_weight",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal_normal",
    "orthogonal_uniform",
    "xavier_normal",
    "xavier_uniform",
]


def xavier_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    r"""Draw uniformly on :math:`\pm\sqrt{6 / (n_{in} + n_{out})}` [1]_.

    References
    ----------
    .. [1] X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward neural networks,
       AISTATS 2010, eq. 16.

    Examples
    --------
    >>> weight = xavier_uniform(np.random.default_rng(0), 4, 2)
    >>> weight.shape, bool(abs(weight).max() <= 1)
    ((2, 4), True)
    """
    return _uniform(rng, fan_in, fan_out, 2 / (fan_in + fan_out))


def xavier_normal(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    r"""Draw normally with standard deviation :math:`\sqrt{2 / (n_{in} + n_{out})}`; see :func:`xavier_uniform`.

    Examples
    --------
    >>> xavier_normal(np.random.default_rng(0), 4, 2).shape
    (2, 4)
    """
    return _normal(rng, fan_in, fan_out, 2 / (fan_in + fan_out))


def he_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    r"""Draw uniformly on :math:`\pm\sqrt{6 / n_{in}}`, which keeps the variance through relu [1]_.

    References
    ----------
    .. [1] K. He et al., Delving deep into rectifiers, ICCV 2015, eq. 10, as a uniform distribution with its variance.

    Examples
    --------
    >>> weight = he_uniform(np.random.default_rng(0), 6, 2)
    >>> weight.shape, bool(abs(weight).max() <= 1)
    ((2, 6), True)
    """
    return _uniform(rng, fan_in, fan_out, 2 / fan_in)


def he_normal(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    r"""Draw normally with standard deviation :math:`\sqrt{2 / n_{in}}`; see :func:`he_uniform`.

    Examples
    --------
    >>> he_normal(np.random.default_rng(0), 4, 2).shape
    (2, 4)
    """
    return _normal(rng, fan_in, fan_out, 2 / fan_in)


def lecun_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    r"""Draw uniformly on :math:`\pm\sqrt{3 / n_{in}}`, which keeps the variance with a nearly linear activation [1]_.

    References
    ----------
    .. [1] Y. LeCun, L. Bottou, G. B. Orr and K.-R. Müller, Efficient BackProp, in Neural Networks: Tricks of the
       Trade, Springer 1998, section 4.6.

    Examples
    --------
    >>> weight = lecun_uniform(np.random.default_rng(0), 3, 2)
    >>> weight.shape, bool(abs(weight).max() <= 1)
    ((2, 3), True)
    """
    return _uniform(rng, fan_in, fan_out, 1 / fan_in)


def lecun_normal(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    r"""Draw normally with standard deviation :math:`\sqrt{1 / n_{in}}`; see :func:`lecun_uniform`.

    Examples
    --------
    >>> lecun_normal(np.random.default_rng(0), 4, 2).shape
    (2, 4)
    """
    return _normal(rng, fan_in, fan_out, 1 / fan_in)


def orthogonal_normal(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    r"""Draw the orthogonal factor of a matrix of normal numbers, uniform over all orthogonal matrices [1]_ [2]_.

    References
    ----------
    .. [1] A. M. Saxe, J. L. McClelland and S. Ganguli, Exact solutions to the nonlinear dynamics of learning in deep
       linear neural networks, ICLR 2014.
    .. [2] F. Mezzadri, How to generate random matrices from the classical compact groups, Notices of the AMS 54, 2007:
       the signs of R's diagonal make the factor uniform.

    Examples
    --------
    >>> weight = orthogonal_normal(np.random.default_rng(0), 4, 2)
    >>> bool(np.allclose(weight @ weight.T, np.eye(2)))
    True
    """
    return _orthogonal(rng.standard_normal((max(fan_in, fan_out), min(fan_in, fan_out))), fan_out >= fan_in)


def orthogonal_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    """Draw the orthogonal factor of a matrix of uniform numbers; see :func:`orthogonal_normal`.

    Examples
    --------
    >>> weight = orthogonal_uniform(np.random.default_rng(0), 2, 4)
    >>> bool(np.allclose(weight.T @ weight, np.eye(2)))
    True
    """
    return _orthogonal(rng.uniform(-1, 1, (max(fan_in, fan_out), min(fan_in, fan_out))), fan_out >= fan_in)


def _uniform(rng: np.random.Generator, fan_in: int, fan_out: int, variance: float) -> Array:
    bound = (3 * variance) ** 0.5
    return rng.uniform(-bound, bound, (fan_out, fan_in))


def _normal(rng: np.random.Generator, fan_in: int, fan_out: int, variance: float) -> Array:
    weight: Array = rng.standard_normal((fan_out, fan_in)) * variance**0.5
    return weight


def _orthogonal(tall: Array, upright: bool) -> Array:
    q, r = np.linalg.qr(tall)
    weight: Array = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return weight if upright else np.ascontiguousarray(weight.T)


INITIALIZERS = {
    "xavier": xavier_uniform,
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "he": he_uniform,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "lecun": lecun_uniform,
    "lecun_uniform": lecun_uniform,
    "lecun_normal": lecun_normal,
    "orthogonal": orthogonal_normal,
    "orthogonal_uniform": orthogonal_uniform,
    "orthogonal_normal": orthogonal_normal,
}


def initial_weight(
    operation: str, rng: np.random.Generator | None, init: str, fan_in: int, fan_out: int, dtype: DTypeLike
) -> Array:
    """Return a read-only weight [out, in] from the initialiser of that name.

    Raises
    ------
    InvalidShape, InvalidValue, DtypeError
        As :func:`viva_tensor.nn.linear`.

    Examples
    --------
    >>> initial_weight("linear", np.random.default_rng(0), "he", 3, 2, "float32").shape
    (2, 3)
    """
    fan_in, fan_out = check_sizes(operation, in_features=fan_in, out_features=fan_out)
    if not isinstance(init, str) or init not in INITIALIZERS:
        raise InvalidValue(f"init={init!r}", operation=operation, hint=f"choose one of {', '.join(INITIALIZERS)}")
    rng = generator(operation, rng)
    float_dtype(operation, dtype)
    empty(operation, (fan_out, fan_in), np.float64)  # refuses more than memory holds
    weight = INITIALIZERS[init](rng, fan_in, fan_out).astype(dtype)
    weight.setflags(write=False)
    return weight


def root_uniform(operation: str, rng: object, shape: tuple[int, ...], fan_in: int, dtype: DTypeLike) -> Array:
    r"""Draw an array uniformly on :math:`\pm 1 / \sqrt{n_{in}}`, as weights and biases of layers in PyTorch.

    Raises
    ------
    InvalidShape, InvalidValue, DtypeError
        If no memory holds it; as :func:`viva_tensor.nn.linear`.

    Examples
    --------
    >>> bias = root_uniform("linear", np.random.default_rng(0), (3,), 4, "float32")
    >>> bias.shape, bias.dtype, bool(abs(bias).max() <= 0.5)
    ((3,), dtype('float32'), True)
    """
    drawn = empty(operation, shape, float_dtype(operation, dtype))
    drawn[...] = generator(operation, rng).uniform(-(fan_in**-0.5), fan_in**-0.5, shape)
    return drawn


def check_sizes(operation: str, **sizes: Any) -> tuple[int, ...]:
    """Return sizes as ints, whose products do not overflow as those of NumPy's small integers do.

    Raises
    ------
    InvalidShape
        Unless each is a whole number of at least 1.

    Examples
    --------
    >>> check_sizes("linear", in_features=3, out_features=np.uint8(200))
    (3, 200)
    """
    for name, size in sizes.items():
        if not (is_whole(size) and size >= 1):
            hint = f"give a whole number of at least 1 for {' and '.join(sizes)}"
            raise InvalidShape(f"{name}={shown(size)}", operation=operation, hint=hint)
    return tuple(map(int, sizes.values()))
