"""Recorded forward passes in formats that other runtimes read."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from viva_tensor import files
from viva_tensor.autograd import Node, Tape, Variable
from viva_tensor.autograd.operations import Axis
from viva_tensor.error import InvalidValue, TensorError
from viva_tensor.extras import extra
from viva_tensor.kernels.arrays import Array
from viva_tensor.program.lowering import stretched
from viva_tensor.program.source import source_of

__all__ = ["onnx"]


OPSET = 20
IR_VERSION = 9  # the oldest that has this opset
MOST_BYTES = 2**31 - 2**20  # a protobuf message stays below 2 GiB; the rest is for the graph itself


def onnx(path: str | os.PathLike[str], tape: Tape, *, output: Variable, inputs: Sequence[Variable]) -> Path:
    """Write a recorded forward pass as an ONNX model.

    Parameters
    ----------
    path : str or path-like
        Replaced in one step; see :func:`viva_tensor.files.replace`.
    tape : Tape
    output : Variable
        What the model gives, under the name ``output``.
    inputs : sequence of Variable
        Leaves that each run replaces, under the names ``input0``, ``input1``, ... All other constants and variables
        that the output depends on become part of the model. The first axis of the first input, and of each input of as
        many rows, is the batch: the model takes any number of rows.

    Returns
    -------
    Path

    Raises
    ------
    ForeignVariable, InvalidValue, DtypeError
        As :func:`viva_tensor.program.compile_forward`.
    InvalidValue
        If what was recorded fits one number of rows only.
    TensorError
        If an operation has no ONNX form, or the model is too large for one file; nothing is written then.
    OSError
        If the file cannot be written.
    ImportError
        Without the package onnx.

    Notes
    -----
    The model needs opset 20 (ONNX 1.15). A layer becomes one Gemm; results differ from those here by the rounding of
    its sums, and of the exponentials of each library. Not every runtime has every operation in float64: onnxruntime has
    no exact GELU, erf or softplus there.

    References
    ----------
    .. [1] Open Neural Network Exchange, operators, https://onnx.ai/onnx/operators/.

    Examples
    --------
    >>> import tempfile
    >>> from viva_tensor import autograd
    >>> x, tape = autograd.new_constant(autograd.new_tape(), [[-1.0, 2.0]])
    >>> y, tape = autograd.relu(tape, x)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     onnx(Path(folder) / "model.onnx", tape, output=y, inputs=(x,)).name
    'model.onnx'
    """
    with extra("onnx"):
        from onnx import checker, helper, numpy_helper

    source = source_of("export.onnx", tape, output, inputs, (), None)
    names = {variable.id: f"input{i}" for i, variable in enumerate(source.inputs)}
    others = {node.output.id: node for node in source.nodes if node.output.id not in names}
    for node in others.values():
        if node.inputs and node.operation.name not in FORMS:
            raise TensorError(
                f"the operation {node.operation.name!r} has no ONNX form",
                operation="export.onnx",
                hint="export the output before it",
            )
    size = sum(node.output.data.nbytes for node in others.values() if not node.inputs)
    if size > MOST_BYTES:
        raise TensorError(f"the weights take {size:,} bytes, more than one ONNX file holds", operation="export.onnx")

    rows = source.inputs[0].data.shape[:1]
    more = _with_one_row_more(source.nodes, source.inputs)
    graph = _Graph(more)
    for node in others.values():
        place, data = node.output.id, node.output.data
        if node.inputs:
            graph.place = f"v{place}"
            names[place] = FORMS[node.operation.name](graph, node, *(names[one.id] for one in node.inputs))
        else:
            names[place] = graph.constant(data, f"v{place}")
    graph.nodes.append(("Identity", [names[output.id]], "output", {}))

    kind = helper.np_dtype_to_tensor_dtype(source.dtype)
    ends = [*((names[variable.id], variable) for variable in source.inputs), ("output", output)]
    information = [
        helper.make_tensor_value_info(name, kind, _axes(name, variable.data.shape, more[variable.id].shape, rows))
        for name, variable in ends
    ]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(kind, inputs, [name], **others) for kind, inputs, name, others in graph.nodes],
            "forward",
            information[:-1],
            information[-1:],
            [numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
        ),
        producer_name="viva_tensor",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    checker.check_model(model, full_check=True)
    return files.replace(path, model.SerializeToString())


class _Graph:
    """Nodes as (kind, inputs, output, attributes), and constants by name."""

    def __init__(self, more: Mapping[int, Array]) -> None:
        self.more = more  # the value of each variable for a batch of one row more
        self.nodes: list[tuple[str, list[str], str, Mapping[str, Any]]] = []
        self.constants: dict[str, Array] = {}
        self.place = ""  # the variable whose nodes are being added

    def constant(self, value: Any, name: str = "") -> str:
        name = name or f"{self.place}.c{len(self.constants)}"
        self.constants[name] = np.asarray(value, order="C")
        return name

    def number(self, value: float, node: Node) -> str:
        """A constant of the dtype of a node."""
        return self.constant(np.array(value, node.output.data.dtype))

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{self.place}.{len(self.nodes)}"
        self.nodes.append((kind, list(inputs), name, attributes))
        return name


Form = Callable[..., str]  # called as form(graph, node, *names of its inputs), gives the name of its output


def _plain(kind: str) -> Form:
    """An operation that ONNX has under another name, without attributes."""
    return lambda graph, node, *inputs: graph.add(kind, *inputs)


def _linear(graph: _Graph, node: Node, x: str, w: str, b: str) -> str:
    return graph.add("Gemm", x, w, b, transB=1)


def _transpose(graph: _Graph, node: Node, x: str) -> str:
    axes = node.attributes["axes"]
    dimensions = len(node.output.data.shape)
    return graph.add("Transpose", x, perm=list(range(dimensions))[::-1] if axes is None else list(axes))


def _reduced(kind: str) -> Form:
    def form(graph: _Graph, node: Node, x: str) -> str:
        axis: Axis = node.attributes["axis"]
        dimensions = len(node.inputs[0].data.shape)
        axes = range(dimensions) if axis is None else np.atleast_1d(np.array(axis, np.int64))
        if len(axes) == 0:  # ONNX would take this for all of them
            return graph.add("Identity", x)
        return graph.add(kind, x, graph.constant(np.array(axes, np.int64)), keepdims=int(node.attributes["keepdims"]))

    return form


def _silu(graph: _Graph, node: Node, x: str) -> str:
    return graph.add("Mul", x, graph.add("Sigmoid", x))


# Attributes of ONNX are float32. Where one would spoil float64, an operation is put together from others.


def _leaky_relu(graph: _Graph, node: Node, x: str) -> str:
    slope = node.attributes["slope"]
    if node.output.data.dtype == np.float32:
        return graph.add("LeakyRelu", x, alpha=slope)
    below = graph.add("Relu", graph.add("Neg", x))
    return graph.add("Sub", graph.add("Relu", x), graph.add("Mul", below, graph.number(slope, node)))


def _gelu_tanh(graph: _Graph, node: Node, x: str) -> str:
    if node.output.data.dtype == np.float32:
        return graph.add("Gelu", x, approximate="tanh")
    cube = graph.add("Mul", graph.add("Mul", x, x), x)
    bent = graph.add("Add", x, graph.add("Mul", cube, graph.number(0.044715, node)))
    tanh = graph.add("Tanh", graph.add("Mul", bent, graph.number(math.sqrt(2 / math.pi), node)))
    half = graph.add("Mul", x, graph.number(0.5, node))
    return graph.add("Mul", half, graph.add("Add", tanh, graph.number(1, node)))


def _normalize(graph: _Graph, node: Node, x: str) -> str:
    data, epsilon = node.output.data, node.attributes["epsilon"]
    if data.dtype == np.float32:
        ones = graph.constant(np.ones(data.shape[-1:], data.dtype))
        return graph.add("LayerNormalization", x, ones, axis=-1, epsilon=epsilon)
    last = graph.constant(np.array([-1], np.int64))
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, last))
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), last)
    return graph.add("Div", centred, graph.add("Sqrt", graph.add("Add", variance, graph.number(epsilon, node))))


def _reshape(graph: _Graph, node: Node, x: str) -> str:
    (before,), after = node.inputs, node.output.data.shape
    shape = np.array(after, np.int64)
    if graph.more[before.id].shape != before.data.shape:
        shape[0] = -1
    return graph.add("Reshape", x, graph.constant(shape), allowzero=int(0 in after))


def _slice(graph: _Graph, node: Node, x: str) -> str:
    sizes = node.inputs[0].data.shape
    cut = [
        (i, span)
        for i, (span, size) in enumerate(zip(node.attributes["spans"], sizes, strict=True))
        if span != (0, size, 1)
    ]
    if not cut:
        return graph.add("Identity", x)
    ends = [start + count * step for _, (start, count, step) in cut]
    columns = (
        [start for _, (start, _, _) in cut],
        [end if end >= 0 else np.iinfo(np.int64).min for end in ends],  # below 0 they would count from the end
        [axis for axis, _ in cut],
        [step for _, (_, _, step) in cut],
    )
    return graph.add("Slice", x, *(graph.constant(np.array(column, np.int64)) for column in columns))


FORMS: dict[str, Form] = {
    "abs": _plain("Abs"),
    "add": _plain("Add"),
    "concatenate": lambda graph, node, *inputs: graph.add("Concat", *inputs, axis=node.attributes["axis"]),
    "div": _plain("Div"),
    "erf": _plain("Erf"),
    "exp": _plain("Exp"),
    "gelu": _plain("Gelu"),
    "gelu_tanh": _gelu_tanh,
    "leaky_relu": _leaky_relu,
    "linear": _linear,
    "log": _plain("Log"),
    "log_softmax": lambda graph, node, x: graph.add("LogSoftmax", x, axis=-1),
    "matmul": _plain("MatMul"),
    "maximum": _plain("Max"),
    "mean": _reduced("ReduceMean"),
    "mul": _plain("Mul"),
    "normalize": _normalize,
    "pow": lambda graph, node, x: graph.add("Pow", x, graph.number(node.attributes["exponent"], node)),
    "relu": _plain("Relu"),
    "reshape": _reshape,
    "scale": lambda graph, node, x: graph.add("Mul", x, graph.number(node.attributes["factor"], node)),
    "sigmoid": _plain("Sigmoid"),
    "silu": _silu,
    "slice": _slice,
    "softmax": lambda graph, node, x: graph.add("Softmax", x, axis=-1),
    "softplus": _plain("Softplus"),
    "sqrt": _plain("Sqrt"),
    "squeeze": lambda graph, node, x: graph.add(
        "Squeeze", x, graph.constant(np.array(node.attributes["axes"], np.int64))
    ),
    "sub": _plain("Sub"),
    "sum": _reduced("ReduceSum"),
    "tanh": _plain("Tanh"),
    "transpose": _transpose,
}


def _with_one_row_more(nodes: Sequence[Node], inputs: Sequence[Variable]) -> dict[int, Array]:
    """The value of each variable for a batch of one row more: what grows with the batch, and proof that it can."""
    rows = inputs[0].data.shape[:1]
    values = {}
    for variable in inputs:
        shape = variable.data.shape
        grows = rows and shape[:1] == rows
        values[variable.id] = np.resize(variable.data, (rows[0] + 1, *shape[1:])) if grows else variable.data
    for node in nodes:
        if node.output.id in values:
            continue
        if not node.inputs:
            values[node.output.id] = node.output.data
            continue
        arrays = [values[one.id] for one in node.inputs]
        try:
            values[node.output.id] = node.operation.forward(*arrays, **stretched(node, arrays[0].shape))
        except TensorError as error:
            raise InvalidValue(
                f"%{node.output.id} = {node.operation.name} fits batches of {rows[0]} rows only ({error})",
                operation="export.onnx",
                hint="record it so that only inputs have the rows of the batch",
            ) from error
    return values


def _axes(name: str, shape: tuple[int, ...], more: tuple[int, ...], rows: tuple[int, ...]) -> list[int | str]:
    """Sizes of axes, and names for those that grow with the batch."""
    return [
        size if size == other else "batch" if (size, other) == (rows[0], rows[0] + 1) else f"{name}_{axis}"
        for axis, (size, other) in enumerate(zip(shape, more, strict=True))
    ]
