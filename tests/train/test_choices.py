"""What settings choose: losses and metrics as functions of the tape, classes that are text, and the dtype."""

import dataclasses
import inspect
from functools import partial, wraps

import numpy as np
import pandas as pd
import pytest

from viva_tensor import autograd, nn, optim
from viva_tensor.error import DtypeError, InvalidValue
from viva_tensor.train import Settings, checkpointing, fit, settings

RNG = np.random.default_rng(3)
X = RNG.standard_normal((240, 2))
Y = X[:, :1] * 2 - X[:, 1:]
KIND = np.where(X[:, 0] + X[:, 1] > 0, "up", "down")
QUICK = Settings(hidden=(8,), epochs=4, batch_size=32)
CLASSES = Settings(hidden=(8,), epochs=10, batch_size=16, loss="cross_entropy")


def arrays(fitted):
    return [variable.data for layer in fitted.layers for variable in layer]


def mean_square(tape, output, target):
    difference, tape = autograd.sub(tape, output, target)
    square, tape = autograd.mul(tape, difference, difference)
    return autograd.mean(tape, square)


def scaled(deltas, tape, output, target):
    return nn.huber_loss(tape, output, target, delta=deltas[0])


class TestLoss:
    def test_a_function_of_the_tape_trains_as_its_equal_does(self):
        own, usual = fit(X, Y, Settings(loss=mean_square)), fit(X, Y, Settings())
        assert own.history["validation_loss"] == pytest.approx(usual.history["validation_loss"], rel=1e-3)

    def test_a_loss_of_the_library_is_the_one_of_its_name(self):
        assert Settings(loss=nn.huber_loss) == Settings(loss="huber")

    def test_what_is_no_loss_is_refused(self):
        for loss in ("squared", 3, None):
            with pytest.raises(InvalidValue, match=r"wanted one of mse.*or a function of the tape"):
                Settings(loss=loss)
        with pytest.raises(InvalidValue, match=r"returned a variable of shape \(128, 1\), wanted a scalar"):
            fit(X, Y, Settings(loss=lambda tape, output, target: autograd.sub(tape, output, target)))
        with pytest.raises(InvalidValue, match="returned a NoneType; return a scalar variable and the longer tape"):
            fit(X, Y, Settings(loss=lambda tape, output, target: None))

    def test_a_checkpoint_of_a_function_goes_on_with_it_alone(self, tmp_path):
        path = tmp_path / "run.safetensors"
        settings = Settings(loss=mean_square, epochs=3, schedule="constant")
        fit(X, Y, settings, checkpoint=path)
        whole = fit(X, Y, Settings(loss=mean_square, epochs=5, schedule="constant"))
        longer = Settings(loss=mean_square, epochs=5, schedule="constant")
        assert all(map(np.array_equal, arrays(fit(X, Y, longer, checkpoint=path, resume=True)), arrays(whole)))
        with pytest.raises(InvalidValue, match=r"other loss=\S*mean_square"):
            fit(X, Y, Settings(epochs=5, schedule="constant"), checkpoint=path, resume=True)

    @pytest.mark.parametrize(
        "made",
        [
            lambda delta: partial(nn.huber_loss, delta=delta),
            lambda delta: partial(scaled, (delta, None)),
            lambda delta: lambda tape, output, target: nn.huber_loss(tape, output, target, delta=delta),
            lambda delta: lambda tape, output, target, delta=delta: nn.huber_loss(tape, output, target, delta=delta),
            lambda delta: wraps(nn.huber_loss)(lambda *given: nn.huber_loss(*given, delta=delta)),
            lambda delta: partial(partial(nn.huber_loss, delta=delta)),
        ],
    )
    def test_a_checkpoint_knows_what_a_function_holds(self, made, tmp_path, monkeypatch):
        path, older = tmp_path / "run.safetensors", tmp_path / "older.safetensors"
        fit(X, Y, Settings(loss=made(0.5), epochs=2), checkpoint=path)
        fit(X, Y, Settings(loss=made(np.float64(0.5)), epochs=2), checkpoint=path, resume=True)
        with pytest.raises(InvalidValue, match=r"other loss=\S*(partial|<lambda>|huber_loss).*0\.5"):
            fit(X, Y, Settings(loss=made(0.75), epochs=2), checkpoint=path, resume=True)
        monkeypatch.setattr(checkpointing, "described", settings._named)
        fit(X, Y, Settings(loss=made(0.5), epochs=2), checkpoint=older)
        monkeypatch.undo()
        fit(X, Y, Settings(loss=made(0.5), epochs=2), checkpoint=older, resume=True)

    def test_ranks_know_functions_by_their_names_alone(self):
        def told(rank):
            return lambda tape, output, target: nn.mse_loss(tape, output, target) if rank else None

        first, second = (Settings(metric=told(rank)).plain() for rank in (0, 1))
        assert first == second

    def test_a_count_that_a_metric_keeps_does_not_tell_it_from_itself(self, tmp_path):
        def counting():
            calls, seen = 0, []

            def metric(tape, output, target):
                nonlocal calls
                calls += 1
                seen.append(calls)
                return nn.mse_loss(tape, output, target)

            return metric

        path = tmp_path / "run.safetensors"
        fit(X, Y, Settings(metric=counting(), epochs=2, schedule="constant"), checkpoint=path)
        longer = Settings(metric=counting(), epochs=3, schedule="constant")
        assert len(fit(X, Y, longer, checkpoint=path, resume=True).history["epoch"]) == 3


class TestMetric:
    def test_it_is_that_of_the_validation_rows_and_tells_the_best_epoch(self):
        settings = Settings(hidden=(8,), epochs=12, batch_size=32, metric="mae", patience=12)
        fitted = fit(X[:200], Y[:200], settings, validation=(X[200:], Y[200:]))
        metric = fitted.history["validation_metric"]
        assert fitted.best_epoch == 1 + int(np.argmin(metric))
        error = np.abs(fitted.predict(X[200:]) - Y[200:]).mean()
        assert min(metric) == pytest.approx(error, rel=1e-5)

    def test_a_function_that_wants_the_first_epoch_gets_it(self):
        def nothing(tape, output, target):
            return autograd.new_constant(tape, np.float32(0))

        settings = Settings(hidden=(8,), epochs=9, patience=3, metric=nothing)
        fitted = fit(X, Y, settings)
        assert (fitted.best_epoch, len(fitted.history["epoch"])) == (1, 4)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_one_that_is_not_finite_is_an_error(self, value):
        def wrong(tape, output, target):
            return autograd.new_constant(tape, np.float32(value))

        with pytest.raises(InvalidValue, match=f"the metric of the validation rows is {value}"):
            fit(X, Y, Settings(metric=wrong))

    def test_it_needs_validation_rows(self):
        with pytest.raises(InvalidValue, match="metric without validation rows"):
            fit(X, Y, Settings(metric="mae", validation_fraction=0.0))


class TestLabels:
    @pytest.mark.parametrize("kind", ["list", "array", "object", "str", "category", "string"])
    def test_text_is_learned_as_the_numbers_of_its_classes(self, kind):
        made = {"list": list, "array": np.array, "object": lambda y: np.array(y, object)}
        text = fit(X, made.get(kind, lambda y: pd.Series(y, dtype=kind))(KIND.tolist()), CLASSES)
        numbers = fit(X, KIND == "up", CLASSES)
        assert text.labels == ("down", "up")
        assert all(map(np.array_equal, arrays(text), arrays(numbers)))
        assert np.mean(text.predict_classes(X) == KIND) > 0.95
        assert np.array_equal(numbers.predict_classes(X), text.predict_classes(X) == "up")

    def test_one_that_pandas_lacks_is_left_out(self):
        text = pd.Series(KIND, dtype="string")
        text[3] = pd.NA
        with pytest.warns(UserWarning, match="1 of 240 rows have no finite target, the first is row 3"):
            assert fit(X, text, CLASSES).labels == ("down", "up")

    def test_missing_ones_are_left_out_and_validation_has_the_same_classes(self):
        text = np.array([None, *KIND[1:].tolist()], object)
        with pytest.warns(UserWarning, match="1 of 200 rows have no finite target, the first is row 0"):
            fitted = fit(X[:200], text[:200], CLASSES, validation=(X[200:], KIND[200:]))
        with pytest.warns(UserWarning, match="row 0"):
            same = fit(X[:200], [np.nan, *(KIND[1:200] == "up")], CLASSES, validation=(X[200:], KIND[200:] == "up"))
        assert fitted.history == same.history

    @pytest.mark.parametrize(
        ("y", "settings", "options", "error", "words"),
        [
            (KIND, QUICK, {}, DtypeError, "y holds text such as 'down', wanted real numbers; train with Settings"),
            (KIND, CLASSES, {"validation": (X[:2], ["up", "side"])}, InvalidValue,
             "validation rows: the target of row 1 is 'side'; wanted one of 'down', 'up'"),
            (KIND, CLASSES, {"classes": 9}, InvalidValue, "classes=9, and y holds 2 labels"),
            (KIND, CLASSES, {"validation": (X[:2], [0, 1])}, InvalidValue, "targets are numbers, and others are text"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_learned_is_refused(self, y, settings, options, error, words):
        with pytest.raises(error, match=words):
            fit(X, y, settings, **options)

    def test_numbers_have_no_classes(self):
        with pytest.raises(InvalidValue, match="loss='mse' learns no classes"):
            fit(X, Y, QUICK).predict_classes(X)

    def test_several_logits_tell_several_answers(self):
        settings = Settings(hidden=(8,), epochs=20, batch_size=16, loss="binary_cross_entropy")
        answers = np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1)
        assert np.mean(fit(X, answers, settings).predict_classes(X) == answers) > 0.95

    def test_one_logit_tells_two_classes(self):
        settings = Settings(hidden=(8,), epochs=10, batch_size=16, loss="binary_cross_entropy")
        fitted = fit(X, KIND == "up", settings)
        assert np.mean(fitted.predict_classes(X) == (KIND == "up")) > 0.95


class TestDtype:
    def test_float64_is_computed_in_float64(self):
        settings = Settings(hidden=(8,), epochs=20, batch_size=16, dtype="float64", optimizer=optim.Adam(lr=0.01))
        fitted = fit(X, Y, settings)
        assert {array.dtype for array in arrays(fitted)} == {np.dtype(np.float64)}
        assert fitted.predict(X).dtype == np.float64
        hidden, last = fitted.layers
        by_hand = np.maximum(X @ hidden.w.data.T + hidden.b.data, 0) @ last.w.data.T + last.b.data
        np.testing.assert_allclose(fitted.predict(X), by_hand, rtol=1e-12, atol=1e-12)

    def test_what_float32_cannot_hold_is_told_apart(self):
        x = 1 + 1e-12 * np.arange(64.0)[:, None]
        settings = Settings(hidden=(), epochs=1, validation_fraction=0.0, dtype="float64")
        assert len(np.unique(fit(x, x, settings).predict(x))) > 60

    def test_a_checkpoint_goes_on_in_its_dtype(self, tmp_path):
        path = tmp_path / "run.safetensors"
        settings = Settings(hidden=(8,), epochs=4, dtype="float64")
        whole = fit(X, Y, settings)
        fit(X, Y, settings, checkpoint=path, callback=lambda values: values["epoch"] == 2)
        assert all(map(np.array_equal, arrays(fit(X, Y, settings, checkpoint=path, resume=True)), arrays(whole)))
        with pytest.raises(InvalidValue, match="other dtype=float64"):
            fit(X, Y, Settings(hidden=(8,), epochs=4), checkpoint=path, resume=True)


class TestMistakes:
    def test_what_is_no_layers_to_start_from_is_refused(self):
        for start in ([1, 2], object()):
            with pytest.raises(InvalidValue, match="wanted layers; give the layers of a trained network"):
                fit(X, Y, QUICK, start=start)

    def test_a_setting_that_does_not_exist_is_named_with_the_nearest(self):
        with pytest.raises(TypeError, match="no setting 'epoch'; did you mean epochs"):
            Settings(epoch=3)
        with pytest.raises(TypeError, match="no setting 'qqq'; they are hidden, activation"):
            Settings(qqq=3)

    def test_settings_show_their_names_and_defaults(self):
        shown = inspect.signature(Settings).parameters
        assert list(shown) == [field.name for field in dataclasses.fields(Settings)]
        assert shown["epochs"].default == Settings().epochs

    def test_one_width_is_no_tuple(self):
        with pytest.raises(InvalidValue, match=r"hidden=16, wanted a tuple of integers such as \(16,\)"):
            Settings(hidden=16)
