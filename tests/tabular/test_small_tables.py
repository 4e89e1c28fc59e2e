"""On few rows the network is no worse than simple models, and training never diverges."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.linear_model import RidgeCV
from support.small_tables import KINDS, small_table

from viva_tensor.tabular import linear_start, members, preparing, runs
from viva_tensor.tabular.baselines import least_squares
from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.defaults import settings_for
from viva_tensor.tabular.targets import Number
from viva_tensor.train import training

SHARE = 0.01  # of the target's standard deviation, below which errors do not differ


@pytest.fixture(autouse=True)
def without_boosted_trees(monkeypatch):
    """Spare the time of a baseline that is not asked about."""
    monkeypatch.setattr(runs, "imports_scikit_learn", lambda use: False)


def worse(kind, rows, columns, seed):
    """The logarithm of the network's error on new rows over that of the better of least squares and the mean."""
    table, new = small_table(kind, rows, columns, seed, new=1000)
    run = runs.run(table, "y")
    prepared = preparing.prepare(table, preparing.Task("y"), settings_for(rows))
    train = table.iloc[prepared.split.train]
    features = [prepared.encoding.encode(part) for part in (train, new)]
    baselines = [least_squares(features[0], train["y"].to_numpy())(features[1]), train["y"].mean()]
    actual = new["y"].to_numpy()
    network, *others = (
        float(np.sqrt(np.mean((predicted - actual) ** 2))) + SHARE * float(actual.std())
        for predicted in (run.model.predict(new)["predicted"].to_numpy(), *baselines)
    )
    return math.log(network / min(others))


@pytest.mark.parametrize("rows", [60, 299])
@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_no_worse_than_the_better_baseline_beyond_noise(kind, rows, monkeypatch):
    monkeypatch.setattr(members, "LEAST_ROWS", 300)  # one network, which is at greater risk than several
    logs = np.array([worse(kind, rows, columns, seed) for columns in (1, 5, 20) for seed in range(3)])
    assert logs.mean() < 0.02 + 2 * logs.std(ddof=1) / math.sqrt(len(logs)), np.exp(logs).round(2)
    assert np.exp(np.median(logs)) < 1.03, np.exp(logs).round(2)
    if kind == "bent":
        assert np.exp(logs.mean()) < {60: 0.8, 299: 0.5}[rows], np.exp(logs).round(2)


def test_several_networks_are_no_worse_than_the_better_baseline():
    logs = np.array([worse(kind, 300, 5, seed=0) for kind in ("linear with noise", "noise alone", "bent")])
    assert logs.mean() < 0.0, np.exp(logs).round(2)
    assert logs.max() < 0.1, np.exp(logs).round(2)


def test_with_more_columns_than_rows_the_penalty_is_chosen_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(30, 60)).astype(np.float32), rng.normal(size=30)
    w, b = linear_start._ridge(x, noise)
    new, actual = rng.normal(size=(2000, 60)), rng.normal(size=2000)
    fitted = RidgeCV(alphas=30 * np.logspace(-6, 3, 19)).fit(x, noise)
    errors = [np.sqrt(np.mean((predicted - actual) ** 2)) for predicted in (new @ w[0] + b[0], fitted.predict(new))]
    assert errors[0] < 1.05 * errors[1]
    y = x[:, 0] * 2.0 + 0.1 * noise
    fitted = RidgeCV(alphas=30 * np.logspace(-6, 3, 19) * float(np.var(x, axis=0).mean())).fit(x[:, :5], y)
    np.testing.assert_allclose(linear_start._ridge(x[:, :5], y)[0][0], fitted.coef_, atol=0.02)


def test_one_validation_row_tells_nothing():
    target = Number("y", 0.0, 1.0)
    one = np.zeros((1, 1), np.float32)
    assert not linear_start.is_better(one, one + 1, one, target)
    many = np.zeros((50, 1), np.float32)
    assert linear_start.is_better(many, many + 1, many, target)
    assert not linear_start.is_better(many + 1, many, many, target)


def test_an_interruption_of_the_linear_model_ends_the_run(monkeypatch):
    def press(self, each_step):
        if self.epoch == 1:
            raise KeyboardInterrupt
        advance(self, each_step)

    advance = training.Training.advance
    monkeypatch.setattr(training.Training, "advance", press)
    table = pd.DataFrame({"x": np.arange(60.0), "y": np.arange(60.0) % 2})
    with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="interrupted in epoch 2"):
        runs.run(table, "y", loss="absolute")


@pytest.mark.parametrize("rows", [30, 50, 100, 200])
def test_one_column_of_numbers(rows):
    i = np.arange(rows)
    run = runs.run(pd.DataFrame({"i": i, "y": 2 * i + i % 3}), "y")
    assert run.scores["network"].rmse < 1.05 * run.scores["least squares"].rmse


FINITE = st.floats(-1e300, 1e300) | st.floats(-10, 10) | st.sampled_from([0.0, 1e-300, -1e300, 1e308])


@given(arrays.arrays(np.float64, st.tuples(st.integers(12, 40), st.integers(2, 4)), elements=FINITE))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_finite_table_makes_training_diverge(values):
    table = pd.DataFrame(values, columns=[f"c{i}" for i in range(values.shape[1])])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* begun again with lr=")
        try:
            run = runs.run(table, "c0")
        except DataError:
            return
    assert np.isfinite(run.test["predicted"]).all()
