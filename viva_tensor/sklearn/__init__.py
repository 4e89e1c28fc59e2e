"""Estimators for scikit-learn: its ``MLPRegressor`` and ``MLPClassifier``, on compiled training steps.

Parameters, defaults and attributes are scikit-learn's. For a given ``random_state`` so are the initial weights, the
batches and the updates: on the same rows both take the same steps, up to the rounding of float32, in which everything
is computed here. Needs ``pip install "viva-tensor[sklearn]"``.

Not supported: ``solver="lbfgs"``, sparse matrices, sample weights, losses other than squared error and cross-entropy.
"""

from viva_tensor.sklearn.estimators import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
