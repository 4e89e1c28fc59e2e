"""ONNX models of recorded forward passes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from viva_tensor import files
from viva_tensor.autograd import Tape, Variable, operations
from viva_tensor.error import InvalidValue, TensorError
from viva_tensor.export.forms import FORMS, Graph
from viva_tensor.extras import extra
from viva_tensor.kernels.arrays import Array
from viva_tensor.program.source import Source, source_of
from viva_tensor.program.stretching import Stretching, check_exact

OPSET = 20
IR_VERSION = 9  # the oldest that has this opset
MOST_BYTES = 2**31 - 2**20  # a protobuf message stays below 2 GiB; the rest is for the graph itself


def onnx(path: str | os.PathLike[str], tape: Tape, *, output: Variable, inputs: Sequence[Variable]) -> Path:
    """Write a recorded forward pass as an ONNX model [1]_, and return the path.

    Parameters
    ----------
    path : str or path-like
        Replaced in one step; see :func:`viva_tensor.files.replace`.
    tape : Tape
    output : Variable
        The result of the model, named ``output``.
    inputs : sequence of Variable
        Leaves that each run replaces, named ``input0``, ``input1``, ... All other constants and variables that the
        output depends on become part of the model. The first axis of the first input that has one, and of each input
        with as many rows, is the batch: the model takes any number of rows.

    Raises
    ------
    ForeignVariable, InvalidValue, DtypeError
        As :func:`viva_tensor.program.compile_forward`.
    InvalidValue
        If the recorded pass fits only one number of rows.
    TensorError
        If an operation has no ONNX form, or the model is too large for one file; nothing is written then.
    OSError, ImportError
        If the file cannot be written; without the package onnx.

    Notes
    -----
    The model needs opset 20 (ONNX 1.15). A layer becomes one Gemm; of finite numbers, where nothing overflows, its
    results differ from this library's by the rounding of sums and exponentials. In onnxruntime the largest and smallest
    along an axis may be a number where an element is NaN, which is NaN here; GELU, Mish and in float32 SiLU of -inf are
    NaN, here -0; zeros may have the other sign; and the mean of no elements is NaN here, 0 there. Not every runtime has
    every operation in float64: onnxruntime lacks exact GELU, erf, ELU (and so SELU), Mish and softplus there, and
    before 1.29 cos.

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

    source = source_of("export.onnx", tape, (output,), inputs, (), None)
    names = {variable.id: f"input{i}" for i, variable in enumerate(source.inputs)}
    others = [node for node in source.nodes if node.output.id not in names]
    for node in others:
        if node.inputs and node.operation.name not in FORMS:
            raise TensorError(
                f"the operation {node.operation.name!r} has no ONNX form",
                operation="export.onnx",
                hint="export the output before it",
            )
    size = sum(node.output.data.nbytes for node in others if not node.inputs)
    if size > MOST_BYTES:
        raise TensorError(f"the weights take {size:,} bytes, more than one ONNX file holds", operation="export.onnx")

    larger = _with_one_more_row(source)
    graph = Graph(larger)
    for node in others:
        number = node.output.id
        graph.prefix = f"v{number}"
        if node.inputs:
            names[number] = FORMS[node.operation.name](graph, node, *(names[one.id] for one in node.inputs))
        else:
            names[number] = graph.constant(node.output.data, graph.prefix)
    graph.nodes.append(("Identity", (names[output.id],), "output", {}))

    dtype = helper.np_dtype_to_tensor_dtype(source.dtype)
    rows = source.batch
    information = [
        helper.make_tensor_value_info(name, dtype, _axes(name, variable.shape, larger[variable.id].shape, rows))
        for name, variable in [*((names[one.id], one) for one in source.inputs), ("output", output)]
    ]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(kind, inputs, [name], **attributes) for kind, inputs, name, attributes in graph.nodes],
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


def _with_one_more_row(source: Source) -> dict[int, Array]:
    """Return the value of each variable for a batch of one more row: the axes that grow, and proof that they can."""
    rows = source.batch
    values: dict[int, Array] = {}
    stretching = Stretching(source.nodes, lambda number: values[number].shape)
    for variable, batched in zip(source.inputs, source.batched, strict=True):
        data = variable.data
        values[variable.id] = np.resize(data, (rows[0] + 1, *data.shape[1:])) if batched else data
    for node in source.nodes:
        if not node.inputs:
            values.setdefault(node.output.id, node.output.data)
            continue
        arrays = [values[one.id] for one in node.inputs]
        try:
            shapes = stretching.inputs(node)
            check_exact(node, shapes)
            if node.operation is operations.BROADCAST:  # of the other its shape is asked
                arrays[1] = np.broadcast_to(arrays[1].dtype.type(0), shapes[1])
            values[node.output.id] = node.operation.forward(*arrays, **stretching.attributes(node))
        except (TensorError, ValueError) as error:
            raise InvalidValue(
                f"%{node.output.id} = {node.operation.name} fits batches of {rows[0]} rows only ({error})",
                operation="export.onnx",
                hint="record it so that only inputs have the rows of the batch",
            ) from error
    return values


def _axes(name: str, shape: tuple[int, ...], larger: tuple[int, ...], rows: tuple[int, ...]) -> list[int | str]:
    """Return sizes of axes, and names for those that grow with the batch."""
    return [
        size if size == other else "batch" if (size, other) == (rows[0], rows[0] + 1) else f"{name}_{axis}"
        for axis, (size, other) in enumerate(zip(shape, larger, strict=True))
    ]
