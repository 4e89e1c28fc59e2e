"""Values of every form in tables of estimators: taken as they are meant, or refused in words."""

import numpy as np
import pandas as pd
import pytest

from viva_tensor import tabular
from viva_tensor.error import InvalidValue
from viva_tensor.sklearn import MLPClassifier, MLPRegressor, TabularClassifier, TabularRegressor, refusals
from viva_tensor.train import Settings

QUICK = Settings(hidden=(4,), epochs=3, batch_size=16, seed=0)
BOTH = pytest.mark.parametrize("kind", [TabularRegressor, TabularClassifier])


def table(rows=60):
    """Return a table of two columns of numbers, and zeros and ones that follow from the first."""
    x = np.random.default_rng(0).normal(size=(rows, 2))
    return pd.DataFrame(x, columns=["a", "b"]), (x[:, 0] > 0).astype(int)


@BOTH
def test_bytes_in_any_order(kind):
    X, y = table()
    plain = kind(settings=QUICK).fit(X, y).predict(X)
    foreign = X.assign(a=X["a"].to_numpy().astype(X["a"].dtype.newbyteorder()))
    other = y.astype(y.dtype.newbyteorder())
    for given, target in ((foreign, y), (X, other), (X, pd.Series(other)), (foreign.to_numpy(), y)):
        model = kind(settings=QUICK).fit(given, target)
        with_names = isinstance(given, pd.DataFrame)
        np.testing.assert_array_equal(model.predict(foreign if with_names else foreign.to_numpy()), plain)
    values = X.to_numpy()
    model = kind(settings=QUICK).fit(values, y)
    np.testing.assert_array_equal(model.predict(values.astype(values.dtype.newbyteorder())), plain)
    assert tabular.fit(foreign.assign(y=y), "y", QUICK).model.predict(foreign).notna().all(axis=None)


@pytest.mark.parametrize("kind", [TabularRegressor, MLPRegressor])
def test_no_dates_and_durations_as_numbers(kind):
    X, y = table()
    durations = pd.Series(pd.to_timedelta(y, "h"))
    dates = pd.Timestamp("2024-01-01") + durations
    for given, what in (
        (durations, "durations"), (durations.to_numpy(), "durations"),
        (list(durations.to_numpy()), "durations"), (dates, "dates"), (dates.to_numpy("M8[D]"), "dates"),
    ):  # fmt: skip
        with pytest.raises(InvalidValue, match=rf"fit: y holds {what} \(.*\), wanted numbers; give "):
            kind().fit(X, given)
    with pytest.raises(InvalidValue, match="y holds dates"):
        TabularRegressor().fit(X, dates.dt.tz_localize("UTC"))


@pytest.mark.parametrize("labels", [["y", 0, "z"], [True, "no", "yes"]])
def test_labels_without_an_order_are_refused(labels):
    X, _ = table()
    with pytest.raises(InvalidValue, match=r"y has labels that have no order: .* and str; make all of them text"):
        TabularClassifier(settings=QUICK).fit(X, np.array(labels * 20, dtype=object))


@pytest.mark.parametrize("labels", [["0", "1", "NA"], ["n/a", "True", "False"]])
def test_labels_that_would_be_missing_are_refused(labels):
    X, _ = table()
    with pytest.raises(InvalidValue, match=r"fit: y has the label '(NA|n/a)', a missing value beside .*; leave these"):
        TabularClassifier(settings=QUICK).fit(X, labels * 20)
    model = TabularClassifier(settings=QUICK).fit(X, [*labels[:2], "other"] * 20)
    assert set(model.predict(X)) <= {*labels[:2], "other"}


def test_lists_of_numbers_and_text():
    """NumPy would make text of all cells, and categories these would be."""
    rows = [[i % 30, "uv"[i % 2], i % 3 == 0] for i in range(120)]
    model = TabularRegressor(settings=QUICK).fit(rows, [row[0] for row in rows])
    frame = pd.DataFrame(rows, columns=["x0", "x1", "x2"])
    same = TabularRegressor(settings=QUICK).fit(frame, frame["x0"])
    assert model.model_.encoding == same.model_.encoding
    np.testing.assert_array_equal(model.predict([[29.5, "u", True]]), same.predict(frame[:1].assign(x0=29.5)))
    assert [type(one).__name__ for one in model.model_.encoding.columns] == ["Numeric", "Categorical", "Numeric"]


def test_booleans_as_text_and_categories():
    X, y = table()
    X["a"] = (X["a"] > 0).astype("boolean").mask(X["b"] > 1)
    model = TabularRegressor(settings=QUICK, missing=["?"]).fit(X, y)
    words = X["a"].astype(object).map(str, na_action="ignore")
    for given in (words, words.astype("category"), X["a"].astype("category"), words.str.lower(), words.fillna("?")):
        np.testing.assert_array_equal(model.predict(X.assign(a=given)), model.predict(X))
    with pytest.raises(tabular.DataError, match="column 'a' must hold numbers, not 'perhaps'"):
        model.predict(X.assign(a=words.mask(words == "True", "perhaps")))
    other = TabularRegressor(settings=QUICK).fit(X.assign(a=X["b"] * 5), y)
    with pytest.raises(tabular.DataError, match="column 'a' must hold numbers, not "):
        other.predict(X.assign(a=words))


def test_columns_left_out_are_told_with_what_would_mend_them():
    X, y = table()
    hint = "text of numbers or dates must become such first"
    for given, told in ([f"no {i}" for i in range(len(X))], True), ([(i,) for i in range(len(X))], False):
        with pytest.warns(UserWarning, match="columns left out: c ") as warned:
            TabularRegressor(settings=QUICK).fit(X.assign(c=given), y)
        assert (hint in str(warned[0].message)) is told


def test_durations_are_features():
    X, y = table()
    took = pd.to_timedelta(X["a"] * 24, "h")
    model = TabularRegressor(settings=QUICK).fit(X.assign(a=took), y)
    hours = TabularRegressor(settings=QUICK).fit(X.assign(a=took / pd.Timedelta(hours=1)), y)
    np.testing.assert_array_equal(model.predict(X.assign(a=took)), hours.predict(X.assign(a=took / pd.Timedelta("1h"))))
    with pytest.raises(ValueError, match="column 'a' holds durations or times of day, but held plain numb"):
        hours.predict(X.assign(a=took))


def test_dates_written_otherwise_are_read_where_that_is_clear_or_refused_with_what_makes_dates_of_a_frame():
    X, y = table()
    day = pd.Series(pd.date_range("2024-01-13", periods=len(X)))
    model = TabularRegressor(settings=QUICK).fit(X.assign(day=day), y)
    same = model.predict(X.assign(day=day))
    np.testing.assert_array_equal(model.predict(X.assign(day=day.dt.strftime("%d.%m.%Y"))), same)
    hint = r"are dates: --date-format '%d\.%m\.%y' \(of a data frame: pandas\.to_datetime\(column, format=\.\.\.\)\)"
    with pytest.raises(ValueError, match=hint):
        model.predict(X.assign(day=day.dt.strftime("%d.%m.%y")))


def test_dates_of_both_clocks_are_not_told_of_one(recwarn):
    days = pd.date_range("2024-01-01", periods=200, freq="h")
    mixed = pd.Series([day.tz_localize("UTC") if i % 2 else day for i, day in enumerate(days)], dtype=object)
    model = TabularRegressor(settings=QUICK).fit(pd.DataFrame({"t": mixed}), np.asarray(days.hour, float))
    model.predict(pd.DataFrame({"t": mixed}))
    assert not [one for one in recwarn if "offset" in str(one.message)]


@BOTH
def test_dates_of_another_clock_are_told(kind):
    X, y = table()
    plain = X.assign(day=pd.date_range("2024-01-01 06:30", periods=len(X), freq="7h"))
    zoned = plain.assign(day=plain["day"].dt.tz_localize("Asia/Tokyo"))
    for known, other, words in ((plain, zoned, "an offset from UTC"), (zoned, plain, "no offset from UTC")):
        model = kind(settings=QUICK).fit(known, y)
        for given in (other, other.assign(day=other["day"].astype(str)), other.assign(day=other["day"].astype(object))):
            with pytest.warns(UserWarning, match=f"predict: day: times have {words}, .*are taken as UTC"):
                model.predict(given)
        same = model.predict(known)  # of which nothing is told
        np.testing.assert_array_equal(model.predict(known.assign(day=known["day"].astype(str))), same)


def test_words_for_what_is_refused():
    X, y = table()
    with pytest.raises(InvalidValue, match="fit: loss='log-loss' is for classes; use TabularClassifier"):
        TabularRegressor(loss="log-loss").fit(X, y)
    model = TabularRegressor(settings=QUICK).fit(X, y)
    with pytest.raises(InvalidValue, match="predict: X has two columns named 'a'"):
        model.predict(pd.concat([X, X["a"]], axis=1))
    with pytest.raises(InvalidValue, match="; validation_data has labels that y lacks"):
        MLPClassifier(early_stopping=True).fit(X, y, validation_data=(X, y * 2))


@BOTH
def test_verbose_is_a_count_as_in_scikit_learn(kind, capsys):
    X, y = table()
    for count in (0, np.int64(0), 1, 2):
        kind(settings=QUICK, verbose=count).fit(X, y)
        assert (kind.__name__ in capsys.readouterr().out) == (count > 0)
    with pytest.raises(InvalidValue, match="verbose=-1, wanted True, False or a count from 0"):
        kind(verbose=-1).fit(X, y)


@BOTH
def test_one_weight_for_all_rows(kind):
    X, y = table()
    for weight in (2.0, np.float32(3)):
        alike = kind(settings=QUICK).fit(X, y, sample_weight=weight).predict(X)
        np.testing.assert_array_equal(alike, kind(settings=QUICK).fit(X, y).predict(X))
    with pytest.raises(ValueError, match="weight of row 0 is -1"):
        kind(settings=QUICK).fit(X, y, sample_weight=-1)


class Foreign:
    """An array of another library, which scikit-learn would leave as it is if it is told to."""

    device = "cpu"

    def __init__(self, values):
        self._values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self._values


@pytest.mark.parametrize("kind", [TabularRegressor, TabularClassifier, MLPRegressor, MLPClassifier])
def test_arrays_of_other_libraries_that_stay_such_are_refused(kind, monkeypatch):
    X, y = table()
    values, short = X.to_numpy(), {"settings": QUICK} if "Tabular" in kind.__name__ else {"max_iter": 300, "tol": 1.0}
    model = kind(**short).fit(Foreign(values), Foreign(y))  # which are converted
    same = model.predict(Foreign(values))
    monkeypatch.setattr(refusals, "get_config", lambda: {"array_api_dispatch": True})
    told = r"is a .*\.Foreign under array_api_dispatch=True, wanted an array of NumPy; set it to False"
    for refused, call in (
        ("fit: X", lambda: model.fit(Foreign(values), y)),
        ("fit: y", lambda: model.fit(values, Foreign(y))),
        ("predict: X", lambda: model.predict(Foreign(values))),
    ):
        with pytest.raises(InvalidValue, match=f"{refused} {told}"):
            call()
    np.testing.assert_array_equal(model.predict(values), same)


@pytest.mark.parametrize("kind", [TabularRegressor, MLPRegressor])
def test_a_column_named_device_makes_a_frame_no_array_of_another_library(kind, monkeypatch):
    monkeypatch.setattr(refusals, "get_config", lambda: {"array_api_dispatch": True})
    X, y = table()
    short = {"settings": QUICK} if kind is TabularRegressor else {"max_iter": 300, "tol": 1.0}
    X = X.set_axis(["device", *X.columns[1:]], axis=1)
    assert len(kind(**short).fit(X, y).predict(X)) == len(X)
