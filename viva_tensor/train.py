"""Training a multilayer network on a table: the loop on the tape, two baselines, and the files of a run."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import safetensors.numpy
from tqdm import tqdm

import viva_tensor as vt
from viva_tensor import autograd, files, nn, optim, program
from viva_tensor.data import DataError, split_rows, target_values
from viva_tensor.encoding import Encoding, fit_encoding

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Layers = tuple[nn.Linear, ...]

PREDICT_ROWS = 4096  # rows in one forward pass, so that memory stays bounded


class DivergenceError(ArithmeticError):
    """The loss became infinite or NaN."""


@dataclass(frozen=True)
class Settings:
    """What a training run depends on beside its rows: the same settings and rows give the same weights, bit for bit."""

    hidden: tuple[int, ...] = (128, 64)
    epochs: int = 40
    batch_size: int = 128
    lr: float = 0.05
    momentum: float = 0.9
    test_fraction: float = 0.2
    seed: int = 0


DEFAULTS = Settings()


class Fit(NamedTuple):
    """Trained layers, and how training went: `history` holds the columns epoch, train_loss and validation_loss."""

    layers: Layers
    history: Mapping[str, list[float]]
    seconds: float
    rows_per_second: float


class Scores(NamedTuple):
    """Errors of predictions in units of the target; `r2` is NaN where the target does not vary."""

    rmse: float
    mae: float
    r2: float


@dataclass(frozen=True)
class Run:
    """A trained network with all that is needed to use it, and its scores on the test rows beside two baselines."""

    settings: Settings
    target: str
    target_mean: float
    target_std: float
    encoding: Encoding
    fit: Fit
    rows: Mapping[str, int]
    threads: int
    test: pd.DataFrame  # row (in the table, from 0), actual, predicted
    scores: Mapping[str, Scores]


def init_layers(tape: autograd.Tape, sizes: tuple[int, ...], rng: np.random.Generator) -> tuple[Layers, autograd.Tape]:
    """Float32 layers between consecutive `sizes`: He initialisation before a relu, Xavier for the last."""
    layers = []
    last = len(sizes) - 2
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        layer, tape = nn.linear(tape, n_in, n_out, rng=rng, init="xavier" if i == last else "he")
        layers.append(layer)
    return tuple(layers), tape


def forward(tape: autograd.Tape, layers: Layers, x: autograd.Variable) -> autograd.Traced[autograd.Variable]:
    """Record the network: linear layers with a relu between; x [batch, in] to [batch, out]."""
    for layer in layers[:-1]:
        x, tape = nn.linear_forward(tape, layer, x)
        x, tape = nn.relu(tape, x)
    return nn.linear_forward(tape, layers[-1], x)


def predict(layers: Layers, x: Float32Array) -> Float32Array:
    """Outputs [rows, out] of the network for x [rows, in]."""
    parts = []
    compiled = None
    for start in range(0, len(x), PREDICT_ROWS):
        rows = x[start : start + PREDICT_ROWS]
        if compiled is None:
            held, tape = _constants(layers)
            batch, tape = autograd.new_constant(tape, rows[:1])
            output, tape = forward(tape, held, batch)
            compiled = program.compile_forward(tape, output=output, inputs=(batch,))
        parts.append(compiled(rows))
    return np.concatenate(parts)


def _constants(layers: Layers) -> tuple[Layers, autograd.Tape]:
    """The same layers without gradients, on a tape of their own."""
    tape = autograd.new_tape()
    held = []
    for layer in layers:
        w, tape = autograd.new_constant(tape, layer.w.data)
        b, tape = autograd.new_constant(tape, layer.b.data)
        held.append(nn.Linear(w, b))
    return tuple(held), tape


def _compiled(
    tape: autograd.Tape, layers: Layers, x: Float32Array, y: Float32Array, settings: Settings
) -> program.Step:
    """One training step on a batch of this size."""
    xb, tape = autograd.new_constant(tape, x)
    yb, tape = autograd.new_constant(tape, y)
    output, tape = forward(tape, layers, xb)
    loss, tape = nn.mse_loss(tape, output, yb)
    sgd = optim.SGD(lr=settings.lr, momentum=settings.momentum)
    return program.compile_step(tape, loss=loss, params=layers, inputs=(xb, yb), optimizer=sgd)


def learning_rate(peak: float, step: int, steps: int, warmup: int) -> float:
    """Rate of `step` 1, ..., `steps`: rises to `peak` within `warmup` steps, and falls along half a cosine towards 0.

    The slow start keeps large first steps from leaving relu units at 0 for good.
    """
    return peak * min(1.0, step / warmup) * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))


def fit(
    x: Float32Array,
    y: Float32Array,
    x_validation: Float32Array,
    y_validation: Float32Array,
    settings: Settings = DEFAULTS,
    progress: bool = False,
) -> Fit:
    """Minimise the mean squared error by stochastic gradient descent with momentum, in batches shuffled every epoch.

    The learning rate follows `learning_rate`. The validation rows are only watched.

    Parameters
    ----------
    x, y : float32 arrays [rows, features] and [rows, outputs]
    x_validation, y_validation : float32 arrays [other rows, features] and [other rows, outputs]
    settings : Settings
    progress : bool
        Show a progress bar on stderr if that is a terminal.

    Raises
    ------
    DivergenceError
        If a loss becomes infinite or NaN.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 256, dtype=np.float32)[:, None]
    >>> result = fit(x, abs(x), x, abs(x), Settings(hidden=(16,), epochs=20, batch_size=16))
    >>> result.history["validation_loss"][-1] < 0.01
    True
    """
    rng = np.random.default_rng(settings.seed)
    layers, tape = init_layers(autograd.new_tape(), (x.shape[1], *settings.hidden, y.shape[1]), rng)
    step = _compiled(tape, layers, x[: settings.batch_size], y[: settings.batch_size], settings)
    history: dict[str, list[float]] = {"epoch": [], "train_loss": [], "validation_loss": []}
    per_epoch = math.ceil(len(x) / settings.batch_size)
    start = perf_counter()
    quiet = None if progress else True  # None: quiet unless stderr is a terminal
    with tqdm(total=settings.epochs * len(x), unit="row", unit_scale=True, disable=quiet) as bar:

        def rate(number: int) -> float:
            """The learning rate of a step; the bar shows the steps before it."""
            bar.update((number - 1) * len(x) // per_epoch - bar.n)
            return learning_rate(settings.lr, number, settings.epochs * per_epoch, per_epoch)

        for epoch in range(1, settings.epochs + 1):
            (train_loss,) = step.run(x, y, batch_size=settings.batch_size, rng=rng, schedule=rate)
            _finite(train_loss, epoch, settings)
            layers = step.params(autograd.new_tape()).value
            error = predict(layers, x_validation).astype(np.float64) - y_validation
            validation_loss = _finite(float(np.mean(error**2)), epoch, settings)
            for column, value in zip(history.values(), (epoch, train_loss, validation_loss), strict=True):
                column.append(value)
            bar.set_postfix(epoch=epoch, validation_loss=f"{validation_loss:.4g}")
        bar.update(settings.epochs * len(x) - bar.n)
    seconds = perf_counter() - start
    return Fit(layers, history, seconds, settings.epochs * len(x) / seconds)


def run(table: pd.DataFrame, target: str, settings: Settings = DEFAULTS, progress: bool = False) -> Run:
    """Train a network to predict column `target` from the other columns, and test it once on rows kept apart.

    Rows without a target are left out. The encoding and the scaling of the target are fitted on the training rows.

    Raises
    ------
    DataError
        If the table cannot be used for this.
    DivergenceError
        If the loss becomes infinite or NaN.
    """
    values = target_values(table, target)
    kept = np.flatnonzero(np.isfinite(values))
    parts = split_rows(len(kept), settings.test_fraction, seed=settings.seed)
    train, validation, test = (kept[part] for part in parts)
    mean, std = _target_scale(values[train], target)
    features = table.drop(columns=target)
    encoding = fit_encoding(features.iloc[train])
    x_train, x_validation, x_test = (encoding.encode(features.iloc[rows]) for rows in (train, validation, test))
    scaled = ((values - mean) / std).astype(np.float32)[:, None]

    result = fit(x_train, scaled[train], x_validation, scaled[validation], settings, progress)

    actual = values[test]
    predicted = predict(result.layers, x_test)[:, 0].astype(np.float64) * std + mean
    if not np.isfinite(predicted).all():
        raise DivergenceError("a prediction for the test rows is infinite; try a smaller learning rate (--lr)")
    scores = {
        "network": score(actual, predicted),
        "least squares": score(actual, least_squares(x_train, values[train], x_test)),
        "training mean": score(actual, np.full_like(actual, mean)),
    }
    return Run(
        settings=settings,
        target=target,
        target_mean=mean,
        target_std=std,
        encoding=encoding,
        fit=result,
        rows={
            "read": len(table),
            "without_target": len(table) - len(kept),
            "train": len(train),
            "validation": len(validation),
            "test": len(test),
        },
        threads=vt.get_num_threads(),
        test=pd.DataFrame({"row": test, "actual": actual, "predicted": predicted}),
        scores=scores,
    )


def least_squares(x: Float32Array, y: FloatArray, x_new: Float32Array) -> FloatArray:
    """Predictions [new rows] for `x_new` of ordinary least squares with an intercept, fitted on `x` and y [rows]."""
    coefficients = np.linalg.lstsq(_with_intercept(x), y)[0]
    predicted: FloatArray = _with_intercept(x_new) @ coefficients
    return predicted


def score(actual: FloatArray, predicted: FloatArray) -> Scores:
    """Root mean squared error, mean absolute error, and the share of variance explained.

    Examples
    --------
    >>> score(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    Scores(rmse=1.0, mae=1.0, r2=0.0)
    """
    error = predicted - actual
    spread = float(np.sum((actual - actual.mean()) ** 2))
    r2 = 1 - float(np.sum(error**2)) / spread if spread else math.nan
    return Scores(float(np.sqrt(np.mean(error**2))), float(np.mean(np.abs(error))), r2)


def save(run: Run, folder: str | Path) -> list[Path]:
    """Write a run to `folder`, each file whole or not at all, and return their paths.

    - ``model.safetensors``: weights [out, in] and biases [out], named as in a PyTorch ``nn.Sequential`` of ``Linear``
      and ``ReLU``: 0.weight, 0.bias, 2.weight, ...
    - ``preprocessing.json``: how columns become features, and the scaling of the target
    - ``history.csv``: mean squared errors of the standardised target after every epoch
    - ``predictions.csv``: for every test row its number in the table (from 0), the actual and the predicted target
    - ``report.json``: scores, baselines, settings, versions, speed
    """
    tensors = {}
    for i, layer in enumerate(run.fit.layers):
        tensors[f"{2 * i}.weight"] = np.ascontiguousarray(layer.w.data)
        tensors[f"{2 * i}.bias"] = np.ascontiguousarray(layer.b.data)
    preprocessing = {
        "target": {"name": run.target, "mean": run.target_mean, "std": run.target_std},
        "features": run.encoding.to_dict(),
    }
    report = {
        "target": run.target,
        "rows": dict(run.rows),
        "features": len(run.encoding.feature_names),
        "left_out": dict(run.encoding.left_out),
        # JSON has no NaN
        "test": {
            name: {key: value if math.isfinite(value) else None for key, value in scores._asdict().items()}
            for name, scores in run.scores.items()
        },
        "settings": asdict(run.settings),
        "seconds": run.fit.seconds,
        "rows_per_second": run.fit.rows_per_second,
        "threads": run.threads,
        "versions": {"python": platform.python_version(), "viva_tensor": vt.__version__}
        | {name: metadata.version(name) for name in ("numpy", "pandas", "safetensors")},
    }
    contents = {
        "model.safetensors": safetensors.numpy.save(tensors),
        "preprocessing.json": _json(preprocessing),
        "history.csv": _csv(pd.DataFrame(run.fit.history)),
        "predictions.csv": _csv(run.test),
        "report.json": _json(report),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [files.replace(folder / name, content) for name, content in contents.items()]


def _finite(loss: float, epoch: int, settings: Settings) -> float:
    if math.isfinite(loss):
        return loss
    raise DivergenceError(
        f"the loss became {loss} in epoch {epoch} of {settings.epochs}; "
        f"try a smaller learning rate, such as {settings.lr / 10:g} (--lr)"
    )


def _target_scale(values: FloatArray, target: str) -> tuple[float, float]:
    if values.min() == values.max():
        raise DataError(f"the target {target!r} is constant ({values[0]:g}) in the training rows; nothing to learn")
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(values.mean()), float(values.std())
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise DataError(f"the values of the target {target!r} are too large or too close together for float64")
    return mean, std


def _with_intercept(x: Float32Array) -> FloatArray:
    return np.column_stack([np.ones(len(x)), x])


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()
