"""Reverse mode: worked cases, random directions, and what has a gradient."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from support.gradients import check_gradient
from support.operation_cases import CASES
from support.tapes import variables

from viva_tensor import autograd, error, kernels, telemetry
from viva_tensor.autograd import (
    _tape,
    add,
    backward,
    matmul,
    mean,
    mul,
    new_constant,
    new_tape,
    new_variable,
    operations,
    relu,
    sequence,
    sum,
)
from viva_tensor.autograd._tape import compute


class TestWorkedCases:
    def test_product_of_a_sum(self):
        x, y, tape = variables(2.0, 3.0)
        total, tape = add(tape, x, y)
        z, tape = mul(tape, total, x)
        grads = backward(tape, z)
        assert float(z.data) == 10
        assert (float(grads[x]), float(grads[y])) == (7, 2)

    def test_mean_of_two(self):
        x, tape = variables([2.0, 4.0])
        loss, tape = mean(tape, x)
        assert float(loss.data) == 3
        assert np.array_equal(backward(tape, loss)[x], [0.5, 0.5])

    def test_a_variable_used_twice_accumulates(self):
        x, tape = variables([3.0, -1.0])
        square, tape = mul(tape, x, x)
        doubled, tape = add(tape, square, x)
        loss, tape = sum(tape, doubled)
        assert np.array_equal(backward(tape, loss)[x], [7.0, -1.0])

    def test_bias_gradient_is_the_column_sums(self):
        x, b, tape = variables(np.zeros((4, 3)), np.zeros(3))
        y, tape = add(tape, x, b)
        seed = np.arange(12.0).reshape(4, 3)
        assert np.array_equal(backward(tape, y, seed=seed)[b], seed.sum(0))


@pytest.mark.parametrize("name", CASES)
def test_gradient_along_a_random_direction(name, dtype, rng):
    function, shapes = CASES[name]
    check_gradient(function, [rng.standard_normal(shape) for shape in shapes], rng, dtype)


@pytest.mark.parametrize(
    ("operation", "wrong"),
    [
        (operations.MUL, lambda do, grad, out, a, b: do(operations.MUL, grad, a)),
        (operations.MUL, lambda do, grad, out, a, b: do(operations.SCALE, do(operations.MUL, grad, b), factor=1.01)),
        (operations.MUL, lambda do, grad, out, a, b: do(operations.SCALE, do(operations.MUL, grad, b), factor=-1)),
    ],
)
def test_a_wrong_rule_is_caught(operation, wrong, dtype, rng):
    broken = dataclasses.replace(operation, gradients=(wrong, operation.gradients[1]))
    arrays = [rng.standard_normal((4, 3)), rng.standard_normal((4, 3))]
    with pytest.raises(AssertionError):
        check_gradient(lambda tape, a, b: autograd.record(tape, broken, a, b), arrays, rng, dtype)


class TestBackward:
    def test_a_loss_that_is_no_scalar_needs_a_seed(self):
        x, tape = variables([1.0, 2.0])
        y, tape = mul(tape, x, x)
        with pytest.raises(error.DimensionError, match=r"\(2,\), wanted a scalar"):
            backward(tape, y)
        assert np.array_equal(backward(tape, y, seed=[1.0, 10.0])[x], [2.0, 40.0])
        with pytest.raises(error.ShapeMismatch, match=r"\(2,\), got \(3,\)"):
            backward(tape, y, seed=[1.0, 2.0, 3.0])
        with pytest.raises(error.DtypeError):
            backward(tape, y, seed=np.ones(2, "f8"))

    def test_constants_and_what_depends_on_them_alone_cost_nothing(self, monkeypatch):
        c, tape = new_constant(new_tape(), np.ones((2, 2)))
        w, tape = new_variable(tape, np.ones((2, 2)))
        square, tape = matmul(tape, c, c)
        for _ in range(5):
            square, tape = matmul(tape, square, c)
        y, tape = matmul(tape, square, w)
        loss, tape = sum(tape, y)
        calls = []

        def counted(operation, *arrays, **attributes):
            calls.append(operation.name)
            return compute(operation, *arrays, **attributes)

        monkeypatch.setattr(_tape, "compute", counted)
        grads = backward(tape, loss)
        assert calls == ["sum_backward", "transpose", "matmul"]
        assert list(grads) == [w.id]
        with pytest.raises(error.NoGradient, match="new_variable"):
            grads[c]
        assert grads.get(c.id) is None

    def test_gradients_are_a_mapping_by_variable_or_id(self):
        x, y, tape = variables(np.ones((2, 2), "f4"), np.ones(3))
        loss, tape = sum(tape, x)
        grads = backward(tape, loss)
        assert np.array_equal(grads[x], grads[x.id])
        assert grads[x].dtype == np.float32
        assert dict(grads).keys() == {x.id, y.id}
        assert np.array_equal(grads[y], np.zeros(3))
        assert grads[y].dtype == np.float64

    def test_a_leaf_recorded_after_the_loss_has_zeros(self):
        x, tape = variables(2.0)
        loss, tape = mul(tape, x, x)
        late, tape = new_variable(tape, np.ones(2))
        grads = backward(tape, loss)
        assert float(grads[x]) == 4
        assert np.array_equal(grads[late], [0, 0])

    def test_the_loss_may_be_a_leaf_or_a_constant(self):
        x, tape = variables(2.0)
        assert float(backward(tape, x)[x]) == 1
        c, tape = new_constant(tape, 3.0)
        assert float(backward(tape, c)[x]) == 0

    def test_intermediate_gradients_on_request(self):
        x, tape = variables([1.0, 2.0])
        y, tape = mul(tape, x, x)
        loss, tape = mean(tape, y)
        assert np.array_equal(backward(tape, loss, wrt=[y, loss])[y], [0.5, 0.5])
        with pytest.raises(error.NoGradient):
            backward(tape, loss)[y]

    def test_float64_beside_float32_leaves(self):
        _, y, tape = variables(np.ones(2, "f4"), np.ones(2))
        loss, tape = sum(tape, y)
        assert backward(tape, loss)[y].dtype == np.float64

    def test_same_bits_at_every_thread_count(self, rng):
        x, w, tape = variables(rng.standard_normal((150, 300)), rng.standard_normal((300, 170)))
        y, tape = sequence(matmul(tape, x, w), relu, mean)
        with kernels.num_threads(1):
            one = backward(tape, y)
        with kernels.num_threads(2):
            two = backward(tape, y)
        assert np.array_equal(one[x], two[x])
        assert np.array_equal(one[w], two[w])

    def test_telemetry_counts_nodes(self):
        x, tape = variables(2.0)
        y, tape = sequence(mul(tape, x, x), relu, relu)
        telemetry.reset()
        backward(tape, y)
        assert telemetry.snapshot()["backward"]["count"] == 1
        assert telemetry.snapshot()["backward"]["nodes"] == 3


def test_what_wrt_names_is_differentiated_also_if_it_is_constant():
    x, tape = autograd.new_constant(autograd.new_tape(), [1.0, 2.0])
    w, tape = autograd.new_variable(tape, [3.0, 4.0])
    square, tape = autograd.mul(tape, x, x)
    y, tape = autograd.mul(tape, square, w)
    loss, tape = autograd.sum(tape, y)
    grads = autograd.backward(tape, loss, wrt=(x, square))
    assert grads[x].tolist() == [2 * 1 * 3, 2 * 2 * 4]
    assert grads[square].tolist() == [3, 4]
    assert grads[w].tolist() == [1, 4]


def test_what_depends_on_constants_alone_has_gradients_if_wrt_names_it():
    x, tape = autograd.new_constant(autograd.new_tape(), [3.0, 4.0])
    half, tape = autograd.new_constant(tape, 0.5)
    y, tape = autograd.mul(tape, x, half)
    loss, tape = autograd.sum(tape, y)
    grads = autograd.backward(tape, loss, wrt=(x, loss))
    assert grads[x].tolist() == [0.5, 0.5]
    assert grads[loss] == 1
    assert half.id not in grads


def test_copied_gradients_are_read_only():
    w, tape = autograd.new_variable(autograd.new_tape(), [1.0, 2.0])
    loss, tape = autograd.sum(tape, w)
    grads = backward(tape, loss)
    assert copy.copy(grads) is grads
    assert copy.deepcopy(grads) is grads
    found = pickle.loads(pickle.dumps(grads))
    assert found[w.id].tolist() == [1, 1]
    assert not found[w.id].flags.writeable
