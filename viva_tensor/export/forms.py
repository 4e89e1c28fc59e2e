"""How each operation of the tape is written in ONNX (https://onnx.ai/onnx/operators/)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from viva_tensor.autograd import Node, operations
from viva_tensor.autograd.operations import Axis
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array

INT64 = 7  # the number of the type in ONNX


class Graph:
    """Nodes as (kind, inputs, output, attributes), and constants by name."""

    def __init__(self, larger: Mapping[int, Array]) -> None:
        self.larger = larger  # the value of each variable for a batch of one more row
        self.nodes: list[tuple[str, tuple[str, ...], str, Mapping[str, Any]]] = []
        self.constants: dict[str, Array] = {}
        self.prefix = ""  # names the variable whose nodes are being added

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = f"{self.prefix}.{len(self.nodes)}"
        self.nodes.append((kind, inputs, name, attributes))
        return name

    def constant(self, value: Array, name: str = "") -> str:
        """Add a constant and return its name."""
        name = name or f"{self.prefix}.c{len(self.constants)}"
        self.constants[name] = np.asarray(value, order="C")
        return name

    def cast(self, name: str, node: Node) -> str:
        """Add a conversion of bools to a node's dtype."""
        zero, one = (self.number(value, node) for value in (0, 1))
        return self.add("Where", name, one, zero)

    def integers(self, values: ArrayLike) -> str:
        return self.constant(np.array(values, np.int64))

    def number(self, value: float, node: Node) -> str:
        """Add a constant of a node's dtype."""
        return self.constant(np.array(value, node.output.data.dtype))


Form = Callable[..., str]  # called as form(graph, node, *names of its inputs), returns the name of its output


def _plain(kind: str) -> Form:
    """Return the form of an operation that ONNX has under another name, without attributes."""
    return lambda graph, node, *inputs: graph.add(kind, *inputs)


def _transpose(graph: Graph, node: Node, x: str) -> str:
    axes = node.attributes["axes"]
    if not node.output.ndim:  # onnx makes no attribute of an empty list
        return graph.add("Identity", x)
    return graph.add("Transpose", x, perm=list(reversed(range(node.output.ndim)) if axes is None else axes))


def _axes(node: Node) -> npt.NDArray[np.int64]:
    """Return the axes that a reduction is over."""
    axis: Axis = node.attributes["axis"]
    return np.arange(node.inputs[0].ndim) if axis is None else np.atleast_1d(np.array(axis, np.int64))


def _reduced(kind: str) -> Form:
    def form(graph: Graph, node: Node, x: str) -> str:
        axes = _axes(node)
        if not axes.size:  # ONNX would reduce all of them
            return graph.add("Identity", x)
        return graph.add(kind, x, graph.integers(axes), keepdims=int(node.attributes["keepdims"]))

    return form


# Attributes of ONNX are float32. Where that would spoil float64, the form is composed of several nodes.


def _leaky_relu(graph: Graph, node: Node, x: str) -> str:
    slope = node.attributes["slope"]
    if node.output.dtype == np.float32:
        return graph.add("LeakyRelu", x, alpha=slope)
    below = graph.add("Relu", graph.add("Neg", x))
    return graph.add("Sub", graph.add("Relu", x), graph.add("Mul", below, graph.number(slope, node)))


def _gelu_tanh(graph: Graph, node: Node, x: str) -> str:
    if node.output.dtype == np.float32:
        return graph.add("Gelu", x, approximate="tanh")
    cube = graph.add("Mul", graph.add("Mul", x, x), x)
    bent = graph.add("Add", x, graph.add("Mul", cube, graph.number(0.044715, node)))
    tanh = graph.add("Tanh", graph.add("Mul", bent, graph.number(math.sqrt(2 / math.pi), node)))
    half = graph.add("Mul", x, graph.number(0.5, node))
    return graph.add("Mul", half, graph.add("Add", tanh, graph.number(1, node)))


def _silu(graph: Graph, node: Node, x: str) -> str:
    gate = graph.add("Sigmoid", x)
    if node.output.dtype == np.float64:
        # of x itself onnxruntime before 1.31 makes an operation that it has in float32 only; and -inf times 0 is NaN
        x = graph.add("Max", x, graph.number(np.finfo(np.float64).min, node))
    return graph.add("Mul", x, gate)


def _log_softmax(graph: Graph, node: Node, x: str) -> str:
    if node.output.dtype == np.float32:
        return graph.add("LogSoftmax", x, axis=-1)
    last = graph.integers([-1])  # onnxruntime's own has numbers for some of a row with NaN or infinity
    shifted = graph.add("Sub", x, graph.add("ReduceMax", x, last))
    return graph.add("Sub", shifted, graph.add("Log", graph.add("ReduceSum", graph.add("Exp", shifted), last)))


def _normalize(graph: Graph, node: Node, x: str) -> str:
    data, epsilon = node.output.data, node.attributes["epsilon"]
    if data.dtype == np.float32:
        ones = graph.constant(np.ones(data.shape[-1:], data.dtype))
        return graph.add("LayerNormalization", x, ones, axis=-1, epsilon=epsilon)
    last = graph.integers([-1])
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, last))
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), last)
    return graph.add("Div", centred, graph.add("Sqrt", graph.add("Add", variance, graph.number(epsilon, node))))


def _mean_squared_error(graph: Graph, node: Node, pred: str, target: str) -> str:
    difference = graph.add("Sub", pred, target)
    return graph.add("ReduceMean", graph.add("Mul", difference, difference), keepdims=0)


def _broadcast(graph: Graph, node: Node, x: str, other: str) -> str:
    """Repeat x to the shape of the other: along rows by what that is, and else to sizes that keep the rows of x."""
    own, whole = (graph.larger[variable.id].shape for variable in (node.inputs[0], node.output))
    own = (0,) * (len(whole) - len(own)) + own
    sizes = [1 if size == more else size for size, more in zip(whole, own, strict=True)]
    along = zip(node.output.shape, whole, sizes, strict=True)
    open_sized = any(recorded != now and size != 1 for recorded, now, size in along)
    return graph.add("Expand", x, graph.add("Shape", other) if open_sized else graph.integers(sizes))


def _reshape(graph: Graph, node: Node, x: str) -> str:
    shape = node.output.shape
    now = zip(shape, graph.larger[node.output.id].shape, strict=True)
    sizes = tuple(size if size == larger else -1 for size, larger in now)
    if sizes.count(-1) > 1:
        hint = "one axis of a model may have the rows; an einsum of two inputs with rows has more"
        raise InvalidValue(f"{shape} grows along several axes", operation="export.onnx of reshape", hint=hint)
    if 0 in sizes and -1 in sizes:
        hint = "leave out what has no elements; ONNX has no open size beside one of 0"
        raise InvalidValue(f"{shape} has no elements", operation="export.onnx of reshape", hint=hint)
    return graph.add("Reshape", x, graph.integers(sizes), allowzero=int(0 in sizes))


def _slice(graph: Graph, node: Node, x: str) -> str:
    spans = zip(node.attributes["spans"], node.inputs[0].shape, strict=True)
    cut = [(axis, *span) for axis, (span, size) in enumerate(spans) if span != (0, size, 1)]
    if not cut:
        return graph.add("Identity", x)
    axes, starts, counts, steps = np.array(cut, np.int64).T
    ends = starts + counts * steps
    ends[ends < 0] = np.iinfo(np.int64).min  # ONNX would count them from the end
    open_sized = [isinstance(node.attributes["spans"][axis], operations.OpenSize) for axis in axes]
    starts = np.where(open_sized, np.iinfo(np.int64).max, starts)  # from the last of any number
    return graph.add("Slice", x, *map(graph.integers, (starts, ends, axes, steps)))


def _running_sums(graph: Graph, node: Node, x: str) -> str:
    """Sums in runs are differences of sums in one run only up to rounding, so each run has sums of its own."""
    axis, size = graph.integers(node.attributes["axis"]), node.inputs[0].shape[node.attributes["axis"]]
    bounds = sorted({0, *node.attributes["starts"], size})
    if len(bounds) < 3:
        return graph.add("CumSum", x, axis)
    along = graph.integers([node.attributes["axis"]])
    runs = [
        graph.add("CumSum", graph.add("Slice", x, graph.integers([start]), graph.integers([stop]), along), axis)
        for start, stop in pairwise(bounds)
    ]
    return graph.add("Concat", *runs, axis=node.attributes["axis"])


def _embedding_bag(graph: Graph, node: Node, table: str, indices: str, weights: str) -> str:
    rows = graph.add("Gather", table, graph.add("Cast", indices, to=INT64), axis=0)
    weighted = graph.add("Mul", rows, graph.add("Unsqueeze", weights, graph.integers([2])))
    return graph.add("ReduceSum", weighted, graph.integers([1]), keepdims=0)


def _pad(graph: Graph, node: Node, x: str) -> str:
    before, after = np.array(node.attributes["widths"], np.int64).reshape(-1, 2).T
    return graph.add("Pad", x, graph.integers([*before, *after]), graph.number(node.attributes["value"], node))


def _compared(kind: str) -> Form:
    """Return the form of a comparison, which gives 1 and 0."""
    return lambda graph, node, a, b: graph.cast(graph.add(kind, a, b), node)


def _elu(graph: Graph, node: Node, x: str) -> str:
    below = graph.add("Min", graph.add("Elu", x, alpha=1.0), graph.number(0, node))
    return graph.add("Add", graph.add("Relu", x), graph.add("Mul", below, graph.number(node.attributes["alpha"], node)))


def _log_cosh(graph: Graph, node: Node, x: str) -> str:
    size = graph.add("Abs", x)
    fading = graph.add("Exp", graph.add("Mul", size, graph.number(-2, node)))
    rest = graph.add("Log", graph.add("Add", fading, graph.number(1, node)))
    return graph.add("Add", size, graph.add("Sub", rest, graph.number(math.log(2), node)))


def _let_through(where_zero: bool) -> Form:
    """Return the form of what lets elements through by a condition: where it is 0, or where it is not."""

    def form(graph: Graph, node: Node, x: str, condition: str) -> str:
        zero, nothing = graph.add("Equal", condition, graph.number(0, node)), graph.number(-0.0, node)
        return graph.add("Where", zero, *((x, nothing) if where_zero else (nothing, x)))

    return form


_norm = _reduced("ReduceL2")

FORMS: dict[str, Form] = {
    "abs": _plain("Abs"),
    "add": _plain("Add"),
    "at_least": lambda graph, node, x: graph.add("Max", x, graph.number(node.attributes["bound"], node)),
    "at_most": lambda graph, node, x: graph.add("Min", x, graph.number(node.attributes["bound"], node)),
    "batch_matmul": _plain("MatMul"),
    "broadcast": _broadcast,
    "chosen": _let_through(where_zero=False),
    "concatenate": lambda graph, node, *inputs: graph.add("Concat", *inputs, axis=node.attributes["axis"]),
    "cos": _plain("Cos"),
    "cumsum": _running_sums,
    "div": _plain("Div"),
    "elu": _elu,
    "embedding_bag": _embedding_bag,
    "equal": _compared("Equal"),
    "erf": _plain("Erf"),
    "exp": _plain("Exp"),
    "expand_dims": lambda graph, node, x: graph.add("Unsqueeze", x, graph.integers([node.attributes["axis"]])),
    "gelu": _plain("Gelu"),
    "gelu_tanh": _gelu_tanh,
    "leaky_relu": _leaky_relu,
    "less": _compared("Less"),
    "less_equal": _compared("LessOrEqual"),
    "linear": lambda graph, node, x, w, b: graph.add("Gemm", x, w, b, transB=1),
    "log": _plain("Log"),
    "log_cosh": _log_cosh,
    "log_softmax": _log_softmax,
    "matmul": _plain("MatMul"),
    "max": _reduced("ReduceMax"),
    "maximum": _plain("Max"),
    "mean": _reduced("ReduceMean"),
    "mean_squared_error": _mean_squared_error,
    "mish": _plain("Mish"),
    "min": _reduced("ReduceMin"),
    "minimum": _plain("Min"),
    "mul": _plain("Mul"),
    "norm": lambda graph, node, x: _norm(graph, node, x) if _axes(node).size else graph.add("Abs", x),
    "normalize": _normalize,
    "pad": _pad,
    "pow": lambda graph, node, x: graph.add("Pow", x, graph.number(node.attributes["exponent"], node)),
    "rejected": _let_through(where_zero=True),
    "relu": _plain("Relu"),
    "reshape": _reshape,
    "scale": lambda graph, node, x: graph.add("Mul", x, graph.number(node.attributes["factor"], node)),
    "sigmoid": _plain("Sigmoid"),
    "sign": _plain("Sign"),
    "silu": _silu,
    "sin": _plain("Sin"),
    "slice": _slice,
    "softmax": lambda graph, node, x: graph.add("Softmax", x, axis=-1),
    "softplus": _plain("Softplus"),
    "sqrt": _plain("Sqrt"),
    "squeeze": lambda graph, node, x: graph.add("Squeeze", x, graph.integers(node.attributes["axes"])),
    "stop_gradient": _plain("Identity"),
    "sub": _plain("Sub"),
    "sum": _reduced("ReduceSum"),
    "sum_of_squares": lambda graph, node, x: graph.add("ReduceSumSquare", x, keepdims=0),
    "take": lambda graph, node, x, indices: graph.add(
        "Gather", x, graph.add("Cast", indices, to=INT64), axis=node.attributes["axis"]
    ),
    "tanh": _plain("Tanh"),
    "transpose": _transpose,
}
