"""The gradients of each operation of the tape in float64 by NumPy, each with what bounds a kernel's error."""

import math

import numpy as np

from support.reference_values import (
    ERFC,
    Found,
    bend,
    exact,
    kept,
    matmul,
    moments,
    norm,
    one_hot,
    part,
    pieces,
    sigmoid,
    summed,
)


def pairwise(rule):
    """Gradients of broadcast operands: a rule gives what flows to each, element by element."""
    return lambda g, a, b: [summed(found, own.shape) for found, own in zip(rule(g, a, b), (a, b), strict=True)]


def shares(a, b):
    return np.where(a > b, 1.0, np.where(a == b, 0.5, 0.0))


def sum_backward(mean):
    def rule(g, x, axis, keepdims):
        axes = tuple(range(x.ndim)) if axis is None else tuple(i % x.ndim for i in np.atleast_1d(axis))
        spread = np.broadcast_to(g.reshape([1 if i in axes else n for i, n in enumerate(x.shape)]), x.shape)
        return [exact(spread / (math.prod(x.shape[i] for i in axes) or 1) if mean else spread)]

    return rule


def softmax_backward(g, x):
    _, shifted, _, p = pieces(x)
    size = p * (np.abs(g) + (np.abs(g) * p * (1 - shifted)).sum(-1, keepdims=True)) * (1 - shifted)
    return [Found(p * (g - (g * p).sum(-1, keepdims=True)), size, x.shape[-1])]


def log_softmax_backward(g, x):
    _, shifted, total, p = pieces(x)
    size = np.abs(g) + p * np.abs(g).sum(-1, keepdims=True) * (1 + total - shifted)
    return [Found(g - p * g.sum(-1, keepdims=True), size, x.shape[-1])]


def normalize_backward(g, x, epsilon):
    mean, spread, size = moments(x, epsilon)
    y = (x - mean) / spread
    value = (g - g.mean(-1, keepdims=True) - y * (g * y).mean(-1, keepdims=True)) / spread
    mixed = (np.abs(g) * (np.abs(x) + size)).mean(-1, keepdims=True)
    sizes = (np.abs(g) + np.abs(g).mean(-1, keepdims=True)) / spread + (np.abs(x) + size) * mixed / spread**3
    return [Found(value, sizes * (1 + size / spread), x.shape[-1])]


def cross_entropy_backward(g, x, target):
    _, shifted, total, p = pieces(x)
    t, g = one_hot(x, target), g[:, None]
    to_x = Found(g * (p * t.sum(1, keepdims=True) - t), np.abs(g) * (p * (1 - shifted) + t), x.shape[1])
    if target.ndim == 1:
        return [to_x, exact(np.zeros(target.shape))]
    return [to_x, Found(-g * (shifted - total), np.abs(g) * (1 + total - shifted), x.shape[1])]


def binary_cross_entropy_backward(g, x, target):
    p = sigmoid(x)
    return [Found(g * (p - target), np.abs(g) * (p + target)), exact(-g * x)]


def mean_squared_error_backward(g, p, t):
    value = 2 * g / max(p.size, 1) * (p - t)
    return [exact(value, 4), exact(-value, 4)]


def silu_backward(g, x):
    p = sigmoid(x)
    return [Found(g * p * (1 + x * (1 - p)), np.abs(g) * p * (1 + np.abs(x)))]


def mish_backward(g, x):
    t = np.tanh(np.logaddexp(x, 0))
    bent = x * (1 - t * t) * sigmoid(x)
    return [Found(g * (t + bent), np.abs(g) * (t + np.abs(bent)))]


def gelu_backward(g, x):
    density, cdf = np.exp(-x * x / 2) / math.sqrt(2 * math.pi), ERFC(-x / math.sqrt(2)) / 2
    return [Found(g * (cdf + x * density), np.abs(g) * (cdf + np.abs(x) * density) * (1 + x**2))]


def gelu_tanh_backward(g, x):
    p, slope = sigmoid(bend(x)), 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    size = p * (1 + np.abs(x) * slope) * (1 + np.abs(bend(x)))
    return [Found(g * p * (1 + x * (1 - p) * slope), np.abs(g) * size)]


def slice_backward(g, x, spans):
    value = np.zeros(x.shape)
    part(value, spans)[...] = g
    return [exact(value)]


def from_each(g, axis, starts):
    """The sums from each element to the end of its run."""
    parts = [np.flip(np.flip(run, axis).cumsum(axis), axis) for run in np.split(g, starts, axis)]
    return np.concatenate(parts, axis)


def extreme_backward(reduced):
    def rule(g, x, axis, keepdims):
        mask = x == reduced(x, axis, keepdims=True)
        whole = g.reshape(reduced(x, axis, keepdims=True).shape)
        return [exact(mask * whole / mask.sum(axis, keepdims=True))]

    return rule


def norm_backward(g, x, axis, keepdims):
    size = norm(x, axis, True).value
    return [exact(np.where(x == 0, 0, x * (g.reshape(size.shape) / size)), x.size)]


def take_backward(g, x, indices, axis):
    value, size = np.zeros(x.shape), np.zeros(x.shape)
    for total, grad in ((value, g), (size, np.abs(g))):
        np.add.at(total, (slice(None),) * axis + (indices.astype(int),), grad)
    return [Found(value, size, indices.size), None]


def embedding_bag_backward(g, table, indices, weights):
    places, value, size = indices.astype(int), np.zeros(table.shape), np.zeros(table.shape)
    for total, grad, factors in ((value, g, weights), (size, np.abs(g), np.abs(weights))):
        np.add.at(total, places, factors[..., None] * grad[:, None])
    rows = table[places]
    of_weights = Found((rows * g[:, None]).sum(2), (np.abs(rows) * np.abs(g)[:, None]).sum(2), table.shape[1])
    return [Found(value, size, indices.size), None, of_weights]


def concatenate_backward(g, *arrays, axis):
    return [exact(own) for own in np.split(g, np.cumsum([array.shape[axis] for array in arrays])[:-1], axis)]


def matmul_backward(g, a, b):
    return [matmul(g, b.T), matmul(a.T, g)]


def batch_matmul_backward(g, a, b):
    a_turned, b_turned = a.swapaxes(-1, -2), b.swapaxes(-1, -2)
    da = Found(g @ b_turned, np.abs(g) @ np.abs(b_turned), g.shape[-1])
    db = Found(a_turned @ g, np.abs(a_turned) @ np.abs(g), g.shape[-2])
    return [summed(found, own.shape) for found, own in ((da, a), (db, b))]


def linear_backward(g, x, w, b):
    return [matmul(g, w), matmul(g.T, x), exact_sum(g, 0)]


def exact_sum(x, axis):
    return Found(x.sum(axis), np.abs(x).sum(axis), x.shape[axis])


def each(slope):
    """Gradient of an operation of each element, from its slope at x and the magnitude of what makes it."""

    def rule(g, x, **attributes):
        value, size = slope(x, **attributes)
        return [Found(g * value, np.abs(g) * size)]

    return rule


def chained(slope):
    """As `alone`, with 0 for a gradient of 0 also where the slope is infinite."""

    def rule(g, x, **attributes):
        return [exact(np.where(g == 0, 0, g * slope(x, **attributes)))]

    return rule


def alone(slope):
    return each(lambda x, **attributes: (slope(x, **attributes), np.abs(slope(x, **attributes))))


BACKWARD = {
    "add": pairwise(lambda g, a, b: (exact(g), exact(g))),
    "sub": pairwise(lambda g, a, b: (exact(g), exact(-g))),
    "mul": pairwise(lambda g, a, b: (exact(g * b), exact(g * a))),
    "div": pairwise(lambda g, a, b: (exact(np.where(g == 0, 0, g / b)), exact(np.where(g == 0, 0, -g * a / b / b)))),
    "maximum": pairwise(lambda g, a, b: (exact(g * shares(a, b)), exact(g * shares(b, a)))),
    "minimum": pairwise(lambda g, a, b: (exact(g * shares(b, a)), exact(g * shares(a, b)))),
    **dict.fromkeys(("less", "less_equal", "equal"), pairwise(lambda g, a, b: (exact(g * 0), exact(g * 0)))),
    "chosen": pairwise(lambda g, x, condition: (exact(np.where(condition != 0, g, 0)), exact(g * 0))),
    "rejected": pairwise(lambda g, x, condition: (exact(np.where(condition != 0, 0, g)), exact(g * 0))),
    "at_least": alone(lambda x, bound: (x >= bound) * 1.0),
    "at_most": alone(lambda x, bound: (x <= bound) * 1.0),
    "sign": alone(np.zeros_like),
    "sin": alone(np.cos),
    "cos": alone(lambda x: -np.sin(x)),
    "log_cosh": each(lambda x: (np.tanh(x), np.abs(np.tanh(x)))),
    "elu": alone(lambda x, alpha: np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))),
    "scale": alone(lambda x, factor: np.full(x.shape, factor)),
    "abs": alone(np.sign),
    "sqrt": chained(lambda x: 0.5 / np.sqrt(x)),
    "exp": chained(np.exp),
    "log": chained(lambda x: 1 / x),
    "pow": chained(lambda x, exponent: exponent * x ** (exponent - 1) if exponent else np.zeros(x.shape)),
    "erf": each(lambda x: (2 / math.sqrt(math.pi) * np.exp(-x * x), 2 * np.exp(-x * x) * (1 + x * x))),
    "relu": alone(lambda x: (x > 0) * 1.0),
    "leaky_relu": alone(lambda x, slope: np.where(x > 0, 1.0, slope)),
    "sigmoid": each(lambda x: (sigmoid(x) * sigmoid(-x), sigmoid(x))),
    "tanh": each(lambda x: (1 - np.tanh(x) ** 2, 1 + np.tanh(x) ** 2)),
    "softplus": alone(sigmoid),
    "silu": silu_backward,
    "mish": mish_backward,
    "gelu": gelu_backward,
    "gelu_tanh": gelu_tanh_backward,
    "huber": alone(lambda x, delta: np.clip(x, -delta, delta)),
    "softmax": softmax_backward,
    "log_softmax": log_softmax_backward,
    "normalize": normalize_backward,
    "cross_entropy": cross_entropy_backward,
    "binary_cross_entropy": binary_cross_entropy_backward,
    "mean_squared_error": mean_squared_error_backward,
    "matmul": matmul_backward,
    "batch_matmul": batch_matmul_backward,
    "linear": linear_backward,
    "transpose": lambda g, x, axes: [exact(g.transpose(None if axes is None else np.argsort(axes)))],
    "reshape": lambda g, x, shape: [exact(g.reshape(x.shape))],
    "slice": slice_backward,
    "take": take_backward,
    "embedding_bag": embedding_bag_backward,
    "max": extreme_backward(np.max),
    "min": extreme_backward(np.min),
    "norm": norm_backward,
    "cumsum": lambda g, x, axis, starts: [
        Found(from_each(g, axis, starts), from_each(np.abs(g), axis, starts), x.shape[axis])
    ],
    "stop_gradient": lambda g, x: [exact(0 * x)],
    "pad": lambda g, x, widths, value: [
        exact(g[tuple(slice(before, before + size) for size, (before, _) in zip(x.shape, widths, strict=True))])
    ],
    "expand_dims": lambda g, x, axis: [exact(g.reshape(x.shape))],
    "squeeze": lambda g, x, axes: [exact(g.reshape(x.shape))],
    "concatenate": concatenate_backward,
    "sum": sum_backward(False),
    "mean": sum_backward(True),
    "sum_of_squares": lambda g, x: [exact(2 * g * x)],
    "dropout": lambda g, x, rate, seed: [exact(np.where(kept(x.shape, rate, seed), g / (1 - rate), 0))],
}
