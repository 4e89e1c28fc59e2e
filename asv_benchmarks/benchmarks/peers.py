"""The same network in other libraries, for the scripts that measure them beside ours."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

Weights = list[tuple[np.ndarray, np.ndarray]]


def weights_of(widths: Sequence[int]) -> Weights:
    """Return random weights, [outputs, inputs], and zero biases of each layer, always the same."""
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((o, i), "f4") / np.float32(i**0.5), np.zeros(o, "f4")) for i, o in pairwise(widths)]


def torch_model(weights: Weights) -> Any:
    import torch

    layers: list[torch.nn.Module] = []
    for w, b in weights:
        layer = torch.nn.Linear(w.shape[1], w.shape[0])
        layer.weight.data, layer.bias.data = torch.from_numpy(w), torch.from_numpy(b)
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def jax_forward(weights: Any, x: Any) -> Any:
    import jax

    for w, b in weights[:-1]:
        x = jax.nn.relu(x @ w.T + b)
    return x @ weights[-1][0].T + weights[-1][1]
