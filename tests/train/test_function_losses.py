"""Losses that users give as functions, which are recorded once for batches of any size."""

import numpy as np
import pytest

from viva_tensor import autograd, error, nn, train
from viva_tensor.train.rows import Rows, split

RNG = np.random.default_rng(0)
X = RNG.normal(size=(160, 3))
Y = X.sum(axis=1, keepdims=True)
SETTINGS = {"hidden": (8,), "epochs": 2, "batch_size": 32, "validation_fraction": 0.0}


def of_values(tape, output, target):
    """Take the tangent's values from the array of the target, which is that of the first batch for good."""
    values, tape = autograd.new_constant(tape, np.tanh(target.data))
    return nn.mse_loss(tape, output, values)


def of_count(tape, output, target):
    """Divide a sum by the number of rows that the first batch has."""
    difference, tape = autograd.sub(tape, output, target)
    total, tape = autograd.sum_of_squares(tape, difference)
    return autograd.div(tape, total, float(len(output.data)))


def on_the_tape(tape, output, target):
    half, tape = autograd.mul(tape, target, 0.5)
    return nn.huber_loss(tape, output, half, 2.0)


@pytest.mark.parametrize("rows", [33, 64, 130, 160])
@pytest.mark.parametrize("function", [of_values, of_count])
def test_one_that_computes_from_arrays_is_refused(function, rows):
    told = rf"loss={function.__name__} makes a constant of arrays, and is called but once; compute it"
    with pytest.raises(error.InvalidValue, match=told):
        train.fit(X[:rows], Y[:rows], train.Settings(loss=function, **SETTINGS))


@pytest.mark.parametrize("rows", [2, 31, 160])
def test_one_on_the_tape_is_taken(rows):
    fitted = train.fit(X[:rows], Y[:rows], train.Settings(loss=on_the_tape, **SETTINGS))
    assert np.isfinite(fitted.history["train_loss"]).all()


@pytest.mark.parametrize(
    ("function", "wrong"), [(nn.poisson_loss, -50.0), (nn.gamma_loss, -1.0), (nn.focal_loss, -1.0)]
)
def test_targets_of_all_rows_are_checked(function, wrong):
    y = np.ones((160, 1))
    y[150] = wrong
    with pytest.raises(error.InvalidValue, match=r"150.*; rows are counted among those to train on, from 0"):
        train.fit(X, y, train.Settings(loss=function, **SETTINGS))


def test_one_with_other_arguments_is_named():
    with pytest.raises(error.InvalidValue, match=r"gaussian_loss takes other arguments; make it a function"):
        train.fit(X, Y, train.Settings(loss=nn.gaussian_loss, **SETTINGS))


def test_copies_of_a_row_are_all_trained_on_or_all_held_out():
    drawn = np.random.default_rng(3).integers(0, 160, 160)
    for fraction in (0.01, 0.2, 0.99):
        kept, held_out = split(Rows(X, Y, drawn), fraction, seed=1)
        assert not np.intersect1d(kept.indices, held_out.indices).size
        assert np.array_equal(np.sort(np.concatenate([kept.indices, held_out.indices])), np.sort(drawn))
        assert 1 <= held_out.count <= max(5, round(160 * fraction))
        assert kept.count >= 1
    with pytest.raises(error.InvalidValue, match="all 9 rows are row 4; give others"):
        train.fit(X, Y, train.Settings(hidden=(4,), epochs=1), rows=[4] * 9)


def test_labels_may_be_a_column():
    labels, settings = np.array(["a", "b"] * 80), train.Settings(loss="cross_entropy", hidden=(4,), epochs=2)
    one, other = (train.fit(X, y, settings) for y in (labels, labels[:, None]))
    assert one.labels == other.labels == ("a", "b")
    assert np.array_equal(one.layers[0].w.data, other.layers[0].w.data)


def test_what_is_missing_in_a_list_of_labels_is_no_label():
    labels = ["a", "b", float("nan"), "b"] * 40
    with pytest.warns(UserWarning, match="40 of 160 rows have no finite target, the first is row 2"):
        fitted = train.fit(X, labels, train.Settings(loss="cross_entropy", hidden=(4,), epochs=1))
    assert fitted.labels == ("a", "b")
