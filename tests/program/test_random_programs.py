"""Random programs of every operation, branches and reuse included, compiled and on the tape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viva_tensor import autograd, kernels, nn, optim, program

SHAPES = [(), (3,), (1, 3), (4, 1), (4, 3), (2, 4, 3), (3, 4)]
OPTIMIZERS = [
    optim.SGD(lr=0.1),
    optim.SGD(lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.1, clip_norm=1.0),
    optim.Adam(lr=0.1),
    optim.AdamW(lr=0.1, clip_norm=0.1),
    optim.RMSprop(lr=0.1, momentum=0.5),
]


def grow(draw, tape, variables):
    """One more operation on variables of the tape."""
    kind = draw(st.sampled_from(["add", "sub", "mul", "matmul", "relu", "sum", "mean", "transpose", "mse"]))
    a = draw(st.sampled_from(variables))
    if kind in ("add", "sub", "mul"):
        fitting = [b for b in variables if _fits(a, b)]
        return getattr(autograd, kind)(tape, a, draw(st.sampled_from(fitting)))
    if kind == "matmul":
        pairs = [(p, q) for p in variables for q in variables if p.data.ndim == q.data.ndim == 2 and _inner(p, q)]
        return autograd.matmul(tape, *draw(st.sampled_from(pairs))) if pairs else autograd.relu(tape, a)
    if kind in ("sum", "mean"):
        axes = draw(st.lists(st.integers(0, a.data.ndim - 1), unique=True)) if a.data.ndim else []
        axis = tuple(axes) if axes else None
        return getattr(autograd, kind)(tape, a, axis=axis, keepdims=draw(st.booleans()))
    if kind == "transpose":
        return autograd.transpose(tape, a)
    if kind == "mse":
        same = [b for b in variables if b.data.shape == a.data.shape]
        return nn.mse_loss(tape, a, draw(st.sampled_from(same)))
    return autograd.relu(tape, a)


def _fits(a, b):
    try:
        return np.broadcast_shapes(a.data.shape, b.data.shape) is not None
    except ValueError:
        return False


def _inner(a, b):
    return a.data.shape[1] == b.data.shape[0]


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(0, 2**32 - 1), st.sampled_from(["f4", "f8"]))
def test_the_bits_of_the_tape(data, seed, dtype):
    rng = np.random.default_rng(seed)
    tape = autograd.new_tape()
    leaves = []
    for i, shape in enumerate(SHAPES):
        make = autograd.new_constant if i == 4 else autograd.new_variable
        leaf, tape = make(tape, rng.standard_normal(shape).astype(dtype))
        leaves.append(leaf)
    x, params = leaves[4], [leaf for leaf in leaves if leaf is not leaves[4]]
    variables = list(leaves)
    for _ in range(data.draw(st.integers(1, 8))):
        new, tape = grow(data.draw, tape, variables)
        variables.append(new)
    squares, tape = autograd.mul(tape, variables[-1], variables[-1])
    loss, tape = autograd.mean(tape, squares)
    grads = autograd.backward(tape, loss)
    optimizer = data.draw(st.sampled_from(OPTIMIZERS))
    (after, _), _ = optim.update(autograd.new_tape(), optimizer, optim.init(optimizer, params), params, grads)
    for threads in (1, 3):
        with kernels.num_threads(threads):
            step = program.compile_step(tape, loss=loss, params=params, inputs=(x,), optimizer=optimizer)
            assert np.array_equal(step(x.data), float(loss.data), equal_nan=True)
        for variable, expected in zip(step.params(autograd.new_tape()).value, after, strict=True):
            assert np.array_equal(variable.data, expected.data, equal_nan=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0])
def test_special_values_travel_as_on_the_tape(value):
    x, tape = autograd.new_constant(autograd.new_tape(), np.array([[value, 1.0], [0.0, -1.0]], "f4"))
    w, tape = autograd.new_variable(tape, np.array([[1.0, -1.0], [0.5, 2.0]], "f4"))
    h, tape = autograd.matmul(tape, x, w)
    h, tape = autograd.relu(tape, h)
    h, tape = autograd.matmul(tape, h, w)
    loss, tape = autograd.mean(tape, h)
    expected = np.float32(w.data - np.float32(0.1) * autograd.backward(tape, loss)[w])
    step = program.compile_step(tape, loss=loss, params=w, inputs=(x,), optimizer=optim.SGD(lr=0.1))
    assert np.array_equal(step(x.data), float(loss.data), equal_nan=True)
    assert np.allclose(step.params(autograd.new_tape()).value.data, expected, equal_nan=True)
