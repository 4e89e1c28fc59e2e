"""Text columns of Parquet files: which are read to be judged, and what becomes of them."""

import pandas as pd
import pytest

from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.parquet import ParquetRows
from viva_tensor.tabular.reading import read
from viva_tensor.tabular.recognition import Writing
from viva_tensor.tabular.stored_text import SAMPLE, judged


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


@pytest.mark.parametrize("rows", [60, 2 * SAMPLE])
def test_errors_of_spreadsheets_are_missing_in_text(tmp_path, rows):
    table = pd.DataFrame(
        {"c": ["low", "#N/A", "high"] * rows, "g": ["1", "#N/A", "2"] * rows, "k": ["#N/A"] * 3 * rows}
    )
    table.to_parquet(tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", expected=Expected(text=["k"]))
    assert found.table["c"].dropna().unique().tolist() == ["low", "high"]
    assert found.table["g"].dropna().unique().tolist() == ["1", "2"]
    assert found.table["k"].unique().tolist() == ["#N/A"]
    assert f"c: read as missing: '#N/A' ({rows:,})" in found.notes
    assert f"g: read as missing: '#N/A' ({rows:,})" in found.notes


@pytest.mark.parametrize("others", [["007"], ["0x1F"], ["odd"], ["#N/A", "-"]])
@pytest.mark.parametrize("rows", [60, 2 * SAMPLE])
def test_text_is_said_to_be_numbers_only_if_nothing_else_is_in_it(tmp_path, others, rows):
    values = [*"1234", *others] * (rows // 2)
    pd.DataFrame({"g": values}).to_parquet(tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet")
    assert any("--numeric 'g'" in note for note in found.notes) == ("-" in others)
    assert found.table["g"].dropna().unique().tolist() == [one for one in values[: 4 + len(others)] if one != "#N/A"]
