"""The values that the parameters of the estimators may have, in scikit-learn's terms."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
    validate_parameter_constraints,
)

from viva_tensor import nn, optim
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.checks import is_whole

ACTIVATIONS = {"logistic": "sigmoid"} | {name: name for name in nn.ACTIVATIONS if name != "sigmoid"}  # as nn names them
STOCHASTIC = ("sgd", "adam")  # solvers that take batches


class InvalidParameter(InvalidValue, InvalidParameterError):  # type: ignore[misc]  # scikit-learn has no types
    """A parameter of an estimator that is out of its range: an error of this library and of scikit-learn."""


def _at_least(least: int, kind: type = Integral) -> Any:
    return Interval(kind, least, None, closed="left")


_FROM_0_BELOW_1 = Interval(Real, 0, 1, closed="left")
_ABOVE_0 = Interval(Real, 0, None, closed="neither")

CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", _at_least(1)],
    "activation": [StrOptions(set(ACTIVATIONS))],
    "solver": [StrOptions({*STOCHASTIC, "lbfgs"}), optim.Optimizer],
    "alpha": [_at_least(0, Real)],
    "batch_size": [StrOptions({"auto"}), _at_least(1)],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": [_ABOVE_0],
    "power_t": [_at_least(0, Real)],
    "max_iter": [_at_least(1)],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [_at_least(0, Real)],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [_FROM_0_BELOW_1],
    "beta_1": [_FROM_0_BELOW_1],
    "beta_2": [_FROM_0_BELOW_1],
    "epsilon": [_ABOVE_0],
    "n_iter_no_change": [_at_least(1), Options(Real, {math.inf})],
    "max_fun": [_at_least(1)],
    "dropout": [_FROM_0_BELOW_1],
    "scoring": [str, callable, None],
    "callback": [callable, None],
}

LOSSES = [StrOptions({"squared_error", "poisson"})]  # of regression
CLASS_WEIGHTS = [StrOptions({"balanced"}), dict, list, None]  # a list for several labels


def is_stochastic(solver: Any) -> bool:
    """Return whether a solver takes batches."""
    return isinstance(solver, optim.Optimizer) or solver in STOCHASTIC


def takes_batches(estimator: BaseEstimator) -> bool:
    """Return whether the solver takes batches, so that there is ``partial_fit``; raise AttributeError if not."""
    if not is_stochastic(estimator.solver):
        reason = f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        raise AttributeError(reason)
    return True


def check_parameters(estimator: BaseEstimator, operation: str) -> None:
    """Raise InvalidParameter if a parameter is out of its range; those that were checked last are not checked again."""
    parameters = {name: getattr(estimator, name) for name in estimator._parameter_constraints}
    checked = vars(estimator).get("_checked_parameters", {})
    same = len(checked) == len(parameters) and all(checked[name] is value for name, value in parameters.items())
    if same or get_config()["skip_parameter_validation"]:
        return
    estimator._checked_parameters = {}
    try:
        validate_parameter_constraints(estimator._parameter_constraints, parameters, type(estimator).__name__)
    except InvalidParameterError as error:
        raise InvalidParameter(str(error), operation=operation) from None
    stochastic, stops = is_stochastic(estimator.solver), bool(estimator.early_stopping)
    why = f"solver={estimator.solver!r}"
    if estimator.dropout and not stochastic:
        hint = "choose a solver that takes batches, such as 'adam'"
        raise InvalidParameter(f"dropout={estimator.dropout} has no effect with {why}", operation=operation, hint=hint)
    if estimator.scoring is not None and not (stochastic and stops):
        got = f"scoring={estimator.scoring!r} has no effect with {why} and early_stopping={stops}"
        hint = "leave it out, or fit with early_stopping=True and a solver that takes batches"
        raise InvalidParameter(got, operation=operation, hint=hint)
    estimator._checked_parameters = parameters


def hidden_widths(estimator: BaseEstimator, operation: str) -> tuple[int, ...]:
    """Return the widths of the hidden layers; raise InvalidParameter for what is no width."""
    sizes = estimator.hidden_layer_sizes
    widths = list(sizes) if isinstance(sizes, Iterable) else [sizes]
    if not all(is_whole(width) and width >= 1 for width in widths):
        hint = "give a whole number for each hidden layer"
        raise InvalidParameter(f"hidden_layer_sizes must be > 0, got {sizes}", operation=operation, hint=hint)
    return tuple(int(width) for width in widths)


def known_weights(given: Mapping[Any, float], classes: Array, operation: str, stacklevel: int) -> dict[Any, float]:
    """Return the weights of classes that y has, with a warning of others: a part of the rows may lack some.

    Examples
    --------
    >>> import numpy as np
    >>> known_weights({"a": 2.0}, np.array(["a", "b"], dtype=object), "fit", stacklevel=2)
    {'a': 2.0}
    """
    known = {label: given[label] for label in classes if label in given}
    others = [one for one in given if one not in known]
    if others:
        got = f"class_weight has {', '.join(map(repr, others))}, which y has not"
        warnings.warn(f"{operation}: {got}; its classes are {classes.tolist()}", stacklevel=stacklevel + 1)
    return known
