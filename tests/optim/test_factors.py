"""Parameters with rates and decays of their own: PyTorch's groups, programs, and what is refused."""

import numpy as np
import pytest

from viva_tensor import autograd, error, nn, optim, program
from viva_tensor.optim import SGD, Adam, AdamW, Factors, Lion, RMSprop
from viva_tensor.optim.factors import factors_of

OPTIMIZERS = {
    "sgd": SGD(lr=0.05, momentum=0.9, weight_decay=0.1),
    "plain sgd": SGD(lr=0.05),
    "adam": Adam(lr=0.02, weight_decay=0.1, clip_norm=0.5),
    "adamw": AdamW(lr=0.02, weight_decay=0.1),
    "rmsprop": RMSprop(lr=0.02, weight_decay=0.1),
    "lion": Lion(lr=0.02, weight_decay=0.1),
}
TREE = (Factors(lr=0.1, weight_decay=3.0), nn.Linear(None, Factors(weight_decay=0.0)), Factors(lr=0.0))


def recorded(tape, params, X, Y):
    x, tape = autograd.new_constant(tape, X)
    y, tape = autograd.new_constant(tape, Y)
    out, tape = nn.mlp_forward(tape, params, x)
    loss, tape = nn.mse_loss(tape, out, y)
    return loss, (x, y), tape


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_programs_take_the_steps_of_the_tape_and_a_factor_of_0_holds_still(name, dtype, rng):
    optimizer = OPTIMIZERS[name]
    X, Y = rng.standard_normal((40, 6)).astype(dtype), rng.standard_normal((40, 2)).astype(dtype)
    params, tape = nn.mlp(autograd.new_tape(), (6, 20, 9, 2), rng=rng, dtype=dtype)
    first, state, step = params, optim.init(optimizer, params), None
    for _ in range(4):
        loss, inputs, tape = recorded(tape, params, X, Y)
        if step is None:
            step = program.compile_step(
                tape, loss=loss, params=params, inputs=inputs, optimizer=optimizer, factors=TREE
            )
        grads = autograd.backward(tape, loss)
        assert step(X, Y) == float(loss.data)
        (params, state), tape = optim.update(autograd.new_tape(), optimizer, state, params, grads, TREE)
    for ours, theirs in zip(optim.leaves(params), optim.leaves(step.params(autograd.new_tape()).value), strict=True):
        assert np.array_equal(ours.data, theirs.data)
    assert np.array_equal(params[2].w.data, first[2].w.data)
    assert not np.array_equal(params[0].w.data, first[0].w.data)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_the_steps_of_groups_of_pytorch(name, rng):
    torch = pytest.importorskip("torch")
    optimizer = OPTIMIZERS[name]
    arrays = [rng.standard_normal(5) for _ in range(3)]
    steps = [[rng.standard_normal(5) for _ in arrays] for _ in range(5)]
    factors = [Factors(lr=0.1, weight_decay=3.0), None, Factors(weight_decay=0.0)]
    params, tape = [], autograd.new_tape()
    for array in arrays:
        variable, tape = autograd.new_variable(tape, array)
        params.append(variable)
    state = optim.init(optimizer, params)
    theirs = [torch.nn.Parameter(torch.tensor(array)) for array in arrays]
    options = {k: getattr(optimizer, k) for k in optimizer.__dataclass_fields__ if k != "clip_norm"}
    groups = [
        {"params": [one], "lr": optimizer.lr * own.lr, "weight_decay": optimizer.weight_decay * own.weight_decay}
        for one, own in zip(theirs, (own or Factors() for own in factors), strict=True)
    ]
    stepper = getattr(torch.optim, type(optimizer).__name__)(groups, **options)
    for grads in steps:
        by_id = {one.id: grad for one, grad in zip(params, grads, strict=True)}
        (params, state), tape = optim.update(autograd.new_tape(), optimizer, state, params, by_id, factors)
        for one, grad in zip(theirs, grads, strict=True):
            one.grad = torch.tensor(grad)
        if optimizer.clip_norm:
            torch.nn.utils.clip_grad_norm_(theirs, optimizer.clip_norm)
        stepper.step()
    for ours, other in zip(params, theirs, strict=True):
        assert np.allclose(ours.data, other.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize(
    "factors",
    [3.0, {"w": None}, (Factors(),), [Factors(), None, None, None], (None, (Factors(), Factors(), None), None)],
)
def test_trees_that_do_not_fit_are_refused(factors, rng):
    params, tape = nn.mlp(autograd.new_tape(), (3, 4, 4, 1), rng=rng)
    loss, inputs, tape = recorded(tape, params, np.ones((2, 3), "f4"), np.ones((2, 1), "f4"))
    with pytest.raises(error.InvalidValue, match="give a tree like that of the parameters"):
        program.compile_step(tape, loss=loss, params=params, inputs=inputs, optimizer=SGD(), factors=factors)
    with pytest.raises(error.InvalidValue, match="give a tree like that of the parameters"):
        optim.update(tape, SGD(), optim.init(SGD(), params), params, autograd.backward(tape, loss), factors)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_factor_of_0_holds_still_whatever_the_gradient(name):
    w, tape = autograd.new_variable(autograd.new_tape(), [0.0, 1.0])
    root, tape = autograd.sqrt(tape, w)  # with an infinite slope
    loss, tape = autograd.sum(tape, root)
    grads, optimizer = autograd.backward(tape, loss), OPTIMIZERS[name]
    state = optim.init(optimizer, w)
    (new, after), _ = optim.update(autograd.new_tape(), optimizer, state, w, grads, Factors(lr=0))
    assert np.array_equal(new.data, w.data)
    assert all(np.array_equal(a, b) for a, b in zip(after.moments, state.moments, strict=True))
    unused, tape = autograd.new_constant(tape, np.ones(1, "f4"))
    step = program.compile_step(tape, loss=loss, params=w, inputs=(unused,), optimizer=optimizer, factors=Factors(lr=0))
    step(unused.data)
    assert np.array_equal(step.params(autograd.new_tape()).value.data, w.data)


def test_a_shared_parameter_has_one_rate():
    w, tape = autograd.new_variable(autograd.new_tape(), [1.0])
    loss, tape = autograd.sum(tape, w)
    grads, state = autograd.backward(tape, loss), optim.init(SGD(), [w, w])
    with pytest.raises(error.InvalidValue, match="a shared parameter the same factors"):
        optim.update(tape, SGD(), state, [w, w], grads, [Factors(lr=0.5), None])
    (params, _), _ = optim.update(tape, SGD(lr=1.0), state, [w, w], grads, [Factors(lr=0.5)] * 2)
    assert params[0].data == [0.5]
    for value in (-0.1, np.nan, "1", np.inf):
        with pytest.raises(error.InvalidValue, match="lr"):
            Factors(lr=value)


@pytest.mark.parametrize(
    ("factors", "told"),
    [
        ({"w": None, "c": None}, "factors and parameters differ in the keys 'b', 'c'"),
        ({"w": [None]}, "factors and parameters differ in the keys 'b'"),
        ({"w": [None], "b": None}, "1 factors for 2 parameters"),
        ([None, None], "factors of type list for parameters of type dict"),
    ],
)
def test_what_does_not_fit_is_named(factors, told):
    w, tape = autograd.new_variable(autograd.new_tape(), 1.0)
    b, _ = autograd.new_variable(tape, 1.0)
    with pytest.raises(error.InvalidValue, match=told):
        factors_of("update", factors, {"w": [w, w], "b": b})
