"""The training of a recipe's network: epochs, validation, and the weights of the best epoch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from viva_tensor import autograd, program
from viva_tensor.autograd.tape import new_leaves
from viva_tensor.kernels.arrays import Float32Array
from viva_tensor.optim import Optimizer, Rates, leaves, replaced
from viva_tensor.tabular.progress import bar_of, bars
from viva_tensor.tabular.recipes.network import Predictor, TableNetwork, flat
from viva_tensor.train import DivergenceError


@dataclass(frozen=True)
class Course:
    """How a network is trained.

    Attributes
    ----------
    optimizer : Optimizer
    batch_size : int
    epochs, patience : int, optional
        Training ends after so many epochs, or with the first that is more than ``patience`` after the best.
    factors : Factors, or a tree of them, optional
        Of the optimiser's rate and decay for some layers.
    schedule : callable, optional
        The rates of each step, from 1.
    whole_batches : bool
        Whether the rows that are left in an epoch after the last whole batch are not trained on.
    latest : bool
        Whether of equally good epochs the last counts as the best.
    """

    optimizer: Optimizer
    batch_size: int
    epochs: int | None
    patience: int | None = None
    factors: Any = None
    schedule: Callable[[int], Rates] | None = None
    whole_batches: bool = False
    latest: bool = False


class Training:
    """A network on its way from one epoch to the next."""

    def __init__(
        self,
        network: TableNetwork,
        layers: Any,
        course: Course,
        inputs: Sequence[Float32Array],
        target: Float32Array,
        rng: np.random.Generator,
    ) -> None:
        self.course, self.inputs, self.target, self.rng = course, (*inputs, target), target, rng
        self.layers = self.best = layers
        self.best_epoch, self.best_error = 0, math.inf
        self.history: dict[str, list[float]] = {
            name: [] for name in ("epoch", "learning_rate", "train_loss", "validation_error")
        }
        self.step = compiled_step(network, layers, course, [array[: course.batch_size] for array in self.inputs], rng)
        self.predictor = Predictor(network, layers, inputs)

    @property
    def epoch(self) -> int:
        """The number of epochs done."""
        return len(self.history["epoch"])

    @property
    def ended(self) -> bool:
        """Whether the course is at its end."""
        course = self.course
        done = course.epochs is not None and self.epoch >= course.epochs
        return done or (course.patience is not None and self.epoch - self.best_epoch > course.patience)

    def advance(self, error_of: Callable[[Float32Array], float], validation: Sequence[Float32Array]) -> bool:
        """Train for one epoch and validate; return whether all was finite."""
        course, latest = self.course, self.course.optimizer.lr

        def rates(number: int) -> Rates:
            nonlocal latest
            found = course.schedule(number) if course.schedule else Rates(latest)
            latest = found.lr
            return found

        rows = self.rng.permutation(len(self.target))
        if course.whole_batches:
            rows = rows[: len(rows) // course.batch_size * course.batch_size]
        (loss,) = self.step.run(*self.inputs, rows=rows, batch_size=course.batch_size, shuffle=False, schedule=rates)
        self.layers = self.step.params(autograd.new_tape()).value
        error = error_of(self.predictor(flat(self.layers), validation))
        for name, value in zip(self.history, (self.epoch + 1, latest, loss, error), strict=True):
            self.history[name].append(float(value))
        if error < self.best_error or (course.latest and error == self.best_error < math.inf):
            self.best, self.best_epoch, self.best_error = self.layers, self.epoch, error
        return math.isfinite(loss) and math.isfinite(error)


@dataclass(frozen=True)
class Trained:
    """The layers of the best epoch, and the course of their training; see :class:`Fitted`."""

    layers: Any
    predictor: Predictor
    history: dict[str, list[float]]
    best_epoch: int
    seconds: float
    interrupted: bool


def train(
    training: Training,
    error_of: Callable[[Float32Array], float],
    validation: Sequence[Float32Array],
    progress: bool = False,
) -> Trained:
    """Train to the end, or until an interruption from the keyboard, or until weights are no longer finite.

    Raises
    ------
    DivergenceError
        If no epoch had finite weights.
    KeyboardInterrupt
        If it comes before the end of the first epoch.
    """
    began, interrupted = perf_counter(), False
    with bars(progress), bar_of("training", training.course.epochs or 0) as bar:
        try:
            while not training.ended:
                fine = training.advance(error_of, validation)
                errors = {"validation_error": f"{training.history['validation_error'][-1]:.4g}"}
                bar.set_postfix(errors, refresh=False)
                bar.update()
                if not fine:
                    _diverged(training)
                    break
        except KeyboardInterrupt:
            if not training.epoch:
                raise
            got = f"interrupted in epoch {training.epoch + 1}; the best of {training.epoch} epochs is returned"
            warnings.warn(f"fit: {got}", stacklevel=3)
            interrupted = True
    seconds = perf_counter() - began
    return Trained(training.best, training.predictor, training.history, training.best_epoch, seconds, interrupted)


def _diverged(training: Training) -> None:
    loss, error = (training.history[name][-1] for name in ("train_loss", "validation_error"))
    what, value = ("loss", loss) if not math.isfinite(loss) else ("validation error", error)
    got = f"the {what} became {value} in epoch {training.epoch}"
    if not training.best_epoch:
        hint = f"try a smaller learning rate, such as {training.course.optimizer.lr / 10:g}"
        raise DivergenceError(got, operation="fit", hint=hint)
    warnings.warn(f"fit: {got}; the weights of epoch {training.best_epoch} are returned", stacklevel=4)


def compiled_step(
    network: TableNetwork, layers: Any, course: Course, batch: Sequence[Float32Array], rng: np.random.Generator
) -> program.Step:
    """Compile a step of a network's training, recorded on a batch of its inputs and targets.

    Examples
    --------
    >>> from viva_tensor.tabular.recipes.realmlp import RealMLP
    >>> from viva_tensor.tabular.recipes.rows import Rows
    >>> rows, rng = Rows(np.ones((6, 2), np.float32), np.zeros((6, 0), np.int64)), np.random.default_rng(0)
    >>> recipe = RealMLP(hidden=(8,))
    >>> network = recipe.network(rows, None, rng)
    >>> layers, course = network.new(network.inputs(rows), rng).value, recipe.course(network, 6)
    >>> compiled_step(network, layers, course, (*network.inputs(rows), np.ones((6, 1), np.float32)), rng).steps
    0
    """
    before = leaves(layers)
    made, tape = new_leaves(autograd.new_tape(), [one.data for one in before])
    layers = replaced(layers, dict(zip(before, made, strict=True)).__getitem__)
    recorded, tape = new_leaves(tape, batch, autograd.new_constant)
    outputs, tape = network.forward(tape, layers, recorded[:-1], rng)
    loss, tape = network.loss(tape, outputs, recorded[-1])
    return program.compile_step(
        tape,
        loss=loss,
        params=layers,
        inputs=recorded,
        optimizer=course.optimizer,
        factors=course.factors,
        rng=rng,
    )
