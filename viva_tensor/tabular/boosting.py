"""Growing boosted trees with scikit-learn for the blend of a table, stopped by the rows that they are not grown on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from viva_tensor import nn
from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.kernels.threads import get_num_threads
from viva_tensor.tabular.losses import row_losses
from viva_tensor.tabular.quantiles import Quantile
from viva_tensor.tabular.targets import Classes, Target
from viva_tensor.tabular.trees import Trees, sum_of

ROWS_FOR_THREADS = 10_000
SLOWER = 3  # times as long as one thread: several wait for each other, as beside other programs
RATE = 0.06
L2 = 5.0  # on the values of leaves: without it those of sure classes grow without bound
LEAF_ROWS, SPLIT_SHARE = 5, 0.5  # rows of a leaf at least; features that a split is chosen from
# Rounds after which the rows held out are looked at. scikit-learn predicts with all trees whenever it goes on, so the
# stages grow with the trees.
STAGES = (50, 100, 150, 225, 340, 510, 800)
MOST_CLASSES = 20  # of which each round grows a tree
LOSSES: dict[Any, str] = {"mse": "squared_error", "mae": "absolute_error", nn.poisson_loss: "poisson"}


class Rows(NamedTuple):
    """Some rows: their features, encoded targets, and weights if they differ."""

    x: Float32Array
    y: Float32Array
    weights: Float64Array | None = None


def can_grow(target: Target) -> bool:
    """Return whether there are boosted trees for the loss of a target."""
    if isinstance(target, Classes):
        return target.outputs <= MOST_CLASSES
    return isinstance(target.loss, Quantile) or target.loss in LOSSES


def can_learn(target: Target, y: Float32Array) -> bool:
    """Return whether these encoded targets are enough to grow on: each class is there, or counts that are not all 0."""
    if isinstance(target, Classes):
        return len(np.unique(y)) == target.outputs
    return target.loss is not nn.poisson_loss or bool(y.any())


def grow(train: Rows, held_out: Rows, target: Target, seed: int = 0, until: float = np.inf) -> Trees:
    """Return boosted trees of scikit-learn, as many as make the loss of the rows held out least.

    There must be some of these, and targets to grow on that :func:`can_learn` accepts. The outputs of the trees are on
    the scale of a network's: numbers as they are encoded, logarithms of counts, logits of classes. No more stages
    are begun when `perf_counter` is beyond `until`.
    """
    y = train.y.astype(int) if isinstance(target, Classes) else train.y[:, 0].astype(np.float64)
    model, features = _model(target, seed), train.x.shape[1]
    grown: list[Trees] = []  # the base, and then the trees of each round
    losses: list[float] = []
    outputs = np.zeros((len(held_out.x), target.outputs))
    with tree_threads(len(train.x)):
        for before, rounds in pairwise((0, *STAGES)):
            model.set_params(max_iter=rounds).fit(train.x, y, sample_weight=train.weights)
            new = list(_grown(model, before, target, features))
            for trees in new if grown else [Trees.constant(_base(model, target), features), *new]:
                grown.append(trees)
                outputs += trees(held_out.x)
                each = row_losses(outputs.astype(np.float32), held_out.y, target)
                losses.append(float(np.average(each, weights=held_out.weights)))
            best = int(np.argmin(losses))
            if best <= before or perf_counter() > until:
                break
    return sum_of(grown[: best + 1])


def tree_threads(rows: int) -> AbstractContextManager[object]:
    """Give scikit-learn's trees the threads of the calling thread; one where several would mostly wait.

    That is on few rows, and where other programs take the processor from a thread for which others wait: beside eight
    of them, trees of 22,000 rows took sixty times as long with two threads as with one. NumPy's products keep theirs:
    another number would change bits of what is computed beside the trees.
    """
    several = get_num_threads() if rows >= ROWS_FOR_THREADS else 1
    if several > 1 and SLOWER * _seconds(1) < _seconds(several):
        several = 1
    return _limited(several)


def _limited(threads: int) -> AbstractContextManager[object]:
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(threads, user_api="openmp")
    return limits


def _seconds(threads: int) -> float:
    """Return how long a few small trees take with so many threads."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    x = np.random.default_rng(0).random((ROWS_FOR_THREADS, 4), np.float32)
    with _limited(threads):
        begin = perf_counter()
        HistGradientBoostingRegressor(max_iter=2, early_stopping=False, random_state=0).fit(x, x[:, 0])
        return perf_counter() - begin


def _model(target: Target, seed: int) -> Any:
    """Return scikit-learn's estimator for a target, to be grown on."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    usual = {"learning_rate": RATE, "l2_regularization": L2, "random_state": seed}
    usual |= {"min_samples_leaf": LEAF_ROWS, "max_features": SPLIT_SHARE}
    usual |= {"early_stopping": False, "warm_start": True}
    if isinstance(target, Classes):
        return HistGradientBoostingClassifier(**usual)
    if isinstance(target.loss, Quantile):
        return HistGradientBoostingRegressor(loss="quantile", quantile=target.loss.quantile, **usual)
    return HistGradientBoostingRegressor(loss=LOSSES[target.loss], **usual)


def _base(model: Any, target: Target) -> Float64Array:
    """Return what an estimator predicts before its first tree, for each output; of two classes it has the second's."""
    base = np.ravel(model._baseline_prediction)
    return np.append(np.zeros(target.outputs - len(base)), base)


def _grown(model: Any, begin: int, target: Target, features: int) -> Iterator[Trees]:
    """Yield the trees of each round from one on."""
    skipped = target.outputs - model.n_trees_per_iteration_
    for grown in model._predictors[begin:]:
        yield sum_of([_tree(one.nodes, skipped + i, target.outputs, features) for i, one in enumerate(grown)])


def _tree(nodes: Any, output: int, outputs: int, features: int) -> Trees:
    """Return a tree whose nodes are a structured array of scikit-learn's."""
    own, leaf = np.arange(len(nodes), dtype=np.int32), nodes["is_leaf"].astype(bool)
    left, right = (np.where(leaf, own, nodes[side]).astype(np.int32) for side in ("left", "right"))
    return Trees(
        feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int32),
        left=left,
        right=right,
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]),
        value=np.where(leaf, nodes["value"], 0.0),
        root=own[:1],
        output=np.array([output], np.int32),
        base=np.zeros(outputs),
        features=features,
        depth=int(nodes["depth"].max()),
    )
