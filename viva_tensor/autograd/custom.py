"""Checks of what operations give that are not this library's: results and gradients of the shape and dtype they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from viva_tensor.autograd.operations import Operation
from viva_tensor.error import DtypeError, InvalidValue, ShapeMismatch
from viva_tensor.kernels.arrays import Array


def check_operation(operation: Any) -> None:
    """Raise InvalidValue if what is to be applied is no operation.

    Examples
    --------
    >>> check_operation("relu")
    Traceback (most recent call last):
    viva_tensor.error.InvalidValue: record: got str, wanted an operation; such as autograd.operations.RELU
    """
    if not isinstance(operation, Operation):
        got = f"got {type(operation).__name__}, wanted an operation"
        raise InvalidValue(got, operation="record", hint="such as autograd.operations.RELU")


def check_result(
    operation: Operation, result: Any, arrays: Sequence[Array], attributes: Mapping[str, Any], tracked: bool
) -> Array:
    """Return a result as an array; raise if it is not as the shape rule says, or the operation lacks gradient rules.

    Raises
    ------
    InvalidValue, ShapeMismatch, DtypeError
    """
    if tracked:
        check_rules(operation, len(arrays))
    shape = tuple(operation.shape(*(array.shape for array in arrays), **attributes))
    return _checked(operation, "the forward function", result, shape, arrays[0].dtype if arrays else None)


def check_rules(operation: Operation, inputs: int) -> None:
    """Raise InvalidValue if an operation has not as many gradient rules as inputs."""
    if len(operation.gradients) != inputs:
        got = f"its gradient rules number {len(operation.gradients)}, its inputs {inputs}"
        raise InvalidValue(got, operation=operation.name, hint="give one for each input, None where there is no slope")


def check_gradient(operation: Operation, index: int, grad: Any, array: Array) -> Array:
    """Return the gradient of an input as an array; raise if its shape or dtype is another than the input's.

    Raises
    ------
    InvalidValue, ShapeMismatch, DtypeError
    """
    return _checked(operation, f"the gradient rule for input {index}", grad, array.shape, array.dtype)


def _checked(
    operation: Operation, source: str, given: Any, shape: tuple[int, ...], dtype: np.dtype[Any] | None
) -> Array:
    hint = f"from {source}"
    if isinstance(given, np.generic):  # which NumPy makes of arrays without axes
        given = np.asarray(given)
    if not isinstance(given, np.ndarray):
        got = f"got {type(given).__name__}, wanted an array"
        raise InvalidValue(got, operation=operation.name, hint=hint)
    if given.shape != shape:
        raise ShapeMismatch(shape, given.shape, operation=operation.name, hint=hint)
    if dtype is not None and given.dtype != dtype:
        raise DtypeError(f"got {given.dtype}, wanted {dtype}", operation=operation.name, hint=hint)
    return given
