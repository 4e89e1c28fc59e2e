"""The tape as a value: recording, forks, copies, and what is read-only."""

import copy
import gc
import itertools
import pickle
import weakref

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tapes import recorded, variables

from viva_tensor import autograd, error, export, nn, optim, program
from viva_tensor.autograd import (
    add,
    backward,
    matmul,
    mul,
    new_constant,
    new_tape,
    new_variable,
    relu,
    sequence,
    sum,
    transpose,
)
from viva_tensor.autograd._tape import BLOCK
from viva_tensor.autograd.operations import Operation
from viva_tensor.kernels.arrays import freeze


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

    @pytest.mark.parametrize("thing", [None, "x", new_tape()])
    def test_what_is_no_variable_raises(self, thing):
        x, tape = variables(3.0)
        with pytest.raises(error.ForeignVariable, match="new_constant or new_variable"):
            add(tape, x, thing)

    @pytest.mark.parametrize(
        ("make", "hint"),
        [
            (lambda traced: traced, "got Traced, .*; unpack it: value, tape = "),
            (lambda traced: nn.Linear(traced.value, traced.value), r"got Linear, .*; apply a layer .*linear_forward\("),
            (lambda traced: (traced.value, traced.value), "got tuple, .*; give one variable"),
            (lambda traced: [traced.value], "got list, .*; give one variable"),
        ],
    )
    def test_what_holds_variables_is_refused_with_how_to_take_one(self, make, hint, tmp_path):
        traced = x, tape = new_variable(new_tape(), [1.0, 2.0])
        thing = make(traced)
        for call in (
            lambda: nn.relu(tape, thing),
            lambda: add(tape, x, thing),
            lambda: matmul(tape, thing, x),
            lambda: program.compile_forward(tape, output=x, inputs=(thing,)),
            lambda: export.onnx(tmp_path / "model.onnx", tape, output=thing, inputs=(x,)),
        ):
            with pytest.raises(error.ForeignVariable, match=hint):
                call()

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

    @pytest.mark.parametrize("new", [new_variable, new_constant])
    def test_leaves_copy_views_of_what_can_be_written(self, new, tmp_path):
        mine, frame = np.ones((2, 3)), pd.DataFrame(np.ones((2, 3)))
        seen = mine.view()
        freeze(seen)
        text = bytearray(mine.tobytes())
        views = [seen, seen[:, ::2], np.broadcast_to(mine[0], (4, 3)), frame, frame.to_numpy(), frame[1]]
        views.append(np.frombuffer(memoryview(text).toreadonly()))
        leaves = [new(new_tape(), one)[0] for one in views]
        mine[...] = 7
        frame.iloc[:, :] = 7.0
        text[:8] = np.float64(7).tobytes()
        assert all((leaf.data == 1).all() for leaf in leaves)
        assert leaves[2].data.strides[0] == 0  # repeated in no more memory
        np.save(tmp_path / "large.npy", mine)
        mapped = np.load(tmp_path / "large.npy", mmap_mode="r")
        for held in (np.frombuffer(bytes(16)), mapped[:1]):
            assert np.shares_memory(new(new_tape(), held)[0].data, held)

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


def test_a_pickled_tape_goes_on_with_its_variables(rng):
    x, y, w, tape = recorded(*rng.standard_normal((3, 4, 4)), constants=2)
    for _ in range(20):  # more than a block of nodes
        x, tape = autograd.matmul(tape, x, w)
        x, tape = autograd.slice(tape, x, np.s_[:, ::-1])
    both, tape = autograd.concatenate(tape, (x, y), axis=1)
    loss, tape = autograd.norm(tape, both)
    again, (other, last) = pickle.loads(pickle.dumps((tape, (w, loss))))
    assert str(again) == str(tape)
    assert again.node(other).output is other
    assert np.array_equal(backward(again, last)[other], backward(tape, loss)[w])
    longer = autograd.sum(again, other).tape
    assert len(longer) == len(tape) + 1
    assert len(pickle.loads(pickle.dumps(autograd.new_tape()))) == 0


def test_only_operations_of_the_library_are_pickled():
    own = Operation("own", lambda x: x, lambda x: x, (None,))
    x, tape = variables(1.0)
    _, tape = autograd.record(tape, own, x)
    with pytest.raises(error.InvalidValue, match=r"own is no operation of this library.*pickle the data"):
        pickle.dumps(tape)


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


def test_a_traced_value_is_no_number_and_no_tuple_to_add():
    traced = new_variable(new_tape(), [1.0])
    for use in (lambda: traced + traced, lambda: 2 * traced, lambda: traced - traced):
        with pytest.raises(error.NoOperator, match="a Traced does not take this"):
            use()
