import math

import numpy as np
import pandas as pd
import pytest

from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.target_records import target_from_dict, target_to_dict
from viva_tensor.tabular.targets import Classes, Number, fit_target, values_of

KINDS = Classes("kind", ("a", "b", "c"))


class TestNumber:
    def test_scores(self):
        scores = Number("y", 0, 1).score(np.array([0.0, 0.0, 3.0, 5.0]), np.array([0.0, 0.0, 3.0, 1.0]))
        assert scores == pytest.approx((2, 1, 1 - 16 / 18))

    def test_r2_of_a_constant_is_undefined(self):
        assert math.isnan(Number("y", 0, 1).score(np.array([2.0]), np.array([1.0])).r2)

    def test_decode_undoes_encode(self):
        target = fit_target("y", np.array([1e6, 1e6 + 3, 1e6 + 9]), ())
        values = np.array([1e6 + 1, 1e6 - 50])
        np.testing.assert_allclose(target.decode(target.encode(values))["predicted"], values, rtol=1e-7)

    def test_absurd_values_are_clipped(self):
        assert Number("y", 0.0, 1e-300).encode(np.array([1.0, -1.0, np.nan])).tolist() == [
            [1e6],
            [-1e6],
            [pytest.approx(np.nan, nan_ok=True)],
        ]

    @pytest.mark.parametrize("values", [[1e308, -1e308, 1e308], [5.0, 5.0]])
    def test_nothing_to_learn(self, values):
        with pytest.raises(DataError, match="'y'"):
            fit_target("y", np.array(values), ())


class TestClasses:
    def test_values_are_places_in_the_sorted_labels(self):
        values, labels = values_of(pd.Series(["b", None, "a", "c", "b"]), "class")
        assert labels == ("a", "b", "c")
        assert values.tolist() == pytest.approx([1, np.nan, 0, 2, 1], nan_ok=True)

    @pytest.mark.parametrize(
        ("column", "labels"),
        [
            (pd.array([True, None, False], dtype="boolean"), ("False", "True")),
            (pd.Categorical([2, None, 1]), ("1", "2")),
            ([3.0, np.nan, 1.0], ("1", "3")),
            (["1", 1, 2], ("1", "2")),
        ],
    )
    def test_labels(self, column, labels):
        assert values_of(pd.Series(column), "class")[1] == labels

    def test_probabilities_are_softmax_without_overflow(self):
        logits = np.array([[0.0, 0.0, math.log(2)], [2000.0, 0.0, -2000.0]], np.float32)
        np.testing.assert_allclose(KINDS.probabilities(logits), [[0.25, 0.25, 0.5], [1, 0, 0]], rtol=1e-6)
        assert KINDS.decode(logits)["predicted"].tolist() == ["c", "a"]

    def test_log_loss_of_a_probability_of_zero_is_finite(self):
        assert KINDS.score(np.array([1.0]), np.array([[1.0, 0.0, 0.0]])).log_loss == pytest.approx(23 * math.log(2))

    @pytest.mark.parametrize(
        ("values", "labels", "message"),
        [([1.0, 1.0], ("a", "b"), r"constant \(b\)"), ([0.0, 1.0, 2.0], ("a", "b", "c"), "3 classes for 3 training")],
    )
    def test_nothing_to_learn(self, values, labels, message):
        with pytest.raises(DataError, match=message):
            fit_target("kind", np.array(values), labels)


@pytest.mark.parametrize("target", [Number("y", 1.5, 2.0), KINDS])
def test_record_gives_the_target_again(target):
    assert target_from_dict(target_to_dict(target)) == target


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": "magic", "name": "y", "mean": 0, "std": 1},
        {"kind": "number", "name": "y", "mean": 0, "std": 0},
        {"kind": "number", "name": "y", "mean": math.nan, "std": 1},
        {"kind": "number", "name": "y", "mean": "a", "std": 1},
        {"kind": "classes", "name": "y", "labels": ["a"]},
        {"kind": "classes", "name": "y"},
    ],
)
def test_foreign_record(record):
    with pytest.raises(DataError, match="not the description of a target"):
        target_from_dict(record)
