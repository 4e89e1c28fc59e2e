"""Fits of a kind hand on their programs: the next one compiles nothing, and learns as if it had."""

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network
from support.estimators import SHORT, fitted

from viva_tensor import program
from viva_tensor.sklearn import MLPClassifier, MLPRegressor, reuse
from viva_tensor.sklearn.reuse import Shelf

SOLVERS = ("adam", "sgd", "lbfgs")


@pytest.fixture
def compiled(monkeypatch):
    """How many programs were compiled since the shelf was empty."""
    made = []
    for name in ("compile_step", "compile_objective"):
        original = getattr(program, name)
        monkeypatch.setattr(
            program, name, lambda *given, original=original, **named: made.append(1) or original(*given, **named)
        )
    gc.collect()
    reuse.SHELF._kept.clear()
    yield made
    reuse.SHELF._kept.clear()


def weights(model):
    return np.concatenate([one.ravel() for one in (*model.coefs_, *model.intercepts_)])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", [MLPRegressor, MLPClassifier])
def test_the_next_fit_compiles_nothing_and_learns_the_same(diabetes, compiled, kind, solver):
    X, y = diabetes
    y = y if kind is MLPRegressor else (y > 0) * 1
    first = weights(fitted(kind(**SHORT, solver=solver), X, y))
    fitted(kind(**SHORT | {"random_state": 5}, solver=solver), X[:300], y[:300])  # other weights, rows and moments
    again = weights(fitted(kind(**SHORT, solver=solver), X, y))
    assert len(compiled) == 1
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize(
    "change", [{"alpha": 0.1}, {"activation": "tanh"}, {"beta_1": 0.5}, {"hidden_layer_sizes": (7,)}]
)
def test_a_fit_of_another_kind_has_its_own(diabetes, compiled, change):
    fitted(MLPRegressor(**SHORT), *diabetes)
    fitted(MLPRegressor(**SHORT | change), *diabetes)
    assert len(compiled) == 2


def test_an_estimator_that_lives_keeps_its_own(diabetes, compiled):
    X, y = diabetes
    alone = MLPRegressor(**SHORT).partial_fit(X, y)
    expected = weights(copy.deepcopy(alone).partial_fit(X, y))
    compiled.clear()
    other = fitted(MLPRegressor(**SHORT | {"random_state": 5}), X, y)
    assert len(compiled) == 1
    np.testing.assert_array_equal(weights(alone.partial_fit(X, y)), expected)
    del other


def test_copies_go_on_when_the_first_is_gone(diabetes, compiled):
    X, y = diabetes
    model = MLPRegressor(**SHORT).partial_fit(X, y)
    twin, read = copy.copy(model), pickle.loads(pickle.dumps(model))
    twin.coefs_, twin.intercepts_ = ([one.copy() for one in kind] for kind in (model.coefs_, model.intercepts_))
    expected = weights(copy.deepcopy(model).partial_fit(X, y))
    del model
    gc.collect()
    for _ in range(3):
        MLPRegressor(**SHORT | {"random_state": 5}).partial_fit(X, -100 * y)
    for one in (twin, read):
        np.testing.assert_array_equal(weights(one.partial_fit(X, y)), expected)


def test_a_small_sparse_fit_before_a_larger_one(rng, compiled):
    """What was recorded with as many rows as a layer has units took the layer's weights for a batch."""
    X, y = sparse.random(40, 6, density=0.4, random_state=0, format="csr"), rng.standard_normal(40)
    for count in (5, 1, 40):
        fitted(MLPRegressor(**SHORT | {"hidden_layer_sizes": (5, 5)}, solver="lbfgs"), X[:count], y[:count])
    assert len(compiled) == 0  # by these two functions: programs of sparse rows are forward passes with gradients
    (kept,) = reuse.SHELF._kept
    assert kept[0][4]  # of sparse rows


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("number", [np.float32(0.1), np.float16(0.1)])
def test_numbers_of_fewer_digits_are_other_numbers(diabetes, compiled, solver, number):
    alone = weights(fitted(MLPRegressor(**SHORT, solver=solver, alpha=number, beta_1=number), *diabetes))
    reuse.SHELF._kept.clear()
    fitted(MLPRegressor(**SHORT, solver=solver, alpha=0.1, beta_1=0.1), *diabetes)
    after = weights(fitted(MLPRegressor(**SHORT, solver=solver, alpha=number, beta_1=number), *diabetes))
    np.testing.assert_array_equal(after, alone)


def test_moments_stay_with_an_estimator_whose_step_changes(diabetes, compiled):
    """Another one takes the step in which they were."""
    found = []
    for kind in (MLPRegressor, neural_network.MLPRegressor):
        model = kind(**SHORT).partial_fit(*diabetes)
        model.set_params(alpha=0.5).partial_fit(*diabetes)
        fitted(kind(**SHORT | {"random_state": 5}), *diabetes)
        found.append(weights(model.partial_fit(*diabetes)))
    np.testing.assert_allclose(*found, rtol=1e-9)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fits_in_several_threads_at_once(diabetes, compiled):
    X, y = diabetes
    expected = {seed: weights(fitted(MLPRegressor(**SHORT | {"random_state": seed}), X, y)) for seed in range(4)}
    wrong = []

    def fit_again(seed):
        for _ in range(8):
            found = weights(MLPRegressor(**SHORT | {"random_state": seed}).fit(X, y))
            if not np.array_equal(found, expected[seed]):
                wrong.append(seed)

    threads = [threading.Thread(target=fit_again, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_large_ones_and_those_with_dropout_are_not_kept(rng, compiled):
    X, y = rng.standard_normal((30, 3)), rng.standard_normal(30)
    for parameters in ({"hidden_layer_sizes": (300, 1000)}, {"dropout": 0.5}):
        fitted(MLPRegressor(**SHORT | parameters), X, y)
    many = np.repeat(X, 1000, axis=0), np.repeat(y, 1000)
    for parameters in ({"solver": "lbfgs"}, {"batch_size": 30_000}):
        fitted(MLPRegressor(**SHORT | {"max_iter": 1} | parameters), *many)
    gc.collect()
    assert not reuse.SHELF._kept


def test_garbage_collected_while_one_is_taken():
    class Cycle:
        def __init__(self, shelf):
            self.own = self
            weakref.finalize(self, shelf.put, 9, "program").atexit = False

    shelf, held, before = Shelf(most=8), [], gc.get_threshold()
    for number in range(7):
        shelf.put(number, str(number))
    gc.set_threshold(50)
    try:
        for number in range(5000):
            held += [(number,) * 7, (number,) * 8]  # so that new tuples are allocated
            Cycle(shelf)
            assert shelf.take(77) is None
    finally:
        gc.set_threshold(*before)


def test_the_first_goes_when_there_are_many():
    shelf = Shelf(most=3)
    for number in range(5):
        shelf.put(number, str(number))
    assert [shelf.take(number) for number in range(5)] == [None, None, "2", "3", "4"]
    assert shelf.take(4) is None
