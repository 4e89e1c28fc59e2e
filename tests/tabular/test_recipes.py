"""Recipes on arrays: what they learn, refuse and keep; their bits, interruptions and best epochs."""

import pickle

import numpy as np
import pytest

import viva_tensor as vt
from viva_tensor import autograd, error, optim
from viva_tensor.tabular.recipes import RealMLP, TabM, training
from viva_tensor.tabular.recipes.network import Predictor, flat
from viva_tensor.tabular.recipes.rows import Rows
from viva_tensor.train import DivergenceError

ROWS = 500
SMALL = {
    "realmlp": RealMLP(hidden=(32, 32), epochs=16, batch_size=64),
    "tabm": TabM(members=4, width=32, bins=8, embedding=4, epochs=12, batch_size=64, lr=5e-3),
    "tabm-mini": TabM(members=4, width=32, bins=8, embedding=4, epochs=12, batch_size=64, lr=5e-3, mini=True),
    "tabm-plain": TabM(members=4, width=32, bins=0, epochs=12, batch_size=64, lr=5e-3),
}
each = pytest.mark.parametrize("recipe", SMALL.values(), ids=SMALL)


@pytest.fixture
def table(rng):
    """Numbers, two, few and many categories, and a number that depends on all of them."""
    x = rng.standard_normal((ROWS, 3)).astype("f4")
    codes = np.stack([rng.integers(0, size, ROWS) for size in (2, 5, 12)], axis=1)
    return x, codes, np.sin(2 * x[:, 0]) + codes[:, 0] + (codes[:, 1] == 2) + codes[:, 2] / 6


def same(one, other):
    return np.array_equal(flat(one.layers), flat(other.layers)) and one.history == other.history


@each
def test_numbers_are_learned(recipe, table):
    x, codes, y = table
    fitted = recipe.fit(x, codes, y, seed=1)
    predicted = fitted.predict(x, codes)
    assert predicted.shape == (ROWS,)
    assert np.mean((predicted - y) ** 2) < 0.25 * y.var()
    errors = fitted.history["validation_error"]
    assert errors[fitted.best_epoch - 1] == min(errors)
    assert [len(column) for column in fitted.history.values()] == [len(errors)] * 4


@each
def test_classes_are_learned_by_name_or_number(recipe, table):
    x, codes, y = table
    number = np.digitize(y, np.quantile(y, (0.3, 0.7)))
    names = np.array(["low", "medium", "high"])[number]
    fitted = recipe.fit(x, codes, names, seed=1)
    assert fitted.labels == ("high", "low", "medium")
    assert np.mean(fitted.predict_classes(x, codes) == names) > 0.6
    probabilities = fitted.predict(x, codes)
    assert probabilities.shape == (ROWS, 3)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    numbered = recipe.fit(x, codes, np.array([1, 2, 0])[number], classes=3, seed=1)
    assert same(numbered, fitted)
    assert numbered.predict_classes(x, codes).dtype.kind == "i"


@each
def test_the_bits_are_the_same_at_any_number_of_threads(recipe, table):
    vt.set_num_threads(1)
    one = recipe.fit(*table, seed=3)
    for threads in (2, 3):
        vt.set_num_threads(threads)
        other = recipe.fit(*table, seed=3)
        assert same(one, other)
        assert np.array_equal(one.predict(*table[:2]), other.predict(*table[:2]))
    assert not same(one, recipe.fit(*table, seed=4))


@each
def test_predictions_do_not_depend_on_how_many_rows_there_are(recipe, table):
    x, codes, _ = table
    fitted = recipe.fit(*table)
    whole = fitted.predict(x, codes)
    for rows in (slice(1), slice(2), slice(7, 70)):
        assert np.allclose(fitted.predict(x[rows], codes[rows]), whole[rows], rtol=1e-5, atol=1e-5)
    again = pickle.loads(pickle.dumps(fitted))  # as scikit-learn's estimators are kept
    assert np.array_equal(again.predict(x, codes), whole)


@each
def test_a_program_of_outputs_is_the_forward_pass(recipe, table):
    x, codes, y = table
    fitted = recipe.fit(x, codes, y)
    inputs = fitted.network.inputs(Rows(x, codes.astype(np.int64)))
    made, tape = [], autograd.new_tape()
    for array in inputs:
        variable, tape = autograd.new_constant(tape, array)
        made.append(variable)
    weights = {}
    for variable in optim.leaves(fitted.layers):
        weights[variable], tape = autograd.new_variable(tape, variable.data)
    outputs, tape = fitted.network.forward(tape, optim.replaced(fitted.layers, weights.__getitem__), made)
    predicted, _ = fitted.network.prediction(tape, outputs)
    predictor = Predictor(fitted.network, fitted.layers, inputs)
    predictor._block = ROWS
    assert np.array_equal(predictor(flat(fitted.layers), inputs), predicted.data)


@each
def test_codes_that_training_rows_lack_count_as_missing(recipe, table):
    x, codes, y = table
    fitted = recipe.fit(x, codes, y)
    missing, unknown = np.full_like(codes, -1), np.full_like(codes, 99)
    assert np.array_equal(fitted.predict(x, missing), fitted.predict(x, unknown))
    assert not np.array_equal(fitted.predict(x, missing), fitted.predict(x, codes))
    moved = recipe.fit(x, codes * 7 + 3, y)  # codes are names
    assert np.array_equal(moved.predict(x, codes * 7 + 3), fitted.predict(x, codes))


@each
def test_tables_of_one_kind_of_columns_and_columns_of_one_value(recipe, table):
    x, codes, y = table
    constant = np.full((ROWS, 1), 3.0, np.float32)
    for numbers, categories in ((x, None), (None, codes), (np.hstack([constant, x]), np.zeros((ROWS, 1), int))):
        fitted = recipe.fit(numbers, categories, y)
        assert np.isfinite(fitted.predict(numbers, categories)).all()
        assert np.mean((fitted.predict(numbers, categories) - y) ** 2) < y.var()


@each
def test_rows_for_validation_are_given_or_drawn(recipe, table, rng):
    x, codes, y = table
    held_out = np.sort(rng.permutation(ROWS)[:100])
    kept = np.delete(np.arange(ROWS), held_out)
    by_number = recipe.fit(x, codes, y, validation=held_out)
    rows = (x[held_out], codes[held_out], y[held_out])
    given = recipe.fit(x[kept], codes[kept], y[kept], validation=rows)
    assert same(by_number, given)
    predicted = given.predict(*rows[:2])
    error_of_rows = np.sqrt(np.mean((predicted - rows[2]) ** 2))
    assert given.history["validation_error"][given.best_epoch - 1] == pytest.approx(error_of_rows)


def test_realmlp_predicts_within_the_targets_that_it_knows(table):
    x, codes, y = table
    fitted = SMALL["realmlp"].fit(x, codes, y)
    predicted = fitted.predict(x * 1e6, codes)
    assert y.min() <= predicted.min() <= predicted.max() <= y.max()


def advanced(monkeypatch, errors, recipe, table):
    """Fit with these errors of validation, one after another."""
    left = iter(errors)
    monkeypatch.setattr("viva_tensor.tabular.recipes.recipe._error", lambda *_: next(left))
    return recipe.fit(*table)


def test_of_equally_good_epochs_realmlp_keeps_the_last_and_tabm_the_first(monkeypatch, table):
    errors = [3.0, 1.0, 2.0, 1.0, 1.5, 1.2]
    realmlp = RealMLP(hidden=(8,), epochs=6)
    tabm = TabM(members=2, width=8, bins=4, embedding=2, epochs=6)
    assert advanced(monkeypatch, errors, realmlp, table).best_epoch == 4
    assert advanced(monkeypatch, errors, tabm, table).best_epoch == 2


def test_tabm_stops_with_the_first_epoch_beyond_its_patience(monkeypatch, table):
    tabm = TabM(members=2, width=8, bins=4, embedding=2, patience=3)
    fitted = advanced(monkeypatch, [2.0, 1.0, *[1.0] * 20], tabm, table)
    assert (fitted.best_epoch, len(fitted.history["epoch"])) == (2, 6)


def test_an_interruption_returns_the_best_so_far(monkeypatch, table):
    recipe, advance = SMALL["realmlp"], training.Training.advance

    def interrupted(self, *arguments):
        if self.epoch == 5:
            raise KeyboardInterrupt
        return advance(self, *arguments)

    monkeypatch.setattr(training.Training, "advance", interrupted)
    with pytest.warns(UserWarning, match="interrupted in epoch 6; the best of 5 epochs is returned"):
        fitted = recipe.fit(*table)
    assert fitted.interrupted
    assert len(fitted.history["epoch"]) == 5
    monkeypatch.setattr(training.Training, "advance", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        recipe.fit(*table)


def test_weights_that_are_not_finite_end_training(monkeypatch, table):
    tabm = TabM(members=2, width=8, bins=4, embedding=2, epochs=6, lr=1e30, clip_norm=None)
    with pytest.raises(DivergenceError, match="in epoch 1; try a smaller learning rate, such as 1e"):
        tabm.fit(*table)
    with pytest.warns(
        UserWarning, match="the validation error became nan in epoch 3; the weights of epoch 1 are returned"
    ):
        fitted = advanced(monkeypatch, [1.0, 2.0, np.nan], RealMLP(hidden=(8,), epochs=6), table)
    assert fitted.best_epoch == 1


def test_an_incomplete_batch_is_left_out_by_realmlp_alone(table):
    x, codes, y = table
    for recipe, steps in ((RealMLP(hidden=(8,), epochs=3, batch_size=64), 18), (SMALL["tabm"], 84)):
        network = recipe.network(Rows(x, codes), None, np.random.default_rng(0))
        layers = network.new(network.inputs(Rows(x, codes)), np.random.default_rng(0)).value
        course = recipe.course(network, 400)
        inputs = [array[:400] for array in network.inputs(Rows(x, codes))]
        target = y[:400, None].astype("f4")
        made = training.Training(network, layers, course, inputs, target, np.random.default_rng(0))
        while not made.ended:
            made.advance(lambda outputs: 1.0, inputs)
        assert made.step.steps == steps


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"x": None, "categories": None}, error.InvalidValue, "neither x nor categories"),
        ({"x": np.full((ROWS, 3), np.nan)}, error.InvalidValue, r"x\[0, 0\] is nan; fill in missing values"),
        ({"x": np.zeros(ROWS)}, error.DimensionError, r"x has shape \(500,\); x is \[rows, columns\]"),
        ({"x": np.full((ROWS, 3), "a")}, error.DtypeError, "x is an array of <U1, wanted real numbers"),
        ({"categories": np.zeros((ROWS, 1))}, error.DtypeError, "array of float64, wanted integers; give codes"),
        (
            {"categories": np.full((ROWS, 1), 2**63, np.uint64)},
            error.InvalidValue,
            "9223372036854775808, beyond",
        ),
        ({"categories": np.ma.masked_less(np.zeros((ROWS, 1), int), 1)}, error.DtypeError, "a masked array"),
        ({"categories": np.zeros((3, 1), int)}, error.ShapeMismatch, "as many rows of x and of categories"),
        ({"y": np.zeros(3)}, error.ShapeMismatch, "give one target for each row"),
        ({"y": np.full(ROWS, np.inf)}, error.InvalidValue, r"y\[0\] is inf, wanted a finite number"),
        (
            {"classes": 2, "y": np.full(ROWS, 2)},
            error.InvalidValue,
            r"y\[0\] is 2.0, wanted the number of a class from 0",
        ),
        (
            {"y": (np.arange(ROWS) % 2 + 1) * 1e300},
            error.InvalidValue,
            "y goes from 1e.300 to 2e.300, whose variance float64",
        ),
        (
            {"y": (np.arange(ROWS) % 2 + 1) * 1e-300},
            error.InvalidValue,
            "y goes from 1e-300 to 2e-300, whose variance float64",
        ),
        ({"classes": 1}, error.InvalidValue, "classes=1, wanted a whole number of at least 2"),
        ({"y": ["a"] * ROWS}, error.InvalidValue, "y holds only 'a'"),
        ({"y": ["a", "b"] * 250, "classes": 3}, error.InvalidValue, "classes=3, and y holds 2 labels"),
        ({"validation": (1, 2)}, error.InvalidValue, "validation is a tuple of 2"),
        ({"validation": [ROWS]}, error.InvalidValue, "row 500 of 500"),
        ({"validation": np.arange(ROWS)}, error.InvalidValue, "0 of 500 rows to train on, 500 to validate"),
        ({"seed": -1}, error.InvalidValue, "seed=-1"),
        ({"progress": "no"}, error.InvalidValue, "progress='no', wanted True or False"),
    ],
)
@pytest.mark.parametrize("name", ["realmlp", "tabm"])
def test_what_cannot_be_learned_is_refused_in_words(name, table, change, kind, message):
    given = dict(zip(("x", "categories", "y"), table, strict=True)) | change
    with pytest.raises(kind, match=message):
        SMALL[name].fit(given.pop("x"), given.pop("categories"), given.pop("y"), **given)


@each
def test_rows_to_predict_are_checked(recipe, table):
    x, codes, y = table
    fitted = recipe.fit(x, codes, y)
    for rows, kind, message in (
        ((x[:, :2], codes), error.InvalidShape, "2 numbers and 3 categories in a row, wanted 3 and 3"),
        ((x,), error.InvalidShape, "3 numbers and 0 categories"),
        ((x * np.nan, codes), error.InvalidValue, "predict: x"),
    ):
        with pytest.raises(kind, match=message):
            fitted.predict(*rows)
    with pytest.raises(error.InvalidValue, match="numbers were learned"):
        fitted.predict_classes(x, codes)


def test_a_table_whose_columns_tell_nothing_is_refused():
    with pytest.raises(error.InvalidValue, match="all columns have one value only"):
        SMALL["tabm"].fit(np.ones((20, 2)), None, np.arange(20))


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (RealMLP, {"hidden": ()}, "hidden="),
        (RealMLP, {"hidden": (0,)}, "hidden=0"),
        (RealMLP, {"lr": 0}, "lr=0"),
        (RealMLP, {"dropout": 1.0}, "dropout=1.0"),
        (RealMLP, {"embedding": 1}, "embedding=1"),
        (RealMLP, {"betas": (0.9, 1.0)}, "β=1.0"),
        (RealMLP, {"weight_decay": -1}, "weight_decay=-1"),
        (TabM, {"members": 0}, "members=0"),
        (TabM, {"bins": -1}, "bins=-1"),
        (TabM, {"mini": "yes"}, "mini='yes'"),
        (TabM, {"patience": 0}, "patience=0"),
        (TabM, {"patience": None}, "patience=None"),
        (TabM, {"members": None}, "members=None"),
        (TabM, {"lr": None}, "lr=None"),
        (RealMLP, {"epochs": None}, "epochs=None"),
        (RealMLP, {"batch_size": None}, "batch_size=None"),
        (TabM, {"validation_fraction": 1}, "validation_fraction=1"),
    ],
)
def test_constants_out_of_range_are_refused(kind, given, message):
    with pytest.raises(error.InvalidValue, match=message):
        kind(**given)


@each
def test_progress_changes_nothing(recipe, table, capsys):
    assert same(recipe.fit(*table), recipe.fit(*table, progress=True))
    assert not capsys.readouterr().err  # not a terminal
