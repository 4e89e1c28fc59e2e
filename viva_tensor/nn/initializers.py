"""Initial weights of shape [out, in], drawn from an explicit generator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from viva_tensor.error import DtypeError, InvalidShape, InvalidValue

__all__ = ["INITIALIZERS", "he_uniform", "initial_weight", "xavier_uniform"]

Array = np.ndarray[Any, np.dtype[Any]]


def xavier_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    r"""Uniform on :math:`\pm\sqrt{6 / (n_{in} + n_{out})}` [1]_.

    Returns
    -------
    ndarray of float64, shape (fan_out, fan_in)

    References
    ----------
    .. [1] X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward neural networks,
       AISTATS 2010, eq. 16.

    Examples
    --------
    >>> import numpy as np
    >>> weight = xavier_uniform(np.random.default_rng(0), 4, 2)
    >>> weight.shape, bool(abs(weight).max() <= 1)
    ((2, 4), True)
    """
    bound = (6 / (fan_in + fan_out)) ** 0.5
    return rng.uniform(-bound, bound, (fan_out, fan_in))


def he_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    r"""Uniform on :math:`\pm\sqrt{6 / n_{in}}`, which keeps the variance through relu [1]_.

    Returns
    -------
    ndarray of float64, shape (fan_out, fan_in)

    References
    ----------
    .. [1] K. He et al., Delving deep into rectifiers, ICCV 2015, eq. 10, as a uniform distribution of that variance.

    Examples
    --------
    >>> import numpy as np
    >>> weight = he_uniform(np.random.default_rng(0), 6, 2)
    >>> weight.shape, bool(abs(weight).max() <= 1)
    ((2, 6), True)
    """
    bound = (6 / fan_in) ** 0.5
    return rng.uniform(-bound, bound, (fan_out, fan_in))


INITIALIZERS = {"xavier": xavier_uniform, "he": he_uniform}


def initial_weight(
    operation: str, rng: np.random.Generator, init: str, fan_in: int, fan_out: int, dtype: DTypeLike
) -> Array:
    """A read-only weight [out, in] by the initialiser's name.

    Raises
    ------
    InvalidShape
        If a side has no features.
    InvalidValue
        If there is no initialiser of that name, or ``rng`` is not a generator.
    DtypeError
        If the dtype is neither float32 nor float64.

    Examples
    --------
    >>> import numpy as np
    >>> initial_weight("linear", np.random.default_rng(0), "he", 3, 2, "float32").shape
    (2, 3)
    """
    if fan_in < 1 or fan_out < 1:
        raise InvalidShape(
            f"a weight of shape {(fan_out, fan_in)} has no elements",
            operation=operation,
            mend="in_features and out_features are at least 1",
        )
    if init not in INITIALIZERS:
        raise InvalidValue(f"init={init!r}", operation=operation, mend=f"choose one of {', '.join(INITIALIZERS)}")
    if not isinstance(rng, np.random.Generator):
        raise InvalidValue(
            f"rng is {type(rng).__name__}, wanted a numpy.random.Generator",
            operation=operation,
            mend="pass rng=np.random.default_rng(seed)",
        )
    if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise DtypeError(f"dtype {np.dtype(dtype)}, wanted float32 or float64", operation=operation)
    weight = INITIALIZERS[init](rng, fan_in, fan_out).astype(dtype)
    weight.setflags(write=False)
    return weight
