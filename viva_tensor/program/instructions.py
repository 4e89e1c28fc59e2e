"""Instructions over symbols: what a recorded step becomes, before memory and order are planned.

A ``Symbol`` is an array to be: a shape and strides on a ``Buffer``. An ``Instruction`` is a kernel call; each kind has
a class that tells what passes, layouts and planning ask of it. ``emission`` hands them to the executor.
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
    """Memory for `size` elements.

    ``kind`` is "temporary" (planned), "input" (the caller's array number ``index``), "parameter" (number ``index``) or
    "constant" (``array``).
    """

    kind: str
    size: int
    index: int = -1
    array: np.ndarray[Any, Any] | None = None
    name: str = ""


@dataclass(eq=False, slots=True)
class Symbol:
    """An array to be: shape, and strides and offset in elements of its buffer.

    In panels (see ``layouts``), ``down`` and ``across`` lead from one panel of rows or columns to the next.
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

    ``fused`` names what happens besides in the write-back: "bias", "relu", "mask", "update". ``moments`` of an update
    tells how many arrays beside its parameter it reads and writes.
    """

    operands: Mapping[str, Symbol]
    results: Mapping[str, Symbol]
    fused: tuple[str, ...] = ()
    moments: int = 0

    kind: ClassVar[str]
    own_rows: ClassVar[frozenset[str]] = frozenset()
    """Operands of which a thread that owns rows of the output reads only those rows."""

    @property
    def label(self) -> str:
        """The name by which programs are shown."""
        return self.kind

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """All that it reads and writes."""
        return (*self.operands.values(), *self.results.values())

    @property
    def multiply_adds(self) -> int:
        return 0

    @property
    def flops(self) -> int:
        made = sum(symbol.size for symbol in self.results.values())
        return max([made, *(symbol.size for symbol in self.operands.values())])

    @property
    def elements(self) -> int:
        """Elements that move between the processor and its caches."""
        moved = sum(symbol.size for symbol in self.symbols)
        return moved + (2 * self.moments * self.results["w"].size if "w" in self.results else 0)

    def threads(self, most: int, limits: Thresholds) -> tuple[int, bool]:
        """Return how many threads share it, of so many at most, and whether they own rows of the output."""
        return max(1, min(most, self.elements // limits.elements)), False

    def takes_panels(self, name: str) -> bool:
        """Return whether the kernel takes this operand or result in panels."""
        return False

    @property
    def better_in_panels(self) -> tuple[Symbol, ...]:
        """The symbols that panels would make faster, or leave as fast."""
        return ()

    @property
    def alike(self) -> tuple[Symbol, ...]:
        """The symbols that lie in panels together or not at all."""
        return ()


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ByRows(Instruction):
    """An instruction whose threads own rows of the output, if there are enough for all of them."""

    def threads(self, most: int, limits: Thresholds) -> tuple[int, bool]:
        shape = self.results["out"].shape
        return (most, True) if (shape[0] if shape else 1) >= 8 * most else (1, False)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Matmul(Instruction):
    """a · b, then what is fused: + bias, relu, 0 where the mask is at most 0, the update of weights."""

    kind = "matmul"
    own_rows = frozenset({"a", "mask"})

    @property
    def multiply_adds(self) -> int:
        return math.prod(self.results["out"].shape) * self.operands["a"].shape[1]

    @property
    def flops(self) -> int:
        return 2 * self.multiply_adds + sum(symbol.size for symbol in self.results.values()) * len(self.fused)

    def threads(self, most: int, limits: Thresholds) -> tuple[int, bool]:
        rows, columns = self.results["out"].shape
        a, b = self.operands["a"], self.operands["b"]
        in_place = b.strides[1] == 1 and b.across > 0
        if (
            "update" not in self.fused
            and not (a.down or self.results["out"].down)  # else rows lie in panels, which shares of them would cut
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
class Elementwise(ByRows):
    """A formula of each pair of elements. ``aligned``: all lie alike, so threads may own rows, and all be in panels."""

    name: str
    factor: float
    aligned: bool = False

    kind = "elementwise"
    own_rows = frozenset({"a", "b"})

    @property
    def label(self) -> str:
        return self.name

    def threads(self, most: int, limits: Thresholds) -> tuple[int, bool]:
        return (ByRows if self.aligned else Instruction).threads(self, most, limits)

    def takes_panels(self, name: str) -> bool:
        return self.aligned

    @property
    def better_in_panels(self) -> tuple[Symbol, ...]:
        return self.symbols if self.aligned else ()

    @property
    def alike(self) -> tuple[Symbol, ...]:
        return self.symbols if self.aligned else ()


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Rows(ByRows):
    """A formula of each row; b may be one number for each."""

    name: str
    factor: float

    kind = "rows"
    own_rows = frozenset({"a", "b"})

    @property
    def label(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Sum(Instruction):
    """The sum over the middle one of three ``sizes`` of a contiguous x, divided."""

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
class Dropout(ByRows):
    """Elements set to 0 by the seed at an index of the program's seeds."""

    rate: float
    seed: int

    kind = "dropout"
    own_rows = frozenset({"x"})


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ToPanels(ByRows):
    """A matrix copied into panels."""

    kind = "to_panels"
    own_rows = frozenset({"x"})

    def takes_panels(self, name: str) -> bool:
        return name == "out"

    @property
    def better_in_panels(self) -> tuple[Symbol, ...]:
        return (self.results["out"],)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SquaredError(Instruction):
    """The mean squared error of contiguous arrays, perhaps with its gradient in the same pass."""

    kind = "squared_error"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SquaredErrorBackward(ByRows):
    """The gradient of a mean squared error."""

    kind = "squared_error_backward"
    own_rows = frozenset({"pred", "target"})


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SquaredNorm(Instruction):
    """Partial sums of the squares of a gradient."""

    kind = "squared_norm"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Clip(Instruction):
    """The factor that scales gradients down to a norm, from the partial sums of each."""

    max_norm: float

    kind = "clip"

    def threads(self, most: int, limits: Thresholds) -> tuple[int, bool]:
        return 1, False


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Update(Instruction):
    """A step of the optimiser, in place."""

    kind = "update"


def row_major(shape: Sequence[int]) -> Strides:
    """Strides of adjacent rows.

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
