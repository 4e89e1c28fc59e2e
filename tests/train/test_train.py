import dataclasses
import io
import sys

import numpy as np
import pandas as pd
import pytest

from viva_tensor import autograd, checkpoint, nn, optim, train
from viva_tensor.error import DimensionError, DtypeError, InvalidFile, InvalidShape, InvalidValue, ShapeMismatch
from viva_tensor.optim import SGD
from viva_tensor.train import Settings, network, training

QUICK = Settings(hidden=(8,), epochs=3, batch_size=16)


def weights(fit):
    return [array for layer in fit.layers for array in (layer.w.data, layer.b.data)]


def same_bits(a, b):
    return all(np.array_equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def fit_line(seed=0, rows=200):
    x = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    return train.fit(x, abs(x), Settings(hidden=(16, 8), epochs=20, batch_size=16, seed=seed), validation=(x, abs(x)))


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
        result = train.fit(x, y, Settings(hidden=(4,), epochs=1, batch_size=8, optimizer=SGD(1e-12)), validation=(x, y))
        assert result.history["train_loss"][0] == pytest.approx(result.history["validation_loss"][0], rel=1e-5)

    def test_divergence_names_the_epoch_and_a_smaller_rate(self):
        x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
        with pytest.raises(train.DivergenceError, match=r"epoch \d of 9; try a smaller learning rate, such as 100000$"):
            train.fit(
                x, x, Settings(hidden=(8, 8), epochs=9, batch_size=16, optimizer=SGD(1e6, 0.9)), validation=(x, x)
            )

    def test_validation_loss_that_overflows_is_divergence(self):
        x = np.ones((4, 1), np.float32)
        with pytest.raises(train.DivergenceError, match="epoch 1 of 3"):
            train.fit(x, x, QUICK, validation=(x, np.full_like(x, 1e30)))

    def test_rates_cover_all_steps(self, monkeypatch):
        asked = []
        monkeypatch.setattr(training, "rates", lambda settings, steps: lambda n: asked.append((steps, n)) or 0.01)
        x = np.ones((10, 1), np.float32)
        train.fit(x, x, Settings(hidden=(2,), epochs=3, batch_size=4, optimizer=SGD(0.5)), validation=(x, x))
        assert asked == [(3, step) for step in range(1, 10)]

    def test_momentum_matters(self):
        x = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
        a, b = (train.fit(x, x, Settings((4,), epochs=2, optimizer=SGD(0.05, momentum))) for momentum in (0, 0.9))
        assert not same_bits(a, b)

    @pytest.mark.parametrize("progress", [False, True])
    def test_progress_bar_where_asked_for(self, monkeypatch, progress):
        terminal = io.StringIO()
        terminal.isatty = lambda: True
        monkeypatch.setattr(sys, "stderr", terminal)
        x = np.ones((8, 1), np.float32)
        train.fit(x, x, QUICK, validation=(x, x), progress=progress)
        assert ("validation_loss=" in terminal.getvalue()) == progress
        assert ("of_peak=" in terminal.getvalue()) == progress


class TestWatching:
    X = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]

    def test_patience_ends_and_returns_the_best_weights(self):
        # the validation rows want the opposite of what is learned: the first epoch is the best of them
        settings = Settings(hidden=(8,), epochs=50, batch_size=8, patience=3)
        result = train.fit(self.X, self.X, settings, validation=(self.X, -self.X))
        losses = result.history["validation_loss"]
        assert result.best_epoch == 1 + int(np.argmin(losses))
        assert len(losses) == result.best_epoch + 3 < 50
        error = np.mean((train.predict(result.layers, self.X, "relu") + self.X) ** 2)
        assert error == pytest.approx(min(losses), rel=1e-5)

    def test_without_patience_the_last_weights(self):
        settings = Settings(hidden=(8,), epochs=5, batch_size=8)
        result = train.fit(self.X, self.X, settings, validation=(self.X, -self.X))
        error = np.mean((train.predict(result.layers, self.X, "relu") + self.X) ** 2)
        assert error == pytest.approx(result.history["validation_loss"][-1], rel=1e-5)
        assert result.best_epoch == 5

    def test_validation_rows_are_not_trained_on(self):
        y = abs(self.X)
        with_validation = train.fit(self.X, y, Settings(hidden=(4,), epochs=1, batch_size=64, validation_fraction=0.25))
        assert with_validation.rows_per_second == pytest.approx(48 / with_validation.seconds)
        none = train.fit(self.X, y, Settings(hidden=(4,), epochs=1, batch_size=64, validation_fraction=0))
        assert set(none.history) == {"epoch", "learning_rate", "train_loss"}
        assert not same_bits(with_validation, none)

    def test_history_is_columns_of_one_length(self):
        history = fit_line().history
        assert {name: len(column) for name, column in history.items()} == dict.fromkeys(
            ("epoch", "learning_rate", "train_loss", "validation_loss"), 20
        )
        assert history["learning_rate"][0] > history["learning_rate"][-1] > 0

    def test_constant_schedule(self):
        history = train.fit(self.X, self.X, Settings(epochs=2, optimizer=SGD(0.25), schedule="constant")).history
        assert history["learning_rate"] == [0.25, 0.25]


class TestCheckpoint:
    X = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    SETTINGS = Settings(hidden=(8, 4), epochs=6, batch_size=8, patience=5, seed=3)

    def interrupted(self, monkeypatch, path, settings=SETTINGS, at=26):
        """Break a run off in the fourth of its epochs of 6 steps."""
        rates = train.rates

        def pressed(settings, per_epoch):
            rate = rates(settings, per_epoch)

            def press(step):
                if step == at:
                    raise KeyboardInterrupt
                return rate(step)

            return press

        with monkeypatch.context() as patch:
            patch.setattr(training, "rates", pressed)
            with pytest.raises(KeyboardInterrupt):
                train.fit(self.X, abs(self.X), settings, checkpoint=path)

    def test_resumed_run_has_the_bits_of_a_whole_one(self, monkeypatch, tmp_path):
        path = tmp_path / "new" / "c.safetensors"
        self.interrupted(monkeypatch, path)
        assert checkpoint.load(path).epoch == 4
        resumed = train.fit(self.X, abs(self.X), self.SETTINGS, checkpoint=path, resume=True)
        whole = train.fit(self.X, abs(self.X), self.SETTINGS)
        assert resumed.history == whole.history
        assert resumed.best_epoch == whole.best_epoch
        assert same_bits(resumed, whole)

    def test_finished_run_is_resumed_at_its_end(self, tmp_path):
        whole = train.fit(self.X, abs(self.X), self.SETTINGS, checkpoint=tmp_path / "c")
        again = train.fit(self.X, abs(self.X), self.SETTINGS, checkpoint=tmp_path / "c", resume=True)
        assert again.history == whole.history
        assert same_bits(again, whole)

    def test_more_epochs_at_a_constant_rate(self, tmp_path):
        settings = dataclasses.replace(self.SETTINGS, schedule="constant")
        train.fit(self.X, self.X, dataclasses.replace(settings, epochs=2), checkpoint=tmp_path / "c")
        resumed = train.fit(self.X, self.X, settings, checkpoint=tmp_path / "c", resume=True)
        assert same_bits(resumed, train.fit(self.X, self.X, settings))

    @pytest.mark.parametrize(("every", "written"), [(1, [1, 2, 3, 4, 5, 6]), (4, [4, 6]), (None, [6])])
    def test_written_every_so_many_epochs_and_at_the_end(self, monkeypatch, tmp_path, every, written):
        epochs = []
        monkeypatch.setattr(checkpoint, "save", lambda path, kept: epochs.append(kept.epoch))
        train.fit(self.X, self.X, self.SETTINGS, checkpoint=tmp_path / "c", checkpoint_epochs=every)
        assert epochs == written

    def test_written_every_so_many_minutes(self, monkeypatch, tmp_path):
        epochs = []
        monkeypatch.setattr(checkpoint, "save", lambda path, kept: epochs.append(kept.epoch))
        train.fit(self.X, self.X, self.SETTINGS, checkpoint=tmp_path / "c", checkpoint_minutes=1e-9)
        assert epochs == [1, 2, 3, 4, 5, 6]

    @pytest.mark.parametrize(
        ("change", "rows", "message"),
        [
            ({"epochs": 7}, X, "epochs=6"),
            ({"hidden": (8,)}, X, "hidden="),
            ({"seed": 4}, X, "seed=3"),
            ({"optimizer": SGD(0.5)}, X, "optimizer=SGD"),
            ({}, X * 2, "other rows"),
        ],
    )
    def test_of_another_run(self, tmp_path, change, rows, message):
        train.fit(self.X, self.X, self.SETTINGS, checkpoint=tmp_path / "c")
        before = (tmp_path / "c").read_bytes()
        with pytest.raises(InvalidValue, match=message):
            train.fit(
                rows, self.X, dataclasses.replace(self.SETTINGS, **change), checkpoint=tmp_path / "c", resume=True
            )
        assert (tmp_path / "c").read_bytes() == before

    def test_other_files(self, tmp_path):
        with pytest.raises(InvalidValue, match="resume without a checkpoint"):
            train.fit(self.X, self.X, QUICK, resume=True)
        with pytest.raises(FileNotFoundError):
            train.fit(self.X, self.X, QUICK, checkpoint=tmp_path / "none", resume=True)
        (tmp_path / "c").write_bytes(b"{}")
        with pytest.raises(InvalidFile):
            train.fit(self.X, self.X, QUICK, checkpoint=tmp_path / "c", resume=True)
        layer = nn.mlp(autograd.new_tape(), (1, 1), rng=np.random.default_rng(0)).value
        checkpoint.save(tmp_path / "c", checkpoint.Checkpoint(optim.init(SGD(), layer), SGD()))
        with pytest.raises(InvalidFile, match="no checkpoint of fit"):
            train.fit(self.X, self.X, QUICK, checkpoint=tmp_path / "c", resume=True)

    @pytest.mark.parametrize(
        "options",
        [{"checkpoint_epochs": 0}, {"checkpoint_epochs": 1.5}, {"checkpoint_minutes": 0}, {"checkpoint_minutes": "a"}],
    )
    def test_intervals_out_of_range(self, tmp_path, options):
        with pytest.raises(InvalidValue, match="checkpoint_"):
            train.fit(self.X, self.X, QUICK, checkpoint=tmp_path / "c", **options)


class TestInputs:
    X = np.linspace(-1, 1, 20)[:, None]

    @pytest.mark.parametrize("strange", [np.nan, np.inf, 1e300])
    def test_rows_without_target_are_left_out_with_a_warning(self, strange):
        y = abs(self.X)
        y[[7, 11]] = strange
        with pytest.warns(UserWarning, match="2 of 20 rows have no finite target, the first is row 7"):
            a = train.fit(self.X, y, QUICK)
        b = train.fit(np.delete(self.X, [7, 11], axis=0), np.delete(y, [7, 11], axis=0), QUICK)
        assert same_bits(a, b)

    def test_vector_of_targets_and_lists(self):
        a = train.fit(self.X, self.X[:, 0], QUICK)
        assert same_bits(a, train.fit(self.X.tolist(), self.X.tolist(), QUICK))

    @pytest.mark.parametrize(
        ("x", "y", "options", "kind", "message"),
        [
            (np.ones(5), np.ones(5), {}, DimensionError, r"x has shape \(5,\)"),
            (np.ones((5, 1)), np.ones((5, 1, 1)), {}, DimensionError, r"y \(5, 1, 1\)"),
            (np.ones((5, 1)), np.ones(4), {}, ShapeMismatch, r"\(5,\), got \(4,\)"),
            (np.ones((0, 1)), np.ones(0), {}, InvalidShape, "give some rows"),
            (np.ones((5, 0)), np.ones(5), {}, InvalidShape, r"\(5, 0\)"),
            ([[1], [np.nan]], [1, 2], {}, InvalidValue, r"x\[1, 0\] is nan"),
            ([[1], [1e300]], [1, 2], {}, InvalidValue, r"x\[1, 0\] is inf"),
            ([[1], [2]], [np.nan, np.inf], {}, InvalidValue, "no row has a finite target"),
            (np.ones((4, 1)), np.ones(4), {}, InvalidValue, "validation_fraction=0.1 of 4 rows leaves 4"),
            (np.ones((5, 1)), np.ones(5), {"validation": (np.ones((0, 1)), [])}, InvalidShape, "validation rows"),
            (np.ones((5, 1)), np.ones(5), {"validation": (np.ones((2, 2)), [1, 2])}, ShapeMismatch, "validation rows"),
            (np.ones((5, 1)), np.ones(5), {"validation": (np.ones((2, 1)), np.ones((2, 2)))}, ShapeMismatch, "outputs"),
            (np.ma.array(np.ones((5, 1)), mask=[[1], [0], [0], [0], [0]]), np.ones(5), {}, DtypeError, "x, .*masked"),
            (np.ones((5, 1)) * 1j, np.ones(5), {}, DtypeError, "x is an array of complex128, wanted real numbers"),
            (np.ones((5, 1)), np.ones(5, "M8[D]"), {}, DtypeError, r"y is an array of datetime64\[D\]"),
            (np.ones((5, 1)), ["1"] * 5, {}, DtypeError, "y is an array of <U1"),
            (np.ones((5, 1)), np.array(["1"] * 5, object), {}, DtypeError, "y is an array of object"),
            ([[1.0], [1.0, 2.0]], [1, 2], {}, DtypeError, "x, a list"),
            (np.ones((5, 1)), {1.0}, {}, DtypeError, "y, a set"),
            (np.ones((5, 1)), None, {}, DimensionError, r"y \(\)"),
            (np.ones((5, 1)), np.ones(5), {"validation": (np.ones((2, 1)),)}, InvalidValue, "a tuple of 1"),
            (np.ones((5, 1)), np.ones(5), {"validation": [np.ones((2, 1)), np.ones(2)]}, InvalidValue, "rows"),
            (np.ones((5, 1)), np.ones(5), {"settings": None}, InvalidValue, "settings=None, wanted"),
            (np.ones((5, 1)), np.ones(5), {"settings": {}}, InvalidValue, "settings={}, wanted"),
            (np.ones((5, 1)), np.ones(5), {"classes": "2"}, InvalidValue, "classes='2'"),
            (np.ones((5, 1)), np.ones(5), {"resume": "no"}, InvalidValue, "resume='no'"),
            (np.ones((5, 1)), np.ones(5), {"checkpoint": 3}, InvalidValue, "fit: the path is 3, wanted that of a file"),
            (np.ones((5, 1)), np.ones(5), {"comm": 3}, InvalidValue, "comm is of type int"),
        ],
    )
    def test_refused(self, x, y, options, kind, message):
        with pytest.raises(kind, match=message):
            train.fit(x, y, **({"settings": QUICK} | options))

    def test_numbers_of_any_type_are_taken(self):
        whole = np.arange(20)[:, None]
        a = train.fit(whole.astype(np.float32), whole % 2, QUICK)
        unmasked = np.ma.array(whole.astype("f8"))
        for x, y in (
            (whole, whole % 2 == 1),
            (whole.astype(object), whole % 2),
            (whole.astype(">f8"), whole % 2),
            (unmasked, whole % 2),
            (whole, pd.Series(whole[:, 0] % 2 == 1, dtype="boolean")),
            (pd.DataFrame(whole, dtype="Float64"), whole % 2),
        ):
            assert same_bits(a, train.fit(x, y, QUICK))

    def test_a_nullable_target_that_is_missing_is_left_out(self):
        y = pd.Series([True, None, *[False] * 18], dtype="boolean")
        with pytest.warns(UserWarning, match="1 of 20 rows have no finite target, the first is row 1"):
            train.fit(self.X, y, QUICK)

    def test_a_label_that_float32_does_not_hold(self):
        settings = Settings(loss="cross_entropy", validation_fraction=0)
        with pytest.raises(
            InvalidValue, match=r"the target of row 1 is 999999995904.0, wanted class numbers from 0 to 16777215"
        ):
            train.fit(self.X[:2], [0, 1e12], settings)

    def test_patience_without_validation_rows(self):
        with pytest.raises(InvalidValue, match="patience without validation rows"):
            train.fit(self.X, self.X, Settings(patience=1, validation_fraction=0))

    @pytest.mark.parametrize(
        "settings",
        [
            {"hidden": (0,)}, {"hidden": (2.5,)}, {"epochs": 0}, {"batch_size": 0}, {"batch_size": True},
            {"patience": 0}, {"seed": -1}, {"seed": None}, {"activation": "step"}, {"loss": "hinge"},
            {"schedule": "magic"}, {"validation_fraction": 1.0}, {"validation_fraction": -0.1},
            {"validation_fraction": float("nan")},
        ],
    )  # fmt: skip
    def test_settings_out_of_range(self, settings):
        (name,) = settings
        with pytest.raises(InvalidValue, match=f"Settings: {name}="):
            Settings(**settings)

    @pytest.mark.parametrize("lr", [0, -1, float("nan"), float("inf")])
    def test_rates_out_of_range(self, lr):
        with pytest.raises(InvalidValue, match="lr="):
            Settings(optimizer=SGD(lr))


def test_learning_rate_rises_then_falls():
    rates = list(map(train.rates(Settings(epochs=10, optimizer=SGD(0.5)), 10), range(1, 101)))
    peak = int(np.argmax(rates))
    assert rates[0] == pytest.approx(0.05)
    assert peak == 9
    assert 0.48 < rates[peak] <= 0.5
    assert all(a > b for a, b in zip(rates[peak:], rates[peak + 1 :], strict=False))
    assert 0 < rates[-1] < 0.001


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_predict_matches_numpy_in_any_chunks(monkeypatch, activation):
    rng = np.random.default_rng(0)
    layers, _ = nn.mlp(autograd.new_tape(), (5, 40, 33, 2), rng=rng, activation=activation)
    x = rng.standard_normal((51, 5), dtype=np.float32)
    bend = {"relu": lambda h: np.maximum(h, 0), "tanh": np.tanh, "sigmoid": lambda h: 1 / (1 + np.exp(-h))}[activation]
    h = x.astype(np.float64)
    for layer in layers[:-1]:
        h = bend(h @ layer.w.data.T + layer.b.data)
    expected = h @ layers[-1].w.data.T + layers[-1].b.data
    for rows in (7, 48, 4096):
        monkeypatch.setattr(network, "PREDICT_ROWS", rows)
        np.testing.assert_allclose(train.predict(layers, x, activation), expected, rtol=1e-5, atol=1e-6)


def test_predict_takes_no_activation_for_granted():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3), dtype=np.float32)
    layers, _ = nn.mlp(autograd.new_tape(), (3, 5, 2), rng=rng)
    with pytest.raises(InvalidValue, match=r"predict: no activation between 2 layers; .*settings\.activation"):
        train.predict(layers, x)
    for activation in ("", "softmax"):
        with pytest.raises(InvalidValue, match="activation"):
            train.predict(layers, x, activation)
    for wrong in (None, 3, layers[0], [x], (), "layers"):
        with pytest.raises(InvalidValue, match=r"predict: layers are a .*, wanted a sequence of nn.Linear"):
            train.predict(wrong, x, "relu")
    for wrong in (3.0, None, np.ones(3), np.ones((1, 2, 3))):
        with pytest.raises(DimensionError, match="predict: x has shape"):
            train.predict(layers, wrong, "relu")
    for wrong in (["a"], [[1.0], [1.0, 2.0]], layers[0].w):
        with pytest.raises(DtypeError, match="x"):
            train.predict(layers, wrong, "relu")
    single = layers[:1]
    np.testing.assert_allclose(train.predict(single, x), x @ single[0].w.data.T, rtol=1e-5)


class TestLosses:
    X = np.linspace(-1, 1, 120, dtype=np.float32)[:, None]

    def fit(self, loss, y, **options):
        settings = Settings((16,), epochs=40, batch_size=8, loss=loss, optimizer=optim.Adam(lr=0.02))
        return train.fit(self.X, y, settings, **options)

    @pytest.mark.parametrize(("loss", "least"), [("mse", 0.01), ("mae", 0.05), ("huber", 0.005)])
    def test_numbers(self, loss, least):
        assert self.fit(loss, abs(self.X)).history["validation_loss"][-1] < least

    def test_class_numbers_and_probabilities_are_one(self):
        places = (self.X[:, 0] > -0.3).astype(int) + (self.X[:, 0] > 0.3)
        numbers = self.fit("cross_entropy", places)
        probabilities = self.fit("cross_entropy", np.eye(3)[places])
        assert [layer.b.data.size for layer in numbers.layers] == [16, 3]
        assert numbers.history["validation_accuracy"][-1] > 0.9
        for name, column in numbers.history.items():
            np.testing.assert_allclose(probabilities.history[name], column, rtol=1e-3, err_msg=name)

    def test_labels_independent_of_each_other(self):
        y = np.hstack([self.X > 0, self.X < 0.5])
        result = self.fit("binary_cross_entropy", y)
        assert result.history["validation_accuracy"][-1] > 0.9
        assert np.mean((train.predict(result.layers, self.X, "relu") > 0) == y) > 0.95

    def test_classes_that_no_row_has(self):
        result = self.fit("cross_entropy", np.zeros(120), classes=4)
        assert result.layers[-1].b.data.size == 4

    @pytest.mark.parametrize(
        ("loss", "strange", "options", "message"),
        [
            ("cross_entropy", -1, {}, "the target of row 5 is -1.0, wanted class numbers"),
            ("cross_entropy", 0.5, {}, "the target of row 5 is 0.5, wanted class numbers"),
            ("cross_entropy", 3, {"classes": 3}, "the target of row 5 is 3.0, wanted class numbers from 0 to 2"),
            ("binary_cross_entropy", 1.5, {}, r"the target of row 5 is \[?1.5\]?, wanted numbers from 0 to 1"),
            ("binary_cross_entropy", -0.5, {}, "wanted numbers from 0 to 1"),
        ],
    )
    def test_labels_out_of_range(self, loss, strange, options, message):
        y = np.zeros(120)
        y[5] = strange
        with pytest.raises(InvalidValue, match=message):
            self.fit(loss, y, **options)

    def test_labels_out_of_range_in_validation_rows(self):
        with pytest.raises(InvalidValue, match=r"validation rows: the target of row 1 is 2\.0"):
            self.fit("cross_entropy", np.arange(120) % 2, validation=(self.X[:2], [0, 2]))

    @pytest.mark.parametrize("row", [[0.5, 0.4], [1.5, -0.5]])
    def test_probabilities_that_are_none(self, row):
        y = np.full((120, 2), 0.5)
        y[5] = row
        with pytest.raises(InvalidValue, match=r"the target of row 5 is .*, wanted probabilities that sum to 1"):
            self.fit("cross_entropy", y)
