"""A linear model of the features, and a network that begins as that model, so that it need only learn what is bent."""

from __future__ import annotations

import numpy as np

from viva_tensor import autograd, nn, optim
from viva_tensor.kernels.arrays import Array, Float32Array, Float64Array
from viva_tensor.tabular.data import IndexArray
from viva_tensor.tabular.logistic import penalised, with_free_biases
from viva_tensor.tabular.losses import LEAST_CHANCE, row_losses
from viva_tensor.tabular.packed import Packed
from viva_tensor.tabular.targets import Classes, Interval, Target
from viva_tensor.train import Settings, fit, parameters

# act(z) - act(-z) is this times z: two units of such an activation pass a number on
PASSED_ON = {"relu": 1.0, "leaky_relu": 1.01, "gelu": 1.0, "silu": 1.0, "softplus": 1.0, "identity": 2.0}
MOST_FEATURES = 2048
MOST_LEVERAGE = 1 - 1e-4
LEAST_ROWS = 5  # for validation, to tell two models apart
MOST_ROWS = 50_000  # to fit the linear model on
PENALTIES = (0.0, *np.logspace(-6, 3, 19).tolist())  # times the mean variance of a feature
STEPS = 600  # of logistic regression
OF_OTHERS = 0.1  # times the usual weights of features that the linear model is not of


def linear_start(
    x: Float32Array | Packed,
    y: Float32Array,
    target: Target,
    settings: Settings,
    rows: IndexArray,
    columns: IndexArray | slice = slice(None),
    weights: Float64Array | None = None,
) -> list[Array] | None:
    """Return the arrays of a network that computes a linear model fitted on some rows, or None where there is no way.

    The linear model is one of some columns of the features, and minimises a weighted mean if rows have weights. Its
    penalty is chosen by rows left out, of squared errors, and of classes unless that would take long.

    Of each hidden layer, two units for each output pass the linear model on, since act(z) - act(-z) is a multiple of z
    for relu and its kin; the other units are drawn as usual, and have no weight in the outputs yet. Layers too narrow
    for all outputs pass on as many numbers as they can, of which the model of this rank that is nearest is made. The
    weights of the features that the linear model is not of, such as bins, are a tenth of the usual, so that these are
    taken up as far as they help; at the full size their many features hide what others tell together.
    """
    features = x.shape[1]
    learned = len(np.arange(features)[columns])  # the others, such as bins, cost nothing here
    if settings.activation not in PASSED_ON or learned > MOST_FEATURES:
        return None
    if settings.hidden and not _most_passed(settings):
        return None
    rows = rows[:MOST_ROWS]
    some = x[rows][:, columns]
    shares = None if weights is None else weights[rows]
    point = target.point if isinstance(target, Interval) else target
    squared = point.loss == "mse"
    few = penalised(some, y[rows], target.outputs, settings.seed, shares) if isinstance(target, Classes) else None
    if few is not None:
        w, b = few
    elif not squared or point is not target:
        w, b = _descended(some, y[rows], target, settings.seed, shares)
        if isinstance(target, Classes):
            b = with_free_biases(w, b, some, y[rows], shares)
    if squared:
        exact = _ridge(some, y[rows, 0].astype(np.float64), shares)
        w, b = exact if point is target else tuple(map(np.concatenate, zip(exact, (w[1:], b[1:]), strict=True)))
    wide = np.zeros((len(w), features), w.dtype)
    wide[:, columns] = w
    arrays = _embedded(wide, b, settings)
    if settings.hidden:
        arrays[0][:, np.delete(np.arange(features), columns)] *= OF_OTHERS
    return arrays


def _descended(
    x: Float32Array, y: Float32Array, target: Target, seed: int, weights: Float64Array | None
) -> tuple[Array, Array]:
    """Return weights [outputs, features] and biases of least loss, with half the square of both as penalty."""
    batch = min(len(x), 1024)
    settings = Settings(
        hidden=(),
        loss=target.loss,
        optimizer=optim.Adam(lr=0.05, weight_decay=1 / len(x)),
        epochs=max(1, STEPS * batch // len(x)),
        batch_size=batch,
        validation_fraction=0.0,
        seed=seed,
    )
    classes = target.outputs if isinstance(target, Classes) else None
    fitted = fit(x, y, settings, classes=classes, weights=weights)
    if fitted.interrupted:
        raise KeyboardInterrupt
    w, b = parameters(fitted.layers)
    return w, b


def _ridge(x: Float32Array, y: Float64Array, weights: Float64Array | None = None) -> tuple[Float64Array, Float64Array]:
    """Return weights [1, features] and bias of ridge regression, with the penalty of least leave-one-out error.

    The error of a row that is left out is its residual divided by one minus its leverage (Allen, 1974).
    """
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    if weights is None:
        shares, means, mean = np.ones(1), x.mean(axis=0, dtype=np.float64), float(y.mean())
        centred = weighed = x - means
    else:
        shares = weights[finite] / weights[finite].mean()
        means, mean = np.average(x, axis=0, weights=shares), float(np.average(y, weights=shares))
        centred = x - means
        weighed = centred * shares[:, None]
    variances, axes = np.linalg.eigh(weighed.T @ centred / len(x))
    kept = variances > 1e-10 * max(variances.max(), 1e-300)
    variances, axes = variances[kept], axes[:, kept]
    components = centred @ axes
    along = components.T @ (shares * (y - mean)) / len(x)
    best, solution = float("inf"), np.zeros(len(variances))
    for penalty in (np.inf, *PENALTIES):
        shrunk = np.zeros(len(variances)) if penalty == np.inf else 1 / (variances + penalty * variances.mean())
        leverage = shares * (1 / len(x) + (components**2) @ shrunk / len(x))
        if penalty != np.inf and (leverage > MOST_LEVERAGE).any():
            continue  # a row that the model passes through says nothing about others
        leverage = np.minimum(leverage, MOST_LEVERAGE)  # the mean may pass through a row of nearly all weight
        left_out = (y - mean - components @ (shrunk * along)) / (1 - leverage)
        error = float(np.mean(shares * left_out**2))
        if error < best:
            best, solution = error, shrunk * along
    w = axes @ solution
    return w[None], np.array([mean - means @ w])


def _most_passed(settings: Settings) -> int:
    """Return how many numbers each hidden layer can pass on, so that one of its units is left."""
    return (min(settings.hidden) - 1) // 2


def _embedded(w: Array, b: Array, settings: Settings) -> list[Array]:
    """Return the arrays of a network with outputs w·x + b, or of lower rank where hidden layers are too narrow."""
    outputs, features = w.shape
    sizes = (features, *settings.hidden, outputs)
    rng = np.random.default_rng(settings.seed)
    drawn, _ = nn.mlp(autograd.new_tape(), sizes, rng=rng, activation=settings.activation, dtype=settings.dtype)
    arrays = [array.copy() for array in parameters(drawn)]
    passed, made = (w, b), None
    if settings.hidden and outputs > _most_passed(settings):
        made, scales, axes = np.linalg.svd(w, full_matrices=False)
        made = made[:, : _most_passed(settings)]
        numbers = made.shape[1]
        passed = scales[:numbers, None] * axes[:numbers], np.zeros(numbers)
    numbers = len(passed[1])
    signs = np.concatenate([np.eye(numbers), -np.eye(numbers)])  # [2 numbers, numbers]
    for i, (weights, biases) in enumerate(zip(arrays[::2], arrays[1::2], strict=True)):
        own, bias = passed
        if i < len(settings.hidden):
            own, bias = signs @ own, signs @ bias
        elif made is not None:
            own, bias = made @ own, b
        weights[: len(own)] = 0.0
        weights[: len(own), : own.shape[1]] = own
        biases[: len(own)] = bias
        passed = signs.T / PASSED_ON[settings.activation], np.zeros(numbers)
    return arrays


def is_better(
    network: Float32Array,
    linear: Float32Array,
    y: Float32Array,
    target: Target,
    weights: Float64Array | None = None,
) -> bool:
    """Return whether one model's outputs for validation rows [rows, outputs] are better than another's beyond chance.

    The mean difference of the losses of a row must be above its standard error, and of few rows more than that, for the
    epoch was chosen on the same rows. Better intervals do not make up for worse predictions.
    """
    if isinstance(target, Interval) and is_better(linear[:, :1], network[:, :1], y[:, :1], target.point, weights):
        return False
    rows = len(y) if weights is None else float(weights.sum() ** 2 / np.sum(weights**2))  # as good as so many alike
    if rows < LEAST_ROWS:
        return False
    gain = row_losses(linear, y, target) - row_losses(network, y, target)
    if isinstance(target, Classes):
        gain += _gain_of_rare(network, linear, y, target, weights)
    mean, parts = gain.mean(), gain
    if weights is not None:
        shares = weights / weights.mean()
        mean = np.mean(shares * gain)
        parts = shares * (gain - mean)  # whose mean is the error of that mean
    chance = float(parts.std(ddof=1)) / np.sqrt(len(gain))
    return bool(mean > (1 + 5 / rows) * chance)


def _gain_of_rare(
    network: Float32Array, linear: Float32Array, y: Float32Array, target: Classes, weights: Float64Array | None
) -> Float64Array:
    """Return what each row's gain would have more, on average, with one more row of the classes that have very few.

    These few may be in the right places by chance, while the class is all but impossible elsewhere. Of many such
    classes the rows that there are tell that already: one row stands for all of them, as often of each as theirs.
    """
    counts = np.bincount(y.astype(int), minlength=target.outputs)
    rare = (counts > 0) & (counts < LEAST_ROWS)
    theirs, own = (np.log(np.maximum(target.probabilities(one)[:, rare], LEAST_CHANCE)) for one in (linear, network))
    total = counts if weights is None else np.bincount(y.astype(int), weights, minlength=target.outputs)
    each = total[rare] / counts[rare].sum() / total.sum()  # the weight of such a row, of that of all
    more: Float64Array = (own - theirs) @ each
    return more
