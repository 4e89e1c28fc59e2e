"""Panels: which matrices are in them, and which instructions read them."""

from dataclasses import replace

import numpy as np
import pytest
from support import steps
from support.tapes import recorded

import viva_tensor as vt
from viva_tensor import autograd, kernels, nn, optim, program
from viva_tensor.program import thresholds
from viva_tensor.program.builder import Builder
from viva_tensor.program.instructions import Buffer, Symbol, Update, row_major
from viva_tensor.program.layouts import Panels, in_panels, of_parameters

FLOAT = np.dtype("float32")


def leaf(kind, shape, index=0):
    return Symbol(shape, row_major(shape), Buffer(kind, int(np.prod(shape)), index, name=f"{kind}{index}"))


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("columns", [3, 8, 21])
@pytest.mark.parametrize("transposed", [False, True])
def test_what_is_stored_comes_back_as_a_copy(rows, columns, transposed, rng):
    panels = Panels(rows, columns, 8, 4, transposed)
    matrix = rng.standard_normal((columns, rows) if transposed else (rows, columns))
    flat = np.full(panels.size, np.nan)
    panels.store(matrix, flat)
    back = panels.load(flat)
    assert np.array_equal(back, matrix)
    assert not np.shares_memory(back, flat)


@pytest.mark.parametrize("shape", [(5, 21), (21, 21), (1, 21), (21, 8)])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_symbol_in_panels_has_the_same_elements(shape, transposed, rng):
    stored = shape[::-1] if transposed else shape
    panels = Panels(*shape, 8, 4, transposed)
    matrix = rng.standard_normal(stored)
    flat = np.zeros(panels.size)
    panels.store(matrix, flat)
    upright = leaf("temporary", stored)
    across = Symbol(stored[::-1], row_major(stored)[::-1], upright.buffer)
    for symbol, values in ((upright, matrix), (across, matrix.T)):
        assert panels.holds(symbol)
        moved = panels.symbol(symbol)
        down, on = moved.down or 8 * moved.strides[0], moved.across or 8 * moved.strides[1]
        for i, j in np.ndindex(*symbol.shape):
            offset = i // 8 * down + i % 8 * moved.strides[0] + j // 8 * on + j % 8 * moved.strides[1]
            assert flat[offset] == values[i, j]


def layer(batch=40, fan_in=200, fan_out=100):
    """Return a layer's product, the gradient and update of its weights, and a sum of rows."""
    build = Builder()
    x, w, b = leaf("input", (batch, fan_in)), leaf("parameter", (fan_out, fan_in)), leaf("parameter", (fan_out,), 1)
    y = build.matmul(x, build.transpose(w, None), b)
    grad = build.matmul(build.transpose(y, None), x)
    build.instructions.append(Update(operands={"grad": grad, "w": w}, results={"w": w}))
    build.sum(y, (0,))
    return build


def fused(build):
    *rest, update, total = build.instructions
    product, w = rest[-1], {"w": update.results["w"]}
    product = replace(product, operands=product.operands | w, results=product.results | w, fused=("update",))
    return [*rest[:-1], product, total]


def test_weights_lie_in_panels_only_if_products_alone_touch_them():
    assert of_parameters(layer().instructions, FLOAT) == {}
    chosen = of_parameters(fused(layer()), FLOAT)
    assert list(chosen) == [0]
    assert (chosen[0].rows, chosen[0].columns, chosen[0].transposed) == (200, 100, True)
    assert of_parameters(fused(layer(fan_out=2)), FLOAT) == {}


def test_an_input_that_two_products_read_is_copied_once():
    instructions = fused(layer())
    output = instructions[-1].results["out"]
    copy, product, update, total = in_panels(instructions, output, of_parameters(instructions, FLOAT), FLOAT)
    assert copy.kind == "to_panels"
    assert copy.operands["x"].buffer.kind == "input"
    assert product.operands["a"].buffer is update.operands["b"].buffer is copy.results["out"].buffer
    for one, name in ((product, "a"), (product, "b"), (update, "a"), (update, "b"), (total, "x")):
        assert one.operands[name].down or one.operands[name].across
    panels, rows, width = total.sizes
    assert panels * width >= 100
    assert rows == 40


def test_what_other_kernels_read_stays_in_rows():
    build = Builder()
    x, w = leaf("input", (40, 200)), leaf("constant", (200, 100))
    w.buffer.array = np.zeros((200, 100), FLOAT)
    y = build.matmul(x, w)
    out = build.elementwise("mul", y, y)
    product, _ = in_panels(build.instructions, out, {}, FLOAT)
    assert product.results["out"].contiguous
    assert product.operands["a"].contiguous
    assert product.operands["b"].across


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("sizes", [(40, 33, 70), (3, 64, 17, 1), (100, 16, 100)])
def test_batches_of_every_size_have_the_bits_of_one_another(sizes, momentum, dtype):
    """A program that plans batches in turn has the bits of programs that plan one of them."""
    sgd = optim.SGD(lr=0.01, momentum=momentum)
    X, Y, _, step = steps.compiled(sgd, sizes, 50, dtype)
    for threads, rows in ((1, 50), (3, 50), (2, 1), (3, 49), (1, 13)):
        with kernels.num_threads(threads):
            before = step.state()
            other = steps.compiled(sgd, sizes, 50, dtype)[-1]
            other.restore(before)
            assert step(X[:rows], Y[:rows]) == other(X[:rows], Y[:rows])
            assert steps.same_state(step.state(), other.state())


@pytest.mark.parametrize("activation", ["leaky_relu", "sigmoid"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 15, 16, 33])
def test_activations_in_panels_for_few_rows(rows, threads, activation, dtype, rng):
    layers, tape = nn.mlp(autograd.new_tape(), (20, 64, 32, 10), rng=rng, dtype=dtype)
    x, tape = autograd.new_constant(tape, rng.standard_normal((rows, 20)).astype(dtype))
    y, tape = nn.mlp_forward(tape, layers, x, activation=activation)
    with kernels.num_threads(threads):
        assert np.array_equal(program.compile_forward(tape, output=y, inputs=(x,))(x.data), y.data)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("rows", "depth", "columns"), [(1024, 32, 1024), (300, 16, 4096)])
def test_a_shallow_wide_product_of_panels_has_the_bits_of_the_eager_one(rows, depth, columns, transposed, rng):
    shapes = ((rows, 64), (64, depth), (columns, depth) if transposed else (depth, columns))
    x, w, v, tape = recorded(*(rng.standard_normal(shape).astype("f4") for shape in shapes), constants=3)
    h, tape = autograd.matmul(tape, x, w)
    h, tape = autograd.relu(tape, h)
    wide, tape = autograd.transpose(tape, v) if transposed else (v, tape)
    y, tape = autograd.matmul(tape, h, wide)
    for threads in (1, 2):
        with vt.num_threads(threads):
            predict = program.compile_forward(tape, output=y, inputs=(x, v))
            assert np.array_equal(predict(x.data, v.data), y.data)


def test_few_rows_of_panels_have_the_bits_of_the_eager_product(rng):
    for rows in (2, 5, 8):
        shapes = ((rows, 64), (64, 96), (96, 40))
        x, w, v, tape = recorded(*(rng.standard_normal(shape).astype("f4") for shape in shapes), constants=3)
        h, tape = autograd.matmul(tape, x, w)
        h, tape = autograd.relu(tape, h)
        y, tape = autograd.matmul(tape, h, v)
        with thresholds.changed(copied=0):  # batches are copied into panels
            predict = program.compile_forward(tape, output=y, inputs=(x,))
            assert np.array_equal(predict(x.data), y.data)
