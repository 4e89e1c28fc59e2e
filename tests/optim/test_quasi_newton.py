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


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_every_point_that_is_tried_is_scipys(scale):
    """The first step has the length 1 for any gradient, also one that is shorter."""

    def recorded(points):
        def function(x):
            points.append(x.copy())
            return scale * scipy_optimize.rosen(x), scale * scipy_optimize.rosen_der(x)

        return function

    ours, theirs = [], []
    lbfgs(recorded(ours), np.array([1.3, 0.7, 0.8]), max_iterations=8)
    scipys(recorded(theirs), np.array([1.3, 0.7, 0.8]), maxiter=8)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_so_is_every_point_once_the_steps_before_are_forgotten():
    """Then the first step that is tried is the whole gradient."""

    def recorded(points):
        def function(x):
            points.append(np.array(x))
            return falling_for_ever(points[-1])

        return function

    ours, theirs = [], []
    lbfgs(recorded(ours), [1.0, 2.0], max_evaluations=30)
    scipys(recorded(theirs), [1.0, 2.0], maxfun=30)
    assert len(ours) >= 35
    np.testing.assert_allclose(ours[:35], theirs[:35], rtol=1e-9)


@pytest.mark.parametrize("exponent", [0, 40, 60, 100])
def test_a_multiple_of_a_function_has_the_same_minimum(exponent):
    """Whether a step is remembered must not depend on the units of the function."""
    factor, matrix, middle = 2.0**exponent, np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([3.0, -2.0])

    def function(x):
        slope = factor * (matrix @ (x - middle))
        return 0.5 * float((x - middle) @ slope), slope

    found, theirs = optim.lbfgs(function, np.zeros(2)), scipys(function, np.zeros(2))
    np.testing.assert_allclose(found.x, middle, rtol=1e-6)
    assert found.iterations == theirs.nit


def test_a_loss_without_inputs_and_shared_parameters(rng):
    w, tape = autograd.new_variable(autograd.new_tape(), np.array([2.0, -1.0]))
    off, tape = autograd.sub(tape, w, np.array([1.0, 3.0]))
    loss, tape = autograd.norm(tape, off)
    loss, tape = autograd.square(tape, loss)
    objective = program.compile_objective(tape, loss=loss, params={"a": w, "b": [w, w]})
    found = lbfgs(objective, objective.start)
    params, tape = objective.params(autograd.new_tape(), found.x)
    assert params["a"] is params["b"][0] is params["b"][1]
    assert objective.start.shape == (2,)
    assert np.allclose(params["a"].data, [1.0, 3.0])


def test_a_gradient_may_be_written_over_the_last_one():
    buffer, scales = np.empty(3), np.array([1.0, 10.0, 100.0])

    def reused(x):
        np.multiply(scales, x - 1, out=buffer)
        return 0.5 * float(scales @ (x - 1) ** 2), buffer

    found = lbfgs(reused, np.zeros(3))
    assert found.evaluations < 30
    assert np.allclose(found.x, 1, atol=1e-5)


def test_the_argument_may_be_overwritten():
    def careless(x):
        value = (x**2).sum()
        x *= 2
        return value, x

    found, careful = lbfgs(careless, [3.0, 1.0]), lbfgs(lambda x: ((x**2).sum(), 2 * x), [3.0, 1.0])
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, careful, strict=True))


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


@pytest.mark.parametrize("features", [1, 2])
@pytest.mark.parametrize("recorded", [1, 2, 3])
def test_a_vector_as_long_as_the_recorded_rows_is_not_taken_for_a_batch(recorded, features, rng):
    w, tape = autograd.new_variable(autograd.new_tape(), np.arange(1.0, features + 1)[:, None])
    x, tape = autograd.new_constant(tape, np.ones((recorded, features)))
    y, tape = autograd.matmul(tape, x, w)
    squares, tape = autograd.square(tape, y)
    loss, tape = autograd.mean(tape, squares)
    objective = program.compile_objective(tape, loss=loss, params=w, inputs=(x,))
    for rows in (1, 2, 3, 4):
        X = rng.standard_normal((rows, features))
        value, gradient = objective(objective.start, X)
        outputs = X @ objective.start
        assert value == pytest.approx((outputs**2).mean())
        assert gradient == pytest.approx(2 / rows * X.T @ outputs)


def test_nor_is_it_one_beside_an_input_without_rows(rng):
    scale, tape = autograd.new_constant(autograd.new_tape(), np.float64(2.0))
    x, tape = autograd.new_constant(tape, np.ones((1, 3)))
    w, tape = autograd.new_variable(tape, np.ones((3, 1)))
    y, tape = autograd.matmul(tape, x, w)
    y, tape = autograd.mul(tape, y, scale)
    loss, tape = autograd.mean(tape, y)
    objective = program.compile_objective(tape, loss=loss, params=w, inputs=(scale, x))
    X = rng.standard_normal((5, 3))
    value, gradient = objective(objective.start, 3.0, X)
    assert value == pytest.approx(3 * X.sum() / 5)
    assert gradient == pytest.approx(3 * X.mean(axis=0))


def test_why_it_stops():
    assert lbfgs(rosenbrock, [-1.2, 1.0], max_iterations=3).reason == "the most iterations were made"
    few = lbfgs(rosenbrock, [-1.2, 1.0], max_evaluations=5)
    assert (few.converged, few.reason) == (False, "the most evaluations were made")
    assert few.evaluations >= 5
    wrong = lbfgs(lambda x: (float(x @ x), -2 * x), np.ones(2))
    assert (wrong.converged, wrong.reason) == (False, "no step along the gradient decreases the value")
    assert np.array_equal(wrong.x, np.ones(2))
    edge = lbfgs(lambda x: (float(x @ x) if x @ x < 4 else math.nan, -2 * x), np.ones(2))
    assert edge.reason == wrong.reason

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


def root(x):
    return np.sqrt(x - 1).sum(), 0.5 / np.sqrt(x - 1)


def steep_root(x):
    return np.sqrt(abs(x - 1)).sum() - x.sum() * (x < 1).any(), 0.5 / np.sqrt(x - 1)


def exponential(x):
    return -np.exp(x).sum(), -np.exp(x)


def square_beyond_1(x):
    return x @ x if x @ x >= 1 else math.nan, 2 * x


def falling_for_ever(x):
    return -(x**4).sum(), -4 * x**3


@pytest.mark.parametrize(
    ("function", "start", "reason"),
    [
        (root, [5.0], "the value is not finite along the line"),
        (exponential, [0.0, 1.0], "the value is not finite along the line"),
        (exponential, [300.0], "the slope is not finite along the line"),
        (exponential, [460.0], "the slope is not finite along the line"),
        (steep_root, [5.0], "the gradient is not finite along the line"),
        (square_beyond_1, [1.0], "the value is not finite along the line"),
        (square_beyond_1, [5.0], "the value is not finite along the line"),
        (falling_for_ever, [1.0, 2.0], "the value is not finite along the line"),
        (falling_for_ever, [3.0, 1.0, 2.0], "no step along the gradient fulfils the Wolfe conditions"),
    ],
)
@np.errstate(all="ignore")
def test_a_search_without_a_step_leaves_the_lowest_finite_point(function, start, reason):
    seen = []

    def noted(x):
        value, gradient = function(x)
        seen.append((value, *x) if np.isfinite([value, *gradient]).all() else (math.inf,))
        return value, gradient

    found = lbfgs(noted, start)
    assert (found.converged, found.reason, found.evaluations) == (False, reason, len(seen))
    assert (found.value, *found.x) == min(seen)
    assert np.array_equal(found.gradient, function(found.x)[1])


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"history": 0}, error.InvalidValue, "history=0, wanted a whole number of at least 1"),
        ({"max_iterations": 1.5}, error.InvalidValue, "max_iterations=1.5"),
        ({"gradient_tolerance": -1}, error.InvalidValue, "gradient_tolerance"),
        ({"start": [[1.0]]}, error.DimensionError, r"start has shape \(1, 1\)"),
        ({"start": ["a"]}, error.DtypeError, "start"),
        ({"start": [math.nan, 0.0]}, error.InvalidValue, "the value at the start is nan; start where the function is"),
        ({"function": lambda x: (1.0, x * math.nan)}, error.InvalidValue, "the gradient at the start contains nan"),
        ({"function": lambda x: (1.0, [0, -math.inf])}, error.InvalidValue, "the gradient at the start contains -inf"),
        ({"function": 3}, error.InvalidValue, "function is a int; give a function"),
        ({"function": lambda x: 1 / 0, "callback": 3}, error.InvalidValue, "callback=3, wanted a function or None"),
        ({"function": lambda x: (0.0, np.zeros(3))}, error.ShapeMismatch, "the gradient has the shape of the start"),
    ],
)
def test_bad_arguments_are_refused(change, kind, message):
    arguments = {"function": quadratic, "start": [1.0, 2.0], **change}
    with pytest.raises(kind, match=message):
        lbfgs(**arguments)


@pytest.mark.parametrize(
    ("result", "got"),
    [
        (1.0, r"a float"),
        (None, r"None"),
        (np.float64(1.0), r"a float64"),
        ((1.0, np.zeros(2), 0), r"3 results"),
        ((1.0, None), r"the gradient None"),
        ((np.array([1.0]), np.zeros(2)), r"a value of shape \(1,\)"),
        ((None, np.zeros(2)), r"the value None"),
        ((1j, np.zeros(2)), r"the value 1j"),
        ((np.complex64(1), np.zeros(2)), r"the value .*1\+0j.*"),
        (("1", np.zeros(2)), r"the value '1'"),
        ((np.array("1", object), np.zeros(2)), r"the value '1'"),
        ((True, np.zeros(2)), r"the value True"),
        ((10**400, np.zeros(2)), r"the value an int of 1329 bits"),
    ],
)
def test_what_is_no_value_with_a_gradient_is_refused(result, got):
    with pytest.raises(error.InvalidValue, match=rf"returned {got}, wanted \(value, gradient\); return a number"):
        lbfgs(lambda x: result, [1.0, 2.0])


@pytest.mark.parametrize("number", [np.float32, np.array, lambda value: np.array(value, object)])
def test_a_value_may_be_any_number(number):
    assert lbfgs(lambda x: [number(float(x @ x)), list(2 * x)], [1.0, 2.0]).converged


def test_objectives_refuse_what_is_no_loss_and_no_vector(rng):
    tape, loss, layers, (x, y) = recorded_network("f4", rng)
    with pytest.raises(error.DimensionError, match="reduce it first"):
        program.compile_objective(tape, loss=x, params=layers)
    with pytest.raises(error.InvalidValue, match="no parameters"):
        program.compile_objective(tape, loss=loss, params=())
    with pytest.raises(error.InvalidValue, match="loss is a tuple, wanted one variable; give the loss itself"):
        program.compile_objective(tape, loss=(loss, loss), params=layers)
    for inputs in ((x, layers[0].w), (x, x)):
        with pytest.raises(error.InvalidValue, match="compile_objective: a variable is named twice among inputs and"):
            program.compile_objective(tape, loss=loss, params=layers, inputs=inputs)
    objective = program.compile_objective(tape, loss=loss, params=layers, inputs=(x, y))
    with pytest.raises(error.ShapeMismatch, match="an element for each of the parameters"):
        objective(objective.start[1:], x.data, y.data)
    with pytest.raises(error.ShapeMismatch, match="an element for each of the parameters"):
        objective.params(autograd.new_tape(), [1.0])
    for batch in ((), (x.data,), (x.data, y.data, y.data)):
        wanted = rf"got {len(batch)} inputs after the vector of parameters, wanted 2 of shapes \(80, 5\), \(80, 3\);"
        with pytest.raises(error.DimensionError, match=wanted):
            objective(objective.start, *batch)
    without = program.compile_objective(tape, loss=loss, params=layers)
    with pytest.raises(error.DimensionError, match="got 1 inputs after the vector of parameters, wanted none"):
        without(without.start, x.data)


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
