"""Training a multilayer network: batches, a watched validation loss, early stopping, and how it went.

Needs NumPy alone, but for progress bars, checkpoints and pictures.

>>> x = np.linspace(-1, 1, 256, dtype=np.float32)[:, None]
>>> fitted = fit(x, abs(x), Settings(hidden=(16,), epochs=20, batch_size=16))
>>> fitted.history["validation_loss"][-1] < 0.01
True
>>> predict(fitted.layers, x[:3], "relu").shape
(3, 1)
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from viva_tensor import autograd, nn, optim, program
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.distributed import ALONE, Ranks, warn_of_places
from viva_tensor.distributed.clock import Times
from viva_tensor.error import InvalidValue, ShapeMismatch, TensorError
from viva_tensor.keeping import Keeper
from viva_tensor.kernels._ranges import is_number, is_whole
from viva_tensor.program.ranks import RankStep
from viva_tensor.progress import Bar
from viva_tensor.rows import CLASSIFYING, Rows, split, usable

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

__all__ = [
    "DEFAULTS",
    "DivergenceError",
    "Fit",
    "Layers",
    "Network",
    "Settings",
    "fit",
    "plot_losses",
    "predict",
    "rates",
]

Float32Array = npt.NDArray[np.float32]
Layers = tuple[nn.Linear, ...]

LOSSES: Mapping[str, Callable[[Tape, Variable, Variable], Traced[Variable]]] = {
    "mse": nn.mse_loss,
    "mae": nn.mae_loss,
    "huber": nn.huber_loss,
    "cross_entropy": nn.cross_entropy,
    "binary_cross_entropy": nn.binary_cross_entropy,
}
SCHEDULES = ("cosine", "constant")
PREDICT_ROWS = 4096  # rows in one forward pass, so that memory stays bounded


class DivergenceError(TensorError, ArithmeticError):
    """The loss became infinite or NaN."""


@dataclass(frozen=True)
class Settings:
    """What training depends on beside its rows: the same settings and rows give the same weights, bit for bit.

    Parameters
    ----------
    hidden : tuple of int
        Units of the hidden layers; none makes a linear model.
    activation : str
        After each hidden layer; a name that :func:`viva_tensor.nn.mlp_forward` knows.
    loss : {"mse", "mae", "huber", "cross_entropy", "binary_cross_entropy"}
        The last two take outputs as logits.
    optimizer : optim.SGD, optim.Adam, ...
        Its ``lr`` is the highest rate of the schedule.
    schedule : {"cosine", "constant"}
        Of :func:`rates`, or the same rate throughout.
    epochs, batch_size : int
    validation_fraction : float
        Share of the rows that are only watched, if none are given for that; 0 watches none.
    patience : int, optional
        End when the validation loss found no new minimum in so many epochs, and return the weights of the minimum.
    seed : int
        Of the weights, the order of the rows and the validation rows.

    Raises
    ------
    InvalidValue
        If a setting is out of its range.

    Examples
    --------
    >>> Settings(batch_size=0)
    Traceback (most recent call last):
    ...
    viva_tensor.error.InvalidValue: Settings: batch_size=0, wanted an integer of at least 1
    """

    hidden: tuple[int, ...] = (128, 64)
    activation: str = "relu"
    loss: str = "mse"
    optimizer: optim.Optimizer = optim.SGD(lr=0.05, momentum=0.9)  # noqa: RUF009  # frozen
    schedule: str = "cosine"
    epochs: int = 40
    batch_size: int = 128
    validation_fraction: float = 0.1
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.hidden, Iterable):
            _refuse(f"hidden={self.hidden!r}", "wanted a tuple of integers")
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for name, value in (
            *(("hidden", width) for width in self.hidden),
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("patience", 1 if self.patience is None else self.patience),
            ("seed", self.seed + 1 if is_whole(self.seed) else self.seed),
        ):
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                least = 0 if name == "seed" else 1
                _refuse(f"{name}={getattr(self, name)!r}", f"wanted an integer of at least {least}")
        for name, choices in (("activation", nn.ACTIVATIONS), ("loss", LOSSES), ("schedule", SCHEDULES)):
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in choices:
                _refuse(f"{name}={getattr(self, name)!r}", f"wanted one of {', '.join(choices)}")
        if not isinstance(self.optimizer, optim.Optimizer):
            _refuse(f"optimizer={self.optimizer!r}", "wanted a record such as optim.SGD(lr=0.05)")
        if not (is_number(self.validation_fraction) and 0 <= self.validation_fraction < 1):
            _refuse(f"validation_fraction={self.validation_fraction!r}", "wanted a share from 0 to below 1")


DEFAULTS = Settings()


class Fit(NamedTuple):
    """Trained layers, and how training went.

    Attributes
    ----------
    layers : tuple of Linear
        Those of the last epoch, or with ``patience`` those of the best.
    history : dict of list
        Columns with a value for each epoch, ready for ``pandas.DataFrame``: epoch, learning_rate (of the last step),
        train_loss (the mean over the rows, each batch's before its update), and if there were validation rows
        validation_loss and, for classes, validation_accuracy.
    best_epoch : int
        That of ``layers``.
    seconds, rows_per_second : float
        Of training and watching, what a resumed run took before included.
    times : tuple of Times
        Where the time of each rank went, if that was asked.
    """

    layers: Layers
    history: dict[str, list[float]]
    best_epoch: int
    seconds: float
    rows_per_second: float
    times: tuple[Times, ...] = ()


class Network:
    """Forward passes of a network for any weights of the same shapes, compiled once for each number of rows.

    Examples
    --------
    >>> layers, tape = nn.mlp(autograd.new_tape(), (3, 4, 2), rng=np.random.default_rng(0))
    >>> Network("relu")(layers, np.ones((5, 3), np.float32)).shape
    (5, 2)
    """

    def __init__(self, activation: str) -> None:
        self.activation = activation
        self._compiled: dict[int, program.Forward] = {}

    def __call__(self, layers: Layers, x: Float32Array) -> Float32Array:
        """Outputs [rows, out] for x [rows, in]."""
        weights = [array for layer in layers for array in (layer.w.data, layer.b.data)]
        parts = []
        for start in range(0, max(len(x), 1), PREDICT_ROWS):
            rows = x[start : start + PREDICT_ROWS]
            if len(rows) not in self._compiled:
                self._compiled[len(rows)] = self._compile(layers, rows)
            parts.append(self._compiled[len(rows)](rows, *weights))
        return np.concatenate(parts)

    def _compile(self, layers: Layers, x: Float32Array) -> program.Forward:
        inputs, tape = [], autograd.new_tape()
        for data in (x, *(array for layer in layers for array in (layer.w.data, layer.b.data))):
            leaf, tape = autograd.new_constant(tape, data)
            inputs.append(leaf)
        held = tuple(nn.Linear(w, b) for w, b in zip(inputs[1::2], inputs[2::2], strict=True))
        output, tape = nn.mlp_forward(tape, held, inputs[0], activation=self.activation)
        return program.compile_forward(tape, output=output, inputs=inputs)


def predict(layers: Layers, x: npt.ArrayLike, activation: str | None = None) -> Float32Array:
    """Outputs of a network, in float32.

    Parameters
    ----------
    layers : sequence of Linear
    x : array_like [rows, in]
    activation : str
        What stands between the layers, as in training (``settings.activation``); a single layer has none.

    Returns
    -------
    ndarray [rows, out]

    Raises
    ------
    InvalidValue
        If there are several layers and no activation is named: layers do not tell with which they were trained.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> settings = Settings(hidden=(4,), epochs=2, activation="tanh")
    >>> predict(fit(x, x, settings).layers, x, settings.activation).shape
    (64, 1)
    """
    if activation is None and len(layers) > 1:
        raise InvalidValue(
            f"no activation between {len(layers)} layers",
            operation="predict",
            mend="give that of training, activation=settings.activation",
        )
    return Network(activation or "relu")(layers, np.ascontiguousarray(x, np.float32))


def rates(settings: Settings, per_epoch: int) -> Callable[[int], float]:
    """The learning rate of each step, counted from 1, for so many steps in an epoch.

    "cosine" rises to the optimiser's rate within the first epoch, and falls along half a cosine towards 0 at the end;
    the slow start keeps large first steps from leaving relu units at 0 for good.

    Examples
    --------
    >>> rate = rates(Settings(epochs=4, optimizer=optim.SGD(lr=0.5)), per_epoch=2)
    >>> [round(rate(step), 3) for step in range(1, 9)]
    [0.25, 0.481, 0.427, 0.346, 0.25, 0.154, 0.073, 0.019]
    """
    lr = settings.optimizer.lr
    if settings.schedule == "constant":
        return optim.schedules.constant(lr)
    return optim.schedules.warm_up(optim.schedules.cosine(lr, settings.epochs * per_epoch), per_epoch)


def fit(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    settings: Settings = DEFAULTS,
    *,
    validation: tuple[npt.ArrayLike, npt.ArrayLike] | npt.ArrayLike | None = None,
    classes: int | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_epochs: int | None = None,
    checkpoint_minutes: float = 1.0,
    resume: bool = False,
    rows: npt.ArrayLike | None = None,
    comm: Intracomm | None = None,
    timed: bool = False,
) -> Fit:
    """Train a network from x to y in shuffled batches, in float32.

    Parameters
    ----------
    x : array_like [rows, features]
    y : array_like [rows] or [rows, outputs]
        For "cross_entropy" class numbers [rows] or probabilities [rows, classes]; for "binary_cross_entropy" numbers
        from 0 to 1. Rows with a NaN or infinite target are left out, with a warning.
    settings : Settings
    validation : (x, y), or array_like of int, optional
        Rows to watch, or the numbers of those of x and y that are meant, instead of ``settings.validation_fraction`` of
        the rows to train on.
    classes : int, optional
        How many there are, if y may lack the last.
    progress : bool
        Show a bar on stderr, if that is a terminal: losses, rows per second, share of the peak rate of multiply-adds,
        time left.
    checkpoint : path, optional
        A file to keep the state of the run in, after every ``checkpoint_epochs`` epochs, or if that is not given after
        every ``checkpoint_minutes``, at the end, and when the run is interrupted from the keyboard. Needs
        ``pip install "viva-tensor[train]"``.
    resume : bool
        Go on from ``checkpoint``, with the bits of a run that was never interrupted. Rows and settings must be the
        same, but for ``patience``, and for ``epochs`` where the schedule is constant.
    rows : array_like of int, optional
        Numbers of the rows of x and y to train on; all by default.
    comm : mpi4py.MPI.Intracomm, optional
        The ranks that train together. Each calls this with the same rows, settings and paths, and takes its part of
        each batch: the batches are those of one rank, so that up to rounding any number of ranks leads to the same
        weights, and a run can be resumed on another number. Of a memory-mapped float32 x each rank reads what it needs.
        Rank 0 alone shows progress and writes. Needs ``pip install "viva-tensor[mpi]"`` or the like; under
        ``mpiexec -n 4 python -m mpi4py script.py`` a rank that fails ends the others. Ranks that have more threads than
        processors on a host, or are bound to one of many, are warned of, with the mend.
    timed : bool
        With several ranks: find out how long each computes, waits for the others and sums gradients, which takes a
        barrier a step.

    Returns
    -------
    Fit

    Raises
    ------
    DimensionError, ShapeMismatch, InvalidShape, InvalidValue
        If rows, targets or settings cannot be used for this, or are not those of the checkpoint.
    InvalidFile, OSError
        If the checkpoint cannot be read or written.
    DivergenceError
        If a loss becomes infinite or NaN.
    RankError
        If ranks differ in what must agree, or another rank has failed.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 256, dtype=np.float32)[:, None]
    >>> fitted = fit(x, abs(x), Settings(hidden=(16,), epochs=20, batch_size=16))
    >>> fitted.history["validation_loss"][-1] < 0.01
    True
    """
    ranks = Ranks(comm)
    if ranks.size > 1:
        shapes = {"the shape of x": np.shape(x), "the shape of y": np.shape(y)}
        ranks.agree("fit", {"settings": settings, "resume": resume, **shapes})
        warn_of_places(ranks)
    chosen = usable("rows", x, y, settings.loss, classes, rows, ranks)
    outputs = chosen.y.shape[1] if chosen.y.ndim == 2 else classes or int(chosen.y[chosen.numbers].max()) + 1
    watched: Rows | None = None
    if validation is not None:
        features, targets, numbers = (*validation, None) if isinstance(validation, tuple) else (x, y, validation)
        watched = usable("validation rows", features, targets, settings.loss, outputs, numbers, ranks)
        if watched.x.shape[1] != chosen.x.shape[1] or watched.y.shape[1:] != chosen.y.shape[1:]:
            mend = "give the same features and outputs"
            raise ShapeMismatch(
                (*chosen.x.shape[1:], *chosen.y.shape[1:]), (*watched.x.shape[1:], *watched.y.shape[1:]),
                operation="fit on validation rows", mend=mend,
            )  # fmt: skip
    elif settings.validation_fraction:
        chosen, watched = split(chosen, settings.validation_fraction, settings.seed)
    elif settings.patience is not None:
        raise InvalidValue(
            "patience without validation rows", operation="fit", mend="give some, or a validation_fraction above 0"
        )
    if resume and checkpoint is None:
        raise InvalidValue("resume without a checkpoint", operation="fit", mend="name the file to go on from")
    training = _Training(chosen, watched, outputs, settings, ranks)
    if isinstance(training.step, RankStep):
        training.step.timed = timed
    keeper = None
    if checkpoint is not None:
        keeper = Keeper(training, Path(checkpoint), checkpoint_epochs, checkpoint_minutes)
        if resume:
            keeper.resume()
    count = len(chosen.numbers)
    shown = progress and ranks.first
    bar = Bar(
        shown, count, settings.batch_size, settings.epochs, training.epoch, training.flops, launched=ranks.size > 1
    )
    with bar:
        with keeper or nullcontext():
            while not training.ended:
                training.advance(bar.step)
                bar.epoch(training.history)
                if keeper is not None:
                    keeper.epoch()
        if keeper is not None:
            keeper.end()
    return training.fitted()


def plot_losses(history: Mapping[str, Sequence[float]]) -> bytes:
    """The curves of a history as a PNG picture; needs ``pip install "viva-tensor[plot]"``.

    Examples
    --------
    >>> plot_losses({"epoch": [1, 2], "train_loss": [1.0, 0.1]})[1:4]
    b'PNG'
    """
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for name in ("train_loss", "validation_loss"):
        if name in history:
            axes.plot(history["epoch"], history[name], label=name.replace("_", " "))
    if all(loss > 0 for name, column in history.items() if name.endswith("_loss") for loss in column):
        axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.grid(True, which="both", alpha=0.2)
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()


class _Training:
    """A run between two epochs: all that the next one depends on."""

    def __init__(
        self, rows: Rows, watched: Rows | None, outputs: int, settings: Settings, ranks: Ranks = ALONE
    ) -> None:
        self.rows, self.watched, self.settings, self.ranks = rows, watched, settings, ranks
        self.rng = np.random.default_rng(settings.seed)
        sizes = (rows.x.shape[1], *settings.hidden, outputs)
        self.layers, tape = nn.mlp(autograd.new_tape(), sizes, rng=self.rng, activation=settings.activation)
        count = len(rows.numbers)
        batch = ranks.part(min(settings.batch_size, count))
        recorded = max(1, batch.stop - batch.start)
        self.step = self._compiled(tape, slice(recorded))
        self.flops = self.step.flops * count / recorded / ranks.size  # of an epoch, on this rank
        self.rate = rates(settings, math.ceil(count / settings.batch_size))
        self.network = Network(settings.activation)
        self.history: dict[str, list[float]] = {"epoch": [], "learning_rate": [], "train_loss": []}
        self._own: tuple[Float32Array, Float32Array] | None = None  # watched rows
        if watched is not None:
            self._own = watched.taken(ranks.part(len(watched.numbers)))
            self.history["validation_loss"] = []
            if settings.loss in CLASSIFYING:
                self.history["validation_accuracy"] = []
        self.best, self.best_loss, self.best_epoch = self.layers, math.inf, 0
        self.seconds = 0.0

    def _compiled(self, tape: Tape, batch: slice) -> program.Step:
        features, targets = self.rows.taken(batch)
        x, tape = autograd.new_constant(tape, features)
        y, tape = autograd.new_constant(tape, targets)
        output, tape = nn.mlp_forward(tape, self.layers, x, activation=self.settings.activation)
        loss, tape = LOSSES[self.settings.loss](tape, output, y)
        return program.compile_step(
            tape,
            loss=loss,
            params=self.layers,
            inputs=(x, y),
            optimizer=self.settings.optimizer,
            comm=self.ranks.comm,
        )

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history["epoch"])

    @property
    def ended(self) -> bool:
        patience = self.settings.patience
        return self.epoch >= self.settings.epochs or (patience is not None and self.epoch - self.best_epoch >= patience)

    def advance(self, each_step: Callable[[int], object]) -> None:
        """Train for one epoch and look at the validation rows; ``each_step`` hears of each step before it."""

        latest = 0.0

        def rate(number: int) -> float:
            nonlocal latest
            each_step(number)
            latest = self.rate(number)
            return latest

        start = perf_counter()
        (loss,) = self.step.run(
            self.rows.x,
            self.rows.y,
            rows=self.rows.numbers,
            batch_size=self.settings.batch_size,
            rng=self.rng,
            schedule=rate,
            shared=True,
        )
        self.layers = self.step.params(autograd.new_tape()).value
        values = {
            "epoch": self.epoch + 1,
            "learning_rate": latest,
            "train_loss": self._finite(loss),
        }
        if self._own is not None:
            values |= self._watch(*self._own)
        if self.watched is None or values["validation_loss"] < self.best_loss:
            self.best_loss = values.get("validation_loss", math.inf)
            self.best, self.best_epoch = self.layers, self.epoch + 1
        for name, column in self.history.items():
            column.append(values[name])
        self.seconds += perf_counter() - start

    def _watch(self, x: Float32Array, y: Float32Array) -> dict[str, float]:
        loss = accurate = 0.0
        if len(x):
            output = self.network(self.layers, x)
            pred, tape = autograd.new_constant(autograd.new_tape(), output)
            target, tape = autograd.new_constant(tape, y)
            loss = float(LOSSES[self.settings.loss](tape, pred, target).value.data)
            accurate = _accuracy(self.settings.loss, output, y)
        if self.ranks.size > 1:
            loss, accurate, count = self.ranks.sum(loss * len(x), accurate * len(x), len(x))
            loss, accurate = loss / count, accurate / count
        return {"validation_loss": self._finite(loss), "validation_accuracy": accurate}

    def _finite(self, loss: float) -> float:
        if math.isfinite(loss):
            return loss
        raise DivergenceError(
            f"the loss became {loss} in epoch {self.epoch + 1} of {self.settings.epochs}",
            mend=f"try a smaller learning rate, such as {self.settings.optimizer.lr / 10:g}",
        )

    def fitted(self) -> Fit:
        last = self.settings.patience is None
        rate = self.epoch * len(self.rows.numbers) / self.seconds if self.seconds else 0.0
        layers, epoch = (self.layers, self.epoch) if last else (self.best, self.best_epoch)
        times: tuple[Times, ...] = ()
        if isinstance(self.step, RankStep) and self.step.timed:
            times = tuple(self.ranks.all(self.step.times()))
        return Fit(layers, self.history, epoch, self.seconds, rate, times)


def _accuracy(loss: str, output: Float32Array, target: Float32Array) -> float:
    """The share of classes that are right; of "binary_cross_entropy", an output above 0 stands for 1."""
    if loss == "binary_cross_entropy":
        return float(np.mean((output > 0) == (target > 0.5)))
    actual = target if target.ndim == 1 else target.argmax(axis=1)
    return float(np.mean(output.argmax(axis=1) == actual))


def _refuse(got: str, wanted: str) -> NoReturn:
    raise InvalidValue(f"{got}, {wanted}", operation="Settings")
