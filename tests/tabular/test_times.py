"""Times of day in files of every kind: words that stand for missing ones, and numbers that are no times."""

from dataclasses import replace
from datetime import time

import numpy as np
import pandas as pd
import pytest

from viva_tensor import tabular
from viva_tensor.sklearn import TabularRegressor
from viva_tensor.tabular import Members, Roles, Task
from viva_tensor.tabular.data import DataError, kind_of, label_of, rows_of
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.labels import normal
from viva_tensor.tabular.notation import Numbers, Times
from viva_tensor.tabular.reading import Reading, Source, read
from viva_tensor.tabular.recognition import Writing, overruled
from viva_tensor.tabular.streaming import stream
from viva_tensor.tabular.typed_columns import check_scales
from viva_tensor.train import Settings

QUICK = Settings(hidden=(8,), epochs=2, batch_size=16)
CLOCKS = [time(7, 30), time(0), time(8, 15)] * 20
HOURS = [7.5, np.nan, 8.25] * 20


def write(path, times):
    table = pd.DataFrame({"t": times, "y": range(len(times))})
    getattr(table, f"to_{path.suffix[1:]}")(path, **({"index": False} if path.suffix == ".csv" else {}))
    return path


@pytest.mark.parametrize("word", ["00:00", "0:00:00"])
@pytest.mark.parametrize("form", ["{}", "{:%H:%M}", "{0.hour}:{0:%M}", None])
@pytest.mark.parametrize("suffix", ["csv", "parquet", "feather"])
def test_a_word_for_a_missing_time_means_it_in_every_file_and_however_it_is_read(tmp_path, suffix, form, word):
    path = write(tmp_path / f"t.{suffix}", [form.format(one) for one in CLOCKS] if form else CLOCKS)
    reading = Reading(writing=Writing(missing=(word,)))
    source = read(path, reading)
    known = {name: overruled(one, reading.writing) for name, one in source.notations.items()}
    expected = Expected(numbers=["t"], notations=known, only=["t"])
    assert isinstance(known["t"], Times)
    found = [source.table, read(path, reading, expected).table]
    later = read(path, reading, expected, whole=False).table
    found.append(rows_of(later, 0, len(later)))
    if suffix != "feather":
        drawn = stream(path, reading)
        assert drawn.source.notations["t"] == source.notations["t"]
        found += [drawn.source.table, pd.concat(drawn.frames(expected))]
    for table in found:
        np.testing.assert_array_equal(table["t"], HOURS)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "feather"])
def test_a_model_misses_the_times_that_training_missed(tmp_path, suffix):
    path, writing = write(tmp_path / f"t.{suffix}", CLOCKS), Writing(missing=("00:00",))
    model = tabular.fit(read(path, Reading(writing=writing)), Task("y", writing=writing), QUICK).model
    expected = model.predict(pd.DataFrame({"t": HOURS}))
    for reading in (Reading(), Reading(writing=writing)):
        table = read(path, reading, model.expected(), whole=False).table
        pd.testing.assert_frame_equal(model.predict(table), expected)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "feather"])
def test_plain_numbers_are_refused_where_times_or_a_scale_were_learned(tmp_path, suffix):
    notations = read(write(tmp_path / "clocks.feather", CLOCKS)).notations
    assert notations == {"t": Times()}
    path = write(tmp_path / f"plain.{suffix}", [0, 7.5, 8.25])
    with pytest.raises(DataError, match=r"column 't' holds plain numbers, such as 7\.5 in row 1|not '0\.0' in row 0"):
        read(path, expected=Expected(numbers=["t"], notations=notations), whole=False)
    with pytest.raises(DataError, match=r"column 't' holds numbers without '%', such as 7\.5 in row 1"):
        read(path, expected=Expected(numbers=["t"], notations={"t": Numbers(suffix="%")}), whole=False)


def durations():
    """Minutes as numbers, durations, times of day, text, and objects of which one is a word for a missing value."""
    minutes = 11 * np.arange(60)
    took = pd.to_timedelta(minutes, unit="min")
    return {
        "numbers": minutes,
        "durations": took,
        "times": [time(one // 60, one % 60) for one in minutes],
        "text": [f"{one // 60}:{one % 60:02}" for one in minutes],
        "mixed": pd.Series(["?", *took[1:]], dtype=object),
    }


def learned(given):
    """Return a model of one of these columns, for which '?' is missing; of durations as estimators give them."""
    table = pd.DataFrame({"t": given, "y": np.arange(60.0)})
    source = Source(table) if kind_of(table["t"]) == "duration" else table
    return tabular.fit(source, Task("y", writing=Writing(missing=("?",))), QUICK).model


@pytest.mark.parametrize("factor", [1, 0.01])  # of the latter all could be hours of a day
def test_durations_in_any_form_are_refused_where_other_numbers_were_learned(tmp_path, factor):
    forms = durations()
    model = learned(forms.pop("numbers") * factor)
    model.save(tmp_path)
    loaded = tabular.load(tmp_path)
    assert loaded.encoding == model.encoding
    told = r"column 't' (holds durations or times.* plain numbers|must hold numbers, not)"
    for name, given in forms.items():
        for one in (model, loaded):
            with pytest.raises(DataError, match=told):
                one.predict(pd.DataFrame({"t": given}))
        for suffix in ("csv", "parquet", "feather") if name != "mixed" else ():
            path = write(tmp_path / f"t.{suffix}", given)
            with pytest.raises(DataError, match="column 't' holds durations or times of day, but held plain"):
                read(path, expected=model.expected())


@pytest.mark.parametrize("form", ["durations", "times", "text"])
def test_files_with_other_numbers_are_refused_where_durations_were_learned(tmp_path, form):
    forms = durations()
    model = learned(forms[form])
    expected = model.predict(pd.DataFrame({"t": forms["durations"]}))
    for name in ("durations", "times", "text"):
        pd.testing.assert_frame_equal(model.predict(pd.DataFrame({"t": forms[name]})), expected)
        path = write(tmp_path / "t.csv", forms[name])
        pd.testing.assert_frame_equal(model.predict(read(path, expected=model.expected()).table), expected)
    with pytest.raises(DataError, match="plain numbers, such as 11 in row 1, but held times in training"):
        check_scales(pd.DataFrame({"t": forms["numbers"]}), model.expected())
    with pytest.raises(DataError, match=r"column 't' must hold times, not '0' in row 0"):
        read(write(tmp_path / "t.csv", forms["numbers"]), expected=model.expected())


def test_estimators_know_times_of_day_again_and_refuse_numbers_for_them():
    hours = np.arange(60) % 24
    table = pd.DataFrame({"t": [time(hour) for hour in hours], "x": np.arange(60) % 7})
    fitted = TabularRegressor(settings=QUICK).fit(table, hours * 2.0)
    again = fitted.predict(table.assign(t=pd.to_timedelta(hours, unit="h")))
    np.testing.assert_array_equal(again, fitted.predict(table))
    with pytest.raises(DataError, match="plain numbers, such as 1 in row 1, but held times in training"):
        fitted.predict(table.assign(t=hours))


def test_a_moment_with_an_offset_has_one_form_however_it_is_written():
    moment = pd.Timestamp("2024-01-31 10:30", tz="UTC")
    words = ["2024-01-31T10:30Z", "2024-01-31 10:30:00.000+0000", "2024/01/31 12:30:00+02:00", label_of(moment)]
    words.append(label_of(moment.tz_convert("Asia/Kolkata")))
    assert {normal(word) for word in words} == {"2024-01-31 10:30:00+00:00"}
    assert normal("2024-01-31 10:30") == "2024-01-31 10:30:00"  # which may be any of these
    assert normal("0001-01-01T00:00+02:00") == "0001-01-01 00:00:00+02:00"


@pytest.mark.parametrize("count", [60, 1200])  # of the latter with effects
def test_times_that_are_categories_are_found_in_files_that_know_them_as_times(tmp_path, count):
    rng = np.random.default_rng(0)
    minutes = 17 * (rng.permutation(count) % (80 if count > 60 else 5))
    table = pd.DataFrame({"t": [time(one // 60, one % 60) for one in minutes.tolist()], "y": np.sin(minutes)})
    members = Members(3, hidden=(8,), steps=20)
    model = tabular.fit(table, Task("y", roles=Roles(categorical=("t",))), members).model
    assert len(model.encoding.columns) == 1 + (count > 60)
    expected = model.predict(table)
    for suffix in ("csv", "parquet", "feather"):
        path = write(tmp_path / f"t.{suffix}", table["t"])
        found = read(path, expected=model.expected()).table
        pd.testing.assert_frame_equal(model.predict(found), expected)
        assert model.unfamiliar(found) == ()


def test_models_that_do_not_know_whether_numbers_were_durations_take_both():
    forms = durations()
    model = learned(forms["numbers"])
    record = model.encoding.to_dict()
    assert record["columns"][0].pop("durations") is False
    older = replace(model, encoding=Encoding.from_dict(record))
    hours = pd.DataFrame({"t": forms["numbers"] / 60})
    pd.testing.assert_frame_equal(older.predict(pd.DataFrame({"t": forms["durations"]})), older.predict(hours))


def test_durations_have_one_label_however_their_days_are_written():
    for hours in (0.5, 7, 26, 99.25):
        label = label_of(pd.Timedelta(hours=hours))
        words = [label, str(pd.Timedelta(hours=hours)), label.removesuffix(":00"), label.rjust(8, "0")]
        assert {normal(word) for word in words} == {label}
    assert normal("1 day 2:00") == normal("1 days +02:00:00") == normal("1 days 2:00") == "26:00:00"
    assert normal("-1 days +23:30:00") == normal(label_of(pd.Timedelta(minutes=-30))) == "-0:30:00"
    assert normal("0 days 01:00:00.000000") == normal("1:00") == "1:00:00"
    assert normal("00:00:00.250000000") == normal("0:00:00.25") == "0:00:00.25"
    assert normal("-1 days +23:59:59.500000") == normal(label_of(pd.Timedelta(seconds=-0.5))) == "-0:00:00.5"
    assert normal("-07:30") == "-7:30:00"
    assert normal(f"{'9' * 400} days 2:00") == f"{'9' * 400} days 2:00"


@pytest.mark.parametrize("times", [CLOCKS, [pd.Timedelta(hours=1)] * 3])
@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_times_and_durations_are_no_plain_numbers(tmp_path, suffix, times):
    path = write(tmp_path / f"t.{suffix}", times)
    plain = read(path)
    found = read(path, expected=Expected(numbers=["t"], notations=plain.notations, only=["t"]))
    pd.testing.assert_frame_equal(found.table, plain.table)
