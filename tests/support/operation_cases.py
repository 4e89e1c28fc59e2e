"""Every operation of the tape with shapes to try it on: its gradients, shape rules and compiled bits are checked."""

import numpy as np

from viva_tensor import autograd, nn
from viva_tensor.autograd import add, matmul, mean, mul, new_constant, operations, relu, sequence, sub, sum, transpose


def on_positive(tape, x, function):
    """function(x² + ½)"""
    square, tape = mul(tape, x, x)
    half, tape = new_constant(tape, np.full(x.data.shape, 0.5, x.data.dtype))
    return function(*reversed(add(tape, square, half)))


def entropy_of_classes(tape, x, **weights):
    labels, tape = new_constant(tape, (np.arange(len(x.data)) * 3 % x.data.shape[1]).astype(x.data.dtype))
    return nn.cross_entropy(tape, x, labels, **weights)


COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")


def kept_where(comparison):
    """a where it compares so with b, else 0: comparisons themselves have no slope."""

    def record(tape, a, b):
        holds, tape = getattr(autograd, comparison)(tape, a, b)
        return mul(tape, holds, a)

    return record


def normalised_batch(tape, x, w, b):
    running = nn.BatchStatistics(np.zeros(w.shape, w.dtype), np.ones(w.shape, w.dtype))
    (y, _), tape = nn.batch_norm_forward(tape, nn.BatchNorm(w, b), x, running)
    return nn.batch_norm_apply(tape, nn.BatchNorm(b, w), y, running)


def network(tape, x, w, b, v, c):
    layers = (nn.Linear(w, b), nn.Linear(v, c))
    return nn.mlp_forward(tape, layers, x, activation="tanh")


ROWS = np.array([[0, 5], [2, 3], [0, 4], [1, 3]])  # of two features with three bins each


def piecewise(tape, fractions, *weights, x=None):
    layer = nn.PiecewiseLinear(*weights) if x is None else nn.PiecewiseLinearB(*weights)
    return nn.piecewise_linear_forward(tape, layer, nn.Located(ROWS, fractions, x))


def mini(tape, x, r, w, b):
    layer = nn.TabMMini(r, (nn.Linear(w, b),))
    return nn.tabm_mini_forward(tape, layer, x, activation="tanh")


CASES = {
    "add": (add, [(4, 3), (4, 3)]),
    "add a row": (add, [(4, 3), (3,)]),
    "add a column": (add, [(4, 1), (4, 3)]),
    "add a number": (add, [(), (2, 4, 3)]),
    "sub": (sub, [(4, 3), (4, 3)]),
    "sub a row": (sub, [(4, 3), (1, 3)]),
    "sub from a number": (sub, [(), (4, 3)]),
    "mul": (mul, [(4, 3), (4, 3)]),
    "mul a row": (mul, [(3,), (4, 3)]),
    "mul in three dimensions": (mul, [(2, 1, 3), (4, 1)]),
    "matmul": (matmul, [(4, 5), (5, 3)]),
    "matmul of a batch": (matmul, [(6, 4, 5), (6, 5, 3)]),
    "matmul of batches": (matmul, [(2, 1, 4, 5), (3, 5, 2)]),
    "matmul of a batch and a matrix": (matmul, [(3, 4, 5), (5, 2)]),
    "matmul of a matrix and a batch": (matmul, [(4, 5), (3, 5, 2)]),
    "matmul of vectors": (matmul, [(5,), (5,)]),
    "matmul of a vector and a batch": (matmul, [(5,), (3, 5, 2)]),
    "matmul of a batch and a vector": (matmul, [(3, 4, 5), (5,)]),
    "einsum of a batch": (lambda t, a, b: autograd.einsum(t, "bij,bjk->kbi", a, b), [(3, 4, 5), (3, 5, 2)]),
    "einsum over two axes": (lambda t, a, b: autograd.einsum(t, "ijm,jki->k", a, b), [(3, 4, 2), (4, 5, 3)]),
    "einsum of one": (lambda t, a: autograd.einsum(t, "ijk->ki", a), [(3, 4, 2)]),
    "outer product": (lambda t, a, b: autograd.einsum(t, "i,j", a, b), [(3,), (4,)]),
    "matmul with itself": (lambda t, a: matmul(t, a, a), [(4, 4)]),
    "transpose": (transpose, [(4, 3)]),
    "transpose by axes": (lambda t, x: transpose(t, x, (2, -3, 1)), [(2, 3, 4)]),
    "sum": (sum, [(4, 3)]),
    "sum down columns": (lambda t, x: sum(t, x, axis=0), [(4, 3)]),
    "sum over two axes": (lambda t, x: sum(t, x, axis=(0, -1), keepdims=True), [(2, 3, 4)]),
    "mean": (mean, [(4, 3)]),
    "mean along rows": (lambda t, x: mean(t, x, axis=1), [(4, 3)]),
    "mean keeping dimensions": (lambda t, x: mean(t, x, axis=-1, keepdims=True), [(2, 3, 4)]),
    "relu": (relu, [(40, 3)]),
    "linear": (lambda t, x, w, b: autograd.record(t, operations.LINEAR, x, w, b), [(4, 3), (5, 3), (5,)]),
    "mean squared error": (lambda t, p, y: autograd.record(t, operations.MEAN_SQUARED_ERROR, p, y), [(4, 3), (4, 3)]),
    "div": (lambda t, a, b: on_positive(t, b, lambda t, b: autograd.div(t, a, b)), [(4, 3), (4, 3)]),
    "div by a row": (lambda t, a, b: on_positive(t, b, lambda t, b: autograd.div(t, a, b)), [(4, 3), (3,)]),
    "div of a number": (lambda t, a, b: on_positive(t, b, lambda t, b: autograd.div(t, a, b)), [(), (4, 3)]),
    "maximum": (autograd.maximum, [(4, 3), (4, 3)]),
    "maximum with a column": (autograd.maximum, [(4, 1), (4, 3)]),
    "pow": (lambda t, x: on_positive(t, x, lambda t, x: autograd.pow(t, x, 2.5)), [(4, 3)]),
    "square": (lambda t, x: autograd.pow(t, x, 2), [(4, 3)]),
    "exp": (autograd.exp, [(4, 37)]),
    "log": (lambda t, x: on_positive(t, x, autograd.log), [(4, 37)]),
    "sqrt": (lambda t, x: on_positive(t, x, autograd.sqrt), [(4, 37)]),
    "abs": (autograd.abs, [(4, 3)]),
    "erf": (lambda t, x: autograd.record(t, operations.ERF, x), [(4, 37)]),
    "sin": (autograd.sin, [(4, 37)]),
    "cos": (autograd.cos, [(4, 37)]),
    "tan": (lambda t, x: sequence(nn.sigmoid(t, x), autograd.tan), [(4, 3)]),  # away from its poles
    "minimum": (autograd.minimum, [(4, 3), (4, 3)]),
    "minimum with a row": (autograd.minimum, [(3,), (4, 3)]),
    "square of a value": (autograd.square, [(4, 3)]),
    "sign": (lambda t, x: sequence(autograd.sign(t, x), lambda t, s: mul(t, s, x)), [(4, 3)]),
    **{name: (kept_where(name), [(4, 3), (4, 3)]) for name in COMPARISONS},
    "where": (lambda t, a, b: autograd.where(t, np.arange(12).reshape(4, 3) % 3 == 1, a, b), [(4, 3), (4, 3)]),
    "where by a variable": (
        lambda t, c, a, b: sequence(autograd.less(t, c, a), lambda t, holds: autograd.where(t, holds, a, b)),
        [(4, 1), (4, 3), ()],
    ),
    "clip": (lambda t, x: autograd.clip(t, x, -0.5, 0.75), [(4, 37)]),
    "clip from below": (lambda t, x: autograd.clip(t, x, low=0.1), [(4, 37)]),
    "variance": (autograd.var, [(4, 3)]),
    "variance of columns of a sample": (lambda t, x: autograd.var(t, x, 0, ddof=1, keepdims=True), [(4, 3)]),
    "standard deviation": (lambda t, x: autograd.std(t, x, axis=-1), [(4, 3)]),
    "broadcast": (lambda t, x: autograd.broadcast_to(t, x, (4, 2, 3)), [(2, 1)]),
    "moved axis": (lambda t, x: autograd.moveaxis(t, x, 0, -1), [(2, 3, 4)]),
    "squeezed axis": (lambda t, x: autograd.squeeze(t, x, 1), [(2, 1, 4)]),
    "new axis": (lambda t, x: autograd.expand_dims(t, x, -1), [(2, 3)]),
    "flip": (lambda t, x: autograd.flip(t, x, (0, -1)), [(2, 3, 4)]),
    "stack": (lambda t, a, b: autograd.stack(t, (a, b, a), axis=1), [(4, 3), (4, 3)]),
    "split": (
        lambda t, x: sequence(autograd.split(t, x, (1, 3), axis=-1), lambda t, parts: mul(t, *parts)),
        [(4, 4)],
    ),
    "reshape": (lambda t, x: autograd.reshape(t, x, (2, -1)), [(4, 3)]),
    "reshape of a transpose": (
        lambda t, x: sequence(transpose(t, x), lambda t, x: autograd.reshape(t, x, (6, 2))),
        [(4, 3)],
    ),
    "slice": (lambda t, x: autograd.slice(t, x, np.s_[1:, ::-2]), [(4, 5)]),
    "slice of an element": (lambda t, x: autograd.slice(t, x, np.s_[..., -1, 2]), [(2, 4, 3)]),
    "concatenate": (lambda t, a, b: autograd.concatenate(t, (a, b, a)), [(4, 3), (2, 3)]),
    "concatenate columns": (lambda t, a, b: autograd.concatenate(t, (a, b), axis=-1), [(4, 3), (4, 2)]),
    "take rows": (lambda t, x: autograd.take(t, x, [[2, 0, 2], [-1, 1, 2]]), [(4, 3)]),
    "take columns": (lambda t, x: autograd.take(t, x, [3, -3, 0, 3], axis=-1), [(2, 3, 4)]),
    "take one": (lambda t, x: autograd.take(t, x, 1, axis=1), [(4, 3, 2)]),
    "embedding bag": (
        lambda t, table, w: autograd.embedding_bag(t, table, [[0, 2, 2], [-1, 1, 0]], w),
        [(4, 37), (2, 3)],
    ),
    "max": (autograd.max, [(4, 37)]),
    "max down columns": (lambda t, x: autograd.max(t, x, axis=0, keepdims=True), [(5, 3)]),
    "min over two axes": (lambda t, x: autograd.min(t, x, axis=(0, 2)), [(2, 3, 4)]),
    "max of equal elements": (lambda t, x: sequence(autograd.clip(t, x, 0.0, 0.5), autograd.max), [(4, 37)]),
    "norm": (autograd.norm, [(4, 3)]),
    "sum of squares": (autograd.sum_of_squares, [(4, 3)]),
    "norm of rows": (lambda t, x: autograd.norm(t, x, axis=1, keepdims=True), [(4, 3)]),
    "sum of magnitudes": (lambda t, x: autograd.norm(t, x, 1, axis=0), [(4, 3)]),
    "largest magnitude": (lambda t, x: autograd.norm(t, x, np.inf, axis=-1), [(4, 3)]),
    "norm of order 3": (lambda t, x: on_positive(t, x, lambda t, x: autograd.norm(t, x, 3, axis=1)), [(4, 3)]),
    "logsumexp": (autograd.logsumexp, [(4, 3)]),
    "logsumexp of columns": (lambda t, x: autograd.logsumexp(t, x, axis=0), [(4, 3)]),
    "running sums": (autograd.cumsum, [(5, 3)]),
    "running sums of rows": (lambda t, x: autograd.cumsum(t, x, axis=-1), [(2, 5, 3)]),
    "running sums in runs": (lambda t, x: autograd.cumsum(t, x, starts=(0, 1, 4)), [(6, 3)]),
    "running sums in runs of rows": (lambda t, x: autograd.cumsum(t, x, axis=1, starts=[3]), [(2, 5, 3)]),
    "no slope": (
        lambda t, x: sequence(autograd.sign(t, x), autograd.stop_gradient, lambda t, y: mul(t, x, y)),
        [(4, 3)],
    ),
    "pad": (lambda t, x: autograd.pad(t, x, ((1, 0), (2, 3)), 0.5), [(4, 3)]),
    "leaky relu": (lambda t, x: nn.leaky_relu(t, x, 0.2), [(4, 37)]),
    "elu": (lambda t, x: nn.elu(t, x, 1.3), [(4, 37)]),
    "selu": (nn.selu, [(4, 37)]),
    "mish": (nn.mish, [(4, 37)]),
    "softsign": (nn.softsign, [(4, 37)]),
    "hardtanh": (lambda t, x: nn.hardtanh(t, x, -0.5, 2.0), [(4, 37)]),
    "softmin": (nn.softmin, [(4, 37)]),
    "glu": (nn.glu, [(4, 6)]),
    "prelu": (nn.prelu, [(4, 3), (3,)]),
    "gelu": (nn.gelu, [(4, 37)]),
    "gelu by tanh": (lambda t, x: nn.gelu(t, x, "tanh"), [(4, 37)]),
    "silu": (nn.silu, [(4, 37)]),
    "sigmoid": (nn.sigmoid, [(4, 37)]),
    "tanh": (nn.tanh, [(4, 37)]),
    "softplus": (nn.softplus, [(4, 37)]),
    "softmax": (nn.softmax, [(4, 37)]),
    "softmax of a row": (nn.softmax, [(5,)]),
    "log softmax": (nn.log_softmax, [(2, 3, 10)]),
    "normalize": (lambda t, x: autograd.record(t, operations.NORMALIZE, x, epsilon=1e-5), [(4, 37)]),
    "layer norm": (lambda t, x, w, b: nn.layer_norm_forward(t, nn.LayerNorm(w, b), x), [(6, 5), (5,), (5,)]),
    "root mean square norm": (lambda t, x, w: nn.rms_norm_forward(t, nn.RMSNorm(w), x), [(6, 5), (5,)]),
    "group norm": (lambda t, x, w, b: nn.group_norm_forward(t, nn.GroupNorm(w, b), x, 2), [(3, 4, 5), (4,), (4,)]),
    "batch norm": (normalised_batch, [(6, 5), (5,), (5,)]),
    "embedding": (lambda t, w: nn.embedding_forward(t, nn.Embedding(w), [2, 0, 2]), [(3, 4)]),
    "piecewise linear": (piecewise, [(4, 2), (2, 3, 5), (2, 5)]),
    "piecewise linear B": (
        lambda t, x, f, w, v, b: piecewise(t, f, w, v, b, x=x),
        [(4, 2), (4, 2), (2, 3, 5), (2, 5), (2, 5)],
    ),
    "periodic": (
        lambda t, x, c, w, b: nn.periodic_forward(t, nn.Periodic(c, w, b), x),
        [(4, 3), (3, 5), (3, 10, 6), (3, 6)],
    ),
    "periodic with one map": (
        lambda t, x, c, w, b: nn.periodic_forward(t, nn.Periodic(c, w, b), x),
        [(4, 3), (3, 5), (10, 6), (6,)],
    ),
    "pbld": (
        lambda t, x, c, p, w, b: nn.pbld_forward(t, nn.PBLD(c, p, w, b), x),
        [(4, 3), (3, 5), (3, 5), (3, 5, 2), (3, 2)],
    ),
    "batch ensemble": (
        lambda t, x, w, r, s, b: nn.batch_ensemble_forward(t, nn.BatchEnsemble(w, r, s, b), x),
        [(4, 3), (5, 3), (2, 3), (2, 5), (2, 5)],
    ),
    "batch ensemble of members": (
        lambda t, x, w, r, s, b: nn.batch_ensemble_forward(t, nn.BatchEnsemble(w, r, s, b), x),
        [(4, 2, 3), (5, 3), (2, 3), (2, 5), (2, 5)],
    ),
    "linear ensemble": (
        lambda t, x, w, b: nn.linear_ensemble_forward(t, nn.LinearEnsemble(w, b), x),
        [(4, 2, 3), (2, 3, 5), (2, 5)],
    ),
    "mini ensemble": (mini, [(4, 3), (2, 3), (5, 3), (5,)]),
    "ensemble loss": (
        lambda t, x, y, w: on_positive(t, w, lambda t, w: nn.ensemble_loss(t, nn.mse_loss, x, y, sample_weight=w)),
        [(4, 2, 3), (4, 3), (4,)],
    ),
    "ensemble mean": (lambda t, x: nn.ensemble_mean(t, x, link="softmax"), [(4, 2, 3)]),
    "layer": (lambda t, x, w, b: nn.linear_forward(t, nn.Linear(w, b), x), [(4, 3), (5, 3), (5,)]),
    "layers": (network, [(4, 3), (5, 3), (5,), (2, 5), (2,)]),
    "identity": (nn.activations.identity, [(4, 3)]),
    "dropout": (lambda t, x: nn.dropout(t, x, 0.4, rng=np.random.default_rng(3)), [(4, 37)]),
    "huber": (lambda t, p, y: nn.huber_loss(t, p, y, 0.7), [(4, 3), (4, 3)]),
    "log cosh": (nn.log_cosh_loss, [(4, 37), (4, 37)]),
    "quantile": (lambda t, p, y: nn.quantile_loss(t, p, y, 0.8), [(4, 3), (4, 3)]),
    "poisson": (lambda t, x, y: on_positive(t, y, lambda t, y: nn.poisson_loss(t, x, y)), [(4, 3), (4, 3)]),
    "gamma": (lambda t, x, y: on_positive(t, y, lambda t, y: nn.gamma_loss(t, x, y)), [(4, 3), (4, 3)]),
    "gaussian": (nn.gaussian_loss, [(4, 3), (4, 3), (4, 3)]),
    "hinge": (
        lambda t, x: sequence(
            new_constant(t, np.where(np.arange(12).reshape(4, 3) % 2, 1.0, -1.0).astype(x.dtype)),
            lambda t, y: nn.hinge_loss(t, x, y),
        ),
        [(4, 3)],
    ),
    "focal": (
        lambda t, x, y: sequence(nn.sigmoid(t, y), lambda t, y: nn.focal_loss(t, x, y, 1.5)),
        [(4, 3), (4, 3)],
    ),
    "smoothed cross-entropy": (lambda t, x: entropy_of_classes(t, x, label_smoothing=0.1), [(5, 7)]),
    "divergence": (
        lambda t, x, y: sequence(nn.softmax(t, y), lambda t, y: nn.kl_divergence(t, x, y)),
        [(5, 7), (5, 7)],
    ),
    "mean absolute error": (nn.mae_loss, [(4, 3), (4, 3)]),
    "sum of squared errors": (lambda t, p, y: nn.mse_loss(t, p, y, "sum"), [(4, 3), (4, 3)]),
    "weighted squared error": (
        lambda t, p, y, w: on_positive(t, w, lambda t, w: nn.mse_loss(t, p, y, sample_weight=w)),
        [(4, 3), (4, 3), (4,)],
    ),
    "weighted sum of errors": (
        lambda t, p, y, w: on_positive(t, w, lambda t, w: nn.mae_loss(t, p, y, "sum", w)),
        [(4, 3), (4, 3), (4,)],
    ),
    "binary cross-entropy": (
        lambda t, x, y: sequence(nn.sigmoid(t, y), lambda t, y: nn.binary_cross_entropy(t, x, y)),
        [(4, 3), (4, 3)],
    ),
    "cross-entropy of classes": (entropy_of_classes, [(5, 7)]),
    "weighted cross-entropy": (
        lambda t, x, w: on_positive(t, w, lambda t, w: entropy_of_classes(t, x, sample_weight=w)),
        [(5, 7), (5,)],
    ),
    "cross-entropy of probabilities": (
        lambda t, x, y: sequence(nn.softmax(t, y), lambda t, y: nn.cross_entropy(t, x, y)),
        [(5, 7), (5, 7)],
    ),
}
