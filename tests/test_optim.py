from typing import NamedTuple

import numpy as np
import pytest

from viva_tensor import error, nn, optim
from viva_tensor.autograd import add, backward, mul, new_tape, new_variable, sum
from viva_tensor.optim import SGD, init, leaves, update


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
        assert np.allclose(state.velocity[0], velocity, rtol=1e-14)
        assert before is not state
        assert not state.velocity[0].flags.writeable


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
    assert float(state.velocity[0][0]) == 4


def test_gradients_of_other_variables_are_refused():
    (w,), _ = loss_of([1.0, 2.0])
    _, grads = loss_of([1.0, 2.0])
    with pytest.raises(error.ForeignVariable):
        update(new_tape(), SGD(), init(SGD(), w), w, grads)
    with pytest.raises(error.ShapeMismatch, match=r"\(2,\), got \(3,\)"):
        update(new_tape(), SGD(), init(SGD(), w), w, {w.id: np.ones(3, "f4")})


def test_a_state_for_other_parameters_is_refused():
    (a, b), grads = loss_of([1.0], [2.0])
    with pytest.raises(error.InvalidValue, match="for 1 parameters, got 2"):
        update(new_tape(), SGD(), init(SGD(), a), (a, b), grads)


@pytest.mark.parametrize(
    "arguments",
    [
        {"lr": 0},
        {"lr": -1},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"lr": 1, "momentum": 1},
        {"lr": 1, "momentum": -0.1},
    ],
)
def test_rates_out_of_range_are_refused(arguments):
    with pytest.raises(error.InvalidValue, match="wanted"):
        SGD(**arguments)


@pytest.mark.parametrize("thing", [None, 1.0, "w", np.ones(2)])
def test_what_is_no_variable_is_refused(thing):
    with pytest.raises(error.InvalidValue, match=type(thing).__name__):
        optim.init(SGD(), (thing,))


def test_records_are_frozen():
    with pytest.raises(AttributeError):
        SGD().lr = 1.0
