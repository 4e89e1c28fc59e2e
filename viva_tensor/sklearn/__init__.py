"""Estimators for scikit-learn: its ``MLPRegressor`` and ``MLPClassifier``, on compiled training steps.

Parameters, defaults and attributes are scikit-learn's. For a given ``random_state`` so are the initial weights, the
batches and the updates: on the same rows both take the same steps, up to rounding, in the dtype of X: float32 or float64.
(Adam's ε is added to the root after its correction, before it in scikit-learn, which hardly matters.) Rows may have
weights, and may be sparse. Needs ``pip install "viva-tensor[sklearn]"``.

Not supported: ``solver="lbfgs"``.
"""

from viva_tensor.sklearn.estimators import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
