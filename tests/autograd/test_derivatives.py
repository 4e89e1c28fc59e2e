"""Gradients as variables: of first and second order, forward against reverse mode, against PyTorch."""

from itertools import pairwise

import numpy as np
import pytest
from support.operation_cases import CASES

from viva_tensor import autograd, error, nn
from viva_tensor.autograd import check_gradients, gradient, hessian, hvp, jacobian, jvp, new_tape, new_variable

NAMES = sorted(CASES)


def recorded(name, dtype="f8", seed=20):
    """Return the tape of a case, its inputs and output, and a seed for the output."""
    function, shapes = CASES[name]
    rng = np.random.default_rng(seed)
    tape = new_tape()
    inputs = []
    for shape in shapes:
        variable, tape = new_variable(tape, rng.standard_normal(shape).astype(dtype))
        inputs.append(variable)
    output, tape = function(tape, *inputs)
    return tape, tuple(inputs), output, rng.standard_normal(output.shape).astype(dtype)


@pytest.mark.parametrize("name", NAMES)
def test_the_bits_are_those_of_backward(name, dtype):
    tape, inputs, output, seed = recorded(name, dtype)
    found, longer = gradient(tape, output, inputs, seed)
    expected = autograd.backward(tape, output, seed)
    for variable, grad in zip(inputs, found, strict=True):
        assert grad.data.tobytes() == np.ascontiguousarray(expected[variable]).tobytes()
    assert len(longer) > len(tape)
    assert autograd.backward(tape, output, seed)[inputs[0]].tobytes() == np.array(expected[inputs[0]]).tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_gradients_are_those_of_central_differences(name):
    _, inputs, _, seed = recorded(name)
    weights = [np.random.default_rng(1).standard_normal(one.shape) for one in inputs]

    def slope(tape, *variables):
        """The sum of all gradients, each times its weights."""
        output, tape = CASES[name][0](tape, *variables)
        grads, tape = gradient(tape, output, variables, seed)
        total, tape = autograd.new_constant(tape, np.zeros((), "f8"))
        for grad, weight in zip(grads, weights, strict=True):
            product, tape = autograd.mul(tape, grad, weight)
            part, tape = autograd.sum(tape, product)
            total, tape = autograd.add(tape, total, part)
        return autograd.Traced(total, tape)

    check_gradients(slope, *(one.data for one in inputs))


def inner(a, b):
    return sum(float(np.sum(one * other)) for one, other in zip(a, b, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode_is_the_transpose_of_reverse_mode(name):
    """⟨s, Jt⟩ = ⟨Jᵀs, t⟩, and the Hessian of ⟨s, y⟩ is symmetric: ⟨u, Ht⟩ = ⟨t, Hu⟩, by forward over reverse."""
    tape, inputs, output, seed = recorded(name)
    rng = np.random.default_rng(2)
    u, t = ([rng.standard_normal(one.shape) for one in inputs] for _ in range(2))
    (change,), _ = jvp(tape, (output,), inputs, t)
    grads, tape = gradient(tape, output, inputs, seed)
    assert inner([seed], [change.data]) == pytest.approx(inner([one.data for one in grads], t), rel=1e-9, abs=1e-9)
    of_t, tape = jvp(tape, grads, inputs, t)
    of_u, tape = jvp(tape, grads, inputs, u)
    one, other = inner([a.data for a in of_t], u), inner([a.data for a in of_u], t)
    assert one == pytest.approx(other, rel=1e-9, abs=1e-9)
    back, tape = gradient(tape, grads, inputs, t)  # Hessians are symmetric: reverse over reverse is the same
    for first, second in zip(of_t, back, strict=True):
        np.testing.assert_allclose(first.data, second.data, rtol=1e-9, atol=1e-9)


TORCH = {
    "tanh": (nn.tanh, "tanh"),
    "sigmoid": (nn.sigmoid, "sigmoid"),
    "softplus": (nn.softplus, "nn.functional.softplus"),
    "silu": (nn.silu, "nn.functional.silu"),
    "mish": (nn.mish, "nn.functional.mish"),
    "gelu": (nn.gelu, "nn.functional.gelu"),
    "relu": (autograd.relu, "relu"),
    "exp": (autograd.exp, "exp"),
    "erf": (lambda t, x: autograd.record(t, autograd.operations.ERF, x), "erf"),
}


@pytest.mark.parametrize("name", TORCH)
def test_derivatives_up_to_the_fourth_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    ours, theirs = TORCH[name]
    x = np.random.default_rng(0).standard_normal(40) * 2
    variable, tape = new_variable(new_tape(), x)
    value, tape = ours(tape, variable)
    function = torch
    for part in theirs.split("."):
        function = getattr(function, part)
    tensor = torch.tensor(x, requires_grad=True)
    expected = function(tensor)
    for order in range(1, 5):
        value, tape = gradient(tape, value, variable, np.ones(40))
        if expected.requires_grad:
            (expected,) = torch.autograd.grad(expected.sum(), tensor, create_graph=True)
        else:
            expected = torch.zeros_like(expected)  # PyTorch's chain ends where a slope is constant
        np.testing.assert_allclose(
            value.data, expected.detach().numpy(), rtol=1e-9, atol=1e-10 * 10**order, err_msg=f"{name}, order {order}"
        )


def network(tape, x, sizes=(3, 5, 1), seed=0):
    rng = np.random.default_rng(seed)
    layers = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        layer, tape = nn.linear(tape, fan_in, fan_out, rng=rng, dtype="float64")
        x, tape = nn.linear_forward(tape, layer, x)
        if i < len(sizes) - 2:
            x, tape = nn.tanh(tape, x)
        layers.append(layer)
    return x, layers, tape


def test_a_network_has_the_hessian_and_the_products_of_pytorch():
    torch = pytest.importorskip("torch")
    x, tape = new_variable(new_tape(), np.random.default_rng(1).standard_normal((1, 3)))
    y, layers, tape = network(tape, x)
    tensors = [(torch.tensor(layer.w.data.copy()), torch.tensor(layer.b.data.copy())) for layer in layers]

    def function(x):
        hidden = torch.tanh(x @ tensors[0][0].T + tensors[0][1])
        return (hidden @ tensors[1][0].T + tensors[1][1]).sum()

    at = torch.tensor(x.data.copy())
    expected = torch.autograd.functional.hessian(function, at).numpy()
    whole, tape = hessian(tape, y, x)
    assert whole.shape == (1, 3, 1, 3)
    np.testing.assert_allclose(whole.data, expected, rtol=1e-10, atol=1e-12)
    vector = np.array([[1.0, -2.0, 0.5]])
    product, tape = hvp(tape, y, x, vector)
    np.testing.assert_allclose(product.data, np.einsum("abcd,cd->ab", expected, vector), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("count", [2, 7])
def test_a_jacobian_by_rows_and_by_columns(count):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((count, 4))
    x, tape = new_variable(new_tape(), rng.standard_normal((4, 1)))
    matrix, tape = autograd.new_constant(tape, a)
    y, tape = autograd.matmul(tape, matrix, x)
    found, _ = jacobian(tape, y, x)
    assert found.shape == (count, 1, 4, 1)
    np.testing.assert_allclose(found.data[:, 0, :, 0], a, rtol=1e-12)


def test_what_does_not_depend_has_zeros_and_single_and_several_are_told_apart():
    x, tape = new_variable(new_tape(), [1.0, 2.0])
    y, tape = new_variable(tape, [[3.0]])
    z, tape = autograd.mul(tape, x, x)
    (of_x, of_y), tape = gradient(tape, (z,), (x, y), [np.ones(2, "f4")])
    assert of_x.data.tolist() == [2, 4]
    assert of_y.data.tolist() == [[0]]
    assert jvp(tape, y, x, np.ones(2, "f4")).value.data.tolist() == [[0]]
    assert jacobian(tape, y, x).value.data.tolist() == [[[0, 0]]]


def test_several_outputs_are_added_and_seeds_may_be_variables():
    x, tape = new_variable(new_tape(), np.array(3.0))
    w, tape = new_variable(tape, np.array(5.0))
    square, tape = autograd.mul(tape, x, x)
    cube, tape = autograd.mul(tape, square, x)
    grad, tape = gradient(tape, (square, cube), x, (w, np.array(2.0)))
    assert float(grad.data) == 5 * 6 + 2 * 27
    assert float(gradient(tape, grad, w).value.data) == 6
    between, tape = gradient(tape, cube, square)
    assert float(between.data) == 3


def test_constants_and_intermediate_results_may_be_inputs():
    x, tape = autograd.new_constant(new_tape(), np.array([1.0, 2.0]))
    y, tape = autograd.exp(tape, x)
    grad, tape = gradient(tape, y, x, np.ones(2))
    np.testing.assert_allclose(grad.data, np.exp([1, 2]))
    assert jvp(tape, y, y, np.ones(2)).value.data.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("row", "gradients", "tangents"),
    [([-np.inf, -np.inf], [np.nan, np.nan], [0, 0]), ([np.inf, 1.0], [0, 0], [np.nan, 0])],
)
def test_logsumexp_of_infinite_elements_is_as_documented_in_both_modes(row, gradients, tangents):
    x, tape = new_variable(new_tape(), row)
    y, tape = autograd.logsumexp(tape, x)
    assert np.array_equal(gradient(tape, y, x).value.data, gradients, equal_nan=True)
    found = [jvp(tape, y, x, unit).value.data for unit in np.eye(2, dtype="f4")]
    assert np.array_equal(found, tangents, equal_nan=True)


def test_mistakes_are_named():
    x, tape = new_variable(new_tape(), [1.0, 2.0])
    y, tape = autograd.mul(tape, x, x)
    other, _ = new_variable(new_tape(), [1.0])
    with pytest.raises(error.DimensionError, match=r"gradient: an output has shape \(2,\), wanted a scalar"):
        gradient(tape, y, x)
    with pytest.raises(error.ShapeMismatch, match="gradient"):
        gradient(tape, y, x, [1.0])
    with pytest.raises(error.DtypeError, match="gradient"):
        gradient(tape, y, x, np.ones(2))
    with pytest.raises(error.ForeignVariable, match="gradient"):
        gradient(tape, y, other, [1.0, 1.0])
    with pytest.raises(error.InvalidValue, match="gradient: no inputs"):
        gradient(tape, y, ())
    with pytest.raises(error.InvalidValue, match="gradient: got 1 seed for 2 outputs; give one seed for each output"):
        gradient(tape, (y, y), x, [[1.0, 1.0]])
    with pytest.raises(error.InvalidValue, match="jvp: got 2 tangents for 1 input; give one tangent for each input"):
        jvp(tape, y, (x,), [[1.0, 1.0], [1.0, 1.0]])
    with pytest.raises(error.InvalidValue, match="gradient: got a float for 2 outputs"):
        gradient(tape, (y, y), x, 1.0)
    with pytest.raises(error.InvalidValue, match="jvp: an input has no tangent"):
        jvp(tape, y, x, None)
    with pytest.raises(error.InvalidValue, match="gradient: got list where a tape belongs"):
        gradient([], y, x)
    own = autograd.operations.Operation("own", lambda x: x, lambda x: x + 1, (lambda do, grad, out, x: grad,))
    z, tape = autograd.record(tape, own, x)
    with pytest.raises(error.TensorError, match="'own' has none"):
        jvp(tape, z, x, np.ones(2, "f4"))


@pytest.mark.parametrize("ord", [1, 1.5, 2, 3])
@pytest.mark.parametrize("size", [0.0, 1e-25])
def test_derivatives_are_0_where_a_norm_is(ord, size):
    """Squares and cubes of 1e-25 vanish in float32."""
    x, tape = new_variable(new_tape(), np.full((2, 2), size, "f4"))
    length, tape = autograd.norm(tape, x, ord=ord, axis=1)
    assert bool(length.data.any()) is (size > 0 and ord < 2)
    total, tape = autograd.sum(tape, length)
    found = [autograd.backward(tape, total)[x]]
    found += [function(tape, total, x).value.data for function in (gradient, hessian)]
    found += [function(tape, total, x, np.ones((2, 2), "f4")).value.data for function in (jvp, hvp)]
    if not length.data.any():
        assert not np.any(np.concatenate([one.ravel() for one in found]))
    else:
        assert np.isfinite(found[0]).all()


def test_a_norm_of_some_rows_that_vanish_leaves_the_others(dtype):
    x, tape = new_variable(new_tape(), np.array([[0.0, 0.0], [3.0, 4.0], [np.nan, 1.0]], dtype))
    length, tape = autograd.norm(tape, x, axis=1)
    total, tape = autograd.sum(tape, length)
    slope, tape = gradient(tape, total, x)
    wanted = np.array([[0, 0], [3 * (1 / length.data[1]), 4 * (1 / length.data[1])], [np.nan, np.nan]], dtype)
    assert np.array_equal(slope.data, wanted, equal_nan=True)
    bends, tape = hvp(tape, total, x, np.ones((3, 2), dtype))
    np.testing.assert_allclose(bends.data[:2], [[0, 0], [4 / 125, -3 / 125]], rtol=1e-4)
    cubes, tape = autograd.norm(tape, x, ord=3, axis=1)
    assert cubes.data[:1].tobytes() == np.zeros(1, dtype).tobytes()  # no negative zero
    assert np.isnan(cubes.data[2])
