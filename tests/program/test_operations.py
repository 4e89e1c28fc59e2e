"""Every operation of the tape, compiled: the bits of the tape, alone and in networks with activations in panels."""

import numpy as np
import pytest
from support.instruction_sets import FUSED, on_isa
from support.operation_cases import CASES
from support.tapes import recorded

from viva_tensor import autograd, kernels, nn, optim, program

SGD = optim.SGD(lr=0.05)


def trained(params, inputs, record, steps):
    """Return losses and parameters after some steps of `record(tape, params, inputs)`, on the tape and compiled."""
    step = None
    state, losses, found = optim.init(SGD, params), [], []
    for _ in range(steps):
        arrays = (*inputs, *(variable.data for variable in params))
        *made, tape = recorded(*arrays, constants=len(inputs))
        constants, params = made[: len(inputs)], tuple(made[len(inputs) :])
        loss, tape = record(tape, params, constants)
        if step is None:
            step = program.compile_step(tape, loss=loss, params=params, inputs=constants, optimizer=SGD)
        grads = autograd.backward(tape, loss)
        (params, state), tape = optim.update(autograd.new_tape(), SGD, state, params, grads)
        losses.append(float(loss.data))
        found.append(step(*inputs))
    return (losses, params), (found, step.params(autograd.new_tape()).value)


def assert_equal(on_tape, compiled):
    assert np.array_equal(on_tape[0], compiled[0], equal_nan=True)
    for one, other in zip(on_tape[1], compiled[1], strict=True):
        assert np.array_equal(one.data, other.data, equal_nan=True)


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"dropout"}))  # which has seeds of its own
def test_each_has_the_bits_of_the_tape(name, dtype, rng):
    function, shapes = CASES[name]
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    *params, tape = recorded(*arrays)
    seed = rng.standard_normal(function(tape, *params).value.data.shape).astype(dtype)

    def record(tape, params, inputs):
        value, tape = function(tape, *params)
        weighted, tape = autograd.mul(tape, value, inputs[0])
        return autograd.sum(tape, weighted)

    for threads in (1, 2):
        with kernels.num_threads(threads):
            assert_equal(*trained(params, [seed], record, 3))


NETWORKS = {name: (name, nn.mse_loss) for name in nn.ACTIVATIONS if name != "relu"} | {
    "classes": ("relu", nn.cross_entropy),
    "probabilities": (
        "tanh",
        lambda tape, x, y: autograd.sequence(nn.softmax(tape, y), lambda tape, y: nn.cross_entropy(tape, x, y)),
    ),
    "two classes": (
        "gelu",
        lambda tape, x, y: autograd.sequence(nn.sigmoid(tape, y), lambda tape, y: nn.binary_cross_entropy(tape, x, y)),
    ),
    "huber": ("silu", nn.huber_loss),
}


def network(name, dtype, threads, sizes=(70, 130, 90, 10), batch=200):
    activation, loss_of = NETWORKS[name]
    rng = np.random.default_rng(0)
    layers, _ = nn.mlp(autograd.new_tape(), sizes, rng=rng, activation=activation, dtype=dtype)
    X, Y = (rng.standard_normal((batch, size)).astype(dtype) for size in (sizes[0], sizes[-1]))
    if name == "classes":
        Y = rng.integers(0, sizes[-1], batch).astype(dtype)
    params = [variable for layer in layers for variable in layer]

    def record(tape, params, inputs):
        held = [nn.Linear(*params[i : i + 2]) for i in range(0, len(params), 2)]
        out, tape = nn.mlp_forward(tape, held, inputs[0], activation=activation)
        return loss_of(tape, out, inputs[1])

    with kernels.num_threads(threads):
        return trained(params, [X, Y], record, 5)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_the_bits_of_the_tape(name, dtype):
    losses = {}
    for threads in (1, 2, 3):
        on_tape, compiled = network(name, dtype, threads)
        assert_equal(on_tape, compiled)
        losses[threads] = compiled[0]
    assert losses[1] == losses[2] == losses[3]
    assert losses[1][-1] < losses[1][0]


def digests():
    return [repr(network(name, dtype, 2)[1][0]) for name in NETWORKS for dtype in ("f4", "f8")]


def test_networks_have_the_same_bits_on_instruction_sets_with_fused_multiply_add():
    if len(FUSED) < 2:
        pytest.skip("the processor has only one instruction set with fused multiply-add")
    assert len({on_isa(isa, __file__, "digests()") for isa in FUSED}) == 1


def test_a_class_that_does_not_exist_makes_a_compiled_loss_nan(rng):
    logits, tape = autograd.new_variable(autograd.new_tape(), rng.standard_normal((4, 3), dtype="f4"))
    target, tape = autograd.new_constant(tape, np.zeros(4, "f4"))
    loss, tape = nn.cross_entropy(tape, logits, target)
    step = program.compile_step(tape, loss=loss, params=[logits], inputs=(target,), optimizer=SGD)
    for wrong in (3, -1, 0.5, np.nan):
        assert np.isnan(step(np.array([0, 1, wrong, 2], "f4")))


def test_tanh_and_its_gradient_stay_in_panels():
    rng = np.random.default_rng(0)
    layers, tape = nn.mlp(autograd.new_tape(), (64, 64, 64, 64), rng=rng, activation="tanh")
    x, tape = autograd.new_constant(tape, rng.standard_normal((64, 64), dtype="f4"))
    y, tape = autograd.new_constant(tape, rng.standard_normal((64, 64), dtype="f4"))
    out, tape = nn.mlp_forward(tape, layers, x, activation="tanh")
    loss, tape = nn.mse_loss(tape, out, y)
    with kernels.num_threads(1):
        step = program.compile_step(tape, loss=loss, params=layers, inputs=(x, y), optimizer=SGD)
    lines = [line for line in str(step).splitlines() if "tanh" in line]
    assert len(lines) == 4
    assert all(line.count("in panels") >= 2 for line in lines)
