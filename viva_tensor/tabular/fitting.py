"""Training a network on a table that is ready: of one network or several what is kept, and a model without a test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from viva_tensor import autograd
from viva_tensor.distributed import ALONE, Ranks
from viva_tensor.distributed.agreement import digest
from viva_tensor.kernels.arrays import Array, Float32Array, Float64Array
from viva_tensor.tabular.blending import Best, fit_best
from viva_tensor.tabular.data import AnyTable, DataError, IndexArray, digest_of
from viva_tensor.tabular.defaults import Preset
from viva_tensor.tabular.effects import with_effects
from viva_tensor.tabular.features import Features, encoded
from viva_tensor.tabular.linear_start import is_better, linear_start
from viva_tensor.tabular.members import Joined, Members, fit_members
from viva_tensor.tabular.metrics import metric_of
from viva_tensor.tabular.model import Model
from viva_tensor.tabular.packed import in_blocks
from viva_tensor.tabular.parts import copies_in_test
from viva_tensor.tabular.preparing import Prepared, Task, prepare, source_of, task_of
from viva_tensor.tabular.presets import Choice, Situation, chosen
from viva_tensor.tabular.reading import Source
from viva_tensor.tabular.smoothness import suited
from viva_tensor.tabular.streaming import Stream
from viva_tensor.tabular.targets import Classes, Interval, Target
from viva_tensor.tabular.temperature import scaled, sureness
from viva_tensor.tabular.trees import Trees
from viva_tensor.train import Fit, Layers, Settings, record_layers
from viva_tensor.train import fit as fit_network


class Learned(NamedTuple):
    """A network trained on a table, how it was chosen, and the features that it was trained on."""

    fit: Fit
    preset: Preset
    features: Features
    trees: Trees | None = None

    @property
    def model(self) -> Model:
        """The network, and the trees, with all that their use on other tables takes."""
        prepared, activation = self.features.prepared, self.fit.settings.activation
        return Model(prepared.target, prepared.encoding, self.fit.layers, activation, prepared.origin, self.trees)


class Fitted(NamedTuple):
    """A model of a table, the course of its training, and what a person should know of both.

    Attributes
    ----------
    model : Model
    fit : viva_tensor.train.Fit
    preset : Preset
    rows : dict of int
        How many there are of each kind.
    notes : tuple of str
    """

    model: Model
    fit: Fit
    preset: Preset
    rows: dict[str, int]
    notes: tuple[str, ...]


def fit(
    source: Source | AnyTable,
    task: Task | str,
    settings: Settings | Members | Choice | None = None,
    *,
    preset: str | None = None,
    loss: str | None = None,
    quantile: float | Sequence[float] | None = None,
    metric: str | None = None,
    interval: float | None = None,
    class_weight: str | Mapping[Any, float] | None = None,
    weights: npt.ArrayLike | None = None,
    started: Callable[[Prepared], object] | None = None,
    progress: bool = False,
) -> Fitted:
    """Train a network on all rows of a table to predict a column, without a test; else as :func:`run` does.

    Parameters
    ----------
    source, task, settings, preset, loss, quantile, metric, interval, class_weight, started, progress
        See :func:`viva_tensor.tabular.run`. The test fraction of a task does not count.
    weights : array_like [rows], optional
        How much each row counts, from 0, in training and validation, as in :func:`viva_tensor.train.fit`. The scales of
        columns and the parts of the rows do not depend on them.

    Returns
    -------
    Fitted

    Raises
    ------
    DataError, DivergenceError
        As :func:`viva_tensor.tabular.run`.
    DtypeError, ShapeMismatch, InvalidValue
        If the weights are not a number for each row, of at least 0.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"size": [i / 2 for i in range(60)], "kind": ["a", "b", "c"] * 20})
    >>> frame["price"] = 10.0 * frame["size"] + (frame["kind"] == "a") * 50
    >>> fitted = fit(frame, "price", preset="fast")
    >>> fitted.rows["train"], fitted.rows["validation"], fitted.rows["test"]
    (48, 12, 0)
    >>> bool(abs(fitted.model.predict(frame)["predicted"] - frame["price"]).max() < 10)
    True
    """
    task = task_of(task, loss=loss, quantile=quantile, metric=metric, interval=interval, class_weight=class_weight)
    task = dataclasses.replace(task, test_fraction=0.0)
    options = {"progress": progress}
    with learned(source, task, settings, preset, options=options, started=started, weights=weights) as result:
        prepared = result.features.prepared
        return Fitted(result.model, result.fit, result.preset, prepared.rows, prepared.notes)


@contextmanager
def learned(
    source: Source | Stream | AnyTable,
    task: Task,
    settings: Settings | Members | Choice | None,
    preset: str | None,
    *,
    options: Mapping[str, Any],
    started: Callable[[Prepared], object] | None = None,
    ranks: Ranks = ALONE,
    shared_folder: Any = None,
    start: Model | None = None,
    weights: npt.ArrayLike | None = None,
    beside: Callable[[Features], object] | None = None,
) -> Iterator[Learned]:
    """Yield the network that learned a table, and the features that it learned from, which may lie in a file.

    Parameters
    ----------
    source, task, settings, preset, started, shared_folder, start
        See :func:`viva_tensor.tabular.run`.
    options : mapping
        More arguments of :func:`viva_tensor.train.fit`.
    ranks : Ranks
    weights : array_like [rows], optional
        Of a table in memory, on one process.
    beside : callable, optional
        Other work on the features, which is done while several networks are trained, and not done for one.
    """
    if not isinstance(source, Stream):
        source = source_of(source, task)
    checkpoint = options.get("checkpoint") is not None
    _require_one_table(source, task, ranks)
    others = {"ranks": ranks.size, "checkpoint": checkpoint, "start": start is not None}
    situation = Situation.of(source, task.target, weights, **others)
    stream, source = (source, source.source) if isinstance(source, Stream) else (None, source)
    if stream is not None and ranks.size > 1:
        raise DataError("only one process can train in blocks; with several, each reads its share of a .parquet file")
    if task.class_weight is not None and (stream is not None or ranks.size > 1):
        raise DataError("class weights need a table in memory and one process; give more --memory, or one process")
    choice = chosen(settings, preset, situation)
    members, own = choice.members, choice.of_each(round(situation.rows * (1 - task.test_fraction)))
    bins = 0 if members is None else members.bins_for(situation.rows, len(source.table.columns))
    if task.interval is not None and members is None and not own.validation_fraction:
        raise DataError("an interval needs rows held out from training; give a validation fraction above 0")
    prepared = prepare(source, task, own, ranks, bins, weights)
    target = prepared.target
    own = dataclasses.replace(own, loss=target.loss)
    if task.metric is not None:
        metric = metric_of(task.metric, target)
        own = dataclasses.replace(own, metric=metric, patience=own.patience or own.epochs)
    begun = None
    if members is not None:
        prepared, own, begun = suited(with_effects(prepared, members.shares), members, own)
    with encoded(prepared, stream, ranks, shared_folder) as features:
        features = features if stream is not None or ranks.size > 1 else _with_copies_told(features)
        if started is not None and ranks.first:
            started(features.prepared)
        trees, told = None, choice.told(own, bins)
        if members is None:
            result = _trained(features, own, ranks, options, start)
            held_out = features.prepared.split.validation
            if isinstance(target, Interval):
                unseen = partial(in_blocks, result.predict, features.x, held_out)
                target = ranks.from_first("calibrate", lambda: _calibrated(features, held_out, unseen()))
        else:
            if isinstance(members, Best):
                blend = fit_best(features, own, members, begun)
                joined, trees = blend.joined, blend.trees
                told = told._replace(why=f"{told.why}; {blend.shares}")
            else:
                joined = fit_members(features, own, members, begun, beside and partial(beside, features))
            told = told._replace(networks=joined.networks)
            target = _calibrated(features, joined.rows, joined.outputs)
            result, trees = _tempered(features, joined, trees)
        rows = features.prepared.rows if members is None else members.told(features.prepared.rows, len(joined.rows))
        prepared = features.prepared._replace(rows=rows, target=target)
        yield Learned(result, told, features._replace(prepared=prepared), trees)


def _with_copies_told(features: Features) -> Features:
    """Return features with a note of test rows that are copies of others, if some are."""
    told, prepared = copies_in_test(features), features.prepared
    return features._replace(prepared=prepared._replace(notes=(*prepared.notes, told))) if told else features


def _require_one_table(source: Source | Stream, task: Task, ranks: Ranks) -> None:
    """Raise on every rank if ranks have other tables, such as a stale copy on one host, or another task."""
    if ranks.size > 1 and isinstance(source, Source):
        with ranks.fail_together("train"):
            digest = digest_of(source.table)
        ranks.require_equal("train", {"the digest of the table": digest, "the task": task})


def _calibrated(features: Features, rows: IndexArray, outputs: Float32Array) -> Target:
    """Return the target of a table, if it has intervals with their margin by outputs for rows not learned from."""
    target = features.prepared.target
    if not isinstance(target, Interval):
        return target
    return target.calibrated(outputs, features.y[rows], features.weights_of(rows))


def _tempered(features: Features, joined: Joined, trees: Trees | None) -> tuple[Fit, Trees | None]:
    """Return a network and trees that are as sure of classes as rows allow that no network learned from."""
    target, rows = features.prepared.target, joined.rows
    if not isinstance(target, Classes):
        return joined.fit, trees
    factor = sureness(joined.outputs, features.y[rows], target, features.weights_of(rows))
    return scaled(joined.fit, factor), trees and trees.scaled(factor)


def _trained(
    features: Features, settings: Settings, ranks: Ranks, options: Mapping[str, Any], earlier: Model | None
) -> Fit:
    """Train a network that begins as a linear model or an earlier one, and return what is better of the two."""
    target, (train, validation, _) = features.prepared.target, features.prepared.split
    x, y, weights = features.x, features.y, features.prepared.weights
    if earlier is None:
        start = _layers(
            ranks.from_first("linear_start", lambda: linear_start(x, y, target, settings, train, weights=weights))
        )
    else:
        start = _continued(earlier, features.prepared, settings)
    classes = target.outputs if isinstance(target, Classes) else None
    options = {**options, "classes": classes, "start": start}
    if options.get("checkpoint") is not None:
        options["test_digest"] = ranks.from_first("train", lambda: _test_digest(features))
    result = fit_network(**features.to_fit(), settings=settings, **options)
    if start is None:
        return result
    shares = features.weights_of(validation)
    return ranks.from_first("choose", lambda: _chosen(result, start, x[validation], y[validation], target, shares))


def _test_digest(features: Features) -> str:
    """Return a digest of the rows for the test."""
    test = features.prepared.split.test
    blocks = in_blocks(lambda rows: np.array([digest(np.ascontiguousarray(rows))]), features.x, test)
    return digest("".join(blocks).encode(), features.prepared.values[test])


def _chosen(
    result: Fit, start: Layers, x: Float32Array, y: Float32Array, target: Target, weights: Float64Array | None
) -> Fit:
    """Return a fit, or the linear model that it began as if it is no better on validation rows."""
    linear = result._replace(layers=start, best_epoch=0)
    return result if is_better(result.predict(x), linear.predict(x), y, target, weights) else linear


def _continued(earlier: Model, prepared: Prepared, settings: Settings) -> Layers:
    """Return the layers of an earlier model of the same columns."""
    if not isinstance(earlier, Model):
        raise DataError(
            f"start is a {type(earlier).__name__}, wanted a Model, such as run.model or tabular.load(folder)"
        )
    if earlier.trees is not None:
        raise DataError("the model to go on from is a blend with trees, which cannot be trained on; train anew")
    target = earlier.target
    if isinstance(target, Interval):
        target = dataclasses.replace(target, margin=0.0)  # which is found anew
    if (target, earlier.encoding, earlier.activation) != (prepared.target, prepared.encoding, settings.activation):
        hint = "take the same table, task, seed and activation, or train anew"
        raise DataError(f"the model to go on from does not have this table's columns, scales or classes; {hint}")
    return earlier.layers


def _layers(arrays: Sequence[Array] | None) -> Layers | None:
    return None if arrays is None else record_layers(autograd.new_tape(), arrays).value
