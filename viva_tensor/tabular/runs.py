"""Training a network on a table, and its scores on test rows beside those of baselines."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from viva_tensor import autograd, kernels
from viva_tensor.distributed import Ranks
from viva_tensor.kernels.arrays import Array, Float32Array, Float64Array
from viva_tensor.tabular.baselines import FITTED, MOST_CLASSES, boosted_trees, least_squares, logistic_regression
from viva_tensor.tabular.data import Table, as_table
from viva_tensor.tabular.defaults import settings_for
from viva_tensor.tabular.features import encoded
from viva_tensor.tabular.insight import EXAMINED, examine
from viva_tensor.tabular.linear_start import is_better, linear_start
from viva_tensor.tabular.model import Run, Scores, name_rows
from viva_tensor.tabular.preparing import Prepared, Task, prepare
from viva_tensor.tabular.reading import Source
from viva_tensor.tabular.targets import Classes, Number, Target
from viva_tensor.train import DivergenceError, Fit, Layers, Network, Settings, fit, record_layers

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


def run(
    source: Source | Table,
    task: Task | str,
    settings: Settings | None = None,
    *,
    started: Callable[[Prepared], object] | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    comm: Intracomm | None = None,
    shared_folder: str | Path | None = None,
    timed: bool = False,
) -> Run:
    """Train a network to predict a column from the other columns, and test it once on test rows.

    The network begins as a linear model where its activation allows that. If it becomes no better than that on the
    validation rows, beyond chance, the linear model is kept.

    Parameters
    ----------
    source : Source, or DataFrame of pandas or polars, or another table with Arrow's interface
    task : Task, or str
        What to learn, or the name of the column to predict.
    settings : Settings, optional
        By default those that suit the number of rows. Its loss is replaced by mean squared error for numbers and
        cross-entropy for classes.
    started : callable, optional
        Called before training with what :func:`prepare` returned, on the first rank.
    progress, checkpoint, resume, comm, timed
        See :func:`viva_tensor.train.fit`. With several ranks, each encodes its share of the rows. Of a Parquet file it
        reads only these rows, the target, and the columns whose encoding it chooses; the first rank reads all columns
        of integers.
    shared_folder : path, optional
        With several ranks: a folder that all of them see, for the encoded features.

    Raises
    ------
    DataError
        If the table cannot be used.
    DivergenceError
        If the loss becomes infinite or NaN.
    """
    task = Task(task) if isinstance(task, str) else task
    ranks = Ranks(comm)
    source = source if isinstance(source, Source) else Source(as_table(source))
    settings = settings or settings_for(len(source.table))
    prepared = prepare(source, task, settings, ranks)
    learned, values, (train, validation, test) = prepared.target, prepared.values, prepared.split
    suited = dataclasses.replace(settings, loss=learned.loss)
    if started is not None and ranks.first:
        started(prepared)
    y = learned.encode(values)
    with encoded(prepared.table, prepared.encoding, ranks, shared_folder) as x:
        start = _layers(ranks.from_first("linear_start", lambda: linear_start(x, y, learned, suited, train)))
        result = fit(
            x,
            y,
            suited,
            rows=train,
            validation=validation,
            classes=learned.outputs if isinstance(learned, Classes) else None,
            progress=progress,
            checkpoint=checkpoint,
            resume=resume,
            comm=comm,
            timed=timed,
            start=start,
        )
        if start is not None:
            result = ranks.from_first("choose", lambda: _chosen(result, start, x[validation], y[validation], learned))
        with ranks.fail_together("predict"):
            local = result.predict(x[test[ranks.local_slice(len(test))]])
        output = np.concatenate(ranks.all(local))
        if not np.isfinite(output).all():
            raise DivergenceError("a prediction for the test rows is infinite", hint="try a smaller learning rate")
        some = train[:FITTED]
        scores = ranks.from_first(
            "score", lambda: _scores(learned, output, x[some], values[some], x[test], values[test])
        )
        insight = None
        if ranks.first:
            some = test[:EXAMINED]
            network = partial(Network(result.settings.activation), result.layers)
            insight = examine(
                network, x[some], values[some], learned, prepared.encoding, prepared.table, some, suited.seed
            )
    predicted = learned.decode(output)
    predicted.insert(0, "actual", learned.actual(values[test]))
    return Run(
        settings=result.settings,
        test_fraction=task.test_fraction,
        target=learned,
        encoding=prepared.encoding,
        origin=prepared.origin,
        fit=result,
        rows=prepared.rows,
        notes=prepared.notes,
        threads=kernels.get_num_threads(),
        ranks=ranks.size,
        test=name_rows(predicted, test, prepared.table, task.roles.id),
        scores=scores,
        insight=insight,
    )


def _chosen(result: Fit, start: Layers, x: Float32Array, y: Float32Array, target: Target) -> Fit:
    """Return a fit, or the linear model that it began as if it is no better on validation rows."""
    linear = result._replace(layers=start, best_epoch=0)
    return result if is_better(result.predict(x), linear.predict(x), y, target) else linear


def _layers(arrays: Sequence[Array] | None) -> Layers | None:
    return None if arrays is None else record_layers(autograd.new_tape(), arrays).value


def _scores(
    target: Target, output: Float32Array, x: Float32Array, y: Float64Array, x_test: Float32Array, actual: Float64Array
) -> dict[str, Scores]:
    """Return the scores of the network and of baselines fitted on training rows x, y."""
    if isinstance(target, Number):
        numbers = {"network": target.score(actual, target.decode(output)["predicted"].to_numpy())}
        if find_spec("sklearn"):
            numbers["boosted trees"] = target.score(actual, boosted_trees(x, y, x_test))
        numbers["least squares"] = target.score(actual, least_squares(x, y, x_test))
        numbers["training mean"] = target.score(actual, np.full_like(actual, target.mean))
        return {**numbers}
    shares = np.bincount(y.astype(int), minlength=target.outputs) / len(y)
    scores: dict[str, Scores] = {"network": target.score(actual, target.probabilities(output))}
    if find_spec("sklearn") and target.outputs <= MOST_CLASSES:
        scores["boosted trees"] = target.score(actual, boosted_trees(x, y, x_test, target.outputs))
        scores["logistic regression"] = target.score(actual, logistic_regression(x, y, x_test, target.outputs))
    scores["most frequent class"] = target.score(actual, np.tile(shares, (len(actual), 1)))
    return scores
