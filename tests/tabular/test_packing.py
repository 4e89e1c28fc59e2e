"""Records of features: what is spread from them, and their entries, are the features that the encoding gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from viva_tensor.tabular.column_choice import fit_encoding
from viva_tensor.tabular.packed import Packed
from viva_tensor.tabular.packing import Packing
from viva_tensor.train import SparseRows


@pytest.fixture
def table(rng):
    rows = 400
    count = rng.integers(0, 4, rows)
    return pd.DataFrame(
        {
            "price": np.where(rng.random(rows) < 0.1, np.nan, rng.lognormal(0, 1, rows)),
            "count": count,
            "two": count > 1,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), "D"),
            "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.uniform(0, 900, rows), "D"),
            "colour": rng.choice([*"abcdefgh", None], rows),
            "weight": rng.standard_normal(rows),
        }
    )


@pytest.mark.parametrize("bins", [0, 4, 32])
def test_features_and_entries_are_those_of_the_encoding(table, bins):
    encoding = fit_encoding(table[:300], bins=bins)
    new = table.copy()
    new.loc[[310, 320], "weight"] = [1e6, -1e6]  # beyond all bins
    new.loc[330, "colour"] = "unseen"
    wanted = encoding.encode(new)
    packed = Packed(Packing(encoding, (1,)), new, np.zeros((len(new), 1), np.float32))
    np.testing.assert_allclose(packed[:], wanted, rtol=1e-6, atol=32 * 2.0**-24)  # a sum of 32 bins rounds once
    entries = packed.packing.rows(packed.records)
    assert entries.values.shape == (len(new), packed.packing.entries)
    np.testing.assert_allclose(entries.dense(), wanted, rtol=1e-6, atol=32 * 2.0**-23)
    assert (entries.starts is None) == (bins == 0)
    assert packed.records.itemsize < 4 * len(encoding.feature_names)


def test_networks_are_given_entries_where_there_are_few(table):
    packings = [Packing(fit_encoding(table, bins=bins), (1,)) for bins in (4, 32)]
    few, many = (Packed(packing, table, np.zeros((400, 1), np.float32)) for packing in packings)
    assert not isinstance(few.to_learn(), SparseRows)
    assert isinstance(many.to_learn(), SparseRows)
    assert many.to_learn(np.array([5, 3])).indices.tolist() == many.to_learn().indices[[5, 3]].tolist()
    assert many.bytes_to_learn == sum(array.nbytes for array in (many.to_learn().indices, many.to_learn().values))
    assert few.bytes_to_learn == few.to_learn().nbytes
