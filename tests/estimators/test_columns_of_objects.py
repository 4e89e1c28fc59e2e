"""Columns of objects of several kinds, and of Arrow's kinds, in tables of estimators."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from viva_tensor import tabular
from viva_tensor.error import InvalidValue
from viva_tensor.sklearn import TabularClassifier, TabularRegressor
from viva_tensor.tabular import Members, Task, Writing
from viva_tensor.tabular.columns import Numeric
from viva_tensor.tabular.data import DataError, kind_of
from viva_tensor.train import Settings

QUICK = Settings(hidden=(4,), epochs=3, batch_size=16, seed=0)
WHOLE = 7.0 * (np.arange(80) % 4)


def of_objects(values, rows=80):
    """Return values again and again in a column of objects."""
    return pd.Series([values[i % len(values)] for i in range(rows)], dtype=object)


@pytest.mark.parametrize(
    "values",
    [
        [0, True, False, 1],
        [True, 0.5, None, np.bool_(False)],
        [Decimal("1.5"), 0, Decimal(2), None],
        [Decimal("1.5"), 0.0, True, np.float32(2)],
        [Fraction(1, 2), 3, None, Fraction(5, 2)],
        [Fraction(1, 2), Fraction(3, 2), 10**400, -(10**400)],
    ],
)
def test_objects_that_are_numbers_of_several_kinds_are_numbers(values):
    X, y = pd.DataFrame({"a": of_objects(values), "b": np.arange(80.0)}), np.arange(80) % 3
    numbers = [np.nan if one is None or len(str(one)) > 400 else float(one) for one in values]
    plain = X.assign(a=of_objects(numbers).astype(float))
    model = TabularRegressor(settings=QUICK).fit(X, y)
    assert model.model_.encoding == TabularRegressor(settings=QUICK).fit(plain, y).model_.encoding
    assert isinstance(model.model_.encoding.columns[0], Numeric)
    np.testing.assert_array_equal(model.predict(X), model.predict(plain))
    np.testing.assert_array_equal(model.predict(X[1:2]), model.predict(X)[1:2])
    run = tabular.fit(X.assign(y=WHOLE), "y", QUICK).model
    assert isinstance(run.encoding.columns[0], Numeric)
    assert run.predict(X).equals(run.predict(plain))


@pytest.mark.parametrize(("values", "kind"), [([1, "a", True], "text"), ([1, 1j], "text"), ([1.5, [2]], "other")])
def test_other_objects_are_none(values, kind):
    assert kind_of(of_objects(values)) == kind


@pytest.mark.parametrize("dtype", [pa.decimal128(10, 2), pa.float16()])
def test_numbers_of_arrow_that_pandas_cannot_convert_where_some_are_missing(dtype):
    values = pd.Series([1.5, None, 2.5, 4.0] * 20)
    given = [None if np.isnan(one) else Decimal(str(one)) if dtype != pa.float16() else one for one in values]
    X = pd.DataFrame({"a": pd.Series(given, dtype=pd.ArrowDtype(dtype)), "b": np.arange(80.0)})
    plain = X.assign(a=values)
    model = TabularRegressor(settings=QUICK).fit(X, WHOLE)
    np.testing.assert_array_equal(model.predict(X), model.predict(plain))
    assert model.model_.encoding == TabularRegressor(settings=QUICK).fit(plain, WHOLE).model_.encoding
    assert tabular.fit(X, "a", QUICK).model.predict(X).equals(tabular.fit(plain, "a", QUICK).model.predict(X))


def test_durations_as_objects_are_those_of_pandas():
    hours = np.arange(600) % 70
    durations = pd.Series(pd.to_timedelta(hours, "h"), dtype=object)
    X = pd.DataFrame({"a": durations, "b": np.arange(600.0)})
    effects = Members(2, bins=4, hidden=(4,), steps=10, parts=3)  # which ask whether values are whole
    model = TabularRegressor(settings=effects).fit(X, hours * 1.0)
    typed = TabularRegressor(settings=effects).fit(X.assign(a=pd.to_timedelta(durations)), hours * 1.0)
    np.testing.assert_array_equal(model.predict(X), typed.predict(X))


@pytest.mark.parametrize(
    ("odd", "word"),
    [
        (timedelta(hours=99), np.timedelta64(99, "h")),
        (datetime(1900, 1, 1), np.datetime64("1900-01-01T00", "h")),
    ],
)
def test_times_of_numpy_stand_for_missing_ones_like_others(odd, word):
    X = pd.DataFrame({"a": pd.Series([odd + timedelta(hours=i % 4) for i in range(80)]), "b": np.arange(80.0)})
    model = TabularRegressor(settings=QUICK, missing=[word]).fit(X, WHOLE)
    same = TabularRegressor(settings=QUICK, missing=[odd]).fit(X, WHOLE)
    assert model.model_.encoding == same.model_.encoding
    assert any(name.endswith("=(missing)") for name in model.model_.encoding.feature_names)


@pytest.mark.parametrize(
    "values",
    [
        [0.5, 1.5, -1.0],
        [True, False, np.bool_(False)],
        [Decimal("0.5"), Decimal(2)],
        [np.float32(0.5), np.float32(2)],
        [date(2024, 1, 31), date(2024, 2, 29)],
        [pd.Timestamp("2024-01-31", tz="UTC"), pd.Timestamp("2024-02-29 07:30", tz="UTC")],
        [timedelta(hours=7), timedelta(hours=30)],
        [time(7, 30), time(8)],
    ],
)
def test_words_for_missing_values_are_found_beside_objects_of_any_kind(values):
    b, missing = np.arange(80.0), ["?", -1]
    X = pd.DataFrame({"a": of_objects([*values, "?"]), "b": b})
    without = pd.DataFrame({"a": of_objects([*(None if one == -1 else one for one in values), None]), "b": b})
    model = TabularRegressor(settings=QUICK, missing=missing).fit(X, WHOLE)
    same = TabularRegressor(settings=QUICK, missing=missing).fit(without, WHOLE)
    assert model.model_.encoding == same.model_.encoding
    np.testing.assert_array_equal(model.predict(X), model.predict(without))
    task = Task("y", writing=Writing(missing=("?", "-1")))
    tables = X.assign(y=WHOLE), without.assign(y=WHOLE)
    run, again = (tabular.fit(table, task, QUICK).model for table in tables)
    assert run.encoding == again.encoding
    pd.testing.assert_frame_equal(run.predict(X), again.predict(X))


@pytest.mark.parametrize("odd", [[1], {"a": 1}, ([1],)])
def test_values_that_cannot_be_categories_are_refused_with_their_column(odd):
    X = pd.DataFrame({"a": ["x", "y"] * 40, "b": np.arange(80.0)})
    model = TabularRegressor(settings=QUICK).fit(X, WHOLE)
    wanted = f"column 'a' must hold text, numbers or dates, not a {type(odd).__name__}; make text of them"
    with pytest.raises(tabular.DataError, match=wanted):
        model.predict(X.assign(a=["x", odd] * 40))


@pytest.mark.parametrize("dtype", [object, pd.ArrowDtype(pa.time64("us"))])
@pytest.mark.parametrize("missing", [None, ["9:30:00"]])
def test_times_of_day_are_hours(dtype, missing):
    hours = pd.Series(np.arange(80) % 4 + 7.5)
    X = pd.DataFrame({"a": pd.Series([time(int(one), 30) for one in hours], dtype=dtype), "b": np.arange(80.0)})
    plain = X.assign(a=hours)
    if missing:
        plain = plain.assign(a=hours.mask(hours == 9.5))
    model, same = (
        TabularRegressor(settings=QUICK, missing=given).fit(one, WHOLE) for one, given in ((X, missing), (plain, None))
    )
    assert model.model_.encoding == same.model_.encoding
    np.testing.assert_array_equal(model.predict(X), same.predict(plain))
    kept = TabularRegressor(settings=QUICK, missing=missing, categorical=["a"]).fit(X, WHOLE)
    labels = ("10:30:00", "7:30:00", "8:30:00", "9:30:00")
    assert kept.model_.encoding.columns[0].categories == labels[: 3 if missing else 4]
    assert kept.model_.unfamiliar(X) == ()


@pytest.mark.parametrize("count", [3, 70])  # the latter with effects
@pytest.mark.parametrize("learned", ["float32", "float64"])
@pytest.mark.parametrize("part", ["fiftieths", "thirds"])
def test_fractions_that_are_categories_have_one_label_in_every_kind_of_float(learned, count, part, tmp_path):
    place = np.random.default_rng(0).integers(0, count, 1400)
    values = pd.Series([round(0.1 + one / 50, 2) if part == "fiftieths" else (one + 1) / 3 for one in place.tolist()])
    y = np.random.default_rng(1).normal(size=count)[place]
    members = Members(3, hidden=(8,), steps=40)
    kinds = ["float32", "float64", "Float32", "float[pyarrow]", object, str]
    model = TabularRegressor(settings=members, categorical=["c"]).fit(pd.DataFrame({"c": values.astype(learned)}), y)
    assert len(model.model_.encoding.columns) == 1 + (count == 70)
    for kind in kinds:
        frame = pd.DataFrame({"c": values.astype(kind)})
        np.testing.assert_array_equal(model.predict(frame), model.predict(pd.DataFrame({"c": values})))
        assert model.model_.unfamiliar(frame) == ()
    pd.DataFrame({"c": values.astype("float32")}).to_excel(tmp_path / "t.xlsx", index=False)
    assert model.model_.unfamiliar(tabular.read(tmp_path / "t.xlsx").table) == ()


def test_integers_that_float64_does_not_tell_apart_are_left_out_with_a_warning():
    X = pd.DataFrame({"big": 2**60 + np.arange(80) % 9, "b": np.arange(80.0), "same": 1})
    with pytest.warns(
        UserWarning, match=r"columns left out: big \(values too large or too close together for float64\)$"
    ):
        TabularRegressor(settings=QUICK).fit(X, WHOLE)
    left_out = tabular.fit(X.assign(y=WHOLE), "y", QUICK).model.encoding.left_out
    assert left_out["same"] == "constant" != left_out["big"]


def test_bytes_in_place_of_text_are_refused():
    X = pd.DataFrame({"t": ["x", "y", "z", "y"] * 20, "b": np.arange(80.0)})
    model = TabularRegressor(settings=QUICK).fit(X, WHOLE)
    with pytest.raises(
        InvalidValue, match=r"predict: column 't' holds bytes, wanted text as in fit; decode them: X\['t'"
    ):
        model.predict(X.assign(t=X["t"].map(str.encode)))
    of_bytes = X.assign(t=X["t"].map(str.encode))
    TabularRegressor(settings=QUICK, categorical=["t"]).fit(of_bytes, WHOLE).predict(of_bytes)


@pytest.mark.parametrize("learned", [bool, int, float, "category"])
@pytest.mark.parametrize("given", [bool, "boolean", int, float, object, "category"])
def test_truths_that_are_categories_are_zeros_and_ones_too(learned, given):
    X = pd.DataFrame({"t": [True, False, False] * 20, "b": np.arange(60.0)})
    y = np.where(X["t"], 5.0, 0.0)
    model = TabularRegressor(settings=QUICK, categorical=["t"]).fit(X.assign(t=X["t"].astype(learned)), y)
    new = X.assign(t=X["t"].astype(given))
    assert model.model_.unfamiliar(new) == ()
    np.testing.assert_array_equal(model.predict(new), model.predict(X))
    assert model.model_.unfamiliar(X.assign(t=2)) != ()


def test_truths_are_no_numbers_among_others():
    X = pd.DataFrame({"t": [0, 1, 2] * 20, "b": np.arange(60.0)})
    model = TabularRegressor(settings=QUICK, categorical=["t"]).fit(X, X["t"])
    assert model.model_.unfamiliar(X.assign(t=X["t"] == 1)) != ()


@pytest.mark.skipif(pd.Series(["a"]).dtype == object, reason="this pandas keeps text as objects, which may be anything")
def test_text_that_no_encoding_has_is_told():
    text = of_objects(["a\udcff", "b"]).to_numpy()
    plain = np.column_stack([of_objects(["a", "b"]), np.arange(80)])
    told = r"text has a lone surrogate, 'a\\udcff'; decode it with errors='replace'"
    with pytest.raises(InvalidValue, match=f"fit: {told}"):
        TabularClassifier(settings=QUICK).fit(plain, text)
    with pytest.raises(InvalidValue, match=f"fit: {told}"):
        TabularRegressor(settings=QUICK).fit(np.column_stack([text, plain]), WHOLE)
    with pytest.raises(InvalidValue, match=f"predict: {told}"):
        TabularRegressor(settings=QUICK).fit(plain, WHOLE).predict(np.column_stack([text, plain[:, 1]]))


def test_plain_numbers_are_refused_where_durations_were_learned(rng):
    minutes = rng.integers(1, 600, 200)
    waits = pd.DataFrame({"wait": pd.to_timedelta(minutes, unit="min")})
    model = TabularRegressor("fast", random_state=0).fit(waits, minutes / 10)
    told = "column 'wait' holds plain numbers, such as 60 in row 1, but held times in training"
    with pytest.raises(DataError, match=told):
        model.predict(pd.DataFrame({"wait": [0, 60]}))
    text, hour = pd.DataFrame({"wait": ["1:00"]}), pd.DataFrame({"wait": [pd.Timedelta("1h")]})
    np.testing.assert_array_equal(model.predict(text), model.predict(hour))
