import dataclasses

import numpy as np
import pytest

from viva_tensor import autograd, error
from viva_tensor.autograd import check_gradients, gradcheck, operations


def recorded(operation):
    return lambda tape, *inputs: autograd.record(tape, operation, *inputs)


def cube(tape, x):
    square, tape = autograd.mul(tape, x, x)
    return autograd.mul(tape, square, x)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (2, 0)])
def test_right_gradients_pass(rng, dtype, shape):
    assert check_gradients(cube, rng.standard_normal(shape).astype(dtype)) is None


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e8])
def test_at_any_size_of_the_input(rng, dtype, scale):
    x, y = (rng.standard_normal((4, 3)).astype(dtype) * dtype.type(scale) for _ in range(2))
    check_gradients(autograd.mul, x, y)
    check_gradients(autograd.sub, x, y[0])


def test_where_the_gradient_vanishes(dtype):
    check_gradients(cube, np.zeros(3, dtype))  # the difference itself gives h²


def test_lists_are_float32_and_operands_may_repeat():
    check_gradients(autograd.matmul, [[1.0, 2.0]], [[3.0], [4.0]])
    check_gradients(lambda tape, x: autograd.mul(tape, x, x), 3.0)


def test_one_wrong_element_of_one_input_is_named(rng, dtype):
    def off_by_a_little(do, grad, out, a, b):
        right = do(operations.MUL, grad, a)
        wrong = right.copy()
        wrong[1, 2] *= 1.01
        return wrong

    operation = dataclasses.replace(operations.MUL, gradients=(operations.MUL.gradients[0], off_by_a_little))
    a, b = (rng.uniform(1, 2, (3, 4)).astype(dtype) for _ in range(2))
    with pytest.raises(
        error.GradientMismatch, match=r"input 1, element \(1, 2\): backward gives .*, central diff"
    ) as caught:
        check_gradients(recorded(operation), a, b)
    assert (caught.value.input, caught.value.index) == (1, (1, 2))
    assert caught.value.backward == pytest.approx(1.01 * caught.value.difference, rel=1e-4)
    assert isinstance(caught.value, AssertionError)


def test_the_smallest_error_that_is_found(rng):
    def scaled(factor):
        def rule(do, grad, out, x):
            return do(operations.SCALE, operations.RELU.gradients[0](do, grad, out, x), factor=factor)

        return recorded(dataclasses.replace(operations.RELU, gradients=(rule,)))

    x = rng.uniform(1, 2, 5)
    check_gradients(scaled(1 + 1e-8), x)
    with pytest.raises(error.GradientMismatch):
        check_gradients(scaled(1 + 1e-5), x)
    check_gradients(scaled(1 + 1e-5), x, tolerance=1e-3)


def test_gradients_that_cancel_in_the_sum_are_found():
    # a rule that swaps two elements keeps the sum of all
    rules = (lambda do, grad, out, a, b: do(operations.MUL, grad, b)[::-1], operations.MUL.gradients[1])
    swap = dataclasses.replace(operations.MUL, gradients=rules)
    with pytest.raises(error.GradientMismatch, match="input 0"):
        check_gradients(recorded(swap), np.array([1.0, 2.0]), np.array([3.0, 4.0]))


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1e6])
def test_inputs_in_other_units_are_checked_at_their_scale(size):
    def square(tape, x):
        return autograd.mul(tape, x, x)

    def half_its_slope(tape, x):
        copy, tape = autograd.new_constant(tape, x.data)
        return autograd.mul(tape, x, copy)

    def steep(tape, x):
        y, tape = autograd.mul(tape, x, 1 / size)
        return autograd.exp(tape, y)

    x = np.array([0.5, 1.0, -2.0]) * size
    for right in (square, steep):
        autograd.check_gradients(right, x, scale=size)
    with pytest.raises(error.GradientMismatch):
        autograd.check_gradients(half_its_slope, x, scale=size)
    with pytest.raises(error.InvalidValue, match="scale=0, wanted scale > 0"):
        autograd.check_gradients(square, x, scale=0)
    if size < 1e-6:
        with pytest.raises(error.GradientMismatch, match="or give scale= if the function bends within 6e-06"):
            autograd.check_gradients(steep, x)


def test_not_a_number_and_a_kink_do_not_pass(rng):
    with pytest.raises(error.GradientMismatch, match="nan"):
        check_gradients(autograd.mul, np.array([np.nan]), np.array([1.0]))
    with pytest.raises(error.GradientMismatch, match=r"backward gives 0, .*kink"):
        check_gradients(autograd.relu, np.array([0.0]))


def test_the_weights_are_those_of_the_generator(monkeypatch):
    seeds = []
    backward = autograd.backward
    monkeypatch.setattr(gradcheck, "backward", lambda *a, seed: seeds.append(seed) or backward(*a, seed=seed))
    for rng in (None, None, np.random.default_rng(1), np.random.default_rng(1)):
        check_gradients(cube, np.ones(3), rng=rng)
    assert np.array_equal(seeds[0], seeds[1])
    assert np.array_equal(seeds[2], seeds[3])
    assert not np.array_equal(seeds[0], seeds[2])


@pytest.mark.parametrize(
    ("function", "arrays", "kind", "message"),
    [
        (cube, [], error.InvalidValue, "no arrays"),
        (cube, [np.ones(3, int)], error.DtypeError, "check_gradients: dtype int64"),
        (cube, ["x"], error.DtypeError, "check_gradients"),
        (lambda tape, x: x, [np.ones(3)], error.InvalidValue, "gave Variable, wanted a traced variable"),
        (lambda tape, x: None, [np.ones(3)], error.InvalidValue, "gave NoneType"),
        (lambda tape, x: (x.data, tape), [np.ones(3)], error.InvalidValue, "wanted a traced variable"),
        (autograd.add, [np.ones(3), np.ones(2)], error.BroadcastError, "add"),
    ],
)
def test_bad_input(function, arrays, kind, message):
    with pytest.raises(kind, match=message):
        check_gradients(function, *arrays)


def test_a_function_that_draws_from_a_generator_outside_is_refused(rng):
    def noisy(tape, x):
        noise, tape = autograd.new_constant(tape, rng.standard_normal(3))
        return autograd.mul(tape, x, noise)

    with pytest.raises(error.InvalidValue, match="two different values"):
        check_gradients(noisy, np.ones(3))


def test_nothing_is_changed(rng):
    x = rng.standard_normal((2, 3))
    before = x.copy()
    check_gradients(cube, x)
    assert np.array_equal(x, before)
    assert x.flags.writeable


@pytest.mark.parametrize("wrong", [3, np.random, np.random.RandomState(1)])
def test_a_generator_that_is_none_is_refused(wrong):
    with pytest.raises(error.InvalidValue, match=r"check_gradients: rng is .*, wanted a numpy\.random\.Generator"):
        check_gradients(cube, [1.0], rng=wrong)
