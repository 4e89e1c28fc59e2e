"""Logistic regression of few rows, with the penalty at which rows that are left out are predicted best."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from viva_tensor import optim
from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.data import IndexArray

USUAL = 1.0  # which is right for many rows
PENALTIES = (float("inf"), 1e4, 1e3, 1e2, 1e1, USUAL)  # of half the square of the weights, over the number of rows
PARTS = 5  # of the rows, each left out once
MOST_ROWS = 2000
MOST_WORK = 1_000_000  # rows times features times classes, beyond which it takes longer than a network
ENOUGH = 20  # rows for each weight
ITERATIONS = 200


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
    r"""Return weights [classes, features] and biases [classes] of logistic regression with a penalty above the usual.

    The mean cross-entropy with :math:`\frac{\lambda}{2 n} |W|^2` is minimised. Of several :math:`\lambda` the one with
    the least cross-entropy of rows that are left out is taken; if it is infinite, the biases alone tell the share of
    each class. None if the usual penalty is the best, or there are so many rows that it hardly matters, or so many
    numbers that it would take long.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 40)).astype(np.float32)
    >>> w, b = penalised(x, (np.arange(60) % 3 == 0).astype(np.float32), classes=2, seed=0)
    >>> float(np.abs(w).max()), np.exp(b - b.max()).round(3).tolist()
    (0.0, [1.0, 0.5])
    """
    few = 2 * PARTS <= len(x) <= min(MOST_ROWS, ENOUGH * x.shape[1] * (classes - 1))
    if not few or x.size * classes > MOST_WORK:
        return None
    shares = np.ones(len(x)) if weights is None else weights / weights.mean()
    rows = Rows(x.astype(np.float64), y.astype(np.int64), shares)
    order = np.random.default_rng(seed).permutation(len(x))
    order = order[np.argsort(rows.y[order], kind="stable")]  # so that each part has its share of each class
    left_out = np.zeros(len(PENALTIES))
    for part in range(PARTS):
        held_out = rows.take(order[part::PARTS])
        fits = _path(rows.take(np.delete(order, np.s_[part::PARTS])), classes)
        left_out += [float(held_out.shares @ _losses(w, b, held_out)[0]) for w, b in fits]
    best = int(np.argmin(left_out))
    return None if PENALTIES[best] == USUAL else _path(rows, classes, best + 1)[best]


def _path(rows: Rows, classes: int, count: int = len(PENALTIES)) -> list[tuple[Float64Array, Float64Array]]:
    """Return weights and biases at the first penalties, each found from those of the one before."""
    means = np.average(rows.x, axis=0, weights=rows.shares)
    centred = rows._replace(x=rows.x - means)
    counts = np.bincount(rows.y, rows.shares, minlength=classes)
    w, b = np.zeros((classes, rows.x.shape[1])), np.log((counts + 1e-3) / counts.sum())  # a class may be missing
    found = [(w, b)]
    for penalty in PENALTIES[1:count]:
        start = np.concatenate([w.ravel(), b])
        solved = optim.lbfgs(_objective(centred, classes, penalty), start, max_iterations=ITERATIONS).x
        w, b = solved[:-classes].reshape(classes, -1), solved[-classes:]
        found.append((w, b - w @ means))
    return found


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
    logits = rows.x @ w.T + b
    logits -= logits.max(axis=1, keepdims=True)
    slopes = np.exp(logits)
    sums = slopes.sum(axis=1)
    each = np.arange(len(rows.y))
    losses = np.log(sums) - logits[each, rows.y]
    slopes /= sums[:, None]
    slopes[each, rows.y] -= 1.0
    return losses, slopes
