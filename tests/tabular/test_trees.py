"""Boosted trees as arrays, against scikit-learn, which grew them; and files of them that are not whole."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_info

from viva_tensor import kernels, nn
from viva_tensor.tabular import DataError, boosting
from viva_tensor.tabular.boosting import Rows, grow
from viva_tensor.tabular.quantiles import Quantile, between
from viva_tensor.tabular.targets import Classes, Interval, Number
from viva_tensor.tabular.trees import Trees, sum_of, trees_of

TARGETS = {
    "squared": Number("y", 0.0, 1.0),
    "absolute": Number("y", 0.0, 1.0, "mae"),
    "quantile": Number("y", 0.0, 1.0, Quantile(0.8)),
    "counts": Number("y", 0.0, 1.0, nn.poisson_loss),
    "two classes": Classes("y", ("a", "b")),
    "three classes": Classes("y", ("a", "b", "c")),
}


def rows(count, target, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3)).astype(np.float32)
    raw = np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.3 * rng.normal(size=count)
    if isinstance(target, Classes):
        return Rows(x, np.digitize(raw, np.linspace(-0.5, 0.5, target.outputs + 1)[1:-1]).astype(np.float32))
    raw = np.exp(raw).round() if target.loss is nn.poisson_loss else raw
    return Rows(x, np.repeat(raw.astype(np.float32)[:, None], target.outputs, axis=1))


GIVEN = {
    "learning_rate": boosting.RATE,
    "l2_regularization": boosting.L2,
    "min_samples_leaf": boosting.LEAF_ROWS,
    "max_features": boosting.SPLIT_SHARE,
    "early_stopping": False,
    "warm_start": True,
    "random_state": 0,
}


def staged(model, x, y, rounds, weights=None):
    """Fit in the stages of :func:`grow`, each of which draws the features of splits anew."""
    for most in boosting.STAGES:
        model.set_params(max_iter=min(most, rounds)).fit(x, y, sample_weight=weights)
        if most >= rounds:
            return model


def grown_by_scikit_learn(target, train, rounds):
    given = dict(GIVEN)
    if isinstance(target, Classes):
        return staged(HistGradientBoostingClassifier(**given), train.x, train.y.astype(int), rounds)
    names = {"mse": "squared_error", "mae": "absolute_error", nn.poisson_loss: "poisson"}
    loss = names.get(target.loss, "quantile")
    given |= {"quantile": 0.8} if loss == "quantile" else {}
    return staged(HistGradientBoostingRegressor(loss=loss, **given), train.x, train.y[:, 0], rounds)


@pytest.mark.parametrize("name", TARGETS)
def test_outputs_are_those_of_scikit_learn_with_as_many_trees(name):
    target = TARGETS[name]
    train, held_out, new = (rows(count, target, seed) for seed, count in enumerate((400, 150, 100)))
    trees = grow(train, held_out, target)
    each = 1 if target.outputs < 3 else 3
    theirs = grown_by_scikit_learn(target, train, len(trees.root) // each)
    if isinstance(target, Classes):
        probabilities = target.probabilities(trees(new.x).astype(np.float32))
        np.testing.assert_allclose(probabilities, theirs.predict_proba(new.x), rtol=1e-5)
    else:
        outputs = trees(new.x)[:, 0]
        predicted = np.exp(outputs) if target.loss is nn.poisson_loss else outputs
        np.testing.assert_allclose(predicted, theirs.predict(new.x), rtol=1e-12)


def test_as_many_are_grown_as_suit_the_rows_held_out_best():
    target = TARGETS["squared"]
    train, held_out = rows(300, target), rows(100, target, 1)
    trees = grow(train, held_out, target)
    rounds = next(stage for stage in boosting.STAGES if stage > len(trees.root))
    staged = grown_by_scikit_learn(target, train, rounds).staged_predict(held_out.x)
    losses = [np.mean((one - held_out.y[:, 0]) ** 2) for one in staged]
    assert 0 < len(trees.root) == 1 + np.argmin(losses) < rounds


def test_growing_ends_in_time_and_without_rounds_that_do_harm():
    target = TARGETS["squared"]
    train, held_out = rows(300, target), rows(100, target, 1)
    assert len(grow(train, held_out, target, until=0.0).root) <= boosting.STAGES[0]
    wrong = held_out._replace(y=-held_out.y)
    assert len(grow(train, wrong, target).root) < boosting.STAGES[0]


@pytest.mark.parametrize(("rows", "slower", "expected"), [(9_999, 1, 1), (10_000, 1, 2), (10_000, 9, 1)])
def test_trees_have_one_thread_on_few_rows_and_where_several_wait_for_each_other(rows, slower, expected, monkeypatch):
    monkeypatch.setattr(boosting, "_seconds", lambda threads: slower if threads > 1 else 1)
    with kernels.num_threads(2), boosting.tree_threads(rows):
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"} == {expected}


def test_a_look_at_how_long_small_trees_take_changes_nothing_that_others_see():
    pools, drawn = threadpool_info(), np.random.get_state()[1].copy()
    assert 0 < boosting._seconds(1) < np.inf
    assert threadpool_info() == pools
    assert np.array_equal(np.random.get_state()[1], drawn)


def test_weights_are_scikit_learns():
    target = TARGETS["squared"]
    train, held_out = rows(300, target), rows(100, target, 1)
    weights = np.random.default_rng(2).uniform(0, 2, 300)
    trees = grow(train._replace(weights=weights), held_out, target)
    theirs = staged(HistGradientBoostingRegressor(**GIVEN), train.x, train.y[:, 0], len(trees.root), weights)
    np.testing.assert_allclose(trees(held_out.x)[:, 0], theirs.predict(held_out.x), rtol=1e-12)


def test_sums_multiples_and_other_columns():
    target = TARGETS["three classes"]
    train, held_out = rows(300, target), rows(100, target, 1)
    one, other = grow(train, held_out, target), grow(rows(300, target, 5), held_out, target)
    x = held_out.x
    np.testing.assert_allclose(sum_of([one, other.scaled(2.0)])(x), one(x) + 2 * other(x), rtol=1e-12)
    wide = np.insert(x, [0, 1], 7.0, axis=1)  # 7, first, 7, second, third
    np.testing.assert_array_equal(one.of_columns(np.array([1, 3, 4]), 5)(wide), one(x))
    assert one(x[:0]).shape == (0, 3)
    many = np.tile(x, (40, 1))
    np.testing.assert_array_equal(one(many), np.tile(one(x), (40, 1)))  # in blocks
    np.testing.assert_array_equal(np.concatenate([one(x[start : start + 3]) for start in range(0, 100, 3)]), one(x))


def test_trees_for_losses_that_scikit_learn_has():
    assert boosting.can_grow(TARGETS["quantile"])
    assert not boosting.can_grow(Number("y", 0.0, 1.0, "huber"))
    assert boosting.can_grow(TARGETS["counts"])
    assert not boosting.can_grow(Interval("y", 0.0, 1.0, between("mse", 0.9)))
    assert not boosting.can_grow(Classes("y", tuple(map(str, range(21)))))


def test_targets_that_are_too_few_to_grow_on():
    none, one = np.zeros((4, 1), np.float32), np.eye(4, 1, dtype=np.float32)
    assert boosting.can_learn(TARGETS["squared"], none)
    assert [boosting.can_learn(TARGETS["counts"], y) for y in (none, one)] == [False, True]
    assert [boosting.can_learn(TARGETS["two classes"], y[:, 0]) for y in (none, one)] == [False, True]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("value", None, "trees need arrays feature, left"),
        ("threshold", np.zeros(3, np.int32), "trees need arrays"),
        ("depth", np.zeros(1, np.int64), "trees need arrays"),
        ("value", np.zeros(2), "trees of 2 nodes and 1 roots hold 3 of"),
        ("output", np.zeros(2, np.int32), "hold 2 of output"),
        ("left", np.array([1, 1, 3], np.int32), "an index of left that is not below 3"),
        ("feature", np.array([-1, 0, 0], np.int32), "an index of feature that is not below 2"),
        ("output", np.array([1], np.int32), "an index of output that is not below 1"),
        ("depth", np.array(4), "trees of 3 nodes cannot be 4 deep"),
    ],
)
def test_arrays_that_are_not_whole_are_refused(name, value, message):
    tree = Trees(
        feature=np.array([1, 0, 0], np.int32), left=np.array([1, 1, 2], np.int32), right=np.array([2, 1, 2], np.int32),
        threshold=np.array([0.5, 0, 0]), value=np.array([0.0, -1, 2]), root=np.array([0], np.int32),
        output=np.array([0], np.int32), base=np.zeros(1), features=2, depth=1,
    )  # fmt: skip
    arrays = tree.arrays()
    np.testing.assert_array_equal(trees_of(arrays)(np.eye(2, dtype=np.float32)), [[-1.0], [2.0]])
    arrays.pop(name) if value is None else arrays.update({name: value})
    with pytest.raises(DataError, match=message):
        trees_of(arrays)
