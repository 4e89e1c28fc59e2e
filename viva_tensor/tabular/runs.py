"""Training a network on a table, and its scores on test rows beside those of baselines."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from viva_tensor import kernels
from viva_tensor.distributed import Ranks
from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.baselines import (
    FITTED,
    Baseline,
    boosted_trees,
    least_squares,
    logistic_regression,
    poisson_regression,
    typical,
)
from viva_tensor.tabular.blending import imports_scikit_learn, interrupts_as_such
from viva_tensor.tabular.boosting import MOST_CLASSES
from viva_tensor.tabular.data import AnyTable, DataError
from viva_tensor.tabular.effects import cross_fitted
from viva_tensor.tabular.features import Features
from viva_tensor.tabular.fitting import Learned, learned
from viva_tensor.tabular.insight import Insight, examine
from viva_tensor.tabular.members import Members
from viva_tensor.tabular.metrics import Metric
from viva_tensor.tabular.model import Model, Run, name_rows
from viva_tensor.tabular.packed import in_blocks
from viva_tensor.tabular.preparing import Prepared, Task, task_of
from viva_tensor.tabular.presets import Choice
from viva_tensor.tabular.quantiles import Quantile, percent
from viva_tensor.tabular.reading import Source
from viva_tensor.tabular.scores import Scores, of_prediction
from viva_tensor.tabular.streaming import Stream
from viva_tensor.tabular.targets import Count, Number, Ranged
from viva_tensor.train import DivergenceError, Settings

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

T = TypeVar("T")
EXAMINED = 1000  # test rows


def run(
    source: Source | Stream | AnyTable,
    task: Task | str,
    settings: Settings | Members | Choice | None = None,
    *,
    preset: str | None = None,
    loss: str | None = None,
    quantile: float | Sequence[float] | None = None,
    metric: str | None = None,
    interval: float | None = None,
    class_weight: str | Mapping[Any, float] | None = None,
    started: Callable[[Prepared], object] | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    comm: Intracomm | None = None,
    shared_folder: str | Path | None = None,
    timed: bool = False,
    start: Model | None = None,
) -> Run:
    """Train a network to predict a column from the other columns, and test it once on test rows.

    The network begins as a linear model where its activation allows that. If it does not become better than that model
    on the validation rows, by more than chance, the linear model is kept.

    After an interruption from the keyboard, what was learned until then is returned, with a warning, unless a
    checkpoint keeps it.

    By default several networks are trained, as :class:`viva_tensor.tabular.Members` describes, each on all but a part
    of the rows, on which it is validated; the result is one network whose outputs are the mean of theirs.

    Parameters
    ----------
    source : Source, Stream, or DataFrame of pandas or polars, or another table with Arrow's interface
    task : Task, or str
        What to learn, or the name of the column to predict.
    settings : Settings, Members or Choice, optional
        For one network, or for several, instead of those that a preset chooses. Their loss is replaced by that of the
        task.
    preset : {"default", "fast", "best"}, optional
        "default" is ``Members()`` for tables in memory of 150 to 100,000 rows, or of more with up to ten million
        values, else the settings of one network that suit the number of rows; with a checkpoint, several ranks or
        ``start`` always one. "fast" is one network, "best" a blend of several kinds with boosted trees, for 10 minutes
        or as ``Best(minutes=...)`` says; see :func:`viva_tensor.tabular.presets.choose`.
    loss, quantile, metric, interval, class_weight : optional
        As in the task: what is minimised, and what decides which epoch is best; see :class:`Task`.
    started : callable, optional
        Called before training with what :func:`prepare` returned, on the first rank.
    progress, checkpoint, resume, comm, timed
        See :func:`viva_tensor.train.fit`. With several ranks, each encodes its share of the rows. Of a Parquet file it
        reads only these rows, the target, and the columns whose encoding it chooses; the first rank reads all columns
        of integers.
    shared_folder : path, optional
        With several ranks: a folder that all of them see, for the encoded features. Of a stream: a folder for its
        encoded training rows, by default one for temporary files.

    start : Model, optional
        A model trained on the same columns, to start from instead of a linear one; if training does not make it better
        on validation rows, by more than chance, it is returned as it was.

    Raises
    ------
    DataError
        If the table cannot be used, there is no such preset, or the fitted encoding differs from that of ``start``.
    DivergenceError
        If the loss becomes infinite or NaN.
    """
    task = task_of(task, loss=loss, quantile=quantile, metric=metric, interval=interval, class_weight=class_weight)
    ranks = Ranks(comm)
    if not task.test_fraction > 0:
        raise DataError("no rows to test on; give a test fraction above 0, or train without a test: tabular.fit")
    options = {"progress": progress, "checkpoint": checkpoint, "resume": resume, "comm": comm, "timed": timed}
    baselines = _once(_baseline_scores)  # fitted while networks are trained, where that costs no time
    with learned(
        source,
        task,
        settings,
        preset,
        options=options,
        started=started,
        ranks=ranks,
        shared_folder=shared_folder,
        start=start,
        beside=baselines,
    ) as result:
        features, fitted = result.features, result.fit
        prepared = features.prepared
        with ranks.fail_together("predict"):
            test = prepared.split.test
            local = in_blocks(result.model.forward(), features.x, test[ranks.local_slice(len(test))])
        output = np.concatenate(ranks.all(local))
        if not np.isfinite(output).all():
            raise DivergenceError("a prediction for the test rows is infinite", hint="try a smaller learning rate")
        scores = ranks.from_first("score", lambda: _network_scores(features, output))
        insight = None
        try:
            scores = {**scores, **ranks.from_first("score", lambda: baselines(features))}
            insight = _insight(result) if ranks.first else None
        except KeyboardInterrupt:  # which must not cost a network that nothing else keeps
            if checkpoint is not None or ranks.size > 1:
                raise
            fitted = fitted._replace(interrupted=True)
            warnings.warn("interrupted; the network is kept, without baselines and importances", stacklevel=2)
        watched = fitted.settings.metric
        told = _told(watched, scores["network"], output, features.y[test]) if isinstance(watched, Metric) else {}
    target = prepared.target
    predicted = target.decode(output)
    if isinstance(target, Ranged):
        told |= target.measures(prepared.values[test], predicted)
    aimed = of_prediction(target.loss)
    if isinstance(aimed, Quantile):
        below = float((prepared.values[test] < predicted["predicted"]).mean())
        told[f"below {percent(aimed.quantile)}"] = below
    predicted.insert(0, "actual", target.actual(prepared.values[test]))
    named = name_rows(predicted, test, prepared.table, task.roles.id)
    return Run(
        settings=fitted.settings,
        test_fraction=task.test_fraction,
        target=target,
        encoding=prepared.encoding,
        origin=prepared.origin,
        fit=fitted,
        rows=prepared.rows,
        notes=prepared.notes,
        threads=kernels.get_num_threads(),
        ranks=ranks.size,
        test=named.assign(row=source.indices[test]) if isinstance(source, Stream) else named,
        scores=scores,
        insight=insight,
        preset=result.preset,
        metric=told,
        trees=result.trees,
        weighted=task.class_weight is not None,
    )


def _insight(result: Learned) -> Insight:
    prepared, some = result.features.prepared, result.features.prepared.split.test[:EXAMINED]
    return examine(
        result.model.forward(),
        result.features.x[some],
        prepared.values[some],
        prepared.target,
        prepared.encoding,
        prepared.table,
        some,
        result.fit.settings.seed,
    )


def _once(function: Callable[[Features], T]) -> Callable[[Features], T]:
    """Return a function that does its work when it is first called, and returns the same from then on."""
    found: list[T] = []

    def called(features: Features) -> T:
        if not found:
            found.append(function(features))
        return found[0]

    return called


def _network_scores(features: Features, output: Float32Array) -> dict[str, Scores]:
    """Return the scores of the network's outputs for test rows."""
    target, actual = features.prepared.target, features.prepared.values[features.prepared.split.test]
    if isinstance(target, Number):
        return {"network": target.score(actual, target.decode(output)["predicted"].to_numpy())}
    return {"network": target.score(actual, target.probabilities(output))}


def _told(metric: Metric, scores: Scores, output: Float32Array, encoded: Float32Array) -> dict[str, float]:
    """Return the value of a metric for test rows: that of the scores, if it is one of them."""
    score = metric.name.replace("-", "_")
    return {metric.name: getattr(scores, score) if score in scores._fields else metric.value(output, encoded)}


@interrupts_as_such()
def _baseline_scores(features: Features) -> dict[str, Scores]:
    """Return the scores for test rows of baselines fitted on training rows, with all that networks have but bins."""
    target, values, split = features.prepared.target, features.prepared.values, features.prepared.split
    some, actual = split.train[:FITTED], values[split.test]
    unbinned = features.prepared.encoding.unbinned
    x, y = cross_fitted(features).x[some][:, unbinned], values[some]

    def predicted(model: Baseline) -> Float64Array:
        return in_blocks(lambda rows: model(rows[:, unbinned]), features.x, split.test)

    scores: dict[str, Scores] = {}
    if isinstance(target, Number):
        loss = of_prediction(target.loss)
        learned, count = imports_scikit_learn("baselines"), isinstance(target, Count)
        if learned and not (count and not y.any()):
            scores["boosted trees"] = target.score(actual, predicted(boosted_trees(x, y, loss=loss)))
        if count and learned:
            scores["Poisson regression"] = target.score(actual, predicted(poisson_regression(x, y)))
        elif not isinstance(loss, Quantile):
            scores["least squares"] = target.score(actual, predicted(least_squares(x, y)))
        name, value = typical(values[split.train], loss)
        scores[name] = target.score(actual, np.full_like(actual, value))
        return scores
    shares = np.bincount(y.astype(int), minlength=target.outputs) / len(y)
    if target.outputs <= MOST_CLASSES and imports_scikit_learn("baselines"):
        scores["boosted trees"] = target.score(actual, predicted(boosted_trees(x, y, target.outputs)))
        scores["logistic regression"] = target.score(actual, predicted(logistic_regression(x, y, target.outputs)))
    scores["most frequent class"] = target.score(actual, np.tile(shares, (len(actual), 1)))
    return scores
