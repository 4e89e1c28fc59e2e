import os
import re
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from support.networks import network

from viva_tensor import autograd, error, export, nn, program
from viva_tensor.autograd import operations
from viva_tensor.export.forms import FORMS
from viva_tensor.export.model import OPSET


def run(path, *arrays):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {f"input{i}": array for i, array in enumerate(arrays)}
    return session.run(["output"], feeds)[0]


def bound(layers, x, activation):
    """How far two computations of the network may lie apart, element by element.

    A sum of k products and a bias in any order is within γ(k + 1) of the sum of magnitudes (Higham, Accuracy and
    Stability of Numerical Algorithms, 3.1), so two of them are within twice that. A layer passes on what came before
    as |W|. The slopes of the activations are at most 1.13, and their values a few roundings from the true ones.
    """
    unit = np.finfo(x.dtype).eps / 2
    value, apart = x.astype("f8"), np.zeros(x.shape)
    for i, layer in enumerate(layers):
        w, b = layer.w.data.astype("f8"), layer.b.data.astype("f8")
        size = w.shape[1] + 1
        magnitude = (abs(value) + apart) @ abs(w).T + abs(b)
        apart = apart @ abs(w).T + 2 * size * unit / (1 - size * unit) * magnitude
        value = value @ w.T + b
        if i < len(layers) - 1:
            before, tape = autograd.new_constant(autograd.new_tape(), value)
            value = nn.ACTIVATIONS[activation](tape, before).value.data
            apart = 1.13 * apart + 16 * unit * np.maximum(1, abs(value))
    return apart


@pytest.mark.parametrize("activation", nn.ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(3, 1), (5, 8, 2), (20, 64, 32, 10)])
def test_a_network_within_rounding_for_batches_of_any_size(rng, tmp_path, sizes, activation):
    layers, tape = network(rng, "float32", sizes)
    x, tape = autograd.new_constant(tape, rng.standard_normal((6, sizes[0])).astype("f4"))
    y, tape = nn.mlp_forward(tape, layers, x, activation=activation)
    path = export.onnx(tmp_path / "model.onnx", tape, output=y, inputs=(x,))
    ours = program.compile_forward(tape, output=y, inputs=(x,))
    for rows in (1, 6, 7, 100):
        batch = rng.standard_normal((rows, sizes[0])).astype("f4")
        found = run(path, batch)
        assert found.dtype == np.float32
        assert found.shape == (rows, sizes[-1])
        assert (abs(found.astype("f8") - ours(batch)) <= bound(layers, batch, activation)).all()


def test_a_network_in_float64(rng, tmp_path):
    layers, tape = network(rng, "float64", (5, 8, 2))
    x, tape = autograd.new_constant(tape, rng.standard_normal((6, 5)))
    y, tape = nn.mlp_forward(tape, layers, x)
    found = run(export.onnx(tmp_path / "model.onnx", tape, output=y, inputs=(x,)), x.data)
    assert found.dtype == np.float64
    assert (abs(found - y.data) <= bound(layers, x.data, "relu")).all()


def by_axes(operation, *arguments, **options):
    return lambda tape, x: operation(tape, x, *arguments, **options)


def of(operation, **attributes):
    return lambda tape, *inputs: autograd.record(tape, operation, *inputs, **attributes)


def joined(axis):
    return lambda tape, *inputs: autograd.concatenate(tape, inputs, axis)


def rows_of_a_table(tape, x):
    table, tape = autograd.new_constant(tape, np.arange(10, dtype=x.dtype).reshape(2, 5))
    chosen, tape = autograd.less(tape, x, 0.3)
    return autograd.take(tape, table, chosen)


def weighted_rows_of_a_table(tape, x):
    table, tape = autograd.new_constant(tape, np.arange(10, dtype=x.dtype).reshape(2, 5))
    chosen, tape = autograd.less(tape, x, 0.3)
    return autograd.embedding_bag(tape, table, chosen, x)


# one operation each: name, what is recorded, shapes of its operands; those of four rows are batches
CASES = {
    "abs": (of(operations.ABS), [(4, 3)]),
    "add": (autograd.add, [(4, 3), (3,)]),
    "at least": (of(operations.AT_LEAST, bound=0.1), [(4, 3)]),
    "matmul of a batch": (autograd.matmul, [(4, 3, 2), (4, 2, 5)]),
    "chosen": (of(operations.CHOSEN), [(4, 3), (4, 1)]),
    "concatenate features": (joined(-1), [(4, 3), (4, 2), (4, 1)]),
    "concatenate rows": (joined(0), [(4, 3), (2, 3)]),
    "div": (autograd.div, [(4, 3), (4, 1)]),
    "cosine": (autograd.cos, [(4, 3)]),
    "elu": (of(operations.ELU, alpha=0.7), [(4, 3)]),
    "equal": (
        lambda t, x: autograd.sequence(autograd.clip(t, x, 0.0), lambda t, y: autograd.equal(t, x, y)),
        [(4, 3)],
    ),
    "erf": (of(operations.ERF), [(4, 3)]),
    "expand_dims": (by_axes(autograd.expand_dims, 1), [(4, 3)]),
    "exp": (of(operations.EXP), [(4, 3)]),
    "gelu": (of(operations.GELU), [(4, 3)]),
    "gelu by tanh": (of(operations.GELU_TANH), [(4, 3)]),
    "leaky relu": (of(operations.LEAKY_RELU, slope=0.2), [(4, 3)]),
    "less": (autograd.less, [(4, 3), (3,)]),
    "less or equal": (autograd.greater_equal, [(4, 3), ()]),
    "log": (of(operations.LOG), [(4, 3)]),
    "log cosh": (of(operations.LOG_COSH), [(4, 3)]),
    "log softmax": (of(operations.LOG_SOFTMAX), [(4, 3)]),
    "matmul": (autograd.matmul, [(4, 3), (3, 2)]),
    "maximum": (autograd.maximum, [(4, 3), ()]),
    "mean": (autograd.mean, [(4, 3)]),
    "mean along rows": (by_axes(autograd.mean, axis=-1), [(4, 3)]),
    "mean keeping dimensions": (by_axes(autograd.mean, axis=np.int64(1), keepdims=True), [(4, 3)]),
    "minimum": (autograd.minimum, [(4, 3), ()]),
    "mish": (of(operations.MISH), [(4, 3)]),
    "mul": (autograd.mul, [(4, 3), ()]),
    "normalize": (of(operations.NORMALIZE, epsilon=1e-3), [(4, 8)]),
    "power": (by_axes(autograd.pow, 3), [(4, 3)]),
    "power of a fraction": (by_axes(autograd.pow, 0.5), [(4, 3)]),
    "rejected": (of(operations.REJECTED), [(4, 3), ()]),
    "relu": (autograd.relu, [(4, 3)]),
    "reshape features": (lambda t, x: autograd.reshape(t, x, (len(x.data), 3, 2)), [(4, 6)]),
    "reshape to a vector": (by_axes(autograd.reshape, -1), [(4, 6)]),
    "reshape what does not grow": (lambda t, x, w: autograd.reshape(t, w, (3, 2)), [(4, 1), (2, 3)]),
    "scale": (of(operations.SCALE, factor=-0.3), [(4, 3)]),
    "sigmoid": (of(operations.SIGMOID), [(4, 3)]),
    "sign": (autograd.sign, [(4, 3)]),
    "silu": (of(operations.SILU), [(4, 3)]),
    "sine": (autograd.sin, [(4, 3)]),
    "slice of features": (by_axes(autograd.slice, np.s_[:, 1:3]), [(4, 5)]),
    "slice backwards": (by_axes(autograd.slice, np.s_[..., ::-2]), [(4, 5)]),
    "slice of nothing and of all": (by_axes(autograd.slice, np.s_[:, 2:2, ...]), [(4, 5, 2)]),
    "slice of one feature": (by_axes(autograd.slice, np.s_[:, -2]), [(4, 5)]),
    "slice of one element of each row": (by_axes(autograd.slice, np.s_[..., 1, 0]), [(4, 5, 2)]),
    "slice of all": (by_axes(autograd.slice, np.s_[:]), [(4, 5)]),
    "softmax": (of(operations.SOFTMAX), [(4, 3)]),
    "softplus": (of(operations.SOFTPLUS), [(4, 3)]),
    "sqrt": (of(operations.SQRT), [(4, 3)]),
    "sub": (autograd.sub, [(4, 3), (4, 1)]),
    "sum": (autograd.sum, [(4, 3)]),
    "sum down columns": (by_axes(autograd.sum, axis=0), [(4, 3)]),
    "sum over no axes": (by_axes(autograd.sum, axis=()), [(4, 3)]),
    "sum over two axes": (by_axes(autograd.sum, axis=(0, -1), keepdims=True), [(4, 3, 2)]),
    "cumulative sums": (by_axes(autograd.cumsum, axis=1), [(4, 3)]),
    "largest of each row": (by_axes(autograd.max, axis=1, keepdims=True), [(4, 3)]),
    "smallest of each row": (by_axes(autograd.min, axis=-1), [(4, 3)]),
    "deviation of each row": (by_axes(autograd.std, axis=1, ddof=1), [(4, 3)]),
    "broadcast": (of(operations.BROADCAST), [(4, 1), (4, 3)]),
    "sum of squares": (autograd.sum_of_squares, [(4, 3)]),
    "mean squared error": (nn.mse_loss, [(4, 3), (4, 3)]),
    "norm of each element": (by_axes(autograd.norm, axis=()), [(4, 3)]),
    "norm of each row": (by_axes(autograd.norm, axis=1), [(4, 3)]),
    "sum of exponentials": (by_axes(autograd.logsumexp, axis=1), [(4, 3)]),
    "pad": (by_axes(autograd.pad, ((0, 0), (1, 2)), 0.5), [(4, 3)]),
    "stop gradient": (autograd.stop_gradient, [(4, 3)]),
    "cumulative sums in runs": (by_axes(autograd.cumsum, axis=1, starts=(0, 2)), [(4, 5)]),
    "embedding bag": (weighted_rows_of_a_table, [(4, 3)]),
    "take of features": (by_axes(autograd.take, [2, 0, -1], axis=1), [(4, 3)]),
    "take of rows of a table": (rows_of_a_table, [(4, 3)]),
    "tanh": (of(operations.TANH), [(4, 3)]),
    "transpose": (autograd.transpose, [(4, 3)]),
    "where": (lambda t, a, b: autograd.where(t, [True, False, True], a, b), [(4, 3), (4, 3)]),
    "within bounds": (by_axes(autograd.clip, -0.5, 0.5), [(4, 3)]),
    "transpose by axes": (by_axes(autograd.transpose, (1, -1, 0)), [(4, 3, 2)]),
    "transpose three axes": (autograd.transpose, [(4, 3, 2)]),
}
NOT_IN_ONNXRUNTIME = {
    "elu",
    "erf",
    "gelu",
    "mish",
    "softplus",
}  # float64; the evaluator of the package onnx has them
if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 29):
    NOT_IN_ONNXRUNTIME.add("cosine")  # which later ones have
POSITIVE = {"log", "sqrt", "power of a fraction"}


def operands(rng, name, shapes, rows, dtype):
    arrays = [rng.standard_normal((rows, *shape[1:]) if shape[:1] == (4,) else shape).astype(dtype) for shape in shapes]
    return [abs(array) for array in arrays] if name in POSITIVE else arrays


@pytest.mark.parametrize("name", CASES)
def test_an_operation_within_rounding(rng, dtype, tmp_path, name):
    function, shapes = CASES[name]
    # Two sums of n terms of size about 1, each in its own order, are within n² roundings of each other, and here n is
    # at most 54. All else is a few roundings from its true value, here as there.
    limit = 54**2 if re.match("sum|mean|matmul|normalize|.*softmax", name) else 8
    inputs, tape = [], autograd.new_tape()
    for array in operands(rng, name, shapes, 4, dtype):
        variable, tape = autograd.new_constant(tape, array)
        inputs.append(variable)
    y, tape = function(tape, *inputs)
    path = export.onnx(tmp_path / "model", tape, output=y, inputs=inputs)
    for rows in (4, 9):
        arrays = operands(rng, name, shapes, rows, dtype)
        variables, tape = [], autograd.new_tape()
        for array in arrays:
            variable, tape = autograd.new_constant(tape, array)
            variables.append(variable)
        wanted = function(tape, *variables).value.data
        if name in NOT_IN_ONNXRUNTIME and dtype == np.float64:
            feeds = {f"input{i}": array for i, array in enumerate(arrays)}
            (found,) = ReferenceEvaluator(str(path)).run(None, feeds)
            if name not in ("cosine", "mish", "softplus"):  # its erf is float32
                limit = np.finfo(np.float32).eps / np.finfo(dtype).eps
        else:
            found = run(path, *arrays)
        assert found.shape == wanted.shape
        assert (abs(found - wanted) <= limit * np.finfo(dtype).eps * np.maximum(1, abs(wanted))).all()


@pytest.mark.parametrize("name", ["log softmax", "silu"])
def test_what_is_not_finite_in_float64(tmp_path, name):
    array = np.array([[np.nan, 1, 2], [np.inf, 1, 2], [-np.inf, 1, 2], [-np.inf] * 3, [np.inf, -np.inf, np.nan]])
    x, tape = autograd.new_constant(autograd.new_tape(), array)
    y, tape = CASES[name][0](tape, x)
    np.testing.assert_allclose(run(export.onnx(tmp_path / "model", tape, output=y, inputs=(x,)), array), y.data, 1e-14)


def test_every_form_is_tested():
    tested = {"linear"}
    for function, shapes in CASES.values():
        variables, tape = [], autograd.new_tape()
        for shape in shapes:
            variable, tape = autograd.new_constant(tape, np.ones(shape))
            variables.append(variable)
        tested.add(function(tape, *variables).tape.nodes()[-1].operation.name)
    assert tested == set(FORMS)


def test_layers_without_fusing_and_a_tape_with_more_on_it(rng, tmp_path):
    (layer,), tape = network(rng, "float32", (3, 2))
    x, tape = autograd.new_constant(tape, rng.standard_normal((4, 3)).astype("f4"))
    target, tape = autograd.new_constant(tape, np.zeros((4, 2), "f4"))
    y, tape = nn.linear_forward(tape, layer, x, fused=False)
    _, tape = nn.mse_loss(tape, y, target)
    model = onnx.load(export.onnx(tmp_path / "model", tape, output=y, inputs=(x,)))
    assert [node.op_type for node in model.graph.node] == ["Transpose", "MatMul", "Add", "Identity"]
    assert len(model.graph.initializer) == 2
    np.testing.assert_allclose(run(tmp_path / "model", x.data), y.data, rtol=1e-5)


def test_only_the_batch_axis_is_dynamic(rng, tmp_path):
    layers, tape = network(rng, "float64", (3, 2))
    x, tape = autograd.new_constant(tape, np.ones((4, 3)))
    other, tape = autograd.new_constant(tape, np.ones((1, 2)))
    number, tape = autograd.new_constant(tape, np.float64(2))
    y, tape = nn.mlp_forward(tape, layers, x)
    y, tape = autograd.add(tape, y, other)
    y, tape = autograd.mul(tape, y, number)
    model = onnx.load(export.onnx(tmp_path / "model", tape, output=y, inputs=(x, other, number)))
    assert model.opset_import[0].version == OPSET
    shapes = {
        one.name: [axis.dim_param or axis.dim_value for axis in one.type.tensor_type.shape.dim]
        for one in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"input0": ["batch", 3], "input1": [1, 2], "input2": [], "output": ["batch", 2]}
    assert run(tmp_path / "model", np.ones((7, 3)), np.zeros((1, 2)), np.array(0.0)).tolist() == [[0, 0]] * 7


def test_the_batch_is_that_of_the_first_input_that_has_rows(tmp_path):
    number, tape = autograd.new_constant(autograd.new_tape(), np.float32(2))
    x, tape = autograd.new_constant(tape, np.ones((3, 2), np.float32))
    y, tape = autograd.mul(tape, x, number)
    export.onnx(tmp_path / "model", tape, output=y, inputs=(number, x))
    five = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.testing.assert_array_equal(run(tmp_path / "model", np.array(3, np.float32), five), 3 * five)


def test_inputs_that_are_outputs_and_outputs_that_are_constants(tmp_path):
    x, tape = autograd.new_constant(autograd.new_tape(), np.float32([[1, 2]]))
    c, tape = autograd.new_variable(tape, np.float32([[5.0]]))
    export.onnx(tmp_path / "same", tape, output=x, inputs=(x,))
    assert run(tmp_path / "same", np.float32([[3, 4], [5, 6]])).tolist() == [[3, 4], [5, 6]]
    export.onnx(tmp_path / "constant", tape, output=c, inputs=(x,))
    assert run(tmp_path / "constant", np.float32([[3, 4]])).tolist() == [[5]]


@pytest.mark.parametrize(("shape", "repeated"), [((4, 3), (2, 4, 3)), ((4, 1), (4, 3)), ((4, 1, 3), (5, 4, 2, 3))])
def test_the_rows_stay_open_where_others_are_repeated(rng, tmp_path, shape, repeated):
    x, tape = autograd.new_constant(autograd.new_tape(), np.zeros(shape, np.float32))
    y, tape = autograd.broadcast_to(tape, x, repeated)
    export.onnx(tmp_path / "model", tape, output=y, inputs=(x,))
    batch = rng.standard_normal((7, *shape[1:]), np.float32)
    found = run(tmp_path / "model", batch)
    np.testing.assert_array_equal(found, program.compile_forward(tape, output=y, inputs=(x,))(batch))
    assert found.shape == tuple(7 if size == 4 else size for size in repeated)


class TestRefused:
    @pytest.fixture
    def tape(self):
        return autograd.new_constant(autograd.new_tape(), np.ones((4, 3), np.float32))

    def test_an_operation_without_a_form(self, tape, tmp_path):
        x, tape = tape
        loss, tape = nn.huber_loss(tape, x, x)
        y, tape = autograd.add(tape, loss, x)
        with pytest.raises(error.TensorError, match=r"export.onnx: the operation 'huber' has no ONNX form"):
            export.onnx(tmp_path / "model", tape, output=y, inputs=(x,))
        assert os.listdir(tmp_path) == []

    def test_a_shape_that_the_batch_cannot_be_broadcast_to(self, tape, tmp_path):
        x, tape = autograd.new_constant(tape[1], np.ones((1, 3), np.float32))
        y, tape = autograd.broadcast_to(tape, x, (4, 3))
        with pytest.raises(error.InvalidValue, match="%3 = broadcast fits batches of 1 rows only"):
            export.onnx(tmp_path / "model", tape, output=y, inputs=(x,))

    def test_an_open_size_beside_one_of_no_elements(self, tape, tmp_path):
        x, tape = autograd.new_constant(tape[1], np.ones((4, 0), np.float32))
        y, tape = autograd.reshape(tape, x, (4, 0, 2))
        with pytest.raises(error.InvalidValue, match=r"export.onnx of reshape: \(4, 0, 2\) has no elements; leave out"):
            export.onnx(tmp_path / "model", tape, output=y, inputs=(x,))

    def test_the_weight_of_one_recorded_row_for_others(self, tape, tmp_path):
        x, tape = autograd.new_constant(autograd.new_tape(), np.ones((1, 3), np.float32))
        weight, tape = autograd.new_constant(tape, np.ones(1, np.float32))
        y, tape = nn.mse_loss(tape, x, x, sample_weight=weight)
        export.onnx(tmp_path / "model", tape, output=y, inputs=(x, weight))
        with pytest.raises(
            error.InvalidValue, match=r"of 1 rows only \(mse_loss: \(1,\) for \(2,\), recorded as \(1,\) for \(1,\)"
        ):
            export.onnx(tmp_path / "other", tape, output=y, inputs=(x,))
        assert os.listdir(tmp_path) == ["model"]

    def test_a_pass_for_one_batch_size_only(self, tape, tmp_path):
        x, tape = tape
        per_row, tape = autograd.new_variable(tape, np.ones((4, 1), np.float32))
        y, tape = autograd.add(tape, x, per_row)
        with pytest.raises(
            error.InvalidValue, match=r"%2 = add fits batches of 4 rows only \(add: shapes .*inputs have"
        ):
            export.onnx(tmp_path / "model", tape, output=y, inputs=(x,))
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            (
                by_axes(autograd.reshape, (3, 4)),
                r"reshape fits batches of 4 rows only .*\(4, 3\) to \(3, 4\), which says nothing of other rows",
            ),
            (by_axes(autograd.reshape, (2, 6)), "says nothing of other rows"),
            (by_axes(autograd.slice, np.s_[1:]), r"slice fits batches of 4 rows only .*some rows of \(4, 3\)"),
            (by_axes(autograd.slice, np.s_[::-2]), "some rows of"),
            (by_axes(autograd.slice, -1), "some rows of"),
        ],
    )
    def test_what_takes_apart_the_rows_of_the_batch(self, tape, tmp_path, record, message):
        x, tape = tape
        y, tape = record(tape, x)
        with pytest.raises(error.InvalidValue, match=message):
            export.onnx(tmp_path / "model", tape, output=y, inputs=(x,))
        assert os.listdir(tmp_path) == []

    def test_variables_of_another_tape_and_inputs_that_are_none(self, tape, tmp_path):
        x, tape = tape
        other, _ = autograd.new_constant(autograd.new_tape(), 1.0)
        y, tape = autograd.relu(tape, x)
        for output, inputs, kind in (
            (other, (x,), error.ForeignVariable),
            (y, (other,), error.ForeignVariable),
            (y, (1,), error.ForeignVariable),
            (y, (y,), error.InvalidValue),
            (y, (x, x), error.InvalidValue),
            (y, (), error.InvalidValue),
        ):
            with pytest.raises(kind, match=r"export\.onnx"):
                export.onnx(tmp_path / "model", tape, output=output, inputs=inputs)
        assert os.listdir(tmp_path) == []

    def test_more_than_a_file_holds(self, tape, tmp_path):
        x, tape = tape
        large, tape = autograd.new_constant(tape, np.broadcast_to(np.float32(0), (2**15, 2**14)))
        with pytest.raises(error.TensorError, match="2,147,483,648 bytes"):
            export.onnx(tmp_path / "model", tape, output=large, inputs=(x,))

    def test_a_folder_that_is_missing(self, tape, tmp_path):
        x, tape = tape
        with pytest.raises(FileNotFoundError, match="model"):
            export.onnx(tmp_path / "none" / "model", tape, output=x, inputs=(x,))

    def test_without_onnx(self, tape, tmp_path, monkeypatch):
        x, tape = tape
        monkeypatch.setitem(sys.modules, "onnx", None)
        with pytest.raises(ImportError, match=r'pip install "viva-tensor\[onnx\]"'):
            export.onnx(tmp_path / "model", tape, output=x, inputs=(x,))


@pytest.mark.parametrize("operation", [autograd.norm, autograd.transpose])
def test_operations_on_a_single_number(operation, tmp_path):
    x, tape = autograd.new_constant(autograd.new_tape(), np.arange(3.0, dtype="f4"))
    number, tape = autograd.new_variable(tape, np.float32(-2.0))
    number, tape = operation(tape, number)
    y, tape = autograd.add(tape, number, x)
    export.onnx(tmp_path / "number.onnx", tape, output=y, inputs=(x,))
    (found,) = onnxruntime.InferenceSession(tmp_path / "number.onnx").run(None, {"input0": x.data})
    np.testing.assert_array_equal(found, y.data)
