"""Training by batches, in the same steps as scikit-learn."""

from __future__ import annotations

import copy
import inspect
import math
import numbers
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring

from viva_tensor import autograd, optim, program
from viva_tensor.autograd import Variable
from viva_tensor.autograd.tape import new_leaves
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array
from viva_tensor.sklearn.batches import Batches, batches_of
from viva_tensor.sklearn.callbacks import Watch
from viva_tensor.sklearn.forward import outputs
from viva_tensor.sklearn.losses import record_loss, record_mean_over_outputs, record_penalty
from viva_tensor.sklearn.parameters import ACTIVATIONS
from viva_tensor.sklearn.rates import Compiled, Rates
from viva_tensor.sklearn.reuse import SHELF, is_small
from viva_tensor.sklearn.rows import Rows
from viva_tensor.train.network import parameters, record_layers
from viva_tensor.train.sparse import arrays_of, forward

SMALLEST_RATE = 1e-6  # where learning_rate="adaptive" ends
MOST_ROWS = 200  # of batch_size="auto"


def begin_stochastic(mlp: Any) -> None:
    """Give an estimator that has weights the attributes that count epochs and keep what they reached."""
    mlp.loss_curve_ = []
    mlp.best_loss_ = None if mlp.early_stopping else math.inf
    mlp.validation_scores_ = [] if mlp.early_stopping else None
    mlp.best_validation_score_ = -math.inf if mlp.early_stopping else None
    mlp._no_improvement_count = 0


def prepare_stochastic(
    mlp: Any, rows: Rows, random: np.random.RandomState, incremental: bool, validation: Rows | None
) -> Callable[[Watch], None]:
    """Return what trains an estimator that has weights for up to ``max_iter`` epochs, or for one in ``partial_fit``.

    With ``early_stopping``, rows for validation are split off if none are given.
    """
    if not (incremental and hasattr(mlp, "_optimizer") and mlp._optimizer.solver == mlp.solver):
        mlp._optimizer = Rates(mlp, random)
    elif not hasattr(mlp._optimizer, "schedule"):  # it was pickled before it had one
        mlp._optimizer.read(mlp)
    if mlp.early_stopping and validation is None:
        rows, validation = rows.split(mlp.validation_fraction, is_classifier(mlp) and mlp.n_outputs_ == 1, random)
    if mlp.early_stopping:
        if mlp.validation_scores_ is None:  # fitted before without
            mlp.validation_scores_, mlp.best_validation_score_ = [], -math.inf
        # of this call: one that does not improve the score of those before ends with its last weights
        mlp._best = None if mlp.validation_scores_ else _copied(mlp.coefs_, mlp.intercepts_)
    batches = batches_of(rows.weighted() if incremental else rows, _batch(mlp, len(rows)), mlp.shuffle)
    if incremental:  # with as many rows in each call as there happen to be
        batches = replace(batches, largest=MOST_ROWS if isinstance(mlp.batch_size, str) else int(mlp.batch_size))
    step = _step(mlp, batches)
    return partial(
        _fit_stochastic, mlp, step, batches, partial(_train, mlp, step, batches, validation, random, incremental)
    )


def _fit_stochastic(
    mlp: Any, step: program.Step, batches: Batches, train: Callable[[Watch], None], watch: Watch
) -> None:
    """Train, and give the estimator what came of it."""
    try:
        train(watch)
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=4)
    finally:  # also after an exception of a callback or a scorer
        mlp._optimizer.keep(step, batches.by_entries)
        if mlp.early_stopping and mlp._best is not None:
            mlp.coefs_, mlp.intercepts_ = mlp._best
        else:
            _put(mlp, step, batches)


def _batch(mlp: Any, rows: int) -> int:
    if isinstance(mlp.batch_size, str):
        return min(MOST_ROWS, rows)
    if mlp.batch_size > rows:
        what = f"batch_size={mlp.batch_size} is larger than the {rows} rows"
        warnings.warn(f"Got `batch_size` larger than sample size, {what}; it is clipped", stacklevel=6)
    return min(int(mlp.batch_size), rows)


def _step(mlp: Any, batches: Batches) -> program.Step:
    """Return the compiled step with the weights of the estimator, and the moments that it goes on from."""
    rates, rows, by_entries = mlp._optimizer, batches.rows, batches.by_entries
    optimizer, dtype = rates.optimizer, rows.target.dtype
    weights = _params_of(mlp, batches)
    shapes = [array.shape for array in weights]
    if mlp.dropout and rates.rng is None:  # there was none in earlier calls of partial_fit
        rates.rng = np.random.default_rng(rates.steps)
    network = mlp.activation, mlp.out_activation_, mlp.dropout, shapes, by_entries
    key = optimizer, float(mlp.alpha), rows.weight is None, dtype, network
    plain = isinstance(mlp.solver, str) and not mlp.dropout  # dropout has a generator of its own
    may_wait = plain and is_small(weights, rows=max(batches.size, batches.largest))
    kept = getattr(mlp, "_compiled", None)
    made = False
    if kept is None or kept.key != key:
        waiting = SHELF.take(key) if may_wait else None
        made = waiting is None
        kept = Compiled(key, waiting or _compile(mlp, batches, weights, optimizer), rates.rng)
    mlp._compiled = kept
    kept.hand_over(rates, may_wait)
    step: program.Step = kept.step
    if made and not rates.has_moments:  # the step has these weights, and has made no steps
        step.lr = rates.learning_rate
    elif not _is_at(step, rates, weights):
        rates.resume(step, weights, by_entries)
    return step


def _is_at(step: program.Step, rates: Rates, weights: tuple[Array, ...]) -> bool:
    """Return whether a step is as it was left, and has these weights."""
    left = step is rates.step and step.steps == rates.steps and step.lr == rates.learning_rate
    return left and _has(step, weights)


def _has(step: program.Step, weights: tuple[Array, ...]) -> bool:
    """Return whether the parameters of a step are these."""
    params = parameters(step.params(autograd.new_tape()).value)
    return all(np.array_equal(one, other) for one, other in zip(params, weights, strict=True))


def _params_of(mlp: Any, batches: Batches) -> tuple[Array, ...]:
    """Return the weights of an estimator as parameters of a step."""
    pairs = zip(mlp.coefs_, mlp.intercepts_, strict=True)
    weights = [np.asarray(a, batches.rows.target.dtype) for w, b in pairs for a in (w.T, b)]
    if batches.by_entries:
        weights[0] = weights[0].T
    return tuple(weights)


def _compile(mlp: Any, batches: Batches, weights: tuple[Array, ...], optimizer: optim.Optimizer) -> program.Step:
    like, others = batches.first()
    layers, tape = record_layers(autograd.new_tape(), map(np.ascontiguousarray, weights))
    x, tape = new_leaves(tape, arrays_of(like), autograd.new_constant)
    y, tape = autograd.new_constant(tape, others[0])
    weight: Variable | None = None
    inputs: tuple[Variable, ...] = (*x, y)
    if len(others) > 1:
        weight, tape = autograd.new_constant(tape, np.ones_like(others[1]))  # some losses take no negative ones
        inputs = (*inputs, weight)
    drawn = np.random.default_rng(0)  # seeds that each step replaces
    output, tape = forward(tape, layers, x, like, ACTIVATIONS[mlp.activation], mlp.dropout, drawn)
    loss, tape = record_loss(tape, mlp.out_activation_, output, y, weight)
    if mlp.out_activation_ == "identity":
        loss, tape = record_mean_over_outputs(tape, loss, output.data.shape[1])
    if mlp.alpha:
        penalty, tape = record_penalty(tape, layers, float(mlp.alpha), y, weight)
        loss, tape = autograd.add(tape, loss, penalty)
    return program.compile_step(
        tape, loss=loss, params=layers, inputs=inputs, optimizer=optimizer, rng=mlp._optimizer.rng
    )


def _train(
    mlp: Any,
    step: program.Step,
    batches: Batches,
    validation: Rows | None,
    random: np.random.RandomState,
    incremental: bool,
    watch: Watch,
) -> None:
    count = len(batches.rows)
    order = np.arange(count)
    mlp.n_iter_ = 0
    while mlp.n_iter_ < mlp.max_iter:
        watch.begin()
        if mlp.shuffle:  # each order shuffles the one before, as scikit-learn draws them
            indices = np.arange(count)
            random.shuffle(indices)
            order = order[indices]
        mlp.loss_ = _epoch(step, batches, order)
        mlp.n_iter_ += 1
        mlp.t_ += count
        mlp.loss_curve_.append(mlp.loss_)
        _print(mlp, f"Iteration {mlp.n_iter_}, loss = {mlp.loss_:.8f}")
        worse = _worse_loss(mlp) if validation is None else _worse_score(mlp, _weights_of(step, batches), validation)
        mlp._no_improvement_count = mlp._no_improvement_count + 1 if worse else 0
        ended = _converged(mlp, step) or incremental
        if validation is None and math.isnan(mlp.loss_):  # weights that are not finite stay so
            ended |= not _finite(_weights_of(step, batches))
        values = {"epoch": mlp.n_iter_, "train_loss": mlp.loss_}
        if validation is not None:
            values["validation_score"] = mlp.validation_scores_[-1]
        if _told(mlp, step, batches, watch, values) or ended:
            break
    else:
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({mlp.max_iter}) reached and the optimization hasn't "
            "converged yet.",
            ConvergenceWarning,
            stacklevel=5,
        )


def _told(mlp: Any, step: program.Step, batches: Batches, watch: Watch, values: dict[str, float]) -> bool:
    """Tell that an epoch has ended, with the estimator's weights up to date; return whether training is to stop."""
    if mlp.callback is None:
        return watch.end(values, lambda: _weights_of(step, batches))
    _put(mlp, step, batches)
    stop = watch.end(values, lambda: _weights_of(step, batches))
    weights = _params_of(mlp, batches)
    if not _has(step, weights):  # they were changed
        step.restore(step.state()._replace(params=weights))
    return stop


def _epoch(step: program.Step, batches: Batches, order: Array) -> float:
    """Train for one epoch; return the mean over the rows of the loss of their batch."""
    batches.rows.check_weights(order, batches.size)
    return batches.run(step, order) / len(order)


def _print(mlp: Any, line: str) -> None:
    if mlp.verbose:
        print(line)


def _worse_loss(mlp: Any) -> bool:
    """Keep the lowest loss so far, and return whether this epoch's is not lower by ``tol``."""
    least = math.inf if mlp.best_loss_ is None else mlp.best_loss_
    mlp.best_loss_ = min(least, mlp.loss_)
    return bool(mlp.loss_ > least - mlp.tol)


def _worse_score(mlp: Any, weights: tuple[list[Array], list[Array]], validation: Rows) -> bool:
    """Keep the best score so far and its weights, and return whether this epoch's is not higher by ``tol``."""
    best = mlp.best_validation_score_
    score = _score(mlp, weights, validation)
    mlp.validation_scores_.append(score)
    _print(mlp, f"Validation score: {score:f}")
    if score > best:
        mlp.best_validation_score_, mlp._best = score, weights
    return bool(score < best + mlp.tol)


def _score(mlp: Any, weights: tuple[list[Array], list[Array]], validation: Rows) -> float:
    """Return the score of an estimator with these weights on validation rows; more is better."""
    if mlp.scoring is None:
        output = outputs(validation.x, *weights, mlp.activation)
        score = float(mlp._validation_score(output, validation.target, validation.weight))
        if math.isnan(score) and np.isfinite(output).all():
            got = f"the score of {len(validation)} validation rows is NaN"
            raise InvalidValue(got, operation="fit", hint="give at least two rows for validation")
        return score
    judged = copy.copy(mlp)
    judged.coefs_, judged.intercepts_ = _copied(*weights)  # it may keep them
    vars(judged).pop("feature_names_in_", None)  # these rows have lost theirs
    scorer = check_scoring(judged, mlp.scoring)
    given = {"sample_weight": validation.weight} if validation.weight is not None and _weighs(scorer) else {}
    score = scorer(judged, validation.x, mlp._given(validation.target), **given)
    if not isinstance(score, numbers.Real) or (math.isnan(score) and _finite(weights)):
        got = f"scoring={mlp.scoring!r} returned {score!r}, wanted a number"
        raise InvalidValue(got, operation="fit", hint="give a scorer's name, or a function of estimator, X and y")
    return float(score)


def _weighs(scorer: Any) -> bool:
    """Return whether a scorer takes weights of rows."""
    if hasattr(scorer, "_accept_sample_weight"):  # made by scikit-learn
        return bool(scorer._accept_sample_weight())
    parameters = inspect.signature(scorer).parameters.values()
    return any(one.name == "sample_weight" or one.kind is one.VAR_KEYWORD for one in parameters)


def _converged(mlp: Any, step: program.Step) -> bool:
    """Set the learning rate of the next epoch, and return whether training ends for lack of improvement."""
    rates = mlp._optimizer
    if rates.schedule == "invscaling":
        rates.change(step, rates.learning_rate_init / (mlp.t_ + 1) ** rates.power_t)
    if mlp._no_improvement_count <= mlp.n_iter_no_change:
        return False
    what = "Validation score" if mlp.early_stopping else "Training loss"
    reason = f"{what} did not improve more than tol={mlp.tol:f} for {mlp.n_iter_no_change} consecutive epochs."
    if rates.schedule != "adaptive":
        _print(mlp, f"{reason} Stopping.")
        return True
    if rates.learning_rate <= SMALLEST_RATE:
        _print(mlp, f"{reason} Learning rate too small. Stopping.")
        return True
    rates.change(step, rates.learning_rate / 5)
    mlp._no_improvement_count = 0
    _print(mlp, f"{reason} Setting learning rate to {rates.learning_rate:f}")
    return False


def _weights_of(step: program.Step, batches: Batches) -> tuple[list[Array], list[Array]]:
    """Return copies of the weights [in, out] and the biases of a step."""
    coefs, intercepts = _read(step, batches)
    return [np.array(coef, order="C") for coef in coefs], [one.copy() for one in intercepts]


def _read(step: program.Step, batches: Batches) -> tuple[list[Array], list[Array]]:
    """Return the weights [in, out], in any order in memory, and the biases of a step, which cannot be written."""
    layers, _ = step.params(autograd.new_tape())
    coefs = [layer.w.data.T for layer in layers]
    if batches.by_entries:
        coefs[0] = coefs[0].T
    return coefs, [layer.b.data for layer in layers]


def _put(mlp: Any, step: program.Step, batches: Batches) -> None:
    """Give an estimator the weights of a step, as in scikit-learn in the arrays that it has if they can be written."""
    for old, new in zip((mlp.coefs_, mlp.intercepts_), _read(step, batches), strict=True):
        for i, (before, after) in enumerate(zip(old, new, strict=True)):
            if before.dtype == after.dtype and before.flags.writeable:
                before[...] = after
            else:
                old[i] = np.array(after, order="C")


def _copied(coefs: list[Array], intercepts: list[Array]) -> tuple[list[Array], list[Array]]:
    return [one.copy() for one in coefs], [one.copy() for one in intercepts]


def _finite(weights: tuple[list[Array], list[Array]]) -> bool:
    return all(np.isfinite(one).all() for kind in weights for one in kind)
