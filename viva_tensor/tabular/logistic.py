"""Logistic regression with the penalty at which rows that are left out are predicted best."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from viva_tensor import optim
from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.data import IndexArray

PENALTIES = (float("inf"), 1e4, 1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2, 1e-3)  # of half |W|², over the number of rows
PARTS = 5  # of the rows, each left out once
MOST_ROWS = 2000
MOST_WORK = 1_000_000  # rows times features times classes, beyond which it takes longer than a network
ENOUGH = 20  # rows for each weight
LITTLE_WORK = 200_000  # which is done where there are enough rows, too
ITERATIONS = 200
CLOSE = 0.01  # of the rows of a class, more or fewer than there are
LONGEST = 2.0  # step of a bias
MOST_CHANCES = 1_000_000  # rows times classes


class Rows(NamedTuple):
    """Rows to fit: features [rows, features], the class of each, and how much each counts."""

    x: Float64Array
    y: IndexArray
    shares: Float64Array

    def take(self, which: IndexArray) -> Rows:
        """Return some of the rows."""
        return Rows(self.x[which], self.y[which], self.shares[which])


def penalised(
    x: Float32Array, y: Float32Array, classes: int, seed: int, weights: Float64Array | None = None
) -> tuple[Float64Array, Float64Array] | None:
    r"""Return weights [classes, features] and biases [classes] of logistic regression with a suited penalty.

    The mean cross-entropy with :math:`\frac{\lambda}{2 n} |W|^2` is minimised. Of several :math:`\lambda` the one with
    the least cross-entropy of rows that are left out is taken; if it is infinite, the biases alone tell the share of
    each class. None if there are too few rows to leave some out, or so many that it would take long.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 40)).astype(np.float32)
    >>> w, b = penalised(x, (np.arange(60) % 3 == 0).astype(np.float32), classes=2, seed=0)
    >>> float(np.abs(w).max()), np.exp(b - b.max()).round(3).tolist()
    (0.0, [1.0, 0.5])
    """
    few = len(x) <= min(MOST_ROWS, ENOUGH * x.shape[1] * (classes - 1))
    if len(x) < 2 * PARTS or x.size * classes > (MOST_WORK if few else LITTLE_WORK):
        return None
    rows = Rows(x.astype(np.float64), y.astype(np.int64), _shares(weights, len(x)))
    order = np.random.default_rng(seed).permutation(len(x))
    order = order[np.argsort(rows.y[order], kind="stable")]  # so that each part has its share of each class
    held_out = [rows.take(order[part::PARTS]) for part in range(PARTS)]
    paths = [_path(rows.take(np.delete(order, np.s_[part::PARTS])), classes) for part in range(PARTS)]
    left_out: list[float] = []
    for fits in zip(*paths, strict=True):
        losses = [one.shares @ _losses(w, b, one)[0] for (w, b), one in zip(fits, held_out, strict=True)]
        left_out.append(float(np.sum(losses)))
        least, weak = min(left_out), PENALTIES[len(left_out) - 1] < 1
        if left_out[-1] > least and (weak or left_out[-2] > least):
            break  # weaker ones take longest
    return next(islice(_path(rows, classes), int(np.argmin(left_out)), None))


def _path(rows: Rows, classes: int) -> Iterator[tuple[Float64Array, Float64Array]]:
    """Yield weights and biases at each penalty, found from those of the one before."""
    means = np.average(rows.x, axis=0, weights=rows.shares)
    centred = rows._replace(x=rows.x - means)
    counts = np.bincount(rows.y, rows.shares, minlength=classes)
    w, b = np.zeros((classes, rows.x.shape[1])), np.log((counts + 1e-3) / counts.sum())  # a class may be missing
    yield w, b
    for penalty in PENALTIES[1:]:
        start = np.concatenate([w.ravel(), b])
        solved = optim.lbfgs(_objective(centred, classes, penalty), start, max_iterations=ITERATIONS).x
        w, b = solved[:-classes].reshape(classes, -1), solved[-classes:]
        yield w, b - w @ means


def with_free_biases(
    w: Float64Array, b: Float64Array, x: Float32Array, y: Float32Array, weights: Float64Array | None = None
) -> Float64Array:
    """Return the biases [classes] that suit some weights best: with a penalty they would make rare classes frequent.

    They are found by Newton's method. A class without rows counts as half a row. Where that would take long, as of many
    classes and rows, the biases stay as they are.

    Examples
    --------
    >>> y = (np.arange(1000) < 4).astype(np.float32)
    >>> b = with_free_biases(np.zeros((2, 1)), np.zeros(2), np.zeros((1000, 1), np.float32), y)
    >>> float(np.exp(b[1] - b[0]).round(5))  # 4 to 996
    0.00402
    """
    if len(x) * len(b) > MOST_CHANCES:
        return b
    shares, logits, b = _shares(weights, len(x)), x @ w.T, b.astype(np.float64)
    wanted = np.bincount(y.astype(np.int64), shares, minlength=len(b))
    wanted[wanted == 0] = 0.5
    wanted *= shares.sum() / wanted.sum()
    for _ in range(ITERATIONS):
        chances = np.exp(_log_softmax(logits + b))
        weighed = chances * shares[:, None]
        slopes = weighed.sum(axis=0) - wanted
        if (np.abs(slopes) <= CLOSE * wanted).all():
            break
        curvature = np.diag(weighed.sum(axis=0)) - weighed.T @ chances
        step = np.linalg.lstsq(curvature, slopes, rcond=1e-9)[0]  # the same for all classes would change nothing
        b = b - np.clip(step, -LONGEST, LONGEST)
    return b


def _shares(weights: Float64Array | None, rows: int) -> Float64Array:
    """Return how much each row counts: 1 in the mean."""
    return np.ones(rows) if weights is None else weights / weights.mean()


def _objective(rows: Rows, classes: int, penalty: float) -> Callable[[Float64Array], tuple[float, Float64Array]]:
    total = rows.shares.sum()

    def objective(flat: Float64Array) -> tuple[float, Float64Array]:
        w, b = flat[:-classes].reshape(classes, -1), flat[-classes:]
        losses, slopes = _losses(w, b, rows)
        slopes *= (rows.shares / total)[:, None]
        value = rows.shares @ losses / total + penalty / (2 * len(rows.y)) * np.sum(w * w)
        return float(value), np.concatenate(
            [(slopes.T @ rows.x + penalty / len(rows.y) * w).ravel(), slopes.sum(axis=0)]
        )

    return objective


def _losses(w: Float64Array, b: Float64Array, rows: Rows) -> tuple[Float64Array, Float64Array]:
    """Return the cross-entropy of each row, and its gradient with respect to the row's logits [rows, classes]."""
    logs, each = _log_softmax(rows.x @ w.T + b), np.arange(len(rows.y))
    slopes = np.exp(logs)
    slopes[each, rows.y] -= 1.0
    return -logs[each, rows.y], slopes


def _log_softmax(logits: Float64Array) -> Float64Array:
    logits = logits - logits.max(axis=1, keepdims=True)
    logs: Float64Array = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logs
