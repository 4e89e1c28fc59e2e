"""Text columns of Parquet files: which are read to be judged, and what becomes of them."""

import pandas as pd

from viva_tensor.tabular.parquet import ParquetRows
from viva_tensor.tabular.recognition import Writing
from viva_tensor.tabular.stored_text import SAMPLE, judged
from viva_tensor.tabular.typed_columns import Expected


def test_only_columns_that_may_be_more_than_labels_are_read_whole(tmp_path, monkeypatch):
    rows = SAMPLE + 500
    columns = {
        "city": [f"City {i % 30}" for i in range(rows)],
        "mixed": ["3 rooms", "two", "Ideal", "-"] * (rows // 4),
        "share": ["12,5 %"] * rows,
        "late": [None] * (rows - 1) + ["12,5 %"],
        "day": ["2024-01-31"] * rows,
    }
    pd.DataFrame(columns).to_parquet(tmp_path / "t.parquet")
    asked, column = [], ParquetRows.__getitem__
    monkeypatch.setattr(ParquetRows, "__getitem__", lambda self, name: asked.append(name) or column(self, name))
    found = judged(ParquetRows(tmp_path / "t.parquet"), Writing(), Expected())
    assert asked == ["share", "late", "day"]
    assert {*found.notations} == {"share", "late", "day"}
