import dataclasses
import io
import json
import math
import os
import sys

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

from viva_tensor import autograd, train
from viva_tensor.data import DataError, split_rows
from viva_tensor.encoding import Encoding
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


def fit_line(seed=0, rows=200):
    x = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    return train.fit(x, abs(x), x, abs(x), Settings(hidden=(16, 8), epochs=20, batch_size=16, seed=seed))


class TestFit:
    def test_learns_what_no_line_can(self):
        result = fit_line()
        assert result.history["validation_loss"][-1] < 0.005  # a constant reaches 0.083
        assert result.history["train_loss"][-1] < 0.1 * result.history["train_loss"][0]
        assert result.history["epoch"] == list(range(1, 21))

    def test_seed_decides_every_bit(self):
        assert same_bits(fit_line(), fit_line())
        assert not same_bits(fit_line(), fit_line(seed=1))

    def test_layers(self):
        result = fit_line()
        assert [layer.w.data.shape for layer in result.layers] == [(16, 1), (8, 16), (1, 8)]
        assert [layer.b.data.shape for layer in result.layers] == [(16,), (8,), (1,)]
        assert {array.dtype for array in weights(result)} == {np.dtype(np.float32)}

    def test_train_loss_is_the_mean_over_rows(self):
        # lr so small that the weights stay: the mean over a short last batch must weigh its rows, not its batch
        x = np.linspace(-1, 1, 10, dtype=np.float32)[:, None]
        y = np.where(np.arange(10) < 5, 0, 9).astype(np.float32)[:, None]
        result = train.fit(x, y, x, y, Settings(hidden=(4,), epochs=1, batch_size=8, lr=1e-12))
        assert result.history["train_loss"][0] == pytest.approx(result.history["validation_loss"][0], rel=1e-5)

    def test_divergence_names_the_epoch_and_a_smaller_rate(self):
        x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
        with pytest.raises(train.DivergenceError, match=r"epoch \d of 9; try a smaller learning rate, such as 100000 "):
            train.fit(x, x, x, x, Settings(hidden=(8, 8), epochs=9, batch_size=16, lr=1e6))

    def test_validation_loss_that_overflows_is_divergence(self):
        x = np.ones((4, 1), np.float32)
        with pytest.raises(train.DivergenceError, match="epoch 1 of 3"):
            train.fit(x, x, x, np.full_like(x, np.nan), QUICK)

    def test_rates_cover_all_steps(self, monkeypatch):
        asked = []
        monkeypatch.setattr(train, "learning_rate", lambda *arguments: asked.append(arguments) or 0.01)
        x = np.ones((10, 1), np.float32)
        train.fit(x, x, x, x, Settings(hidden=(2,), epochs=3, batch_size=4, lr=0.5))
        assert asked == [(0.5, step, 9, 3) for step in range(1, 10)]

    def test_momentum_matters(self):
        x = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
        a, b = (train.fit(x, x, x, x, Settings(hidden=(4,), epochs=2, momentum=momentum)) for momentum in (0, 0.9))
        assert not same_bits(a, b)

    @pytest.mark.parametrize("progress", [False, True])
    def test_progress_bar_where_asked_for(self, monkeypatch, progress):
        terminal = io.StringIO()
        terminal.isatty = lambda: True
        monkeypatch.setattr(sys, "stderr", terminal)
        x = np.ones((8, 1), np.float32)
        train.fit(x, x, x, x, QUICK, progress=progress)
        assert ("validation_loss=" in terminal.getvalue()) == progress


def test_learning_rate_rises_then_falls():
    rates = [train.learning_rate(0.5, step, 100, 10) for step in range(1, 101)]
    peak = int(np.argmax(rates))
    assert rates[0] == pytest.approx(0.05)
    assert peak == 9
    assert 0.48 < rates[peak] <= 0.5
    assert all(a > b for a, b in zip(rates[peak:], rates[peak + 1 :], strict=False))
    assert 0 < rates[-1] < 0.001


def test_predict_matches_numpy_in_any_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    layers, _ = train.init_layers(autograd.new_tape(), (5, 7, 3, 2), rng)
    x = rng.standard_normal((50, 5), dtype=np.float32)
    h = x.astype(np.float64)
    for layer in layers[:-1]:
        h = np.maximum(h @ layer.w.data.T + layer.b.data, 0)
    expected = h @ layers[-1].w.data.T + layers[-1].b.data
    monkeypatch.setattr(train, "PREDICT_ROWS", 7)
    np.testing.assert_allclose(train.predict(layers, x), expected, rtol=1e-5, atol=1e-6)


def test_least_squares_finds_an_exact_plane():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 3), dtype=np.float32)
    x = np.column_stack([x, x[:, 0]])  # a repeated feature, as complementary one-hot features are
    plane = x.astype(np.float64) @ [1, -2, 3, 0] + 4
    np.testing.assert_allclose(train.least_squares(x[:12], plane[:12], x[12:]), plane[12:], rtol=1e-10)


class TestScore:
    def test_values(self):
        scores = train.score(np.array([0.0, 0.0, 3.0, 5.0]), np.array([0.0, 0.0, 3.0, 1.0]))
        assert scores == pytest.approx((2, 1, 1 - 16 / 18))

    def test_r2_of_a_constant_is_undefined(self):
        assert math.isnan(train.score(np.array([2.0]), np.array([1.0])).r2)


class TestRun:
    def test_scores_belong_to_the_test_rows(self, table):
        run = train.run(table, "price", QUICK)
        rows = run.test["row"].to_numpy()
        assert np.array_equal(run.test["actual"], table["price"].to_numpy()[rows])
        error = run.test["predicted"] - run.test["actual"]
        assert run.scores["network"].rmse == pytest.approx(np.sqrt((error**2).mean()))
        mean = table["price"].to_numpy()[split_rows(120).train].mean()
        assert run.scores["training mean"].mae == pytest.approx(np.abs(table["price"][rows] - mean).mean())
        assert run.scores["least squares"].rmse < run.scores["training mean"].rmse

    def test_network_beats_both_baselines_on_a_bent_target(self, table):
        table = table.assign(size=table["size"].fillna(5), price=lambda t: (t["size"] - 5).abs() * 100)
        run = train.run(table, "price", Settings(hidden=(16,), epochs=60, batch_size=8))
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
        a, b = train.run(table, "price", QUICK), train.run(other, "price", QUICK)
        assert same_bits(a.fit, b.fit)
        assert a.encoding == b.encoding
        assert (a.target_mean, a.target_std) == (b.target_mean, b.target_std)
        assert a.fit.history["train_loss"] == b.fit.history["train_loss"]

    def test_predictions_are_in_units_of_the_target(self, table):
        a = train.run(table, "price", QUICK)
        b = train.run(table.assign(price=table["price"] * 1024 - 5e5), "price", QUICK)
        np.testing.assert_allclose(b.test["predicted"], a.test["predicted"] * 1024 - 5e5, rtol=1e-4)
        assert b.scores["network"].rmse == pytest.approx(a.scores["network"].rmse * 1024, rel=1e-3)

    def test_seed_decides_the_split(self, table):
        run = train.run(table, "price", dataclasses.replace(QUICK, seed=3))
        assert np.array_equal(run.test["row"], split_rows(120, seed=3).test)

    def test_rows_without_target_are_left_out(self, table):
        table.loc[[3, 50], "price"] = [np.nan, np.inf]
        run = train.run(table, "price", QUICK)
        assert run.rows == {"read": 120, "without_target": 2, "train": 85, "validation": 9, "test": 24}
        assert not {3, 50} & set(run.test["row"])
        assert np.array_equal(run.test["actual"], table["price"].to_numpy()[run.test["row"]])

    def test_target_is_no_feature(self, table):
        assert "price" not in " ".join(train.run(table, "price", QUICK).encoding.feature_names)

    def test_constant_target(self, table):
        with pytest.raises(DataError, match="target 'price' is constant"):
            train.run(table.assign(price=3), "price", QUICK)


class TestSave:
    @pytest.fixture
    def run(self, table):
        return train.run(table, "price", QUICK)

    def test_files_reproduce_the_predictions(self, table, run, tmp_path):
        written = train.save(run, tmp_path / "new" / "folder")
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
        assert target["name"] == "price"
        np.testing.assert_allclose(z[:, 0] * target["std"] + target["mean"], predictions["predicted"], rtol=1e-5)

    def test_history_and_report(self, run, tmp_path):
        train.save(run, tmp_path)
        history = pd.read_csv(tmp_path / "history.csv")
        pd.testing.assert_frame_equal(history, pd.DataFrame(run.fit.history), rtol=1e-14)
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["test"] == {name: scores._asdict() for name, scores in run.scores.items()}
        assert report["settings"]["hidden"] == [8]
        assert report["rows"]["test"] == 24
        assert report["features"] == 4

    def test_undefined_score_is_null(self, run, tmp_path):
        scores = {"network": train.Scores(1.0, 1.0, math.nan)}
        train.save(dataclasses.replace(run, scores=scores), tmp_path)
        report = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
        assert report["test"]["network"]["r2"] is None

    def test_failed_write_leaves_the_old_file(self, run, tmp_path, monkeypatch):
        (tmp_path / "model.safetensors").write_text("old")

        def fail(source, target):
            raise OSError("disk is gone")

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk is gone"):
            train.save(run, tmp_path)
        assert os.listdir(tmp_path) == ["model.safetensors"]
        assert (tmp_path / "model.safetensors").read_text() == "old"
