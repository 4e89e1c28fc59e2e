"""What an operation of the tape is, and the kinds that most operations are of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

import numpy as np

from viva_tensor.error import InvalidShape, InvalidValue
from viva_tensor.kernels.arrays import Array

Shape = tuple[int, ...]
Axis = int | Sequence[int] | None
Span = tuple[int, ...]  # start, count, step along one axis
Rule = Callable[..., Any]
Do = Callable[..., Any]
Tangent = Rule | Literal["linear", "symmetric"] | None


class OpenSize(tuple[int, ...]):
    """A span whose count, or a shape whose first size, was left open when it was recorded: ``:`` or -1.

    Programs for other batch sizes derive it anew; a size that was spelled out they refuse to guess.

    Examples
    --------
    >>> OpenSize((0, 4, 1)) == (0, 4, 1)
    True
    """


class RowGroups(OpenSize):
    """A shape for rows in groups, each of as many rows as the sizes after the first say: none counts the batch.

    Examples
    --------
    >>> RowGroups((8, 4, 3)) == (8, 4, 3)
    True
    """


class OpenLater(tuple[int, ...]):
    """A shape of which a size that is not the first was left open: -1, which may be what has the rows.

    Attributes
    ----------
    place : int
        The axis of that size.

    Examples
    --------
    >>> OpenLater((4, 15), 1) == (4, 15)
    True
    """

    place: int

    def __new__(cls, shape: Iterable[int], place: int = 1) -> Self:
        made = super().__new__(cls, shape)
        made.place = place
        return made


class JoinedAxes(tuple[int, ...]):
    """A shape each of whose sizes is the product of those of some axes, one after another.

    Attributes
    ----------
    groups : tuple of tuple of int
        The axes that each size is the product of.

    Examples
    --------
    >>> JoinedAxes((4, 15), ((0,), (1, 2))) == (4, 15)
    True
    """

    groups: tuple[tuple[int, ...], ...]

    def __new__(cls, shape: Iterable[int], groups: tuple[tuple[int, ...], ...] = ()) -> Self:
        made = super().__new__(cls, shape)
        made.groups = groups
        return made


class Counted(tuple[int, ...]):
    """Axes to reduce along which an operation needs at least so many elements, in a program's batches, too.

    Attributes
    ----------
    operation : str
        What errors name.
    least : int
        The smallest number of elements along all of the axes together.
    hint : str
        How to mend it if there are fewer.

    Examples
    --------
    >>> axes = Counted((0,), "var", 2, "give more rows")
    >>> axes.check((2, 3))
    >>> axes.check((1, 3))
    Traceback (most recent call last):
    viva_tensor.error.InvalidShape: var: shape (1, 3) has 1 along axes (0,), wanted at least 2; give more rows
    """

    operation: str
    least: int
    hint: str

    def __new__(cls, axes: Iterable[int], operation: str = "", least: int = 0, hint: str = "") -> Self:
        made = super().__new__(cls, axes)
        made.operation, made.least, made.hint = operation, least, hint
        return made

    def check(self, shape: Shape) -> None:
        """Raise InvalidShape if an array of this shape has fewer elements along the axes."""
        count = math.prod(shape[axis] for axis in self)
        if count < self.least:
            got = f"shape {shape} has {count} along axes {tuple(self)}, wanted at least {self.least}"
            raise InvalidShape(got, operation=self.operation, hint=self.hint)


class Value(Protocol):
    """An argument that rules pass to operations: an array, a variable, or a compiler's symbol for an array."""

    @property
    def shape(self) -> Shape: ...


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operation of the tape.

    Attributes
    ----------
    name : str
    shape : callable
        Takes the shapes of the inputs and the attributes, and returns the shape of the output. The forward kernel
        refuses inputs that do not fit.
    forward : callable
        Takes the arrays of the inputs and the attributes, and returns a new array (or a view of an input) of the dtype
        of the first.
    gradients : tuple of callable or None
        One rule for each input, ``rule(do, grad, output, *inputs, **attributes)``; None where the output has no slope,
        such as that of an index, or of an input that gives its shape alone.
    lower : callable, optional
        Adds the instructions of a compiled program: called as ``lower(build, *symbols, **attributes)`` with a builder
        whose methods are the kernels' primitives, it returns the symbol of the result.
    tangents : tuple of callable, "linear", "symmetric" or None
        One for each input, for :func:`viva_tensor.autograd.jvp`. "linear": the tangent takes the input's place.
        "symmetric": the Jacobian is, so the gradient rule serves. A callable: ``rule(do, tangent, output, *inputs,
        **attributes)``.
    pointwise : bool
        Whether each element of the output depends on the element of each input at its place alone.
    ours : bool
        Whether it is this library's; what others give is checked as it comes.

    Examples
    --------
    >>> from viva_tensor.autograd.operations import MATMUL
    >>> MATMUL
    Operation('matmul')
    >>> MATMUL.shape((2, 3), (3, 4))
    (2, 4)
    """

    name: str
    shape: Callable[..., Shape]
    forward: Callable[..., Array]
    gradients: tuple[Rule | None, ...] = ()
    lower: Callable[..., Any] | None = None
    tangents: tuple[Tangent, ...] = ()
    pointwise: bool = False
    ours: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "gradients", tuple(self.gradients))
        object.__setattr__(self, "tangents", tuple(self.tangents))

    @property
    def broadcasts(self) -> bool:
        """Whether inputs are combined element by element, repeating axes of size 1."""
        return self.shape is broadcast

    @property
    def keeps_axes(self) -> bool:
        """Whether the output has the shape of the first input, axis by axis."""
        return self.shape is same

    def tangent(self, index: int, do: Do, tangent: Value, output: Value, *inputs: Value, **attributes: Any) -> Any:
        """Return what the tangent of the input of this index adds to that of the output; None if nothing."""
        rule = self.tangents[index]
        if rule == "linear":
            return do(self, *inputs[:index], tangent, *inputs[index + 1 :], **attributes)
        if rule == "symmetric":
            rule = self.gradients[index]
        return None if rule is None else rule(do, tangent, output, *inputs, **attributes)

    def __reduce__(self) -> tuple[Callable[[str, int], Operation | None], tuple[str, int]]:
        count = len(self.gradients)
        if _known(self.name, count) is not self:
            hint = "pickle the data of its variables"
            raise InvalidValue(f"{self.name} is no operation of this library", operation="pickle", hint=hint)
        return _known, (self.name, count)

    def __repr__(self) -> str:
        return f"Operation({self.name!r})"


_KNOWN: dict[str, Callable[[int], Operation]] = {}  # what gives the operation of a name, for a number of inputs


def own(operation: Operation) -> Operation:
    """Take an operation for this library's, which is not checked as it comes."""
    object.__setattr__(operation, "ours", True)
    return operation


def remember(operation: Operation, of_inputs: Callable[[int], Operation] | None = None) -> None:
    """Take an operation for this library's, and let pickles find it by its name.

    One of any number of inputs is found by what gives it for a number.
    """
    own(operation)
    _KNOWN[operation.name] = of_inputs or (lambda inputs: operation)


def _known(name: str, inputs: int) -> Operation | None:
    return _KNOWN[name](inputs) if name in _KNOWN else None


def same(x: Shape, *others: Shape, **attributes: Any) -> Shape:
    """Return the shape of the first input."""
    return x


def like(grad: Shape, x: Shape, *others: Shape, **attributes: Any) -> Shape:
    """Return the shape of the second input."""
    return x


def broadcast(a: Shape, b: Shape) -> Shape:
    """Return the shape to which two are broadcast."""
    return np.broadcast_shapes(a, b)


def leaf(*inputs: Any) -> Any:
    """Stand for the shape rule and the kernel of what has no inputs."""
    raise TypeError("a leaf has no inputs to compute from")


def lowered(formula: str, factor: str = "", primitive: str = "elementwise") -> Callable[..., Any]:
    """Return the lowering to a formula of elements or rows; ``factor`` names the attribute that it takes."""

    def lower(build: Any, *symbols: Value, **attributes: Any) -> Any:
        chosen = {"factor": attributes[factor]} if factor else {}
        return getattr(build, primitive)(formula, *symbols, **chosen)

    return lower


def elementwise(name: str, forward: Any, *rules: Rule | None, factor: str = "") -> Operation:
    """Return an operation on each element of one or more inputs of one shape."""
    tangents: tuple[Tangent, ...] = tuple("symmetric" for _ in rules)
    return Operation(name, same, forward, rules, lowered(name, factor), tangents, pointwise=True)


def pairs(name: str, forward: Any, *rules: Rule | None, tangents: tuple[Tangent, ...]) -> Operation:
    """Return an operation on pairs of elements, broadcast as in NumPy."""
    return Operation(name, broadcast, forward, rules, lowered(name), tangents)


def gradient_kernel(
    name: str,
    kernel: Any,
    bend: Rule | None = None,
    factor: str = "",
    primitive: str = "elementwise",
    tangent: Tangent = "symmetric",
) -> Operation:
    """Return the operation of a kernel that takes a gradient to that of an input, by a symmetric Jacobian.

    Its second input is the input or output of the forward pass; ``bend`` and ``tangent`` are the rules for that, with
    None for a bend of 0 almost everywhere.
    """

    def of_grad(do: Do, upstream: Value, out: Value, grad: Value, x: Value, **attributes: Any) -> Any:
        return do(operation, upstream, x, **attributes)

    lower = lowered(name, factor, primitive)
    pointwise = primitive == "elementwise"
    operation = Operation(name, same, kernel, (of_grad, bend), lower, ("linear", tangent), pointwise)
    remember(operation)
    return operation


def curve(
    name: str, forward: Any, back: Operation, of_output: bool = False, factor: str = "", primitive: str = "elementwise"
) -> Operation:
    """Return an operation whose gradient is that of a kernel with the input, or with the output."""

    def gradient(do: Do, grad: Value, out: Value, x: Value, **attributes: Any) -> Any:
        return do(back, grad, out if of_output else x, **attributes)

    lower = lowered(name, factor, primitive)
    return Operation(name, same, forward, (gradient,), lower, ("symmetric",), primitive == "elementwise")
