import datetime
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viva_tensor import tabular
from viva_tensor.tabular.column_choice import MAX_CATEGORIES, fit_encoding
from viva_tensor.tabular.columns import CLIP, Categorical, Effect
from viva_tensor.tabular.data import DataError, label_of, target_kind
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.notation import Dates

TABLE = pd.DataFrame({"size": [1.5, 2.0, np.nan, 4.0], "kind": ["a", None, "b", "a"], "price": [10, 20, 30, 40]})


def encoded(train: object, new: object) -> list[list[float]]:
    """Features of a column `new` under the encoding fitted on a column `train`."""
    encoding = fit_encoding(pd.DataFrame({"c": train}))
    return encoding.encode(pd.DataFrame({"c": new})).tolist()


class TestNumeric:
    def test_standardised_by_the_training_rows(self):
        assert encoded([1.0, 3.0], [1.0, 5.0]) == [[-1], [3]]

    @pytest.mark.parametrize("absent", [np.nan, np.inf, -np.inf, None])
    def test_missing_value_is_the_median_and_marked(self, absent):
        # with the median 2 filled in: mean 2.75, variance (0.75² · 3 + 2.25²) / 4
        [value] = encoded([2.0, 2.0, 5.0, absent], [absent])
        assert value == pytest.approx([-0.75 / 1.6875**0.5, 1])
        assert encoded([2.0, 2.0, 5.0, absent], [2.75]) == [[0, 0]]

    def test_missing_only_in_new_rows(self):
        assert encoded([1.0, 2.0, 3.0, 6.0], [np.nan]) == [pytest.approx([-0.5 / 3.5**0.5])]

    def test_constant_but_for_missing_values(self):
        assert encoded([4.0, np.nan, 4.0], [4.0, np.nan]) == [[0, 0], [0, 1]]

    def test_booleans(self):
        assert encoded([True, False], [False, True]) == [[-1], [1]]
        assert encoded([True, False, None], [False, True, None]) == encoded([1.0, 0.0, None], [0.0, 1.0, None])

    @pytest.mark.parametrize("zone", [None, "America/New_York"])
    def test_dates_are_days_since_the_first(self, zone):
        days = pd.date_range("2024-01-01", periods=5, freq="2D", tz=zone)
        encoding = fit_encoding(pd.DataFrame({"d": days}))
        assert (encoding.columns[0].days.mean, encoding.columns[0].days.std) == pytest.approx((4, 8**0.5))
        assert encoding.encode(pd.DataFrame({"d": days[2:3]})).tolist() == [[0]]
        dates = [datetime.date(2024, 1, 1), None, datetime.date(2024, 1, 9)]
        assert fit_encoding(pd.DataFrame({"d": dates})).columns[0].days.median == 4

    def test_durations_are_hours(self):
        table = pd.DataFrame({"took": pd.to_timedelta([30, None, 90], unit="min")})
        for column in (table["took"], table["took"].astype(object)):
            encoding = fit_encoding(column.to_frame())
            assert (encoding.columns[0].median, encoding.columns[0].high) == (1.0, 1.5)
            assert encoding.encode(table).tolist() == encoded([0.5, None, 1.5], [0.5, None, 1.5])
            assert encoding.notes == ("took: durations, in hours",)
        with pytest.raises(DataError, match="'c' must hold dates, not durations"):
            encoded(pd.date_range("2024-01-01", periods=2), pd.to_timedelta([1, 2], unit="D"))
        with pytest.raises(DataError, match="holds durations; divide them by a unit"):
            target_kind(table, "took")

    def test_outlier_is_clipped(self):
        assert encoded([0.0, 1.0], [1e300, -1e300]) == [[CLIP], [-CLIP]]

    def test_a_long_tail_is_kept_beside_bins(self):
        """Powers of two have no gap of three; a value far behind all others is absurd."""
        tail = [0.0, 0.1] * 500 + [2.0**k for k in range(8)]

        def scaled(train, new, bins=8):
            encoding = fit_encoding(pd.DataFrame({"c": train}), bins=bins)
            return encoding.encode(pd.DataFrame({"c": new}))[:, 0]

        column = fit_encoding(pd.DataFrame({"c": tail}), bins=8).columns[0]
        np.testing.assert_allclose(scaled(tail, tail) * column.std + column.mean, tail, rtol=1e-5, atol=1e-5)
        assert scaled(tail, [1e6]) == scaled(tail, [128.0])
        assert scaled([*tail, 1e6], [1e6]) == scaled([*tail, 1e6], [128.0])
        below = [-value for value in tail]
        np.testing.assert_allclose(scaled(below, below), -scaled(tail, tail))
        assert scaled(tail, tail, bins=0).max() == CLIP

    @pytest.mark.parametrize("gaps", [0, 2000])
    def test_values_beside_many_zeros_may_lie_thrice_as_far_as_any_of_few_training_rows(self, gaps):
        few = [0.0] * 5000 + [*np.linspace(1, 20, 60)]
        column = fit_encoding(pd.DataFrame({"c": few + [np.nan] * gaps}), bins=8).columns[0]
        new = pd.Series([20.0, 40.0, 59.0, 70.0, 1e9])
        wanted = [20.0, 40.0, 59.0, 60.0, 60.0]
        np.testing.assert_allclose(column.encode(new)[:, 0] * column.std + column.mean, wanted, atol=1.0)
        usual = fit_encoding(pd.DataFrame({"c": [*range(960)] + [np.nan] * 1200}), bins=8).columns[0]
        assert usual.limits == (-CLIP, CLIP)

    @pytest.mark.parametrize("absurd", [1e9, -999999.0, 1e300])
    def test_an_absurd_value_beside_many_zeros_hides_no_other(self, absurd):
        usual = [0.0] * 850 + [*np.linspace(0.1, 10, 150)]
        scale = fit_encoding(pd.DataFrame({"c": usual})).columns[0].std
        found = fit_encoding(pd.DataFrame({"c": [*usual, absurd, absurd]}))
        assert found.columns[0].std == pytest.approx(scale, rel=6)
        assert found.notes == (f"c: 2 rows have {absurd:g}, far from most others; if it means missing: "
                               f"--missing {absurd:g} (of an estimator: missing=[{absurd:g}])",)  # fmt: skip
        assert fit_encoding(pd.DataFrame({"c": [0.0] * 90 + [1e6] * 10})).notes == ()  # two values, none absurd

    @pytest.mark.parametrize("value", ["9999999", "123456.75", "1e+09"])
    def test_an_absurd_value_is_named_with_all_of_its_digits(self, value):
        usual = [0.0] * 850 + [*np.linspace(0.1, 10, 150)]
        (note,) = fit_encoding(pd.DataFrame({"c": [*usual, float(value), float(value)]})).notes
        assert note.startswith(f"c: 2 rows have {value}, far from")
        assert note.endswith(f": --missing {value} (of an estimator: missing=[{value}])")

    @pytest.mark.parametrize("nothing", [[pd.NaT] * 2, pd.to_timedelta([None, None]), pd.to_datetime([None, None])])
    def test_missing_durations_and_dates_alone_are_missing(self, nothing):
        encoding = fit_encoding(pd.DataFrame({"c": pd.to_timedelta([1, 2, None, 9], unit="h")}))
        both = encoding.encode(pd.DataFrame({"c": pd.to_timedelta([None, "1h"])}))
        assert encoding.encode(pd.DataFrame({"c": nothing})).tolist() == [both[0].tolist()] * 2

    def test_text_where_numbers_were(self):
        with pytest.raises(DataError, match="'c' must hold numbers"):
            encoded([1.0, 2.0], ["three"])

    @pytest.mark.parametrize(
        ("train", "new", "message"),
        [
            (pd.date_range("2024-01-01", periods=3), [1, 2, 3], "'c' must hold dates, not numbers"),
            ([1, 2, 3], pd.date_range("2024-01-01", periods=3), "'c' must hold numbers, not dates"),
        ],
    )
    def test_dates_and_numbers_are_not_taken_for_each_other(self, train, new, message):
        with pytest.raises(DataError, match=message):
            encoded(train, new)


class TestCategorical:
    def test_one_hot_in_sorted_order(self):
        assert encoded(["b", "a", "b", "a"], ["a", "b", "unseen", None]) == [[1, 0], [0, 1], [0, 0], [0, 0]]

    def test_missing_is_a_category_where_training_had_it(self):
        assert encoded(["b", "a", "b", "a", None], [None, "a", "unseen"]) == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]

    def test_most_frequent_are_kept(self):
        names = [f"c{i:03}" for i in range(MAX_CATEGORIES + 6)]
        encoding = fit_encoding(pd.DataFrame({"c": names + names[6:]}))
        assert encoding.columns[0].categories == tuple(names[6:])

    def test_rarer_values_of_training_are_told_from_new_ones(self):
        table = pd.DataFrame({"shop": [f"S{i % 100}" for i in range(400)]})
        encoding = fit_encoding(table)
        encoding = Encoding.from_dict(json.loads(json.dumps(encoding.to_dict())))
        assert len(encoding.columns[0].feature_names) == MAX_CATEGORIES
        new = pd.DataFrame({"shop": ["S99", "s98", None, "S100", "S1"]})
        assert encoding.unfamiliar(table) == ()
        told = "shop: 1 of 5 values are missing, as none was in training, the first in row 2"
        assert encoding.unfamiliar(new) == (told,)
        new.loc[2, "shop"] = "S97"
        told = "shop: 1 of 5 values are in no category that was learned, the first in row 3: 'S100'"
        assert encoding.unfamiliar(new) == (told,)

    def test_rarer_values_that_no_model_knows_are_rare_or_new(self, monkeypatch):
        table = pd.DataFrame({"shop": [f"S{i % 100}" for i in range(400)]})
        older = fit_encoding(table).to_dict()
        del older["columns"][0]["others"]
        monkeypatch.setattr("viva_tensor.tabular.column_choice.MOST_OTHERS", 100 - MAX_CATEGORIES - 1)
        for encoding in (Encoding.from_dict(older), fit_encoding(table)):
            [told] = encoding.unfamiliar(table)
            assert "144 of 400 values are in no category with a feature: rare in training, or new, the" in told

    def test_constant_but_for_missing_values(self):
        assert encoded(["a", None, "a"], ["a", None]) == [[1, 0], [0, 1]]

    def test_number_and_text_of_one_label_are_one_category(self):
        assert encoded([1, 1, "1", "b"], ["1", 1, "b"]) == [[1, 0], [1, 0], [0, 1]]

    def test_integer_labels_survive_a_missing_value(self):
        assert encoded(pd.Categorical([1, 2, 1, 2]), [2.0, np.nan]) == [[0, 1], [0, 0]]

    @pytest.mark.parametrize("pair", [("False", "True"), ("0", "1"), ("f", "t"), ("No", "Yes"), ("falsch", "wahr")])
    def test_truths_are_one_in_all_words_for_them(self, pair):
        false, true = [1, 0, 0], [0, 1, 0]
        column = Categorical("a", pair, missing=True)
        for words in (["f", "t"], ["no", "YES"], ["n", "y"], ["FALSCH", "wahr"], ["False", "true"], [0, 1], [0.0, 1.0]):
            assert column.encode(pd.Series(words)).tolist() == [false, true], words
        assert column.encode(pd.Series(["2", "perhaps"])).tolist() == [[0, 0, 0]] * 2
        others = Categorical("a", (*pair, "a"))
        assert not others.encode(pd.Series(sorted({"1", "yes"} - {pair[1].casefold()}))).any()

    @pytest.mark.parametrize("step", ["1D", "90min", "250ms"])
    def test_moments_are_one_in_all_forms_of_iso_8601(self, step):
        moments = pd.Series(pd.date_range("2024-01-31", periods=80, freq=step))
        forms = [moments, moments.astype(str), moments.map(pd.Timestamp.isoformat)]
        forms += [moments.dt.strftime(form) for form in ("%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%f000")]
        labels = tuple(map(label_of, moments))
        column, effect = Categorical("c", labels), Effect("c", labels, ((0.0,),) * 80)
        for form in forms:
            assert column.codes(form).tolist() == effect.codes(form).tolist() == [*range(80)]


class TestEncoding:
    def test_left_out_with_reasons(self):
        n = 20
        table = pd.DataFrame(
            {
                "kept": range(n),
                "one": 1,
                "word": "w",
                "none": None,
                "infinite": np.inf,
                "name": [f"n{i}" for i in range(n)],
                "nearly": [f"n{max(i, 1)}" for i in range(n)],
                "list": [[1]] * n,
                "huge": [1e308, -1e308] * (n // 2),
            }
        )
        encoding = fit_encoding(table)
        assert encoding.feature_names == ("kept",)
        reasons = {name: reason.split()[0] for name, reason in encoding.left_out.items()}
        assert reasons == {
            "one": "constant",
            "word": "constant",
            "none": "all",
            "infinite": "all",
            "name": "identifier:",
            "nearly": "identifier:",
            "list": "neither",
            "huge": "values",
        }

    def test_repeated_text_is_no_identifier(self):
        assert fit_encoding(pd.DataFrame({"c": list("aabbccdd")})).feature_names == ("c=a", "c=b", "c=c", "c=d")

    def test_a_few_words_in_a_column_that_is_mostly_empty_are_categories(self):
        regions = [f"region {i // 100}" if i % 100 == 0 else None for i in range(400)]
        names = [f"name {i}" if i % 4 else None for i in range(400)]
        table = pd.DataFrame({"region": regions, "name": names, "rare": names[:90] + [None] * 310})
        encoding = fit_encoding(table)
        assert [len(one.categories) for one in encoding.columns] == [4]
        told = "identifier: the text differs in nearly every row that has one"
        assert encoding.left_out == {"name": told, "rare": told}

    def test_no_usable_column(self):
        with pytest.raises(DataError, match=r"no usable feature column \(one: constant\)"):
            fit_encoding(pd.DataFrame({"one": [1, 1]}))
        with pytest.raises(DataError, match="no usable feature column"):
            fit_encoding(pd.DataFrame(index=range(3)))

    def test_no_usable_column_but_one_that_may_be_dates(self, tmp_path):
        days = pd.date_range("2021-01-01", periods=60).strftime("%d.%m.%y")
        pd.DataFrame({"day": days, "y": range(60)}).to_csv(tmp_path / "t.csv", index=False)
        source = tabular.read(tmp_path / "t.csv")
        with pytest.raises(DataError, match=r"no usable feature column \(day: identifier.*--date-format '%d.%m.%y'"):
            tabular.run(source, "y")

    def test_columns_are_found_by_name(self):
        encoding = fit_encoding(TABLE)
        features = encoding.encode(TABLE)
        assert np.array_equal(encoding.encode(TABLE[["price", "kind", "size"]].assign(more=0)), features)
        with pytest.raises(DataError, match="lacks columns used in training: kind"):
            encoding.encode(TABLE[["price", "size"]])

    def test_array(self):
        encoding = fit_encoding(TABLE)
        features = encoding.encode(TABLE)
        assert features.dtype == np.float32
        assert features.flags.c_contiguous
        assert features.shape == (4, len(encoding.feature_names)) == (4, 6)

    @settings(max_examples=50, deadline=None)
    @given(
        numbers=st.lists(st.none() | st.floats(), min_size=8, max_size=8),
        words=st.lists(st.none() | st.text(max_size=3), min_size=8, max_size=8),
    )
    def test_survives_json(self, numbers, words):
        table = pd.DataFrame(
            {"n": pd.Series(numbers, dtype="float64"), "w": pd.Series(words, dtype="object"), "i": range(8)}
        )
        encoding = fit_encoding(table.iloc[:6])
        again = Encoding.from_dict(json.loads(json.dumps(encoding.to_dict(), allow_nan=False)))
        assert again == encoding
        features = again.encode(table)
        assert np.isfinite(features).all()
        assert np.array_equal(features, encoding.encode(table))

    @pytest.mark.parametrize(
        "record",
        [
            {},
            {"columns": 3, "left_out": {}},
            {"columns": [{"kind": "magic"}], "left_out": {}},
            {"columns": [{"kind": "categorical", "name": "c"}], "left_out": {}},
            {
                "columns": [
                    {"kind": "numeric", "name": "c", "median": 0, "mean": 0, "std": 0, "missing": False, "origin": None}
                ],
                "left_out": {},
            },
        ],
    )
    def test_foreign_record(self, record):
        with pytest.raises(DataError, match="not the description of an encoding"):
            Encoding.from_dict(record)


class TestCyclesOfDates:
    times = pd.Series(pd.date_range("2021-03-04 05:00:00.123", "2023-03-04", freq="1789min"), name="t")

    def found(self, bins):
        return fit_encoding(self.times.to_frame(), bins=bins)

    @pytest.mark.parametrize(("bins", "parts"), [(64, (48, 7, 48)), (30, (24, 7, 24)), (8, (1, 7, 1)), (0, ())])
    def test_beside_their_waves_they_have_as_many_bins_as_there_may_be(self, bins, parts):
        encoding = self.found(bins)
        [date] = encoding.columns
        assert (date.cycles, date.bins) == (("year", "week", "day"), parts)
        binned = np.flatnonzero(date.binned)
        assert len(binned) == bins + sum(parts) - len(parts)
        assert len(encoding.unbinned) == 1 + 2 * 3
        assert not [encoding.feature_names[i] for i in encoding.unbinned if " from " in encoding.feature_names[i]]
        assert Encoding.from_dict(json.loads(json.dumps(encoding.to_dict()))) == encoding

    def test_each_bin_begins_at_its_time(self):
        encoding = self.found(30)
        texts = ["2022-05-03", "2022-05-03 22:59:59", "2022-05-03 23:00", None, "1969-12-28 23:59"]
        features = encoding.encode(pd.DataFrame({"t": pd.to_datetime(texts, format="mixed")}))
        names = np.array(encoding.feature_names)

        def sums(cycle):
            return features[:, [f"{cycle} from" in name for name in names]].sum(axis=1).tolist()

        assert sums("day") == [0, 22, 23, 0, 23]
        assert sums("week") == [1, 1, 1, 0, 6]  # days after Monday
        assert sums("year") == [8, 8, 8, 0, 23]

    def test_a_model_without_such_bins_stays_as_it_was(self):
        encoding = self.found(16)
        older = encoding.to_dict()
        del older["columns"][0]["bins"]
        before = Encoding.from_dict(older)
        assert before.columns == (replace(encoding.columns[0], bins=()),)
        kept = [" from " not in name or name.startswith("t from") for name in encoding.feature_names]
        assert before.feature_names == tuple(np.array(encoding.feature_names)[kept])
        assert np.array_equal(before.encode(self.times.to_frame()), encoding.encode(self.times.to_frame())[:, kept])
        for wrong in ([3], [24, 0, 24], [24, None, 24]):
            with pytest.raises(DataError, match="not the description of an encoding"):
                Encoding.from_dict({**older, "columns": [{**older["columns"][0], "bins": wrong}]})


def test_dates_with_an_offset_where_training_had_none_are_told_and_the_other_way_round():
    local = pd.Series(pd.date_range("2024-01-01 10:00", periods=30, freq="7h"), name="t")
    zoned = local.dt.tz_localize("America/New_York")
    text = Dates().parse(zoned.map(pd.Timestamp.isoformat))  # all with an offset
    for trained in (local, zoned, text):
        encoding = fit_encoding(trained.to_frame())
        assert Encoding.from_dict(json.loads(json.dumps(encoding.to_dict()))) == encoding
        older = replace(encoding, columns=tuple(replace(one, offsets=None) for one in encoding.columns))
        for new in (local, zoned, text, zoned.astype(object)):
            lines = "".join(encoding.unfamiliar(new.to_frame()))
            same = (trained is local) == (new is local)
            assert ("from UTC" in lines) == (not same)
            assert "from UTC" not in "".join(older.unfamiliar(new.to_frame()))
    assert fit_encoding(local.to_frame()).unfamiliar(zoned[:1].to_frame()) == (
        "t: times have an offset from UTC, those of the training rows had none; "
        "times without an offset are taken as UTC",
    )
