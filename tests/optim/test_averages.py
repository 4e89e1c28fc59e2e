"""Averages of weights and gradients: PyTorch's, whole batches, and what is refused."""

import copy

import numpy as np
import pytest
from support.steps import network, same
from support.tapes import recorded

from viva_tensor import autograd, error, nn, optim, program
from viva_tensor.optim import Average


@pytest.mark.parametrize("decay", [None, 0.0, 0.9])
def test_the_averages_of_pytorch(decay, rng):
    swa = pytest.importorskip("torch.optim.swa_utils", reason="torch is not installed")
    import torch

    steps = [[rng.standard_normal((3, 2)), rng.standard_normal(3)] for _ in range(6)]
    layer = torch.nn.Linear(2, 3).double()
    rule = {} if decay is None else {"multi_avg_fn": swa.get_ema_multi_avg_fn(decay)}
    theirs, ours = swa.AveragedModel(layer, **rule), None
    for arrays in steps:
        for parameter, array in zip(layer.parameters(), arrays, strict=True):
            parameter.data = torch.tensor(array)
        theirs.update_parameters(layer)
        *variables, tape = recorded(*arrays)
        params = nn.Linear(*variables)
        ours = optim.average_init(params) if ours is None else optim.average_update(ours, params, decay)
    assert ours.number == len(steps)
    averaged, _ = optim.average_params(tape, ours, params)
    assert isinstance(averaged, nn.Linear)
    for found, wanted in zip(averaged, theirs.module.parameters(), strict=True):
        assert np.allclose(found.data, wanted.detach().numpy(), rtol=1e-12)
        assert not found.data.flags.writeable


def test_gradients_of_parts_are_that_of_the_batch(rng):
    X, Y = rng.standard_normal((10, 3)), rng.standard_normal((10, 2))
    layers, base = nn.mlp(autograd.new_tape(), (3, 5, 2), rng=rng, dtype="float64")

    def gradients(rows):
        x, tape = autograd.new_constant(base, X[rows])
        y, tape = autograd.new_constant(tape, Y[rows])
        out, tape = nn.mlp_forward(tape, layers, x)
        loss, tape = nn.mse_loss(tape, out, y)
        return autograd.backward(tape, loss)

    parts = (gradients(rows) for rows in (slice(0, 4), slice(4, 8), slice(8, 10)))
    found, whole = optim.averaged_gradients(parts, weights=[4, 4, 2]), gradients(slice(None))
    assert set(found) == set(whole)
    for key, array in found.items():
        assert np.allclose(array, whole[key], rtol=1e-12, atol=1e-14)
    sgd = optim.SGD(lr=0.1)
    (_, state), _ = optim.update(autograd.new_tape(), sgd, optim.init(sgd, layers), layers, found)
    assert state.steps == 1


def test_gradients_of_parts_may_come_in_any_order():
    parts = [{0: np.array([1.0]), 3: np.array([5.0])}, {3: np.array([7.0]), 0: np.array([3.0])}]
    assert optim.averaged_gradients(parts) == {0: [2.0], 3: [6.0]}


def test_what_is_no_average_is_refused():
    w, v, tape = recorded(np.ones(2), np.ones(3))
    average = optim.average_init(w)
    for decay in (-0.1, 1.0, np.nan, "1"):
        with pytest.raises(error.InvalidValue, match="decay"):
            optim.average_update(average, w, decay)
    with pytest.raises(error.ShapeMismatch, match="the parameters that it is an average of"):
        optim.average_update(average, v)
    with pytest.raises(error.InvalidValue, match="average_init"):
        optim.average_update(average, [w, v])
    with pytest.raises(error.InvalidValue, match="average_init"):
        optim.average_params(tape, Average((), 1), w)
    one = {0: np.ones(2)}
    with pytest.raises(error.ShapeMismatch, match="gradients of the same variables"):
        optim.averaged_gradients([one, {0: np.ones(1)}])
    for wrong in (None, 3, (1, 2)):
        with pytest.raises(error.InvalidValue, match="average_update: an average of other than 1 parameters"):
            optim.average_update(wrong, w)
    for wrong in ([3], [one, None], 3, one):
        with pytest.raises(error.InvalidValue, match="averaged_gradients: gradients of type"):
            optim.averaged_gradients(wrong)
    for parts, weights in (([], None), ([one, {1: np.ones(2)}], None), ([one], [1, 2]), ([one], [-1]), ([one], 0)):
        with pytest.raises(error.InvalidValue, match="averaged_gradients"):
            optim.averaged_gradients(parts, weights)


@pytest.mark.parametrize("optimizer", [optim.SGD(lr=0.1), optim.Adam(lr=0.01)])
@pytest.mark.parametrize("decay", [None, 0.0, 0.9])
def test_a_compiled_step_keeps_the_average_of_the_tape(decay, optimizer):
    x, y, layers, loss, tape = network((5, 40, 1), 8)
    X, Y = x.data, y.data
    given = {"loss": loss, "params": layers, "inputs": (x, y), "optimizer": optimizer}
    step = program.compile_step(tape, average=optim.Averaging(decay), **given)
    plain = program.compile_step(tape, **given)
    average = optim.average_init(layers)
    losses = [plain(X, Y)]
    average = optim.average_update(average, plain.params(tape).value, decay)
    for _ in range(3):
        losses.append(plain(X[:5], Y[:5]))
        average = optim.average_update(average, plain.params(tape).value, decay)
    found = [step(X, Y), *step.run(X[:5], Y[:5], batch_size=5, epochs=2, shuffle=False)]
    going = copy.deepcopy(step)
    found.append(going(X[:5], Y[:5]))
    assert found == losses
    wanted, _ = optim.average_params(tape, average, layers)
    assert same(going.average_params(autograd.new_tape()).value, wanted)
    assert same(going.params(autograd.new_tape()).value, plain.params(tape).value)
    with pytest.raises(error.InvalidValue, match="another program"):
        plain.restore(step.state())


def test_a_step_without_an_average_says_so():
    x, y, layers, loss, tape = network((5, 4, 1), 8)
    given = {"loss": loss, "params": layers, "inputs": (x, y), "optimizer": optim.SGD()}
    with pytest.raises(error.InvalidValue, match=r"keeps no average; compile it with average="):
        program.compile_step(tape, **given).average_params(tape)
    for wrong in (0.9, optim.Averaging):
        with pytest.raises(error.InvalidValue, match=r"average is a .*give optim\.Averaging"):
            program.compile_step(tape, average=wrong, **given)
