"""What each operation of the tape gives, value and gradients, in float64 by NumPy, with a bound on a kernel's error.

Each node of a tape is held against its formula on the very arrays that the library had, so errors do not pile up from
node to node. A formula gives its result, the sum of the magnitudes that are added up to make it, and how many there
are; a kernel's error then is at most (16 + terms)·u·magnitude, with u the unit of rounding (N. J. Higham, Accuracy and
Stability of Numerical Algorithms, 2nd ed., 2002, ch. 3): 16 covers exponentials and their kin, which are within four
units in the last place, and some operations after them.
"""

import math
from typing import NamedTuple

import numpy as np

from viva_tensor import autograd
from viva_tensor.autograd import operations

UNIT = {"f": 2.0**-24, "d": 2.0**-53}
FLOOR = {"f": 1e-30, "d": 1e-290}  # below it, numbers may be subnormal on the way
CEILING = {"f": 1e12, "d": 1e90}  # beyond it, products may overflow on the way
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


def gelu(x):
    y = x * 0.5 * ERFC(-x / math.sqrt(2))
    return Found(y, np.abs(y) * (1 + x**2))


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
    "linear": linear,
    "transpose": lambda x, axes: exact(x.transpose(axes)),
    "reshape": lambda x, shape: exact(x.reshape(shape)),
    "slice": lambda x, spans: exact(part(x, spans)),
    "squeeze": lambda x, axes: exact(x.squeeze(axes)),
    "concatenate": lambda *arrays, axis: exact(np.concatenate(arrays, axis)),
    "sum": reduction(False),
    "mean": reduction(True),
    "dropout": lambda x, rate, seed: exact(np.where(kept(x.shape, rate, seed), x / (1 - rate), 0)),
}


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


def concatenate_backward(g, *arrays, axis):
    return [exact(own) for own in np.split(g, np.cumsum([array.shape[axis] for array in arrays])[:-1], axis)]


def matmul_backward(g, a, b):
    return [matmul(g, b.T), matmul(a.T, g)]


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
    "linear": linear_backward,
    "transpose": lambda g, x, axes: [exact(g.transpose(None if axes is None else np.argsort(axes)))],
    "reshape": lambda g, x, shape: [exact(g.reshape(x.shape))],
    "slice": slice_backward,
    "squeeze": lambda g, x, axes: [exact(g.reshape(x.shape))],
    "concatenate": concatenate_backward,
    "sum": sum_backward(False),
    "mean": sum_backward(True),
    "dropout": lambda g, x, rate, seed: [exact(np.where(kept(x.shape, rate, seed), g / (1 - rate), 0))],
}


def tame(array):
    """Whether nothing in an array can overflow on the way."""
    return bool((np.abs(array) < CEILING[array.dtype.char]).all())


def compare(what, array, found):
    unit, floor = UNIT[array.dtype.char], FLOOR[array.dtype.char]
    assert array.shape == found.value.shape, f"{what}: shape {array.shape}, wanted {found.value.shape}"
    bound = (16 + found.terms) * unit * found.size + floor * (1 + found.terms)
    wrong = np.argwhere(~(np.abs(array - found.value) <= bound))
    if len(wrong):
        place = tuple(wrong[0])
        raise AssertionError(f"{what} at {place}: {array[place]!r}, wanted {found.value[place]!r} ± {bound[place]:.3g}")


def check(tape, loss):
    """Hold each node of a tape, and the gradients of all that the loss depends on, against NumPy; how many were.

    Nodes whose numbers are so large that they may overflow, or NaN, are left out.
    """
    nodes = tape.nodes()[: loss.id + 1]
    grads = autograd.backward(tape, loss, wrt=[node.output for node in nodes])
    flows = {loss.id: [exact(np.ones(loss.data.shape))]}
    known = {loss.id: True}
    checked = 0
    for node in reversed(nodes):
        place, name = node.output.id, node.operation.name
        arrays = [variable.data.astype("f8") for variable in node.inputs]
        grad = grads[place]
        if place in flows and known[place]:
            parts = flows[place]
            total = Found(sum(p.value for p in parts), sum(p.size for p in parts), sum(p.terms for p in parts))
            if tame(grad) and (np.abs(total.size) < CEILING[grad.dtype.char]).all():
                compare(f"gradient of %{place} = {name}", grad, total)
                checked += 1
        if not node.inputs:
            continue
        fine = all(map(tame, (*(variable.data for variable in node.inputs), node.output.data)))
        if fine:
            found = FORWARD[name](*arrays, **node.attributes)
            compare(f"%{place} = {name}", node.output.data, found)
            checked += 1
        if place not in flows:
            continue
        fine = fine and tame(grad)
        with np.errstate(all="ignore"):
            more = BACKWARD[name](grad.astype("f8"), *arrays, **node.attributes) if fine else [None] * len(arrays)
        for variable, own in zip(node.inputs, more, strict=True):
            known[variable.id] = known.get(variable.id, True) and own is not None
            flows.setdefault(variable.id, []).append(own)
    return checked


assert set(FORWARD) == set(BACKWARD)
NAMES = {
    value.name for value in vars(operations).values() if isinstance(value, operations.Operation) and value.gradients
} | {"concatenate"}
assert set(FORWARD) == NAMES, set(FORWARD) ^ NAMES
