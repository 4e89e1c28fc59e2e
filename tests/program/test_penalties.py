"""A penalty on the squares of weights: the update adds its gradient, with the bits of the tape."""

import numpy as np
import pytest
from support import steps
from support.instruction_sets import FUSED, on_isa
from support.steps import NETWORKS, eager, in_pytorch, same

from viva_tensor import autograd, error, kernels, program
from viva_tensor.optim import SGD, Adam, Lion, RMSprop
from viva_tensor.program import passes
from viva_tensor.program.builder import Builder
from viva_tensor.program.instructions import Buffer, Symbol, Update, row_major

OPTIMIZERS = {
    "sgd": SGD(lr=0.05),
    "sgd, decay": SGD(lr=0.05, weight_decay=0.01),
    "nesterov": SGD(lr=0.05, momentum=0.9, nesterov=True),
    "adam": Adam(lr=0.01),
    "lion": Lion(lr=0.001, weight_decay=0.1),
    "rmsprop, momentum": RMSprop(lr=0.001, momentum=0.9),
    "clipped": Adam(lr=0.01, clip_norm=0.5),
}
PENALTY = 0.03


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_same_bits_as_on_the_tape(name, optimizer, dtype):
    chosen = OPTIMIZERS[optimizer]
    X, Y, layers, _ = steps.compiled(chosen, *NETWORKS[name], dtype, PENALTY)
    losses, trained = eager(layers, [(X, Y)] * 6, chosen, PENALTY)
    for threads in (1, 2, 5):
        with kernels.num_threads(threads):
            _, _, _, step = steps.compiled(chosen, *NETWORKS[name], dtype, PENALTY)
            assert [step(X, Y) for _ in range(6)] == losses
        assert same(step.params(autograd.new_tape()).value, trained)
        products = [one.instruction for one in step.planned if "update" in one.instruction.fused]
        with_penalty = [one for one in products if "penalty" in one.operands]
        assert len(with_penalty) == (0 if chosen.clip_norm else len(layers))  # the norm needs whole gradients


def digest():
    """What steps of every optimiser on every network come to."""
    return steps.digest(
        steps.compiled(optimizer, sizes, batch, penalty=PENALTY)
        for sizes, batch in NETWORKS.values()
        for optimizer in OPTIMIZERS.values()
    )


def test_the_same_bits_on_every_instruction_set_with_fused_multiply_add():
    if len(FUSED) < 2:
        pytest.skip("the processor has only one instruction set with fused multiply-add")
    assert len({on_isa(isa, __file__, "digest()") for isa in FUSED}) == 1


def test_ten_steps_are_those_of_pytorch():
    """To float64's rounding, a thousandfold: ten steps multiply what the first one rounds."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    X, Y, layers, step = steps.compiled(SGD(lr=0.05, momentum=0.9), (7, 9, 2), 30, "float64", PENALTY)
    model = in_pytorch(layers, torch.nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(10):
        loss = torch.nn.functional.mse_loss(model(torch.tensor(X)), torch.tensor(Y))
        for module in model[::2]:
            loss = loss + PENALTY * (module.weight**2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert step(X, Y) == pytest.approx(loss.item(), rel=1e-12)
    trained = step.params(autograd.new_tape()).value
    for module, layer in zip(model[::2], trained, strict=True):
        np.testing.assert_allclose(layer.w.data, module.weight.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_the_gradients_of_a_batch_in_parts_have_it(clip_norm):
    optimizer = SGD(lr=0.05, clip_norm=clip_norm)
    X, Y, _, whole = steps.compiled(optimizer, (7, 9, 2), 30, "float64", PENALTY)
    *_, parts = steps.compiled(optimizer, (7, 9, 2), 30, "float64", PENALTY, micro_batch=10)
    for _ in range(3):
        assert parts(X, Y) == pytest.approx(whole(X, Y), rel=1e-12)
    for one, other in zip(parts.state().params, whole.state().params, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("sizes", [(40, 70), (5, 60)])
def test_a_penalty_that_was_recorded_before_the_product(sizes, rng):
    """Its number is computed after the product that makes the gradient, which cannot wait for it."""
    start = rng.standard_normal(sizes)

    def record(data):
        x, tape = autograd.new_constant(autograd.new_tape(), np.ones((30, sizes[0])))
        w, tape = autograd.new_variable(tape, data)
        squares, tape = autograd.sum_of_squares(tape, w)
        penalty, tape = autograd.mul(tape, squares, PENALTY)
        y, tape = autograd.matmul(tape, x, w)
        loss, tape = autograd.mean(tape, y)
        return x, w, *autograd.add(tape, loss, penalty)

    x, w, loss, tape = record(start)
    step = program.compile_step(tape, loss=loss, params=w, inputs=(x,), optimizer=SGD(lr=0.1))
    for _ in range(3):
        x, w, loss, tape = record(start)
        assert step(x.data) == loss.data
        start = start - 0.1 * autograd.backward(tape, loss)[w]
    np.testing.assert_allclose(step.params(autograd.new_tape()).value.data, start, rtol=1e-14)


def leaf(kind, shape, index=0):
    return Symbol(shape, row_major(shape), Buffer(kind, int(np.prod(shape)), index))


def written(build, w, grad, output=None):
    """What is left of the instructions that make a gradient of w and update it."""
    build.instructions.append(Update(operands={"grad": grad, "w": w}, results={"w": w}))
    return [one.label for one in passes.penalty_in_update(build.instructions, output or leaf("temporary", ()))]


@pytest.mark.parametrize("swapped", [False, True])
def test_a_multiple_of_the_weights_joins_their_update(swapped):
    build, w, data = Builder(), leaf("parameter", (4, 3)), leaf("input", (4, 3))
    pair = build.elementwise("mul", w, leaf("constant", ())), data
    grad = build.elementwise("add", *(pair[::-1] if swapped else pair))
    assert written(build, w, grad) == ["update"]


@pytest.mark.parametrize("kind", ["parameter", "input"])  # a parameter may change before the update, an input's rows
def test_a_number_that_may_change_meanwhile_stays_in_the_gradient(kind):
    build, w = Builder(), leaf("parameter", (4, 3))
    grad = build.elementwise("add", build.elementwise("mul", w, leaf(kind, (), 1)), leaf("input", (4, 3)))
    assert written(build, w, grad) == ["mul", "add", "update"]


def test_a_multiple_of_anything_else_stays_in_the_gradient():
    w, number, data = leaf("parameter", (4, 3)), leaf("constant", ()), leaf("input", (4, 3))
    row, square = Symbol((4, 3), (0, 1), w.buffer), leaf("parameter", (3, 3))
    transposed = Symbol((3, 3), (1, 3), square.buffer)
    build = Builder()
    grad = build.elementwise("add", build.elementwise("mul", transposed, number), leaf("input", (3, 3)))
    assert written(build, square, grad)[-2:] == ["add", "update"]
    for other in (leaf("parameter", (4, 3), 1), data, row):
        build = Builder()
        grad = build.elementwise("add", build.elementwise("mul", other, number), data)
        assert written(build, w, grad)[-2:] == ["add", "update"]
    build = Builder()
    grad = build.elementwise("add", build.elementwise("mul", w, leaf("constant", (3,))), data)  # one for each column
    assert written(build, w, grad) == ["mul", "add", "update"]


@pytest.mark.parametrize("scaled", [False, True])
def test_a_gradient_that_is_added_to_itself(scaled):
    build, w = Builder(), leaf("parameter", (4, 3))
    half = build.elementwise("mul", w, leaf("constant", ())) if scaled else leaf("input", (4, 3))
    grad = build.elementwise("add", half)
    assert written(build, w, grad) == ["mul"] * scaled + ["add", "update"]


def test_a_gradient_that_is_added_to_a_view_of_itself():
    build, w = Builder(), leaf("parameter", (4, 3))
    multiple = build.elementwise("mul", w, leaf("constant", ()))
    grad = build.elementwise("add", multiple, Symbol((4, 3), (3, 1), multiple.buffer))
    assert written(build, w, grad) == ["mul", "add", "update"]


def test_what_something_else_reads_stays():
    w, number, data = leaf("parameter", (4, 3)), leaf("constant", ()), leaf("input", (4, 3))
    build = Builder()
    penalty = build.elementwise("mul", w, number)
    grad = build.elementwise("add", penalty, data)
    build.elementwise("exp", penalty)
    assert written(build, w, grad) == ["mul", "add", "exp", "update"]
    build = Builder()
    grad = build.elementwise("add", build.elementwise("mul", w, number), data)
    assert written(build, w, grad, output=grad) == ["mul", "add", "update"]


def test_the_squares_of_an_array_of_any_layout(dtype):
    x = np.arange(24, dtype=dtype).reshape(4, 6)
    assert kernels.sum_of_squares(x) == kernels.sum_of_squares(x.tolist()) == 4324
    for other in (x.T, x[::2], x[:, ::-1], x[:0], x[0, 0]):
        assert kernels.sum_of_squares(other) == np.square(other, dtype="f8").sum()
        assert kernels.sum_of_squares(other).dtype == dtype
    np.testing.assert_array_equal(kernels.sum_of_squares_backward(0.5, x), x)
    with pytest.raises(error.ShapeMismatch, match="one number"):
        kernels.sum_of_squares_backward(x[0], x)
