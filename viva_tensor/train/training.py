"""A run from one epoch to the next: batches, validation, the best weights so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from viva_tensor import autograd, nn, program
from viva_tensor.autograd.tape import new_leaves
from viva_tensor.distributed import ALONE, Ranks
from viva_tensor.distributed.clock import Times
from viva_tensor.error import InvalidShape, InvalidValue, TensorError
from viva_tensor.kernels.arrays import Array, Float32Array
from viva_tensor.nn.layers import is_linear
from viva_tensor.program.ranks import RankStep
from viva_tensor.train.labels import Labels
from viva_tensor.train.network import Layers, Network, parameters, predict, record_layers, sizes_of
from viva_tensor.train.rows import CLASSIFYING, Rows
from viva_tensor.train.settings import DEFAULTS, Loss, Settings, rates, recorded
from viva_tensor.train.sources import SourcedRows
from viva_tensor.train.sparse import SparseRows, arrays_of, forward, turned


class DivergenceError(TensorError, ArithmeticError):
    """The loss became infinite or NaN."""


class Fit(NamedTuple):
    """Trained layers, and the course of their training.

    Attributes
    ----------
    layers : tuple of Linear
        The layers after the last epoch, or with ``patience`` after the best.
    history : dict of list
        Columns with a value for each epoch, ready for ``pandas.DataFrame``: epoch, learning_rate (of the last step),
        train_loss (the mean over the rows, of rows with weights the mean of the batches' weighted means, taken before
        each batch's update); with validation rows also
        validation_loss and, for classes, validation_accuracy; with a metric validation_metric.
    best_epoch : int
        The epoch of ``layers``; 0 for those it started from.
    seconds, rows_per_second : float
        Time of training and validation, including earlier parts of a resumed run, and rows trained on in a second.
    times : tuple of Times
        How each rank spent its time, if ``timed``.
    settings : Settings
        Those of the training; after a divergence their optimiser has a lower rate than was asked for.
    interrupted : bool
        Whether Ctrl-C ended it.
    labels : tuple of str
        The names of the classes, in the order of the outputs, if the targets were text.
    """

    layers: Layers
    history: dict[str, list[float]]
    best_epoch: int
    seconds: float
    rows_per_second: float
    times: tuple[Times, ...] = ()
    settings: Settings = DEFAULTS
    interrupted: bool = False
    labels: Labels = ()

    def __repr__(self) -> str:
        """Return the sizes of the layers and the course in short.

        Examples
        --------
        >>> from viva_tensor import train
        >>> x = np.linspace(0, 1, 40)[:, None]
        >>> train.fit(x, x, train.Settings(hidden=(8,), epochs=2))  # doctest: +ELLIPSIS
        Fit(1-8-1, best_epoch=2, train_loss=0..., validation_loss=0..., seconds=0...)
        """
        losses = [
            f"{name}={self.history[name][-1]:.4g}"
            for name in ("train_loss", "validation_loss")
            if self.history.get(name)
        ]
        course = [f"best_epoch={self.best_epoch}", *losses, f"seconds={self.seconds:.3g}"]
        return f"Fit({sizes_of(self.layers)}, {', '.join(course + ['interrupted'] * self.interrupted)})"

    def predict(self, x: npt.ArrayLike | SparseRows) -> Array:
        """Return the network's outputs for x [rows, features], with the activation that it was trained with.

        Raises
        ------
        DtypeError, DimensionError, ShapeMismatch
            As :func:`viva_tensor.train.predict`.

        Examples
        --------
        >>> from viva_tensor.train import fit
        >>> x = np.linspace(-1, 1, 64)[:, None]
        >>> fit(x, x, Settings(hidden=(4,), epochs=2, activation="tanh")).predict(x).shape
        (64, 1)
        """
        return predict(self.layers, x, self.settings.activation)

    def predict_classes(self, x: npt.ArrayLike | SparseRows) -> npt.NDArray[Any]:
        """Return the class of each row of x [rows, features]: that of the largest output, by its label if it has one.

        Of "binary_cross_entropy" it is 1 where the output is above 0, for each of several outputs.

        Examples
        --------
        >>> from viva_tensor.train import fit
        >>> x = np.linspace(-1, 1, 64)[:, None]
        >>> fitted = fit(x, np.where(x[:, 0] > 0, "right", "left"), Settings(hidden=(4,), loss="cross_entropy"))
        >>> fitted.predict_classes([[0.9], [-0.9]]).tolist()
        ['right', 'left']
        """
        outputs = self.predict(x)
        if self.settings.loss == "binary_cross_entropy":
            return (outputs[:, 0] > 0 if outputs.shape[1] == 1 else outputs > 0).astype(np.int64)
        if self.settings.loss != "cross_entropy":
            raise InvalidValue(f"loss={self.settings.plain()['loss']!r} learns no classes", operation="predict_classes")
        classes: npt.NDArray[Any] = outputs.argmax(axis=1)
        names: npt.NDArray[Any] = np.array(self.labels, dtype=object)
        return names[classes] if self.labels else classes


class Reached(NamedTuple):
    """What whole epochs have reached, in one record: an interruption at any moment leaves all of it as it was.

    The columns may hold values of an epoch beyond those that count, which was interrupted.
    """

    layers: Layers
    columns: Mapping[str, list[float]]
    epochs: int
    best: Layers
    best_loss: float
    best_epoch: int
    seconds: float = 0.0

    @property
    def history(self) -> dict[str, list[float]]:
        """The values of all epochs that count."""
        return {name: column[: self.epochs] for name, column in self.columns.items()}

    @property
    def latest(self) -> dict[str, float]:
        """The values of the last of them."""
        return {name: column[self.epochs - 1] for name, column in self.columns.items()}


class Training:
    """The state of a run between two epochs: everything that the next one depends on."""

    def __init__(
        self,
        rows: Rows | SourcedRows,
        validation: Rows | None,
        outputs: int,
        settings: Settings,
        ranks: Ranks = ALONE,
        start: Layers | None = None,
    ) -> None:
        self.rows, self.validation, self.settings, self.ranks = rows, validation, settings, ranks
        self.rng, self.sparse = np.random.default_rng(settings.seed), isinstance(rows.take(slice(1)).x, SparseRows)
        sizes = (rows.features, *settings.hidden, outputs)
        new, dtype = autograd.new_tape(), settings.dtype
        layers, _ = nn.mlp(new, sizes, rng=self.rng, activation=settings.activation, dtype=dtype)
        if start is not None:
            layers, _ = record_layers(autograd.new_tape(), _alike(start, layers))
        columns: dict[str, list[float]] = {"epoch": [], "learning_rate": [], "train_loss": []}
        self.reached = Reached(layers, columns, 0, layers, math.inf, 0)
        batch = ranks.local_slice(min(settings.batch_size, rows.count))
        first = rows.take(slice(max(1, batch.stop - batch.start)))
        self.step = self._compile(first)
        self.flops = self.step.flops * rows.count / first.count / ranks.size  # of an epoch, on this rank
        self.steps = math.ceil(rows.count / settings.batch_size)  # of an epoch
        self.rate = rates(settings, self.steps)
        self.network = Network(settings.activation)
        self._validation: Rows | None = None  # this rank's share
        if validation is not None:
            self._validation = validation.take(ranks.local_slice(len(validation.indices)))
            columns["validation_loss"] = []
            if settings.loss in CLASSIFYING:
                columns["validation_accuracy"] = []
            if settings.metric is not None:
                columns["validation_metric"] = []
        if start is not None and self._validation is not None:
            best_loss = self._watched(self._validate(layers, self._validation))
            self.reached = self.reached._replace(best_loss=best_loss)

    def _compile(self, rows: Rows) -> program.Step:
        layers, tape = record_layers(autograd.new_tape(), turned(parameters(self.reached.layers), self.sparse))
        inputs, tape = new_leaves(tape, rows.arrays, autograd.new_constant)
        width = len(arrays_of(rows.x))
        output, tape = forward(tape, layers, inputs[:width], rows.x, self.settings.activation)
        with self.ranks.fail_together("fit"):
            loss, tape = recorded(self.settings.loss, tape, output, *inputs[width:])
        return program.compile_step(
            tape,
            loss=loss,
            params=layers,
            inputs=inputs,
            optimizer=self.settings.optimizer,
            comm=self.ranks.comm,
        )

    @property
    def epoch(self) -> int:
        """The number of epochs done."""
        return self.reached.epochs

    @property
    def latest(self) -> Layers:
        """The layers as the last step left them."""
        layers: Layers = self.step.params(autograd.new_tape()).value
        if not self.sparse:
            return layers
        return record_layers(autograd.new_tape(), turned(parameters(layers), self.sparse)).value

    @property
    def ended(self) -> bool:
        patience, epoch = self.settings.patience, self.epoch
        return epoch >= self.settings.epochs or (patience is not None and epoch - self.reached.best_epoch >= patience)

    def advance(self, each_step: Callable[[int], object]) -> None:
        """Train for one epoch and validate; ``each_step`` is called with the number of each step before it."""
        latest = 0.0

        def rate(number: int) -> float:
            nonlocal latest
            each_step(number)
            latest = self.rate(number)
            return latest

        start, reached, number = perf_counter(), self.reached, self.epoch + 1
        loss = self._epoch(rate)
        layers = self.latest
        values = {
            "epoch": number,
            "learning_rate": latest,
            "train_loss": self._finite(loss),
        }
        if self._validation is not None:
            values |= self._validate(layers, self._validation)
        watched = self._watched(values)
        best = reached.best, reached.best_loss, reached.best_epoch
        if self.validation is None or watched < reached.best_loss:
            best = layers, watched, number
        for name, column in reached.columns.items():
            column[reached.epochs :] = [values[name]]
        seconds = reached.seconds + perf_counter() - start
        self.reached = Reached(layers, reached.columns, number, *best, seconds)

    def _epoch(self, rate: Callable[[int], float]) -> float:
        """Train on all rows once; return the mean loss."""
        size, rows = self.settings.batch_size, self.rows
        if isinstance(rows, Rows):
            (loss,) = self.step.run(
                *rows.arrays, rows=rows.indices, batch_size=size, rng=self.rng, schedule=rate, shared=True
            )
            return loss
        total = 0.0
        for arrays in rows.epoch(self.rng, size):
            (loss,) = self.step.run(*arrays, batch_size=size, shuffle=False, schedule=rate)
            total += loss * len(arrays[0])
        return total / rows.count

    def _validate(self, layers: Layers, rows: Rows) -> dict[str, float]:
        y, weights, count, settings = rows.y, rows.weights, rows.count, self.settings
        output = self.network(layers, rows.x) if count else np.zeros((0, layers[-1].b.data.shape[0]), y.dtype)
        loss = accurate = metric = 0.0
        with self.ranks.fail_together("fit"):
            if count:
                loss = _value(settings.loss, output, y, weights)
                accurate = _accuracy(settings.loss, output, y, weights) if settings.loss in CLASSIFYING else 0.0
        if self.ranks.size > 1:
            loss, accurate, total = self.ranks.sum(loss * count, accurate * count, count)
            loss, accurate = loss / total, accurate / total
        if settings.metric is not None:  # which need not be a mean over rows
            if self.ranks.size > 1:
                output, y = map(np.concatenate, zip(*self.ranks.all((output, y)), strict=True))
            with self.ranks.fail_together("fit"):
                metric = _value(settings.metric, output, y, weights)
        return {"validation_loss": self._finite(loss), "validation_accuracy": accurate, "validation_metric": metric}

    def _watched(self, values: Mapping[str, float]) -> float:
        """Return the value that tells how good an epoch is: the less, the better."""
        name = "validation_loss" if self.settings.metric is None else "validation_metric"
        if not math.isfinite(values.get(name, 0.0)):
            raise InvalidValue(f"the metric of the validation rows is {values[name]}", operation="fit")
        return values.get(name, math.inf)

    def _finite(self, loss: float) -> float:
        if math.isfinite(loss):
            return loss
        raise DivergenceError(
            f"the loss became {loss} in epoch {self.epoch + 1} of {self.settings.epochs}",
            hint=f"try a smaller learning rate, such as {self.settings.optimizer.lr / 10:g}",
        )

    def fitted(self) -> Fit:
        last, reached = self.settings.patience is None, self.reached
        rate = self.epoch * self.rows.count / reached.seconds if reached.seconds else 0.0
        layers, epoch = (reached.layers, self.epoch) if last else (reached.best, reached.best_epoch)
        times: tuple[Times, ...] = ()
        if isinstance(self.step, RankStep) and self.step.timed:
            times = tuple(self.ranks.all(self.step.times()))
        return Fit(layers, reached.history, epoch, reached.seconds, rate, times, self.settings)


def _alike(start: Layers, layers: Layers) -> list[Array]:
    """Return the arrays of layers to start from, or raise if they are not of the shapes wanted."""
    if not (isinstance(start, Sequence) and all(map(is_linear, start))):
        hint = "give the layers of a trained network, fit(...).layers"
        raise InvalidValue(f"start is a {type(start).__name__}, wanted layers", operation="fit", hint=hint)
    shapes, wanted = ([array.shape for array in parameters(one)] for one in (start, layers))
    if shapes != wanted:
        hint = "give layers of the same widths as settings.hidden, the features and the outputs"
        raise InvalidShape(f"start has arrays of {shapes}, wanted {wanted}", operation="fit", hint=hint)
    return [array.astype(parameters(layers)[0].dtype) for array in parameters(start)]


def _value(loss: str | Loss, output: Float32Array, target: Float32Array, weights: Float32Array | None) -> float:
    """Return a loss or metric of outputs."""
    given = (output, target) if weights is None else (output, target, weights)
    inputs, tape = new_leaves(autograd.new_tape(), given, autograd.new_constant)
    return float(recorded(loss, tape, *inputs).value.data)


def _accuracy(loss: str, output: Float32Array, target: Float32Array, weights: Float32Array | None = None) -> float:
    """Return the share of right classes; for "binary_cross_entropy", an output above 0 means 1."""
    if loss == "binary_cross_entropy":
        right = (output > 0) == (target > 0.5)
    else:
        right = output.argmax(axis=1) == (target if target.ndim == 1 else target.argmax(axis=1))
    if weights is None:
        return float(np.mean(right))
    return float(np.average(right.reshape(len(right), -1).mean(axis=1), weights=weights))
