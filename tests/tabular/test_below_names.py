"""What stands below the names of columns, or beside them, and is no row: texts of questions, names of rows."""

import pytest

from viva_tensor.tabular.reading import read


@pytest.fixture
def reader(tmp_path):
    def read_text(content, reading=None):
        path = tmp_path / "t.csv"
        path.write_text(content)
        return read(path, reading)

    return read_text


@pytest.mark.parametrize("separator", [";", "|"])
@pytest.mark.parametrize("rows", [50, 3000])
@pytest.mark.parametrize("title", ["", "Made in May\n"])
def test_lists_within_a_column_do_not_separate_columns(reader, separator, rows, title):
    seen = separator.join("1472")
    table = reader(title + "a,b,seen\n" + f"1,x,{seen}\n" * rows).table
    assert table.columns.tolist() == ["a", "b", "seen"]
    assert table["seen"].tolist() == [seen] * rows
