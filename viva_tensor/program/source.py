"""The source of a program: recorded nodes, which can be planned for any shapes and number of threads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.autograd import Node, Tape, Variable, operations
from viva_tensor.autograd.tape import node_of, several
from viva_tensor.error import DimensionError, DtypeError, InvalidValue, ShapeMismatch
from viva_tensor.kernels.arrays import Array, as_array
from viva_tensor.optim import Optimizer
from viva_tensor.program import observation
from viva_tensor.program._executor import INPUTS_AT_MOST
from viva_tensor.program.instructions import Instruction, Shapes, Symbol
from viva_tensor.program.lowering import Lowered, lower, needed
from viva_tensor.program.passes import PASSES, Pass


class Part(NamedTuple):
    """Some rows of a batch."""

    rows: int
    arrays: tuple[Array, ...]

    @property
    def shapes(self) -> Shapes:
        """The shape of each array."""
        return tuple(array.shape for array in self.arrays)


@dataclass(frozen=True, slots=True)
class Source:
    """Recorded nodes, to be lowered for any shapes."""

    nodes: list[Node]
    outputs: tuple[Variable, ...]
    inputs: tuple[Variable, ...]
    params: tuple[Variable, ...]
    dtype: np.dtype[Any]
    optimizer: Optimizer | None
    factors: tuple[tuple[float, float], ...]  # of the optimiser's rate and decay, for each parameter; none: 1
    seeds: tuple[int, ...]  # of all dropouts on the tape, used or not; none if the output depends on no dropout
    bags: frozenset[Variable] = frozenset()  # inputs that are only indices or weights of sums of rows of a table

    @property
    def dropouts(self) -> int:
        """The number of seeds that the output depends on."""
        return len(_seeds(self.nodes))

    def instructions(
        self, shapes: Shapes, passes: Sequence[Pass] = PASSES, weight: float = 1.0
    ) -> tuple[list[Instruction], Symbol]:
        """Return the instructions for some shapes, and the output; gradients are those of the output times a weight."""
        return self.lowered(shapes, passes, weight)[:2]

    def lowered(self, shapes: Shapes, passes: Sequence[Pass] = PASSES, weight: float = 1.0) -> Lowered:
        """Return the instructions for some shapes as :meth:`instructions` does, and each of several outputs."""
        instructions, output, parts = lower(
            self.nodes, self.outputs, self.inputs, shapes, self.params, self.optimizer, self.seeds, weight
        )
        observer = observation.observe(instructions, output, self.dtype)
        for improve in passes:
            instructions = improve(instructions, output)
            observer.after(improve.__name__, instructions)
        return Lowered(instructions, output, parts)

    def arrays(self, operation: str, inputs: Sequence[ArrayLike]) -> tuple[Array, ...]:
        """Return inputs as contiguous arrays; those without a dtype get that of the program."""
        try:
            given = [as_array(operation, one, None if hasattr(one, "dtype") else self.dtype) for one in inputs]
        except DtypeError:
            for one in inputs:
                as_array(operation, one, self.dtype)  # whose error names the dtype
            raise
        return tuple(np.asarray(array, order="C") for array in given)

    def shapes(self, operation: str, arrays: Sequence[Array]) -> Shapes:
        """Return the shapes of a batch, checked: it may have other rows than recorded, and bags other entries."""
        if len(arrays) != len(self.inputs):
            wanted = ", ".join(str(variable.data.shape) for variable in self.inputs)
            raise DimensionError(f"got {len(arrays)} inputs, wanted {wanted}", operation=operation)
        other = False
        for array, variable in zip(arrays, self.inputs, strict=True):
            recorded = variable.data.shape
            if array.dtype != self.dtype:
                raise DtypeError(
                    f"got {array.dtype} of shape {array.shape}, wanted {self.dtype}",
                    operation=operation,
                    hint=f"cast it with .astype(np.{self.dtype})",
                )
            open_axes = 2 if variable in self.bags else 1
            if array.ndim != len(recorded) or array.shape[open_axes:] != recorded[open_axes:]:
                raise ShapeMismatch(recorded, array.shape, operation=operation, hint="only the first axis may vary")
            other = other or array.shape[:1] != recorded[:1]
        if other:
            self._check_rows(operation, arrays)
        return tuple(array.shape for array in arrays)

    def _check_rows(self, operation: str, arrays: Sequence[Array]) -> None:
        """Raise unless each input has the rows of the batch, or if it is not of the batch, those that were recorded."""
        rows = next(array.shape[:1] for array, batched in zip(arrays, self.batched, strict=True) if batched)
        for array, variable, batched in zip(arrays, self.inputs, self.batched, strict=True):
            want = (*(rows if batched else variable.data.shape[:1]), *array.shape[1:])
            if array.shape != want:
                hint = "give as many rows in each input; the first input that has axes says how many a batch has"
                if not batched:
                    batch = f"recorded with {self.batch[0]} rows, as the first that has axes"
                    hint = f"only inputs {batch}, may have others; put the batch first in inputs="
                raise ShapeMismatch(want, array.shape, operation=operation, hint=hint)

    @property
    def batch(self) -> tuple[int, ...]:
        """The recorded rows of a batch: those of the first input that has rows; nothing if none has."""
        return next((shape[:1] for variable in self.inputs if (shape := variable.data.shape)), ())

    @property
    def batched(self) -> tuple[bool, ...]:
        """Whether each input has a row for each of a batch."""
        batch = self.batch
        return tuple(batch != () and variable.data.shape[:1] == batch for variable in self.inputs)

    def parts(self, arrays: Sequence[Array], rows: int | None) -> list[Part]:
        """Return the parts of a batch, of so many rows and the last of what is left; None: one part of all."""
        count = next((len(array) for array, batched in zip(arrays, self.batched, strict=True) if batched), 1)
        if rows is None or count <= rows or not any(self.batched):
            return [Part(count, tuple(arrays))] if count else []
        return [
            Part(
                min(rows, count - begin),
                tuple(
                    array[begin : begin + rows] if batched else array
                    for array, batched in zip(arrays, self.batched, strict=True)
                ),
            )
            for begin in range(0, count, rows)
        ]


def source_of(
    operation: str,
    tape: Tape,
    outputs: tuple[Variable, ...],
    inputs: Sequence[Variable],
    params: tuple[Variable, ...],
    optimizer: Optimizer | None,
    factors: tuple[tuple[float, float], ...] = (),
) -> Source:
    """Return the part of a tape that a program is made of, checked."""
    inputs = several(operation, "inputs", inputs)
    for variable in (*outputs, *inputs, *params):
        node_of(tape, variable, operation)
    nodes = tape.nodes()
    for variable in (*inputs, *params):
        if nodes[variable.id].inputs:
            raise InvalidValue(
                f"variable {variable.id} is not a leaf",
                operation=operation,
                hint="give what new_constant or new_variable made",
            )
    for variable in params:
        if nodes[variable.id].operation is operations.CONSTANT:
            raise InvalidValue(
                f"parameter {variable.id} is a constant",
                operation=operation,
                hint="make what is to be trained with new_variable",
            )
    if len(set(inputs)) < len(inputs) or set(inputs) & set(params):
        raise InvalidValue("a variable is named twice among inputs and parameters", operation=operation)
    if not 1 <= len(inputs) <= INPUTS_AT_MOST:
        hint = f"name from 1 to {INPUTS_AT_MOST} leaves that each call replaces"
        raise InvalidValue(f"{len(inputs)} inputs", operation=operation, hint=hint)
    kept = needed(nodes, outputs)
    dtypes = {node.output.data.dtype for node in kept} | {variable.data.dtype for variable in (*inputs, *params)}
    if len(dtypes) > 1:
        raise DtypeError(f"mixed dtypes: {', '.join(map(str, sorted(dtypes, key=str)))}", operation=operation)
    seeds = dict.fromkeys(_seeds(nodes)) if _seeds(kept) else ()
    bags = _bags(kept, outputs).intersection(inputs)
    return Source(kept, outputs, inputs, params, dtypes.pop(), optimizer, factors, tuple(seeds), bags)


def _bags(nodes: Iterable[Node], outputs: Iterable[Variable]) -> frozenset[Variable]:
    """Return the variables that are indices or weights of sums of rows of a table, and nothing else."""
    bags: set[Variable] = set()
    others: set[Variable] = set(outputs)
    for node in nodes:
        summed = node.operation in (operations.EMBEDDING_BAG, operations.EMBEDDING_BAG_BACKWARD)
        bags.update(node.inputs[-2:] if summed else ())  # the table, or its gradient, comes before them
        others.update(node.inputs[:-2] if summed else node.inputs)
    return frozenset(bags - others)


def _seeds(nodes: Iterable[Node]) -> list[int]:
    return [node.attributes["seed"] for node in nodes if node.operation is operations.DROPOUT]
