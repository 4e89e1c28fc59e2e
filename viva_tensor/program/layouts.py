"""Panels: the layout in which products read matrices without packing them first.

A matrix [rows, columns] in panels is stored as [panel][row][column], where a panel has as many columns as a tile of a
product. In a program, this is the layout of activations and their gradients, of weights, as panels of their outputs,
and of copies of inputs that several products read. What other kernels read or write, and the output, stays in rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from viva_tensor.kernels import build
from viva_tensor.kernels.arrays import Array
from viva_tensor.program.builder import Builder
from viva_tensor.program.instructions import Buffer, Instruction, Matmul, Sum, Symbol, ToPanels, row_major
from viva_tensor.program.thresholds import current


@dataclass(frozen=True, slots=True)
class Panels:
    """A matrix [rows, columns] in panels: the matrix given in rows or, if ``transposed``, its transpose.

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
    height: int  # of a tile: the last one may reach beyond the last row, and reads what is there
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
        """Elements, padding included."""
        return (self.count * self.rows + self.height) * self.width

    def store(self, matrix: Array, flat: Array) -> None:
        """Copy a matrix into panels."""
        values = matrix.T if self.transposed else matrix
        padded = np.zeros((self.rows, self.count * self.width), flat.dtype)
        padded[:, : self.columns] = values
        panels = flat[: padded.size].reshape(self.count, self.rows, self.width)
        panels[...] = padded.reshape(self.rows, self.count, self.width).swapaxes(0, 1)

    def load(self, flat: Array) -> Array:
        """Return the matrix in rows."""
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


def of_parameters(instructions: Sequence[Instruction], dtype: np.dtype[Any]) -> dict[int, Panels]:
    """Return the panels of the parameters that are best kept in them, by the parameters' index."""
    return {buffer.index: panels for buffer, panels in _chosen(instructions, dtype, {"parameter"}).items()}


def in_panels(
    instructions: Sequence[Instruction], output: Symbol, parameters: Mapping[int, Panels], dtype: np.dtype[Any]
) -> list[Instruction]:
    """Return the same instructions on panels wherever products gain from them; those of ``parameters`` are given."""
    instructions = _with_copies(instructions, output, dtype)
    chosen = _chosen(instructions, dtype, {"temporary", "constant"})
    chosen.pop(output.buffer, None)
    _keep_alike(instructions, chosen)
    for _, _, symbol in _uses(instructions):
        if symbol.buffer.kind == "parameter" and symbol.buffer.index in parameters:
            chosen[symbol.buffer] = parameters[symbol.buffer.index]
    for one, name, symbol in _uses(instructions):
        if name == "bias" and one.results["out"].buffer in chosen:
            _lengthen(symbol, chosen[one.results["out"].buffer])
    for buffer, panels in chosen.items():
        buffer.size = panels.size
        if buffer.array is not None:
            stored = np.zeros(panels.size, dtype)
            panels.store(buffer.array.reshape(panels.given), stored)  # the recorded array may have another shape
            buffer.array = stored
    return [_moved(one, chosen) for one in instructions]


def _uses(instructions: Iterable[Instruction]) -> Iterator[tuple[Instruction, str, Symbol]]:
    """Yield each operand and result with its instruction and name."""
    for one in instructions:
        for name, symbol in (*one.operands.items(), *one.results.items()):
            yield one, name, symbol


def _lengthen(bias: Symbol, panels: Panels) -> None:
    """Lengthen a bias that is added to whole panels, and so read to their end; those of parameters are long enough."""
    buffer = bias.buffer
    buffer.size = max(buffer.size, bias.offset + panels.count * panels.width)
    if buffer.array is not None and buffer.array.size < buffer.size:
        buffer.array = np.pad(buffer.array.ravel(), (0, buffer.size - buffer.array.size))


def _moved(one: Instruction, chosen: Mapping[Buffer, Panels]) -> Instruction:
    """Return an instruction whose symbols are in the chosen panels."""
    results = one.results
    if isinstance(one, Sum) and one.operands["x"].buffer in chosen:
        panels = chosen[one.operands["x"].buffer]
        one = replace(one, sizes=(panels.count, panels.rows, panels.width))
        results["out"].buffer.size = panels.count * panels.width
    if isinstance(one, Matmul) and "w" in results and results["w"].buffer in chosen:
        results["out"].buffer.size = chosen[results["w"].buffer].size

    def moved(symbols: Mapping[str, Symbol]) -> dict[str, Symbol]:
        return {
            name: chosen[symbol.buffer].symbol(symbol) if symbol.buffer in chosen else symbol
            for name, symbol in symbols.items()
        }

    return replace(one, operands=moved(one.operands), results=moved(results))


def _with_copies(instructions: Sequence[Instruction], output: Symbol, dtype: np.dtype[Any]) -> list[Instruction]:
    """Return instructions in which products of a matrix that other kernels need in rows read a copy in panels."""
    build = Builder()
    readers: dict[Buffer, list[tuple[Matmul, Symbol]]] = {}
    in_rows = {output.buffer}
    for one, name, symbol in _uses(instructions):
        if isinstance(one, Matmul) and name in ("a", "b"):
            readers.setdefault(symbol.buffer, []).append((one, symbol))
        elif not one.takes_panels(name):
            in_rows.add(symbol.buffer)
    copies: dict[Buffer, tuple[Panels, ToPanels]] = {}
    for buffer, uses in readers.items():
        if buffer.kind == "parameter" or not (buffer in in_rows or buffer.kind == "input") or len(uses) < 2:
            continue
        _, first = uses[0]
        shape = first.shape if first.contiguous else first.shape[::-1]
        panels = _panels(shape, dtype, transposed=False)
        pays = sum(one.multiply_adds for one, _ in uses) >= current().copied * first.size
        if pays and shape[1] >= panels.width and all(panels.holds(symbol) for _, symbol in uses):
            copy = build.temporary(shape)
            copy.buffer.name = f"{buffer.name}'"
            source = Symbol(shape, row_major(shape), buffer)
            copies[buffer] = panels, ToPanels(operands={"x": source}, results={"out": copy})
    changed: list[Instruction] = []
    for one in instructions:
        operands = dict(one.operands)
        for name, symbol in one.operands.items():
            if symbol.buffer in copies:
                panels, copying = copies[symbol.buffer]
                by_product = isinstance(one, Matmul) and name in ("a", "b")
                if by_product or (isinstance(one, Sum) and one.over_rows and _whole(one) and panels.holds(symbol)):
                    if copying not in changed:
                        changed.append(copying)
                    operands[name] = replace(symbol, buffer=copying.results["out"].buffer)
        changed.append(replace(one, operands=operands))
    return changed


def _chosen(instructions: Sequence[Instruction], dtype: np.dtype[Any], kinds: set[str]) -> dict[Buffer, Panels]:
    """Return panels for the buffers of these kinds that only products, and what follows them, read and write."""
    found: dict[Buffer, Panels] = {}
    for one in instructions:
        for symbol in one.better_in_panels:
            if symbol.buffer.kind not in kinds or symbol.buffer in found or symbol.size != symbol.buffer.size:
                continue
            panels = _panels(symbol.shape, dtype, transposed=symbol.strides != row_major(symbol.shape))
            if panels.columns * 2 >= panels.width and panels.holds(symbol):
                found[symbol.buffer] = panels
    for one, name, symbol in _uses(instructions):
        chosen = found.get(symbol.buffer)
        if chosen is not None and not (
            one.takes_panels(name)
            and (not isinstance(one, Sum) or _whole(one))
            and not (symbol.buffer.kind == "parameter" and one.alike and not isinstance(one, Matmul))
            and chosen.holds(symbol)
            and (isinstance(one, Matmul) or not chosen.transposed)  # others go row by row
        ):
            del found[symbol.buffer]
    return found


def _whole(one: Sum) -> bool:
    """Return whether nothing lies behind the result of a sum, which of panels is as long as they are wide."""
    out = one.results["out"]
    return out.size == out.buffer.size


def _keep_alike(instructions: Iterable[Instruction], chosen: dict[Buffer, Panels]) -> None:
    """Leave in rows what must have the layout of something that stays in rows, or is in other panels."""
    groups = [[symbol.buffer for symbol in one.alike] for one in instructions]
    while apart := [group for group in groups if len(set(map(chosen.get, group))) > 1]:
        for group in apart:
            for buffer in group:
                chosen.pop(buffer, None)


def _panels(shape: tuple[int, ...], dtype: np.dtype[Any], transposed: bool) -> Panels:
    height, width = build.tile(dtype.char)
    rows, columns = shape
    return Panels(rows, columns, width, height, transposed)
