"""Checks gradients along a random direction against central differences of the same function in float64."""

import numpy as np

from viva_tensor import autograd

# Central differences in float64 with this step are exact to about 1e-9 of the function's scale; the gradient under test
# then has only its own rounding: a few hundred operations of unit roundoff 6e-8 or 1e-16.
STEP = 1e-5
TOLERANCE = {"float32": 2e-4, "float64": 1e-6}


def check_gradient(function, arrays, rng, dtype):
    """`function(tape, *variables) -> Traced`, of any output shape; `arrays` are float64."""
    seed = None

    def value(points, kind):
        variables, tape = [], autograd.new_tape()
        for point in points:
            variable, tape = autograd.new_variable(tape, point.astype(kind))
            variables.append(variable)
        result, tape = function(tape, *variables)
        return result, variables, tape

    result, variables, tape = value(arrays, dtype)
    seed = rng.standard_normal(result.data.shape)
    grads = autograd.backward(tape, result, seed=seed.astype(dtype))
    directions = [rng.standard_normal(array.shape) for array in arrays]
    for variable, array in zip(variables, arrays, strict=True):
        assert grads[variable].shape == array.shape
        assert grads[variable].dtype == dtype
    found = sum(float((grads[v].astype("f8") * d).sum()) for v, d in zip(variables, directions, strict=True))

    def along(t):
        moved = [a + t * d for a, d in zip(arrays, directions, strict=True)]
        return float((value(moved, "f8")[0].data * seed).sum())

    wanted = (along(STEP) - along(-STEP)) / (2 * STEP)
    scale = sum(float(np.abs(grads[v] * d).sum()) for v, d in zip(variables, directions, strict=True))
    assert abs(found - wanted) <= TOLERANCE[np.dtype(dtype).name] * (scale + abs(wanted)) + 1e-8
