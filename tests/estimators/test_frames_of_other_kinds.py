"""Tables of other libraries, and columns of types that pandas knows little of, in estimators and in runs."""

from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from viva_tensor import tabular
from viva_tensor.error import InvalidValue
from viva_tensor.sklearn import TabularClassifier, TabularRegressor
from viva_tensor.tabular import DataError
from viva_tensor.train import Settings

QUICK = Settings(hidden=(4,), epochs=3, batch_size=16, seed=0)
Y = 7.0 * (np.arange(80) % 4)
PLAIN = pd.DataFrame({"a": ["x", "y", None, "y"] * 20, "b": np.arange(80.0)})


@pytest.mark.parametrize("name", ["a", "self"])
@pytest.mark.parametrize("dtype", [pa.dictionary(pa.int32(), pa.string()), pa.string_view()])
def test_text_of_arrow_in_other_forms_is_text(dtype, name):
    X = PLAIN.assign(a=pd.Series(["x", "y", None, "y"] * 20, dtype=pd.ArrowDtype(dtype)))
    X, plain = (one.rename(columns={"a": name}) for one in (X, PLAIN))
    model, same = (TabularRegressor(settings=QUICK).fit(one, Y) for one in (X, plain))
    assert model.model_.encoding == same.model_.encoding
    np.testing.assert_array_equal(model.predict(X), same.predict(plain))
    run = tabular.fit(X.assign(y=Y), "y", QUICK).model
    assert run.predict(X).equals(run.predict(plain))


def test_a_target_named_self_beside_many_columns():
    """Of which pandas would say that they lie in too many blocks."""
    wide = pd.concat([(PLAIN["b"] % (2 + i)).rename(f"c{i}") for i in range(120)], axis=1)
    assert len(TabularRegressor(settings=QUICK).fit(wide, pd.Series(Y, name="self")).predict(wide)) == 80


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([[1], None], pa.list_view(pa.int64())), ([(1, 2, 3), None], pa.month_day_nano_interval())],
)
def test_columns_that_pandas_cannot_look_into_are_left_out(values, dtype):
    X = PLAIN.assign(c=pd.Series(values * 40, dtype=pd.ArrowDtype(dtype)))
    with pytest.warns(UserWarning, match=r"columns left out: c \(neither numbers nor text nor dates\)"):
        model = TabularRegressor(settings=QUICK).fit(X, Y)
    assert len(model.predict(X)) == 80


@pytest.mark.parametrize("metadata", [True, False])
def test_dictionaries_of_arrow_are_categories_whatever_they_hold(metadata, tmp_path):
    dictionary = pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))
    X = PLAIN.assign(a=PLAIN["a"].astype(dictionary), cut=pd.cut(PLAIN["b"], 4))
    X.loc[7, "cut"] = None
    table = pa.Table.from_pandas(X)
    table = table if metadata else table.replace_schema_metadata(None)
    model, same = (TabularRegressor(settings=QUICK).fit(one, Y) for one in (table, X))
    assert model.model_.encoding == same.model_.encoding
    np.testing.assert_array_equal(model.predict(table), same.predict(X))
    np.testing.assert_array_equal(model.predict(X), model.predict(table))
    X[["a", "b"]].to_parquet(tmp_path / "t.parquet")
    assert tabular.read(tmp_path / "t.parquet").table["a"].tolist()[:2] == ["x", "y"]


INTERVALS = pd.arrays.IntervalArray.from_tuples([(0, 1), (1, 2), None])


@pytest.mark.parametrize("words", [["x", "y", None], [1.5, 2.5, np.nan], INTERVALS])
def test_what_is_missing_in_a_dictionary_is_missing(words):
    places = np.array([0, 1, 2, 1] * 20)
    first, second = (pa.DictionaryArray.from_arrays(one, pa.array(words)) for one in (places[:40], places[40:]))
    table = pa.table({"a": pa.chunked_array([first, second]), "b": np.arange(80.0)})
    plain = PLAIN.assign(a=pd.Series(words)[places].astype(str).where(places != 2).to_numpy())
    model, same = (TabularRegressor(settings=QUICK, categorical=["a"]).fit(one, Y) for one in (table, plain))
    assert model.model_.encoding == same.model_.encoding
    np.testing.assert_array_equal(model.predict(table), same.predict(plain))


def test_dictionaries_of_records_are_left_out():
    records = pa.DictionaryArray.from_arrays([0, 1, None, 1] * 20, pa.array([{"x": 1}, {"x": 2}]))
    table = pa.table({"c": records, "b": np.arange(80.0)})
    with pytest.warns(UserWarning, match=r"columns left out: c \(neither numbers nor text nor dates\)"):
        model = TabularRegressor(settings=QUICK).fit(table, Y)
    assert len(model.predict(table)) == 80


def test_names_of_numpy_are_text():
    names = pd.Index([np.str_(one) for one in PLAIN], dtype=object)
    X = PLAIN.set_axis(names, axis=1)
    model = TabularRegressor(settings=QUICK).fit(X, Y)
    assert model.feature_names_in_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(model.predict(X), model.predict(PLAIN))
    run = tabular.fit(X.assign(y=Y), "y", QUICK).model
    assert run.predict(X).equals(run.predict(PLAIN))


class Stream:
    """A table of which nothing is known but that it has Arrow's interface."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("kind", [Stream, pa.Table.to_reader])
def test_tables_that_only_have_the_interface_of_arrow(kind):
    table = pa.Table.from_pandas(PLAIN)
    model = TabularRegressor(settings=QUICK).fit(kind(table), Y)
    np.testing.assert_array_equal(model.predict(kind(table)), model.predict(table))


def test_a_lazy_frame_is_told_to_be_collected():
    pl = pytest.importorskip("polars", reason="polars is not installed")
    lazy = pl.from_pandas(PLAIN).lazy()
    for refused in (lambda: TabularRegressor().fit(lazy, Y), lambda: tabular.run(lazy, "b", QUICK)):
        with pytest.raises(DataError, match=r"got LazyFrame; call \.collect\(\)$"):
            refused()


def test_a_type_that_arrow_does_not_know_is_refused_with_its_column():
    pl = pytest.importorskip("polars", reason="polars is not installed")
    frame = pl.from_pandas(PLAIN).with_columns(wide=pl.col("b").cast(pl.Int128))
    for refused in (lambda: TabularRegressor().fit(frame, Y), lambda: tabular.run(frame, "b", QUICK)):
        with pytest.raises(DataError, match="column 'wide' is of a type that Arrow does not know, Int128; cast it to"):
            refused()


@pytest.mark.parametrize("kind", [pd.Series, pd.Index])
def test_words_for_missing_values_in_any_sequence(kind):
    model = TabularRegressor(settings=QUICK, missing=kind(["y", 7])).fit(PLAIN, Y)
    same = TabularRegressor(settings=QUICK, missing=["y", 7]).fit(PLAIN, Y)
    assert model.model_.encoding == same.model_.encoding


@pytest.mark.parametrize("missing", [[["y"]], [-1, ("y", 7)], np.array([["y"]]), [{"a": "y"}]])
def test_words_for_missing_values_within_others_are_refused(missing):
    with pytest.raises(
        InvalidValue, match=r"fit: missing has .*y.*, wanted words or numbers; give them in one sequence"
    ):
        TabularRegressor(settings=QUICK, missing=missing).fit(PLAIN, Y)


@pytest.mark.parametrize("dtype", ["Int64", "int64[pyarrow]"])
@pytest.mark.parametrize("weight", [None, 2.0])
def test_labels_that_are_nullable_integers_stay_integers(dtype, weight):
    labels = 2**60 + np.array([0, 1, 1000, 1] * 20)
    for y in (pd.Series(labels, dtype=dtype), pd.array(labels, dtype=dtype)):
        model = TabularClassifier(settings=QUICK).fit(PLAIN, y, weight)
        assert model.classes_.dtype == np.int64
        assert model.classes_.tolist() == [2**60, 2**60 + 1, 2**60 + 1000]


@pytest.mark.parametrize("dtype", ["boolean", "bool[pyarrow]", bool])
@pytest.mark.parametrize("weight", [None, 2.0])
def test_labels_that_are_truths_stay_such_also_in_a_frame_of_one_column(dtype, weight):
    y = pd.Series([False, True] * 40, dtype=dtype, name="y")
    assert TabularClassifier(settings=QUICK).fit(PLAIN, y, weight).classes_.dtype == bool
    with pytest.warns(UserWarning, match="column-vector y"):
        assert TabularClassifier(settings=QUICK).fit(PLAIN, y.to_frame(), weight).classes_.dtype == bool


def test_missing_labels_of_a_nullable_kind_are_refused():
    with pytest.raises(InvalidValue, match="Input y contains NaN"):
        TabularClassifier(settings=QUICK).fit(PLAIN, pd.Series([1, 2, None, 2] * 20, dtype="Int64"))


def test_objects_that_are_dates_or_durations_are_no_targets():
    times = pd.Series(pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(80), "D"))
    for y, what in (
        (list(times), "dates"),
        (times.astype(object), "dates"),
        ([date(2024, 1, 1)] * 80, "dates"),
        (list(pd.to_timedelta(np.arange(80), "h")), "durations"),
    ):
        with pytest.raises(InvalidValue, match=rf"fit: y holds {what} \(.*\), wanted numbers; give "):
            TabularRegressor().fit(PLAIN[["b"]], y)
    with pytest.raises(InvalidValue, match="fit: y holds dates"):
        TabularRegressor().fit(PLAIN[["b"]], times, sample_weight=np.ones(80))


def test_a_mask_of_categories_may_be_a_series():
    X = pd.DataFrame({"b": np.arange(80) % 4, "a": np.arange(80.0)})
    mask = X.dtypes == "int64"
    with pytest.raises(InvalidValue, match=r"categorical=\[True, <NA>\] has missing values"):
        TabularRegressor(settings=QUICK, categorical=pd.Series([True, None], dtype="boolean")).fit(X, Y)
    for given in (mask, mask.sort_index(), mask.reset_index(drop=True), mask.astype("boolean"), pd.Series(["b"])):
        model = TabularRegressor(settings=QUICK, categorical=given).fit(X, Y)
        assert [type(one).__name__ for one in model.model_.encoding.columns] == ["Categorical", "Numeric"]
