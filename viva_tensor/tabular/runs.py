"""Training a network on a table, and its scores on test rows beside those of baselines."""

from __future__ import annotations

import dataclasses
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from viva_tensor import kernels
from viva_tensor.distributed import Ranks
from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.baselines import least_squares, logistic_regression
from viva_tensor.tabular.data import DataError, Table, split_rows, target_kind
from viva_tensor.tabular.encoding import fit_encoding
from viva_tensor.tabular.features import encoded
from viva_tensor.tabular.model import Run, Scores
from viva_tensor.tabular.targets import Classes, Number, Target, fit_target, values_of
from viva_tensor.train import DEFAULTS, DivergenceError, Settings, fit, predict

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

TEST_FRACTION = 0.2


def run(
    table: Table,
    target: str,
    settings: Settings = DEFAULTS,
    *,
    test_fraction: float = TEST_FRACTION,
    kind: str | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    comm: Intracomm | None = None,
    shared_folder: str | Path | None = None,
    timed: bool = False,
) -> Run:
    """Train a network to predict column `target` from the other columns, and test it once on test rows.

    Rows without a target are left out. The encoding and the scaling of the target are fitted on the training rows.

    Parameters
    ----------
    table : DataFrame or ParquetRows
    target : str
    settings : Settings
        Its loss is replaced by mean squared error for numbers and cross-entropy for classes.
    test_fraction : float
        Share of the rows kept for the test.
    kind : {"number", "class"}, optional
        How to treat the target; by default text, categories and booleans are classes.
    progress, checkpoint, resume, comm, timed
        See :func:`viva_tensor.train.fit`. With several ranks, each encodes its share of the rows. Of a Parquet file it
        reads only these rows, the target, and the columns whose encoding it chooses.
    shared_folder : path, optional
        With several ranks: a folder that all of them see, for the encoded features.

    Raises
    ------
    DataError
        If the table cannot be used.
    DivergenceError
        If the loss becomes infinite or NaN.
    """
    found = target_kind(table, target)
    if kind == "number" != found:
        raise DataError(f"column {target!r} does not hold numbers; it can only be predicted as classes")
    values, labels = values_of(table[target], kind or found)
    kept = np.flatnonzero(np.isfinite(values))
    parts = split_rows(len(kept), test_fraction, settings.validation_fraction, settings.seed)
    train, validation, test = (kept[part] for part in parts)
    learned = fit_target(target, values[train], labels)
    ranks = Ranks(comm)
    encoding = fit_encoding(table, train, target, ranks)
    settings = dataclasses.replace(settings, loss=learned.loss)
    with encoded(table, encoding, ranks, shared_folder) as x:
        result = fit(
            x,
            learned.encode(values),
            settings,
            rows=train,
            validation=validation,
            classes=learned.outputs if isinstance(learned, Classes) else None,
            progress=progress,
            checkpoint=checkpoint,
            resume=resume,
            comm=comm,
            timed=timed,
        )
        with ranks.fail_together("predict"):
            local = predict(result.layers, x[test[ranks.local_slice(len(test))]], settings.activation)
        output = np.concatenate(ranks.all(local))
        if not np.isfinite(output).all():
            raise DivergenceError("a prediction for the test rows is infinite", hint="try a smaller learning rate")
        scores = ranks.from_first(
            "score", lambda: _scores(learned, output, x[train], values[train], x[test], values[test])
        )
    predicted = learned.decode(output)
    predicted.insert(0, "row", test)
    predicted.insert(1, "actual", learned.actual(values[test]))
    return Run(
        settings=settings,
        test_fraction=test_fraction,
        target=learned,
        encoding=encoding,
        fit=result,
        rows={
            "read": len(table),
            "without_target": len(table) - len(kept),
            "train": len(train),
            "validation": len(validation),
            "test": len(test),
        },
        threads=kernels.get_num_threads(),
        ranks=ranks.size,
        test=predicted,
        scores=scores,
    )


def _scores(
    target: Target, output: Float32Array, x: Float32Array, y: Float64Array, x_test: Float32Array, actual: Float64Array
) -> dict[str, Scores]:
    """Return the scores of the network and of baselines fitted on the training rows x, y."""
    if isinstance(target, Number):
        return {
            "network": target.score(actual, target.decode(output)["predicted"].to_numpy()),
            "least squares": target.score(actual, least_squares(x, y, x_test)),
            "training mean": target.score(actual, np.full_like(actual, target.mean)),
        }
    shares = np.bincount(y.astype(int), minlength=target.outputs) / len(y)
    scores: dict[str, Scores] = {"network": target.score(actual, target.probabilities(output))}
    if find_spec("sklearn"):
        scores["logistic regression"] = target.score(actual, logistic_regression(x, y, x_test, target.outputs))
    scores["most frequent class"] = target.score(actual, np.tile(shares, (len(actual), 1)))
    return scores
