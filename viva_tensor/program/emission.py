"""Planned instructions as calls of the executor: each kind with its symbols as addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from viva_tensor.kernels.products import offsets_of
from viva_tensor.kernels.updates import Rule
from viva_tensor.program._calls import DEPTH_BLOCK, Address, InputOffset
from viva_tensor.program._executor import Executor
from viva_tensor.program._guard import Guard
from viva_tensor.program.instructions import (
    Along,
    BatchMatmul,
    Buffer,
    Clip,
    Dropout,
    Elementwise,
    EmbeddingBag,
    EmbeddingBagBackward,
    Instruction,
    Matmul,
    Rows,
    SquaredError,
    SquaredErrorBackward,
    SquaredNorm,
    Sum,
    Symbol,
    Take,
    TakeBackward,
    ToPanels,
    Update,
)
from viva_tensor.program.layouts import Panels
from viva_tensor.program.scheduling import Planned

if TYPE_CHECKING:
    from viva_tensor.program._calls import Location, Strided, Team, UpdateStep


def sums_in_registers(one: Instruction) -> bool:
    """Return whether an instruction updates weights from sums that stay in registers."""
    return "update" in one.fused and (not isinstance(one, Matmul) or one.operands["a"].shape[1] <= DEPTH_BLOCK)


@dataclass(frozen=True, slots=True)
class Holdings:
    """The memory that a program keeps from one call to the next."""

    parameters: Sequence[np.ndarray[Any, Any]] = ()
    layouts: Mapping[int, Panels] = field(default_factory=dict)  # of the parameters, and their moments, in panels
    moments: Mapping[str, Sequence[np.ndarray[Any, Any]]] = field(default_factory=dict)  # for each slot
    rule: Rule | None = None  # the optimiser
    factors: Sequence[tuple[float, float]] = ()  # of its rate and decay for each parameter; none: 1
    guard: Guard | None = None
    seeds: np.ndarray[Any, Any] | None = None  # one number for each dropout
    dropout_factor: np.ndarray[Any, Any] | None = None  # of the rates of dropouts, one number


@dataclass(frozen=True, slots=True)
class Returned:
    """Parts of the output that each call writes to arrays of its own, which come after its inputs.

    Attributes
    ----------
    slot : int
        Of the first part.
    parts : tuple of Symbol
        Some of those that an output is made of, each in a stretch of its buffer that is written as one.
    """

    slot: int = 0
    parts: tuple[Symbol, ...] = ()

    def location(self, symbol: Symbol, itemsize: int) -> InputOffset | None:
        """Return where in one of the arrays a symbol lies, if it does."""
        for number, part in enumerate(self.parts):
            within = symbol.offset - part.offset
            if symbol.buffer is part.buffer and 0 <= within < part.size:
                return InputOffset(self.slot + number, within * itemsize)
        return None


@dataclass(frozen=True, slots=True)
class Emitter:
    """The addresses of symbols, and the executor whose calls instructions become."""

    itemsize: int
    executor: Executor
    arena: int  # its address
    offsets: Mapping[Buffer, int]  # of temporaries, in bytes from the start of the arena
    held: Holdings
    returned: Returned = Returned()

    def emit(self, one: Planned) -> None:
        """Append the calls of an instruction."""
        EMITTED[type(one.instruction)](self, one.instruction, one, (one.first, one.threads, one.barrier))

    def location(self, symbol: Symbol) -> Location:
        """Return where a symbol is read."""
        if symbol.buffer.kind == "input":
            return InputOffset(symbol.buffer.index, symbol.offset * self.itemsize)
        return self.address(symbol)

    def address(self, symbol: Symbol) -> Location:
        """Return where a symbol is written: never in an input."""
        buffer = symbol.buffer
        found = self.returned.location(symbol, self.itemsize)
        if found is not None:
            return found
        if buffer.kind == "parameter":
            start = self.held.parameters[buffer.index].ctypes.data
        elif buffer.array is not None:
            self.executor.keep(buffer.array)
            start = buffer.array.ctypes.data
        else:
            start = self.arena + self.offsets[buffer]
        return Address(start + symbol.offset * self.itemsize)

    def matrix(self, symbol: Symbol) -> Strided:
        row, column = symbol.strides
        return self.location(symbol), row, column, symbol.down, symbol.across

    def step(self, one: Instruction) -> UpdateStep:
        """Return the optimiser's step that an instruction makes."""
        w = one.results["w"]
        scale, penalty = (
            None if (symbol := one.operands.get(name)) is None else self.location(symbol)
            for name in ("scale", "penalty")
        )
        first, second = (
            self.held.moments[slot][w.buffer.index].ctypes.data if slot in self.held.moments else 0
            for slot in ("first", "second")
        )
        factors = self.held.factors[w.buffer.index] if self.held.factors else (1.0, 1.0)
        return scale, penalty, self.address(w), w.size, first, second, factors


def _matmul(to: Emitter, one: Matmul, planned: Planned, team: Team) -> None:
    out, bias, mask = one.results["out"], one.operands.get("bias"), one.operands.get("mask")
    update = None
    if "update" in one.fused:
        w = one.results["w"]
        out = w if sums_in_registers(one) else replace(w, buffer=out.buffer)
        update = to.step(one)
    rows, columns = out.shape
    planned.path = to.executor.matmul(
        (rows, columns, one.operands["a"].shape[1]),
        to.matrix(one.operands["a"]),
        to.matrix(one.operands["b"]),
        to.matrix(out),
        None if bias is None else (to.location(bias), 0, bias.strides[0], 0, 0),
        "relu" in one.fused,
        None if mask is None else to.matrix(mask),
        update,
        bool(out.down or out.across) and (bias is None or bias.buffer.kind != "input"),
        planned.by_rows,
        team,
    )


def _batch_matmul(to: Emitter, one: BatchMatmul, planned: Planned, team: Team) -> None:
    a, b, out = one.operands["a"], one.operands["b"], one.results["out"]
    planned.path = to.executor.batch_matmul(
        (out.shape[-2], out.shape[-1], a.shape[-1]),
        (to.location(a), a.strides[-2], a.strides[-1], 0, 0),
        (to.location(b), b.strides[-2], b.strides[-1], 0, 0),
        to.address(out),
        offsets_of(a.shape[:-2], a.strides[:-2]),
        offsets_of(b.shape[:-2], b.strides[:-2]),
        team,
    )


def _pairs(to: Emitter, one: Elementwise | Rows, planned: Planned, team: Team) -> None:
    a, out = to.matrix(one.operands["a"]), one.results["out"]
    to.executor.pairs(
        one.name,
        one.operands["a"].shape,
        a,
        to.matrix(one.operands["b"]) if "b" in one.operands else a,
        to.matrix(out),
        one.factor,
        planned.by_rows or bool(out.across),  # panels are read row by row by one thread too
        team,
    )


def _sum(to: Emitter, one: Sum, planned: Planned, team: Team) -> None:
    update = to.step(one) if "update" in one.fused else None
    total = to.address(one.results["out"]) if update is None else None
    to.executor.sum(one.sizes, to.location(one.operands["x"]), total, one.divisor, update, team)


def _along(to: Emitter, one: Along, planned: Planned, team: Team) -> None:
    x, out = to.location(one.operands["x"]), to.address(one.results["out"])
    to.executor.along(one.name, one.sizes, one.starts, x, out, team)


def _take(to: Emitter, one: Take | TakeBackward, planned: Planned, team: Team) -> None:
    indices, out = one.operands["indices"], one.results["out"]
    outer, size, inner = one.sizes
    backward = isinstance(one, TakeBackward)
    to.executor.take(
        (outer, size, indices.size, inner),
        out.shape[0] if planned.by_rows else outer * indices.size,
        to.location(one.operands["grad" if backward else "x"]),
        to.location(indices),
        to.address(out),
        backward,
        team,
    )


def _embedding_bag(to: Emitter, one: EmbeddingBag | EmbeddingBagBackward, planned: Planned, team: Team) -> None:
    x, indices, weights = (to.location(one.operands[name]) for name in ("x", "indices", "weights"))
    table = one.operands["x"] if isinstance(one, EmbeddingBag) else one.results["out"]
    sizes = (*one.operands["indices"].shape, *table.shape)
    backward = isinstance(one, EmbeddingBagBackward)
    to.executor.embedding_bag(sizes, x, indices, weights, to.address(one.results["out"]), backward, team)


def _dropout(to: Emitter, one: Dropout, planned: Planned, team: Team) -> None:
    seeds, factor, out = to.held.seeds, to.held.dropout_factor, one.results["out"]
    assert seeds is not None
    assert factor is not None
    seed = seeds.ctypes.data + one.seed * seeds.itemsize
    x, address = to.location(one.operands["x"]), to.address(out)
    to.executor.dropout(out.shape, x, address, one.rate, factor.ctypes.data, seed, team)


def _to_panels(to: Emitter, one: ToPanels, planned: Planned, team: Team) -> None:
    out = one.results["out"]
    to.executor.to_panels(out.shape, to.matrix(one.operands["x"]), to.address(out), team)


def _squared_error(to: Emitter, one: SquaredError | SquaredErrorBackward, planned: Planned, team: Team) -> None:
    pred, results = one.operands["pred"], one.results
    to.executor.squared_error(
        pred.shape[0] if pred.shape and pred.shape[0] else 1,
        pred.size,
        to.location(pred),
        to.location(one.operands["target"]),
        to.address(results["loss"]) if "loss" in results else None,
        to.address(results["out"]) if "out" in results else None,
        to.location(one.operands["grad"]) if "grad" in one.operands else None,
        team,
    )


def _squared_norm(to: Emitter, one: SquaredNorm, planned: Planned, team: Team) -> None:
    x = one.operands["x"]
    to.executor.squared_norm(x.size, to.location(x), to.address(one.results["out"]), team)


def _clip(to: Emitter, one: Clip, planned: Planned, team: Team) -> None:
    partials = list(one.operands.values())
    chunks = tuple(symbol.size for symbol in partials)
    to.executor.clip(list(map(to.location, partials)), chunks, one.max_norm, to.address(one.results["out"]), team)


def _update(to: Emitter, one: Update, planned: Planned, team: Team) -> None:
    to.executor.update(to.location(one.operands["grad"]), to.step(one), team)


EMITTED: Mapping[type[Instruction], Callable[[Emitter, Any, Planned, Team], None]] = {
    Matmul: _matmul,
    BatchMatmul: _batch_matmul,
    Elementwise: _pairs,
    Rows: _pairs,
    Sum: _sum,
    Along: _along,
    Take: _take,
    TakeBackward: _take,
    EmbeddingBag: _embedding_bag,
    EmbeddingBagBackward: _embedding_bag,
    Dropout: _dropout,
    ToPanels: _to_panels,
    SquaredError: _squared_error,
    SquaredErrorBackward: _squared_error,
    SquaredNorm: _squared_norm,
    Clip: _clip,
    Update: _update,
}
