"""On few rows the network is no worse than simple models, and training never diverges."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.small_tables import KINDS, small_table

from viva_tensor.tabular import runs
from viva_tensor.tabular.baselines import least_squares
from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.defaults import settings_for

SHARE = 0.01  # of the target's standard deviation, below which errors do not differ


@pytest.fixture(autouse=True)
def without_boosted_trees(monkeypatch):
    """Spare the time of a baseline that is not asked about."""
    monkeypatch.setattr(runs, "find_spec", lambda name: None)


def worse(kind, rows, columns, seed):
    """The logarithm of the network's error on new rows over that of the better of least squares and the mean."""
    table, new = small_table(kind, rows, columns, seed, new=1000)
    run = runs.run(table, "y")
    prepared = runs.prepare(table, runs.Task("y"), settings_for(rows))
    train = table.iloc[prepared.split.train]
    features = [prepared.encoding.encode(part) for part in (train, new)]
    baselines = [least_squares(features[0], train["y"].to_numpy(), features[1]), train["y"].mean()]
    actual = new["y"].to_numpy()
    network, *others = (
        float(np.sqrt(np.mean((predicted - actual) ** 2))) + SHARE * float(actual.std())
        for predicted in (run.model.predict(new)["predicted"].to_numpy(), *baselines)
    )
    return math.log(network / min(others))


@pytest.mark.parametrize("rows", [60, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_no_worse_than_the_better_baseline_beyond_noise(kind, rows):
    logs = np.array([worse(kind, rows, columns, seed) for columns in (1, 5, 20) for seed in range(4)])
    assert logs.mean() < 0.02 + 2 * logs.std(ddof=1) / math.sqrt(len(logs)), np.exp(logs).round(2)
    assert np.exp(np.median(logs)) < 1.03, np.exp(logs).round(2)
    if kind == "bent":
        assert np.exp(logs.mean()) < {60: 0.8, 300: 0.5}[rows], np.exp(logs).round(2)


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
