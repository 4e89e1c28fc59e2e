"""Networks for tables as their authors published them: architecture, preprocessing, initial weights and training.

A recipe is a record of its constants, and fits arrays: numbers, and codes of categories. `RealMLP` is a perceptron with
many refinements and constants tuned on a hundred data sets, `TabM` an ensemble of networks that share their weights.

Examples
--------
>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> x, kinds = rng.standard_normal((300, 2)).astype(np.float32), rng.integers(0, 3, (300, 1))
>>> y = abs(x[:, 0]) + (kinds[:, 0] == 1)
>>> fitted = RealMLP(hidden=(64, 64), epochs=40, batch_size=32).fit(x, kinds, y, seed=1)
>>> float(np.mean((fitted.predict(x, kinds) - y) ** 2) / y.var()) < 0.1
True
"""

from viva_tensor.tabular.recipes.fitted import Fitted
from viva_tensor.tabular.recipes.realmlp import RealMLP
from viva_tensor.tabular.recipes.recipe import Recipe
from viva_tensor.tabular.recipes.tabm import TabM

__all__ = ["Fitted", "RealMLP", "Recipe", "TabM"]
