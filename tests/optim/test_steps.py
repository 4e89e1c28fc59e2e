from collections import OrderedDict, defaultdict
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from viva_tensor import error, kernels, nn, optim
from viva_tensor.autograd import Gradients, add, backward, mul, new_tape, new_variable, sum
from viva_tensor.optim import SGD, Adam, AdamW, RMSprop, clip_by_norm, init, leaves, update


def loss_of(*arrays):
    """Variables and the tape of Σ v² over all of them."""
    tape, made = new_tape(), []
    for array in arrays:
        variable, tape = new_variable(tape, array)
        made.append(variable)
    total = None
    for variable in made:
        square, tape = mul(tape, variable, variable)
        part, tape = sum(tape, square)
        total, tape = (part, tape) if total is None else add(tape, total, part)
    return made, backward(tape, total)


def test_plain_step(dtype, rng):
    w0 = rng.standard_normal((3, 4)).astype(dtype)
    (w,), grads = loss_of(w0)
    ((new,), _), tape = update(new_tape(), SGD(lr=0.1), init(SGD(), (w,)), (w,), grads)
    assert np.allclose(new.data, w0 - 0.1 * 2 * w0, rtol=1e-6)
    assert new.data.dtype == dtype
    assert np.array_equal(w.data, w0)
    assert len(tape) == 1


def test_momentum_follows_its_formula(rng):
    w0 = rng.standard_normal(5)
    sgd, state, w = SGD(lr=0.1, momentum=0.9), None, w0
    wanted, velocity = w0.copy(), np.zeros(5)
    for _ in range(4):
        (variable,), grads = loss_of(w)
        state = state or init(sgd, variable)
        before = state
        (variable, state), _ = update(new_tape(), sgd, state, variable, grads)
        w = variable.data
        velocity = 0.9 * velocity + 2 * wanted
        wanted = wanted - 0.1 * velocity
        assert np.allclose(w, wanted, rtol=1e-14)
        assert np.allclose(state.moments[0][0], velocity, rtol=1e-14)
        assert before is not state
        assert not state.moments[0][0].flags.writeable


class Pair(NamedTuple):
    first: object
    rest: list


def test_any_nesting_keeps_its_form():
    (a, b, c), grads = loss_of([1.0], [2.0], [3.0])
    params = {"layers": (nn.Linear(a, b), Pair(c, [a])), "none": []}
    (new, _), _ = update(new_tape(), SGD(lr=0.25), init(SGD(), params), params, grads)
    layer, pair = new["layers"]
    assert isinstance(layer, nn.Linear)
    assert isinstance(pair, Pair)
    assert [float(v.data[0]) for v in (layer.w, layer.b, pair.first)] == [0.5, 1.0, 1.5]
    assert pair.rest[0] is layer.w
    assert new["none"] == []
    assert [leaf.id for leaf in leaves(new)] == [0, 1, 2]


def test_plain_mappings_by_id_are_taken_and_left_alone():
    (w,), _ = loss_of([1.0])
    grad = np.array([4.0], "f4")
    sgd = SGD(lr=0.5, momentum=0.5)
    (new, state), _ = update(new_tape(), sgd, init(sgd, w), w, {w.id: grad})
    assert float(new.data[0]) == -1
    grad[0] = 9
    assert float(state.moments[0][0][0]) == 4


def test_gradients_of_other_variables_are_refused():
    (w,), _ = loss_of([1.0, 2.0])
    _, grads = loss_of([1.0, 2.0])
    with pytest.raises(error.ForeignVariable):
        update(new_tape(), SGD(), init(SGD(), w), w, grads)
    with pytest.raises(error.ShapeMismatch, match=r"\(2,\), got \(3,\)"):
        update(new_tape(), SGD(), init(SGD(), w), w, {w.id: np.ones(3, "f4")})


def test_a_state_for_other_parameters_is_refused():
    (a, b), grads = loss_of([1.0], [2.0])
    sgd = SGD(momentum=0.9)
    with pytest.raises(error.InvalidValue, match="for 1 parameters, wanted 1 for each of 2"):
        update(new_tape(), sgd, init(sgd, a), (a, b), grads)
    with pytest.raises(error.InvalidValue, match="for 2, 2 parameters, wanted 1 for each of 2"):
        update(new_tape(), sgd, init(Adam(), (a, b))._replace(optimizer=None), (a, b), grads)


@pytest.mark.parametrize("thing", [None, 1.0, "w", np.ones(2)])
def test_what_is_no_variable_is_refused(thing):
    with pytest.raises(error.InvalidValue, match=type(thing).__name__):
        optim.init(SGD(), (thing,))


@pytest.mark.parametrize("sizes", [(3, 1), (8192, 8193, 5), (100_000,), (0, 4)])
def test_clipping_scales_all_gradients_to_one_norm(sizes, dtype, rng):
    arrays = [rng.standard_normal(size).astype(dtype) for size in sizes]
    made, grads = loss_of(*arrays)
    norm = np.sqrt(np.sum([np.sum(np.square(2 * array, dtype="f8")) for array in arrays]))
    # a lane adds the squares of at most 256 elements of a chunk, and five more sums join the lanes
    assert kernels.norm(grads[one] for one in made) == pytest.approx(norm, rel=300 * float(np.finfo(dtype).eps))
    clipped = clip_by_norm(grads, norm / 3)
    assert isinstance(clipped, Gradients)
    for one in made:
        assert np.allclose(clipped[one], grads[one] / 3, rtol=1e-5)
        assert not clipped[one].flags.writeable
        assert clipped[one].dtype == dtype
    for one in made:
        assert np.array_equal(clip_by_norm(grads, norm * 1.001)[one], grads[one])


def test_a_clipping_optimiser_takes_the_step_of_clipped_gradients(dtype, rng):
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in ((40, 300), (300,), ())]
    made, grads = loss_of(*arrays)
    for kind in (SGD(momentum=0.9), Adam(), AdamW(), RMSprop(weight_decay=0.1)):
        clipping = replace(kind, clip_norm=0.7)
        (one, state), _ = update(new_tape(), clipping, init(clipping, made), made, grads)
        (other, twin), _ = update(new_tape(), kind, init(kind, made), made, clip_by_norm(grads, 0.7))
        for a, b in zip(
            [*(v.data for v in one), *state.moments[0]], [*(v.data for v in other), *twin.moments[0]], strict=True
        ):
            assert np.array_equal(a, b)


def test_gradients_that_are_not_finite_do_not_pass_unseen():
    grads = {0: np.array([np.nan, 1.0]), 1: np.array([1.0])}
    assert all(np.isnan(array).all() for array in clip_by_norm(grads, 1.0).values())
    assert np.array_equal(clip_by_norm({0: np.array([np.inf, 1.0])}, 1.0)[0], [np.nan, 0.0], equal_nan=True)
    assert list(clip_by_norm({}, 1.0)) == []


@pytest.mark.parametrize("bad", [0, -1, np.nan, np.inf, "1", None])
def test_a_norm_to_clip_to_is_above_zero(bad):
    with pytest.raises(error.InvalidValue, match=r"max_norm=.*wanted a number above 0"):
        clip_by_norm({0: np.ones(2)}, bad)


@pytest.mark.parametrize("thing", [None, "sgd", SGD, 0.1])
def test_what_is_no_optimiser_is_refused(thing):
    (w,), grads = loss_of([1.0])
    with pytest.raises(error.InvalidValue, match="no optimiser"):
        init(thing, w)
    with pytest.raises(error.InvalidValue, match="no optimiser"):
        update(new_tape(), thing, init(SGD(), w), w, grads)


@pytest.mark.parametrize(
    ("own", "other"),
    [(RMSprop(momentum=0.9), Adam()), (SGD(momentum=0.9), RMSprop()), (AdamW(), Adam()), (SGD(), Adam())],
    ids=str,
)
def test_the_state_of_another_optimiser_is_refused(own, other):
    (w,), grads = loss_of([1.0])
    state = init(other, w)
    assert state.optimizer == type(other).__name__
    with pytest.raises(error.InvalidValue, match=f"state of {state.optimizer}, wanted that of {type(own).__name__}"):
        update(new_tape(), own, state, w, grads)
    (_, made), _ = update(new_tape(), other, state._replace(optimizer=None), w, grads)
    assert made.optimizer == state.optimizer


@pytest.mark.parametrize("state", [None, (0, ()), optim.State(-1, ()), optim.State(1.5, ()), optim.State(None, ())])
def test_what_is_no_state_is_refused(state):
    (w,), grads = loss_of([1.0])
    with pytest.raises(error.InvalidValue, match="got the state"):
        update(new_tape(), SGD(), state, w, grads)


@pytest.mark.parametrize("grads", [None, 1.5, [np.ones(1, "f4")]], ids=repr)
def test_gradients_that_are_no_mapping_are_refused(grads):
    (w,), _ = loss_of([1.0])
    with pytest.raises(error.InvalidValue, match="update: gradients of type"):
        update(new_tape(), SGD(), init(SGD(), w), w, grads)
    with pytest.raises(error.InvalidValue, match="clip_by_norm: gradients of type"):
        clip_by_norm(grads, 1.0)


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_gradient_that_is_missing_is_named(clip_norm):
    (w,), _ = loss_of([1.0])
    with pytest.raises(error.NoGradient, match=f"variable {w.id} has no gradient; give one for each parameter"):
        update(new_tape(), SGD(clip_norm=clip_norm), init(SGD(), w), w, {})
    with pytest.raises(error.InvalidValue, match="nesterov=array"):
        SGD(momentum=0.5, nesterov=np.ones(2))


@pytest.mark.parametrize("moments", [None, 3, (None, None), ((None,), (None,)), (([1.0],), ([1.0],))], ids=repr)
def test_moments_that_are_none_are_refused(moments):
    (w,), grads = loss_of([1.0])
    with pytest.raises(error.InvalidValue, match="got the state"):
        update(new_tape(), Adam(), optim.State(0, moments), w, grads)


class Net(dict):
    """A tree with methods of its own."""

    def __init__(self, *given, name="net", **named):
        super().__init__(*given, **named)
        self.name = name


class Row(list):
    """A list with methods of its own."""


class Couple(tuple):
    """A tuple with methods of its own."""


@pytest.mark.parametrize(
    "tree", [Net, OrderedDict, lambda w: defaultdict(list, w), lambda w: Couple(w.values()), lambda w: Row(w.values())]
)
def test_an_update_keeps_the_types_of_a_tree(tree):
    (w,), grads = loss_of(np.ones(2))
    params = tree({"w": w})
    ((new, _), _) = update(new_tape(), SGD(lr=0.5), init(SGD(), params), params, grads)
    assert type(new) is type(params)
    assert leaves(new)[0].data.tolist() == [0, 0]
    assert leaves(params)[0] is w
    assert getattr(new, "name", "net") == "net"


@pytest.mark.parametrize("kind", [dict, list])
def test_a_tree_that_contains_itself_is_refused(kind):
    (w,), _ = loss_of(np.ones(2))
    tree = kind({"w": w}) if kind is dict else [w]
    tree.update(again=tree) if kind is dict else tree.append(tree)
    for walk in (leaves, lambda tree: optim.replaced(tree, lambda one: one)):
        with pytest.raises(error.InvalidValue, match="more than 500 deep in each other; does one contain itself"):
            walk(tree)
