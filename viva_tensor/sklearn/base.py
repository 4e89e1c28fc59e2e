"""What both estimators share: the steps of training, as scikit-learn takes them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Self, cast

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from viva_tensor import autograd, nn, optim, program
from viva_tensor.autograd import operations
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array
from viva_tensor.sklearn.parameters import ACTIVATIONS, hidden_widths
from viva_tensor.train import Layers, Network

SMALLEST_RATE = 1e-6  # where learning_rate="adaptive" ends
MOST_ROWS = 200  # of batch_size="auto"


class _RowOrders:
    """Orders of the rows as scikit-learn draws them, each a shuffle of the one before."""

    def __init__(self, rows: int, state: np.random.RandomState) -> None:
        self._order = np.arange(rows)
        self._state = state

    def permutation(self, rows: int) -> Array:
        places = np.arange(rows)
        self._state.shuffle(places)
        self._order = self._order[places]
        return self._order


class MLP(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What both estimators share: all but the targets, the loss and the score."""

    def __init__(
        self,
        hidden_layer_sizes: int | Iterable[int] = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change

    def __getstate__(self) -> dict[str, Any]:
        """Without the compiled step, which is made again where it is needed."""
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_compiled", None)
        return state

    # What the two estimators differ in

    out_activation_: str

    def _targets(self, y: Array, keep: bool) -> Array:
        """Checked targets as float32 [rows, outputs], or [rows] of class numbers; ``keep``: the known classes stay."""
        raise NotImplementedError

    def _outputs(self, target: Array) -> int:
        raise NotImplementedError

    def _loss(
        self, tape: autograd.Tape, output: autograd.Variable, target: autograd.Variable
    ) -> autograd.Traced[autograd.Variable]:
        raise NotImplementedError

    def _validation_score(self, output: Array, target: Array) -> float:
        raise NotImplementedError

    def _strata(self, target: Array) -> Array | None:
        return None

    # Training

    def _fit(self, X: Any, y: Any, incremental: bool) -> Self:
        hidden = hidden_widths(self)
        if incremental and self.early_stopping:
            raise InvalidValue("early_stopping=True", operation="partial_fit", hint="it goes with fit alone")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        with np.errstate(over="ignore"):  # becomes infinite, which is refused
            X, y = validate_data(self, X, y, dtype=np.float32, order="C", multi_output=True, reset=first)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if issparse(y):
            y = y.toarray()
        target = self._targets(y, keep=incremental or not first)
        outputs = self._outputs(target)
        sizes = (X.shape[1], *hidden, outputs)
        state = check_random_state(self.random_state)
        if first:
            self._initialise(sizes, outputs, state)
        elif [(n_in, n_out) for n_in, n_out in pairwise(sizes)] != [coef.shape for coef in self.coefs_]:
            raise InvalidValue(
                f"layers of sizes {sizes}, those fitted before have weights {[c.shape for c in self.coefs_]}",
                operation="fit",
                hint="change neither hidden_layer_sizes nor the outputs with warm_start or partial_fit",
            )
        validation: tuple[Array, Array] | None = None
        if self.early_stopping:
            X, x_validation, target, y_validation = train_test_split(
                X, target, random_state=state, test_size=self.validation_fraction, stratify=self._strata(target)
            )
            if len(x_validation) < 2:
                raise InvalidValue(
                    f"{len(x_validation)} rows for validation",
                    operation="fit",
                    hint="The validation set is too small: raise validation_fraction or give more rows",
                )
            X, target = np.ascontiguousarray(X), np.ascontiguousarray(target)
            validation = x_validation, y_validation
        batch = self._batch(len(X))
        step = self._step(X[:batch], target[:batch], incremental)
        try:
            self._train(step, X, target, batch, validation, state, incremental)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=3)
            self._take(step)
        return self

    def _initialise(self, sizes: tuple[int, ...], outputs: int, state: np.random.RandomState) -> None:
        """Weights and biases as scikit-learn draws them: uniform within √(6 / (in + out)), √(2 / ...) for logistic."""
        self.coefs_, self.intercepts_ = [], []
        for n_in, n_out in pairwise(sizes):
            bound = math.sqrt((2.0 if self.activation == "logistic" else 6.0) / (n_in + n_out))
            self.coefs_.append(state.uniform(-bound, bound, (n_in, n_out)).astype(np.float32))
            self.intercepts_.append(state.uniform(-bound, bound, n_out).astype(np.float32))
        self.n_layers_ = len(sizes)
        self.n_outputs_ = outputs
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
        """The compiled step with the weights of ``coefs_``; going on in ``partial_fit`` it keeps its moments too."""
        optimizer = self._optimizer()
        sizes = [coef.shape for coef in self.coefs_]
        key = optimizer, len(X), self.alpha, self.activation, self.out_activation_, sizes
        kept = getattr(self, "_compiled", None)
        weights = tuple(array for w, b in zip(self.coefs_, self.intercepts_, strict=True) for array in (w.T, b))
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

    def _compile(self, X: Array, target: Array, optimizer: optim.Optimizer) -> program.Step:
        tape = autograd.new_tape()
        recorded = []
        for coef, intercept in zip(self.coefs_, self.intercepts_, strict=True):
            w, tape = autograd.new_variable(tape, np.ascontiguousarray(coef.T))
            b, tape = autograd.new_variable(tape, intercept)
            recorded.append(nn.Linear(w, b))
        layers: Layers = tuple(recorded)
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
            self._say(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
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
            if self._settled(step) or incremental:
                break
        else:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=4,
            )
        self._take(step, best)

    def _say(self, line: str) -> None:
        if self.verbose:
            print(line)

    def _improved_loss(self) -> bool:
        """Return whether the loss of an epoch fell by ``tol``; the least one so far is kept."""
        least = math.inf if self.best_loss_ is None else self.best_loss_
        self.best_loss_ = min(least, self.loss_)
        return bool(self.loss_ <= least - self.tol)

    def _improved_score(self, score: float) -> bool:
        """Return whether the score of an epoch rose by ``tol``; the best one so far is kept."""
        best = -math.inf if self.best_validation_score_ is None else self.best_validation_score_
        self.validation_scores_ = [*(self.validation_scores_ or ()), score]
        self._say(f"Validation score: {score:f}")
        if score > best:
            self.best_validation_score_ = score
        return bool(score >= best + self.tol)

    def _settled(self, step: program.Step) -> bool:
        """Return whether training ends for want of improvement; the learning rate of the next epoch is set."""
        if self.solver == "sgd" and self.learning_rate == "invscaling":
            self._set_rate(step, self.learning_rate_init / (self.t_ + 1) ** self.power_t)
        if self._unchanged <= self.n_iter_no_change:
            return False
        if self.solver != "sgd" or self.learning_rate != "adaptive" or self._rate <= SMALLEST_RATE:
            self._say(f"No improvement by tol={self.tol:g} for {self.n_iter_no_change} epochs. Stopping.")
            return True
        self._set_rate(step, self._rate / 5)
        self._unchanged = 0
        self._say(f"Learning rate set to {self._rate:g}")
        return False

    def _set_rate(self, step: program.Step, rate: float) -> None:
        """Another learning rate. The velocity of scikit-learn has it as a factor, ours has not."""
        state = step.state()
        moments = tuple(tuple(array * (self._rate / rate) for array in kind) for kind in state.moments)
        step.restore(state._replace(moments=moments))
        self._rate = step.lr = rate

    def _take(self, step: program.Step, best: Layers | None = None) -> None:
        """Keep the weights of a step, or those that scored best."""
        self._state = step.state()
        layers = best if best is not None else step.params(autograd.new_tape()).value
        self.coefs_ = [np.array(layer.w.data.T, order="C") for layer in layers]
        self.intercepts_ = [layer.b.data.copy() for layer in layers]
        if not all(np.isfinite(array).all() for array in (*self.coefs_, *self.intercepts_)):
            raise InvalidValue(
                "the weights became infinite or NaN",
                operation="fit",
                hint="standardise the columns of X and y, or lower learning_rate_init",
            )

    def _output(self, X: Any) -> tuple[Array, type[np.floating[Any]]]:
        """Outputs [rows, outputs] for checked rows, and the dtype that the caller computes in."""
        check_is_fitted(self)
        dtype = np.float32 if getattr(X, "dtype", None) == np.float32 else np.float64
        with np.errstate(over="ignore"):  # becomes infinite, which is refused
            X = validate_data(self, X, dtype=np.float32, order="C", reset=False)
        tape = autograd.new_tape()
        layers = []
        for coef, intercept in zip(self.coefs_, self.intercepts_, strict=True):
            w, tape = autograd.new_constant(tape, np.asarray(coef, np.float32).T)
            b, tape = autograd.new_constant(tape, np.asarray(intercept, np.float32))
            layers.append(nn.Linear(w, b))
        return Network(ACTIVATIONS[self.activation])(tuple(layers), X), dtype


def scaled(tape: autograd.Tape, x: autograd.Variable, factor: float) -> autograd.Traced[autograd.Variable]:
    """Record factor · x."""
    return autograd.record(tape, operations.SCALE, x, factor=float(factor))


def _with_penalty(
    tape: autograd.Tape, loss: autograd.Variable, layers: Layers, factor: float, target: autograd.Variable
) -> autograd.Traced[autograd.Variable]:
    """The loss plus ``factor`` times the sum of all squared weights, divided by the rows that a batch really has."""
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
