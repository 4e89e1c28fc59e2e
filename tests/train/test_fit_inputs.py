"""Rows, targets and settings that a fit takes or refuses."""

import numpy as np
import pandas as pd
import pytest
from support.fits import QUICK, same_bits

from viva_tensor import train
from viva_tensor.error import DimensionError, DtypeError, InvalidShape, InvalidValue, ShapeMismatch
from viva_tensor.optim import SGD
from viva_tensor.train import Settings


class TestInputs:
    X = np.linspace(-1, 1, 20)[:, None]

    @pytest.mark.parametrize("strange", [np.nan, np.inf, 1e300])
    def test_rows_without_target_are_left_out_with_a_warning(self, strange):
        y = abs(self.X)
        y[[7, 11]] = strange
        told = "no finite target" if np.isnan(strange) else "no target that is finite in float32"
        with pytest.warns(UserWarning, match=rf"2 of 20 rows have {told}, the first is row 7"):
            a = train.fit(self.X, y, QUICK)
        b = train.fit(np.delete(self.X, [7, 11], axis=0), np.delete(y, [7, 11], axis=0), QUICK)
        assert same_bits(a, b)

    def test_vector_of_targets_and_lists(self):
        a = train.fit(self.X, self.X[:, 0], QUICK)
        assert same_bits(a, train.fit(self.X.tolist(), self.X.tolist(), QUICK))

    @pytest.mark.parametrize(
        ("x", "y", "options", "kind", "message"),
        [
            (np.ones(5), np.ones(5), {}, DimensionError, r"x has shape \(5,\)"),
            (np.ones((5, 1)), np.ones((5, 1, 1)), {}, DimensionError, r"y \(5, 1, 1\)"),
            (np.ones((5, 1)), np.ones(4), {}, ShapeMismatch, r"\(5,\), got \(4,\)"),
            (np.ones((0, 1)), np.ones(0), {}, InvalidShape, "give some rows"),
            (np.ones((5, 0)), np.ones(5), {}, InvalidShape, r"\(5, 0\)"),
            ([[1], [np.nan]], [1, 2], {}, InvalidValue, r"x\[1, 0\] is nan"),
            ([[1], [1e300]], [1, 2], {}, InvalidValue, r"x\[1, 0\] is inf"),
            ([[1], [2]], [np.nan, np.inf], {}, InvalidValue, "no row has a finite target"),
            (np.ones((4, 1)), np.ones(4), {}, InvalidValue, "validation_fraction=0.1 of 4 rows leaves 4"),
            (np.ones((5, 1)), np.ones(5), {"validation": (np.ones((0, 1)), [])}, InvalidShape, "validation rows"),
            (np.ones((5, 1)), np.ones(5), {"validation": (np.ones((2, 2)), [1, 2])}, ShapeMismatch, "validation rows"),
            (np.ones((5, 1)), np.ones(5), {"validation": (np.ones((2, 1)), np.ones((2, 2)))}, ShapeMismatch, "outputs"),
            (np.ma.array(np.ones((5, 1)), mask=[[1], [0], [0], [0], [0]]), np.ones(5), {}, DtypeError, "x, .*masked"),
            (np.ones((5, 1)) * 1j, np.ones(5), {}, DtypeError, "x is an array of complex128, wanted real numbers"),
            (np.ones((5, 1)), np.ones(5, "M8[D]"), {}, DtypeError, r"y is an array of datetime64\[D\]"),
            (np.ones((5, 1)), ["1"] * 5, {}, DtypeError, "y holds text such as .1., wanted real numbers"),
            (np.ones((5, 1)), np.array(["1"] * 5, object), {}, DtypeError, "y holds text such as"),
            ([[1.0], [1.0, 2.0]], [1, 2], {}, DtypeError, "x, a list"),
            (np.ones((5, 1)), {1.0}, {}, DtypeError, "y, a set"),
            (np.ones((5, 1)), None, {}, InvalidValue, "x without y"),
            (np.ones((5, 1)), np.ones(5), {"validation": (np.ones((2, 1)),)}, InvalidValue, "a tuple of 1"),
            (np.ones((5, 1)), np.ones(5), {"validation": [np.ones((2, 1)), np.ones(2)]}, InvalidValue, "rows"),
            (np.ones((5, 1)), np.ones(5), {"settings": None}, InvalidValue, "settings=None, wanted"),
            (np.ones((5, 1)), np.ones(5), {"settings": {}}, InvalidValue, "settings={}, wanted"),
            (np.ones((5, 1)), np.ones(5), {"classes": "2"}, InvalidValue, "classes='2'"),
            (np.ones((5, 1)), np.ones(5), {"resume": "no"}, InvalidValue, "resume='no'"),
            (np.ones((5, 1)), np.ones(5), {"checkpoint": 3}, InvalidValue, "fit: the path is 3, wanted that of a file"),
            (np.ones((5, 1)), np.ones(5), {"comm": 3}, InvalidValue, "comm is of type int"),
        ],
    )
    def test_refused(self, x, y, options, kind, message):
        with pytest.raises(kind, match=message):
            train.fit(x, y, **({"settings": QUICK} | options))

    def test_numbers_of_any_type_are_taken(self):
        whole = np.arange(20)[:, None]
        a = train.fit(whole.astype(np.float32), whole % 2, QUICK)
        unmasked = np.ma.array(whole.astype("f8"))
        for x, y in (
            (whole, whole % 2 == 1),
            (whole.astype(object), whole % 2),
            (whole.astype(">f8"), whole % 2),
            (unmasked, whole % 2),
            (whole, pd.Series(whole[:, 0] % 2 == 1, dtype="boolean")),
            (pd.DataFrame(whole, dtype="Float64"), whole % 2),
        ):
            assert same_bits(a, train.fit(x, y, QUICK))

    def test_a_nullable_target_that_is_missing_is_left_out(self):
        y = pd.Series([True, None, *[False] * 18], dtype="boolean")
        with pytest.warns(UserWarning, match="1 of 20 rows have no finite target, the first is row 1"):
            train.fit(self.X, y, QUICK)

    def test_a_label_that_float32_does_not_hold(self):
        settings = Settings(loss="cross_entropy", validation_fraction=0)
        with pytest.raises(
            InvalidValue, match=r"the target of row 1 is 999999995904.0, wanted class numbers from 0 to 16777215"
        ):
            train.fit(self.X[:2], [0, 1e12], settings)

    def test_patience_without_validation_rows(self):
        with pytest.raises(InvalidValue, match="patience without validation rows"):
            train.fit(self.X, self.X, Settings(patience=1, validation_fraction=0))

    @pytest.mark.parametrize(
        "settings",
        [
            {"hidden": (0,)}, {"hidden": (2.5,)}, {"epochs": 0}, {"batch_size": 0}, {"batch_size": True},
            {"patience": 0}, {"seed": -1}, {"seed": None}, {"activation": "step"}, {"loss": "hinge"},
            {"schedule": "magic"}, {"validation_fraction": 1.0}, {"validation_fraction": -0.1},
            {"validation_fraction": float("nan")},
        ],
    )  # fmt: skip
    def test_settings_out_of_range(self, settings):
        (name,) = settings
        with pytest.raises(InvalidValue, match=f"Settings: {name}="):
            Settings(**settings)

    @pytest.mark.parametrize("lr", [0, -1, float("nan"), float("inf")])
    def test_rates_out_of_range(self, lr):
        with pytest.raises(InvalidValue, match="lr="):
            Settings(optimizer=SGD(lr))
