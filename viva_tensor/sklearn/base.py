"""The base of both estimators: everything but the targets and the score."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from viva_tensor import optim
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array
from viva_tensor.sklearn.callbacks import CallbackSupportMixin, Watch, with_callbacks
from viva_tensor.sklearn.forward import outputs
from viva_tensor.sklearn.parameters import CONSTRAINTS, check_parameters, hidden_widths, is_stochastic
from viva_tensor.sklearn.quasi_newton import fit_lbfgs, lent_objective
from viva_tensor.sklearn.refusals import as_before_if_refused, check_no_mask, check_of_numpy
from viva_tensor.sklearn.rows import Rows
from viva_tensor.sklearn.stochastic import begin_stochastic, prepare_stochastic

FLOATS = (np.float64, np.float32)  # other numbers become the first


@dataclass(eq=False, repr=False)
class MLP(CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The common base of both estimators: everything but the targets and the score."""

    _: KW_ONLY
    solver: str | optim.Optimizer = "adam"
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
    max_fun: int = 15_000
    dropout: float = 0.0
    scoring: str | Callable[..., float] | None = None
    callback: Callable[[dict[str, float]], object] | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the compiled step and the note of what was checked: both are made again."""
        made_again = "_compiled", "_checked_parameters"
        return {name: value for name, value in super().__getstate__().items() if name not in made_again}

    def onnx_parser(self) -> None:
        """Warn if skl2onnx, which calls this first, has not been told how it converts; let it go on."""
        if "viva_tensor.sklearn.onnx" not in sys.modules:
            hint = "import viva_tensor.sklearn.onnx before, or give to_onnx functions of your own"
            warnings.warn(f"to_onnx: skl2onnx has not been told what {type(self)} is; {hint}", stacklevel=2)

    # Defined by each estimator, with out_activation_ and, for labels, classes_

    def _targets(self, y: Array, keep: bool, dtype: npt.DTypeLike, whole: bool = True) -> Array:
        """Return checked targets [rows, outputs], or class indices [rows].

        With ``keep`` known classes are retained; those that are ``whole`` have all of them if there is a warm start.
        """
        raise NotImplementedError

    def _validation_score(self, output: Array, target: Array, weight: Array | None) -> float:
        raise NotImplementedError

    def _given(self, target: Array) -> Array:
        """Return targets as ``fit`` was given them: the reverse of ``_targets``."""
        raise NotImplementedError

    def _weights(self, y: Array, weight: Array | None, operation: str) -> Array | None:
        """Return the weights of rows, with those of their classes if there are some."""
        return weight

    # Training

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        *,
        validation_data: tuple[Any, ...] | None = None,
    ) -> Self:
        """Train on rows X [rows, features] and y.

        Parameters
        ----------
        X : array_like or sparse matrix [rows, features]
            Computed with in float32 if it is float32, else in float64. A sparse one, of any form and of numbers or
            booleans, is multiplied by the first weights as it is, and so for their gradient. A solver that takes
            batches makes them dense, one at a time, where that takes less time: with less than four times as many
            features as there are entries in the fullest row of a batch, on average over the batches.
        y : array_like
            For regression numbers [rows] or [rows, outputs]; for classification labels [rows], or zeros and ones
            [rows, labels].
        sample_weight : array_like [rows], optional
            Losses are averaged with these weights in each batch, and scores of validation rows.
        validation_data : (X, y) or (X, y, sample_weight), optional
            With ``early_stopping``, the rows to validate on; then none are split off. A pipeline hands them on as they
            are, without the steps before.

        Raises
        ------
        ValueError
            If X or numbers in y are not finite, y does not hold labels where they are needed, X and y differ in their
            number of rows, a parameter is out of its range, or the weights of the rows of a batch sum to 0; if the
            network's weights become infinite or NaN; if there are validation rows but no ``early_stopping``. If
            training has not begun, the estimator is then as before.
        """
        return self._fit(X, y, sample_weight, "fit", validation_data)

    def _fit(self, X: Any, y: Any, sample_weight: Any, operation: str, validation_data: Any = None) -> Self:
        with as_before_if_refused(self):
            train = self._prepared(X, y, sample_weight, operation, validation_data)
        watch = Watch(self, X, y, sample_weight, whole=operation == "fit")
        train(watch)
        if not all(np.isfinite(array).all() for array in (*self.coefs_, *self.intercepts_)):
            raise InvalidValue(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed.",
                operation=operation,
                hint="standardise the columns of X and y, or lower learning_rate_init",
            )
        watch.done()
        return self

    def _prepared(
        self, X: Any, y: Any, sample_weight: Any, operation: str, validation_data: Any
    ) -> Callable[[Watch], None]:
        """Check everything that is given, draw weights if there are none to go on from, and return what trains."""
        incremental = operation == "partial_fit"
        check_parameters(self, operation)
        check_of_numpy(operation, X=X, y=y)
        check_no_mask(operation, X=X, y=y, sample_weight=sample_weight)
        hidden = hidden_widths(self, operation)
        if incremental and self.early_stopping:
            reason = "partial_fit does not support early_stopping=True"
            raise InvalidValue(reason, operation=operation, hint="use it with fit")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        numeric = not isinstance(self, ClassifierMixin)
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=FLOATS, order="C", multi_output=True, y_numeric=numeric, reset=first
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if first:
            self._sparse_labels = issparse(y)
        if issparse(y):
            y = y.toarray()
        dtype = X.dtype if first else _computed_in(*self.coefs_, *self.intercepts_)
        inner = dtype if is_stochastic(self.solver) else np.float64
        target = self._targets(y, incremental or not first, inner)
        rows = self._rows(X, y, target, sample_weight, operation)
        rows.check_weights(np.arange(len(rows)), len(rows))
        validation = None if validation_data is None else self._validation_rows(validation_data, rows)
        self.n_outputs_ = int(target.shape[1]) if target.ndim == 2 else len(self.classes_)
        sizes = (X.shape[1], *hidden, self.n_outputs_)
        random = check_random_state(self.random_state)
        if first:
            self._initialise(sizes, random, dtype)
        elif list(pairwise(sizes)) != [coef.shape for coef in self.coefs_]:
            raise InvalidValue(
                f"layers of sizes {sizes}, those fitted before have weights {[c.shape for c in self.coefs_]}",
                operation=operation,
                hint="change neither hidden_layer_sizes nor the outputs with warm_start or partial_fit",
            )
        if not is_stochastic(self.solver):
            return partial(fit_lbfgs, self, rows, dtype)
        if first or not hasattr(self, "loss_curve_"):
            begin_stochastic(self)
        return prepare_stochastic(self, rows, random, incremental, validation)

    def _rows(self, X: Any, y: Array, target: Array, sample_weight: Any, operation: str) -> Rows:
        """Return checked rows in the dtype of their targets, with weights if they or their classes have some."""
        dtype = target.dtype
        weight = None if sample_weight is None else _check_sample_weight(sample_weight, X, dtype=dtype)
        weight = self._weights(y, weight, operation)
        return Rows(X.astype(dtype, copy=False), target, None if weight is None else weight.astype(dtype, copy=False))

    def _validation_rows(self, given: Any, training: Rows) -> Rows:
        """Return rows for validation that were given, checked like those of the training."""
        if not (self.early_stopping and is_stochastic(self.solver)):
            got = f"validation_data with early_stopping={self.early_stopping} and solver={self.solver!r}"
            hint = "set early_stopping=True, with a solver that takes batches, or give none"
            raise InvalidValue(got, operation="fit", hint=hint)
        if not (isinstance(given, tuple | list) and len(given) in (2, 3)):
            got = f"validation_data is a {type(given).__name__}, wanted (X, y) or (X, y, sample_weight)"
            raise InvalidValue(got, operation="fit", hint="give a tuple")
        X, y, *weight = given
        check_of_numpy("fit", X=X, y=y)
        check_no_mask("fit", X=X, y=y, sample_weight=weight[0] if weight else None)
        numeric = not isinstance(self, ClassifierMixin)
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=FLOATS, order="C", multi_output=True, y_numeric=numeric, reset=False
        )
        y = y.toarray() if issparse(y) else y
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        target = self._targets(y, keep=True, dtype=training.target.dtype, whole=False)
        if target.shape[1:] != training.target.shape[1:]:
            got = f"y of validation_data has the shape {y.shape}, which is not like that of training"
            raise InvalidValue(got, operation="fit", hint="give it the same outputs")
        rows = self._rows(X, y, target, weight[0] if weight else None, "fit")
        if rows.weight is not None and not rows.weight.sum():
            hint = "give rows that count"
            raise InvalidValue("the weights of validation_data sum to 0", operation="fit", hint=hint)
        return rows

    def _initialise(self, sizes: tuple[int, ...], random: np.random.RandomState, dtype: npt.DTypeLike) -> None:
        """Draw parameters as scikit-learn does: uniform within √(6 / (in + out)), or √(2 / (in + out)) for logistic."""
        self.coefs_, self.intercepts_ = [], []
        for n_in, n_out in pairwise(sizes):
            bound = math.sqrt((2.0 if self.activation == "logistic" else 6.0) / (n_in + n_out))
            self.coefs_.append(random.uniform(-bound, bound, (n_in, n_out)).astype(dtype))
            self.intercepts_.append(random.uniform(-bound, bound, n_out).astype(dtype))
        self.n_layers_ = len(sizes)
        self.n_iter_ = self.t_ = 0

    def _loss_grad_lbfgs(
        self, packed_coef_inter: Array, X: Any, y: Array, sample_weight: Array | None = None, *_: Any
    ) -> tuple[float, Array]:
        """Return the loss of L-BFGS and its gradient for weights in one vector: scikit-learn's method of this name.

        As there, y has a column for each output. The arrays for results that may follow are not used.
        """
        target = np.asarray(y.argmax(axis=1) if self.out_activation_ == "softmax" else y, np.float64)
        weight = None if sample_weight is None else np.asarray(sample_weight, np.float64)
        rows = Rows(X.astype(np.float64, copy=False), target, weight)
        with lent_objective(self, rows) as objective:
            return objective(packed_coef_inter, rows)

    def _output(self, X: Any) -> Array:
        """Return outputs [rows, outputs] before the last activation, in the wider dtype of X and the weights."""
        X = self._checked(X)
        dtype = _computed_in(X, self.coefs_[0])
        coefs, intercepts = ([np.asarray(one, dtype) for one in kind] for kind in (self.coefs_, self.intercepts_))
        return outputs(X if X.dtype == dtype else X.astype(dtype), coefs, intercepts, self.activation)

    def _checked(self, X: Any) -> Any:
        """Return rows as an array or sparse matrix, after scikit-learn's checks; in short those of a plain array."""
        state = vars(self)
        plain = type(X) is np.ndarray and X.dtype in FLOATS and X.ndim == 2 and len(X) > 0 and "coefs_" in state
        if plain and X.shape[1] == state.get("n_features_in_") and "feature_names_in_" not in state:
            with np.errstate(all="ignore"):  # a sum that overflows is looked at more closely
                if np.isfinite(X.sum()):
                    return X
        check_is_fitted(self)
        check_of_numpy("predict", X=X)
        check_no_mask("predict", X=X)
        return validate_data(self, X, accept_sparse="csr", reset=False)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _computed_in(*arrays: Any) -> type[np.floating[Any]]:
    """Return float32 if no array has more precision, else float64."""
    return np.float32 if np.result_type(*(array.dtype for array in arrays)) == np.float32 else np.float64
