import copy
import dataclasses
import gc
import itertools
import pickle
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gradients import check_gradient
from support.operation_cases import CASES

from viva_tensor import autograd, error, kernels, nn, optim, program, telemetry
from viva_tensor.autograd import (
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
    transpose,
)
from viva_tensor.autograd.tape import BLOCK
from viva_tensor.error import InvalidShape, InvalidValue


def variables(*arrays):
    tape, made = new_tape(), []
    for array in arrays:
        variable, tape = new_variable(tape, array)
        made.append(variable)
    return *made, tape


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
            result = operations.compute(operation, *values, **attributes)
            seen.append((operation.shape(*(np.shape(v) for v in values), **attributes), result.shape))
            return result

        for rule in node.operation.gradients:
            grad = rule(
                do, np.ones(node.output.data.shape), node.output.data, *(v.data for v in node.inputs), **node.attributes
            )
            assert grad.dtype == np.float64
        assert all(said == found for said, found in seen)


class TestTapeIsAValue:
    def test_recording_leaves_the_old_tape_as_it_was(self):
        x, tape = variables([1.0])
        before = tape.nodes()
        y, longer = relu(tape, x)
        assert tape.nodes() == before
        assert longer.nodes()[:-1] == before
        assert (len(tape), len(longer), y.id) == (1, 2, 1)

    def test_branches_from_one_tape_are_independent(self):
        x, tape = variables(3.0)
        square, left = mul(tape, x, x)
        double, right = add(tape, x, x)
        assert square.id == double.id
        assert float(backward(left, square)[x]) == 6
        assert float(backward(right, double)[x]) == 2
        deeper, _ = mul(left, square, x)
        assert float(deeper.data) == 27
        assert len(left) == len(right) == 2

    @pytest.mark.parametrize(
        "use", [lambda t, a, b: add(t, a, b), lambda t, a, b: backward(t, b), lambda t, a, b: matmul(t, b, a)]
    )
    def test_a_variable_of_another_branch_raises(self, use):
        x, tape = variables(3.0)
        _, left = mul(tape, x, x)
        other, _ = add(tape, x, x)
        with pytest.raises(error.ForeignVariable, match="not on this tape"):
            use(left, x, other)
        with pytest.raises(error.TensorError):
            use(tape, x, other)

    @pytest.mark.parametrize("thing", [1.0, None, np.ones(2), "x", (0, np.ones(1))])
    def test_what_is_no_variable_raises(self, thing):
        x, tape = variables(3.0)
        with pytest.raises(error.ForeignVariable, match="new_constant or new_variable"):
            add(tape, x, thing)

    @pytest.mark.parametrize("place", [-1, -5, 0, 1, 99])
    def test_a_made_up_variable_raises(self, place):
        _, tape = variables(3.0)
        for on in (tape, new_tape()):
            with pytest.raises(error.ForeignVariable):
                relu(on, autograd.Variable(place, np.ones(1)))

    def test_an_equal_array_at_the_same_place_is_still_foreign(self):
        x, tape = variables([1.0, 2.0])
        twin, _ = variables([1.0, 2.0])
        assert x != twin
        with pytest.raises(error.ForeignVariable):
            relu(tape, twin)
        loss, tape = sum(tape, x)
        with pytest.raises(error.ForeignVariable):
            backward(tape, loss)[twin]

    def test_an_error_changes_nothing(self):
        x, y, tape = variables(np.ones((2, 3)), np.ones((4, 5)))
        before = tape.nodes()
        with pytest.raises(error.ShapeMismatch):
            matmul(tape, x, y)
        assert tape.nodes() == before

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.integers(0, 60), max_size=60))
    def test_every_variable_of_any_tree_of_tapes_is_found_and_no_other(self, choices):
        root, tape = variables(1.0)
        tapes = [(tape, (root,))]
        for choice in choices:
            tape, known = tapes[choice % len(tapes)]
            made, longer = relu(tape, known[choice % len(known)])
            tapes.append((longer, (*known, made)))
        every = {variable for _, known in tapes for variable in known}
        for tape, known in tapes:
            for variable in every:
                if variable in known:
                    assert tape.node(variable, "test").output is variable
                else:
                    with pytest.raises(error.ForeignVariable):
                        tape.node(variable, "test")

    @pytest.mark.parametrize("size", range(BLOCK - 1, BLOCK + 2))
    def test_branches_from_a_full_block_are_independent(self, size):
        x, trunk = variables(3.0)
        while len(trunk) < size:
            _, trunk = relu(trunk, x)
        before = trunk.nodes()
        square, left = mul(trunk, x, x)
        double, right = add(trunk, x, x)
        assert trunk.nodes() == before == left.nodes()[:-1] == right.nodes()[:-1]
        assert (float(backward(left, square)[x]), float(backward(right, double)[x])) == (6, 2)
        with pytest.raises(error.ForeignVariable):
            relu(left, double)

    def test_printing_lists_operations_inputs_and_shapes(self):
        x, tape = variables(np.ones((2, 3)))
        _, tape = sum(tape, x, axis=0)
        assert str(tape).splitlines() == [
            "%0 = variable()  float64 (2, 3)",
            "%1 = sum(%0, axis=0, keepdims=False)  float64 (3,)",
        ]
        assert repr(tape) == "<Tape of 2 nodes>"
        assert bool(new_tape())


class TestArraysAreReadOnly:
    def test_leaves_copy_what_is_writeable_and_hold_what_is_not(self):
        mine = np.ones(3)
        for new in (new_variable, new_constant):
            leaf, tape = new(new_tape(), mine)
            mine[0] += 1
            assert leaf.data[0] == mine[0] - 1
            frozen = leaf.data
            again, _ = new(tape, frozen)
            assert again.data is frozen

    def test_writing_raises_everywhere(self):
        x, tape = variables(np.ones((2, 2)))
        y, tape = mul(tape, x, x)
        z, tape = transpose(tape, y)
        loss, tape = sum(tape, z)
        grads = backward(tape, loss, wrt=[y])
        for array in (x.data, y.data, z.data, loss.data, grads[x], grads[y]):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0

    def test_records_are_frozen(self):
        x, tape = variables(1.0)
        with pytest.raises(AttributeError):
            x.data = np.zeros(1)
        with pytest.raises(AttributeError):
            tape.extra = 1
        wide, tape = new_variable(tape, np.ones((2, 3)))
        axes = [0]
        _, tape = sum(tape, wide, axis=axes)
        axes[0] = 1
        assert tape.nodes()[-1].attributes["axis"] == (0,)
        for node in tape.nodes():
            with pytest.raises(TypeError):
                node.attributes["axis"] = 1

    @pytest.mark.parametrize("kind", ["int64", "bool", "complex64", "float16", "object"])
    def test_other_dtypes_are_refused(self, kind):
        with pytest.raises(error.DtypeError, match="new_variable"):
            new_variable(new_tape(), np.ones(2, kind))

    def test_mixed_dtypes_are_refused(self):
        x, y, tape = variables(np.ones(2, "f4"), np.ones(2, "f8"))
        with pytest.raises(error.DtypeError, match=r"float32 \(2,\) and float64 \(2,\)"):
            add(tape, x, y)


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
            return operations.compute(operation, *arrays, **attributes)

        monkeypatch.setattr(sys.modules[backward.__module__], "compute", counted)
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


def test_sequence_passes_value_and_tape_along():
    value, tape = sequence(new_constant(new_tape(), [-1.0, 2.0]), relu, transpose, sum)
    assert float(value.data) == 2
    assert [node.operation.name for node in tape.nodes()] == ["constant", "relu", "transpose", "sum"]
    traced = new_constant(new_tape(), 1.0)
    assert sequence(traced) == traced


def test_a_tape_of_200_000_operations_records_runs_backward_and_is_freed():
    x, tape = variables(0.0)
    one, tape = new_constant(tape, 1e-5)
    y = x
    for _ in range(200_000):
        y, tape = add(tape, y, one)
    assert len(tape) == 200_002
    assert float(backward(tape, y)[x]) == 1
    dead = weakref.ref(y.data)
    del y, tape
    gc.collect()
    assert dead() is None


def test_each_record_holds_a_bounded_amount():
    """A tape shares all that came before: its own part does not grow with its length."""
    x, tape = variables(0.0)
    tapes = list(itertools.accumulate(range(100), lambda t, _: relu(t, x).tape, initial=tape))
    assert all(len(tape._last) < BLOCK for tape in tapes)
    for earlier, later in itertools.pairwise(tapes):
        assert len(later.nodes()) == len(later) == len(earlier) + 1
        assert later._blocks is earlier._blocks or later._blocks.previous is earlier._blocks


def test_transpose_refuses_axes_that_are_not_the_arrays(rng):
    x, tape = variables(rng.standard_normal((2, 3)))
    with pytest.raises(error.IndexOutOfBounds, match=r"\(2, 3\)"):
        transpose(tape, x, (0, 2))
    with pytest.raises(error.DimensionError):
        transpose(tape, x, (0,))
    with pytest.raises(error.DimensionError):
        transpose(tape, x, (0, 0))


def test_training_is_a_loop_over_values():
    """w ← w - lr·dL/dw with fresh tapes, old values untouched."""
    w, tape = variables(5.0)
    sgd = optim.SGD(lr=0.25)
    state, seen = optim.init(sgd, w), [w]
    for _ in range(3):
        loss, tape = mul(tape, w, w)
        (w, state), tape = optim.update(new_tape(), sgd, state, w, backward(tape, loss))
        seen.append(w)
    assert [float(v.data) for v in seen] == [5, 2.5, 1.25, 0.625]


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


@pytest.mark.parametrize("axis", [True, 1.5, "x", np.array([0.0]), (0, True)])
@pytest.mark.parametrize("function", [autograd.sum, autograd.mean, autograd.transpose])
def test_axes_that_are_no_whole_numbers_are_refused(function, axis):
    x, tape = autograd.new_variable(autograd.new_tape(), [[1.0, 2.0]])
    with pytest.raises(InvalidValue, match="axis"):
        function(tape, x, axis)


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


def test_one_variable_where_several_belong_is_refused_in_words():
    x, tape = autograd.new_variable(autograd.new_tape(), 1.0)
    for refused in (lambda: autograd.backward(tape, x, wrt=x), lambda: autograd.concatenate(tape, x)):
        with pytest.raises(InvalidValue, match="give a tuple of variables"):
            refused()


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


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copied_variable_is_read_only(copied):
    w, _ = autograd.new_variable(autograd.new_tape(), [1.0, 2.0])
    found = copied([w])[0]
    assert not found.data.flags.writeable
    assert (found.id, found.data.tolist()) == (w.id, w.data.tolist())


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copied_tape_is_the_tape_and_leaves_the_empty_one_empty(copied):
    w, tape = autograd.new_variable(autograd.new_tape(), [1.0, 2.0])
    assert copied(tape) is tape
    assert len(autograd.new_tape()) == 0
    assert backward(tape, w, seed=[1.0, 1.0])[w].tolist() == [1, 1]


def test_a_tape_is_not_pickled():
    _, tape = autograd.new_variable(autograd.new_tape(), [1.0])
    with pytest.raises(error.InvalidValue, match="pickle the data of its variables"):
        pickle.dumps(tape)
    assert len(autograd.new_tape()) == 0


def test_copied_gradients_are_read_only():
    w, tape = autograd.new_variable(autograd.new_tape(), [1.0, 2.0])
    loss, tape = autograd.sum(tape, w)
    grads = backward(tape, loss)
    assert copy.copy(grads) is grads
    assert copy.deepcopy(grads) is grads
    found = pickle.loads(pickle.dumps(grads))
    assert found[w.id].tolist() == [1, 1]
    assert not found[w.id].flags.writeable


@pytest.mark.parametrize(
    "call",
    [
        lambda tape, x: autograd.add(x, tape, x),
        lambda tape, x: autograd.reshape(x, tape, (2,)),
        lambda tape, x: autograd.new_constant(x, [1.0]),
        lambda tape, x: backward(x, tape),
        lambda tape, x: nn.relu(x, tape),
        lambda tape, x: program.compile_forward(x, output=x, inputs=(x,)),
        lambda tape, x: autograd.add(None, x, x),
        lambda tape, x: autograd.reshape(None, x, (2,)),
        lambda tape, x: autograd.new_variable(3, [1.0]),
        lambda tape, x: backward(None, x),
        lambda tape, x: nn.layer_norm_forward([], nn.LayerNorm(x, x), x),
        lambda tape, x: nn.mse_loss({}, x, x),
        lambda tape, x: program.compile_forward(None, output=x, inputs=(x,)),
    ],
)
def test_what_is_no_tape_is_refused_in_words(call):
    x, tape = autograd.new_variable(autograd.new_tape(), [1.0, 2.0])
    with pytest.raises(error.InvalidValue, match="where a tape belongs; the tape comes first"):
        call(tape, x)
    with pytest.raises(AttributeError, match="no attribute 'grad'"):
        x.grad  # noqa: B018


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


def test_a_traced_value_is_no_number_and_no_tuple_to_add():
    traced = new_variable(new_tape(), [1.0])
    for use in (lambda: traced + traced, lambda: 2 * traced, lambda: traced - traced):
        with pytest.raises(error.NoOperator, match="a Traced does not take this"):
            use()
