"""Instructions over symbols: what a recorded step becomes, before memory and order are planned.

A ``Symbol`` is an array to be: a shape and strides on a ``Buffer``. An ``Instruction`` is a kernel call; each kind has
a class with what passes, layouts and planning need to know of it. ``emission`` passes them to the executor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from viva_tensor.program.thresholds import Thresholds

Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]
Strides = tuple[int, ...]


@dataclass(eq=False, slots=True)
class Buffer:
    """Memory for `size` elements: a "temporary", the "input" or "parameter" at an index, or a "constant" array."""

    kind: str
    size: int
    index: int = -1
    array: np.ndarray[Any, Any] | None = None
    name: str = ""


@dataclass(eq=False, slots=True)
class Symbol:
    """An array to be: shape, and strides and offset in elements of its buffer.

    In panels (see ``layouts``), ``down`` and ``across`` are the strides from one panel of rows or columns to the next.
    """

    shape: Shape
    strides: Strides
    buffer: Buffer
    offset: int = 0
    down: int = 0
    across: int = 0

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        return self.strides == row_major(self.shape) and not (self.down or self.across)

    def __repr__(self) -> str:
        panels = bool(self.down or self.across)
        transposed = "ᵀ" if self.down or (len(self.shape) == 2 and not (self.contiguous or panels)) else ""
        return f"{self.buffer.name}{transposed} {list(self.shape)}{' in panels' * panels}"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Instruction:
    """One kernel call. ``operands`` are read, ``results`` written; an update does both to its parameter.

    ``fused`` names what the write-back does besides: "bias", "relu", "mask", "update". ``moments`` is the number of
    arrays that an update reads and writes beside its parameter.
    """

    operands: Mapping[str, Symbol]
    results: Mapping[str, Symbol]
    fused: tuple[str, ...] = ()
    moments: int = 0

    kind: ClassVar[str]
    row_operands: ClassVar[frozenset[str]] = frozenset()
    """Operands that are split by rows as the output is: a thread that owns some rows reads no others."""

    @property
    def label(self) -> str:
        """The name in listings."""
        return self.kind

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """The symbols that it reads and writes."""
        return (*self.operands.values(), *self.results.values())

    @property
    def multiply_adds(self) -> int:
        return 0

    @property
    def flops(self) -> int:
        return max(_total(self.results), *(symbol.size for symbol in self.operands.values()))

    @property
    def elements(self) -> int:
        """Elements that move between the processor and its caches."""
        moments = 2 * self.moments * self.results["w"].size if "w" in self.results else 0
        return _total(self.operands) + _total(self.results) + moments

    @property
    def split_by_rows(self) -> bool:
        """Whether threads that share it own rows of the output."""
        return bool(self.row_operands)

    def threads(self, most: int, limits: Thresholds) -> tuple[int, bool]:
        """Return the number of threads that share it, ``most`` at most, and whether they own rows of the output."""
        if self.split_by_rows:
            shape = self.results["out"].shape
            rows = shape[0] if shape else 1
            fewer = min(rows // 8, self.elements // limits.elements)  # than most: there are not rows enough
            return (most, True) if rows >= 8 * most else (fewer, True) if fewer > 1 else (1, False)
        return max(1, min(most, self.elements // limits.elements)), False

    def takes_panels(self, name: str) -> bool:
        """Return whether the kernel takes this operand or result in panels."""
        return False

    @property
    def better_in_panels(self) -> tuple[Symbol, ...]:
        """The symbols that are read or written as fast in panels, or faster."""
        return ()

    @property
    def alike(self) -> tuple[Symbol, ...]:
        """The symbols that are either all in panels or all in rows."""
        return ()


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Matmul(Instruction):
    """a · b, then in the write-back: + bias, relu, 0 where the mask is at most 0, or the update of weights."""

    kind = "matmul"
    row_operands = frozenset({"a", "mask"})

    @property
    def multiply_adds(self) -> int:
        return math.prod(self.results["out"].shape) * self.operands["a"].shape[1]

    @property
    def flops(self) -> int:
        return 2 * self.multiply_adds + _total(self.results) * len(self.fused)

    def threads(self, most: int, limits: Thresholds) -> tuple[int, bool]:
        rows, columns = self.results["out"].shape
        a, b = self.operands["a"], self.operands["b"]
        in_place = b.strides[1] == 1 and b.across > 0
        if (
            "update" not in self.fused
            and not (a.down or self.results["out"].down)  # else rows are in panels, which must not be split
            and a.shape[1] * columns <= (limits.own_rows if in_place else limits.packed_twice)
            and rows >= 8 * most
        ):
            return most, True
        return max(1, min(most, self.multiply_adds // limits.product)), False

    def takes_panels(self, name: str) -> bool:
        return name in ("a", "b", "mask", "w") or (name == "out" and "w" not in self.results)

    @property
    def better_in_panels(self) -> tuple[Symbol, ...]:
        return self.operands["b"], self.results["out"]

    @property
    def alike(self) -> tuple[Symbol, ...]:
        return (self.operands["mask"], self.results["out"]) if "mask" in self.operands else ()


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class BatchMatmul(Instruction):
    """The products of the last two axes; operands are repeated along the other ones by strides of 0."""

    kind = "batch_matmul"

    @property
    def multiply_adds(self) -> int:
        return self.results["out"].size * self.operands["a"].shape[-1]

    @property
    def flops(self) -> int:
        return 2 * self.multiply_adds

    def threads(self, most: int, limits: Thresholds) -> tuple[int, bool]:
        return max(1, min(most, self.multiply_adds // limits.product)), False


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Elementwise(Instruction):
    """A formula of each pair of elements. ``aligned``: equal layouts, so threads may own rows, and all be in panels."""

    name: str
    factor: float
    aligned: bool = False

    kind = "elementwise"
    row_operands = frozenset({"a", "b"})

    @property
    def label(self) -> str:
        return self.name

    @property
    def split_by_rows(self) -> bool:
        return self.aligned

    def takes_panels(self, name: str) -> bool:
        return self.aligned

    @property
    def alike(self) -> tuple[Symbol, ...]:
        return self.symbols if self.aligned else ()

    better_in_panels = alike


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Rows(Instruction):
    """A formula of each row; b may be one number for each."""

    name: str
    factor: float

    kind = "rows"
    row_operands = frozenset({"a", "b"})

    @property
    def label(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Sum(Instruction):
    """The sum over the second of the three axes of a contiguous x of these ``sizes``, divided."""

    sizes: tuple[int, int, int]
    divisor: float

    kind = "sum"

    @property
    def over_rows(self) -> bool:
        """Whether it is a sum over the rows of a matrix."""
        outer, _, inner = self.sizes
        return outer == 1 and inner > 1 and len(self.operands["x"].shape) == 2

    def takes_panels(self, name: str) -> bool:
        return name == "x" and self.over_rows


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Along(Instruction):
    """The extremes or running sums along the second of the three axes of a contiguous x of these ``sizes``.

    Running sums begin anew at each of ``starts``.
    """

    name: str
    sizes: tuple[int, int, int]
    starts: tuple[int, ...] = ()

    kind = "along"

    @property
    def label(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Take(Instruction):
    """Elements of the second of the three axes of a contiguous x of these ``sizes``, by their indices."""

    sizes: tuple[int, int, int]

    kind = "take"
    row_operands = frozenset({"indices"})

    @property
    def split_by_rows(self) -> bool:
        """Whether rows of the output are of rows of the indices."""
        indices = self.operands["indices"]
        return self.sizes[0] == 1 and indices.shape[:1] == self.results["out"].shape[:1] != ()

    @property
    def elements(self) -> int:
        return 2 * self.results["out"].size


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class TakeBackward(Instruction):
    """The sums of what was taken of each element of an axis: the gradient of ``Take``."""

    sizes: tuple[int, int, int]

    kind = "take_backward"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class EmbeddingBag(Instruction):
    """Weighted sums of rows of a table x, by their indices."""

    kind = "embedding_bag"
    row_operands = frozenset({"indices", "weights"})

    @property
    def elements(self) -> int:
        return self.operands["indices"].size * self.results["out"].shape[1]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class EmbeddingBagBackward(Instruction):
    """The sums of rows of x, weighted, that land on each row of a table: the gradient of ``EmbeddingBag``."""

    kind = "embedding_bag_backward"

    @property
    def elements(self) -> int:
        return 2 * self.operands["indices"].size * self.results["out"].shape[1]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Dropout(Instruction):
    """Elements set to 0 at random; ``seed`` is an index into the program's seeds."""

    rate: float
    seed: int

    kind = "dropout"
    row_operands = frozenset({"x"})


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ToPanels(Instruction):
    """A matrix copied into panels."""

    kind = "to_panels"
    row_operands = frozenset({"x"})

    def takes_panels(self, name: str) -> bool:
        return name == "out"

    @property
    def better_in_panels(self) -> tuple[Symbol, ...]:
        return (self.results["out"],)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SquaredError(Instruction):
    """The mean squared error of contiguous arrays, and its gradient if the results name "out"."""

    kind = "squared_error"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SquaredErrorBackward(Instruction):
    """The gradient of a mean squared error."""

    kind = "squared_error_backward"
    row_operands = frozenset({"pred", "target"})


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SquaredNorm(Instruction):
    """Partial sums of the squares of an array."""

    kind = "squared_norm"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Clip(Instruction):
    """The factor that scales gradients down to a norm, from the partial sums of their squares."""

    max_norm: float

    kind = "clip"

    def threads(self, most: int, limits: Thresholds) -> tuple[int, bool]:
        return 1, False


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Update(Instruction):
    """A step of the optimiser, in place."""

    kind = "update"


def row_major(shape: Sequence[int]) -> Strides:
    """Return the strides of an array in row-major order.

    Examples
    --------
    >>> row_major((2, 3, 4))
    (12, 4, 1)
    """
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def _total(symbols: Mapping[str, Symbol]) -> int:
    """Return the number of elements of all symbols."""
    return sum(symbol.size for symbol in symbols.values())
