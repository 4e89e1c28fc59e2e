"""The values of each operation of the tape in float64 by NumPy, each with what bounds a kernel's error."""

import math
from typing import NamedTuple

import numpy as np

ERFC = np.vectorize(math.erfc, otypes=["f8"])
ERF = np.vectorize(math.erf, otypes=["f8"])


class Found(NamedTuple):
    value: np.ndarray
    size: np.ndarray  # of what is added up
    terms: int = 1


def exact(value, terms=1):
    return Found(value, np.abs(value), terms)


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def summed(found, shape):
    """A gradient of a broadcast operand: summed to its shape."""
    lead = found.value.ndim - len(shape)
    axes = (*range(lead), *(lead + i for i, size in enumerate(shape) if size == 1))
    count = found.value.size // max(math.prod(shape), 1)
    value, size = (part.sum(axes).reshape(shape) for part in found[:2])
    return Found(value, size, found.terms + count)


def pieces(x):
    """Of rows: the maximum, the shifted row, the logarithm of its sum of exponentials, the softmax."""
    most = x.max(-1, keepdims=True, initial=-np.inf)
    shifted = x - most
    total = np.log(np.exp(shifted).sum(-1, keepdims=True))
    return most, shifted, total, np.exp(shifted - total)


def moments(x, epsilon):
    mean = x.mean(-1, keepdims=True)
    spread = np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + epsilon)
    return mean, spread, np.abs(x).mean(-1, keepdims=True)


def one_hot(x, target):
    return target if target.ndim == 2 else np.eye(x.shape[1])[target.astype(int)]


def kept(shape, rate, seed):
    """Which elements a dropout keeps: SplitMix64, written anew."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(1)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >= np.uint64(rate * 2.0**64)).reshape(shape)


def matmul(a, b):
    return Found(a @ b, np.abs(a) @ np.abs(b), a.shape[1])


def linear(x, w, b):
    return Found(x @ w.T + b, np.abs(x) @ np.abs(w.T) + np.abs(b), x.shape[1])


def reduction(mean):
    def reduced(x, axis, keepdims):
        total = x.sum(axis, keepdims=keepdims)
        count = x.size // max(total.size, 1)
        divisor = max(count, 1) if mean else 1
        return Found(total / divisor, np.abs(x).sum(axis, keepdims=keepdims) / divisor, count)

    return reduced


def normalize(x, epsilon):
    mean, spread, size = moments(x, epsilon)
    y = (x - mean) / spread
    return Found(y, (np.abs(x) + size) / spread + np.abs(y) * (1 + size / spread), x.shape[-1])


def softmax(x):
    _, shifted, _, p = pieces(x)
    return Found(p, p * (1 - shifted), x.shape[-1])


def log_softmax(x):
    _, shifted, total, _ = pieces(x)
    return Found(shifted - total, 1 + total - shifted, x.shape[-1])


def cross_entropy(x, target):
    most, shifted, total, _ = pieces(x)
    t = one_hot(x, target)
    return Found((t * (total - shifted)).sum(1), (t * (np.abs(most) + total + np.abs(x) + 1)).sum(1), x.shape[1])


def binary_cross_entropy(x, target):
    return Found(np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x))), np.abs(x) * (1 + target) + 1)


def norm(x, axis, keepdims):
    return exact(np.sqrt((x * x).sum(axis, keepdims=keepdims)), x.size)


def in_runs(x, axis, starts):
    """The sums up to each element, from the last start on."""
    return np.concatenate([run.cumsum(axis) for run in np.split(x, starts, axis)], axis)


def embedding_bag(table, indices, weights):
    rows = table[indices.astype(int)]
    total, size = ((a * b[..., None]).sum(1) for a, b in ((rows, weights), (np.abs(rows), np.abs(weights))))
    return Found(total, size, indices.shape[1])


def gelu(x):
    y = x * 0.5 * ERFC(-x / math.sqrt(2))
    return Found(y, np.abs(y) * (1 + x**2))


def log_cosh(x):
    small = np.log1p(2 * np.sinh(np.clip(x, -1, 1) / 2) ** 2)
    return np.where(np.abs(x) < 1, small, np.logaddexp(x, -x) - np.log(2))


def bend(x):
    return 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def gelu_tanh(x):
    y = x * sigmoid(bend(x))
    return Found(y, np.abs(y) * (1 + np.abs(bend(x))))


def part(x, spans):
    index = tuple(slice(start, None if start + n * step < 0 else start + n * step, step) for start, n, step in spans)
    return x[(*index, ...)]


FORWARD = {
    "add": lambda a, b: Found(a + b, np.abs(a) + np.abs(b)),
    "sub": lambda a, b: Found(a - b, np.abs(a) + np.abs(b)),
    "mul": lambda a, b: exact(a * b),
    "div": lambda a, b: exact(a / b),
    "maximum": lambda a, b: exact(np.maximum(a, b)),
    "minimum": lambda a, b: exact(np.minimum(a, b)),
    "less": lambda a, b: exact((a < b) * 1.0),
    "less_equal": lambda a, b: exact((a <= b) * 1.0),
    "equal": lambda a, b: exact((a == b) * 1.0),
    "chosen": lambda x, condition: exact(np.where(condition != 0, x, 0)),
    "rejected": lambda x, condition: exact(np.where(condition != 0, 0, x)),
    "at_least": lambda x, bound: exact(np.maximum(x, bound)),
    "at_most": lambda x, bound: exact(np.minimum(x, bound)),
    "sign": lambda x: exact(np.sign(x)),
    "sin": lambda x: exact(np.sin(x)),
    "cos": lambda x: exact(np.cos(x)),
    "elu": lambda x, alpha: exact(np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)),
    "log_cosh": lambda x: exact(log_cosh(x)),
    "scale": lambda x, factor: exact(x * factor),
    "abs": lambda x: exact(np.abs(x)),
    "sqrt": lambda x: exact(np.sqrt(x)),
    "exp": lambda x: exact(np.exp(x)),
    "log": lambda x: exact(np.log(x)),
    "pow": lambda x, exponent: exact(x**exponent),
    "erf": lambda x: exact(ERF(x)),
    "relu": lambda x: exact(np.maximum(x, 0)),
    "leaky_relu": lambda x, slope: exact(np.where(x > 0, x, slope * x)),
    "sigmoid": lambda x: exact(sigmoid(x)),
    "tanh": lambda x: exact(np.tanh(x)),
    "softplus": lambda x: exact(np.logaddexp(x, 0)),
    "silu": lambda x: exact(x * sigmoid(x)),
    "mish": lambda x: exact(x * np.tanh(np.logaddexp(x, 0))),
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "huber": lambda x, delta: Found(
        np.where(np.abs(x) <= delta, x * x / 2, delta * (np.abs(x) - delta / 2)),
        delta * np.abs(x) + x * x * (np.abs(x) <= delta),
    ),
    "softmax": softmax,
    "log_softmax": log_softmax,
    "normalize": normalize,
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "mean_squared_error": lambda p, t: exact(((p - t) ** 2).mean(), p.size),
    "matmul": matmul,
    "batch_matmul": lambda a, b: Found(a @ b, np.abs(a) @ np.abs(b), a.shape[-1]),
    "linear": linear,
    "transpose": lambda x, axes: exact(x.transpose(axes)),
    "reshape": lambda x, shape: exact(x.reshape(shape)),
    "slice": lambda x, spans: exact(part(x, spans)),
    "max": lambda x, axis, keepdims: exact(x.max(axis, keepdims=keepdims)),
    "min": lambda x, axis, keepdims: exact(x.min(axis, keepdims=keepdims)),
    "norm": norm,
    "cumsum": lambda x, axis, starts: Found(in_runs(x, axis, starts), in_runs(np.abs(x), axis, starts), x.shape[axis]),
    "stop_gradient": exact,
    "pad": lambda x, widths, value: exact(np.pad(x, widths, constant_values=value)),
    "take": lambda x, indices, axis: exact(np.take(x, indices.astype(int), axis)),
    "embedding_bag": embedding_bag,
    "expand_dims": lambda x, axis: exact(np.expand_dims(x, axis)),
    "squeeze": lambda x, axes: exact(x.squeeze(axes)),
    "concatenate": lambda *arrays, axis: exact(np.concatenate(arrays, axis)),
    "sum": reduction(False),
    "mean": reduction(True),
    "sum_of_squares": lambda x: exact((x * x).sum(), x.size),
    "dropout": lambda x, rate, seed: exact(np.where(kept(x.shape, rate, seed), x / (1 - rate), 0)),
}
