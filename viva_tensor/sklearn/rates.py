"""The optimiser of an estimator, its learning rate, and its moments between calls of ``partial_fit``."""

from __future__ import annotations

import copy
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from viva_tensor import optim, program
from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.updates import Rule
from viva_tensor.sklearn.reuse import SHELF
from viva_tensor.train.sparse import turned


@dataclass(frozen=True, slots=True)
class EpsilonHatAdam(optim.Adam):
    """Adam as scikit-learn has it: ε is added to the root of the second moment before the correction of that."""

    def rule(self, steps: int = 0) -> Rule:
        """Return the optimiser as kernels see it, after so many steps."""
        beta_1, beta_2 = self.betas
        return Rule(
            "adam",
            self.lr,
            momentum=beta_1,
            square_momentum=beta_2,
            epsilon=self.eps,
            decay=self.weight_decay,
            epsilon_hat=True,
            steps=steps,
        )


def optimizer_of(mlp: Any) -> optim.Optimizer:
    """Return the optimiser that the parameters of an estimator describe."""
    if isinstance(mlp.solver, optim.Optimizer):
        return mlp.solver
    if mlp.solver == "adam":
        betas = (float(mlp.beta_1), float(mlp.beta_2))
        return EpsilonHatAdam(lr=float(mlp.learning_rate_init), betas=betas, eps=float(mlp.epsilon))
    nesterov = bool(mlp.nesterovs_momentum) and mlp.momentum > 0
    return optim.SGD(lr=float(mlp.learning_rate_init), momentum=float(mlp.momentum), nesterov=nesterov)


@dataclass
class Use:
    """Who has moments in a compiled step, and whether it may wait for others once it is used no more."""

    rates: weakref.ref[Rates] | None = None
    may_wait: bool = True

    def holder(self) -> Rates | None:
        """Return the rates whose moments are in the step, if they are still there."""
        return None if self.rates is None else self.rates()


@dataclass
class Compiled:
    """A compiled step of an estimator, which copies of that share.

    Attributes
    ----------
    key : tuple
        What the step was compiled for.
    step : program.Step
    rng : Generator or None
        What its dropouts are drawn from.
    use : Use
    """

    key: tuple[Any, ...]
    step: program.Step
    rng: np.random.Generator | None
    use: Use = field(default_factory=Use)

    def __post_init__(self) -> None:
        weakref.finalize(self, _put_aside, self.key, self.step, self.use).atexit = False

    def hand_over(self, rates: Rates, may_wait: bool) -> None:
        """Let these rates have the step; if others left their moments in it, they take them first.

        Once no estimator has the step any more, it waits for the next fit of its kind if it always was to.
        """
        before = self.use.holder()
        if before is not None and before is not rates:
            before.leave()
        self.use.rates = weakref.ref(rates)
        self.use.may_wait &= may_wait
        if self.rng is not None and rates.rng is not None and self.rng is not rates.rng:
            self.rng.bit_generator.state, rates.rng = rates.rng.bit_generator.state, self.rng


def _put_aside(key: tuple[Any, ...], step: program.Step, use: Use) -> None:
    """Let a step that no estimator has wait for the next fit; not if the moments of a copy are in it."""
    if use.may_wait and use.holder() is None:
        SHELF.put(key, step)


class Rates:
    """The learning rate of an estimator, how it changes, and the optimiser's moments between calls of ``partial_fit``.

    Attributes
    ----------
    solver : str or optim.Optimizer
    optimizer, schedule, power_t : optim.Optimizer, str, float
        As the parameters were at first: like scikit-learn's, they stay.
    learning_rate_init, learning_rate : float
        The rate to begin with, and that of the next step.
    step : program.Step or None
        The step in which the moments were left, if it was.
    moments : tuple of tuples of ndarray, or None
        For each kind of moment an array for each parameter; None before the first step.
    by_entries : bool
        Whether they are of a step on entries, whose first weights are [in, out]; else all are [out, in].
    steps : int
    rng : Generator or None
        What dropouts are drawn from.
    """

    by_entries = False  # also of estimators that were pickled before there were entries
    _moments: tuple[tuple[Array, ...], ...] | None = None  # of a step that is compiled no longer

    def __init__(self, mlp: Any, random: np.random.RandomState) -> None:
        self.read(mlp)
        self.learning_rate_init = self.learning_rate = float(self.optimizer.lr)
        self.step: program.Step | None = None
        self.steps = 0
        self.rng = np.random.default_rng(random.randint(1 << 31)) if mlp.dropout else None

    def read(self, mlp: Any) -> None:
        """Take what stays from the parameters of an estimator."""
        self.solver: str | optim.Optimizer = mlp.solver
        self.optimizer = optimizer_of(mlp)
        self.schedule: str = mlp.learning_rate if mlp.solver == "sgd" else "constant"
        self.power_t: float = mlp.power_t

    def __getstate__(self) -> dict[str, Any]:
        """Return the moments instead of the step, which is compiled again when needed."""
        return {**vars(self), "step": None, "_moments": None, "moments": self.moments}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({"step": None} | state)
        self._moments = vars(self).pop("moments")

    @property
    def moments(self) -> tuple[tuple[Array, ...], ...] | None:
        """Copies of the moments."""
        return self._moments if self.step is None else self.step.state().moments

    @property
    def has_moments(self) -> bool:
        """Whether there are moments to go on from."""
        return self.step is not None or self._moments is not None

    def resume(self, step: program.Step, weights: tuple[Array, ...], by_entries: bool) -> None:
        """Let a step go on from these moments, or begin anew, with the given weights."""
        given, steps = self.moments, self.steps
        if given is None:
            zeros = tuple(np.zeros(one.shape, one.dtype) for one in weights)
            moments, steps = (zeros,) * len(self.optimizer.slots), 0
        else:
            kinds = (turned(kind, by_entries != self.by_entries) for kind in given)
            moments = tuple(tuple(one.astype(weights[0].dtype) for one in kind) for kind in kinds)
        step.restore(program.State(weights, moments, steps))
        step.lr = self.learning_rate

    def keep(self, step: program.Step, by_entries: bool) -> None:
        """Leave the moments in a step."""
        self.step, self.steps, self.by_entries, self._moments = step, step.steps, by_entries, None

    def leave(self) -> None:
        """Take copies of the moments and of the generator from a step that something else will go on with."""
        self._moments, self.step = self.moments, None
        self.rng = copy.deepcopy(self.rng)

    def change(self, step: program.Step, rate: float) -> None:
        """Set the learning rate and scale the moments: scikit-learn's velocity includes the rate, ours does not."""
        state = step.state()
        moments = tuple(tuple(array * (self.learning_rate / rate) for array in kind) for kind in state.moments)
        step.restore(state._replace(moments=moments))
        self.learning_rate = step.lr = rate
