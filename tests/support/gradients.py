"""Gradients of functions against central differences, at float64 points rounded to the dtype under test."""

from viva_tensor import autograd


def check_gradient(function, arrays, rng, dtype):
    """`function(tape, *variables) -> Traced`, of any output shape."""
