"""The estimators: targets, losses and scores."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from viva_tensor import kernels
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array
from viva_tensor.sklearn.base import MLP
from viva_tensor.sklearn.parameters import (
    CLASS_WEIGHTS,
    CONSTRAINTS,
    LOSSES,
    check_parameters,
    known_weights,
    takes_batches,
)
from viva_tensor.sklearn.refusals import check_no_times


@dataclass(eq=False, repr=False)
class MLPRegressor(RegressorMixin, MLP):  # type: ignore[misc]
    r"""A multilayer perceptron for regression, with scikit-learn's interface.

    Minimises
    :math:`\frac{1}{2n} \left( \sum_i \lVert f(x_i) - y_i \rVert^2 + \alpha \sum_W \lVert W \rVert^2 \right)`
    over batches of n rows; for counts half the Poisson deviance in place of half the squared error. With weights of
    rows, the sum is weighted and n is the sum of the weights. If X is float32, everything is computed in float32, else
    in float64.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}
        With "poisson" the outputs are logarithms of the predictions, and y is at least 0.
    hidden_layer_sizes : int or sequence of int
        Units of the hidden layers.
    activation : str
        The activation after each hidden layer: "relu", "tanh", "logistic", "identity", "leaky_relu", "gelu", "silu",
        "elu", "selu", "mish" or "softplus".
    solver : {"adam", "sgd", "lbfgs"} or optim.Optimizer
        :class:`viva_tensor.optim.Adam`, but with ε added to √s before its correction, or
        :class:`viva_tensor.optim.SGD` on batches, or :func:`viva_tensor.optim.lbfgs` on all rows, which computes in
        float64 whatever the dtype of X. Another optimiser on batches is an object, such as ``optim.AdamW(lr=0.01)``;
        its rate is kept, and the parameters of "sgd" and "adam" are not used. ``partial_fit`` continues with
        the optimiser of the first call, unless the solver is another one.
    alpha : float
        Strength of the L2 penalty on weights, not on biases.
    batch_size : int or "auto"
        "auto" is the smaller of 200 and the number of rows.
    learning_rate : {"constant", "invscaling", "adaptive"}
    learning_rate_init, power_t : float
        The initial rate, above 0. With ``solver="sgd"`` it stays constant, or is divided by (rows seen + 1) **
        ``power_t`` after each epoch, or by 5 whenever training would otherwise end, down to 1e-6.
    max_iter, max_fun : int
        The largest number of epochs; with ``solver="lbfgs"`` of steps, and of evaluations of the loss and its gradient.
    shuffle : bool
        Shuffle the rows in every epoch.
    random_state : int, RandomState or None
        Determines weights, validation rows and orders.
    tol, n_iter_no_change : float, int
        Training ends when the loss, or with ``early_stopping`` the score, does not improve by ``tol`` for more than
        ``n_iter_no_change`` epochs; with ``solver="lbfgs"`` when no element of the gradient is larger than ``tol``, or
        the loss hardly changes.
    verbose : bool
        Print the loss of each epoch, or step of L-BFGS.
    warm_start : bool
        Let ``fit`` continue from the weights of the last call.
    momentum, nesterovs_momentum : float, bool
        For ``solver="sgd"``.
    early_stopping, validation_fraction : bool, float
        Keep this fraction of the rows, between 0 and 1, for validation, and return the weights with the best score on
        them. Not for ``solver="lbfgs"``. Rows given to ``fit`` as ``validation_data`` take their place.
    beta_1, beta_2, epsilon : float
        For ``solver="adam"``.
    dropout : float
        Share of each hidden layer's outputs that is set to 0 in training, below 1. Not for ``solver="lbfgs"``.
    scoring : str or callable, optional
        With ``early_stopping``, the score on the validation rows: a scorer's name, or a function of the estimator, X
        and y, more being better. By default R², or the accuracy of a classifier. Rows reach it as arrays.
    callback : callable, optional
        Called after each epoch, or step of L-BFGS, with a dict of "epoch", "train_loss" and, with ``early_stopping``,
        "validation_score"; if it returns True, training stops. ``coefs_`` and ``intercepts_`` are those of the epoch;
        if it changes them, training goes on from those (not with "lbfgs"). Callbacks of scikit-learn 1.9 and later are
        set by ``set_callbacks``, and told of each epoch of ``fit``.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        Weights [in, out] and biases [out] of each layer, in the dtype of the X of the first fit.
    loss_, loss_curve_, best_loss_ : float, list of float, float or None
        The mean loss over the batches of the last epoch, of each epoch, and the lowest (None with ``early_stopping``).
        With ``solver="lbfgs"`` there is only the first: the loss that was reached.
    validation_scores_, best_validation_score_ : list of float or None, float or None
        With ``early_stopping``: the score on the validation rows after each epoch, and the best.
    n_iter_, t_ : int
        Epochs of the last fit, or steps of L-BFGS, and rows seen in batches in total.
    n_features_in_, feature_names_in_ : int, ndarray of str
        Columns of X; the names exist if X was a data frame.
    n_layers_, n_outputs_, out_activation_ : int, int, str

    Notes
    -----
    With several outputs, the sum of their squared errors is minimised, but ``loss_`` and ``loss_curve_`` give their
    mean, as in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_diabetes(return_X_y=True)
    >>> network = MLPRegressor(solver="sgd", batch_size=32, random_state=0, early_stopping=True)
    >>> model = make_pipeline(StandardScaler(), network).fit(X[:300], y[:300])
    >>> model.score(X[300:], y[300:]) > 0.3
    True
    """

    loss: str = "squared_error"
    hidden_layer_sizes: int | Iterable[int] = (100,)
    activation: str = "relu"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"loss": LOSSES, **CONSTRAINTS}

    @available_if(takes_batches)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Train for one more epoch on the given rows; see :meth:`fit`."""
        return self._fit(X, y, sample_weight, "partial_fit")

    def predict(self, X: npt.ArrayLike) -> Array:
        """Return predictions [rows] or [rows, outputs]; as float32 if X and the weights are, else as float64."""
        predicted = self._predicted(self._output(X))
        return predicted[:, 0] if predicted.shape[1] == 1 else predicted

    def _predicted(self, output: Array) -> Array:
        return kernels.exp(output, out=output) if self.out_activation_ == "exp" else output

    def _targets(self, y: Array, keep: bool, dtype: npt.DTypeLike, whole: bool = True) -> Array:
        check_no_times(y)
        self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        with np.errstate(over="ignore"):
            target = np.ascontiguousarray(y, dtype).reshape(len(y), -1)
        if not np.isfinite(target).all():
            raise InvalidValue(
                f"y contains values too large for {target.dtype}", operation="fit", hint="standardise it"
            )
        if self.loss == "poisson" and target.min() < 0:
            reason = f"y contains {target.min()}, wanted counts of at least 0 for loss='poisson'"
            raise InvalidValue(reason, operation="fit", hint="use loss='squared_error'")
        return target

    def _validation_score(self, output: Array, target: Array, weight: Array | None) -> float:
        predicted = self._predicted(output)
        return float(r2_score(target, predicted, sample_weight=weight)) if np.isfinite(predicted).all() else math.nan

    def _given(self, target: Array) -> Array:
        return target[:, 0] if target.shape[1] == 1 else target

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags


@dataclass(eq=False, repr=False)
class MLPClassifier(ClassifierMixin, MLP):  # type: ignore[misc]
    r"""A multilayer perceptron for classification, with scikit-learn's interface.

    Minimises the cross-entropy of the classes plus :math:`\frac{\alpha}{2n} \sum_W \lVert W \rVert^2` over batches of
    n rows, or of weighted rows as :class:`MLPRegressor`, in the dtype of X. Two classes share one output; more have one
    each (softmax). A y of zeros and ones [rows, labels] is multilabel: one output for each label, independent of the
    others.

    Parameters are as in :class:`MLPRegressor`, without ``loss``. With ``early_stopping`` the score is the accuracy,
    and the validation rows of two classes are stratified, as in scikit-learn.

    Parameters
    ----------
    class_weight : dict, "balanced" or list of dict, optional
        What the weights of a class's rows are multiplied by, in training and validation: by label, others by 1, with a
        warning of labels that y lacks; or with "balanced" n / (classes · rows of the class), rows counted by their
        weights, not for ``partial_fit``. Several labels have a dict each.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted.
    coefs_, intercepts_, loss_, loss_curve_, ...
        As in :class:`MLPRegressor`.

    Notes
    -----
    Losses are computed from the outputs before the last activation. So they are exact where a probability rounds to 0:
    scikit-learn's has a largest value there. If y has one class only, ``predict_proba`` has one column.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_wine(return_X_y=True)
    >>> network = MLPClassifier(learning_rate_init=0.01, tol=0.01, random_state=0)
    >>> model = make_pipeline(StandardScaler(), network).fit(X[::2], y[::2])
    >>> model.score(X[1::2], y[1::2]) > 0.9
    True
    >>> model.predict_proba(X).shape
    (178, 3)
    """

    hidden_layer_sizes: int | Iterable[int] = (100,)
    activation: str = "relu"

    class_weight: dict[Any, float] | list[dict[Any, float]] | str | None = field(default=None, kw_only=True)

    loss: ClassVar[str] = "log_loss"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {**CONSTRAINTS, "class_weight": CLASS_WEIGHTS}

    @available_if(takes_batches)  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        classes: npt.ArrayLike | None = None,
    ) -> Self:
        """Train for one more epoch on the given rows.

        Parameters
        ----------
        X, y, sample_weight : array_like
            As in :meth:`fit`.
        classes : array_like, optional
            All labels that may occur in any call; needed in the first call only.
        """
        check_parameters(self, "partial_fit")
        known = hasattr(self, "classes_")
        if classes is None and not known:
            reason = "classes must be passed on the first call to partial_fit"
            raise InvalidValue(reason, operation="partial_fit", hint="name all labels that may occur")
        if classes is not None:
            labels = unique_labels(classes)
            if not known:
                self._set_classes(labels, type_of_target(y).startswith("multilabel"))
            elif not np.array_equal(self.classes_, labels):
                reason = f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {self.classes_!r}"
                raise InvalidValue(reason, operation="partial_fit", hint="give the same classes, or none")
        return self._fit(X, y, sample_weight, "partial_fit")

    def predict(self, X: npt.ArrayLike) -> Array:
        """Return the most probable label of each row, or for multilabel targets zeros and ones [rows, labels].

        They are sparse if y was in the first fit.
        """
        labels = self._labels(self._output(X))
        sparse = self._multilabel and getattr(self, "_sparse_labels", False)
        return csr_matrix(labels) if sparse else labels

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """Return probabilities [rows, classes] in the order of ``classes_``; of each label for multilabel targets."""
        output = self._output(X)
        return np.exp(self._log_proba(output)).astype(output.dtype, copy=False)

    def predict_log_proba(self, X: npt.ArrayLike) -> Array:
        """Return logarithms of :meth:`predict_proba`; of a probability that rounds to 0, -inf."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def _log_proba(self, output: Array) -> Array:
        logits = output.astype(np.float64)
        if len(self.classes_) == 1 and self.n_outputs_ == 1:
            return np.zeros_like(logits)
        if self.out_activation_ == "softmax":
            shifted = logits - logits.max(axis=1, keepdims=True)
            return cast(Array, shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
        positive = -np.logaddexp(0, -logits)
        return np.hstack([-np.logaddexp(0, logits), positive]) if self.n_outputs_ == 1 else positive

    def _labels(self, output: Array) -> Array:
        if self._multilabel:
            return (output > 0).astype(int)
        indices = output.argmax(axis=1) if self.n_outputs_ > 1 else (output[:, 0] > 0).astype(int)
        return cast(Array, self.classes_[indices if len(self.classes_) > 1 else 0 * indices])

    def _set_classes(self, classes: Array, multilabel: bool) -> None:
        self.classes_ = classes
        self._multilabel = multilabel
        self.out_activation_ = "logistic" if multilabel or len(classes) < 3 else "softmax"

    def _targets(self, y: Array, keep: bool, dtype: npt.DTypeLike, whole: bool = True) -> Array:
        check_classification_targets(y)
        labels = unique_labels(y)
        if not keep:
            self._set_classes(labels, type_of_target(y).startswith("multilabel"))
        if keep and whole and self.warm_start and set(labels) != set(self.classes_):
            raise InvalidValue(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {labels}",
                operation="fit",
                hint="give y with these classes, or warm_start=False",
            )
        if np.setdiff1d(labels, self.classes_).size:
            raise InvalidValue(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {labels}",
                operation="fit",
                hint="name all classes in the first call" if whole else "validation_data has labels that y lacks",
            )
        if self._multilabel:
            return np.ascontiguousarray(y, dtype)
        indices = np.searchsorted(self.classes_, y).astype(dtype)
        return indices if self.out_activation_ == "softmax" else indices[:, None]

    def _validation_score(self, output: Array, target: Array, weight: Array | None) -> float:
        return float(accuracy_score(self._given(target), self._labels(output), sample_weight=weight))

    def _given(self, target: Array) -> Array:
        return target if self._multilabel else cast(Array, self.classes_[target.ravel().astype(int)])

    def _weights(self, y: Array, weight: Array | None, operation: str) -> Array | None:
        if self.class_weight is None:
            return weight
        if operation == "partial_fit" and isinstance(self.class_weight, str):
            hint = "give a dict, from sklearn.utils.class_weight.compute_class_weight of all rows"
            got = f"class_weight={self.class_weight!r}, which needs all rows at once"
            raise InvalidValue(got, operation=operation, hint=hint)
        try:
            if isinstance(self.class_weight, dict) and not self._multilabel:  # these rows may lack some classes
                known = known_weights(self.class_weight, self.classes_, operation, stacklevel=6)
                each = compute_class_weight(known, classes=self.classes_, y=y)
                of_classes = each[np.searchsorted(self.classes_, y)]
            elif isinstance(self.class_weight, str) and not self._multilabel and weight is not None:
                indices = np.searchsorted(self.classes_, y)
                sums = np.bincount(indices, weight, len(self.classes_))
                of_classes = (weight.sum() / (np.count_nonzero(sums) * np.where(sums, sums, 1)))[indices]
            else:
                of_classes = compute_sample_weight(self.class_weight, y)
        except (ValueError, TypeError) as error:
            hint = 'give "balanced", a dict of labels and numbers, or for several labels a list with a dict for each'
            raise InvalidValue(f"class_weight: {str(error).rstrip('.')}", operation=operation, hint=hint) from None
        if not (np.isfinite(of_classes).all() and (of_classes >= 0).all()):
            got = f"class_weight={self.class_weight!r}, wanted finite numbers of at least 0"
            raise InvalidValue(got, operation=operation, hint="leave a label out for a weight of 1")
        return cast(Array, of_classes if weight is None else of_classes * weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
