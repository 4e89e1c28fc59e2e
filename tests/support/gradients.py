"""Gradients of functions against central differences, at float64 points rounded to the dtype under test."""


def check_gradient(function, arrays, rng, dtype):
    """`function(tape, *variables) -> Traced`, of any output shape."""
