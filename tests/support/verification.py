"""Whether a program still computes what it did: its instructions carried out in NumPy before and after each change.

Inputs and parameters get random numbers, temporaries NaN until they are written. Copies, relu and squared errors are
computed as they are, products and sums divided by the root of their length so that numbers stay of one size; each other
formula is stood in for by a function of its own, which tells elements from each other. What must not change is what is
left in the parameters, and the output. Memory is addressed as the kernels do: panels by their strides, and what kernels
read from end to end by its number of elements.

Costs many times what planning costs: on in all tests, for programs of less than ``MOST_WORK``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from viva_tensor.kernels import _matmul
from viva_tensor.kernels.arrays import Array
from viva_tensor.program.instructions import Buffer, Instruction, Symbol
from viva_tensor.program.layouts import Panels
from viva_tensor.program.observation import Observer

MOST_WORK = 20_000_000  # multiply-adds, and elements, of a program beyond which it would take seconds
TOLERANCE = 1e-9  # of the largest magnitude: the order of sums may change


class Verifier(Observer):
    """What a program computes, to be compared after each change of its instructions."""

    def __init__(self, instructions: Sequence[Instruction], output: Symbol, dtype: np.dtype[Any]) -> None:
        self.output, self.dtype = output, dtype
        self.sizes: dict[Buffer, int] = {}  # of inputs and parameters, in rows
        self.wanted: list[Array] = []
        self.active = sum(one.multiply_adds + one.elements for one in instructions) < MOST_WORK
        if self.active:
            for symbol in _symbols(instructions, output):
                size = max(symbol.buffer.size, 1 + _last(symbol))
                self.sizes[symbol.buffer] = max(self.sizes.get(symbol.buffer, 0), size)
            self.wanted = self._results(instructions, {}, {})
            if any(np.isnan(array).any() for array in self.wanted):
                raise RuntimeError(_report("what was recorded", "reads what nothing has written", instructions))

    def after(
        self,
        change: str,
        instructions: Sequence[Instruction],
        layouts: Mapping[int, Panels] | None = None,
        offsets: Mapping[Buffer, int] | None = None,
    ) -> None:
        """Raise if a change has made another program."""
        if not self.active:
            return
        try:
            found = self._results(instructions, layouts or {}, offsets or {})
        except (AttributeError, IndexError, ValueError, RuntimeError) as error:
            raise RuntimeError(_report(change, f"cannot be carried out ({error})", instructions)) from error
        for number, (one, wanted) in enumerate(zip(found, self.wanted, strict=True)):
            if not np.allclose(one, wanted, rtol=0, atol=TOLERANCE * float(np.abs(wanted).max(initial=0))):
                what = "the output" if number == 0 else f"parameter {number - 1}"
                raise RuntimeError(_report(change, f"changes {what}", instructions))

    def _results(
        self, instructions: Sequence[Instruction], layouts: Mapping[int, Panels], places: Mapping[Buffer, int]
    ) -> list[Array]:
        """The output, and the parameters in the order of their numbers, in rows."""
        memory = _Memory(self, layouts, places)
        for one in instructions:
            memory.carry_out(one)
        params = sorted((buffer for buffer in self.sizes if buffer.kind == "parameter"), key=lambda one: one.index)
        return [memory.read(self.output), *map(memory.in_rows, params)]


class _Memory:
    """The numbers of each buffer, and what instructions do to them."""

    def __init__(self, verifier: Verifier, layouts: Mapping[int, Panels], places: Mapping[Buffer, int]) -> None:
        self._verifier, self._layouts = verifier, layouts
        self._starts = {buffer: start // verifier.dtype.itemsize for buffer, start in places.items()}
        self._arena = np.full(max((start + b.size for b, start in self._starts.items()), default=0) + 1, np.nan)
        self._flat: dict[Buffer, Array] = {}
        self._width = _matmul.tile(verifier.dtype.char)[1]

    def flat(self, buffer: Buffer) -> Array:
        """All elements of a buffer as they lie."""
        if buffer in self._starts:
            return self._arena[self._starts[buffer] : self._starts[buffer] + buffer.size]
        if buffer not in self._flat:
            self._flat[buffer] = self._first(buffer)
        return self._flat[buffer]

    def _first(self, buffer: Buffer) -> Array:
        if buffer.array is not None:
            return _tame(buffer.array.reshape(-1).astype(np.float64))
        if buffer.kind == "temporary":
            return np.full(buffer.size, np.nan)
        rng = np.random.default_rng((buffer.index, buffer.kind == "input"))
        rows = rng.standard_normal(self._verifier.sizes[buffer])
        panels = self._panels(buffer)
        if panels is None:
            return np.concatenate([rows, np.zeros(max(0, buffer.size - rows.size))])  # read to the end of a panel
        flat = np.zeros(panels.size)
        panels.store(rows.reshape(panels.given), flat)
        return flat

    def in_rows(self, buffer: Buffer) -> Array:
        panels, flat = self._panels(buffer), self.flat(buffer)
        return flat[: self._verifier.sizes[buffer]] if panels is None else panels.load(flat).ravel()

    def _panels(self, buffer: Buffer) -> Panels | None:
        return self._layouts.get(buffer.index) if buffer.kind == "parameter" else None

    def _index(self, symbol: Symbol) -> Array:
        if symbol.down or symbol.across:
            (row, column), width = symbol.strides, self._width
            i, j = np.ogrid[: symbol.shape[0], : symbol.shape[1]]
            down, across = symbol.down or width * row, symbol.across or width * column
            lines = i // width * down + i % width * row
            return np.asarray(symbol.offset + lines + j // width * across + j % width * column)
        index = np.array(symbol.offset)
        for size, step in zip(symbol.shape, symbol.strides, strict=True):
            index = index[..., None] + np.arange(size) * step
        if index.size and not 0 <= index.min() <= index.max() < len(self.flat(symbol.buffer)):
            raise IndexError(f"{symbol} reaches from {index.min()} to {index.max()}")
        return index

    def read(self, symbol: Symbol) -> Array:
        if symbol.contiguous:
            return self.span(symbol).reshape(symbol.shape)
        return np.asarray(self.flat(symbol.buffer)[self._index(symbol)])

    def write(self, symbol: Symbol, values: Array) -> None:
        self.flat(symbol.buffer)[self._index(symbol)] = values

    def span(self, symbol: Symbol, size: int | None = None) -> Array:
        """So many elements from where a symbol begins, as they lie."""
        end = symbol.offset + (symbol.size if size is None else size)
        if end > max(len(self.flat(symbol.buffer)), symbol.offset):  # nothing lies nowhere
            raise IndexError(f"{symbol} is read to its element {end}")
        return self.flat(symbol.buffer)[symbol.offset : end]

    def _stepped(self, w: Array, grad: Array, given: Mapping[str, Symbol]) -> Array:
        """Stands in for an optimiser's step."""
        factor = self.read(given["scale"]) if "scale" in given else 1.0
        if "penalty" in given:
            grad = grad + w * self.read(given["penalty"])
        return np.asarray(0.9 * w - factor * grad + 0.01)

    def carry_out(self, one: Instruction) -> None:
        getattr(self, f"_{one.kind}")(one, one.operands, one.results)

    def _matmul(self, one: Any, given: Any, made: Any) -> None:
        fused = one.fused
        if "mask" in given:
            _check_alike("mask", given["mask"], made["out"])
        if "bias" in given and made["out"].across:  # read to the end of a panel
            columns = -(-made["out"].shape[1] // self._width) * self._width
            if given["bias"].buffer.kind not in ("input", "parameter"):
                self.span(given["bias"], columns)
        if "update" in fused and made["out"].buffer in self._starts:
            self.flat(made["out"].buffer)[...] = np.nan  # a buffer for sums, which holds no result
        depth = given["a"].shape[1]
        out = self.read(given["a"]) @ self.read(given["b"]) / max(depth, 1) ** 0.5
        out = out + self.read(given["bias"]) if "bias" in fused else out
        out = np.maximum(out, 0) if "relu" in fused else out
        out = _masked(out, self.read(given["mask"])) if "mask" in fused else out
        if "update" in fused:
            self.write(made["w"], self._stepped(self.read(made["w"]), out, given))
        else:
            self.write(made["out"], out)

    def _batch_matmul(self, one: Any, given: Any, made: Any) -> None:
        depth = given["a"].shape[-1]
        self.write(made["out"], self.read(given["a"]) @ self.read(given["b"]) / max(depth, 1) ** 0.5)

    def _elementwise(self, one: Any, given: Any, made: Any) -> None:
        _check_alike(one.name, *given.values(), *made.values())
        a, b = (self.read(given[name]) for name in ("a", "b" if "b" in given else "a"))
        self.write(made["out"], _formula(one.name, a, b, one.factor))

    def _rows(self, one: Any, given: Any, made: Any) -> None:
        _check_alike(one.name, *given.values(), *made.values(), in_rows=True)
        a, b = (self.read(given[name]) for name in ("a", "b" if "b" in given else "a"))
        whole = (a * np.cos(np.arange(a.shape[1]))).sum(1, keepdims=True)
        out = _mixed(one.name, a + whole, b, one.factor)
        self.write(made["out"], out if made["out"].shape == out.shape else out.mean(1, keepdims=True))

    def _sum(self, one: Any, given: Any, made: Any) -> None:
        sizes = one.sizes
        total = self.span(given["x"], int(np.prod(sizes))).reshape(sizes).sum(1).ravel() / max(sizes[1], 1) ** 0.5
        total = total / (1 + (one.divisor > 1))
        if "w" in made:
            w = self.span(made["w"])
            w[...] = self._stepped(w, total[: w.size], given)
        else:
            self.span(made["out"], total.size)[...] = total

    def _along(self, one: Any, given: Any, made: Any) -> None:
        x = self.span(given["x"]).reshape(one.sizes)
        if one.name.startswith("cumsum"):
            way = slice(None, None, -1 if one.name.endswith("backward") else 1)
            runs = np.split(x, one.starts, axis=1)
            found = np.concatenate([run[:, way].cumsum(1)[:, way] for run in runs], axis=1)
            found = found / (1 + np.arange(one.sizes[1]))[None, way, None] ** 0.5
        else:
            found = getattr(x, one.name)(1)
        self.span(made["out"])[...] = found.ravel()

    def _take(self, one: Any, given: Any, made: Any) -> None:
        at, missing = _positions(self.span(given["indices"]), one.sizes[1])
        taken = self.span(given["x"]).reshape(one.sizes)[:, at]
        taken[:, missing] = np.nan
        self.span(made["out"])[...] = taken.ravel()

    def _take_backward(self, one: Any, given: Any, made: Any) -> None:
        (outer, size, inner), (at, missing) = one.sizes, _positions(self.span(given["indices"]), one.sizes[1])
        total, grad = np.zeros(one.sizes), self.span(given["grad"]).reshape(outer, len(at), inner)
        for i, position in enumerate(at):
            total[:, position] += grad[:, i]
        self.span(made["out"])[...] = np.nan if missing.any() else total.ravel() / (1 + len(at) / size)

    def _embedding_bag(self, one: Any, given: Any, made: Any) -> None:
        (size, _), (rows, entries) = given["x"].shape, given["indices"].shape
        at, missing = _positions(self.span(given["indices"]), size)
        taken = self.span(given["x"]).reshape(size, -1)[at] * self.span(given["weights"])[:, None]
        taken[missing] = np.nan
        self.span(made["out"])[...] = taken.reshape(rows, entries, made["out"].shape[1]).sum(1).ravel() / (1 + entries)

    def _embedding_bag_backward(self, one: Any, given: Any, made: Any) -> None:
        (size, width), (rows, entries) = made["out"].shape, given["indices"].shape
        at, missing = _positions(self.span(given["indices"]), size)
        grad = np.repeat(self.span(given["x"]).reshape(rows, width), entries, axis=0)
        total = np.zeros((size, width))
        np.add.at(total, at, grad * self.span(given["weights"])[:, None])
        self.span(made["out"])[...] = np.nan if missing.any() else total.ravel() / (1 + len(at) / size)

    def _dropout(self, one: Any, given: Any, made: Any) -> None:
        x = self.span(given["x"])
        kept = np.random.default_rng(one.seed).random(x.size) > 0.1
        self.span(made["out"])[...] = x * kept

    def _to_panels(self, one: Any, given: Any, made: Any) -> None:
        rows, columns = made["out"].shape
        panels = Panels(rows, columns, self._width, 0, transposed=False)
        panels.store(self.read(given["x"]), self.span(made["out"], panels.size))

    def _squared_error(self, one: Any, given: Any, made: Any) -> None:
        difference = self.span(given["pred"]) - self.span(given["target"])
        count = max(difference.size, 1)
        if "loss" in made:
            self.write(made["loss"], np.array((difference**2).sum() / count))
        if "out" in made:
            self.span(made["out"])[...] = 2 * self.read(given["grad"]) / count * difference

    _squared_error_backward = _squared_error

    def _squared_norm(self, one: Any, given: Any, made: Any) -> None:
        partials = self.span(made["out"])
        partials[...] = (self.span(given["x"]) ** 2).sum() / max(partials.size, 1)

    def _clip(self, one: Any, given: Any, made: Any) -> None:
        norm = np.sqrt(sum(self.span(symbol).sum() for symbol in given.values()))
        self.write(made["out"], np.asarray(0.5 + 0.5 * norm / (1 + norm)))

    def _update(self, one: Any, given: Any, made: Any) -> None:
        w = self.span(made["w"])
        w[...] = self._stepped(w, self.span(given["grad"], w.size), given)


def _check_alike(name: str, *symbols: Symbol, in_rows: bool = False) -> None:
    """Raise if a kernel that takes matrices that lie alike, or only those in rows, is given others."""
    lying = {(symbol.strides, symbol.down, symbol.across) for symbol in symbols}
    if (len(lying) > 1 or in_rows) and any(down or across for _, down, across in lying):
        raise RuntimeError(f"{name} of {', '.join(map(repr, symbols))}, which do not lie as its kernel reads them")


def _formula(name: str, a: Array, b: Array, factor: float) -> Array:
    match name:
        case "relu":
            return np.maximum(a, 0)
        case "relu_backward":
            return _masked(a, b)
        case "scale":
            return a * factor
        case "add":
            return a + b
        case "mul":
            return a * b
    return _mixed(name, a, b, factor)


def _masked(a: Array, b: Array) -> Array:
    """Return a where b is above 0, else 0; NaN where b was never written."""
    return np.asarray(np.where(np.isnan(b), np.nan, a * (b > 0)))


def _positions(indices: Array, size: int) -> tuple[Array, Array]:
    """Return a position for each index, which may be any number, and where one was never written."""
    missing = np.isnan(indices)
    return np.floor(7.3 * np.abs(np.where(missing, 0, indices))).astype(int) % size, missing


def _tame(array: Array) -> Array:
    """A recorded constant with numbers in place of what is none or large, element by element."""
    array = np.nan_to_num(array, nan=0.37, posinf=1.7, neginf=-1.7)
    return np.where(np.abs(array) > 10, np.sign(array) * (1 + np.log10(np.maximum(np.abs(array), 1)) / 100), array)


def _mixed(name: str, a: Array, b: Array, factor: float) -> Array:
    """Stands in for a formula: bounded, of both operands, and unlike that of any other name."""
    shift = zlib.crc32(name.encode()) / 2**32
    a, b = a / (1 + np.abs(a)), b / (1 + np.abs(b))
    return np.asarray((1 + shift) * a + (2 - shift) * b * (1 + 0.5 * a) + shift + 0.1 * factor)


def _symbols(instructions: Iterable[Instruction], output: Symbol) -> list[Symbol]:
    """Those of inputs and parameters."""
    every = [symbol for one in instructions for symbol in one.symbols]
    return [symbol for symbol in (*every, output) if symbol.buffer.kind in ("input", "parameter")]


def _last(symbol: Symbol) -> int:
    """The last element that a symbol reaches, in rows; -1 if it has none."""
    if not symbol.size:
        return -1
    steps = zip(symbol.shape, symbol.strides, strict=True)
    return symbol.offset + sum((size - 1) * max(step, 0) for size, step in steps)


def _report(change: str, fault: str, instructions: Sequence[Instruction]) -> str:
    listed = "\n".join(f"  {one.label} {one.fused} {one.operands} -> {one.results}" for one in instructions)
    return f"{change} {fault}; a defect of viva_tensor, please report it with this program:\n{listed}"
