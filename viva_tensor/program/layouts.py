"""Panels: the layout in which products read matrices where they lie.

A matrix [rows, columns] in panels lies as [panel][row][column], with as many columns in a panel as a tile of a product
has. So lie, within a program, activations and their gradients, weights as panels of their outputs, and copies of inputs
that several products read. What other kernels read or write, and the output, stays in rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from viva_tensor.kernels import _matmul
from viva_tensor.kernels.arrays import Array
from viva_tensor.program.builder import Builder
from viva_tensor.program.instructions import Buffer, Instruction, Matmul, Sum, Symbol, ToPanels, row_major
from viva_tensor.program.thresholds import current


@dataclass(frozen=True, slots=True)
class Panels:
    """A matrix [rows, columns] in panels, or, ``transposed``, the transpose of one that is given in rows.

    Examples
    --------
    >>> panels = Panels(rows=2, columns=3, width=2, height=1, transposed=False)
    >>> flat = np.zeros(panels.size)
    >>> panels.store(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), flat)
    >>> flat
    array([1., 2., 4., 5., 3., 0., 6., 0., 0., 0.])
    >>> panels.load(flat)
    array([[1., 2., 3.],
           [4., 5., 6.]])
    """

    rows: int
    columns: int
    width: int
    height: int  # of a tile: the last one may reach beyond the last row, and reads what lies there
    transposed: bool

    @property
    def given(self) -> tuple[int, int]:
        """The shape of the matrix in rows."""
        return (self.columns, self.rows) if self.transposed else (self.rows, self.columns)

    @property
    def count(self) -> int:
        return -(-self.columns // self.width)

    @property
    def size(self) -> int:
        """Elements, with those that only fill up."""
        return (self.count * self.rows + self.height) * self.width

    def store(self, matrix: Array, flat: Array) -> None:
        """Copy a matrix into panels."""
        values = matrix.T if self.transposed else matrix
        padded = np.zeros((self.rows, self.count * self.width), flat.dtype)
        padded[:, : self.columns] = values
        panels = flat[: padded.size].reshape(self.count, self.rows, self.width)
        panels[...] = padded.reshape(self.rows, self.count, self.width).swapaxes(0, 1)

    def load(self, flat: Array) -> Array:
        """The matrix, in rows."""
        panels = flat[: self.count * self.rows * self.width].reshape(self.count, self.rows, self.width)
        padded = panels.swapaxes(0, 1).reshape(self.rows, self.count * self.width)
        values = padded[:, : self.columns]
        return np.array(values.T if self.transposed else values, order="C")

    def holds(self, symbol: Symbol) -> bool:
        """Return whether a symbol in rows is the whole matrix or its transpose."""
        return symbol.offset == 0 and (symbol.shape, symbol.strides) in (
            (self.given, row_major(self.given)),
            (self.given[::-1], row_major(self.given)[::-1]),
        )

    def symbol(self, symbol: Symbol) -> Symbol:
        """Return a symbol in panels for one in rows."""
        upright = (symbol.strides == row_major(symbol.shape)) != self.transposed
        if self.rows != self.columns:
            upright = symbol.shape == (self.rows, self.columns)
        on = self.rows * self.width
        if upright:
            return replace(symbol, strides=(self.width, 1), down=0, across=on)
        return replace(symbol, strides=(1, self.width), down=on, across=0)


def of_parameters(instructions: Iterable[Instruction], dtype: np.dtype[Any]) -> dict[int, Panels]:
    """The parameters that are best kept in panels, by their number."""
    chosen = _chosen(list(instructions), dtype, {"parameter"})
    return {buffer.index: panels for buffer, panels in chosen.items()}


def in_panels(
    instructions: list[Instruction], output: Symbol, parameters: Mapping[int, Panels], dtype: np.dtype[Any]
) -> list[Instruction]:
    """The same instructions on panels wherever products gain from them; parameters lie as they are said to."""
    instructions = _with_copies(instructions, output, dtype)
    chosen = _chosen(instructions, dtype, {"temporary", "constant"})
    chosen.pop(output.buffer, None)
    _keep_alike(instructions, chosen)
    for one in instructions:
        for symbol in one.symbols:
            if symbol.buffer.kind == "parameter" and symbol.buffer.index in parameters:
                chosen[symbol.buffer] = parameters[symbol.buffer.index]
    for one in instructions:
        if "bias" in one.operands and one.results["out"].buffer in chosen:
            _lengthen(one.operands["bias"], chosen[one.results["out"].buffer])
    for buffer, panels in chosen.items():
        buffer.size = panels.size
        if buffer.array is not None:
            stored = np.zeros(panels.size, dtype)
            panels.store(buffer.array.reshape(panels.given), stored)  # what was recorded may have another shape
            buffer.array = stored
    return [_moved(one, chosen) for one in instructions]


def _lengthen(bias: Symbol, panels: Panels) -> None:
    """Lengthen a bias that is added to whole panels, and so read to their end; those of parameters are long enough."""
    buffer = bias.buffer
    buffer.size = max(buffer.size, bias.offset + panels.count * panels.width)
    if buffer.array is not None and buffer.array.size < buffer.size:
        behind = np.zeros(buffer.size - buffer.array.size, buffer.array.dtype)
        buffer.array = np.concatenate([buffer.array.ravel(), behind])


def _moved(one: Instruction, chosen: Mapping[Buffer, Panels]) -> Instruction:
    results = one.results
    if isinstance(one, Sum) and one.operands["x"].buffer in chosen:
        panels = chosen[one.operands["x"].buffer]
        one = replace(one, sizes=(panels.count, panels.rows, panels.width))
        results["out"].buffer.size = panels.count * panels.width
    if isinstance(one, Matmul) and "w" in results and results["w"].buffer in chosen:
        results["out"].buffer.size = chosen[results["w"].buffer].size
    return replace(
        one,
        operands={name: _symbol(symbol, chosen) for name, symbol in one.operands.items()},
        results={name: _symbol(symbol, chosen) for name, symbol in results.items()},
    )


def _symbol(symbol: Symbol, chosen: Mapping[Buffer, Panels]) -> Symbol:
    panels = chosen.get(symbol.buffer)
    return symbol if panels is None else panels.symbol(symbol)


def _with_copies(instructions: list[Instruction], output: Symbol, dtype: np.dtype[Any]) -> list[Instruction]:
    """Products that read the same matrix, which other kernels need in rows, read a copy in panels instead."""
    build = Builder()
    readers: dict[Buffer, list[tuple[int, str]]] = {}  # (position, name of the operand)
    stays = {output.buffer}
    for i, one in enumerate(instructions):
        for name, symbol in (*one.operands.items(), *one.results.items()):
            if isinstance(one, Matmul) and name in ("a", "b"):
                readers.setdefault(symbol.buffer, []).append((i, name))
            elif not one.takes_panels(name):
                stays.add(symbol.buffer)
    changed = list(instructions)
    copies: dict[int, list[Instruction]] = {}  # by the position that they stand before
    for buffer, uses in readers.items():
        if buffer.kind == "parameter" or not (buffer in stays or buffer.kind == "input"):
            continue
        first, name = uses[0]
        symbol = instructions[first].operands[name]
        rows = symbol.shape if symbol.contiguous else symbol.shape[::-1]
        panels = _panels(rows, dtype, transposed=False)
        if sum(instructions[i].multiply_adds for i, _ in uses) < current().copied * symbol.size:
            continue
        held = all(panels.holds(instructions[i].operands[name]) for i, name in uses)
        if rows[1] < panels.width or len(uses) < 2 or not held:
            continue
        copy = build.temporary(rows)
        copy.buffer.name = f"{buffer.name}'"
        source = Symbol(rows, row_major(rows), buffer)
        for i, one in enumerate(instructions):
            if isinstance(one, Sum) and one.over_rows and one.operands["x"].buffer is buffer:
                uses += [(i, "x")] * panels.holds(one.operands["x"])
        copying = ToPanels(operands={"x": source}, results={"out": copy})
        copies.setdefault(min(i for i, _ in uses), []).append(copying)
        for i, name in uses:
            read = replace(changed[i].operands[name], buffer=copy.buffer)
            changed[i] = replace(changed[i], operands={**changed[i].operands, name: read})
    return [each for i, one in enumerate(changed) for each in (*copies.get(i, ()), one)]


def _chosen(instructions: list[Instruction], dtype: np.dtype[Any], kinds: set[str]) -> dict[Buffer, Panels]:
    """Buffers of these kinds that nothing but products, and what follows them, reads and writes."""
    found: dict[Buffer, Panels] = {}
    for one in instructions:
        for symbol in one.better_in_panels:
            if symbol.buffer.kind not in kinds or symbol.buffer in found:
                continue
            if symbol.size != symbol.buffer.size:  # a part of what the buffer holds
                continue
            stored = symbol.strides == row_major(symbol.shape)
            panels = _panels(symbol.shape, dtype, transposed=not stored)
            if panels.columns * 2 >= panels.width and panels.holds(symbol):
                found[symbol.buffer] = panels
    for one in instructions:
        for name, symbol in (*one.operands.items(), *one.results.items()):
            panels_of = found.get(symbol.buffer)
            if panels_of is not None and not (
                one.takes_panels(name)
                and not (symbol.buffer.kind == "parameter" and one.alike and not isinstance(one, Matmul))
                and panels_of.holds(symbol)
                and (isinstance(one, Matmul) or not panels_of.transposed)  # others go row by row
            ):
                del found[symbol.buffer]
    return found


def _keep_alike(instructions: list[Instruction], chosen: dict[Buffer, Panels]) -> None:
    """Put in rows again what must lie like something that stays in rows, or in other panels."""
    consistent = False
    while not consistent:
        consistent = True
        for one in instructions:
            group = [symbol.buffer for symbol in one.alike]
            if len({chosen.get(buffer) for buffer in group}) > 1:
                consistent = False
                for buffer in group:
                    chosen.pop(buffer, None)


def _panels(shape: tuple[int, ...], dtype: np.dtype[Any], transposed: bool) -> Panels:
    height, width = _matmul.tile(dtype.char)
    rows, columns = shape
    return Panels(rows, columns, width, height, transposed)
