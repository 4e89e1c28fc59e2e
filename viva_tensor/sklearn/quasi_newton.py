"""Training by L-BFGS on all rows at once, in float64."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from viva_tensor import autograd, optim, program
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.autograd.tape import new_leaves
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array, Float64Array
from viva_tensor.nn.activations import activation_of
from viva_tensor.sklearn.callbacks import Watch
from viva_tensor.sklearn.losses import record_loss
from viva_tensor.sklearn.parameters import ACTIVATIONS
from viva_tensor.sklearn.reuse import SHELF, is_small
from viva_tensor.sklearn.rows import Rows

RECORDED_ROWS = 16  # at least, to record with; the program is planned for all rows at its first call
Evaluation = Callable[[Float64Array, Rows], tuple[float, Float64Array]]


class RowsObjective:
    """The loss on given rows and its gradient, as a function of a vector: all ``coefs_``, then all ``intercepts_``.

    Squared errors are added up over the outputs. The first layer's product with sparse rows is computed outside of the
    program, which then takes it for its input, so that they are never dense.

    Parameters
    ----------
    mlp : MLPRegressor or MLPClassifier
        With weights, whose values do not matter.
    rows : Rows
        In float64, like those of each call.
    """

    def __init__(self, mlp: Any, rows: Rows) -> None:
        self._alpha = float(mlp.alpha)
        self._coefs, self._intercepts = ([np.array(one, np.float64) for one in kind] for kind in _weights(mlp))
        self._penalised = sum(one.size for one in self._coefs)
        make = self._of_sparse if rows.sparse else self._of_dense
        count = _rows_to_record(self._coefs + self._intercepts)
        recorded = np.arange(count) % len(rows)
        self._evaluate = make(mlp, tuple(one[recorded] for one in rows.all()))

    def __call__(self, flat: Float64Array, rows: Rows) -> tuple[float, Float64Array]:
        """Return the loss with the penalty, and its gradient."""
        value, gradient = self._evaluate(flat, rows)
        factor = self._alpha / (len(rows) if rows.weight is None else float(rows.weight.sum()))
        gradient[: self._penalised] += factor * flat[: self._penalised]
        return value + self.penalty(flat, rows), gradient

    def penalty(self, flat: Float64Array, rows: Rows) -> float:
        """Return the part of the loss that keeps weights small."""
        coefs = flat[: self._penalised]
        return self._alpha / 2 * float(coefs @ coefs) / (len(rows) if rows.weight is None else rows.weight.sum())

    def arrays(self, flat: Float64Array) -> tuple[list[Array], list[Array]]:
        """Return ``coefs_`` and ``intercepts_`` that are parts of a vector."""
        shapes = [one.shape for one in (*self._coefs, *self._intercepts)]
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        parts = [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]
        return parts[: len(self._coefs)], parts[len(self._coefs) :]

    def _of_dense(self, mlp: Any, batch: tuple[Any, ...]) -> Evaluation:
        x, tape = autograd.new_constant(autograd.new_tape(), batch[0])
        coefs, tape = new_leaves(tape, self._coefs)
        intercepts, tape = new_leaves(tape, self._intercepts)
        product, tape = autograd.matmul(tape, x, coefs[0])
        (loss, others), tape = _record(tape, mlp, product, coefs, intercepts, batch[1:])
        objective = program.compile_objective(tape, loss=loss, params=(coefs, intercepts), inputs=(x, *others))
        return lambda flat, rows: objective(flat, *rows.all())

    def _of_sparse(self, mlp: Any, batch: tuple[Any, ...]) -> Evaluation:
        first, *rest = self._coefs
        product, tape = autograd.new_variable(autograd.new_tape(), batch[0] @ first)
        coefs, tape = new_leaves(tape, rest)
        intercepts, tape = new_leaves(tape, self._intercepts)
        inner = (product, *coefs, *intercepts)
        (loss, others), tape = _record(tape, mlp, product, (product, *coefs), intercepts, batch[1:])
        slopes, tape = autograd.gradient(tape, loss, inner)
        forward = program.compile_forward(tape, output=(loss, *slopes), inputs=(product, *others, *inner[1:]))

        def evaluate(flat: Float64Array, rows: Rows) -> tuple[float, Float64Array]:
            (w, *more), biases = self.arrays(flat)
            x, *given = rows.all()
            value, slope, *gradients = forward(x @ w, *given, *more, *biases)
            return float(value), np.concatenate([one.ravel() for one in (x.T @ slope, *gradients)])

        return evaluate


def fit_lbfgs(mlp: Any, rows: Rows, dtype: Any, watch: Watch) -> None:
    """Train an estimator that has weights on rows of float64; its weights then have this dtype."""
    with lent_objective(mlp, rows) as objective:
        _minimise(objective, mlp, rows, dtype, watch)
    vars(mlp).pop("_optimizer", None)  # whose moments are those of other weights


def _minimise(objective: RowsObjective, mlp: Any, rows: Rows, dtype: Any, watch: Watch) -> None:
    def told(at: optim.Minimum) -> None:
        if mlp.verbose:
            print(f"Iteration {at.iterations}, loss = {at.value:.8f}")
        if mlp.callback is not None:
            mlp.coefs_, mlp.intercepts_ = weights_at(at.x)
        if watch.end({"epoch": at.iterations, "train_loss": told_loss(at)}, lambda: weights_at(at.x)):
            stopped.append(at.iterations)
            raise StopIteration
        watch.begin()

    def told_loss(at: optim.Minimum) -> Any:
        if mlp.out_activation_ != "identity":
            return at.value
        penalty = objective.penalty(at.x, rows)  # the rest is told as the mean over outputs
        return (at.value - penalty) / mlp.n_outputs_ + penalty

    def weights_at(flat: Float64Array) -> tuple[list[Array], list[Array]]:
        coefs, intercepts = ([one.astype(dtype) for one in kind] for kind in objective.arrays(flat))
        return coefs, intercepts

    stopped: list[int] = []
    watch.begin()
    try:
        found = optim.lbfgs(
            lambda flat: objective(flat, rows),
            np.concatenate([one.ravel() for kind in _weights(mlp) for one in kind]),
            gradient_tolerance=mlp.tol,
            max_iterations=mlp.max_iter,
            max_evaluations=mlp.max_fun + 1,  # SciPy stops when there were more
            callback=told,
        )
    except InvalidValue as error:  # about the start; everything else is checked
        hint = "standardise the columns of X and y"
        raise InvalidValue(f"at the initial weights, {error.reason}", operation="fit", hint=hint) from None
    mlp.n_iter_ = found.iterations
    mlp.loss_ = told_loss(found)
    mlp.coefs_, mlp.intercepts_ = weights_at(found.x)
    if stopped:
        return
    reason = "" if found.converged else found.reason
    if found.evaluations > mlp.max_fun or found.iterations >= mlp.max_iter:  # as in SciPy even if it just converged
        reason = f"max_iter={mlp.max_iter} or max_fun={mlp.max_fun} was reached"
    if reason:
        warnings.warn(
            f"lbfgs failed to converge after {found.iterations} iterations and {found.evaluations} evaluations: "
            f"{reason}. Raise max_iter or max_fun, or standardise the columns of X and y.",
            ConvergenceWarning,
            stacklevel=5,
        )


def lent_objective(mlp: Any, rows: Rows) -> AbstractContextManager[RowsObjective]:
    """Lend the objective of an estimator for a block, by what it depends on beside its weights and these rows."""
    network = mlp.activation, mlp.out_activation_, [coef.shape for coef in mlp.coefs_]
    key = RowsObjective, float(mlp.alpha), rows.sparse, rows.weight is None, network
    return SHELF.lent(key, lambda: RowsObjective(mlp, rows), is_small(mlp.coefs_, len(rows)))


def _rows_to_record(weights: Sequence[Array]) -> int:
    """Return a number of rows that no weights have: a program takes all inputs of as many rows for a batch."""
    lengths = {len(one) for one in weights}
    return next(count for count in itertools.count(RECORDED_ROWS) if count not in lengths)


def _weights(mlp: Any) -> tuple[list[Array], list[Array]]:
    return mlp.coefs_, mlp.intercepts_


def _record(
    tape: Tape,
    mlp: Any,
    product: Variable,
    coefs: tuple[Variable, ...],
    intercepts: tuple[Variable, ...],
    others: tuple[Array, ...],
) -> Traced[tuple[Variable, tuple[Variable, ...]]]:
    """Record the loss after the first layer's product; return it with the targets and weights of rows, if given."""
    target, tape = autograd.new_constant(tape, others[0])
    weight: Variable | None = None
    if len(others) > 1:
        weight, tape = autograd.new_constant(tape, np.ones_like(others[1]))  # some losses take no negative ones
    bend = activation_of("fit", ACTIVATIONS[mlp.activation])
    hidden, tape = autograd.add(tape, product, intercepts[0])
    for w, b in zip(coefs[1:], intercepts[1:], strict=True):
        hidden, tape = bend(tape, hidden)
        hidden, tape = autograd.matmul(tape, hidden, w)
        hidden, tape = autograd.add(tape, hidden, b)
    loss, tape = record_loss(tape, mlp.out_activation_, hidden, target, weight)
    return Traced((loss, (target,) if weight is None else (target, weight)), tape)
