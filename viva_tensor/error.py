"""Errors: one base class, and kinds that are also the built-in error a Python user would catch.

Each message names the operation, the fault and a hint: how to mend it.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "BroadcastError",
    "DimensionError",
    "DtypeError",
    "ForeignVariable",
    "GradientMismatch",
    "IndexOutOfBounds",
    "InvalidFile",
    "InvalidShape",
    "InvalidValue",
    "NoGradient",
    "NoOperator",
    "RankError",
    "ShapeMismatch",
    "TensorError",
]

Shape = Sequence[int]


class TensorError(Exception):
    """Base of all errors that viva_tensor raises about tensors.

    Parameters
    ----------
    reason : str
        The fault: usually what the operation got and wanted.
    operation : str, optional
        The operation that refused its input.
    hint : str, optional
        How to mend it.

    Examples
    --------
    >>> print(TensorError("the loss is not finite", operation="fit", hint="lower the learning rate"))
    fit: the loss is not finite; lower the learning rate
    """

    def __init__(self, reason: str, *, operation: str = "", hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.operation = operation
        self.hint = hint

    def __str__(self) -> str:
        before = f"{self.operation}: " if self.operation else ""
        after = f"; {self.hint}" if self.hint else ""
        return f"{before}{self.reason}{after}"


class ShapeMismatch(TensorError, ValueError):
    """Two shapes that should agree do not.

    Examples
    --------
    >>> print(ShapeMismatch((3, 4), (3, 5), operation="mse_loss", hint="give one target for each prediction"))
    mse_loss: expected shape (3, 4), got (3, 5); give one target for each prediction
    """

    def __init__(self, expected: Shape, got: Shape, *, operation: str = "", hint: str = "") -> None:
        super().__init__(f"expected shape {tuple(expected)}, got {tuple(got)}", operation=operation, hint=hint)
        self.args = (expected, got)
        self.expected = tuple(expected)
        self.got = tuple(got)


class InvalidShape(TensorError, ValueError):
    """A shape that is not possible, such as a layer with no features."""


class BroadcastError(TensorError, ValueError):
    """Two shapes that NumPy's broadcasting rules cannot combine.

    Examples
    --------
    >>> print(BroadcastError((3, 4), (3,), operation="add"))
    add: shapes (3, 4) and (3,) cannot be broadcast together; each trailing axis must be equal or 1
    """

    def __init__(self, shape_a: Shape, shape_b: Shape, *, operation: str = "", hint: str = "") -> None:
        super().__init__(
            f"shapes {tuple(shape_a)} and {tuple(shape_b)} cannot be broadcast together",
            operation=operation,
            hint=hint or "each trailing axis must be equal or 1",
        )
        self.args = (shape_a, shape_b)
        self.shape_a = tuple(shape_a)
        self.shape_b = tuple(shape_b)


class DimensionError(TensorError, ValueError):
    """A number of dimensions that the operation does not accept."""


class DtypeError(TensorError, TypeError):
    """An element type other than float32 and float64, or two different ones in one operation."""


class IndexOutOfBounds(TensorError, IndexError):
    """An axis or index outside its range.

    Examples
    --------
    >>> print(IndexOutOfBounds(2, 2, operation="sum", hint="axes of shape (3, 4) run from -2 to 1"))
    sum: index 2 is out of bounds for size 2; axes of shape (3, 4) run from -2 to 1
    """

    def __init__(self, index: int, size: int, *, operation: str = "", hint: str = "") -> None:
        named = index if index.bit_length() <= 256 else f"of {index.bit_length()} bits"  # no longer number can be shown
        super().__init__(f"index {named} is out of bounds for size {size}", operation=operation, hint=hint)
        self.args = (index, size)
        self.index = index
        self.size = size


class ForeignVariable(TensorError, ValueError):
    """A variable used with a tape that does not hold it."""


class NoGradient(TensorError, KeyError):
    """A request for the gradient of something that has none, such as a constant."""


class NoOperator(TensorError, TypeError):
    """A Python operator on a variable or a layer: operations are functions that take a tape and return the next."""


class InvalidValue(TensorError, ValueError):
    """An argument outside its range, such as a learning rate that is not positive."""


class InvalidFile(TensorError, ValueError):
    """A file with the wrong content: truncated, foreign, or of another shape or dtype.

    A file that cannot be opened at all raises the system's OSError.
    """


class RankError(TensorError, RuntimeError):
    """Ranks that cannot go on training together: they disagree, or one of them has failed."""


class GradientMismatch(TensorError, AssertionError):
    """A gradient that central differences contradict, at element `index` of `input`.

    Examples
    --------
    >>> print(GradientMismatch(1, (0, 2), 3.0, 2.0, operation="check_gradients", hint="mend the rule of that input"))
    check_gradients: input 1, element (0, 2): backward gives 3, central differences give 2; mend the rule of that input
    """

    def __init__(
        self, input: int, index: Shape, backward: float, difference: float, *, operation: str = "", hint: str = ""
    ) -> None:
        super().__init__(
            f"input {input}, element {tuple(index)}: backward gives {backward:.9g}, "
            f"central differences give {difference:.9g}",
            operation=operation,
            hint=hint,
        )
        self.args = (input, index, backward, difference)
        self.input = input
        self.index = tuple(index)
        self.backward = backward
        self.difference = difference
