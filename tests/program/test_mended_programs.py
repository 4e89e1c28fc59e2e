"""Programs that once were wrong, reduced to the cause (see test_random_programs.py)."""

from itertools import pairwise

import numpy as np
import pytest
from support.tapes import recorded

from viva_tensor import autograd, error, kernels, nn, optim, program
from viva_tensor.autograd import operations
from viva_tensor.program import thresholds


def after_a_step(tape, loss, params, inputs, optimizer, threads=1):
    """Return each parameter after a compiled step, and after an eager one."""
    grads = autograd.backward(tape, loss)
    (wanted, _), _ = optim.update(autograd.new_tape(), optimizer, optim.init(optimizer, params), params, grads)
    with kernels.num_threads(threads):
        step = program.compile_step(tape, loss=loss, params=params, inputs=inputs, optimizer=optimizer)
        assert step(*(variable.data for variable in inputs)) == float(loss.data)
    found, _ = step.params(autograd.new_tape())
    return [(one.data, other.data) for one, other in zip(found, wanted, strict=True)]


def assert_same(pairs):
    for found, wanted in pairs:
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_split_no_panels_of_a_gradient_that_is_clipped(threads, rng):
    """Threads shared the rows of a transposed matrix in panels: gradients of weights were wrong."""
    x, y, tape = recorded(*(rng.standard_normal((4096, n)).astype("f4") for n in (1, 1)), constants=2)
    layers, tape = nn.mlp(tape, (1, 40, 1), rng=rng)
    pred, tape = nn.mlp_forward(tape, layers, x)
    loss, tape = nn.mse_loss(tape, pred, y)
    params = [variable for layer in layers for variable in layer]
    assert_same(after_a_step(tape, loss, params, (x, y), optim.SGD(lr=0.1, clip_norm=1e-3), threads))


def test_threads_split_no_panels_of_an_output(rng):
    a, b, c, tape = recorded(
        *(rng.standard_normal(s).astype("f4") for s in ((33, 10), (10, 10), (24, 10))), constants=3
    )
    product, tape = autograd.matmul(tape, a, b)
    turned, tape = autograd.transpose(tape, product)
    output, tape = autograd.matmul(tape, c, turned)
    with thresholds.changed(program=1), kernels.num_threads(3):
        forward = program.compile_forward(tape, output=output, inputs=(a, b, c))
        for _ in range(20):
            assert np.array_equal(forward(a.data, b.data, c.data), output.data)


@pytest.mark.parametrize("rows", [40, 70])
def test_what_goes_row_by_row_is_not_in_panels_of_its_columns(rows, rng):
    """A matrix that a product read transposed was put in panels, though an activation or a sum read it too."""
    x, y, w, tape = recorded(
        *(rng.standard_normal(s).astype("f4") for s in ((rows, 40), (50, 10), (40, 10))), constants=2
    )
    h, tape = autograd.matmul(tape, x, w)
    z, tape = nn.sigmoid(tape, h)
    products = []
    for one in (h, z):
        turned, tape = autograd.transpose(tape, one)
        product, tape = autograd.matmul(tape, y, turned)
        products.append(product)
    output, tape = autograd.mul(tape, *products)
    forward = program.compile_forward(tape, output=output, inputs=(x, y))
    assert np.array_equal(forward(x.data, y.data), output.data)


@pytest.mark.parametrize("index", [np.s_[2:], np.s_[4], np.s_[3, 2], np.s_[1:2, :]])
def test_a_prediction_may_be_a_slice(index, rng):
    x, tape = recorded(rng.standard_normal((6, 5)), constants=1)
    squares, tape = autograd.mul(tape, x, x)
    output, tape = autograd.slice(tape, squares, index)
    assert np.array_equal(program.compile_forward(tape, output=output, inputs=(x,))(x.data), output.data)


def test_a_copy_in_panels_is_made_before_a_sum_that_comes_before_the_products(rng):
    w, b, x, tape = recorded(*(rng.standard_normal(s).astype("f4") for s in ((40, 10), (40,), (3,))))
    turned, tape = autograd.transpose(tape, w)
    square, tape = autograd.matmul(tape, w, turned)
    moved, tape = autograd.add(tape, square, b)
    flat, tape = autograd.reshape(tape, moved, (-1,))
    size, tape = autograd.abs(tape, flat)
    loss, tape = autograd.mean(tape, size)
    with thresholds.changed(copied=0):
        assert_same(after_a_step(tape, loss, [w, b], (x,), optim.SGD(lr=0.1)))


def test_what_has_no_elements_takes_no_barrier_with_it(rng):
    """An empty product dropped the barrier before it, and a sum then read what others had not yet written."""
    shapes = ((33, 0), (33, 20), (20, 10), (10, 0), (10,))
    x, p, q, w, b, tape = recorded(*(rng.standard_normal(s).astype("f4") for s in shapes), constants=3)
    h, tape = autograd.record(tape, operations.LINEAR, x, w, b)
    product, tape = autograd.matmul(tape, p, q)
    weighed, tape = autograd.mul(tape, h, product)
    loss, tape = autograd.mean(tape, weighed)
    with thresholds.changed(**thresholds.EVERYWHERE):
        for _ in range(10):
            assert_same(after_a_step(tape, loss, [w, b], (x,), optim.SGD(lr=0.1), threads=3))
        with kernels.num_threads(3):
            step = program.compile_step(tape, loss=loss, params=[w, b], inputs=(x,), optimizer=optim.SGD(lr=0.1))
        pairs = list(pairwise(step.planned))
        assert any(one.barrier and not one.calls for one, _ in pairs)
        assert all(after.barrier for one, after in pairs if one.barrier and not one.calls)


@pytest.mark.parametrize("shape", [(0, 40), (40, 0), (0,)])
def test_what_has_no_elements_is_predicted_and_kept(shape, rng):
    x, w, tape = recorded(np.ones(shape, "f4"), np.ones(shape, "f4"), constants=1)
    logs, tape = nn.log_softmax(tape, x)
    forward = program.compile_forward(tape, output=logs, inputs=(x,))
    assert forward(x.data).shape == shape
    if len(shape) == 2:
        turned, tape = autograd.transpose(tape, w)
        product, tape = autograd.matmul(tape, x, turned)
        loss, tape = autograd.sum(tape, product)
        ((found, _),) = after_a_step(tape, loss, [w], (x,), optim.SGD(lr=0.1))
        assert found.shape == shape


def test_dropouts_that_the_loss_does_not_need_draw_their_seeds_too(rng):
    def record(tape, x, w, draws):
        _, tape = nn.dropout(tape, x, 0.5, rng=draws)
        kept, tape = nn.dropout(tape, x, 0.5, rng=draws)
        product, tape = autograd.mul(tape, kept, w)
        return autograd.mean(tape, product)

    x, w, tape = recorded(rng.standard_normal((30, 4)), rng.standard_normal((30, 4)), constants=1)
    loss, tape = record(tape, x, w, np.random.default_rng(0))
    step = program.compile_step(
        tape, loss=loss, params=w, inputs=(x,), optimizer=optim.SGD(lr=1e-9), rng=np.random.default_rng(5)
    )
    draws = np.random.default_rng(5)
    for _ in range(3):
        w, tape = step.params(autograd.new_tape())
        again, tape = autograd.new_constant(tape, x.data)
        assert step(x.data) == float(record(tape, again, w, draws).value.data)


def refused(build, rows, *shapes, kind=error.ShapeMismatch):
    """Assert that a program of an input recorded with one row, and constants of these shapes, refuses more rows."""
    x, *others, tape = recorded(np.full((1, 3), 0.5), *(np.full(shape, 1 / shape[-1]) for shape in shapes), constants=9)
    output, tape = build(tape, x, *others)
    forward = program.compile_forward(tape, output=output, inputs=(x,))
    assert np.array_equal(forward(x.data), output.data)
    with pytest.raises(kind):
        forward(np.ones((rows, 3)))


def test_shapes_are_checked_again_for_batches_of_other_sizes():
    """Joined arrays wrote beyond the end of their result, paired ones read beyond that of an operand."""
    refused(lambda tape, x, one: autograd.concatenate(tape, (one, x), axis=1), 50, (1, 3))
    refused(lambda tape, x, t: autograd.record(tape, operations.CROSS_ENTROPY, x, t), 50, (1, 3))
    refused(lambda tape, x, t: autograd.record(tape, operations.BINARY_CROSS_ENTROPY, x, t), 50, (1, 3))

    def layer_of_rows(tape, x, y, w):
        bias, tape = autograd.mean(tape, x, axis=1)
        return autograd.record(tape, operations.LINEAR, y, w, bias)

    refused(layer_of_rows, 50, (4, 2), (1, 2))

    def turned_logits(tape, x, target):
        logits, tape = autograd.transpose(tape, x)
        return autograd.record(tape, operations.CROSS_ENTROPY, logits, target)

    refused(turned_logits, 0, (3, 1), kind=error.TensorError)


def test_weighted_means_follow_the_columns_of_a_batch(rng):
    x, weight, tape = recorded(rng.standard_normal((3, 4)), np.ones(3), constants=2)

    def record(tape, x, weight):
        turned, tape = autograd.transpose(tape, x)
        square, tape = autograd.matmul(tape, x, turned)
        target, tape = nn.sigmoid(tape, square)
        return nn.binary_cross_entropy(tape, square, target, sample_weight=weight)

    loss, tape = record(tape, x, weight)
    forward = program.compile_forward(tape, output=loss, inputs=(x, weight))
    for rows in (3, 7):
        again, ones, other = recorded(rng.standard_normal((rows, 4)), rng.random(rows), constants=2)
        assert np.array_equal(forward(again.data, ones.data), record(other, again, ones).value.data)


def stepped(tape, loss, params, inputs, lr=0.25):
    return program.compile_step(tape, loss=loss, params=params, inputs=inputs, optimizer=optim.SGD(lr=lr))


@pytest.mark.parametrize("index", [0, -1, 2])
def test_a_loss_that_is_an_element_of_an_input(index):
    values = np.arange(1, 6, dtype="f4")
    x, w, tape = recorded(values, [2.0], constants=1)
    loss, tape = autograd.slice(tape, x, index)
    step = stepped(tape, loss, w, (x,))
    assert step(values) == values[index]
    assert step(values + 10) == values[index] + 10
    assert step.run(values, batch_size=5, shuffle=False) == [values[index]]


def test_a_loss_that_is_an_input():
    x, w, tape = recorded(np.float32(3), [2.0], constants=1)
    step = stepped(tape, x, w, (x,))
    assert [step(np.array(number, "f4")) for number in (7, 0, -2)] == [7, 0, -2]


def test_a_loss_that_is_a_constant():
    x, c, w, tape = recorded([1.0], np.float32(5), [2.0], constants=2)
    assert stepped(tape, c, w, (x,))(x.data) == 5


@pytest.mark.parametrize("view", [False, True])
def test_a_loss_that_is_a_parameter_is_taken_before_the_update(view):
    x, w, tape = recorded([1.0], np.full((2, 1) if view else (), 2, "f4"), constants=1)
    loss, tape = autograd.slice(tape, w, (1, 0)) if view else (w, tape)
    step = stepped(tape, loss, w, (x,))
    assert [step(x.data), step(x.data)] == [2.0, 1.75]


@pytest.mark.parametrize("trained_first", [False, True])
def test_the_gradient_of_a_trained_part_beside_a_frozen_one(trained_first):
    frozen, tape = autograd.new_variable(autograd.new_tape(), [1.0])
    trained, tape = autograd.new_variable(tape, [0.5])
    x, tape = autograd.new_constant(tape, np.ones((2, 2), "f4"))
    factors, tape = autograd.new_constant(tape, [100.0, 10.0])
    parts = (trained, frozen) if trained_first else (frozen, trained)
    bias, tape = autograd.concatenate(tape, parts)
    y, tape = autograd.add(tape, x, bias)
    y, tape = autograd.mul(tape, y, factors)
    loss, tape = autograd.sum(tape, y)
    step = stepped(tape, loss, trained, (x,), lr=1.0)
    step(x.data)
    gradient = 200.0 if trained_first else 20.0
    assert step.params(autograd.new_tape()).value.data.tolist() == [0.5 - gradient]
    assert autograd.backward(tape, loss)[trained].tolist() == [gradient]


@pytest.mark.parametrize(
    "view",
    [autograd.transpose, lambda tape, x: autograd.slice(tape, x, np.s_[::-1])],
    ids=["transposed", "reversed"],
)
def test_relu_of_a_view_of_a_product_keeps_the_order_of_its_elements(view):
    rng = np.random.default_rng(0)
    x, w, tape = recorded(*rng.standard_normal((2, 3, 3)), constants=2)
    product, tape = autograd.matmul(tape, x, w)
    turned, tape = view(tape, product)
    wanted, tape = autograd.relu(tape, turned)
    assert np.array_equal(program.compile_forward(tape, output=wanted, inputs=(x,))(x.data), wanted.data)


def test_an_input_without_axes_may_come_first_or_last():
    scale, x, tape = recorded(np.float32(2), np.ones((4, 3), "f4"), constants=2)
    y, tape = autograd.mul(tape, x, scale)
    five = np.ones((5, 3), "f4")
    for inputs in ((scale, x), (x, scale)):
        forward = program.compile_forward(tape, output=y, inputs=inputs)
        given = [np.array(3, "f4") if one is scale else five for one in inputs]
        assert np.array_equal(forward(*given), 3 * five)


def test_a_constant_is_no_parameter():
    x, c, tape = recorded([1.0], [1.0], constants=2)
    loss, tape = autograd.sum(tape, c)
    with pytest.raises(error.InvalidValue, match="is a constant; make what is to be trained with new_variable"):
        stepped(tape, loss, c, (x,))


@pytest.mark.parametrize("rows", [0, 4])
def test_a_product_that_reads_some_rows_of_a_constant(rows):
    rng = np.random.default_rng(0)
    x, w, tape = recorded(*(rng.standard_normal(shape).astype("f4") for shape in ((40, rows), (8, 24))), constants=2)
    part, tape = autograd.slice(tape, w, np.s_[:rows])
    wanted, tape = autograd.matmul(tape, x, part)
    assert np.array_equal(program.compile_forward(tape, output=wanted, inputs=(x,))(x.data), wanted.data)


@pytest.mark.parametrize("shape", [(1, 136), (136, 1), (4, 34), (34, 4)])
@pytest.mark.parametrize("trained", [False, True])
def test_a_product_that_reads_a_matrix_in_another_shape(shape, trained, rng):
    """A constant that was reshaped could not be put into panels of its new shape."""
    x, tape = autograd.new_constant(autograd.new_tape(), rng.standard_normal((24, shape[1])))
    w, tape = (autograd.new_variable if trained else autograd.new_constant)(tape, rng.standard_normal((8, 17)))
    b, tape = autograd.new_variable(tape, np.zeros(shape[0]))
    turned, tape = autograd.reshape(tape, w, shape)
    y, tape = nn.linear_forward(tape, nn.Linear(turned, b), x)
    square, tape = autograd.mul(tape, y, y)
    loss, tape = autograd.mean(tape, square)
    with thresholds.changed(copied=0):
        assert np.array_equal(program.compile_forward(tape, output=y, inputs=(x,))(x.data), y.data)
        assert_same(after_a_step(tape, loss, [w, b] if trained else [b], (x,), optim.SGD(lr=0.1)))


def test_a_bias_at_the_end_of_a_constant_is_not_read_beyond_it(rng):
    """It is added to whole panels, and so read to their end: what followed a constant could be other memory."""
    shapes = ((24, 30), (20, 30), (20, 20), (1024,))
    x, w, v, c, tape = recorded(*(rng.standard_normal(shape).astype("f4") for shape in shapes), constants=4)
    b, tape = autograd.slice(tape, c, np.s_[1004:])
    h, tape = nn.linear_forward(tape, nn.Linear(w, b), x)
    y, tape = nn.linear_forward(tape, nn.Linear(v, b), h)
    predict = program.compile_forward(tape, output=y, inputs=(x,))
    assert np.array_equal(predict(x.data), y.data)
    (ready,) = predict._recent
    biases = [one.instruction.operands["bias"] for one in ready.plan.planned if "bias" in one.instruction.operands]
    assert any(bias.buffer.array.size > 1024 for bias in biases)


@pytest.mark.parametrize("rows", [1, 5, 7, 13])  # a tile of 4, 6 or 12 rows, and one more
@pytest.mark.parametrize("everywhere", [False, True])
def test_a_band_of_one_row_between_matrices_in_panels(rows, everywhere, dtype, rng):
    """Three vectors at a time ran over the end of a panel of two, and a row of `a` in panels was always the first."""
    shapes = ((rows, 400), (296, 400), (296,), (400, 296), (400,))
    x, w, b, v, c, tape = recorded(*(rng.standard_normal(shape).astype(dtype) for shape in shapes), constants=5)
    h, tape = nn.linear_forward(tape, nn.Linear(w, b), x)
    y, tape = nn.linear_forward(tape, nn.Linear(v, c), h)
    with thresholds.changed(**(thresholds.EVERYWHERE if everywhere else {})):
        for threads in (1, 2, 3, 8):
            with kernels.num_threads(threads):
                predict = program.compile_forward(tape, output=y, inputs=(x, w))
                assert np.array_equal(predict(x.data, w.data), y.data)


def test_sums_that_begin_anew_at_a_row_that_a_batch_does_not_have(rng):
    """They ran to where the next would begin, in memory beyond the rows."""
    x, tape = autograd.new_constant(autograd.new_tape(), rng.standard_normal((8, 2)))
    y, tape = autograd.cumsum(tape, x, 0, (5,))
    loss, tape = autograd.mean(tape, y)
    predict = program.compile_forward(tape, output=y, inputs=(x,))
    mean = program.compile_forward(tape, output=loss, inputs=(x,))
    assert np.array_equal(predict(x.data), y.data)
    for rows in (3, 5):
        with pytest.raises(error.IndexOutOfBounds, match=rf"cumsum: index 5 is out of bounds for size {rows}"):
            predict(x.data[:rows])
        with pytest.raises(error.IndexOutOfBounds):
            mean(x.data[:rows])
    assert np.array_equal(predict(x.data[:6]), kernels.cumsum(x.data[:6], 0, (5,)))
