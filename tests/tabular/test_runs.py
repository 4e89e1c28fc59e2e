import dataclasses
import json
import math
import os
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import safetensors.numpy
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_info, threadpool_limits

from viva_tensor import checkpoint, optim, tabular
from viva_tensor.tabular import baselines, blending, preparing, runs, saving
from viva_tensor.tabular.data import DataError, split_rows
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.model import load
from viva_tensor.tabular.scores import NumberScores
from viva_tensor.train import Settings

QUICK = Settings(hidden=(8,), epochs=3, batch_size=16)


@pytest.fixture
def table():
    """120 rows whose target follows two columns, with a missing value here and there."""
    rng = np.random.default_rng(5)
    size = rng.uniform(1, 9, 120)
    kind = rng.choice(["plain", "fancy"], 120)
    price = 1000 + 50 * size + np.where(kind == "fancy", 300, 0)
    table = pd.DataFrame({"size": size, "kind": kind, "price": price})
    table.loc[::10, "size"] = np.nan
    return table


def weights(fit):
    return [array for layer in fit.layers for array in (layer.w.data, layer.b.data)]


def same_bits(a, b):
    return all(np.array_equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def test_least_squares_finds_an_exact_plane():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 3), dtype=np.float32)
    x = np.column_stack([x, x[:, 0]])  # a repeated feature, as complementary one-hot features are
    plane = x.astype(np.float64) @ [1, -2, 3, 0] + 4
    np.testing.assert_allclose(baselines.least_squares(x[:12], plane[:12])(x[12:]), plane[12:], rtol=1e-10)
    far = plane * 1000 + 2.0**60  # whose last place is 256
    assert abs(baselines.least_squares(x[:12], far[:12])(x[12:]) - far[12:]).max() <= 512


def test_trees_are_fitted_without_a_limit_on_threads_that_change_bits_of_what_is_computed_beside_them(monkeypatch, rng):
    def threads(api):
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == api]

    seen, trees = {}, HistGradientBoostingRegressor.fit

    def noted(self, *arguments):
        seen.update(blas=threads("blas"), openmp=threads("openmp"))
        return trees(self, *arguments)

    monkeypatch.setattr(HistGradientBoostingRegressor, "fit", noted)
    x = rng.standard_normal((40, 2), dtype=np.float32)
    with threadpool_limits(2):  # whatever the environment says
        usual = threads("blas")
        assert baselines.boosted_trees(x, x[:, 0].astype(float))(x).shape == (40,)
    assert seen["blas"] == usual
    assert 2 in usual
    assert set(seen["openmp"]) == {1}


class TestRun:
    def test_a_finished_run_goes_on_from_its_model(self, table):
        settings = Settings(hidden=(8,), epochs=9, batch_size=16, patience=9)
        table["price"] = (table["size"].fillna(5) - 5) ** 2
        first = runs.run(table, "price", settings)
        second = runs.run(table, "price", dataclasses.replace(settings, epochs=90, patience=90), start=first.model)
        loss = second.fit.history["validation_loss"]
        assert loss[0] < 1.5 * min(first.fit.history["validation_loss"])
        assert second.scores["network"].rmse < first.scores["network"].rmse
        again = runs.run(table, "price", dataclasses.replace(settings, optimizer=optim.SGD(lr=1e-9)), start=first.model)
        assert same_bits(again.fit, first.fit)  # which was not made better
        with pytest.raises(DataError, match="does not have this table's columns, scales or classes"):
            runs.run(table[:100], "price", settings, start=first.model)

    @pytest.mark.parametrize(("first", "second"), [("float32", "float64"), ("float64", "float32")])
    def test_a_model_of_another_dtype_goes_on(self, table, first, second):
        model = runs.run(table, "price", dataclasses.replace(QUICK, dtype=first)).model
        run = runs.run(table, "price", dataclasses.replace(QUICK, dtype=second), start=model)
        assert np.isfinite(run.scores["network"].rmse)

    def test_what_is_no_model_to_go_on_from_is_refused(self, table):
        with pytest.raises(DataError, match=r"start is a Run, wanted a Model, such as run\.model"):
            runs.run(table, "price", QUICK, start=runs.run(table, "price", QUICK))

    def test_a_model_in_float64_is_kept_in_float64(self, table, tmp_path):
        run = runs.run(table, "price", dataclasses.replace(QUICK, dtype="float64"))
        run.model.save(tmp_path)
        assert load(tmp_path).layers[0].w.data.dtype == np.float64
        assert load(tmp_path).predict(table).equals(run.model.predict(table))

    def test_scores_belong_to_the_test_rows(self, table):
        run = runs.run(table, "price", QUICK)
        rows = run.test["row"].to_numpy()
        assert np.array_equal(run.test["actual"], table["price"].to_numpy()[rows])
        error = run.test["predicted"] - run.test["actual"]
        assert run.scores["network"].rmse == pytest.approx(np.sqrt((error**2).mean()))
        mean = table["price"].to_numpy()[split_rows(120).train].mean()
        assert run.scores["training mean"].mae == pytest.approx(np.abs(table["price"][rows] - mean).mean())
        assert run.scores["least squares"].rmse < run.scores["training mean"].rmse

    def test_network_beats_both_baselines_on_a_bent_target(self, table):
        table = table.assign(size=table["size"].fillna(5), price=lambda t: (t["size"] - 5).abs() * 100)
        run = runs.run(table, "price", Settings(hidden=(16,), epochs=60, batch_size=8))
        assert run.scores["network"].rmse < 0.3 * min(
            run.scores[name].rmse for name in ("least squares", "training mean")
        )

    @pytest.mark.parametrize("part", ["validation", "test"])
    def test_rows_kept_apart_do_not_reach_the_weights(self, table, part):
        rows = getattr(split_rows(len(table)), part)
        other = table.copy()
        other.loc[rows, "price"] *= 7
        other.loc[rows, "size"] *= -3
        other.loc[rows, "kind"] = "unseen"
        a, b = runs.run(table, "price", QUICK), runs.run(other, "price", QUICK)
        assert same_bits(a.fit, b.fit)
        assert a.encoding == b.encoding
        assert a.target == b.target
        assert a.fit.history["train_loss"] == b.fit.history["train_loss"]

    def test_predictions_are_in_units_of_the_target(self, table):
        a = runs.run(table, "price", QUICK)
        b = runs.run(table.assign(price=table["price"] * 1024 - 5e5), "price", QUICK)
        np.testing.assert_allclose(b.test["predicted"], a.test["predicted"] * 1024 - 5e5, rtol=1e-4)
        assert b.scores["network"].rmse == pytest.approx(a.scores["network"].rmse * 1024, rel=1e-3)

    def test_seed_decides_the_split(self, table):
        run = runs.run(table, "price", dataclasses.replace(QUICK, seed=3))
        assert np.array_equal(run.test["row"], split_rows(120, seed=3).test)

    def test_rows_without_target_are_left_out(self, table):
        table.loc[[3, 50], "price"] = [np.nan, np.inf]
        run = runs.run(table, "price", QUICK)
        assert run.rows == {"read": 120, "without_target": 2, "train": 85, "validation": 9, "test": 24}
        assert not {3, 50} & set(run.test["row"])
        assert np.array_equal(run.test["actual"], table["price"].to_numpy()[run.test["row"]])

    def test_target_is_no_feature(self, table):
        assert "price" not in " ".join(runs.run(table, "price", QUICK).encoding.feature_names)

    def test_constant_target(self, table):
        with pytest.raises(DataError, match="target 'price' is constant"):
            runs.run(table.assign(price=3), "price", QUICK)


class TestSave:
    @pytest.fixture
    def run(self, table):
        return runs.run(table, "price", QUICK)

    def test_files_reproduce_the_predictions(self, table, run, tmp_path):
        written = saving.save(run, tmp_path / "new" / "folder")
        assert sorted(path.name for path in written) == sorted(os.listdir(tmp_path / "new" / "folder"))
        files = {path.name: path for path in written}

        preprocessing = json.loads(files["preprocessing.json"].read_text())
        tensors = safetensors.numpy.load_file(files["model.safetensors"])
        predictions = pd.read_csv(files["predictions.csv"])
        assert {name: value.shape for name, value in tensors.items()} == {
            "0.weight": (8, 4), "0.bias": (8,), "2.weight": (1, 8), "2.bias": (1,)
        }  # fmt: skip
        x = Encoding.from_dict(preprocessing["features"]).encode(table.iloc[predictions["row"]])
        h = np.maximum(x @ tensors["0.weight"].T + tensors["0.bias"], 0)
        z = h @ tensors["2.weight"].T + tensors["2.bias"]
        target = preprocessing["target"]
        assert (target["kind"], target["name"]) == ("number", "price")
        np.testing.assert_allclose(z[:, 0] * target["std"] + target["mean"], predictions["predicted"], rtol=1e-5)

    def test_history_and_report(self, run, tmp_path):
        saving.save(run, tmp_path)
        history = pd.read_csv(tmp_path / "history.csv")
        pd.testing.assert_frame_equal(history, pd.DataFrame(run.fit.history), rtol=1e-14)
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["test"] == {name: scores._asdict() for name, scores in run.scores.items()}
        assert report["settings"]["hidden"] == [8]
        assert report["rows"]["test"] == 24
        assert report["features"] == 4

    def test_undefined_score_is_null(self, run, tmp_path):
        scores = {"network": NumberScores(1.0, 1.0, math.nan)}
        saving.save(dataclasses.replace(run, scores=scores), tmp_path)
        report = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
        assert report["test"]["network"]["r2"] is None

    def test_failed_write_leaves_the_old_file(self, run, tmp_path, monkeypatch):
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "model.safetensors").write_text("old")

        def fail(source, target):
            raise OSError("disk is gone")

        monkeypatch.setattr(os, "replace", fail)
        with (
            pytest.raises(OSError, match="disk is gone"),
            pytest.warns(UserWarning, match="this run is saved to .*run-2"),
        ):
            saving.save(run, folder, force=True)
        assert os.listdir(folder) == ["model.safetensors"]
        assert (folder / "model.safetensors").read_text() == "old"


@pytest.fixture
def animals():
    """150 rows whose text follows from two numbers, with a missing value here and there."""
    rng = np.random.default_rng(8)
    weight, legs = rng.uniform(0, 10, 150), rng.choice([2, 4], 150)
    kind = np.where(legs == 2, "bird", np.where(weight > 5, "dog", "cat")).astype(object)
    kind[7] = None
    return pd.DataFrame({"weight": weight, "legs": legs, "kind": kind})


class TestClasses:
    SETTINGS = Settings(hidden=(16,), epochs=40, batch_size=8)

    def test_learns_and_is_scored_beside_baselines(self, animals):
        run = runs.run(animals, "kind", self.SETTINGS)
        assert run.rows["without_target"] == 1
        assert run.target.labels == ("bird", "cat", "dog")
        assert list(run.scores) == ["network", "boosted trees", "logistic regression", "most frequent class"]
        assert run.scores["network"].accuracy > 0.9
        assert run.scores["network"].log_loss < run.scores["most frequent class"].log_loss / 3
        assert run.scores["network"].accuracy == np.mean(run.test["predicted"] == run.test["actual"])
        assert list(run.test) == ["row", "actual", "predicted", "kind=bird", "kind=cat", "kind=dog"]
        np.testing.assert_allclose(run.test.iloc[:, 3:].sum(axis=1), 1)
        assert run.fit.history["validation_accuracy"][-1] > 0.8

    def test_most_frequent_class_is_that_of_the_training_rows(self, animals):
        run = runs.run(animals, "kind", QUICK)
        rows = np.flatnonzero(animals["kind"].notna())
        kinds = animals["kind"].to_numpy()
        train = kinds[rows[split_rows(149, classes=pd.factorize(kinds[rows], sort=True)[0]).train]]
        shares = pd.Series(train).value_counts(normalize=True)
        actual = run.test["actual"]
        assert run.scores["most frequent class"].accuracy == np.mean(actual == shares.idxmax())
        assert run.scores["most frequent class"].log_loss == pytest.approx(-np.log(shares[actual]).mean())

    def test_without_scikit_learn_no_logistic_regression(self, animals, monkeypatch):
        monkeypatch.setattr(blending, "find_spec", lambda name: None)
        assert list(runs.run(animals, "kind", QUICK).scores) == ["network", "most frequent class"]

    def test_booleans_are_classes_and_numbers_can_be(self, animals):
        animals = animals.assign(heavy=animals["weight"] > 5)
        assert runs.run(animals, "heavy", QUICK).target.labels == ("False", "True")
        assert runs.run(animals, preparing.Task("legs", "class"), QUICK).target.labels == ("2", "4")
        assert isinstance(runs.run(animals, "legs", QUICK).scores["network"], NumberScores)

    def test_text_is_no_number(self, animals):
        with pytest.raises(DataError, match="'kind' does not hold numbers"):
            runs.run(animals, preparing.Task("kind", "number"), QUICK)


class TestLoad:
    @pytest.mark.parametrize("target", ["kind", "weight"])
    def test_predictions_of_the_run_again(self, animals, tmp_path, target):
        run = runs.run(animals, target, dataclasses.replace(QUICK, activation="identity"))
        saving.save(run, tmp_path)
        model = load(tmp_path)
        # the same bits, in any order of the columns, with the target or without, among other columns
        table = animals[["legs", "kind", "weight"]].drop(columns=target).assign(more=1)
        predicted = model.predict(table).iloc[run.test["row"]].reset_index(drop=True)
        pd.testing.assert_frame_equal(predicted, run.test.drop(columns="actual"), check_exact=True)

    def test_columns_that_do_not_match(self, animals, tmp_path):
        saving.save(runs.run(animals, "kind", QUICK), tmp_path)
        model = load(tmp_path)
        with pytest.raises(DataError, match=r"lacks columns used in training: legs$"):
            model.predict(animals.drop(columns="legs"))
        with pytest.raises(DataError, match="column 'legs' must hold numbers"):
            model.predict(animals.assign(legs="two"))

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("preprocessing.json", None, "preprocessing.json is missing"),
            ("model.safetensors", None, "model.safetensors is missing"),
            ("preprocessing.json", b"{", "cannot read the model"),
            ("preprocessing.json", b"\xff", "cannot read the model"),
            ("preprocessing.json", b"[]", "names no known activation"),
            ("preprocessing.json", b'{"activation": []}', "names no known activation"),
            ("preprocessing.json", b'{"activation": "relu"}', "not the description of a target"),
            ("model.safetensors", b"cut", "cannot read the model"),
        ],
    )
    def test_damaged_folder(self, animals, tmp_path, name, content, message):
        saving.save(runs.run(animals, "weight", QUICK), tmp_path)
        (tmp_path / name).unlink()
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            load(tmp_path)

    def test_weights_and_preprocessing_of_two_runs(self, animals, tmp_path):
        for seed in (0, 1):
            saving.save(runs.run(animals, "kind", dataclasses.replace(QUICK, seed=seed)), tmp_path / f"{seed}")
        os.replace(tmp_path / "1" / "model.safetensors", tmp_path / "0" / "model.safetensors")
        with pytest.raises(DataError, match=r"holds model\.safetensors of one run and preprocessing\.json of another"):
            load(tmp_path / "0")
        # weights that another library wrote have no checksum, and are taken
        path = tmp_path / "0" / "model.safetensors"
        safetensors.numpy.save_file(safetensors.numpy.load_file(path), path)
        assert load(tmp_path / "0").layers[0].w.data.shape[0] == 8

    def test_a_changed_digit_in_preprocessing(self, animals, tmp_path):
        saving.save(runs.run(animals, "weight", QUICK), tmp_path)
        path = tmp_path / "preprocessing.json"
        record = json.loads(path.read_text())
        path.write_text(json.dumps(dict(reversed(record.items()))))  # the same, laid out otherwise
        predicted = load(tmp_path).predict(animals)["predicted"]
        record["target"]["mean"] += 1
        path.write_text(json.dumps(record))
        with pytest.raises(
            DataError, match=r'changed since it was written: .* on purpose, remove its entry "checksum"$'
        ):
            load(tmp_path)
        del record["checksum"]
        path.write_text(json.dumps(record))
        assert np.allclose(load(tmp_path).predict(animals)["predicted"], predicted + 1)

    def test_weights_of_another_model(self, animals, tmp_path):
        saving.save(runs.run(animals, "weight", QUICK), tmp_path)
        other = runs.run(animals.drop(columns="kind"), "weight", QUICK)
        checkpoint.save_weights(tmp_path / "model.safetensors", other.fit.layers)
        with pytest.raises(DataError, match="takes 1 features and gives 1 outputs"):
            load(tmp_path)

    @pytest.mark.parametrize("path", ["none", "file"])
    def test_no_folder(self, tmp_path, path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match=path):
            load(tmp_path / path)


def test_a_model_and_a_run_are_shown_in_short():
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 8)), columns=[*"abcdefgy"])
    run = tabular.run(table, "y", Settings(hidden=(8,), epochs=1))
    model = "Model('y' from 'a', 'b', 'c', 'd', 'e', and 2 more, by a network of 7-8-1)"
    assert repr(run.model) == model
    rmse, mae, r2 = run.scores["network"]
    assert repr(run) == f"Run({model}, rmse={rmse:.4g}, mae={mae:.4g}, r2={r2:.4g} of 12 test rows)"


def test_tables_of_other_libraries(animals):
    run = runs.run(animals, "kind", QUICK)
    arrow = pa.Table.from_pandas(animals, preserve_index=False)
    again = runs.run(arrow, "kind", QUICK)
    assert same_bits(run.fit, again.fit)
    pd.testing.assert_frame_equal(run.model.predict(animals), again.model.predict(arrow))
    for foreign in ([1, 2], np.ones((3, 2)), None):
        with pytest.raises(DataError, match=r"wanted a table .*, got (list|ndarray|NoneType); for arrays: train.fit"):
            runs.run(foreign, "kind")


@pytest.mark.parametrize("during", ["_baseline_scores", "_insight"])
def test_an_interruption_after_training_keeps_the_network(during, tmp_path, monkeypatch):
    def press(*_):
        raise KeyboardInterrupt

    table = pd.DataFrame({"x": np.arange(60.0), "y": np.arange(60.0)})
    monkeypatch.setattr(runs, during, press)
    with pytest.warns(UserWarning, match="interrupted; the network is kept, without baselines and importances"):
        run = tabular.run(table, "y", QUICK)
    assert (run.fit.interrupted, run.insight) == (True, None)
    assert ("least squares" in run.scores) == (during == "_insight")
    tabular.save(run, tmp_path / "a")
    assert len(tabular.load(tmp_path / "a").predict(table)) == 60
    with pytest.raises(KeyboardInterrupt):
        tabular.run(table, "y", QUICK, checkpoint=tmp_path / "c")
    assert (tmp_path / "c").exists()


def test_pictures_and_baselines_that_cannot_be_imported_are_left_out_and_the_rest_is_kept(tmp_path, monkeypatch):
    def broken(*arguments):
        raise ImportError("numpy.core.multiarray failed to import")

    table = pd.DataFrame({"x": np.arange(60.0), "y": np.arange(60.0)})
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.warns(UserWarning, match="baselines of scikit-learn are left out: import of sklearn.ensemble halted"):
        run = tabular.run(table, "y", Settings(hidden=(4,), epochs=2, batch_size=16))
    assert "boosted trees" not in run.scores
    monkeypatch.setattr(saving, "plot_losses", broken)
    with pytest.warns(UserWarning, match=r"loss\.png is left out: numpy\.core\.multiarray failed"):
        written = tabular.save(run, tmp_path)
    names = {path.name for path in written}
    assert {"model.safetensors", "report.md", "report.html"} <= names
    assert "loss.png" not in names
    assert len(tabular.load(tmp_path).predict(table)) == 60
