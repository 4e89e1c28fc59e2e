"""The base of both estimators: training in the same steps as scikit-learn."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from viva_tensor import autograd, nn, optim, program
from viva_tensor.autograd import Tape, Traced, Variable, operations
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array
from viva_tensor.sklearn.parameters import ACTIVATIONS, CONSTRAINTS, hidden_widths
from viva_tensor.train import Layers, Network
from viva_tensor.train.network import record_layers

SMALLEST_RATE = 1e-6  # where learning_rate="adaptive" ends
MOST_ROWS = 200  # of batch_size="auto"


class _RowOrders:
    """Orders of the rows as scikit-learn draws them: each shuffles the one before."""

    def __init__(self, rows: int, state: np.random.RandomState) -> None:
        self._order = np.arange(rows)
        self._state = state

    def permutation(self, rows: int) -> Array:
        indices = np.arange(rows)
        self._state.shuffle(indices)
        self._order = self._order[indices]
        return self._order


@dataclass(eq=False, repr=False)
class MLP(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The common base of both estimators: everything but the targets, the loss and the score."""

    hidden_layer_sizes: int | Iterable[int] = (100,)
    activation: str = "relu"
    _: KW_ONLY
    solver: str = "adam"
    alpha: float = 0.0001
    batch_size: int | str = "auto"
    learning_rate: str = "constant"
    learning_rate_init: float = 0.001
    power_t: float = 0.5
    max_iter: int = 200
    shuffle: bool = True
    random_state: int | np.random.RandomState | None = None
    tol: float = 1e-4
    verbose: bool = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_iter_no_change: float = 10

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the compiled step, which is compiled again when needed."""
        return {name: value for name, value in super().__getstate__().items() if name != "_compiled"}

    # Defined by each estimator, like out_activation_ and, for labels, classes_

    def _targets(self, y: Array, keep: bool) -> Array:
        """Return checked float32 targets [rows, outputs], or class indices [rows]; ``keep`` retains known classes."""
        raise NotImplementedError

    def _loss(self, tape: Tape, output: Variable, target: Variable) -> Traced[Variable]:
        raise NotImplementedError

    def _validation_score(self, output: Array, target: Array) -> float:
        raise NotImplementedError

    # Training

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Train on rows X [rows, features] and y.

        For regression y holds numbers [rows] or [rows, outputs]; for classification labels [rows], or zeros and ones
        [rows, labels].

        Raises
        ------
        ValueError
            If X or numbers in y are not finite in float32, y does not hold labels where they are needed, X and y differ
            in their number of rows, or a parameter is out of its range.
        """
        return self._fit(X, y, incremental=False)

    def _fit(self, X: Any, y: Any, incremental: bool) -> Self:
        operation = "partial_fit" if incremental else "fit"
        hidden = hidden_widths(self, operation)
        if incremental and self.early_stopping:
            reason = "partial_fit does not support early_stopping=True"
            raise InvalidValue(reason, operation=operation, hint="use it with fit")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        with np.errstate(over="ignore"):  # becomes infinite, which is refused
            X, y = validate_data(self, X, y, dtype=np.float32, order="C", multi_output=True, reset=first)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if issparse(y):
            y = y.toarray()
        target = self._targets(y, keep=incremental or not first)
        outputs = int(target.shape[1]) if target.ndim == 2 else len(self.classes_)
        sizes = (X.shape[1], *hidden, outputs)
        state = check_random_state(self.random_state)
        if first:
            self._initialise(sizes, state)
        elif list(pairwise(sizes)) != [coef.shape for coef in self.coefs_]:
            raise InvalidValue(
                f"layers of sizes {sizes}, those fitted before have weights {[c.shape for c in self.coefs_]}",
                operation="fit",
                hint="change neither hidden_layer_sizes nor the outputs with warm_start or partial_fit",
            )
        validation: tuple[Array, Array] | None = None
        if self.early_stopping:
            strata = target.astype(bool) if is_classifier(self) and outputs == 1 else None
            X, x_validation, target, y_validation = train_test_split(
                X, target, random_state=state, test_size=self.validation_fraction, stratify=strata
            )
            if len(x_validation) < 2:
                raise InvalidValue(
                    f"The validation set is too small, it has {len(x_validation)} rows",
                    operation="fit",
                    hint="raise validation_fraction or give more rows",
                )
            X, target = np.ascontiguousarray(X), np.ascontiguousarray(target)
            validation = x_validation, y_validation
        batch = self._batch(len(X))
        step = self._step(X[:batch], target[:batch], incremental)
        try:
            self._train(step, X, target, batch, validation, state, incremental)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=3)
            self._keep_weights(step)
        return self

    def _initialise(self, sizes: tuple[int, ...], state: np.random.RandomState) -> None:
        """Draw parameters as scikit-learn does: uniform within √(6 / (in + out)), or √(2 / (in + out)) for logistic."""
        self.coefs_, self.intercepts_ = [], []
        for n_in, n_out in pairwise(sizes):
            bound = math.sqrt((2.0 if self.activation == "logistic" else 6.0) / (n_in + n_out))
            self.coefs_.append(state.uniform(-bound, bound, (n_in, n_out)).astype(np.float32))
            self.intercepts_.append(state.uniform(-bound, bound, n_out).astype(np.float32))
        self.n_layers_ = len(sizes)
        self.n_outputs_ = sizes[-1]
        self.t_ = 0
        self.loss_curve_: list[float] = []
        self.best_loss_: float | None = None if self.early_stopping else np.inf
        self.validation_scores_: list[float] | None = [] if self.early_stopping else None
        self.best_validation_score_: float | None = -np.inf if self.early_stopping else None
        self._unchanged = 0
        self._rate = self.learning_rate_init
        self._state: program.State | None = None

    def _optimizer(self) -> optim.Optimizer:
        if self.solver == "adam":
            betas = (self.beta_1, self.beta_2)
            return optim.Adam(lr=self.learning_rate_init, betas=betas, eps=self.epsilon)
        nesterov = self.nesterovs_momentum and self.momentum > 0
        return optim.SGD(lr=self.learning_rate_init, momentum=self.momentum, nesterov=nesterov)

    def _batch(self, rows: int) -> int:
        if isinstance(self.batch_size, str):
            return min(MOST_ROWS, rows)
        if self.batch_size > rows:
            warnings.warn(f"batch_size={self.batch_size} is larger than the {rows} rows; it is clipped", stacklevel=4)
        return min(int(self.batch_size), rows)

    def _step(self, X: Array, target: Array, incremental: bool) -> program.Step:
        """Return the compiled step with the fitted weights, and in ``partial_fit`` the moments of the last call."""
        optimizer = self._optimizer()
        sizes = [coef.shape for coef in self.coefs_]
        key = optimizer, len(X), self.alpha, self.activation, self.out_activation_, sizes
        kept = getattr(self, "_compiled", None)
        weights = self._weights()
        if kept is None or kept[0] != key:
            step = self._compile(X, target, optimizer)
            kept = self._compiled = key, step, step.state()
        _, step, new = kept
        if incremental and self._state is not None:
            step.restore(self._state._replace(params=weights))
        else:
            step.restore(new._replace(params=weights))
            self._rate = self.learning_rate_init
        step.lr = self._rate
        return step

    def _weights(self) -> tuple[Array, ...]:
        """Return the weight [out, in] and bias of each layer in turn."""
        return tuple(array for w, b in zip(self.coefs_, self.intercepts_, strict=True) for array in (w.T, b))

    def _compile(self, X: Array, target: Array, optimizer: optim.Optimizer) -> program.Step:
        layers, tape = record_layers(autograd.new_tape(), map(np.ascontiguousarray, self._weights()))
        x, tape = autograd.new_constant(tape, X)
        y, tape = autograd.new_constant(tape, target)
        output, tape = nn.mlp_forward(tape, layers, x, activation=ACTIVATIONS[self.activation])
        loss, tape = self._loss(tape, output, y)
        if self.alpha:
            loss, tape = _with_penalty(tape, loss, layers, self.alpha / 2, y)
        return program.compile_step(tape, loss=loss, params=layers, inputs=(x, y), optimizer=optimizer)

    def _train(
        self,
        step: program.Step,
        X: Array,
        target: Array,
        batch: int,
        validation: tuple[Array, Array] | None,
        state: np.random.RandomState,
        incremental: bool,
    ) -> None:
        orders = cast(np.random.Generator, _RowOrders(len(X), state))
        network = Network(ACTIVATIONS[self.activation])
        best: Layers | None = None
        if validation is not None:
            self.validation_scores_ = self.validation_scores_ or []
        self.n_iter_ = 0
        while self.n_iter_ < self.max_iter:
            (self.loss_,) = step.run(X, target, batch_size=batch, rng=orders, shuffle=self.shuffle)
            self.n_iter_ += 1
            self.t_ += len(X)
            self.loss_curve_.append(self.loss_)
            self._print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
            if not math.isfinite(self.loss_):
                break
            if validation is None:
                improved = self._improved_loss()
            else:
                layers = step.params(autograd.new_tape()).value
                score = self._validation_score(network(layers, validation[0]), validation[1])
                before = self.best_validation_score_
                improved = self._improved_score(score)
                best = layers if self.best_validation_score_ != before else best
            self._unchanged = 0 if improved else self._unchanged + 1
            if self._converged(step) or incremental:
                break
        else:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=4,
            )
        self._keep_weights(step, best)

    def _print(self, line: str) -> None:
        if self.verbose:
            print(line)

    def _improved_loss(self) -> bool:
        """Keep the lowest loss so far, and return whether this epoch's is lower by ``tol``."""
        least = math.inf if self.best_loss_ is None else self.best_loss_
        self.best_loss_ = min(least, self.loss_)
        return bool(self.loss_ <= least - self.tol)

    def _improved_score(self, score: float) -> bool:
        """Keep the best score so far, and return whether this epoch's is higher by ``tol``."""
        best = -math.inf if self.best_validation_score_ is None else self.best_validation_score_
        self.validation_scores_ = [*(self.validation_scores_ or ()), score]
        self._print(f"Validation score: {score:f}")
        if score > best:
            self.best_validation_score_ = score
        return bool(score >= best + self.tol)

    def _converged(self, step: program.Step) -> bool:
        """Set the learning rate of the next epoch, and return whether training ends for lack of improvement."""
        if self.solver == "sgd" and self.learning_rate == "invscaling":
            self._set_rate(step, self.learning_rate_init / (self.t_ + 1) ** self.power_t)
        if self._unchanged <= self.n_iter_no_change:
            return False
        if self.solver != "sgd" or self.learning_rate != "adaptive" or self._rate <= SMALLEST_RATE:
            self._print(f"No improvement by tol={self.tol:g} for {self.n_iter_no_change} epochs. Stopping.")
            return True
        self._set_rate(step, self._rate / 5)
        self._unchanged = 0
        self._print(f"Learning rate set to {self._rate:g}")
        return False

    def _set_rate(self, step: program.Step, rate: float) -> None:
        """Set the learning rate and scale the moments: scikit-learn's velocity includes the rate, ours does not."""
        state = step.state()
        moments = tuple(tuple(array * (self._rate / rate) for array in kind) for kind in state.moments)
        step.restore(state._replace(moments=moments))
        self._rate = step.lr = rate

    def _keep_weights(self, step: program.Step, best: Layers | None = None) -> None:
        """Keep the weights of a step, or those that scored best."""
        self._state = step.state()
        layers = best if best is not None else step.params(autograd.new_tape()).value
        self.coefs_ = [np.array(layer.w.data.T, order="C") for layer in layers]
        self.intercepts_ = [layer.b.data.copy() for layer in layers]
        if not all(np.isfinite(array).all() for array in (*self.coefs_, *self.intercepts_)):
            raise InvalidValue(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed.",
                operation="fit",
                hint="standardise the columns of X and y, or lower learning_rate_init",
            )

    def _output(self, X: Any) -> tuple[Array, type[np.floating[Any]]]:
        """Return outputs [rows, outputs] for X, and the dtype that results should have."""
        check_is_fitted(self)
        dtype = np.float32 if getattr(X, "dtype", None) == np.float32 else np.float64
        with np.errstate(over="ignore"):  # becomes infinite, which is refused
            X = validate_data(self, X, dtype=np.float32, order="C", reset=False)
        layers, _ = record_layers(autograd.new_tape(), (np.asarray(array, np.float32) for array in self._weights()))
        return Network(ACTIVATIONS[self.activation])(layers, X), dtype


def scaled(tape: Tape, x: Variable, factor: float) -> Traced[Variable]:
    """Record factor · x."""
    return autograd.record(tape, operations.SCALE, x, factor=float(factor))


def _with_penalty(tape: Tape, loss: Variable, layers: Layers, factor: float, target: Variable) -> Traced[Variable]:
    """Record the loss plus ``factor`` times the sum of squared weights, divided by the actual rows of a batch."""
    total, tape = autograd.new_constant(tape, np.float32(0))
    for layer in layers:
        squares, tape = autograd.mul(tape, layer.w, layer.w)
        size, tape = autograd.sum(tape, squares)
        total, tape = autograd.add(tape, total, size)
    zeros, tape = scaled(tape, target, 0)
    one, tape = autograd.new_constant(tape, np.float32(1))
    ones, tape = autograd.add(tape, zeros, one)
    count, tape = autograd.sum(tape, ones)
    penalty, tape = scaled(tape, total, factor * target.data.size / len(target.data))
    penalty, tape = autograd.div(tape, penalty, count)
    return autograd.add(tape, loss, penalty)
