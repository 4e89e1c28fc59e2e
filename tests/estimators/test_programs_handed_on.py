"""Fits of a kind hand on their programs: the next one compiles nothing, and learns as if it had."""

import copy
import gc
import pickle
import threading

import numpy as np
import pytest
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
    expected = weights(copy.deepcopy(model).partial_fit(X, y))
    del model
    gc.collect()
    fitted(MLPRegressor(**SHORT | {"random_state": 5}), X, y)
    for one in (twin, read):
        np.testing.assert_array_equal(weights(one.partial_fit(X, y)), expected)


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
    for parameters in ({"hidden_layer_sizes": (300, 500)}, {"dropout": 0.5}):
        fitted(MLPRegressor(**SHORT | parameters), X, y)
    gc.collect()
    assert not reuse.SHELF._kept


def test_the_first_goes_when_there_are_many():
    shelf = Shelf(most=3)
    for number in range(5):
        shelf.put(number, str(number))
    assert [shelf.take(number) for number in range(5)] == [None, None, "2", "3", "4"]
    assert shelf.take(4) is None
