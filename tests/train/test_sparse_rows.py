"""Rows given by their entries: what they mean, that networks learn from them as from arrays, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from viva_tensor import kernels, optim
from viva_tensor.error import DtypeError, IndexOutOfBounds, InvalidShape, InvalidValue, ShapeMismatch
from viva_tensor.train import Network, Settings, SparseRows, fit, parameters

EXACT = Settings(hidden=(16, 8), optimizer=optim.Adam(lr=1e-3), epochs=3, batch_size=32, dtype="float64", seed=3)


def drawn(rng, starts, rows=150, entries=5, features=40):
    indices = rng.integers(0, features, (rows, entries))
    return SparseRows(indices, rng.standard_normal((rows, entries)), features, starts)


@pytest.fixture(params=[None, (), (0, 7, 8, 20), (3, 39)], ids=["entries", "one run", "runs", "runs from 3"])
def rows(request, rng):
    return drawn(rng, request.param)


def test_features_are_the_sums_of_entries_from_them_to_the_end_of_their_run(rows):
    begins = range(rows.features) if rows.starts is None else rows.starts
    run = np.searchsorted(list(begins), np.arange(rows.features), side="right")  # how many begin up to a feature
    wanted = np.zeros(rows.shape)
    for i in range(len(rows)):
        for j, s in zip(rows.indices[i].astype(int), rows.values[i], strict=True):
            for c in range(j + 1):
                if run[c] == run[j]:
                    wanted[i, c] += s
    np.testing.assert_allclose(rows.dense(), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)], ids=str)
def test_networks_learn_as_from_the_features(rows, hidden, rng):
    y = rng.standard_normal((len(rows), 2))
    settings = replace(EXACT, hidden=hidden)
    sparse, dense = fit(rows, y, settings), fit(rows.dense(), y, settings)
    for name, column in dense.history.items():
        assert sparse.history[name] == pytest.approx(column, rel=1e-9), name
    for one, other in zip(parameters(sparse.layers), parameters(dense.layers), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
    assert sparse.layers[0].w.data.flags.c_contiguous


def test_classes_with_weights_and_rows_held_out(rows, rng):
    y, weights = rng.integers(0, 3, len(rows)), rng.uniform(0, 2, len(rows))
    settings = replace(EXACT, loss="cross_entropy", batch_size=20, patience=3)
    order = rng.permutation(len(rows))
    given = {"weights": weights, "rows": order[:100], "validation": order[100:], "classes": 3}
    sparse, dense = fit(rows, y, settings, **given), fit(rows.dense(), y, settings, **given)
    assert sparse.history["validation_loss"] == pytest.approx(dense.history["validation_loss"], rel=1e-9)
    assert sparse.history["validation_accuracy"] == dense.history["validation_accuracy"]
    assert sparse.best_epoch == dense.best_epoch


def test_training_goes_on_from_layers_and_from_a_checkpoint(rows, rng, tmp_path):
    y = rng.standard_normal((len(rows), 1))
    start = fit(rows, y, EXACT).layers
    settings = replace(EXACT, schedule="constant")
    whole = fit(rows, y, settings, start=start)
    assert whole.history["train_loss"][0] < fit(rows, y, EXACT).history["train_loss"][0]
    file = tmp_path / "state"
    fit(rows, y, replace(settings, epochs=2), start=start, checkpoint=file)
    resumed = fit(rows, y, settings, start=start, checkpoint=file, resume=True)
    for one, same in zip(parameters(resumed.layers), parameters(whole.layers), strict=True):
        np.testing.assert_array_equal(one, same)
    shifted = SparseRows(rows.indices, rows.values, rows.features, (1, 2))
    with pytest.raises(InvalidValue, match="other rows"):
        fit(shifted, y, settings, start=start, checkpoint=file, resume=True)


def test_a_source_may_give_them(rows, rng):
    y = rng.standard_normal((len(rows), 1))

    class Source:
        shape = rows.shape

        def __init__(self, x):
            self.x = x

        def epoch(self, rng):
            order = rng.permutation(len(y))
            for some in np.split(order, [10, 75]):
                yield self.x[some], y[some]

    held_out = rows[:20], y[:20]
    sparse = fit(Source(rows), settings=EXACT, validation=held_out)
    dense = fit(Source(rows.dense()), settings=EXACT, validation=(held_out[0].dense(), y[:20]))
    assert sparse.history["train_loss"] == pytest.approx(dense.history["train_loss"], rel=1e-9)
    assert sparse.history["validation_loss"] == pytest.approx(dense.history["validation_loss"], rel=1e-9)


def test_outputs_of_a_network_in_pieces(rng):
    rows = drawn(rng, (0, 10), rows=5000)
    layers = fit(rows[:64], np.zeros((64, 1)), EXACT).layers
    network, dense = Network("relu"), Network("relu")
    np.testing.assert_allclose(network(layers, rows), dense(layers, rows.dense()), rtol=1e-10, atol=1e-12)


def test_the_same_bits_on_any_number_of_threads(rows, rng):
    y = rng.standard_normal((len(rows), 1))
    settings = replace(EXACT, hidden=(64, 16), batch_size=64, dtype="float32")
    found = []
    for threads in (1, 2, 3):
        with kernels.num_threads(threads):
            found.append(parameters(fit(rows, y, settings).layers))
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([[0, 3]], [[1.0, 2.0]], 3), IndexOutOfBounds, r"^SparseRows: index 3 is out of bounds for size 3; .* 0 to 2"),
        (([[0, -1]], [[1.0, 2.0]], 3), IndexOutOfBounds, r"index -1 is out of bounds .*indices\[0, 1\]"),
        (([[0.5]], [[1.0]], 3), InvalidValue, r"indices\[0, 0\] is 0.5"),
        (([[np.nan]], [[1.0]], 3), InvalidValue, r"indices\[0, 0\] is nan"),
        (([[0]], [[1.0, 2.0]], 3), InvalidShape, r"indices have shape \(1, 1\), values \(1, 2\)"),
        (([0], [1.0], 3), InvalidShape, r"indices have shape \(1,\)"),
        (([[0]], [[1.0]], 0), InvalidValue, "features=0"),
        (([[0]], [[1.0]], 1 << 25), InvalidValue, "wanted at most 16777216"),
        (([[]], [[]], 3), InvalidShape, r"some of value 0"),
        (([[0]], [[1.0]], 3, (2, 1)), InvalidValue, "SparseRows: the start 1 follows 2"),
        (([[0]], [[1.0]], 3, (3,)), IndexOutOfBounds, "SparseRows: index 3 is out of bounds for size 3"),
        (([[0]], [[1.0]], 3, (0.5,)), InvalidValue, "SparseRows: the start 0.5"),
        (([[0]], [[1.0]], 3, 0), InvalidValue, "SparseRows: starts=0"),
    ],
)
def test_what_is_no_such_matrix_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        SparseRows(*arguments)


@pytest.mark.parametrize(
    "some", [3, None, True, "a", 1.5, [[1, 2]], [150], np.ones(7, bool), (slice(None), slice(1)), (0, 1)], ids=str
)
def test_what_is_no_choice_of_rows_is_refused(some, rng):
    with pytest.raises(InvalidValue, match=r"SparseRows: of 150 rows those at .*; give a slice"):
        drawn(rng, None)[some]


def test_rows_are_chosen_as_those_of_an_array_even_none(rows):
    dense = rows.dense()
    for some in (slice(0), slice(140, 200), [3, 3, -1], [], np.arange(150) % 2 == 0, slice(None, None, -1)):
        np.testing.assert_array_equal(rows[some].dense(), dense[some])


def test_values_beyond_a_dtype_are_infinite_without_a_warning_and_other_dtypes_are_refused():
    rows = SparseRows([[0], [1]], np.array([[1e300], [1.0]]), 2)
    assert rows.astype(np.float32).dense().tolist() == [[np.inf, 0.0], [0.0, 1.0]]
    assert rows.values[0, 0] == 1e300
    for wrong in (int, complex, "nothing", None):
        with pytest.raises(DtypeError, match=r"SparseRows: .*wanted float32 or float64"):
            rows.astype(wrong)


def test_a_trained_network_predicts_them(rows, rng):
    settings = replace(EXACT, loss="cross_entropy")
    fitted = fit(rows, rng.choice(["a", "b"], len(rows)), settings)
    np.testing.assert_allclose(fitted.predict(rows), fitted.predict(rows.dense()), rtol=1e-10, atol=1e-12)
    assert fitted.predict_classes(rows).tolist() == fitted.predict_classes(rows.dense()).tolist()
    assert fitted.predict(rows[:0]).shape == (0, 2)
    for features in (39, 41):  # whose indices might all be right
        other = SparseRows(np.minimum(rows.indices, 38), rows.values, features)
        with pytest.raises(ShapeMismatch, match=rf"predict: expected shape \(150, 40\), got \(150, {features}\)"):
            fitted.predict(other)


def test_a_source_gives_all_pieces_of_one_kind(rng):
    y, settings = np.zeros((150, 1)), replace(EXACT, epochs=2)
    rows = drawn(rng, (0, 7))
    others = [
        SparseRows(rows.indices, rows.values, 40, (0, 8)),
        SparseRows(rows.indices, rows.values, 40),
        drawn(rng, (0, 7), entries=4),
        drawn(rng, (0, 7), features=41),
        rows.dense(),
    ]

    class Source:
        shape = 300, 40

        def __init__(self, *pieces, calm=0):
            self.pieces, self.calm = pieces, calm  # how often all pieces are like the first

        def epoch(self, rng):
            self.calm -= 1
            for one in self.pieces:
                yield (one if self.calm < 0 else self.pieces[0]), y

    fit(Source(rows, rows), settings=settings)
    for pieces in [(rows, other) for other in others] + [(others[-1], rows)]:
        for calm in (0, 2):
            with pytest.raises(InvalidShape, match="fit on rows of a source: a piece of"):
                fit(Source(*pieces, calm=calm), settings=settings)


def test_values_that_are_not_finite_are_named_by_row_and_feature():
    rows = SparseRows([[0, 1], [2, 1]], [[1.0, 2.0], [np.inf, 3.0]], features=3)
    with pytest.raises(InvalidValue, match=r"x\[1, 2\] is inf"):
        fit(rows, [0.0, 1.0], Settings(validation_fraction=0.0))


def test_validation_rows_of_another_kind_are_refused(rows, rng):
    y = rng.standard_normal((len(rows), 1))
    for x in (rows.dense(), SparseRows(rows.indices, rows.values, rows.features, (1,))):
        with pytest.raises(InvalidValue, match="the same runs"):
            fit(rows, y, EXACT, validation=(x, y))
    with pytest.raises(ShapeMismatch, match="same features"):
        fit(rows, y, EXACT, validation=(SparseRows(rows.indices, rows.values, 41, rows.starts), y))
