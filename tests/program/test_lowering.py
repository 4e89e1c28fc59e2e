"""Recorded steps and passes for batches of other sizes than the recorded one."""

import numpy as np
import pytest
from support.tapes import recorded

from viva_tensor import autograd, error, optim, program
from viva_tensor.autograd import operations

ROWS = [1, 3, 4, 5, 40]


def row_count(x):
    return x.data.shape[0]


# operations that slice or reshape the features of each row, or take all rows
OF_ROWS = {
    "reshape": lambda t, x: autograd.reshape(t, x, (row_count(x), 3, 2)),
    "reshape to a vector": lambda t, x: autograd.reshape(t, x, -1),
    "reshape to more rows": lambda t, x: autograd.reshape(t, x, (2 * row_count(x), 3)),
    "reshape of what remains": lambda t, x: autograd.reshape(t, x, (-1, 2)),
    "slice": lambda t, x: autograd.slice(t, x, np.s_[:, 1:3]),
    "slice from 0": lambda t, x: autograd.slice(t, x, np.s_[0:, 2:]),
    "slice backwards": lambda t, x: autograd.slice(t, x, np.s_[:, ::-2]),
    "slice of one column": lambda t, x: autograd.slice(t, x, np.s_[..., -1]),
    "slice of one row of the transpose": lambda t, x: autograd.sequence(
        autograd.transpose(t, x), lambda t, x: autograd.slice(t, x, 0)
    ),
    "a row of two axes in one": lambda t, x: autograd.sequence(
        autograd.reshape(t, x, (-1, 3, 2)),
        lambda t, x: autograd.transpose(t, x, (1, 0, 2)),
        lambda t, x: autograd.slice(t, x, np.s_[1, :, 1]),
    ),
    "rows backwards": lambda t, x: autograd.slice(t, x, np.s_[::-1]),
    "rows in groups": lambda t, x: autograd.sequence(
        autograd.reshape(t, x, (-1, 2)),
        lambda t, x: autograd.record(t, operations.RESHAPE, x, shape=operations.RowGroups((row_count(x) // 3, 3, 2))),
    ),
}
# operations that would take other elements, or none, of a batch of another size
OF_THE_BATCH = {
    "reshape over rows": lambda t, x: autograd.reshape(t, x, (3, 8)),
    "first rows": lambda t, x: autograd.slice(t, x, np.s_[:2]),
    "all rows, spelled out": lambda t, x: autograd.slice(t, x, np.s_[:4]),
    "last row": lambda t, x: autograd.slice(t, x, -1),
    "rows spelled out after what remains": lambda t, x: autograd.reshape(t, x, (-1, 12)),
    "rows of the transpose after what remains": lambda t, x: autograd.sequence(
        autograd.transpose(t, x), lambda t, x: autograd.reshape(t, x, (-1, 4))
    ),
}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", OF_ROWS)
def test_what_is_done_to_each_row_is_done_to_any_number(name, rows, dtype, rng):
    x, tape = autograd.new_constant(autograd.new_tape(), rng.standard_normal((4, 6)).astype(dtype))
    y, tape = OF_ROWS[name](tape, x)
    other, fresh = autograd.new_constant(autograd.new_tape(), rng.standard_normal((rows, 6)).astype(dtype))
    wanted = OF_ROWS[name](fresh, other).value.data
    assert np.array_equal(program.compile_forward(tape, output=y, inputs=(x,))(other.data), wanted)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", OF_ROWS)
def test_gradients_too(name, rows, rng):
    def loss_of(tape, x, w):
        h, tape = autograd.matmul(tape, x, w)
        h, tape = OF_ROWS[name](tape, h)
        square, tape = autograd.mul(tape, h, h)
        return autograd.mean(tape, square)

    X, W = rng.standard_normal((rows, 5)), rng.standard_normal((5, 6))
    x, w, tape = recorded(rng.standard_normal((4, 5)), W, constants=1)
    loss, tape = loss_of(tape, x, w)
    sgd = optim.SGD(lr=0.1)
    step = program.compile_step(tape, loss=loss, params=w, inputs=(x,), optimizer=sgd)
    x, w, tape = recorded(X, W, constants=1)
    loss, tape = loss_of(tape, x, w)
    grads = autograd.backward(tape, loss)
    (w, _), _ = optim.update(autograd.new_tape(), sgd, optim.init(sgd, w), w, grads)
    assert step(X) == float(loss.data)
    assert np.array_equal(step.params(autograd.new_tape()).value.data, w.data)


@pytest.mark.parametrize("name", OF_THE_BATCH)
def test_what_is_done_to_the_batch_is_refused_for_another(name, rng):
    x, tape = autograd.new_constant(autograd.new_tape(), rng.standard_normal((4, 6)))
    y, tape = OF_THE_BATCH[name](tape, x)
    predict = program.compile_forward(tape, output=y, inputs=(x,))
    assert np.array_equal(predict(x.data), y.data)
    for rows in (3, 5):
        with pytest.raises(error.InvalidShape, match=rf"\b{rows}\b.*, recorded as .*as many rows as were recorded"):
            predict(np.ones((rows, 6)))


@pytest.mark.parametrize("rows", [0, 1])
def test_a_batch_of_one_row_is_told_from_its_first_row(rows, rng):
    x, tape = autograd.new_constant(autograd.new_tape(), rng.standard_normal((rows, 6)))
    y, tape = autograd.slice(tape, x, np.s_[:, 1:])
    z, tape = autograd.reshape(tape, y, (-1,))
    predict = program.compile_forward(tape, output=z, inputs=(x,))
    X = rng.standard_normal((3, 6))
    assert np.array_equal(predict(X), X[:, 1:].ravel())
    for cut in (
        lambda: autograd.slice(tape, x, np.s_[:1]),
        lambda: autograd.slice(tape, x, np.s_[-1:]),
        lambda: autograd.reshape(tape, x, (rows, 2, 3)),
        lambda: autograd.reshape(tape, x, (rows * 6,)),
    ):
        y, cut_tape = cut()
        predict = program.compile_forward(cut_tape, output=y, inputs=(x,))
        assert np.array_equal(predict(x.data), y.data)
        with pytest.raises(error.InvalidShape, match="as many rows as were recorded"):
            predict(X)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "maximum"])
@pytest.mark.parametrize("turned", [False, True])
def test_one_row_is_not_repeated_for_the_rows_of_a_constant(name, turned):
    """It would broadcast, and the result would have as many rows as the recorded batch."""
    x, c, tape = recorded(np.ones((4, 3)), np.arange(1.0, 13.0).reshape(4, 3), constants=2)
    a, b = x, c
    if turned:
        a, tape = autograd.transpose(tape, x)
        b, tape = autograd.transpose(tape, c)
    y, tape = getattr(autograd, name)(tape, b, a)
    w, tape = autograd.new_variable(tape, np.array(2.0))
    scaled, tape = autograd.mul(tape, w, y)
    loss, tape = autograd.sum(tape, scaled)
    predict = program.compile_forward(tape, output=y, inputs=(x,))
    step = program.compile_step(tape, loss=loss, params=w, inputs=(x,), optimizer=optim.SGD())
    assert np.array_equal(predict(x.data), y.data)
    for call in (predict, step):
        with pytest.raises(error.InvalidShape, match=r"recorded as .*, would be repeated to .* make an input of what"):
            call(np.ones((1, 3)))
    assert step(x.data) == loss.data  # and nothing has changed


def test_what_has_one_row_when_recorded_is_repeated_for_any_batch():
    x, b, tape = recorded(np.ones((4, 3)), np.array([[1.0, 2.0, 3.0]]), constants=2)
    y, tape = autograd.add(tape, x, b)
    predict = program.compile_forward(tape, output=y, inputs=(x,))
    for rows in ROWS:
        X = np.full((rows, 3), 0.5)
        assert np.array_equal(predict(X), X + b.data)


@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.parametrize("slope", [False, True])
def test_a_batch_of_no_more_rows_than_degrees_of_freedom_is_refused(name, slope, rng):
    """The divisor would be 0 or negative, and a variance NaN, infinite or negative."""
    x, tape = recorded(rng.standard_normal((4, 2)))
    y, tape = getattr(autograd, name)(tape, x, axis=-2, ddof=3)
    if slope:
        y, tape = autograd.gradient(tape, y, x, np.ones(2))
    call = program.compile_forward(tape, output=y, inputs=(x,))
    assert np.array_equal(call(x.data), y.data)
    for rows in (0, 2, 3):
        wanted = rf"{name}: shape \({rows}, 2\) has {rows} along axes \(0,\), wanted at least 4; .*ddof=3"
        with pytest.raises(error.InvalidShape, match=wanted):
            call(np.ones((rows, 2)))
    assert call(np.ones((5, 2))).any() == 0


def test_a_batch_without_rows_has_a_deviation_but_no_logarithm_of_a_sum():
    x, tape = recorded(np.ones((4, 2)))
    spread, tape = autograd.std(tape, x, axis=0)
    size, tape = autograd.logsumexp(tape, x, axis=0)
    call = program.compile_forward(tape, output=spread, inputs=(x,))
    assert np.isnan(call(np.ones((0, 2)))).all()
    call = program.compile_forward(tape, output=size, inputs=(x,))
    with pytest.raises(error.InvalidShape, match=r"logsumexp: shape \(0, 2\) has 0 along axes \(0,\)"):
        call(np.ones((0, 2)))


@pytest.mark.parametrize("rows", [2, 64])
def test_axes_that_cannot_be_joined_are_few_instructions(rows, rng):
    """Of three axes, along each of which another operand repeats, the longest but the last is not unrolled."""
    x, r, tape = recorded(rng.standard_normal((rows, 1, 5)), rng.standard_normal((4, 5)))
    y, tape = autograd.mul(tape, x, r)
    predict = program.compile_forward(tape, output=y, inputs=(x, r))
    assert np.array_equal(predict(x.data, r.data), x.data * r.data)
    assert str(predict).count(" = mul(") == min(rows, 4)
