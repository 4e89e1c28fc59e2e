"""Metrics of tables by name: what tells which epoch is best, and how good a network is on test rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from viva_tensor import autograd
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.kernels.arrays import Float32Array, Float64Array
from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.targets import Classes, Target

OF_NUMBERS = ("rmse", "mae", "r2")
OF_CLASSES = ("accuracy", "log-loss", "auc")
METRICS = (*OF_NUMBERS, *OF_CLASSES)
ERRORS = ("rmse", "mae", "log-loss")  # of which less is better


@dataclass(frozen=True)
class Metric:
    """One of scikit-learn's metrics, of a network's outputs; as a metric of training it is an error.

    Attributes
    ----------
    name : {"rmse", "mae", "r2", "accuracy", "log-loss", "auc"}
        "auc" is the area under the receiver operating characteristic; of more than two classes the mean over those
        present, each against the rest.
    target : Number or Classes
    """

    name: str
    target: Target = field(repr=False)

    @property
    def error(self) -> str:
        """What training makes less: the metric, or what it lacks to 1 where more is better."""
        return self.name if self.name in ERRORS else f"1 - {self.name}"

    def value(self, output: Float32Array, encoded: Float32Array, weights: Float64Array | None = None) -> float:
        """Return the metric of outputs [rows, outputs] for encoded targets, in units of the target."""
        from sklearn import metrics

        if isinstance(self.target, Classes):
            actual, probabilities = encoded.astype(int), self.target.probabilities(output)
            if self.name == "auc":
                return _area(actual, probabilities, weights)
            if self.name == "accuracy":
                return float(metrics.accuracy_score(actual, probabilities.argmax(axis=1), sample_weight=weights))
            labels = np.arange(self.target.outputs)
            return float(metrics.log_loss(actual, probabilities, labels=labels, sample_weight=weights))
        names = {"rmse": "root_mean_squared_error", "mae": "mean_absolute_error", "r2": "r2_score"}
        predicted, values = self.target.decode(output)["predicted"], self.target.values(encoded)
        return float(getattr(metrics, names[self.name])(values, predicted, sample_weight=weights))

    def __call__(
        self, tape: Tape, output: Variable, target: Variable, sample_weight: Variable | None = None
    ) -> Traced[Variable]:
        """Record the metric, or what lacks to 1 where more is better, as a constant."""
        value = self.value(output.data, target.data, None if sample_weight is None else sample_weight.data)
        return autograd.new_constant(tape, value if self.name in ERRORS else 1 - value)


def metric_of(name: str, target: Target) -> Metric:
    """Return the metric of this name for a target.

    Raises
    ------
    DataError
        If there is no such metric, the target is not what it is for, or scikit-learn is missing.

    Examples
    --------
    >>> from viva_tensor.tabular.targets import Classes
    >>> metric = metric_of("accuracy", Classes("cut", ("Fair", "Ideal")))
    >>> metric.value(np.array([[2.0, 1.0], [0.0, 1.0]], np.float32), np.array([0.0, 0.0], np.float32))
    0.5
    """
    if name not in METRICS:
        raise DataError(f"no metric {name!r}. The metrics are: {', '.join(METRICS)}")
    classes = isinstance(target, Classes)
    if name not in (OF_CLASSES if classes else OF_NUMBERS):
        kinds = ("numbers", "classes") if classes else ("classes", "a number")
        others = ", ".join(OF_CLASSES if classes else OF_NUMBERS)
        hint = f"choose one of {others}"
        raise DataError(f"the metric {name} is for {kinds[0]}, and {target.name!r} is learned as {kinds[1]}; {hint}")
    if not find_spec("sklearn"):
        raise DataError('a metric needs scikit-learn; pip install "viva-tensor[sklearn]"')
    return Metric(name, target)


def _area(actual: npt.NDArray[Any], probabilities: Float64Array, weights: Float64Array | None) -> float:
    """Return the area under the curve, a half where there is only one class."""
    from sklearn.metrics import roc_auc_score

    present = np.unique(actual)
    if len(present) < 2:
        return 0.5
    if probabilities.shape[1] == 2:
        present = present[1:]
    areas = [roc_auc_score(actual == one, probabilities[:, one], sample_weight=weights) for one in present]
    return float(np.mean(areas))
