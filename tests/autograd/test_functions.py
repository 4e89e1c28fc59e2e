"""Functions of the tape: shapes, axes and indices, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import typed_calls
from support.operation_cases import CASES
from support.tapes import variables

from viva_tensor import autograd, error, kernels
from viva_tensor.autograd import (
    backward,
    new_tape,
    new_variable,
    transpose,
)
from viva_tensor.autograd._tape import compute
from viva_tensor.error import InvalidShape, InvalidValue


@pytest.mark.parametrize("name", CASES)
def test_shape_rules_say_what_forward_gives(name, rng):
    function, shapes = CASES[name]
    *_, tape = variables(*(rng.standard_normal(shape) for shape in shapes))
    made = [node.output for node in tape.nodes()]
    _, tape = function(tape, *made)
    for node in tape.nodes()[len(made) :]:
        if not node.inputs:
            continue
        inputs = [variable.data.shape for variable in node.inputs]
        assert node.operation.shape(*inputs, **node.attributes) == node.output.data.shape
        seen = []

        def do(operation, *values, seen=seen, **attributes):
            result = compute(operation, *values, **attributes)
            seen.append((operation.shape(*(np.shape(v) for v in values), **attributes), result.shape))
            return result

        for rule in filter(None, node.operation.gradients):
            grad = rule(
                do, np.ones(node.output.data.shape), node.output.data, *(v.data for v in node.inputs), **node.attributes
            )
            assert grad is None or grad.dtype == np.float64
        assert all(said == found for said, found in seen)


def test_transpose_refuses_axes_that_are_not_the_arrays(rng):
    x, tape = variables(rng.standard_normal((2, 3)))
    with pytest.raises(error.IndexOutOfBounds, match=r"\(2, 3\)"):
        transpose(tape, x, (0, 2))
    with pytest.raises(error.DimensionError):
        transpose(tape, x, (0,))
    with pytest.raises(error.DimensionError):
        transpose(tape, x, (0, 0))


class TestShapes:
    def test_reshape_refuses_another_number_of_elements(self):
        x, tape = variables(np.ones((2, 3)))
        for shape in ((4,), (-1, 4), (-1, -1), (2, 3, 2), "ab", (1.5, 4)):
            with pytest.raises(error.InvalidShape, match=r"reshape: \(2, 3\) to"):
                autograd.reshape(tape, x, shape)
        assert autograd.reshape(tape, x, -1).value.data.shape == (6,)

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_slice_is_numpys_basic_indexing(self, data):
        shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=3)))
        array = np.arange(np.prod(shape, dtype=int), dtype="f8").reshape(shape)
        bound = st.none() | st.integers(-6, 6)
        part = st.builds(slice, bound, bound, st.none() | st.sampled_from([-3, -2, -1, 1, 2, 3]))
        index = tuple(data.draw(st.lists(part | st.integers(-5, 4) | st.just(Ellipsis), max_size=4)))
        x, tape = variables(array)
        try:
            wanted = array[index]
        except IndexError:
            with pytest.raises((error.IndexOutOfBounds, error.DimensionError)):
                autograd.slice(tape, x, index)
            return
        found, tape = autograd.slice(tape, x, index)
        assert found.data.shape == wanted.shape
        assert np.array_equal(found.data, wanted)
        seed = np.arange(1.0, wanted.size + 1).reshape(wanted.shape)
        placed = np.zeros(shape)
        placed[index] = seed
        assert np.array_equal(backward(tape, found, seed=seed)[x], placed)

    def test_slice_refuses_what_is_no_basic_index(self):
        x, tape = variables(np.ones((2, 3)))
        for index in ([0, 1], np.array([0]), np.array([0, 1]), True, None, 1.0, "a", (..., ...)):
            with pytest.raises(error.DimensionError, match="use integers, slices and one ellipsis"):
                autograd.slice(tape, x, index)

    def test_slice_judges_the_kind_of_indices_before_their_number(self):
        x, tape = variables(np.ones((2, 3)))
        with pytest.raises(error.DimensionError, match=r"slice: an index of None, np\.newaxis; .*expand_dims"):
            autograd.slice(tape, x, np.s_[:, None, :])
        for index in ((0, 0, [0]), (..., ..., ..., 0)):
            with pytest.raises(error.DimensionError, match="use integers, slices and one ellipsis"):
                autograd.slice(tape, x, index)

    def test_concatenate_refuses_what_does_not_fit(self):
        x, y, z, tape = variables(np.ones((2, 3)), np.ones((2, 4)), np.ones(3, "f4"))
        assert autograd.concatenate(tape, (x, y), axis=1).value.data.shape == (2, 7)
        for others in ((x, y), (x, z)):
            with pytest.raises(error.ShapeMismatch, match="concatenate"):
                autograd.concatenate(tape, others)
        with pytest.raises(error.IndexOutOfBounds):
            autograd.concatenate(tape, (x, x), axis=2)
        with pytest.raises(error.DimensionError, match="nothing to join"):
            autograd.concatenate(tape, ())
        with pytest.raises(error.DimensionError, match="stack: nothing to join"):
            autograd.stack(tape, [])
        single, tape = new_variable(tape, np.ones((2, 3), "f4"))
        with pytest.raises(error.DtypeError):
            autograd.concatenate(tape, (x, single))
        with pytest.raises(error.ForeignVariable):
            autograd.concatenate(new_tape(), (x, x))


@pytest.mark.parametrize("shape", [(), []])
def test_one_element_takes_the_shape_of_a_scalar(shape):
    x, tape = autograd.new_variable(autograd.new_tape(), [[3.0]])
    y, tape = autograd.reshape(tape, x, shape)
    assert y.data.shape == ()
    assert autograd.backward(tape, y)[x].tolist() == [[1.0]]


@pytest.mark.parametrize("shape", [(-2, 3), (True, 6), None, 1.5, "x", (10**400,), (2.0, 3)])
def test_sizes_that_are_none_are_refused(shape):
    x, tape = autograd.new_variable(autograd.new_tape(), [1.0] * 6)
    with pytest.raises(InvalidShape, match="reshape"):
        autograd.reshape(tape, x, shape)


def test_axes_and_sizes_of_numpy_are_those_of_python():  # mypy reads the calls, too
    moved = [(4, 3), (4, 3), (4, 1, 3), (3, 4), (3, 4), (4, 6), (4, 2, 3), (4, 1)]
    parts = [(1, 3), (3, 3), (4, 1), (4, 1), (4, 1), (12,), (12,), (2, 6), (2, 6), (6, 5)]
    assert typed_calls.shapes() == [*parts, *[(4,)] * 4, (), *[(4,)] * 3, *moved, (4,), (4,), (4, 1)]


@pytest.mark.parametrize("axis", [True, 1.5, "x", np.array([0.0]), (0, True)])
@pytest.mark.parametrize("function", [autograd.sum, autograd.mean, autograd.transpose])
def test_axes_that_are_no_whole_numbers_are_refused(function, axis):
    x, tape = autograd.new_variable(autograd.new_tape(), [[1.0, 2.0]])
    with pytest.raises(InvalidValue, match="axis"):
        function(tape, x, axis)


OF_AN_AXIS = ["sum", "mean", "max", "min", "var", "std", "norm", "logsumexp", "cumsum", "squeeze", "flip",
              "expand_dims"]  # fmt: skip


@pytest.mark.parametrize("name", OF_AN_AXIS)
def test_an_axis_that_is_not_there_is_told_of_the_function_that_was_called(name):
    x, tape = autograd.new_variable(autograd.new_tape(), [[1.0, 2.0]])
    with pytest.raises(error.IndexOutOfBounds, match=rf"^{name}: index 7 is out of bounds"):
        getattr(autograd, name)(tape, x, axis=7)
    with pytest.raises(error.IndexOutOfBounds, match=r"^stack: index 7 is out of bounds for size 3"):
        autograd.stack(tape, (x, x), 7)


@pytest.mark.parametrize("axis", [None, (0, 1), 1.0, True])
def test_concatenation_wants_one_axis(axis):
    x, tape = autograd.new_variable(autograd.new_tape(), [[1.0, 2.0]])
    with pytest.raises(InvalidValue, match="one whole number"):
        autograd.concatenate(tape, (x, x), axis=axis)


def test_iterators_of_variables_and_arrays_of_axes_work():
    x, tape = autograd.new_variable(autograd.new_tape(), [[1.0, 2.0]])
    assert autograd.concatenate(tape, (x for _ in range(2))).value.data.tolist() == [[1, 2], [1, 2]]
    assert float(autograd.sum(tape, x, axis=np.array([0, 1])).value.data) == 3


@pytest.mark.parametrize("exponent", [None, True, "x", np.array([1.0, 2.0]), 10**400])
def test_an_exponent_is_a_number(exponent):
    x, tape = autograd.new_variable(autograd.new_tape(), [1.0])
    with pytest.raises(InvalidValue, match="exponent"):
        autograd.pow(tape, x, exponent)


def test_exponents_that_are_arrays_are_not_written_out():
    x, tape = autograd.new_variable(autograd.new_tape(), [1.0, 2.0])
    for exponent, kind in ((x, "Variable"), (x.data, "ndarray")):
        with pytest.raises(InvalidValue, match=rf"exponent is a {kind} of shape \(2,\), .*; aᵇ is exp\(mul\("):
            autograd.pow(tape, x, exponent)


def test_one_variable_where_several_belong_is_refused_in_words():
    x, tape = autograd.new_variable(autograd.new_tape(), 1.0)
    for refused in (lambda: autograd.backward(tape, x, wrt=x), lambda: autograd.concatenate(tape, x)):
        with pytest.raises(InvalidValue, match="give a tuple of variables"):
            refused()


@pytest.mark.parametrize("keepdims", ["no", 2, 1.0, None, np.ones(2), np.array(True)], ids=repr)
def test_keepdims_is_true_or_false(keepdims):
    x, tape = autograd.new_variable(autograd.new_tape(), [[1.0, 2.0]])
    for call in (
        lambda: autograd.sum(tape, x, keepdims=keepdims),
        lambda: autograd.mean(tape, x, 0, keepdims),
        lambda: kernels.sum(x.data, keepdims=keepdims),
        lambda: kernels.mean(x.data, 1, keepdims),
        lambda: kernels.sum_backward(1.0, (1, 2), None, keepdims),
    ):
        with pytest.raises(error.InvalidValue, match=r"keepdims=.*wanted True or False"):
            call()
    for truth in (1, np.True_):
        assert autograd.sum(tape, x, keepdims=truth).value.data.shape == (1, 1)


@pytest.mark.parametrize("shapes", [((2, 3), (2,)), ((3,), ()), ((2,), (2, 3))])
@pytest.mark.parametrize("axis", [0, -1])
def test_arrays_of_other_dimensions_are_not_joined(shapes, axis):
    *parts, tape = variables(*map(np.ones, shapes))
    with pytest.raises(error.ShapeMismatch, match="all axes but axis"):
        autograd.concatenate(tape, parts, axis)


@pytest.mark.parametrize("index", [np.s_[::0], np.s_[1.0:], np.s_["a":]])
def test_slices_without_sense_are_refused_in_words(index):
    x, tape = variables([1.0, 2.0])
    with pytest.raises(error.DimensionError, match=r"slice: the index .*bounds and steps are integers"):
        autograd.slice(tape, x, index)


def test_the_logarithm_of_a_sum_of_nothing_is_refused_in_its_name():
    x, tape = variables(np.ones((0, 2)))
    with pytest.raises(InvalidShape, match=r"^logsumexp: .*at least one element"):
        autograd.logsumexp(tape, x, axis=-2)
    assert autograd.logsumexp(tape, x, axis=1).value.shape == (0,)


def test_an_einsum_whose_sizes_differ_is_refused_whatever_letters_follow():
    a, tape = new_variable(new_tape(), np.ones((4, 3)))
    b, tape = new_variable(tape, np.ones((5, 2)))
    with pytest.raises(error.ShapeMismatch, match=r"expected shape \(4, 2\), got \(5, 2\); axis i"):
        autograd.einsum(tape, "ij,ik->jk", a, b)


@pytest.mark.parametrize("number", [np.float64(0.5), np.float16(0.5), np.array(0.5), np.longdouble(0.5), np.uint8(2)])
def test_numbers_of_numpy_take_the_dtype_of_the_other_operand(number, dtype):
    x, tape = new_variable(new_tape(), np.array([1, 3], dtype))
    found, tape = autograd.mul(tape, x, number)
    assert found.dtype == dtype
    assert np.array_equal(found.data, [float(number), 3 * float(number)])
    chosen, tape = autograd.where(tape, [True, False], number, x)
    assert chosen.dtype == dtype
    assert np.array_equal(chosen.data, [float(number), 3])


def test_numbers_that_do_not_fit_and_arrays_of_other_dtypes_are_refused():
    x, tape = new_variable(new_tape(), np.ones(3, "f4"))
    with pytest.raises(InvalidValue, match=r"1e\+300 is beyond float32"):
        autograd.add(tape, x, np.float64(1e300))
    for other in (np.arange(3), np.ones(3), np.bool_(True), np.complex64(2), np.ma.masked):
        with pytest.raises(error.DtypeError):
            autograd.add(tape, x, other)


def test_whole_numbers_beyond_64_bits_are_numbers():
    x, tape = new_variable(new_tape(), np.arange(3.0))
    assert autograd.mul(tape, x, 10**40).value.data.tolist() == [0, 1e40, 2e40]
    assert autograd.mul(tape, x, [10**40, 0.5, 2]).value.data.tolist() == [0, 0.5, 4]
    with pytest.raises(error.InvalidValue, match="an int of 1329 bits is beyond float64"):
        autograd.mul(tape, x, 10**400)
    narrow, tape = new_variable(tape, np.zeros(3, np.float32))
    with pytest.raises(error.InvalidValue, match=r"1e\+40 is beyond float32; give an array of float64"):
        autograd.mul(tape, narrow, 10**40)
