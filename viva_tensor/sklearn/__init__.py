"""Estimators for scikit-learn: for tables as they are, and its own ``MLPRegressor`` and ``MLPClassifier``.

``TabularRegressor`` and ``TabularClassifier`` take data frames with text, categories, dates and missing values, as
:func:`viva_tensor.tabular.run` does; they need ``pip install "viva-tensor[train,sklearn]"``, and are imported when they
are first used.

The other two have scikit-learn's parameters, defaults and attributes, and pass its own tests of both estimators.
For a given ``random_state`` the initial weights, the batches and the updates are scikit-learn's, too: on the same
rows both take the same steps, up to rounding, in the dtype of X, float32 or float64. Rows may have weights, and may be
sparse: they are multiplied as they are, unless they are too dense for that to pay.
Parameters at the end of the signature are ours: class weights, dropout, scores to stop by, and a function that is
called after each epoch; solvers may be optimisers of :mod:`viva_tensor.optim`.

Needs ``pip install "viva-tensor[sklearn]"``.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from viva_tensor.extras import extra

with extra("sklearn"):
    import sklearn  # noqa: F401  # if missing, the error says what to install

from viva_tensor.sklearn.estimators import MLPClassifier, MLPRegressor

if sys.modules.get("skl2onnx") is not None:
    import_module("viva_tensor.sklearn.onnx")  # which tells it how the networks are converted

if TYPE_CHECKING or "pdoc" in sys.modules:  # which shows what a module has, not what it would import
    from viva_tensor.sklearn.tabular import TabularClassifier, TabularRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "TabularClassifier", "TabularRegressor"]


def __getattr__(name: str) -> Any:
    if name not in ("TabularClassifier", "TabularRegressor"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with extra("train"):
        from viva_tensor.sklearn import tabular  # needs pandas

    return getattr(tabular, name)
