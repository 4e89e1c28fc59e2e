"""L-BFGS: the steps of SciPy's on test functions and networks, stopping, and what is refused."""

import math

import numpy as np
import pytest

from viva_tensor import autograd, error, kernels, nn, optim, program
from viva_tensor.optim import lbfgs
from viva_tensor.optim.line_search import Point, strong_wolfe

scipy_optimize = pytest.importorskip("scipy.optimize")


def rosenbrock(x):
    return scipy_optimize.rosen(x), scipy_optimize.rosen_der(x)


def beale(x):
    a, b = x
    off = [c - a * (1 - b**k) for c, k in ((1.5, 1), (2.25, 2), (2.625, 3))]
    of_a = sum(-2 * one * (1 - b**k) for one, k in zip(off, (1, 2, 3), strict=True))
    of_b = sum(2 * one * a * k * b ** (k - 1) for one, k in zip(off, (1, 2, 3), strict=True))
    return sum(one**2 for one in off), np.array([of_a, of_b])


def powell(x):
    a, b, c, d = x
    value = (a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4
    first, second, third, fourth = 2 * (a + 10 * b), 10 * (c - d), 4 * (b - 2 * c) ** 3, 40 * (a - d) ** 3
    return value, np.array([first + fourth, 10 * first + third, second - 2 * third, -second - fourth])


def quadratic(x):
    scales = np.logspace(0, 3, len(x))
    return 0.5 * float(scales @ (x * x)), scales * x


FUNCTIONS = {
    "rosenbrock": (rosenbrock, [-1.2, 1.0]),
    "rosenbrock in 20 dimensions": (rosenbrock, [-1.0] * 20),
    "beale": (beale, [1.0, 1.0]),
    "powell": (powell, [3.0, -1.0, 0.0, 1.0]),
    "quadratic": (quadratic, [1.0] * 30),
    "at the minimum": (quadratic, [0.0] * 3),
}


def scipys(function, start, **options):
    return scipy_optimize.minimize(function, start, jac=True, method="L-BFGS-B", options={"maxcor": 10, **options})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_finds_what_scipy_finds_in_as_many_evaluations(name):
    function, start = FUNCTIONS[name]
    theirs, ours = scipys(function, start), lbfgs(function, start)
    assert ours.converged
    assert abs(ours.evaluations - theirs.nfev) <= max(2, 0.1 * theirs.nfev)
    assert ours.value <= max(theirs.fun * 2, 1e-8)
    assert np.allclose(ours.x, theirs.x, atol=1e-2)
    value, gradient = function(ours.x)
    assert ours.value == value
    assert np.array_equal(ours.gradient, gradient)


def recorded_network(dtype, rng, sizes=(5, 16, 3), rows=80):
    X = rng.standard_normal((rows, sizes[0])).astype(dtype)
    Y = np.sin(X[:, : sizes[-1]] * 2).astype(dtype)
    layers, tape = nn.mlp(autograd.new_tape(), sizes, rng=rng, activation="tanh", dtype=dtype)
    x, tape = autograd.new_constant(tape, X)
    y, tape = autograd.new_constant(tape, Y)
    out, tape = nn.mlp_forward(tape, layers, x, activation="tanh")
    loss, tape = nn.mse_loss(tape, out, y)
    return tape, loss, layers, (x, y)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_objective_has_the_bits_of_the_tape(threads, dtype, rng):
    tape, loss, layers, (x, y) = recorded_network(dtype, rng)
    with kernels.num_threads(threads):
        objective = program.compile_objective(tape, loss=loss, params=layers, inputs=(x, y))
        value, gradient = objective(objective.start, x.data, y.data)
        assert value == float(loss.data)
        grads = autograd.backward(tape, loss)
        assert np.array_equal(gradient, np.concatenate([grads[one].ravel() for layer in layers for one in layer]))
        fewer, _ = objective(objective.start, x.data[:10], y.data[:10])
        assert fewer != value
        again, _ = objective.params(autograd.new_tape(), objective.start)
        for ours, recorded in zip(optim.leaves(again), optim.leaves(layers), strict=True):
            assert np.array_equal(ours.data, recorded.data)
            assert ours.dtype == dtype


def test_a_network_is_fitted_as_by_scipy(rng):
    tape, loss, layers, (x, y) = recorded_network("f8", rng)
    objective = program.compile_objective(tape, loss=loss, params=layers, inputs=(x, y))
    seen = []
    ours = lbfgs(lambda v: objective(v, x.data, y.data), objective.start, max_iterations=60, callback=seen.append)
    theirs = scipys(lambda v: objective(v, x.data, y.data), objective.start, maxiter=60)
    assert ours.iterations == theirs.nit == len(seen) == 60
    assert abs(ours.evaluations - theirs.nfev) <= 0.1 * theirs.nfev
    assert ours.value == pytest.approx(theirs.fun, rel=0.05)
    assert [one.value for one in seen] == sorted((one.value for one in seen), reverse=True)


def test_a_loss_without_inputs_and_shared_parameters(rng):
    w, tape = autograd.new_variable(autograd.new_tape(), np.array([2.0, -1.0]))
    off, tape = autograd.sub(tape, w, np.array([1.0, 3.0]))
    loss, tape = autograd.norm(tape, off)
    loss, tape = autograd.square(tape, loss)
    objective = program.compile_objective(tape, loss=loss, params={"a": w, "b": [w]})
    found = lbfgs(objective, objective.start)
    params, tape = objective.params(autograd.new_tape(), found.x)
    assert params["a"] is params["b"][0]
    assert np.allclose(params["a"].data, [1.0, 3.0])


def test_a_gradient_may_be_written_over_the_last_one():
    buffer, scales = np.empty(3), np.array([1.0, 10.0, 100.0])

    def reused(x):
        np.multiply(scales, x - 1, out=buffer)
        return 0.5 * float(scales @ (x - 1) ** 2), buffer

    found = lbfgs(reused, np.zeros(3))
    assert found.evaluations < 30
    assert np.allclose(found.x, 1, atol=1e-5)


def test_losses_and_rows_of_one(rng):
    w, tape = autograd.new_variable(autograd.new_tape(), np.array([[1.0], [2.0]]))
    x, tape = autograd.new_constant(tape, np.ones((1, 2)))
    y, tape = autograd.matmul(tape, x, w)
    squares, tape = autograd.square(tape, y)
    loss, tape = autograd.mean(tape, squares, axis=1)
    objective = program.compile_objective(tape, loss=loss, params=w, inputs=(x,))
    assert objective(objective.start, np.ones((1, 2)))[0] == 9.0
    with pytest.raises(error.InvalidValue, match="make what is to be found with new_variable"):
        program.compile_objective(tape, loss=loss, params=y)


def test_why_it_stops():
    assert lbfgs(rosenbrock, [-1.2, 1.0], max_iterations=3).reason == "the most iterations were made"
    few = lbfgs(rosenbrock, [-1.2, 1.0], max_evaluations=5)
    assert (few.converged, few.reason) == (False, "the most evaluations were made")
    assert few.evaluations >= 5
    wrong = lbfgs(lambda x: (float(x @ x), -2 * x), np.ones(2))
    assert (wrong.converged, wrong.reason) == (False, "no step along the gradient decreases the value")
    assert np.array_equal(wrong.x, np.ones(2))

    def stop(found):
        if found.iterations == 4:
            raise StopIteration

    stopped = lbfgs(rosenbrock, [-1.2, 1.0], callback=stop)
    assert (stopped.iterations, stopped.reason) == (4, "the callback stopped it")
    assert lbfgs(quadratic, []).converged


def test_it_steps_back_from_where_a_function_is_not_finite():
    def barrier(x):
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.sum(x - np.log(1 - x))), 1 + 1 / (1 - x)  # beyond 1 there is nothing

    def other(x):
        value, slope = barrier(-x)
        return value + float(50 * (x @ x)), -slope + 100 * x

    found = lbfgs(other, [-0.9])
    assert found.converged
    assert abs(found.gradient).max() <= 1e-4


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"history": 0}, error.InvalidValue, "history=0; give a whole number of at least 1"),
        ({"max_iterations": 1.5}, error.InvalidValue, "max_iterations=1.5"),
        ({"gradient_tolerance": -1}, error.InvalidValue, "gradient_tolerance"),
        ({"start": [[1.0]]}, error.DimensionError, r"start has shape \(1, 1\)"),
        ({"start": ["a"]}, error.DtypeError, "start"),
        ({"start": [math.nan, 0.0]}, error.InvalidValue, "start where the function is finite"),
        ({"function": lambda x: (0.0, np.zeros(3))}, error.ShapeMismatch, "the gradient has the shape of the start"),
    ],
)
def test_bad_arguments_are_refused(change, kind, message):
    arguments = {"function": quadratic, "start": [1.0, 2.0], **change}
    with pytest.raises(kind, match=message):
        lbfgs(**arguments)


def test_objectives_refuse_what_is_no_loss_and_no_vector(rng):
    tape, loss, layers, (x, y) = recorded_network("f4", rng)
    with pytest.raises(error.DimensionError, match="reduce it first"):
        program.compile_objective(tape, loss=x, params=layers)
    with pytest.raises(error.InvalidValue, match="no parameters"):
        program.compile_objective(tape, loss=loss, params=())
    objective = program.compile_objective(tape, loss=loss, params=layers, inputs=(x, y))
    with pytest.raises(error.ShapeMismatch, match="an element for each of the parameters"):
        objective(objective.start[1:], x.data, y.data)
    with pytest.raises(error.ShapeMismatch, match="an element for each of the parameters"):
        objective.params(autograd.new_tape(), [1.0])


@pytest.mark.parametrize("step", [1e-3, 0.1, 1.0, 10.0])
def test_steps_of_the_line_search_fulfil_the_strong_wolfe_conditions(step):
    functions = [
        (lambda t: -t / (t * t + 2), lambda t: (t * t - 2) / (t * t + 2) ** 2),
        (lambda t: t**4 / 4 - 2 * t + np.cos(3 * t), lambda t: t**3 - 2 - 3 * np.sin(3 * t)),
    ]
    for value, slope in functions:
        start = Point(0.0, value(0.0), slope(0.0))
        found = strong_wolfe(lambda t, value=value, slope=slope: (value(t), slope(t)), start, step)
        assert found.value <= start.value + 1e-3 * found.step * start.slope
        assert abs(found.slope) <= 0.9 * abs(start.slope)
