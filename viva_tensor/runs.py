"""A network trained on a table: scores beside baselines, the files of a run, and its use on new rows."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import numpy.typing as npt
import pandas as pd

from viva_tensor import checkpoint as checkpoints
from viva_tensor import files, kernels, nn, report
from viva_tensor._version import __version__
from viva_tensor.data import DataError, FloatArray, Table, one_line, split_rows, target_kind
from viva_tensor.distributed import Ranks
from viva_tensor.encoding import Categorical, Encoding, fit_encoding
from viva_tensor.features import encoded
from viva_tensor.targets import (
    Classes,
    ClassScores,
    Number,
    NumberScores,
    Target,
    fit_target,
    target_from_dict,
    target_to_dict,
    values_of,
)
from viva_tensor.train import DEFAULTS, DivergenceError, Fit, Layers, Settings, fit, plot_losses, predict

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

__all__ = ["Model", "Run", "load", "run", "save", "write_csv"]

Float32Array = npt.NDArray[np.float32]
Scores = NumberScores | ClassScores

TEST_FRACTION = 0.2
PREPROCESSING, WEIGHTS = "preprocessing.json", "model.safetensors"


@dataclass(frozen=True)
class Model:
    """A trained network with all that its use on new rows takes."""

    target: Target
    encoding: Encoding
    layers: Layers
    activation: str

    @property
    def text_columns(self) -> list[str]:
        """Columns to read as text, whatever their values look like; see :func:`viva_tensor.data.read_table`."""
        return [column.name for column in self.encoding.columns if isinstance(column, Categorical)]

    @property
    def known_columns(self) -> set[str]:
        """The target, and all columns of the training rows, those that were left out included."""
        used = {column.name for column in self.encoding.columns}
        return {self.target.name, *used, *self.encoding.left_out}

    def predict(self, table: pd.DataFrame) -> pd.DataFrame:
        """Predictions for the rows of a table: columns row (from 0), predicted, and for classes their probabilities.

        Raises
        ------
        DataError
            If the columns are not those of the training rows.
        """
        decoded = self.target.decode(predict(self.layers, self.encoding.encode(table), self.activation))
        decoded.insert(0, "row", np.arange(len(table)))
        return decoded


@dataclass(frozen=True)
class Run:
    """A trained network, how it was trained, and its scores on the test rows beside baselines."""

    settings: Settings
    test_fraction: float
    target: Target
    encoding: Encoding
    fit: Fit
    rows: Mapping[str, int]
    threads: int
    ranks: int
    test: pd.DataFrame  # row (in the table, from 0), actual, predicted, and for classes their probabilities
    scores: Mapping[str, Scores]

    @property
    def model(self) -> Model:
        return Model(self.target, self.encoding, self.fit.layers, self.settings.activation)


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
    """Train a network to predict column `target` from the other columns, and test it once on rows kept apart.

    Rows without a target are left out. The encoding and the scaling of the target are fitted on the training rows.

    Parameters
    ----------
    table : DataFrame or ParquetRows
    target : str
    settings : Settings
        The loss is mean squared error for numbers and cross-entropy for classes, whatever it says.
    test_fraction : float
        Share of the rows kept apart.
    kind : {"number", "class"}, optional
        How to take the target; by default text, categories and booleans are classes.
    progress, checkpoint, resume, comm, timed
        See :func:`viva_tensor.train.fit`. With several ranks, each encodes rows of its own, of a Parquet file the only
        ones that it reads beside the target and some columns to choose their encoding from.
    shared_folder : path, optional
        With several ranks: where all of them find the features that each has encoded.

    Raises
    ------
    DataError
        If the table cannot be used for this.
    DivergenceError
        If the loss becomes infinite or NaN.
    """
    found = target_kind(table, target)
    if kind == "number" != found:
        raise DataError(f"column {target!r} does not hold numbers; it can be predicted as classes alone")
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
        own = test[ranks.part(len(test))]
        with ranks.together("predict"):
            outputs = predict(result.layers, x[own], settings.activation)
        output = np.concatenate(ranks.all(outputs))
        if not np.isfinite(output).all():
            raise DivergenceError("a prediction for the test rows is infinite", mend="try a smaller learning rate")
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
    target: Target, output: Float32Array, x: Float32Array, y: FloatArray, x_test: Float32Array, actual: FloatArray
) -> dict[str, Scores]:
    """Scores of the network and of baselines fitted on the training rows x, y."""
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


def least_squares(x: Float32Array, y: FloatArray, x_new: Float32Array) -> FloatArray:
    """Predictions [new rows] for `x_new` of ordinary least squares with an intercept, fitted on `x` and y [rows]."""
    coefficients = np.linalg.lstsq(_with_intercept(x), y)[0]
    predicted: FloatArray = _with_intercept(x_new) @ coefficients
    return predicted


def logistic_regression(x: Float32Array, y: FloatArray, x_new: Float32Array, classes: int) -> FloatArray:
    """Probabilities [new rows, classes] by scikit-learn's logistic regression, fitted on `x` and y [rows]."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about convergence: as far as it comes is good enough for a baseline
        fitted = LogisticRegression(max_iter=200).fit(x, y.astype(int))
    probabilities = np.zeros((len(x_new), classes))
    probabilities[:, fitted.classes_] = fitted.predict_proba(x_new)
    return probabilities


def save(run: Run, folder: str | Path, source: str = "the table") -> list[Path]:
    """Write a run to `folder`, each file whole or not at all, and return their paths.

    - ``model.safetensors``: weights [out, in] and biases [out], named as in a PyTorch ``nn.Sequential`` of ``Linear``
      and activations: 0.weight, 0.bias, 2.weight, ...
    - ``preprocessing.json``: how columns become features, and what the outputs mean
    - ``history.csv``: losses after every epoch
    - ``loss.png``: their curves, if matplotlib is installed
    - ``predictions.csv``: for every test row its number in the table (from 0), the actual and the predicted target
    - ``report.json``: scores, baselines, settings, versions, speed
    - ``report.md``: the same in short, to read
    """
    versions = {"python": platform.python_version(), "viva_tensor": __version__}
    versions |= {name: metadata.version(name) for name in ("numpy", "pandas", "safetensors")}
    contents = {
        "history.csv": _csv(pd.DataFrame(run.fit.history)),
        "predictions.csv": _csv(run.test),
        "report.json": _json(report.record(run) | {"versions": versions}),
        "report.md": report.markdown(run, source).encode(),
    }
    if find_spec("matplotlib"):
        contents["loss.png"] = plot_losses(run.fit.history)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = checkpoints.save_weights(folder / WEIGHTS, run.fit.layers)
    preprocessing = {
        "target": target_to_dict(run.target),
        "activation": run.settings.activation,
        "features": run.encoding.to_dict(),
        "weights": checkpoints.checksum(weights),  # tells whether both files are of one run
    }
    contents = {PREPROCESSING: _json(preprocessing), **contents}
    return [weights, *(files.replace(folder / name, content) for name, content in contents.items())]


def load(folder: str | Path) -> Model:
    """The model in a folder that `save` wrote.

    Raises
    ------
    DataError
        If a file is missing, or not what `save` writes.
    """
    folder = Path(folder)
    try:
        preprocessing = json.loads((folder / PREPROCESSING).read_text(encoding="utf-8"))
        layers = checkpoints.load_weights(folder / WEIGHTS).value
        checksum = checkpoints.checksum(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no trained model: {Path(error.filename).name} is missing") from error
    except NotADirectoryError as error:
        raise DataError(f"{folder} is not the folder of a run") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the model in {folder}: {one_line(error)}") from error
    if not isinstance(preprocessing, dict) or preprocessing.get("activation") not in list(nn.ACTIVATIONS):
        raise DataError(f"{folder / PREPROCESSING} names no known activation")
    target = target_from_dict(preprocessing.get("target") or {})
    encoding = Encoding.from_dict(preprocessing.get("features") or {})
    takes, gives = layers[0].w.data.shape[1], layers[-1].w.data.shape[0]
    wanted = len(encoding.feature_names), target.outputs
    if (takes, gives) != wanted or layers[0].w.data.dtype != np.float32:
        raise DataError(
            f"{folder / WEIGHTS} takes {takes} features and gives {gives} outputs of {layers[0].w.data.dtype}; "
            f"{PREPROCESSING} wants {wanted[0]} and {wanted[1]} of float32"
        )
    if checksum is not None and preprocessing.get("weights", checksum) != checksum:
        raise DataError(f"{folder} holds {WEIGHTS} of one run and {PREPROCESSING} of another; train anew")
    return Model(target, encoding, layers, preprocessing["activation"])


def write_csv(table: pd.DataFrame, to: Path | TextIO) -> None:
    """Write a table as CSV, a file whole or not at all."""
    if isinstance(to, Path):
        files.replace(to, _csv(table))
    else:
        to.write(_csv(table).decode())


def _with_intercept(x: Float32Array) -> FloatArray:
    return np.column_stack([np.ones(len(x)), x])


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()
