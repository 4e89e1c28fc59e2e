"""Gradients of functions against central differences, at float64 points rounded to the dtype under test."""

from viva_tensor import autograd


def check_gradient(function, arrays, rng, dtype):
    """`function(tape, *variables) -> Traced`, of any output shape."""
    autograd.check_gradients(function, *(array.astype(dtype) for array in arrays), rng=rng)
