"""Whether a table is of a smooth function: both ways of learning it are begun, and the better one goes on."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from viva_tensor import tabular
from viva_tensor.distributed import ALONE
from viva_tensor.tabular import Task, smoothness
from viva_tensor.tabular.bins import with_few_bins
from viva_tensor.tabular.blending import Best, fit_best
from viva_tensor.tabular.cycles import train_member
from viva_tensor.tabular.features import encoded
from viva_tensor.tabular.members import Members, fit_members
from viva_tensor.tabular.preparing import prepare
from viva_tensor.tabular.side_by_side import Results
from viva_tensor.tabular.smoothness import suited
from viva_tensor.train import DivergenceError, parameters

LEARNING = Members(count=3, hidden=(64, 64), steps=150)
FEW = "'a', 'b', 'c', 'd': learned better with 12 bins and the activation silu"


def smooth(rows=900, seed=0):
    x = np.random.default_rng(seed).uniform(size=(rows, 4))
    return pd.DataFrame(x, columns=list("abcd")).assign(y=np.exp(3 * x[:, 0] + 2 * x[:, 1] * x[:, 2]))


def edges(prepared):
    return [len(column.edges) - 1 for column in prepared.encoding.columns]


def suit(table, members=LEARNING):
    settings = members.settings(len(table))
    ready = prepare(table, Task("y", test_fraction=0.0), settings, bins=64)
    settings = replace(settings, loss=ready.target.loss)
    return ready, settings, suited(ready, members, settings)


def test_a_smooth_function_without_noise_gets_few_bins_and_a_smooth_activation():
    ready, settings, made = suit(smooth())
    assert (edges(ready), edges(made.prepared)) == ([64] * 4, [12] * 4)
    assert made.settings == replace(settings, activation="silu")
    assert made.prepared.notes == (*ready.notes, FEW)
    assert (made.begun.cycles, made.begun.fit.settings.activation) == (2, "silu")
    run = tabular.run(smooth(), "y", replace(LEARNING, cycles=2))
    assert (edges(run), run.model.activation) == ([12] * 4, "silu")
    assert FEW in run.notes


def test_all_stays_as_it_is_where_noise_hides_what_is_smooth(rng):
    noisy = smooth().assign(y=lambda table: table["y"] + 100 * rng.normal(size=900))
    ready, settings, made = suit(noisy)
    assert (made.prepared, made.settings) == (ready, settings)
    assert (made.begun.cycles, made.begun.fit.settings.activation) == (1, "relu")  # which is enough to see that


def test_nothing_is_begun_for_one_network():
    ready, settings, made = suit(smooth(), replace(LEARNING, count=1, parts=3))
    assert made == (ready, settings, None)


def test_many_bins_are_kept_where_a_network_learns_more_from_them(rng):
    x = rng.uniform(size=(900, 2))
    rough = (np.floor(6 * x[:, 0]) + np.floor(6 * x[:, 1])) % 2  # of which neither number alone tells anything
    ready, settings, made = suit(pd.DataFrame(x, columns=["a", "b"]).assign(y=rough))
    assert edges(with_few_bins(ready)) == [12, 12]
    assert (made.prepared, made.settings) == (ready, settings)


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("kind", [Members, Best])
def test_a_network_that_was_begun_goes_on_to_the_same_bits(classes, kind):
    table = smooth()
    if classes:
        table["y"] = np.where(table["y"] > table["y"].median(), "much", "little")
    members = kind(count=2, hidden=(16,), steps=60, **({"minutes": 1e-9} if kind is Best else {}))
    _, _, made = suit(table, members)
    assert made.begun.cycles == 2
    learn = fit_best if kind is Best else fit_members
    with encoded(made.prepared, None, ALONE, None) as features:
        fits = [learn(features, made.settings, members, begun) for begun in (made.begun, None)]
    one, other = (found.joined.fit if kind is Best else found.fit for found in fits)
    assert one.history == other.history
    for some, same in zip(parameters(one.layers), parameters(other.layers), strict=True):
        np.testing.assert_array_equal(some, same)


@pytest.mark.parametrize("bad", ["relu", "silu"])
def test_a_way_that_diverges_is_not_taken(bad, monkeypatch):
    def diverging(features, settings, *arguments):
        if settings.activation == bad:
            raise DivergenceError("loss nan", operation="fit")
        return train_member(features, settings, *arguments)

    monkeypatch.setattr(smoothness, "train_member", diverging)
    ready, settings, made = suit(smooth())
    assert (made.prepared, made.settings) == (ready, settings)
    assert (made.begun is None) == (bad == "relu")


def test_ways_are_not_compared_to_the_end_after_an_interruption(monkeypatch):
    interrupted = Results()
    interrupted.interrupted = True
    monkeypatch.setattr(smoothness, "side_by_side", lambda jobs: interrupted)
    with pytest.raises(KeyboardInterrupt):
        suit(smooth())
