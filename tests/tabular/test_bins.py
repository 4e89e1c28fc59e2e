"""How many bins numbers have: finer and few, by what the target tells."""

import numpy as np
import pandas as pd

from viva_tensor.tabular import Task, bins
from viva_tensor.tabular.bins import with_few_bins, with_finer_bins
from viva_tensor.tabular.column_choice import edges_of
from viva_tensor.tabular.columns import Effect
from viva_tensor.tabular.effects import with_effects
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.members import Members
from viva_tensor.tabular.preparing import prepare

QUICK = Members(count=3, hidden=(16,), steps=60, cycles=2)


def test_numbers_get_finer_bins_where_these_tell_much_more(rng):
    x, noise = rng.uniform(size=(2000, 2)), 0.1 * rng.normal(size=2000)

    def finer(y, rows=2000, word="number"):
        table = pd.DataFrame(x, columns=["a", "b"]).assign(y=y)[:rows]
        ready = prepare(table, Task("y", kind=word, test_fraction=0.0), QUICK.settings(rows), bins=64)
        made = with_finer_bins(ready)
        assert made.encoding.columns[1] == ready.encoding.columns[1]
        return len(made.encoding.columns[0].edges) - 1

    waves = np.sin(40 * np.pi * x[:, 0])
    assert finer(waves + noise) == 200
    assert finer(waves > 0, word="class") == 200
    assert finer(np.sin(8 * np.pi * x[:, 0]) + noise) == 64  # ramps are enough
    assert finer(noise) == 64
    assert finer(waves / 5 + 10 * noise) == 64  # beyond chance, but not worth it
    assert finer(waves + noise, rows=1000) == 64  # too few rows


def test_copies_of_rows_tell_no_more_than_the_rows(rng):
    table = pd.DataFrame(rng.normal(size=(600, 2)), columns=["a", "b"])
    table["y"] = 2 * table["a"] + rng.normal(size=600)
    four = table.loc[np.repeat(np.arange(600), 4)].reset_index(drop=True)

    def finer(table):
        return with_finer_bins(prepare(table, Task("y", test_fraction=0.0), QUICK.settings(len(table)), bins=64))

    assert len(finer(four).encoding.feature_names) == len(finer(table).encoding.feature_names) == 2 + 2 * 64
    rows, shares = bins._distinct(finer(four))
    np.testing.assert_array_equal(np.sort(rows // 4), np.arange(600))
    np.testing.assert_array_equal(shares, 1.0)
    weighed = finer(table.loc[[*range(600), *range(10)]].reset_index(drop=True))
    rows, shares = bins._distinct(weighed._replace(weights=np.arange(1.0, 611.0)))
    of = dict(zip(rows % 600, shares, strict=True))
    assert of.keys() == set(range(600))
    np.testing.assert_allclose([of[0] / of[10], of[599] / of[10]], [(1 + 601) / 11, 600 / 11])
    other = four.assign(y=rng.normal(size=2400))
    assert len(bins._distinct(finer(other))[0]) == 2400  # rows whose targets differ are no copies


def test_numbers_with_effects_and_full_tables_get_no_finer_bins(rng, monkeypatch):
    person = rng.integers(0, 400, 4000)
    table = pd.DataFrame({"person": person, "y": rng.normal(size=400)[person] + 0.5 * rng.normal(size=4000)})
    ready = with_effects(prepare(table, Task("y"), QUICK.settings(4000), bins=64), QUICK.count)
    assert isinstance(ready.encoding.columns[-1], Effect)
    assert with_finer_bins(ready) == ready
    assert with_finer_bins(ready._replace(encoding=Encoding(ready.encoding.columns[:-1]))).encoding != ready.encoding
    monkeypatch.setattr(bins, "MOST_FEATURES", len(ready.encoding.feature_names) + 10)
    alone = ready._replace(encoding=Encoding(ready.encoding.columns[:-1]))
    assert with_finer_bins(alone).encoding == alone.encoding
    monkeypatch.setattr(bins, "MOST_FEATURES", 10)  # as of many columns of categories, which no limit leaves out
    assert with_finer_bins(alone).encoding == alone.encoding


def test_finer_bins_stay_within_the_limits_of_features_and_of_memory(rng, monkeypatch):
    x = rng.uniform(size=2000)
    table = pd.DataFrame({"x": x, "y": np.sin(40 * np.pi * x)})
    ready = prepare(table, Task("y", test_fraction=0.0), QUICK.settings(2000), bins=64)

    def features():
        return len(with_finer_bins(ready).encoding.feature_names)

    assert features() == 1 + 200
    monkeypatch.setattr(bins, "MOST_FEATURES", 150)
    assert features() == 150
    monkeypatch.setattr(bins, "MOST_FINER", 2000 * 140)
    assert features() == 1 + 140
    monkeypatch.setattr(bins, "MOST_FINER", 2000 * 100)
    assert features() == 1 + 64  # a hundred are not much finer


def edges(ready):
    return [len(one.edges) - 1 for one in ready.encoding.columns]


def ready_for(table, members=QUICK):
    task = Task("y", test_fraction=0.0)
    return prepare(table, task, members.settings(len(table)), bins=members.bins_for(len(table), 3))


def test_few_bins_are_for_numbers_of_which_the_target_alone_tells_no_more(rng):
    x = rng.uniform(size=(2000, 2))
    table = pd.DataFrame({"smooth": x[:, 0], "waves": x[:, 1], "sixty": rng.integers(0, 60, 2000)})
    table["y"] = 0.2 * np.exp(table["smooth"]) + np.sin(40 * np.pi * table["waves"]) + 0.1 * rng.normal(size=2000)
    ready = ready_for(table)
    assert edges(ready) == [64, 64, 59]
    few = with_few_bins(ready)
    assert edges(few) == [12, 64, 59]
    assert few.encoding.columns[0].edges == edges_of(table["smooth"].to_numpy(), 12)
    assert edges(with_few_bins(with_finer_bins(ready))) == [12, 200, 59]
    classes = ready_for(table.assign(y=pd.cut(table["y"], 3, labels=["a", "b", "c"]).astype(str)))
    assert edges(with_few_bins(classes)) == [12, 64, 59]
    assert edges(with_few_bins(ready_for(table[:160]))) == [20, 20, 20]  # not many
