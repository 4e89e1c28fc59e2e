"""Estimators for scikit-learn: its ``MLPRegressor`` and ``MLPClassifier``, on compiled training steps.

Parameters, defaults and attributes are scikit-learn's, and its own tests of both estimators pass. For a given
``random_state`` the initial weights, the batches and the updates are scikit-learn's, too: on the same rows both take
the same steps, up to rounding, in the dtype of X, float32 or float64. Only Adam's ε is added to the root after its
correction, before it in scikit-learn. Rows may have weights, and may be sparse.

Needs ``pip install "viva-tensor[sklearn]"``.
"""

from viva_tensor.sklearn.estimators import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
