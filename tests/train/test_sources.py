"""Rows from a source: those of arrays, in pieces."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from viva_tensor.error import InvalidShape, InvalidValue
from viva_tensor.train import Settings, fit

SETTINGS = Settings(hidden=(8,), epochs=3, batch_size=16, validation_fraction=0.0)
RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 3)).astype(np.float32)
Y = X[:, :1] - 2 * X[:, 1:2]


class Pieces:
    """Arrays in the order of a permutation, in pieces of some rows."""

    def __init__(self, x, y, rows):
        self.x, self.y, self.rows = x, y, rows
        self.shape = x.shape

    def epoch(self, rng):
        order = rng.permutation(len(self.x))
        for start in range(0, len(order), self.rows):
            which = order[start : start + self.rows]
            yield self.x[which], self.y[which]


def arrays(fitted):
    return [variable.data for layer in fitted.layers for variable in layer]


@pytest.mark.parametrize("rows", [5, 16, 37, 200, 1000])
def test_the_network_is_that_of_the_arrays_bit_for_bit(rows):
    whole, pieces = fit(X, Y, SETTINGS), fit(Pieces(X, Y, rows), settings=SETTINGS)
    assert all(np.array_equal(a, b) for a, b in zip(arrays(whole), arrays(pieces), strict=True))
    assert pieces.history["train_loss"] == pytest.approx(whole.history["train_loss"], rel=1e-6)
    assert pieces.history["learning_rate"] == whole.history["learning_rate"]


def test_targets_of_one_axis_are_those_of_one_column():
    one, column = (fit(Pieces(X, y, 64), settings=SETTINGS) for y in (Y[:, 0], Y))
    assert all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(column), strict=True))


def test_a_source_may_fill_the_same_arrays_anew():
    class Buffered(Pieces):
        def epoch(self, rng):
            x, y = np.empty((50, 3), np.float32), np.empty((50, 1), np.float32)
            for x[:], y[:] in super().epoch(rng):
                yield x, y

    one, other = (fit(kind(X, Y, 50), settings=SETTINGS) for kind in (Buffered, Pieces))
    assert all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(other), strict=True))


def test_classes_with_validation_rows():
    classes = (X[:, 0] > 0).astype(np.float32)
    settings = Settings(hidden=(8,), loss="cross_entropy", epochs=5, batch_size=16, patience=3)
    fitted = fit(Pieces(X[:150], classes[:150], 40), settings=settings, classes=2, validation=(X[150:], classes[150:]))
    same = fit(X, classes, settings, classes=2, rows=np.arange(150), validation=np.arange(150, 200))
    assert fitted.history["validation_accuracy"] == same.history["validation_accuracy"]


def test_an_interrupted_run_goes_on_from_its_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"
    whole = fit(Pieces(X, Y, 64), settings=SETTINGS)
    fit(Pieces(X, Y, 64), settings=SETTINGS, checkpoint=path, callback=lambda values: values["epoch"] == 2)
    resumed = fit(Pieces(X, Y, 64), settings=SETTINGS, checkpoint=path, resume=True)
    assert all(np.array_equal(a, b) for a, b in zip(arrays(whole), arrays(resumed), strict=True))
    with pytest.raises(InvalidValue, match="other rows"):
        fit(Pieces(X + 1, Y, 64), settings=SETTINGS, checkpoint=path, resume=True)
    longer = Pieces(np.tile(X, (2, 1)), np.tile(Y, (2, 1)), 64)
    longer.epoch = lambda rng: iter([*Pieces(X, Y, 64).epoch(rng)] * 2)  # whose first piece is the same
    with pytest.raises(InvalidValue, match="other rows"):
        fit(longer, settings=SETTINGS, checkpoint=path, resume=True)


def test_a_digest_of_its_own_tells_a_source_from_others(tmp_path):
    class Known(Pieces):
        def __init__(self, x, digest):
            super().__init__(x, Y, 64)
            self.digest = digest

    path = tmp_path / "run.safetensors"
    fit(Known(X, "one"), settings=SETTINGS, checkpoint=path)
    fit(Known(X[::-1], "one"), settings=SETTINGS, checkpoint=path, resume=True)  # of which no row is looked at
    for other in (Known(X, "two"), Pieces(X, Y, 64)):
        with pytest.raises(InvalidValue, match="other rows"):
            fit(other, settings=SETTINGS, checkpoint=path, resume=True)
    with pytest.raises(InvalidValue, match="the digest of the source is 3; give it text, such as the hexdigest"):
        fit(Known(X, 3), settings=SETTINGS)


def spoiled(x, where, value):
    x = x.copy()
    x[where] = value
    return x


class Short(Pieces):
    def epoch(self, rng):
        yield from list(super().epoch(rng))[:-1]


class Endless(Pieces):
    def epoch(self, rng):
        while True:
            yield from super().epoch(rng)


class Turning:
    """A source whose targets become others, the second time that its rows are asked for or later."""

    def __init__(self, x, y, others, times=2):
        self.x, self.y, self.others, self.times, self.shape = x, y, others, times, x.shape

    def epoch(self, rng):
        self.times -= 1
        yield self.x, self.y if self.times > 0 else self.others


class Bare(Pieces):
    def epoch(self, rng):
        yield self.x


class Shapeless:
    def epoch(self, rng):
        yield X, Y


class Nothing(Pieces):
    def epoch(self, rng):
        list(super().epoch(rng))  # and no yield


class Failing(Pieces):
    def epoch(self, rng):
        yield from list(super().epoch(rng))[:2]
        raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("source", "options", "error", "words"),
    [
        (Pieces(spoiled(X, (3, 1), np.nan), Y, 50), {}, InvalidValue, r"x\[\d+, 1\] is nan"),
        pytest.param(
            Pieces(X, spoiled(Y, 3, np.inf), 50), {}, InvalidShape, "49 of its rows with a target",
            marks=pytest.mark.filterwarnings("ignore:.*no target that is finite"),
        ),
        (Short(X, Y, 64), {}, InvalidValue, "has 192 rows in an epoch, and said 200"),
        (Endless(X, Y, 64), {}, InvalidValue, "rows or more in an epoch, and said 200"),
        (Turning(X, Y, np.hstack([Y, Y])), {}, InvalidShape, "a piece of another kind than the first; .* outputs"),
        (Bare(X, Y, 64), {}, InvalidValue, r"yields a ndarray; yield features and targets, \(x, y\)"),
        (Shapeless(), {}, InvalidValue, r"shape of the source is None; give it \(rows, features\)"),
        (Failing(X, Y, 64), {}, OSError, "the disk is gone"),
        (Nothing(X, Y, 64), {}, InvalidValue, r"the epoch of the source is a NoneType; yield features and targets"),
        (Pieces(X, Y, 64), {"y": Y}, InvalidValue, "y beside a source"),
        (Pieces(X, Y, 64), {"rows": [1]}, InvalidValue, "rows beside a source"),
        (Pieces(X, Y, 64), {"validation": [1]}, InvalidValue, r"give validation=\(x, y\)"),
        (Pieces(X, Y, 64), {"settings": Settings(patience=2)}, InvalidValue, "patience without validation rows"),
        (Pieces(X, Y[:, 0] > 0, 64), {"settings": Settings(loss="cross_entropy")}, InvalidValue, "give classes="),
        (X, {}, InvalidValue, "x without y"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_words(source, options, error, words):
    with pytest.raises(error, match=words):
        fit(source, **{"settings": SETTINGS, **options})


def test_rows_that_become_bad_later_are_refused_as_they_come():
    with pytest.raises(InvalidValue, match="no row has a finite target"):
        fit(Turning(X, Y, np.nan * Y, times=4), settings=SETTINGS)
    shares = (Y > 0).astype(np.float32)
    with pytest.raises(InvalidValue, match="numbers from 0 to 1"):
        fit(Turning(X, shares, 5 * shares, times=4), settings=replace(SETTINGS, loss="binary_cross_entropy"))


@pytest.mark.filterwarnings("ignore:.*begun again")
def test_rows_that_are_said_to_repeat_are_looked_at_when_they_make_training_diverge():
    source = Turning(X, Y, np.nan * Y, times=4)
    source.repeats = True
    with pytest.raises(InvalidValue, match="no row has a finite target"):
        fit(source, settings=SETTINGS)


@pytest.mark.parametrize("weight", [2.0**101, 1e300, 2.0**-101])
def test_weights_of_a_source_that_no_ratio_tells_are_refused(weight):
    class Weighted(Pieces):
        def epoch(self, rng):
            for x, y in super().epoch(rng):
                yield x, y, np.full(len(x), weight)

    with pytest.raises(InvalidValue, match=r"the weight of row 0 of a piece is .*; only ratios count"):
        fit(Weighted(X, Y, 64), settings=SETTINGS)


def test_a_table_with_a_column_called_epoch_is_no_source():
    assert len(fit(pd.DataFrame({"epoch": X[:, 0]}), Y, SETTINGS).layers) == 2
