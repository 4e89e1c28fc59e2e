"""Who is told of each epoch: a function, and the callbacks that scikit-learn has since 1.9."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.checks import is_true

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: callbacks came with scikit-learn 1.9."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "Watch", "with_callbacks"]

Weights = tuple[list[Array], list[Array]]  # coefs_ and intercepts_


class Watch:
    """The calls that a fit makes when it begins, after each epoch or step, and when it ends.

    Parameters
    ----------
    mlp : MLPRegressor or MLPClassifier
    X, y, sample_weight
        As they were given to ``fit``, for callbacks that score them.
    whole : bool
        Whether this is a fit, of which scikit-learn's callbacks are told, not ``partial_fit``.
    """

    def __init__(self, mlp: Any, X: Any, y: Any, sample_weight: Any, whole: bool) -> None:
        self._mlp = mlp
        self._rows: dict[str, Any] = {"X": X, "y": y}
        if sample_weight is not None:
            self._rows["metadata"] = {"sample_weight": sample_weight}
        self._whole: Any = None
        self._part: Any = None
        if whole and hasattr(mlp, "_init_callback_context"):
            most = mlp.max_iter + (mlp.solver == "lbfgs")  # which is known to have ended only after the next began
            self._whole = mlp._init_callback_context(max_subtasks=most)
            self._whole.call_on_fit_task_begin(estimator=mlp, **self._rows)

    def begin(self) -> None:
        """Tell that an epoch begins."""
        if self._whole is not None:
            self._part = self._whole.subcontext(task_name="epoch")
            self._part.call_on_fit_task_begin(estimator=self._mlp, **self._rows)

    def end(self, values: dict[str, float], weights: Callable[[], Weights]) -> bool:
        """Tell that an epoch has ended with these values; return whether training is to stop."""
        stop = self._mlp.callback is not None and is_true(self._mlp.callback(values))
        if self._part is not None:
            part, self._part = self._part, None
            stop |= part.call_on_fit_task_end(
                estimator=self._mlp,
                **self._rows,
                reconstruction_attributes=lambda: dict(zip(("coefs_", "intercepts_"), weights(), strict=True)),
            )
        return stop

    def done(self) -> None:
        """Tell that the fit has ended."""
        if self._whole is None:
            return
        if self._part is not None:  # a step that was not made, or not to its end
            self._part.call_on_fit_task_end(estimator=self._mlp)
        self._whole.call_on_fit_task_end(estimator=self._mlp, **self._rows, reconstruction_attributes={})
