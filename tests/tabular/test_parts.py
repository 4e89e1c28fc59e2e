"""Parts of the rows of a table, each of which one of several networks is trained without: classes, and copies."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from viva_tensor import tabular
from viva_tensor.distributed import Ranks
from viva_tensor.tabular.features import encoded
from viva_tensor.tabular.members import Members
from viva_tensor.tabular.parts import copies_among, parts_of
from viva_tensor.tabular.preparing import Task, prepare
from viva_tensor.tabular.presets import KINDS
from viva_tensor.train import Settings


def test_parts_share_out_the_rows_and_each_class(rng):
    rows, classes = np.flatnonzero(rng.random(400) < 0.8), rng.integers(0, 4, 400).astype("f4")
    parts = parts_of(rows, 5, 3, classes)
    assert sorted(np.concatenate(parts)) == list(rows)
    counts = np.array([np.bincount(classes[part].astype(int), minlength=4) for part in parts])
    assert np.ptp(counts, axis=0).max() <= 1
    assert [list(part) for part in parts_of(rows, 5, 3, classes)] == [list(part) for part in parts]
    assert list(parts_of(rows, 5, 4, None)[0]) != list(parts_of(rows, 5, 3, None)[0])


def copied(rows, times, seed=0, noise=1.0):
    """Return a table of rows, each so many times: eight numbers, of which the class tells a little."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 8))
    y = np.where(x[:, 0] - x[:, 1] + noise * rng.normal(size=rows) > 0, "yes", "no")
    return pd.DataFrame(x, columns=[f"x{i}" for i in range(8)]).assign(y=y).loc[np.repeat(range(rows), times)]


def test_copies_of_a_row_are_in_one_part(rng):
    rows, firsts = np.arange(600), np.repeat(np.arange(0, 600, 3), 3)
    firsts[-30:] = 570  # a row of many copies
    classes = (firsts % 2).astype("f4")
    parts = parts_of(rows, 5, 3, classes, firsts)
    assert sorted(np.concatenate(parts)) == list(rows)
    assert sum(len(set(firsts[part])) for part in parts) == len(set(firsts))
    sizes = np.array([[(classes[part] == one).sum() for part in parts] for one in (0, 1)])
    assert np.ptp(sizes, axis=1).max() <= 3  # a row of three copies more or less
    assert np.ptp(sizes.sum(axis=0)) <= 3
    alone = parts_of(rows, 5, 3, classes, rows)
    assert [list(part) for part in alone] == [sorted(part) for part in parts_of(rows, 5, 3, classes)]


@pytest.mark.parametrize("seed", range(3))
def test_parts_are_as_equal_as_copies_leave_them(seed):
    rows = np.arange(1000)
    many = np.where(rows < 400, 0, rows)  # copies that no part has room for
    for several in (many, np.where(rows < 100, 0, rows), rows // 7 * 7):
        sizes = [len(part) for part in parts_of(rows, 5, seed, None, several)]
        assert sum(sizes) == 1000
        assert max(sizes) - min(sizes) <= 7, sizes
    parts = parts_of(rows, 5, seed, None, np.where(rows < 100, 0, rows))
    assert sorted((part < 100).sum() for part in parts) == [0, 0, 0, 0, 100]
    few = parts_of(rows, 200, seed, None, rows // 7 * 7)  # 143 kinds
    assert [list(part) for part in few] == [list(part) for part in parts_of(rows, 200, seed, None)]


@pytest.mark.parametrize("packed", [False, True])
def test_rows_are_copies_where_their_targets_agree_and_there_are_many_kinds(packed, monkeypatch):
    if packed:
        monkeypatch.setattr("viva_tensor.tabular.features.DENSE", 0)
    table = copied(200, 2).assign(word="a").reset_index(drop=True)
    table.loc[300:, "word"] = "b"
    other, few = table.copy(), table.assign(x0=0.0).drop(columns=[f"x{i}" for i in range(1, 8)])
    other.loc[5, "y"] = {"yes": "no", "no": "yes"}[other.loc[5, "y"]]
    few["y"] = few["word"]

    def found(table):
        ready = prepare(table, Task("y", test_fraction=0.0), Members().settings(400), bins=8)
        with encoded(ready, None, Ranks(None), None) as features:
            return copies_among(np.arange(len(table)), features)

    assert list(found(table)) == [i - i % 2 for i in range(400)]
    assert found(other) is None
    assert found(table.drop_duplicates()) is None
    kinds = table.drop_duplicates()
    assert found(pd.concat([kinds, kinds[:1]], ignore_index=True)) is None  # one copy of 200 rows tells nothing
    assert found(pd.concat([kinds, kinds[:3]], ignore_index=True)) is not None
    assert found(few.assign(x0=few.index % 70)) is None


@pytest.mark.parametrize("preset", ["default", "fast"])
def test_repeated_rows_make_no_network_sure_of_noise(preset):
    table, new = copied(200, 8), copied(500, 1, seed=1)
    found = tabular.fit(
        table, "y", replace(KINDS[preset], hidden=(16,), steps=100, cycles=2), preset=None
    ).model.predict(new)
    losses = -np.log(np.where(new["y"] == "yes", found["y=yes"], found["y=no"]))
    assert losses.mean() < 0.6  # of the shares of the classes 0.69


@pytest.mark.parametrize("times", [1, 3])
def test_test_rows_that_are_copies_of_others_are_told(times):
    run = tabular.run(copied(300, times), "y", Settings(hidden=(4,), epochs=1))
    told = [note for note in run.notes if "copies" in note]
    key = run.test["row"] // times
    others = np.setdiff1d(np.arange(300 * times), run.test["row"]) // times
    known = int(key.isin(others).sum())
    wanted = f"{known} of {len(key)} test rows are copies of rows that are trained on; errors on new rows may be larger"
    assert told == ([wanted] if times > 1 else [])
