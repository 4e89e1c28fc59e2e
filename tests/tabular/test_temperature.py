"""How sure networks of classes may be."""

import numpy as np
import pandas as pd
import pytest

from viva_tensor import tabular
from viva_tensor.tabular import blending, fitting
from viva_tensor.tabular.blending import Best
from viva_tensor.tabular.members import Members
from viva_tensor.tabular.targets import Classes
from viva_tensor.tabular.temperature import FACTORS, sureness

NAMES = Classes("kind", ("a", "b", "c"))


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("true", [0.3, 0.7, 1.0])
def test_labels_drawn_from_cooler_logits_give_their_factor(rng, true, weighed):
    logits = 3 * rng.normal(size=(20_000, 3))
    probabilities = np.exp(true * logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    y = (probabilities.cumsum(axis=1) < rng.uniform(size=(len(logits), 1))).sum(axis=1).astype(np.float32)
    weights = None
    if weighed:  # rows that count for nothing say the opposite
        logits, y = np.concatenate([logits, logits]), np.concatenate([y, (y + 1) % 3])
        weights = np.repeat([1.0, 0.0], 20_000)
    assert sureness(logits.astype(np.float32), y, NAMES, weights) == pytest.approx(true, abs=0.051)


def test_networks_are_never_made_surer(rng):
    logits = rng.normal(size=(100, 3)).astype(np.float32)
    assert sureness(logits, logits.argmax(axis=1).astype(np.float32), NAMES) == 1.0
    assert sureness(logits, logits.argmin(axis=1).astype(np.float32), NAMES) == FACTORS[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("kind", [Members, Best])
def test_networks_and_trees_of_a_table_have_the_factor(rng, monkeypatch, kind):
    x = rng.normal(size=(200, 4))
    table = pd.DataFrame(x, columns=list("abcd")).assign(y=np.where(x[:, 0] + rng.normal(size=200) > 0, "yes", "no"))
    monkeypatch.setattr(blending, "KINDS", blending.KINDS[:1])  # and trees
    settings, odds = kind(count=2, hidden=(16, 16), steps=20, cycles=1), []
    for factor in (1.0, 0.5):
        monkeypatch.setattr(fitting, "sureness", lambda *given, factor=factor: factor)
        told = tabular.fit(table, "y", settings).model.predict(table)
        odds.append(np.log(told["y=yes"] / told["y=no"]))
    assert np.abs(odds[0]).max() > 0.5
    np.testing.assert_allclose(odds[1], odds[0] / 2, rtol=1e-3, atol=1e-4)
