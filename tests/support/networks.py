"""Networks for tests."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from viva_tensor import autograd, nn


def network(rng: np.random.Generator, dtype: Any, sizes: Sequence[int]) -> tuple[tuple[nn.Linear, ...], autograd.Tape]:
    """Record linear layers between consecutive sizes, with biases that are not zero; return them and their tape."""
    tape, layers = autograd.new_tape(), []
    for inputs, outputs in pairwise(sizes):
        layer, tape = nn.linear(tape, inputs, outputs, rng=rng, dtype=dtype)
        b, tape = autograd.new_variable(tape, rng.standard_normal(outputs).astype(dtype))
        layers.append(nn.Linear(layer.w, b))
    return tuple(layers), tape
