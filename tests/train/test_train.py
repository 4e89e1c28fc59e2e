"""Networks that are fitted: what they learn, when they stop, which losses they have and what they predict."""

import dataclasses
import io
import sys

import numpy as np
import pytest
import scipy.sparse
from support.fits import QUICK, fit_line, same_bits, weights

from viva_tensor import autograd, nn, optim, train
from viva_tensor.error import DimensionError, DtypeError, InvalidShape, InvalidValue
from viva_tensor.optim import SGD
from viva_tensor.train import Settings, network, training


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
        settings = Settings(hidden=(8, 8), epochs=9, batch_size=16, optimizer=SGD(1e30, 0.9))
        with (
            pytest.raises(train.DivergenceError, match=r"epoch \d of 9; try a smaller learning rate, such as 1e\+26$"),
            pytest.warns(
                UserWarning, match=r"fit: the loss became .* begun again with lr=1e\+2[789], clipping grad"
            ) as said,
        ):
            train.fit(x, x, settings, validation=(x, x))
        assert len(said) == 3

    def test_after_divergence_a_tenth_of_the_rate_is_tried(self):
        x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
        settings = Settings(hidden=(8, 8), epochs=60, batch_size=16, optimizer=SGD(10.0, 0.9))
        with pytest.warns(UserWarning, match="begun again with lr=1, clipping gradients"):
            fitted = train.fit(x, x, settings)
        calmer = dataclasses.replace(settings, optimizer=fitted.settings.optimizer)
        assert calmer.optimizer.lr < 10
        assert np.array_equal(fitted.layers[0].w.data, train.fit(x, x, calmer).layers[0].w.data)

    def test_an_interruption_returns_what_was_reached(self, monkeypatch):
        x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
        advance = training.Training.advance

        def press(self, each_step):
            if self.epoch == 2:
                raise KeyboardInterrupt
            advance(self, each_step)

        settings = dataclasses.replace(QUICK, schedule="constant")
        monkeypatch.setattr(training.Training, "advance", press)
        with pytest.warns(UserWarning, match="interrupted in epoch 3; what 2 epochs reached is returned"):
            fitted = train.fit(x, x, settings)
        monkeypatch.undo()
        two = train.fit(x, x, dataclasses.replace(settings, epochs=2))
        assert np.array_equal(fitted.layers[0].w.data, two.layers[0].w.data)
        assert len(fitted.history["epoch"]) == 2

    def test_an_interruption_at_any_line_leaves_whole_epochs(self):
        x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
        settings = dataclasses.replace(QUICK, schedule="constant", patience=9)
        whole = {n: train.fit(x, abs(x), dataclasses.replace(settings, epochs=n)) for n in (1, 2)}
        code, left = training.Training.advance.__code__, -1

        def press(frame, event, _):
            nonlocal left
            if frame.f_code is not code:
                return None
            left -= frame.f_locals["self"].epoch > 0
            if not left:
                raise KeyboardInterrupt
            return press

        for line in range(1, 99):
            left = line
            sys.settrace(press)
            try:
                with pytest.warns(UserWarning, match="interrupted"):
                    fitted = train.fit(x, abs(x), settings)
            finally:
                sys.settrace(None)
            number = len(fitted.history["epoch"])
            assert fitted.history == whole[number].history
            assert fitted.best_epoch == whole[number].best_epoch
            assert same_bits(fitted, whole[number])
            if number == 2:
                return
        raise AssertionError

    def test_training_goes_on_from_layers(self):
        x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
        first = train.fit(x, x, QUICK)
        more = train.fit(x, x, QUICK, start=first.layers)
        assert more.history["train_loss"][0] < first.history["train_loss"][0]
        with pytest.raises(InvalidShape, match=r"start has arrays of .* give layers of the same widths"):
            train.fit(x, x, dataclasses.replace(QUICK, hidden=(3,)), start=first.layers)

    def test_a_callback_sees_each_epoch_and_may_stop(self):
        x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
        seen = []
        settings = dataclasses.replace(QUICK, schedule="constant", epochs=9)
        fitted = train.fit(x, x, settings, callback=lambda values: seen.append(values) or len(seen) == 3)
        assert [one["epoch"] for one in seen] == fitted.history["epoch"] == [1, 2, 3]
        assert [one["train_loss"] for one in seen] == fitted.history["train_loss"]
        assert same_bits(fitted, train.fit(x, x, dataclasses.replace(settings, epochs=3)))

    def test_rows_for_validation_are_not_trained_on(self):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(120, 5)).astype(np.float32), rng.normal(size=(120, 1)).astype(np.float32)
        by_index = train.fit(x, y, QUICK, validation=np.arange(80, 120))
        apart = train.fit(x[:80], y[:80], QUICK, validation=(x[80:], y[80:]))
        assert by_index.history == apart.history
        assert same_bits(by_index, apart)
        with pytest.raises(InvalidValue, match="row 5 is both to train on and for validation"):
            train.fit(x, y, QUICK, rows=range(10), validation=range(5, 20))
        with pytest.raises(InvalidValue, match="all 120 rows are for validation; leave some to train on"):
            train.fit(x, y, QUICK, validation=range(120))

    def test_numpys_truth_stops_as_well(self):
        x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
        fitted = train.fit(x, x, QUICK, callback=lambda values: values["train_loss"] < np.float64(1e9))
        assert len(fitted.history["epoch"]) == 1
        with pytest.raises(InvalidValue, match="callback='stop', wanted a function of the values of an epoch"):
            train.fit(x, x, QUICK, callback="stop")

    def test_an_interruption_while_rows_are_validated_leaves_the_epoch_before(self):
        x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
        calls = []

        def metric(tape, output, target):
            calls.append(len(calls))
            if len(calls) == 3:
                raise KeyboardInterrupt
            return nn.mae_loss(tape, output, target)

        settings = dataclasses.replace(QUICK, schedule="constant", epochs=6, metric=metric)
        with pytest.warns(UserWarning, match="interrupted in epoch 3; what 2 epochs reached is returned"):
            fitted = train.fit(x, x, settings)
        calls[:] = [0] * 9
        whole = train.fit(x, x, settings, callback=lambda values: values["epoch"] == 2)
        assert fitted.history == whole.history
        assert same_bits(fitted, whole)

    def test_sparse_matrices_of_scipy_are_pointed_the_way(self):
        x = scipy.sparse.csr_array(np.eye(8))
        with pytest.raises(DtypeError, match=r"a csr_array of SciPy; give x\.toarray\(\), or train\.SparseRows"):
            train.fit(x, np.ones(8), QUICK)

    def test_a_fit_predicts_with_its_own_activation(self):
        x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
        fitted = train.fit(x, x, dataclasses.replace(QUICK, activation="tanh"))
        assert np.array_equal(fitted.predict(x), train.predict(fitted.layers, x, "tanh"))

    def test_validation_loss_that_overflows_is_divergence(self):
        x = np.ones((4, 1), np.float32)
        with pytest.raises(train.DivergenceError, match="epoch 1 of 3"), pytest.warns(UserWarning, match="begun again"):
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

    def test_without_a_console_there_is_no_bar(self, monkeypatch):
        monkeypatch.setattr(sys, "stderr", None)
        x = np.ones((8, 1), np.float32)
        assert train.fit(x, x, QUICK, progress=True).best_epoch > 0

    @pytest.mark.parametrize("columns", [70, 80, 100, 140])
    def test_progress_bar_leaves_room_for_its_bar(self, monkeypatch, columns):
        terminal = io.StringIO()
        terminal.isatty = lambda: True
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda file: (columns, 24))
        x = np.ones((50_000, 1), np.float32)
        train.fit(x, x, dataclasses.replace(QUICK, hidden=(1,), batch_size=4096), validation=(x, x), progress=True)
        lines = [line for line in terminal.getvalue().split("\r") if "|" in line]
        assert all(len(line.strip()) <= columns and len(line.split("|")[1]) >= 10 for line in lines), lines
        assert ("loss=" in lines[-1]) == (columns >= 80)


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


def test_learning_rate_rises_then_falls():
    rates = list(map(train.rates(Settings(epochs=10, optimizer=SGD(0.5)), 10), range(1, 101)))
    peak = int(np.argmax(rates))
    assert rates[0] == pytest.approx(0.02)
    assert peak == 24  # of a short run, a quarter
    assert 0.42 < rates[peak] <= 0.5
    assert all(a > b for a, b in zip(rates[peak:], rates[peak + 1 :], strict=False))
    assert 0 < rates[-1] < 0.001
    long = list(map(train.rates(Settings(epochs=100, optimizer=SGD(0.5)), 10), range(1, 1001)))
    assert int(np.argmax(long)) == 99
    assert int(np.argmax(list(map(train.rates(Settings(epochs=9), 300), range(1, 2701))))) == 299  # an epoch


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
