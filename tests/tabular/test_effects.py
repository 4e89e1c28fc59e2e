"""Effects of the values of a column: what is estimated, where they are used, and that no row is told its target."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f_oneway

from viva_tensor import tabular
from viva_tensor.distributed import Ranks
from viva_tensor.tabular import Task, effects, estimates
from viva_tensor.tabular.columns import Effect
from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.effects import CrossFitting, with_effects
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.features import encoded
from viva_tensor.tabular.members import Members
from viva_tensor.tabular.parts import parts_of_table
from viva_tensor.tabular.preparing import prepare
from viva_tensor.train import Settings

QUICK = Members(count=3, hidden=(16,), steps=60, cycles=2)


def persons(rows=3000, people=150, seed=0, spread=1.0, others=1.0):
    """Numbers of persons and names of others, who differ; a number whose order tells, and one that tells nothing."""
    rng = np.random.default_rng(seed)
    own = spread * np.random.default_rng(99).normal(size=people)
    person, age, noise = rng.integers(0, people, rows), rng.integers(18, 95, rows), rng.integers(0, 200, rows)
    y = own[person] + np.sin(age / 12) + 0.5 * rng.normal(size=rows)
    other = rng.integers(0, people, rows)
    y += others * own[::-1][other]
    return pd.DataFrame({"person": person, "age": age, "noise": noise, "name": [f"p{i}" for i in other], "y": y})


def prepared(table, **options):
    settings = QUICK.settings(len(table))
    return with_effects(prepare(table, Task("y", **options), settings, bins=16), QUICK.count)


def found(ready):
    return {one.name: one for one in ready.encoding.columns if isinstance(one, Effect)}


def test_columns_of_many_values_that_tell_by_more_than_their_order_are_taken():
    ready = prepared(persons())
    assert list(found(ready)) == ["person", "name"]
    assert "person: 150 values; the mean of y at each value is a feature" in ready.notes
    assert not found(prepared(persons(people=60)))  # few enough for a feature or a bin each
    assert list(found(prepared(persons(rows=400)))) == ["name"]  # of numbers too few rows of each
    assert not found(prepared(persons(rows=400, people=380)))  # and here of all
    assert not found(prepared(persons(spread=0.0)))
    half = persons().assign(person=lambda table: table["person"] + 0.5).drop(columns="name")
    assert not found(prepared(half))


@pytest.mark.parametrize(("labels", "outputs"), [(2, 1), (3, 3), (estimates.MOST_CLASSES + 1, 0)])
def test_classes_have_an_effect_each_two_have_one(labels, outputs):
    table = persons()
    table["y"] = pd.qcut(table["y"], labels, labels=[f"c{i}" for i in range(labels)]).astype(str)
    ready = prepared(table)
    taken, note = found(ready), "person: 150 values; the share of each class of y at each value is a feature"
    assert (note in ready.notes) == bool(outputs)
    assert {len(one.means[0]) for one in taken.values()} == ({outputs} if outputs else set())


def test_the_estimates_are_those_of_an_analysis_of_variance(rng):
    groups = [rng.normal(rng.normal(), 2.0, size) for size in rng.integers(4, 30, 80)]
    wanted = np.concatenate(groups)
    wanted -= wanted.mean()
    counts = np.array([len(group) for group in groups], float)
    codes, shares = np.repeat(np.arange(80), counts.astype(int)), np.ones(len(wanted))
    sums = estimates.sums_of(codes, wanted[:, None], shares, 80)
    estimate = estimates.estimated(sums, wanted[:, None], shares)
    ratio = f_oneway(*groups).statistic
    assert estimate.significance[0] == pytest.approx((ratio - 1) * 79 / np.sqrt(2 * 79))
    typical = (counts.sum() - (counts**2).sum() / counts.sum()) / 79
    assert estimate.shrinkage[0] == pytest.approx(typical / (ratio - 1))  # σ² / τ²
    assert estimate.roughness[0] == pytest.approx(1.0, abs=0.5)  # values in no order
    made, totals = estimates.shrunk(sums, estimate)[:, 0], [wanted[codes == i].sum() for i in range(2)]
    np.testing.assert_allclose(np.average(made**2, weights=counts), 1.0)
    ratio_of_two = totals[0] / (counts[0] + estimate.shrinkage[0]) * (counts[1] + estimate.shrinkage[0]) / totals[1]
    assert made[0] / made[1] == pytest.approx(ratio_of_two)


def test_rows_of_weight_0_count_as_none_and_others_by_their_ratios():
    table = persons()
    weights = 2.0 * (np.random.default_rng(1).permutation(len(table)) % 2)
    settings = QUICK.settings(len(table))
    ready = prepare(table, Task("y", test_fraction=0.0), settings, bins=16)
    fewer = prepare(table[weights > 0].reset_index(drop=True), Task("y", test_fraction=0.0), settings, bins=16)
    target = ready.target  # of both, whose means differ
    ones = [found(with_effects(one._replace(target=target), 3)) for one in (ready._replace(weights=weights), fewer)]
    for name in ("person", "name"):
        np.testing.assert_allclose(ones[0][name].means, ones[1][name].means, rtol=1e-9)


def test_rows_with_weights_tell_as_much_as_fewer_rows(rng):
    codes, shares = np.repeat(np.arange(3000), 10), rng.exponential(size=30_000)
    noise = 2 * rng.normal(size=30_000)
    own = noise + rng.normal(size=3000)[codes]  # σ²/τ² is 4

    def estimate(wanted):
        wanted = (wanted - np.average(wanted, weights=shares))[:, None]
        return estimates.estimated(estimates.sums_of(codes, wanted, shares, 3000), wanted, shares)

    nothing = estimate(noise)
    assert abs(nothing.significance[0]) < 3
    assert abs(nothing.rough_significance[0]) < 3
    assert estimate(own).shrinkage[0] == pytest.approx(4, rel=0.1)


def test_values_whose_order_tells_all_are_not_rough(rng):
    value = rng.integers(0, 100, 5000)
    wanted = np.sin(value / 15) + 0.3 * rng.normal(size=5000)
    wanted, shares = wanted[:, None] - wanted.mean(), np.ones(5000)
    estimate = estimates.estimated(estimates.sums_of(value, wanted, shares, 100), wanted, shares)
    assert estimate.tells(ordered=False)
    assert not estimate.tells(ordered=True)
    assert estimate.roughness[0] < 0.02


@pytest.mark.parametrize("packed", [False, True])
def test_no_row_knows_its_own_target_nor_that_of_a_part_held_out(packed, monkeypatch):
    if packed:
        monkeypatch.setattr("viva_tensor.tabular.features.DENSE", 0)
    ready = prepared(persons())
    parts = np.array_split(np.concatenate(ready.split[:2]), 3)
    place = ready.encoding.places["person"][-1]
    fixed = estimates.Estimate(*np.ones((5, 1)))  # which all targets go into
    monkeypatch.setattr(effects, "estimated", lambda *given: fixed)

    def features(values, held_out):
        with encoded(ready._replace(values=values), None, Ranks(None), None) as made:
            given = CrossFitting(made, parts).without(held_out)
            return [given.x[part][:, place] for part in parts]

    before, of_all = features(ready.values, 2), features(ready.values, None)
    for number, rows in enumerate(parts):
        inside = np.arange(len(rows)) % effects.SLICES == 1
        values = ready.values.copy()
        values[rows[inside]] = values[rows[inside]][::-1]  # of the same mean
        same = [one == other for one, other in zip(before, features(values, 2), strict=True)]
        assert same[number][inside].all()
        assert [one.all() for one in same] == [number == 2] * 3 if number < 2 else [True] * 3
        assert not same[number][~inside].all() or number == 2
        values[rows] = ready.values[rows][::-1]
        after = features(values, None)
        assert [np.array_equal(a, b) for a, b in zip(of_all, after, strict=True)] == [number == i for i in range(3)]


def test_copies_of_a_row_do_not_know_each_other():
    table = persons(rows=400, people=80)
    ready = prepared(pd.concat([table, table], ignore_index=True))
    with encoded(ready, None, Ranks(None), None) as made:
        parts = parts_of_table(made, 5, 0)
        for part, slices in zip(parts, CrossFitting(made, parts)._slices, strict=True):
            assert len(np.unique(slices)) == effects.SLICES
            assert all(len(np.unique(slices[part % 400 == one])) == 1 for one in np.unique(part % 400))


def test_categories_of_few_rows_have_effects_too_where_these_are_beyond_chance():
    rare = persons(rows=1000, people=250, spread=2.0).drop(columns="person")
    assert list(found(prepared(rare))) == ["name"]
    assert not found(prepared(rare.assign(name=rare["name"].sample(frac=1, random_state=0).to_numpy())))


def crossed(rows=2000, seed=0):
    """Return the effects of two kinds of ids, and a table of rows with one of each."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=80), rng.normal(size=100)
    u, v = rng.integers(0, 80, rows), rng.integers(0, 100, rows)
    y = own[0][u] + own[1][v] + 0.3 * rng.normal(size=rows)
    return own, pd.DataFrame({"u": [f"u{i}" for i in u], "v": [f"v{i}" for i in v], "y": y})


def test_effects_of_several_columns_are_each_of_what_the_others_leave():
    own, table = crossed()
    for names in (["u", "v"], ["u", "v", "again"]):  # the last of which tells nothing beside the first
        ready = prepared(table.assign(again="a" + table["u"])[[*names, "y"]])
        taken = found(ready)
        assert list(taken) == ["u", "v"]
        told = [note for note in ready.notes if note.endswith("the mean of y at each value is a feature")]
        assert [note[0] for note in told] == ["u", "v"]
        for name, true in zip(names, own, strict=False):
            learned = np.array(taken[name].means)[:, 0]
            there = true[[int(value[1:]) for value in taken[name].values]]
            assert np.corrcoef(learned, there)[0, 1] > 0.995  # of the means of rows 0.97
        rows = ready.split.given
        with encoded(ready, None, Ranks(None), None) as made:
            x = CrossFitting(made, np.array_split(rows, 3)).without(0).x[rows]
        of_rows = [x[:, ready.encoding.places[name][-1]] for name in taken]
        left = ready.values[rows] - np.linalg.lstsq(np.stack(of_rows, 1), ready.values[rows], rcond=None)[0] @ of_rows
        assert left.std() < 0.6  # half of which are estimated from a third of the rows


def test_twice_the_columns_of_effects_are_twice_the_work(rng, monkeypatch):
    looked_up, own = [], effects._with_none
    monkeypatch.setattr(effects, "_with_none", lambda given: looked_up.append(1) or own(given))

    def work(columns):
        looked_up.clear()
        codes = [rng.integers(0, 70, 300) for _ in range(columns)]
        effects._joint([effects._Rows(codes, rng.normal(size=(300, 1)), np.ones(300))], [70] * columns)
        return len(looked_up)

    assert work(6) == 2 * work(3)


def test_of_two_networks_none_has_targets_to_make_effects_of():
    table = persons(900, people=80)
    fitted = tabular.fit(table, "y", Members(count=2, hidden=(8,), steps=10, cycles=1))
    assert not any(isinstance(one, Effect) for one in fitted.model.encoding.columns)
    assert found(prepared(table))


def test_a_run_learns_what_persons_are_like_and_the_model_keeps_it(tmp_path):
    table, new = persons(others=0.0), persons(seed=1, others=0.0)
    new.loc[0, "person"] = 9999
    run = tabular.run(table, "y", QUICK)
    alone = tabular.run(table, "y", Settings(hidden=(16,), epochs=10))
    assert run.scores["network"].r2 > max(0.8, alone.scores["network"].r2 + 0.1)
    for name in ("boosted trees", "least squares"):  # which are given the effects, too
        assert run.scores[name].rmse < 0.9 * alone.scores[name].rmse
    assert sorted(one.column for one in run.insight.importances) == ["age", "name", "noise", "person"]
    assert run.insight.importances[-1].column == "noise"
    tabular.save(run, tmp_path)
    predicted = tabular.load(tmp_path).predict(new)["predicted"]
    pd.testing.assert_series_equal(predicted, run.model.predict(new)["predicted"])
    left = (new["y"] - predicted)[1:]
    assert 1 - left.var() / new["y"].var() > 0.8


def test_an_effect_is_its_own_record():
    effect = Effect("person", ("7", "x"), ((0.5,), (-1.25,)))
    encoding = Encoding((effect,))
    record = json.loads(json.dumps(encoding.to_dict()))
    assert Encoding.from_dict(record) == encoding
    column = pd.Series([7.0, "X", None, 8, "7"], name="person", dtype=object)
    assert effect.encode(column).tolist() == [[0.5], [-1.25], [0.0], [0.0], [0.5]]
    for wrong in ({"means": [[1.0]]}, {"means": [[1.0], [2.0, 3.0]]}, {"means": [[1.0], [None]]}, {"values": []}):
        with pytest.raises(DataError, match=r"not the description of an encoding"):
            Encoding.from_dict({**record, "columns": [{**record["columns"][0], **wrong}]})


def test_values_with_an_effect_are_familiar_though_no_category_has_them():
    ready = prepared(persons(people=150).drop(columns="noise"))
    assert list(found(ready)) == ["person", "name"]
    known = persons(people=150)
    assert ready.encoding.unfamiliar(known) == ()  # most names are of no category
    new = known.astype({"name": object})
    new.loc[7:8, "name"] = "nobody"
    new["person"] = new["person"].where(new["person"] != known["person"][5], 70.5)  # in the range, but nobody's
    new.loc[9, "person"] = 1e9
    rows = (new["person"] != known["person"]).sum()
    assert ready.encoding.unfamiliar(new) == (
        f"person: {rows} of 3,000 values were not in training, the first in row 5: '70.5'",
        "name: 2 of 3,000 values were not in training, the first in row 7: 'nobody'",
    )
    new.loc[2, "name"] = None
    assert "name: 1 of 3,000 values are missing, as none was in training, the first in row 2" in (
        ready.encoding.unfamiliar(new)
    )


@pytest.mark.parametrize(("rows", "repeats"), [(480, 4), (320, 1)])
def test_numbers_of_three_rows_each_have_effects_also_where_rows_repeat(rows, repeats):
    rng = np.random.default_rng(0)
    ids, other = rng.integers(0, 90, rows), rng.normal(size=rows)
    table = pd.DataFrame({"id": ids, "x": other, "y": rng.normal(size=90)[ids] + 0.3 * other})
    again = table.loc[np.repeat(np.arange(rows), repeats)].reset_index(drop=True)
    assert list(found(prepared(again, test_fraction=0.0))) == ["id"]


@pytest.mark.parametrize("minutes", [5, 60])
@pytest.mark.parametrize("as_text", [False, True])
def test_durations_have_their_effects_in_every_form(tmp_path, minutes, as_text):
    table = persons(people=120, others=0.0)[["person", "y"]].rename(columns={"person": "took"})
    count = table["took"] * minutes
    of_pandas = table.assign(took=pd.to_timedelta(count, unit="min"))
    written = table.assign(took=[f"{one // 60}:{one % 60:02}" for one in count])
    trained = written if as_text else of_pandas
    ready = prepared(trained)
    assert list(found(ready)) == ["took"] * (minutes == 60 or not as_text)  # of numbers whole ones have effects
    model = tabular.fit(trained, "y", QUICK).model
    expected = model.predict(trained)
    as_numbers = table.assign(took=count / 60)
    of_objects = of_pandas.assign(took=of_pandas["took"].astype(object))
    for given in (of_pandas, written, as_numbers, of_objects, of_pandas.astype({"took": str})):
        pd.testing.assert_frame_equal(model.predict(given), expected)
    of_pandas.to_csv(tmp_path / "new.csv", index=False)
    read = tabular.read(tmp_path / "new.csv", None, model.expected()).table
    pd.testing.assert_frame_equal(model.predict(read), expected)
    assert model.unfamiliar(read) == model.unfamiliar(of_pandas) == ()


def test_hours_beyond_all_durations_have_no_effect():
    effect = Effect("took", ("1:05:00", "-0:30:00"), ((0.5,), (-1.25,)))
    assert effect.codes(pd.Series([65 / 60, -0.5, 1e300, np.nan, 2])).tolist() == [0, 1, -1, -1, -1]


def test_values_that_tell_all_of_the_target_tell_however_sums_are_rounded():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        codes, shares = rng.integers(0, 90, 1200), np.ones(1200)
        wanted = rng.normal(size=(90, 1))[codes]
        wanted -= wanted.mean()
        sums = estimates.sums_of(codes, wanted, shares, 90)
        assert estimates.estimated(sums, wanted, shares).tells(ordered=False)
