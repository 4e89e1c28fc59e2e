"""Networks for tests."""

from itertools import pairwise

from viva_tensor import autograd, nn


def network(rng, dtype, sizes):
    """Linear layers between consecutive sizes, with biases that are not zero, and the tape that holds them."""
    tape, layers = autograd.new_tape(), []
    for inputs, outputs in pairwise(sizes):
        layer, tape = nn.linear(tape, inputs, outputs, rng=rng, dtype=dtype)
        b, tape = autograd.new_variable(tape, rng.standard_normal(outputs).astype(dtype))
        layers.append(nn.Linear(layer.w, b))
    return tuple(layers), tape
