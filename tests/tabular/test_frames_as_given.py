"""Data frames that are no file: text in them is read as in one, and what cannot be used is refused in words."""

from datetime import time
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from viva_tensor import tabular
from viva_tensor.sklearn import TabularClassifier, TabularRegressor
from viva_tensor.tabular import DataError, Roles, Task, Writing
from viva_tensor.tabular.columns import Date, Numeric
from viva_tensor.tabular.missing_words import drop_missing, without_marks
from viva_tensor.train import Settings

QUICK = Settings(hidden=(8,), epochs=5, batch_size=16)


def shop(rows=120):
    rng = np.random.default_rng(0)
    size = rng.uniform(1000, 9000, rows).round(2)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(rows), "D")
    german = [f"{one:,.2f}".translate(str.maketrans(",.", ".,")) + " €" for one in size]
    return pd.DataFrame({"price": german, "day": days.strftime("%Y-%m-%d"), "y": 2 * size}), size, days


def test_text_in_a_frame_is_numbers_and_dates_as_in_a_file(tmp_path):
    frame, size, days = shop()
    before = frame.copy()
    run = tabular.run(frame, "y", QUICK)
    assert [type(one) for one in run.encoding.columns] == [Numeric, Date]
    assert any(note.startswith("price: numbers") for note in run.notes)
    pd.testing.assert_frame_equal(frame, before)
    frame.to_csv(tmp_path / "t.csv", index=False)
    from_file = tabular.run(tabular.read(tmp_path / "t.csv"), "y", QUICK)
    pd.testing.assert_frame_equal(run.test, from_file.test)
    typed = pd.DataFrame({"price": size, "day": days})
    pd.testing.assert_frame_equal(run.model.predict(frame), run.model.predict(typed))


def test_a_model_takes_tables_of_other_libraries_even_those_that_can_be_read_once():
    frame = pd.DataFrame({"a": np.arange(60.0), "b": ["x", "y"] * 30, "y": np.arange(60.0)})
    model, new = tabular.fit(frame, "y", QUICK).model, frame.assign(b="z", c=1)
    table = pa.Table.from_pandas(new, preserve_index=False)
    pd.testing.assert_frame_equal(model.predict(table.to_reader()), model.predict(new))
    for kind in (table, table.to_reader()):
        assert model.unfamiliar(kind) == model.unfamiliar(new) != ()
    for kind in (table, table.to_reader()):
        assert model.unused(kind) == model.unused(new) == ["c"]


def test_a_file_has_percents_where_training_had_them(tmp_path):
    path, shares = tmp_path / "t.csv", np.arange(120.0) / 120
    pd.DataFrame({"q": [f"{100 * one:.2f} %" for one in shares], "y": shares}).to_csv(path, index=False)
    model = tabular.fit(tabular.read(path), "y", QUICK).model
    again = tabular.read(path, None, model.expected()).table
    pd.testing.assert_frame_equal(model.predict(again), model.predict(pd.DataFrame({"q": (100 * shares).round(2)})))
    for suffix in ("csv", "feather"):
        new, q = tmp_path / f"new.{suffix}", pd.DataFrame({"q": [0, 0.731]})
        q.to_csv(new, index=False) if suffix == "csv" else q.to_feather(new)
        wanted = r"'q' holds numbers without '%', such as 0\.731 in row 1, but had '%' in training; write '%'"
        with pytest.raises(DataError, match=wanted):
            tabular.read(new, None, model.expected())


def test_errors_of_a_spreadsheet_are_missing_in_text_too(tmp_path):
    words = ["True", "False", "#N/A", "#DIV/0!"] * 30
    kinds = ["a", "b", "#NV", "-"] * 30
    pd.DataFrame({"kind": kinds, "x": np.arange(120.0), "y": words}).to_csv(tmp_path / "t.csv", index=False)
    fitted = tabular.fit(tabular.read(tmp_path / "t.csv"), "y", QUICK)
    assert fitted.model.target.labels == ("False", "True")
    assert "y: read as missing: '#N/A' (30), '#DIV/0!' (30)" in fitted.notes
    assert fitted.model.encoding.columns[0].categories == ("a", "b")  # the others have no target
    new = pd.DataFrame({"kind": ["a", "b", "#NV", "#N/A"] * 30, "x": 1.0, "y": ["True", "False"] * 60})
    model = tabular.fit(new, "y", QUICK).model
    assert model.encoding.columns[0].missing
    pd.testing.assert_frame_equal(model.predict(new), model.predict(new.replace(["#NV", "#N/A"], np.nan)))
    new.to_csv(tmp_path / "new.csv", index=False)
    again = tabular.read(tmp_path / "new.csv", None, model.expected()).table
    assert model.unfamiliar(again) == ()


@pytest.mark.parametrize("gap", [False, True])
def test_times_as_text_are_hours_however_training_read_them(tmp_path, gap):
    words = [f"{7 * i % 24:02}:{11 * i % 60:02}:00" for i in range(120)]
    frame = pd.DataFrame({"t": [*words[:-1], "-" if gap else "12:30:00"], "y": np.arange(120.0)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    model = tabular.fit(tabular.read(tmp_path / "t.csv"), "y", QUICK).model
    hours = pd.DataFrame({"t": [1.5, 26.25, 7 + 4 / 60, np.nan]})
    text = pd.DataFrame({"t": ["1:30:00", "26:15", "07:04:00", "-"]})
    pd.testing.assert_frame_equal(model.predict(text), model.predict(hours))
    text.to_csv(tmp_path / "new.csv", index=False)
    read = tabular.read(tmp_path / "new.csv", None, model.expected())
    pd.testing.assert_frame_equal(model.predict(read.table), model.predict(hours))
    with pytest.raises(DataError, match="must hold times, not 'noon' in row 1"):
        model.predict(pd.DataFrame({"t": ["1:30", "noon"]}))


def test_a_single_column_is_no_table():
    frame = pd.DataFrame({"a": np.arange(60.0), "y": np.arange(60.0)})
    model = tabular.fit(frame, "y", QUICK).model
    for refused in (model.predict, model.unfamiliar, lambda column: tabular.run(column, "y", QUICK)):
        with pytest.raises(DataError, match="wanted a table such as a pandas or polars DataFrame, got Series"):
            refused(frame["a"])


def test_categories_and_words_for_missing_values_of_a_frame():
    frame = pd.DataFrame({"code": pd.Categorical(["1", "2", "?"] * 40), "n": ["1", "2", "?"] * 40, "y": range(120)})
    task = Task("y", writing=Writing(missing=("?",)))
    encoding = tabular.fit(frame, task, QUICK).model.encoding
    code, n = encoding.columns
    assert code.categories == ("1", "2")
    assert isinstance(n, Numeric)
    assert code.missing
    assert n.missing


def every_kind(rows=90):
    """Return a table with a column of each kind of values, a word or number for missing ones in each, and a target."""
    i = np.arange(rows)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(i, "D")
    odd = i % 9 == 0
    return pd.DataFrame(
        {
            "text": np.where(odd, "none", np.where(i % 2, "a", "b ")),
            "kind": pd.Categorical(np.where(odd, "none", np.where(i % 2, "a", "b"))),
            "price": np.where(odd, "none", [f"{one},50 €" for one in i]),
            "object": pd.Series(np.where(odd, -999, i), dtype=object),
            "decimal": [Decimal(-999) if one else Decimal(int(k)) / 2 for k, one in zip(i, odd, strict=True)],
            "float": np.where(odd, -999, i).astype(np.float32),
            "day": np.where(odd, pd.Timestamp("1900-01-01"), days),
            "digits": days.strftime("%Y%m%d").astype(int),
            "hour": [time(int(one % 24), 30) for one in i],
            "y": i * 1.0,
        }
    )


def test_a_model_predicts_the_frame_that_it_was_fitted_to_as_if_missing_values_were_missing():
    frame = every_kind()
    words = Writing(missing=("none", "-999", "1900-01-01", "fehlt"), date_format="%Y%m%d")
    model = tabular.fit(frame, Task("y", writing=words), QUICK).model
    kinds = {one.name: (type(one).__name__, getattr(one, "missing", False)) for one in model.encoding.columns}
    assert kinds == {
        "text": ("Categorical", True), "kind": ("Categorical", True), "price": ("Numeric", True),
        "object": ("Numeric", True), "decimal": ("Numeric", True), "float": ("Numeric", True), "day": ("Date", False),
        "digits": ("Date", False), "hour": ("Numeric", False),
    }  # fmt: skip
    odd = np.arange(len(frame)) % 9 == 0
    gone = ["text", "kind", "price", "object", "decimal", "float", "day"]
    known = frame.assign(**{name: frame[name].mask(odd) for name in gone})
    predicted = model.predict(frame)
    pd.testing.assert_frame_equal(predicted, model.predict(known))
    other = frame.assign(price=["fehlt", *frame["price"][1:]], text=frame["text"].astype("category"))
    pd.testing.assert_frame_equal(predicted, model.predict(other))  # a word that no row had, and another dtype


def test_masked_cells_are_missing_ones():
    values = np.arange(160.0).reshape(80, 2) % 7
    mask = np.zeros(values.shape, bool)
    mask[::3, 0] = True
    y = values[:, 1]
    masked = TabularRegressor(settings=QUICK, random_state=0).fit(np.ma.masked_array(values, mask), y)
    absent = TabularRegressor(settings=QUICK, random_state=0).fit(np.where(mask, np.nan, values), y)
    np.testing.assert_array_equal(masked.predict(values), absent.predict(values))


@pytest.mark.parametrize("weights", [None, np.ones(9)])
def test_masked_targets_are_refused(weights):
    with pytest.raises(ValueError, match="y is masked; leave rows without a target out"):
        TabularRegressor(settings=QUICK).fit(np.ones((9, 1)), np.ma.masked_less(np.arange(9), 3), weights)


@pytest.mark.parametrize(
    ("values", "word", "odd"),
    [
        (pd.Series([Decimal("-99.9"), Decimal(1)], dtype=object), "-99.9", 1),
        (pd.Series([2**53, 2**53 + 1, 2**63 + 2, 2**63 + 3], dtype="uint64"), str(2**63 + 3), 1),
        (pd.Series([2**53, 2**53 + 1], dtype="int64"), str(2**53 + 1), 1),
        (pd.Series(np.float32([1, np.inf])), "1e300", 1),
        (pd.Series(pd.to_datetime(["1900-01-01", "2020-01-01"]).tz_localize("Europe/Berlin")), "1900-01-01", 1),
        (pd.Series(["? ", "x"]), " ?", 1),
        (pd.Series([True, False]), "1", 0),
    ],
)
def test_a_word_means_the_values_that_it_stands_for_and_no_others(values, word, odd):
    table = pd.DataFrame({"a": values})
    notes = drop_missing(table, [word])
    assert table["a"].isna().sum() == odd
    assert len(notes) == odd


@pytest.mark.parametrize(
    ("labels", "marks"),
    [
        (["none", "1", "2", "3", "none"], 0),
        (["unknown", "true", "false", "NA"], 0),
        (["0", "1", "#N/A", "NaN", "null", "nil"], 0),
        (["0", "1", "#N/A", "NaN", "null", "."], 4),
        (["TRUE", "true", "NA"], 0),
        (["1", "1.0", "NA"], 0),
        (["TRUE", "true ", "False", " NA"], 1),
    ],
)
def test_marks_of_missing_values_are_no_classes_but_words_are(labels, marks):
    column, note = without_marks(pd.Series(labels, name="y"))
    assert column.isna().sum() == marks
    assert bool(note) == bool(marks)


def test_columns_that_are_left_out_are_warned_of_but_not_constant_ones():
    z = np.random.default_rng(0).normal(size=80)
    X = pd.DataFrame({"a": [f"{one:.4f}" for one in z], "b": z, "c": 1.0})
    with pytest.warns(
        UserWarning, match=r"columns left out: a \(identifier: .*\); text of numbers or dates must become"
    ):
        TabularRegressor(settings=QUICK).fit(X, z)


def test_the_preset_fast_takes_half_of_the_rows_for_validation_at_most():
    with pytest.raises(ValueError, match=r"validation_fraction=0\.9 beside the preset fast; give at most a half"):
        TabularRegressor("fast", validation_fraction=0.9).fit(np.ones((1200, 1)), np.arange(1200))


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_the_preset_fast_keeps_its_network_with_another_share_for_validation(fraction):
    x = np.linspace(-1, 1, 1200)
    model = TabularRegressor("fast", validation_fraction=fraction, random_state=0).fit(x[:, None], np.sin(5 * x))
    assert (model.preset_.name, model.preset_.parts) == ("fast", round(1 / fraction))
    assert model.score(x[:, None], np.sin(5 * x)) > 0.99


@pytest.mark.parametrize("preset", ["fast", "best"])
def test_settings_beside_a_preset_are_refused(preset):
    with pytest.raises(ValueError, match=f"preset='{preset}' beside settings"):
        TabularRegressor(preset, settings=QUICK).fit(np.ones((9, 1)), np.arange(9))


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        (np.float32([-99.9, 1, 2, 3]), [-99.9]),
        (np.array([-1, 1, 2, 3]), ["-1"]),
        (np.array(["-1", "0", "1", "2"], object), [-1]),
        (np.array(["nan", "0x", "1x", "2x"], object), [np.nan]),
        (np.array(["?", "0x", "1x", "2x"], object), ["?", None]),
        (np.array(["?", "0x", "1x", "2x"], object), np.array(["?", "-"])),
    ],
)
def test_estimators_miss_in_predict_what_they_missed_in_fit(values, missing):
    X = pd.DataFrame({"a": values[np.arange(200) % 4], "b": np.arange(200) % 3})
    y = 10.0 * (np.arange(200) % 4)
    model = TabularRegressor(settings=Settings(hidden=(8,), epochs=30, batch_size=16), missing=missing).fit(X, y)
    assert model.score(X, y) > 0.99
    saved = model.model_.predict(X)["predicted"]
    np.testing.assert_array_equal(model.predict(X), saved)


@pytest.mark.parametrize(
    ("given", "target", "message"),
    [
        (pd.DataFrame([[1, 2, 3]], columns=["a", "a", "y"]), "y", "the table has two columns named 'a'; rename one"),
        (pd.DataFrame([[1, 2]], columns=[0, 1]), 1, "got 1, wanted a Task, or the name of the column to predict"),
        (pd.DataFrame([[1, 2]], columns=["a", "y"]), None, "got None, wanted a Task"),
        (pd.DataFrame({"a": ["x"] * 9 + ["7"], "y": range(10)}), Task("y", roles=tabular.Roles(numeric=("a",))),
         "the column 'a' is to be numeric, but holds text: row 0 has 'x'"),
    ],
)  # fmt: skip
def test_frames_and_targets_that_are_refused(given, target, message):
    with pytest.raises(DataError, match=message):
        tabular.run(given, target, QUICK)


@pytest.mark.parametrize("name", ["drop", "categorical", "numeric"])
def test_roles_are_of_several_columns(name):
    with pytest.raises(DataError, match=f"{name}='ab', wanted a sequence of columns"):
        tabular.Roles(**{name: "ab"})


def test_names_that_are_numbers_become_text():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)))
    run = tabular.run(frame, "2", QUICK)
    assert run.encoding.feature_names == ("0", "1")
    assert len(run.model.predict(frame)) == 50
    frame.columns = ["0", "0", "2"]
    with pytest.raises(DataError, match="two columns named '0'"):
        run.model.predict(frame)


@pytest.mark.parametrize("kind", ["regression", "numbers", "Class", 1])
def test_a_kind_of_target_that_is_none(kind):
    with pytest.raises(DataError, match=f"kind={kind!r}, wanted 'number' or 'class'"):
        Task("y", kind=kind)


@pytest.mark.parametrize("dtype", ["int64", "int32", "Int64", "uint8"])
@pytest.mark.parametrize("named", [False, True])
def test_estimators_keep_a_column_that_counts_the_rows(dtype, named):
    X = pd.DataFrame({"month": np.arange(200), "other": np.arange(200) % 7}).astype(dtype)
    y = 3.0 * np.arange(200)
    X = X if named else X.to_numpy(dtype.lower())
    model = TabularRegressor(settings=Settings(hidden=(8,), epochs=30, batch_size=16), random_state=0).fit(X, y)
    assert not model.model_.encoding.left_out
    assert model.score(X, y) > 0.95


@pytest.mark.parametrize("dtype", [object, "category"])
@pytest.mark.parametrize(
    "labels", [("1", "1.0", "2", "2.0"), ("a", " a", "b", "b "), ("", "a", "b", "c"), (" ", "a", "b", None)]
)
def test_categories_are_those_of_fit_however_they_are_written(labels, dtype, tmp_path):
    X = pd.DataFrame({"t": pd.Series(list(labels) * 30, dtype=dtype)})
    y = np.array([0.0, 10, 20, 30] * 30)
    exact = Settings(hidden=(8,), epochs=60, batch_size=16)
    assert TabularRegressor(settings=exact, random_state=0).fit(X, y).score(X, y) > 0.99
    X.assign(y=y).to_parquet(tmp_path / "t.parquet")
    read = tabular.read(tmp_path / "t.parquet")
    model = tabular.fit(read, "y", exact).model
    assert abs(model.predict(read.table)["predicted"] - y).max() < 2


def test_a_mask_of_categories_is_one():
    X = pd.DataFrame({"a": [1, 2, 3, 4] * 20, "b": [5, 6] * 40, "c": range(80)})
    given = [False, True, False]
    for mask in (given, np.array(given)):
        model = TabularRegressor(settings=QUICK, categorical=mask).fit(X, X["c"])
        kinds = [type(one).__name__ for one in model.model_.encoding.columns]
        assert kinds == ["Numeric", "Categorical", "Numeric"]
    with pytest.raises(ValueError, match="categorical is a mask of 2, and X has 3 columns"):
        TabularRegressor(settings=QUICK, categorical=[True, False]).fit(X, X["c"])


def test_truth_of_any_kind_is_truth():
    X = pd.DataFrame({"a": [0.0, 1.0] * 40})
    for dtype in (bool, "boolean"):
        model = TabularClassifier(settings=QUICK).fit(X, pd.Series([False, True] * 40, dtype=dtype))
        assert model.classes_.dtype == bool
        assert model.predict(X).dtype == bool


def write(table, path):
    """Write a table to a file of the format that its suffix names."""
    options = {".csv": {"index": False}, ".xlsx": {"index": False}, ".json": {"orient": "records"}}
    writer = getattr(table, f"to_{path.suffix[1:].replace('xlsx', 'excel')}")
    writer(path, **options.get(path.suffix, {}))


@pytest.mark.parametrize("kind", ["csv", "feather"])
def test_a_point_in_thousands_of_new_rows_follows_decimal_commas_of_training_in_every_format(tmp_path, kind):
    i = np.arange(80)
    old = pd.DataFrame({"a": (100 + i * 11).astype(str), "b": [f"{one % 9},5" for one in i], "y": i * 22.0})
    write(old, tmp_path / f"old.{kind}")
    model = tabular.fit(tabular.read(tmp_path / f"old.{kind}"), "y", QUICK).model
    new = pd.DataFrame({"a": ["950", "1.234"], "b": ["1,5", "2,5"]})
    for suffix in ("csv", "feather", "json", "xlsx", "parquet"):
        write(new, tmp_path / f"new.{suffix}")
        read = tabular.read(tmp_path / f"new.{suffix}", None, model.expected()).table
        assert read["a"].tolist() == [950, 1234], suffix
    pd.testing.assert_frame_equal(model.predict(new), model.predict(read))


@pytest.mark.parametrize("word", ["k", "%"])
@pytest.mark.parametrize("suffix", ["csv", "feather", "parquet"])
def test_new_rows_with_a_word_that_scales_are_refused_where_training_had_plain_numbers(tmp_path, word, suffix):
    model = tabular.fit(pd.DataFrame({"q": np.arange(80), "y": np.arange(80.0)}), "y", QUICK).model
    write(pd.DataFrame({"q": [f"0{word}", f"1.9{word}"]}), tmp_path / f"new.{suffix}")
    with pytest.raises(DataError, match=f"column 'q' holds numbers with '{word}', such as .*, but had none in"):
        tabular.read(tmp_path / f"new.{suffix}", None, model.expected())
    write(pd.DataFrame({"q": ["0 kg", "1.9 kg"]}), tmp_path / f"new.{suffix}")
    assert tabular.read(tmp_path / f"new.{suffix}", None, model.expected()).table["q"].tolist() == [0, 1.9]


def test_one_time_among_numbers_is_what_is_refused():
    hours = np.arange(80) % 24
    model = tabular.fit(pd.DataFrame({"q": hours, "y": np.arange(80.0)}), "y", QUICK).model
    with pytest.raises(DataError, match="column 'q' must hold numbers, not '7:30' in row 0"):
        model.predict(pd.DataFrame({"q": ["7:30"] * 9 + ["8:00"]}))  # of numbers it is not known that they are hours
    with pytest.raises(DataError, match="column 'q' must hold numbers, not '7:30' in row 1"):
        model.predict(pd.DataFrame({"q": ["12.5", "7:30"]}))


def clocks():
    """Times of day and durations, as objects and as text."""
    hours = 7 + np.arange(80) % 3
    of_objects = pd.DataFrame({"t": [time(one, 30) for one in hours], "d": pd.to_timedelta(hours, unit="h")})
    as_text = pd.DataFrame({"t": [f"{one:02}:30:00" for one in hours], "d": [f"{one}:00:00" for one in hours]})
    return [frame.assign(y=np.arange(80.0)) for frame in (of_objects, as_text)]


def test_times_and_durations_that_are_categories_have_the_labels_of_text(tmp_path):
    objects, texts = clocks()
    task = Task("y", roles=Roles(categorical=("t", "d")))
    texts.to_csv(tmp_path / "t.csv", index=False)
    for table in (objects, tabular.read(tmp_path / "t.csv", None, task.expected)):
        model = tabular.fit(table, task, QUICK).model
        assert model.unfamiliar(objects) == model.unfamiliar(texts) == ()
        pd.testing.assert_frame_equal(model.predict(objects), model.predict(texts))
    texts.to_csv(tmp_path / "new.csv", index=False)
    read = tabular.read(tmp_path / "new.csv", None, model.expected()).table
    pd.testing.assert_frame_equal(model.predict(read), model.predict(objects))


@pytest.mark.parametrize(("word", "name"), [("07:30:00", "t"), ("7:30", "t"), ("7:00:00", "d")])
def test_a_word_for_a_missing_time_means_it_in_columns_of_times_and_durations(word, name):
    objects, _ = clocks()
    fitted = tabular.fit(objects.assign(hours=7.5), Task("y", writing=Writing(missing=(word,))), QUICK)
    assert f"{name}: read as missing: {word!r} (27)" in fitted.notes
    assert not any(note.startswith("hours: missing") for note in fitted.notes)  # a number that is no time
    missing = objects.assign(hours=7.5, **{name: objects[name].mask(np.arange(80) % 3 == 0)})
    pd.testing.assert_frame_equal(fitted.model.predict(objects.assign(hours=7.5)), fitted.model.predict(missing))
