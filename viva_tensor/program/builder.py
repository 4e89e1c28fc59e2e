"""The primitives that kernels have, as calls that collect instructions; the tape is lowered to them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from viva_tensor.error import BroadcastError, InvalidShape, ShapeMismatch
from viva_tensor.kernels.along import as_starts, check_elements
from viva_tensor.kernels.indexing import around
from viva_tensor.kernels.updates import sum_chunks
from viva_tensor.optim import Optimizer
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
    Shape,
    SquaredError,
    SquaredErrorBackward,
    SquaredNorm,
    Sum,
    Symbol,
    Take,
    TakeBackward,
    Update,
    row_major,
)


class Builder:
    """A list of instructions in the making; each method adds one primitive and returns the symbol of its result."""

    def __init__(self, dtype: Any = np.float32, seeds: Sequence[int] = ()) -> None:
        self.dtype = dtype
        self.instructions: list[Instruction] = []
        self.seeds = {seed: index for index, seed in enumerate(seeds)}
        self._names = 0

    def temporary(self, shape: Shape) -> Symbol:
        self._names += 1
        size = math.prod(shape)
        return Symbol(shape, row_major(shape), Buffer("temporary", size, name=f"%{self._names}"))

    def matmul(self, a: Symbol, b: Symbol, bias: Symbol | None = None) -> Symbol:
        """a · b (+ bias), with any strides."""
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0]:
            raise _unfit(a, b)
        if bias is not None and bias.shape != b.shape[1:]:
            hint = "give one number for each column of the product"
            raise ShapeMismatch(b.shape[1:], bias.shape, operation="linear", hint=hint)
        out = self.temporary((a.shape[0], b.shape[1]))
        operands = {"a": a, "b": b} | ({} if bias is None else {"bias": bias})
        fused = () if bias is None else ("bias",)
        self.instructions.append(Matmul(operands=operands, results={"out": out}, fused=fused))
        return out

    def batch_matmul(self, a: Symbol, b: Symbol) -> Symbol:
        """The products of the last two axes, with the others broadcast; as the eager kernel, one if b is a matrix."""
        if a.shape[-1] != b.shape[-2]:
            raise _unfit(a, b)
        if len(b.shape) == 2:
            rows = self.reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))
            return self.reshape(self.matmul(rows, b), (*a.shape[:-1], b.shape[-1]))
        try:
            batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError:
            raise BroadcastError(a.shape, b.shape, operation="matmul") from None
        out = self.temporary((*batch, a.shape[-2], b.shape[-1]))
        if out.size:
            operands = {name: self.broadcast(x, (*batch, *x.shape[-2:])) for name, x in (("a", a), ("b", b))}
            self.instructions.append(BatchMatmul(operands=operands, results={"out": out}))
        return out

    def elementwise(self, name: str, a: Symbol, b: Symbol | None = None, factor: float = 1.0) -> Symbol:
        """A formula of each pair of elements under broadcasting; one operand for scale and relu."""
        b = a if b is None else b
        try:
            shape = np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            raise BroadcastError(a.shape, b.shape, operation=name) from None
        out = self.temporary(shape)
        first = self.broadcast(a, shape)
        self._elementwise(name, first, first if a is b else self.broadcast(b, shape), out, factor)
        return out

    def _elementwise(self, name: str, a: Symbol, b: Symbol, out: Symbol, factor: float) -> None:
        aligned = bool(len(out.shape) == 2 and a.contiguous and b.contiguous and out.size)
        for first, second, result in [(a, b, out)] if aligned else _matrices(a, b, out):
            operands = {"a": first} if a is b else {"a": first, "b": second}
            self.instructions.append(
                Elementwise(operands=operands, results={"out": result}, name=name, factor=factor, aligned=aligned)
            )

    def rows(self, name: str, a: Symbol, b: Symbol | None = None, factor: float = 0.0) -> Symbol:
        """A formula of each row along the last axis; b may have one number per row, as a cross-entropy's result."""
        a = self.whole(a)
        size = a.shape[-1]
        if size == 0 and name.startswith("cross_entropy"):
            raise InvalidShape(f"logits of shape {a.shape} have no classes", operation="cross_entropy")
        matrix = (a.size // max(size, 1), size)
        out = self.temporary((matrix[0], 1) if name == "cross_entropy" else matrix)
        operands = {"a": self.reshape(a, matrix)}
        if b is not None:
            b = self.whole(b)
            single = b.shape == a.shape[:-1]
            if not single:
                self.alike(a, b)
            operands["b"] = Symbol(matrix, (1, 0), b.buffer, b.offset) if single else self.reshape(b, matrix)
        if a.size:
            self.instructions.append(Rows(operands=operands, results={"out": out}, name=name, factor=factor))
        return self.reshape(out, a.shape[:-1] if name == "cross_entropy" else a.shape)

    def dropout(self, x: Symbol, rate: float, seed: int) -> Symbol:
        """Elements set to 0 at random; in place of the seed, programs read another one at its index."""
        x = self.whole(x)
        rows = x.shape[0] if x.shape else 1
        matrix = (rows, x.size // max(rows, 1))
        out = self.temporary(matrix)
        index = self.seeds[seed]
        if x.size:
            operands = {"x": self.reshape(x, matrix)}
            self.instructions.append(Dropout(operands=operands, results={"out": out}, rate=rate, seed=index))
        return self.reshape(out, x.shape)

    def broadcast(self, x: Symbol, shape: Shape) -> Symbol:
        """x repeated to a shape, by strides of 0."""
        lead = len(shape) - len(x.shape)
        if lead < 0 or any(given not in (1, size) for given, size in zip(x.shape, shape[lead:], strict=True)):
            raise BroadcastError(x.shape, shape, operation="broadcast")
        strides = (0,) * lead + tuple(
            0 if given == 1 and size != 1 else step
            for given, size, step in zip(x.shape, shape[lead:], x.strides, strict=True)
        )
        return Symbol(shape, strides, x.buffer, x.offset)

    def scaled(self, x: Symbol, factor: float, shape: Shape) -> Symbol:
        """factor · x, repeated to a shape."""
        out = self.temporary(shape)
        self._scale(x, factor, out)
        return out

    def _scale(self, x: Symbol, factor: float, out: Symbol) -> None:
        repeated = self.broadcast(x, out.shape)
        self._elementwise("scale", repeated, repeated, out, factor)

    def whole(self, x: Symbol) -> Symbol:
        """x in row-major order, copied only if it is not yet."""
        return x if x.contiguous else self.scaled(x, 1.0, x.shape)

    def transpose(self, x: Symbol, axes: Sequence[int] | None) -> Symbol:
        order = reversed(range(len(x.shape))) if axes is None else axes
        return _with_axes(x, [i % len(x.shape) for i in order])

    def slice(self, x: Symbol, spans: Sequence[tuple[int, int, int]]) -> Symbol:
        """Evenly spaced elements along each axis: (start, count, step)."""
        return Symbol(
            tuple(count for _, count, _ in spans),
            tuple(stride * step for stride, (_, _, step) in zip(x.strides, spans, strict=True)),
            x.buffer,
            x.offset + sum(stride * start for stride, (start, _, _) in zip(x.strides, spans, strict=True)),
        )

    def squeeze(self, x: Symbol, axes: Sequence[int]) -> Symbol:
        """x without some axes of size 1."""
        if any(x.shape[axis] != 1 for axis in axes):
            hint = "give as many rows as were recorded"
            raise InvalidShape(f"axes {tuple(axes)} of shape {x.shape}", operation="squeeze", hint=hint)
        return _with_axes(x, [i for i in range(len(x.shape)) if i not in axes])

    def placed(
        self, parts: Sequence[tuple[Symbol, Sequence[tuple[int, int, int]]]], shape: Shape, value: float = 0.0
    ) -> Symbol:
        """An array with a symbol in each of some slices, and a value elsewhere."""
        for symbol, spans in parts:
            if symbol.shape != tuple(count for _, count, _ in spans) or not _fits(spans, shape):
                hint = "give as many rows as were recorded"
                raise InvalidShape(f"{symbol.shape} into {shape} at {tuple(spans)}", operation="slice", hint=hint)
        out = self.temporary(shape)
        if sum(symbol.size for symbol, _ in parts) < out.size:
            filling = Buffer("constant", 1, array=np.full(1, value, self.dtype), name=f"{value:g}")
            self._scale(Symbol((), (), filling), 1.0, out)
        for symbol, spans in parts:
            self._scale(symbol, 1.0, self.slice(out, spans))
        return out

    def joined(self, symbols: Sequence[Symbol], in_place: bool) -> tuple[Symbol, tuple[Symbol, ...]]:
        """Symbols one after another in one array, and each of them, as copies.

        With ``in_place``, whole temporaries are made there instead; nothing may be built from them afterwards.
        """
        out = self.temporary((sum(symbol.size for symbol in symbols),))
        parts: list[Symbol] = []
        moved: dict[Buffer, int] = {}
        start = 0
        for symbol in symbols:
            parts.append(Symbol(symbol.shape, row_major(symbol.shape), out.buffer, start))
            whole = symbol.contiguous and symbol.size == symbol.buffer.size
            if in_place and whole and symbol.buffer.kind == "temporary" and symbol.buffer not in moved:
                moved[symbol.buffer] = start
            else:
                self._scale(symbol, 1.0, parts[-1])
            start += symbol.size
        known = {id(symbol): symbol for one in self.instructions for symbol in one.symbols}
        for symbol in known.values():
            if symbol.buffer in moved:
                symbol.offset += moved[symbol.buffer]
                symbol.buffer = out.buffer
        return out, tuple(parts)

    def reshape(self, x: Symbol, shape: Shape) -> Symbol:
        if math.prod(shape) != x.size:
            hint = "give as many rows as were recorded"
            raise InvalidShape(f"{x.shape} to {shape}: other numbers of elements", operation="reshape", hint=hint)
        x = self.whole(x)
        return Symbol(shape, row_major(shape), x.buffer, x.offset)

    def sum(self, x: Symbol, axes: tuple[int, ...], divisor: float = 1) -> Symbol:
        """The sum over sorted axes, a group of adjacent ones at a time, the last first, as the eager kernel does."""
        if not axes:
            return self.scaled(x, 1.0, x.shape)
        x = self.whole(x)
        end = axes[-1] + 1
        start = end - 1
        while start - 1 in axes:
            start -= 1
        rest = axes[: axes.index(start)]
        out = self.temporary(x.shape[:start] + x.shape[end:])
        sizes = math.prod(x.shape[:start]), math.prod(x.shape[start:end]), math.prod(x.shape[end:])
        self.instructions.append(
            Sum(operands={"x": x}, results={"out": out}, sizes=sizes, divisor=1 if rest else divisor)
        )
        return self.sum(out, rest, divisor) if rest else out

    def extreme(self, name: str, x: Symbol, axes: Sequence[int]) -> Symbol:
        """The largest or smallest elements along some axes, which are left with the size 1."""
        check_elements(name, x.shape, axes)
        for axis in axes:
            x = self._along(name, x, axis, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
        return x

    def running_sums(self, name: str, x: Symbol, axis: int, starts: tuple[int, ...]) -> Symbol:
        """The sums up to each element along an axis, or from it on, which begin anew at some positions."""
        return self._along(name, x, axis, x.shape, as_starts("cumsum", starts, x.shape[axis]))

    def _along(self, name: str, x: Symbol, axis: int, shape: Shape, starts: tuple[int, ...] = ()) -> Symbol:
        out = self.temporary(shape)
        if out.size:
            sizes, operands = around(x.shape, axis), {"x": self.whole(x)}
            one = Along(operands=operands, results={"out": out}, name=name, sizes=sizes, starts=starts)
            self.instructions.append(one)
        return out

    def take(self, x: Symbol, indices: Symbol, axis: int) -> Symbol:
        """The elements of an axis at some indices; NaN where there is none."""
        operands = {"x": self.whole(x), "indices": self.whole(indices)}
        out = self.temporary((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
        if out.size:
            self.instructions.append(Take(operands=operands, results={"out": out}, sizes=around(x.shape, axis)))
        return out

    def taken_back(self, grad: Symbol, shape: Shape, indices: Symbol, axis: int) -> Symbol:
        """The sums of what was taken of each element of an axis of a shape."""
        operands = {"grad": self.whole(grad), "indices": self.whole(indices)}
        out = self.temporary(shape)
        if out.size:
            self.instructions.append(TakeBackward(operands=operands, results={"out": out}, sizes=around(shape, axis)))
        return out

    def embedding_bag(self, table: Symbol, indices: Symbol, weights: Symbol) -> Symbol:
        """Weighted sums of rows of a table at some indices; NaN where there is none."""
        operands = {"x": self.whole(table), "indices": self.whole(indices), "weights": self.whole(weights)}
        out = self.temporary((indices.shape[0], table.shape[1]))
        if out.size:
            self.instructions.append(EmbeddingBag(operands=operands, results={"out": out}))
        return out

    def embedding_bag_back(self, grad: Symbol, shape: Shape, indices: Symbol, weights: Symbol) -> Symbol:
        """The sums of what each row of a table of a shape was weighted and added to."""
        operands = {"x": self.whole(grad), "indices": self.whole(indices), "weights": self.whole(weights)}
        out = self.temporary(shape)
        if out.size:
            self.instructions.append(EmbeddingBagBackward(operands=operands, results={"out": out}))
        return out

    def squared_error(self, pred: Symbol, target: Symbol) -> Symbol:
        """The mean of the squared differences."""
        operands = self._pair(pred, target)
        out = self.temporary(())
        self.instructions.append(SquaredError(operands=operands, results={"loss": out}))
        return out

    def squared_error_backward(self, grad: Symbol, pred: Symbol, target: Symbol) -> Symbol:
        operands = self._pair(pred, target) | {"grad": grad}
        out = self.temporary(pred.shape)
        self.instructions.append(SquaredErrorBackward(operands=operands, results={"out": out}))
        return out

    def sum_of_squares(self, x: Symbol) -> Symbol:
        """The sum of the squares of all elements."""
        return self.sum(self._chunk_squares(self.whole(x)), (0,))

    def _chunk_squares(self, x: Symbol) -> Symbol:
        """The sum of the squares of each chunk of a contiguous array."""
        out = self.temporary((sum_chunks(x.size),))
        self.instructions.append(SquaredNorm(operands={"x": x}, results={"out": out}))
        return out

    def clipping(self, grads: Sequence[Symbol], max_norm: float) -> Symbol:
        """The factor that scales gradients down to a norm."""
        partials = {}
        for index, grad in enumerate(grads):
            partials[str(index)] = self._chunk_squares(grad)
        factor = self.temporary(())
        self.instructions.append(Clip(operands=partials, results={"out": factor}, max_norm=max_norm))
        return factor

    def updates(
        self, grads: Iterable[Symbol], params: Iterable[Symbol], scale: Symbol | None, optimizer: Optimizer
    ) -> None:
        """Update parameters from their gradients, times a factor if there is one."""
        scaling = {} if scale is None else {"scale": scale}
        for grad, w in zip(grads, params, strict=True):
            operands = {"grad": grad, **scaling, "w": w}
            self.instructions.append(Update(operands=operands, results={"w": w}, moments=len(optimizer.slots)))

    def _pair(self, pred: Symbol, target: Symbol) -> dict[str, Symbol]:
        self.alike(pred, target)
        return {"pred": self.whole(pred), "target": self.whole(target)}

    def alike(self, pred: Symbol, target: Symbol) -> tuple[Symbol, Symbol]:
        """Return both if they have the same shape, else raise ShapeMismatch."""
        if pred.shape != target.shape:
            hint = "give one target for each prediction, of the same shape"
            raise ShapeMismatch(pred.shape, target.shape, operation="loss", hint=hint)
        return pred, target


def _unfit(a: Symbol, b: Symbol) -> ShapeMismatch:
    """Return the error of matrices, or batches of them, that cannot be multiplied."""
    expected = (*b.shape[:-2], a.shape[-1], *b.shape[len(b.shape[:-2]) + 1 :])
    hint = "the columns of the first operand must equal the rows of the second"
    return ShapeMismatch(expected, b.shape, operation=f"matmul of {a.shape} and {b.shape}", hint=hint)


def _fits(spans: Sequence[tuple[int, int, int]], shape: Shape) -> bool:
    """Return whether all elements of a slice lie within a shape."""
    return len(spans) == len(shape) and all(
        count == 0 or (0 <= start < size and 0 <= start + (count - 1) * step < size)
        for (start, count, step), size in zip(spans, shape, strict=True)
    )


def _with_axes(x: Symbol, axes: Sequence[int]) -> Symbol:
    """Return a symbol with some of its axes, in another order."""
    return Symbol(tuple(x.shape[i] for i in axes), tuple(x.strides[i] for i in axes), x.buffer, x.offset)


def _matrices(*symbols: Symbol) -> list[tuple[Symbol, ...]]:
    """Return symbols of one shape as matrices: axes that all can join are joined, others unrolled but the longest."""
    axes: list[tuple[int, list[int]]] = []  # the size, and the stride of each symbol
    for axis, size in enumerate(symbols[0].shape):
        steps = [symbol.strides[axis] for symbol in symbols]
        if size != 1 and axes and axes[-1][1] == [step * size for step in steps]:
            axes[-1] = axes[-1][0] * size, steps
        elif size != 1:
            axes.append((size, steps))
    *leading, columns = [(1, [0] * len(symbols))] * (2 - len(axes)) + axes
    *outer, rows = sorted(leading, key=lambda axis: axis[0])  # elements are computed in any order
    shape = rows[0], columns[0]

    def matrix(n: int, index: tuple[int, ...]) -> Symbol:
        offset = symbols[n].offset + sum(i * steps[n] for i, (_, steps) in zip(index, outer, strict=True))
        return Symbol(shape, (rows[1][n], columns[1][n]), symbols[n].buffer, offset)

    indices = np.ndindex(*(size for size, _ in outer)) if 0 not in shape else ()
    return [tuple(matrix(n, index) for n in range(len(symbols))) for index in indices]
