"""The values that the parameters of the estimators may have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from sklearn.base import BaseEstimator

from viva_tensor.error import InvalidValue
from viva_tensor.kernels.checks import is_number, is_whole

ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "logistic": "sigmoid", "identity": "identity"}


def _whole(value: Any) -> bool:
    return is_whole(value) and bool(value >= 1)


def _at_least_0(value: Any) -> bool:
    return is_number(value) and bool(value >= 0)


def _one_of(choices: Iterable[str]) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in choices, f"one of {', '.join(map(repr, choices))}"


# names of parameters, the check of their values, and the values wanted in words
CONSTRAINTS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("activation", *_one_of(ACTIVATIONS)),
    ("solver", *_one_of(("sgd", "adam"))),
    ("learning_rate", *_one_of(("constant", "invscaling", "adaptive"))),
    ("batch_size", lambda value: value == "auto" or _whole(value), "'auto' or an integer of at least 1"),
    ("max_iter n_iter_no_change", lambda value: value == math.inf or _whole(value), "an integer of at least 1"),
    ("alpha tol power_t", _at_least_0, "a finite number of at least 0"),
    ("learning_rate_init epsilon", lambda value: _at_least_0(value) and value > 0, "a finite number above 0"),
    ("momentum beta_1 beta_2", lambda value: _at_least_0(value) and value < 1, "a number from 0 to below 1"),
    ("validation_fraction", lambda value: _at_least_0(value) and 0 < value < 1, "a number between 0 and 1"),
)


def hidden_widths(estimator: BaseEstimator) -> tuple[int, ...]:
    """Return the widths of the hidden layers; raise if a parameter is out of its range."""
    sizes = estimator.hidden_layer_sizes
    widths = list(sizes) if isinstance(sizes, Iterable) else [sizes]
    if not all(_whole(width) for width in widths):
        _refuse("hidden_layer_sizes", sizes, "integers above 0")
    for names, fits, wanted in CONSTRAINTS:
        for name in names.split():
            if not fits(getattr(estimator, name)):
                _refuse(name, getattr(estimator, name), wanted)
    return tuple(int(width) for width in widths)


def _refuse(name: str, got: object, wanted: str) -> NoReturn:
    raise InvalidValue(f"{name}={got!r}, wanted {wanted}", operation="fit")
