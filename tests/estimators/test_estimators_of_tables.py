"""Estimators of tables: scikit-learn's own checks, columns of every kind, and the pipeline of tabular.run behind."""

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from viva_tensor import kernels, tabular
from viva_tensor.error import InvalidValue
from viva_tensor.sklearn import TabularClassifier, TabularRegressor
from viva_tensor.tabular import Members
from viva_tensor.train import Settings

QUICK = Settings(hidden=(8,), epochs=5, batch_size=16)
BOTH = pytest.mark.parametrize("kind", [TabularRegressor, TabularClassifier])


def expected_failures(estimator):
    """A weight of 2 counts like a row twice in the loss, but two rows come to batches and to validation apart."""
    return {"check_sample_weight_equivalence_on_dense_data": "batches and validation rows are drawn from the rows"}


@pytest.mark.filterwarnings("ignore")  # the suite provokes warnings and tests for those that matter itself
@parametrize_with_checks([TabularRegressor(), TabularClassifier()], expected_failed_checks=expected_failures)
def test_suite_of_scikit_learn(estimator, check):
    check(estimator)


def shop(rows=240, seed=0):
    """Columns of every kind, some values missing, and a price and a class that follow from them."""
    rng = np.random.default_rng(seed)
    size, kind = rng.uniform(0, 9, rows), rng.choice(["plain", "fancy", "odd"], rows)
    X = pd.DataFrame(
        {
            "size": size,
            "kind": pd.Categorical(kind, ["odd", "plain", "fancy", "never"]),
            "open": rng.random(rows) < 0.5,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 700, rows), "D"),
            "note": np.where(rng.random(rows) < 0.2, None, rng.choice(["a", "b"], rows)),
        }
    )
    price = 20 * size + np.where(kind == "fancy", 100, 0) + 30 * X["open"] + rng.normal(size=rows)
    X.loc[::17, "size"] = np.nan
    X.loc[::19, "kind"] = None
    return X, pd.Series(price, name="price")


def classes_of(price):
    return np.select([price < 60, price < 150], ["cheap", "fair"], "dear")


def fitted(kind, X, y, **parameters):
    return kind(random_state=0, **parameters).fit(X, classes_of(y) if kind is TabularClassifier else y)


class TestColumns:
    def test_of_every_kind_with_values_missing(self):
        X, y = shop()
        new, actual = shop(seed=1)
        regressor, classifier = (fitted(kind, X, y) for kind in (TabularRegressor, TabularClassifier))
        assert {name.partition("=")[0] for name in regressor.model_.encoding.feature_names} >= set(X)
        whole = new.dropna(subset=["size", "kind"]).index
        assert regressor.score(new.loc[whole], actual[whole]) > 0.97
        assert classifier.score(new.loc[whole], classes_of(actual)[whole]) > 0.8

    @BOTH
    @pytest.mark.parametrize("library", ["polars", "pyarrow"])
    def test_of_other_libraries(self, kind, library):
        if library == "polars":
            make = pytest.importorskip("polars", reason="polars is not installed").from_pandas
        else:
            make = pa.Table.from_pandas
        X, y = shop()
        model = fitted(kind, X, y, settings=QUICK)
        other = fitted(kind, make(X), y, settings=QUICK)
        assert other.feature_names_in_.tolist() == list(X)
        np.testing.assert_array_equal(other.predict(make(X)), model.predict(X))
        np.testing.assert_array_equal(model.predict(make(X)), model.predict(X))

    @BOTH
    def test_in_another_order_or_beside_others_are_found_by_name(self, kind):
        X, y = shop()
        model = fitted(kind, X, y, settings=QUICK)
        np.testing.assert_array_equal(model.predict(X[X.columns[::-1]].assign(more=1)), model.predict(X))

    @BOTH
    def test_that_are_missing_are_refused_by_name(self, kind):
        X, y = shop()
        X["same"] = 1  # is left out as a feature, and yet a column of the table
        model = fitted(kind, X, y, settings=QUICK)
        with pytest.raises(ValueError, match="X lacks columns that it had in fit: note, same"):
            model.predict(X.drop(columns=["note", "same"]))
        refused = pytest.raises(ValueError, match=r"X has 3 features, but Tabular.* is expecting 6 features")
        with refused, pytest.warns(UserWarning, match="valid feature names"):
            model.predict(X.to_numpy()[:, :3])

    @BOTH
    def test_without_names(self, kind):
        X, y = shop()
        array = X.assign(day=(X["day"] - X["day"].min()).dt.days).to_numpy()
        model = fitted(kind, array, y, settings=QUICK, categorical=[2])
        assert not hasattr(model, "feature_names_in_")
        assert model.n_features_in_ == 5
        kinds = [type(column).__name__ for column in model.model_.encoding.columns]
        assert kinds == ["Numeric", "Categorical", "Categorical", "Numeric", "Categorical"]
        integers = pd.DataFrame(array, columns=range(5))
        np.testing.assert_array_equal(model.predict(integers), model.predict(array))

    @BOTH
    def test_with_names_for_a_model_without_are_taken_in_order(self, kind):
        X, y = shop()
        array = X[["size", "kind"]].to_numpy()
        model = fitted(kind, array, y, settings=QUICK)
        with pytest.warns(UserWarning, match="X has feature names, but Tabular.* was fitted without"):
            predicted = model.predict(X[["size", "kind"]])
        np.testing.assert_array_equal(predicted, model.predict(array))

    def test_of_numbers_may_be_categories(self):
        rng = np.random.default_rng(0)
        X = pd.DataFrame({"code": rng.integers(0, 6, 300), "z": rng.normal(size=300)})
        y = np.array([5.0, -3, 9, 0, -8, 4])[X["code"]]
        for categorical in (["code"], [0], np.array([0])):
            model = TabularRegressor("fast", categorical=categorical, random_state=0).fit(X, y)
            assert model.model_.encoding.feature_names[:2] == ("code=0", "code=1")
            assert model.score(X, y) > 0.99
        for wrong in (["cod"], [2], [-1], "code", 3):
            with pytest.raises(InvalidValue, match="categorical"):
                TabularRegressor(categorical=wrong).fit(X, y)

    def test_have_words_for_missing_values(self):
        X, y = shop()
        written = X.assign(size=X["size"].fillna(-999), note=X["note"].fillna("?"))
        model = fitted(TabularRegressor, written, y, settings=QUICK, missing=["?", -999])
        without = fitted(TabularRegressor, X, y, settings=QUICK)
        np.testing.assert_array_equal(model.predict(written), without.predict(X))
        assert model.model_.origin.writing.missing == ("?", "-999")
        with pytest.raises(InvalidValue, match="missing='NA'"):
            fitted(TabularRegressor, X, y, missing="NA")

    def test_of_one_name_are_refused(self):
        X, y = shop()
        with pytest.raises(ValueError, match="two columns named 'size'"):
            TabularRegressor().fit(pd.concat([X, X[["size"]]], axis=1), y)


class TestTargets:
    @pytest.mark.parametrize(
        "values", [["b", "a", "c"], [10, 9, -1], [2.0, -1.0, 1.0], [True, False], ["10", "9", "é"]]
    )
    def test_classes_come_back_as_they_were(self, values):
        rng = np.random.default_rng(0)
        index = rng.integers(0, len(values), 200)
        X = pd.DataFrame({"y": index + 0.1 * rng.normal(size=200), "z": rng.normal(size=200)})
        y = np.array(values)[index]
        for one in (y, pd.Series(y, name="z"), pd.Series(y).astype("category"), y.tolist()):
            model = TabularClassifier(settings=QUICK, random_state=0).fit(X, one)
            np.testing.assert_array_equal(model.classes_, np.unique(y))
            probabilities = model.predict_proba(X)
            np.testing.assert_allclose(probabilities.sum(axis=1), 1)
            np.testing.assert_array_equal(model.predict(X), model.classes_[probabilities.argmax(axis=1)])
            assert model.score(X, y) > 0.95
            np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), probabilities)

    def test_refused(self):
        X, y = shop()
        for bad in (y.mask(y > 100), y.mask(y > 100, np.inf)):
            with pytest.raises(ValueError, match=r"NaN|infinity"):
                TabularRegressor().fit(X, bad)
        with pytest.raises(ValueError, match="NaN"):
            TabularClassifier().fit(X, [None, *classes_of(y)[1:]])
        absent = pd.Series(classes_of(y), dtype="string").mask(y > 100)
        for column in (absent, absent.astype(object), absent.tolist()):  # with pandas' NA
            with pytest.raises(InvalidValue, match="Input y contains NaN"):
                TabularClassifier().fit(X, column)
        with pytest.raises(InvalidValue, match="Input y contains NaN"):
            TabularRegressor().fit(X, y.astype(object).where(y < 100, pd.NA))
        with pytest.raises(InvalidValue, match=r"one class, 'a'.*at least two"):
            TabularClassifier().fit(X, ["a"] * len(X))
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            TabularRegressor().fit(X, y[:-1])
        with pytest.raises(ValueError, match="Unknown label type"):
            TabularClassifier().fit(X, y)

    @BOTH
    def test_what_is_refused_changes_nothing(self, kind):
        X, y = shop()
        model = fitted(kind, X, y, settings=QUICK)
        before = dict(vars(model))
        few = ["a", "b", "c", "a"] if kind is TabularClassifier else np.ones(4)
        with pytest.raises(ValueError, match=r"several rows of each class|constant"):
            model.fit(X[:4].assign(more=1), few)
        assert vars(model).keys() == before.keys()
        assert all(value is before[name] for name, value in vars(model).items())
        assert len(model.predict(X)) == len(X)

    def test_the_model_has_the_names_and_is_saved(self, tmp_path):
        X, y = shop()
        for kind in (TabularRegressor, TabularClassifier):
            model = fitted(kind, X, y, settings=QUICK)
            model.model_.save(tmp_path)
            again = tabular.load(tmp_path).predict(X)["predicted"]
            np.testing.assert_array_equal(again, model.predict(X))
        assert fitted(TabularRegressor, X, y, settings=QUICK).model_.target.name == "price"

    def test_one_with_the_name_of_a_column_has_another(self):
        X, y = shop(60)
        for names, found in (({}, "y"), ({"size": "y"}, "target"), ({"size": "y", "kind": "target"}, "target_")):
            table = X.rename(columns=names)
            with pytest.raises(tabular.DataError, match=f"the target '{found}' is constant"):
                TabularRegressor(settings=QUICK).fit(table, 0 * y.rename("note"))
            assert TabularRegressor(settings=QUICK).fit(table, y.rename("note")).model_.target.name == found


class TestHabits:
    @BOTH
    def test_clones_and_pickles(self, kind):
        X, y = shop()
        model = fitted(kind, X, y, preset="fast", validation_fraction=0.3)
        again = clone(model)
        assert again.get_params() == model.get_params()
        with pytest.raises(NotFittedError):
            again.predict(X)
        again.fit(X, classes_of(y) if kind is TabularClassifier else y)
        for other in (again, pickle.loads(pickle.dumps(model))):
            np.testing.assert_array_equal(other.predict(X), model.predict(X))
        assert model.set_params(preset="default").preset == "default"

    @BOTH
    @pytest.mark.parametrize("settings", [QUICK, Members(2, 8, (8,), steps=20, cycles=1)])
    def test_bits_at_any_number_of_threads(self, kind, settings):
        X, y = shop()
        found = []
        for threads in (1, 2, 3):
            with kernels.num_threads(threads):
                model = fitted(kind, X, y, settings=settings)
                found.append(model.predict_proba(X) if kind is TabularClassifier else model.predict(X))
        assert all(np.array_equal(found[0], one) for one in found[1:])
        other = kind(settings=settings, random_state=1).fit(X, classes_of(y) if kind is TabularClassifier else y)
        assert not np.array_equal(other.predict_proba(X) if kind is TabularClassifier else other.predict(X), found[0])

    def test_states_and_none_draw_seeds(self):
        X, y = shop()
        same = [TabularRegressor(random_state=np.random.RandomState(3), settings=QUICK).fit(X, y) for _ in range(2)]
        np.testing.assert_array_equal(*(one.predict(X) for one in same))
        free = [TabularRegressor("fast").fit(X[:60], y[:60]).history_["train_loss"] for _ in range(2)]
        assert free[0] != free[1]

    def test_pipelines_searches_and_cross_validation(self):
        X, y = shop()
        pipeline = make_pipeline(FunctionTransformer(lambda X: X.drop(columns="day")), TabularRegressor(random_state=0))
        assert cross_val_score(pipeline, X, y, cv=3).min() > 0.9
        search = GridSearchCV(TabularClassifier(random_state=0), {"preset": ["fast", "default"]}, cv=2)
        search.fit(X, classes_of(y))
        assert search.best_params_["preset"] in tabular.PRESETS
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()

    def test_nothing_is_printed_or_written_unless_asked_for(self, capfd, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        X, y = shop()
        fitted(TabularRegressor, X, y, settings=QUICK)
        assert capfd.readouterr() == ("", "")
        assert not list(tmp_path.iterdir())
        fitted(TabularRegressor, X, y, settings=QUICK, verbose=True)
        assert "TabularRegressor: 240 rows; price from 5 columns" in capfd.readouterr().out

    @BOTH
    @pytest.mark.parametrize(
        "parameters",
        [{"preset": "fats"}, {"settings": {"epochs": 3}}, {"validation_fraction": 0},
         {"validation_fraction": 1.0}, {"verbose": "yes"}, {"random_state": -1}, {"random_state": "a"}],
    )  # fmt: skip
    def test_parameters_out_of_range(self, kind, parameters):
        X, y = shop(60)
        with pytest.raises(ValueError, match=next(iter(parameters)) + "|seed"):
            kind(**parameters).fit(X, classes_of(y) if kind is TabularClassifier else y)


class TestWeights:
    @BOTH
    def test_weight_0_is_no_row_and_1_is_no_weight(self, kind):
        X, y = shop()
        actual = classes_of(y) if kind is TabularClassifier else y.to_numpy()
        kept = np.arange(len(X)) % 3 > 0
        model = kind("fast", random_state=0)
        some = model.fit(X[kept], actual[kept]).predict(X)
        np.testing.assert_array_equal(model.fit(X, actual, sample_weight=2.5 * kept).predict(X), some)
        whole = model.fit(X, actual).predict(X)
        np.testing.assert_array_equal(model.fit(X, actual, sample_weight=[1] * len(X)).predict(X), whole)

    def test_a_class_without_weight_is_known_and_never_predicted(self):
        X, y = shop()
        labels = classes_of(y)
        kept = labels != "cheap"
        some = TabularClassifier("fast", random_state=0, class_weight={"fair": 2.0}).fit(X[kept], labels[kept])
        model = TabularClassifier("fast", random_state=0, class_weight={"cheap": 1.0, "fair": 2.0})
        model.fit(X, labels, sample_weight=kept)
        assert model.classes_.tolist() == ["cheap", "dear", "fair"]
        np.testing.assert_array_equal(model.predict_proba(X)[:, 1:], some.predict_proba(X))
        assert not model.predict_proba(X)[:, 0].any()
        plain = TabularClassifier("fast", random_state=0)
        voting = VotingClassifier([("plain", plain)], voting="soft").fit(X, labels, sample_weight=kept)
        np.testing.assert_array_equal(voting.predict(X), plain.fit(X[kept], labels[kept]).predict(X))
        absent = np.where(kept, labels, None)
        assert plain.fit(X, absent, sample_weight=kept).classes_.tolist() == ["dear", "fair"]
        with pytest.raises(InvalidValue, match="y holds one class in rows with a weight, 'fair', wanted at least two"):
            plain.fit(X, labels, sample_weight=labels == "fair")

    @pytest.mark.parametrize("preset", ["fast", Members(2, 8, (16,), steps=60, cycles=2)])
    def test_heavy_rows_have_their_way(self, preset):
        rng = np.random.default_rng(0)
        X = pd.DataFrame({"a": rng.uniform(-1, 1, 400), "b": rng.normal(size=400)})
        up = rng.random(400) < 0.5
        y = np.where(up, 3, -3) * X["a"]  # two halves contradict each other
        given = {"preset": preset} if preset == "fast" else {"settings": preset}
        for heavy, slope in ((up, 3), (~up, -3)):
            model = TabularRegressor(**given, random_state=0).fit(X, y, sample_weight=np.where(heavy, 1.0, 1e-4))
            assert np.abs(model.predict(X) - slope * X["a"]).max() < 0.3
            classifier = TabularClassifier(**given, random_state=0)
            classifier.fit(X, y > 0, sample_weight=np.where(heavy, 1.0, 1e-4))
            assert np.mean(classifier.predict(X) == (slope * X["a"] > 0)) > 0.95

    @BOTH
    @pytest.mark.parametrize(
        ("weights", "message"),
        [(-1.0, "weight of row 5 is -1"), (np.nan, "weight of row 5 is nan"), (None, "one weight for each row")],
    )
    def test_refused(self, kind, weights, message):
        X, y = shop(60)
        given = np.ones(60)
        given[5] = 1 if weights is None else weights
        with pytest.raises(ValueError, match=message):
            kind(settings=QUICK).fit(X, classes_of(y), sample_weight=given[:50] if weights is None else given)


class TestPipeline:
    def test_the_preset_decides(self, monkeypatch):
        X, y = shop(1100)
        few = Members(2, 8, (8,), steps=20, cycles=1)
        assert fitted(TabularRegressor, X[:140], y[:140]).preset_.why == "fewer than 150 rows"
        assert fitted(TabularRegressor, X[:200], y[:200], settings=few).preset_.networks == 2
        assert fitted(TabularRegressor, X, y, preset="fast").preset_.networks == 1
        monkeypatch.setitem(tabular.presets.KINDS, "default", Members(5, 64, (8,), steps=20, cycles=1))
        assert fitted(TabularRegressor, X, y).preset_[:3] == ("default", "150 to 100,000 rows", 5)

    def test_the_share_of_rows_for_validation(self):
        X, y = shop(200)
        longer, shorter = (
            fitted(TabularRegressor, X, y, preset="fast", validation_fraction=share) for share in (0.05, 0.9)
        )
        assert longer.score(X, y) > shorter.score(X, y)

    @BOTH
    def test_as_good_as_a_run_on_the_same_rows(self, kind):
        X, y = shop(400)
        target = pd.Series(classes_of(y), name="class") if kind is TabularClassifier else y
        run = tabular.run(X.assign(**{target.name: target}), target.name)
        test = run.test["row"].to_numpy()
        train = np.setdiff1d(np.arange(len(X)), test)
        model = kind(random_state=0).fit(X.iloc[train], target[train])
        if kind is TabularClassifier:
            loss = log_loss(target[test], model.predict_proba(X.iloc[test]), labels=model.classes_)
            assert loss < 1.3 * run.scores["network"].log_loss
        else:
            rmse = np.sqrt(np.mean((model.predict(X.iloc[test]) - y[test]) ** 2))
            assert rmse < 1.3 * run.scores["network"].rmse

    def test_fit_is_that_of_the_room(self):
        X, y = shop(150)
        choice = tabular.presets.choose("fast", tabular.presets.Situation(150), {"seed": 5})
        theirs = tabular.fit(X.assign(price=y), "price", choice)
        ours = TabularRegressor("fast", random_state=5).fit(X, y)
        np.testing.assert_array_equal(ours.predict(X), theirs.model.predict(X)["predicted"])
        assert ours.history_ == theirs.fit.history
        assert theirs.rows["test"] == 0
        assert theirs.rows["train"] + theirs.rows["validation"] == 150
