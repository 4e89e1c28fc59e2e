"""Gradients in programs: as outputs, and in losses, with the bits of the tape."""

import re

import numpy as np
import pytest
from support.operation_cases import CASES
from support.tapes import recorded

from viva_tensor import autograd, error, kernels, nn, optim, program
from viva_tensor.autograd import gradient, jvp

SIZES = ((2, 16), (16, 16), (16, 1))


def network(tape, params, x):
    """A network of tanh layers, whose weights are `params`."""
    for w, b in zip(params[::2], params[1::2], strict=True):
        x, tape = nn.linear_forward(tape, nn.Linear(w, b), x)
        if w.shape[0] != 1:
            x, tape = nn.tanh(tape, x)
    return autograd.Traced(x, tape)


def weights(rng, dtype):
    return [
        array.astype(dtype)
        for fan_in, fan_out in SIZES
        for array in (rng.standard_normal((fan_out, fan_in)) / np.sqrt(fan_in), rng.standard_normal(fan_out) / 10)
    ]


def column(tape, x, index):
    return autograd.slice(tape, x, np.s_[:, index : index + 1])


def burgers(tape, params, x):
    """The mean of the squared residuals u_t + u u_x - u_xx / 100 of Burgers' equation at points (t, x)."""
    u, tape = network(tape, params, x)
    total, tape = autograd.sum(tape, u)
    slopes, tape = gradient(tape, total, x)
    u_t, tape = column(tape, slopes, 0)
    u_x, tape = column(tape, slopes, 1)
    total, tape = autograd.sum(tape, u_x)
    bends, tape = gradient(tape, total, x)
    u_xx, tape = column(tape, bends, 1)
    flow, tape = autograd.mul(tape, u, u_x)
    spread, tape = autograd.mul(tape, u_xx, 0.01)
    rest, tape = autograd.add(tape, u_t, flow)
    rest, tape = autograd.sub(tape, rest, spread)
    square, tape = autograd.mul(tape, rest, rest)
    return autograd.mean(tape, square)


def penalty(tape, params, x):
    """The mean output, and how far the norms of its gradients are from 1."""
    u, tape = network(tape, params, x)
    total, tape = autograd.sum(tape, u)
    slopes, tape = gradient(tape, total, x)
    squares, tape = autograd.mul(tape, slopes, slopes)
    norms, tape = autograd.sequence(autograd.sum(tape, squares, axis=1), autograd.sqrt)
    off, tape = autograd.sub(tape, norms, 1.0)
    off, tape = autograd.mul(tape, off, off)
    mean, tape = autograd.mean(tape, u)
    far, tape = autograd.mean(tape, off)
    return autograd.add(tape, mean, far)


def directional(tape, params, x):
    """The mean of the squared derivatives along (1, 2), in forward mode."""
    u, tape = network(tape, params, x)
    along, tape = autograd.mul(tape, x, 0.0)
    along, tape = autograd.add(tape, along, np.array([1.0, 2.0], x.dtype))
    change, tape = jvp(tape, u, x, along)
    square, tape = autograd.mul(tape, change, change)
    return autograd.mean(tape, square)


@pytest.mark.parametrize("loss_of", [burgers, penalty, directional])
def test_a_loss_with_derivatives_has_the_bits_of_the_tape_in_any_batch(loss_of, dtype, rng):
    adam = optim.Adam(lr=1e-2)
    params = weights(rng, dtype)
    points = [rng.standard_normal((rows, 2)).astype(dtype) for rows in (33, 33, 7, 100)]
    for threads in (1, 2):
        with kernels.num_threads(threads):
            *variables, tape = recorded(*params)
            layers, state, step = tuple(variables), optim.init(adam, tuple(variables)), None
            for batch in points:
                x, tape = autograd.new_constant(tape, batch)
                loss, tape = loss_of(tape, layers, x)
                if step is None:
                    step = program.compile_step(tape, loss=loss, params=layers, inputs=(x,), optimizer=adam)
                grads = autograd.backward(tape, loss)
                (layers, state), tape = optim.update(autograd.new_tape(), adam, state, layers, grads)
                assert step(batch) == float(loss.data)
            for one, other in zip(layers, step.params(autograd.new_tape()).value, strict=True):
                assert np.array_equal(one.data, other.data)


def test_the_residual_of_burgers_equation_is_that_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    params, batch = weights(rng, "f8"), rng.standard_normal((50, 2))
    *variables, tape = recorded(*params)
    x, tape = autograd.new_constant(tape, batch)
    loss, tape = burgers(tape, variables, x)
    tensors = [torch.tensor(array, requires_grad=True) for array in params]
    points = torch.tensor(batch, requires_grad=True)
    u = points
    for index in range(0, 6, 2):
        u = u @ tensors[index].T + tensors[index + 1]
        u = torch.tanh(u) if index < 4 else u
    (slopes,) = torch.autograd.grad(u.sum(), points, create_graph=True)
    (bends,) = torch.autograd.grad(slopes[:, 1].sum(), points, create_graph=True)
    expected = ((slopes[:, :1] + u * slopes[:, 1:] - bends[:, 1:] / 100) ** 2).mean()
    expected.backward()
    assert float(loss.data) == pytest.approx(expected.item(), rel=1e-10)
    grads = autograd.backward(tape, loss)
    for variable, tensor in zip(variables, tensors, strict=True):
        found = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        np.testing.assert_allclose(grads[variable], found.numpy(), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"dropout"}))
def test_gradients_and_tangents_of_each_operation_are_outputs_with_the_bits_of_the_tape(name, dtype, rng):
    function, shapes = CASES[name]
    *inputs, tape = recorded(*(rng.standard_normal(shape).astype(dtype) for shape in shapes))
    output, tape = function(tape, *inputs)
    seed = rng.standard_normal(output.shape).astype(dtype)
    grads, tape = gradient(tape, output, inputs, seed)
    along = [rng.standard_normal(one.shape).astype(dtype) for one in inputs]
    changes, tape = jvp(tape, (output, *grads), inputs, along)
    for threads in (1, 2):
        with kernels.num_threads(threads):
            forward = program.compile_forward(tape, output=(output, *grads, *changes), inputs=inputs)
            found = forward(*(one.data for one in inputs))
        for one, other in zip(found, (output, *grads, *changes), strict=True):
            assert one.shape == other.shape
            assert np.array_equal(one, other.data, equal_nan=True)


def test_forces_of_other_batches_than_the_recorded_one(rng):
    *variables, tape = recorded(*weights(rng, "f4"))
    x, tape = autograd.new_constant(tape, rng.standard_normal((20, 2)).astype("f4"))
    u, tape = network(tape, variables, x)
    total, tape = autograd.sum(tape, u)
    force, tape = gradient(tape, total, x)
    forward = program.compile_forward(tape, output=[u, force], inputs=(x,))
    for rows in (20, 1, 0, 133):
        batch = rng.standard_normal((rows, 2)).astype("f4")
        *variables, other = recorded(*(one.data for one in variables))
        at, other = autograd.new_constant(other, batch)
        energy, other = network(other, variables, at)
        total, other = autograd.sum(other, energy)
        expected, other = gradient(other, total, at)
        found = forward(batch)
        assert isinstance(found, tuple)
        assert np.array_equal(found[0], energy.data)
        assert np.array_equal(found[1], expected.data)
    found[1][:] = 0  # each call has arrays of its own
    assert np.array_equal(forward(batch)[1], expected.data)


def test_mistakes_with_outputs_are_named(rng):
    x, tape = autograd.new_constant(autograd.new_tape(), np.ones((2, 2), "f4"))
    y, tape = autograd.exp(tape, x)
    with pytest.raises(error.InvalidValue, match="compile_forward: no outputs"):
        program.compile_forward(tape, output=(), inputs=(x,))
    with pytest.raises(error.InvalidValue, match="compile_forward: output is a NoneType"):
        program.compile_forward(tape, output=None, inputs=(x,))
    with pytest.raises(error.ForeignVariable):
        program.compile_forward(tape, output=(y, 3.0), inputs=(x,))


def summed(tape, function, x):
    y, tape = function(tape, x)
    total, tape = autograd.sum(tape, y)
    return gradient(tape, total, x)


def centred(tape, x):
    middle, tape = autograd.mean(tape, x, axis=0, keepdims=True)
    off, tape = autograd.sub(tape, x, middle)
    return autograd.mul(tape, off, off)


BY_ROWS = {
    "slice": lambda t, x: summed(t, lambda t, x: autograd.slice(t, x, np.s_[:, 1:3]), x),
    "flip": lambda t, x: summed(t, lambda t, x: autograd.flip(t, x, 1), x),
    "stack": lambda t, x: summed(t, lambda t, x: autograd.stack(t, (x, x), axis=1), x),
    "new axis": lambda t, x: autograd.sequence(autograd.transpose(t, x), lambda t, x: autograd.expand_dims(t, x, 1)),
    "centred": lambda t, x: summed(t, centred, x),
    "variance": lambda t, x: summed(t, lambda t, x: autograd.var(t, x, axis=0), x),
    "unrelated": lambda t, x: summed(t, lambda t, y: autograd.new_constant(t, 3.0), x),
    "repeated": lambda t, x: autograd.broadcast_to(t, x, x.shape),
    "squeezed": lambda t, x: autograd.squeeze(t, x),
    "seeds": lambda t, x: autograd.sequence(
        autograd.mul(t, x, x), lambda t, y: gradient(t, y, x, np.ones(y.shape, "f4"))
    ),
    "rows of a sum": lambda t, x: autograd.sequence(
        autograd.sum(t, x, axis=1), lambda t, y: gradient(t, y, x, np.full(y.shape, 7.0, "f4"))
    ),
    "tangents": lambda t, x: autograd.sequence(
        autograd.sum(t, x, axis=0), lambda t, y: jvp(t, y, x, np.ones(x.shape, "f4"))
    ),
    "joined": lambda t, x: autograd.sequence(
        autograd.concatenate(t, (x, x), axis=1), lambda t, y: jvp(t, y, x, np.ones(x.shape, "f4"))
    ),
}


@pytest.mark.parametrize("recorded_rows", [1, 4])
@pytest.mark.parametrize("name", sorted(BY_ROWS))
def test_other_batches_have_the_bits_of_the_tape_or_are_refused(name, recorded_rows, rng):
    """Never silently wrong, whatever was recorded with one row; memory is never left."""
    function = BY_ROWS[name]
    x, tape = autograd.new_constant(autograd.new_tape(), rng.standard_normal((recorded_rows, 4)).astype("f4"))
    value, tape = function(tape, x)
    forward = program.compile_forward(tape, output=value, inputs=(x,))
    for rows in (1, 2, 4, 6, 64):
        batch = rng.standard_normal((rows, 4)).astype("f4")
        at, other = autograd.new_constant(autograd.new_tape(), batch)
        expected = function(other, at).value.data
        try:
            found = forward(batch)
        except error.TensorError:
            assert rows != recorded_rows
        else:
            assert np.array_equal(found.reshape(expected.shape), expected)
            assert found.shape == expected.shape or name == "squeezed"  # which leaves out a single row by itself


def of_weights(tape, x):
    w, tape = autograd.new_variable(tape, np.array([2.0, 3.0]))
    y, tape = autograd.matmul(tape, x, w)
    return autograd.jacobian(tape, y, w)


def of_rows(tape, x):
    w, tape = autograd.new_constant(tape, np.ones((2, 3)))
    y, tape = autograd.sequence(autograd.matmul(tape, x, w), autograd.sin)
    total, tape = autograd.sum(tape, y, axis=0)
    return autograd.jacobian(tape, total, x)


def of_a_number(tape, x):
    y, tape = autograd.sequence(autograd.sin(tape, x), autograd.sum)
    return autograd.jacobian(tape, y, x)


def bends(tape, x):
    y, tape = autograd.sequence(autograd.sin(tape, x), autograd.sum)
    return autograd.hessian(tape, y, x)


@pytest.mark.parametrize("recorded_rows", [0, 1, 4])
@pytest.mark.parametrize("function", [of_weights, of_rows, of_a_number, bends])
def test_a_jacobian_is_that_of_another_batch_or_refused(function, recorded_rows, rng):
    """Recorded with one row, units of rows were repeated, and so it was a sum over rows; with none, it stayed empty."""
    x, tape = recorded(rng.standard_normal((recorded_rows, 2)), constants=1)
    wanted, tape = function(tape, x)
    call = program.compile_forward(tape, output=wanted, inputs=(x,))
    assert np.array_equal(call(x.data), wanted.data)
    units_of_rows = function is bends or (recorded_rows < 2 and function is not of_a_number)
    for rows in (2, 3):
        other = rng.standard_normal((rows, 2))
        if units_of_rows or not recorded_rows:
            with pytest.raises(error.InvalidShape, match="give as many rows as were recorded"):
                call(other)
        else:
            again, tape = function(*recorded(other, constants=1)[::-1])
            np.testing.assert_allclose(call(other), again.data, rtol=1e-14, atol=1e-14)


def test_a_seed_or_tangent_for_another_batch_is_named():
    x, seed, w, tape = recorded(np.ones((4, 2)), np.ones(4), np.ones(2), constants=2)
    y, tape = autograd.matmul(tape, x, w)
    slope, with_seed = gradient(tape, y, w, np.ones(4))
    change, with_tangent = jvp(tape, y, x, np.ones((4, 2)))
    for output, longer, shape in ((slope, with_seed, "(4,)"), (change, with_tangent, "(4, 2)")):
        call = program.compile_forward(longer, output=output, inputs=(x,))
        wanted = re.escape(f"recorded with a seed or tangent of {shape}; ") + ".*make the seed an input"
        for rows in (0, 1, 7):
            with pytest.raises(error.InvalidShape, match=wanted):
                call(np.ones((rows, 2)))
    slope, tape = gradient(tape, y, w, seed)
    call = program.compile_forward(tape, output=slope, inputs=(x, seed))
    assert call(np.ones((7, 2)), np.ones(7)).tolist() == [7, 7]
