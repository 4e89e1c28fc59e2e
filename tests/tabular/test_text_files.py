"""What stands in a text file beside its rows."""

import gzip

import pytest

from viva_tensor.tabular import text_files
from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.reading import Reading, read


@pytest.mark.parametrize(
    ("below", "line", "footer"),
    [
        ("(2 rows)\n", 4, "(2 rows)"),
        ("(2 rows)", 4, "(2 rows)"),
        ("\r\n (2 rows affected)\r\n\r\n", 5, "(2 rows affected)"),
        ("(1 row)\n\n", 4, "(1 row)"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_how_many_rows_there_were_is_no_row(tmp_path, below, line, footer, packed):
    content = f"qty,y\n7,1.5\n8,2.5\n{below}".encode()
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    source = read(path)
    assert source.table.to_numpy().tolist() == [[7, 1.5], [8, 2.5]]
    assert source.notes == (f"line {line} is not a row and is left out: {footer!r}",)


@pytest.mark.parametrize("header", [None, True])
@pytest.mark.parametrize("rows", [2, 4])
def test_the_ruled_line_below_the_names_of_psql_is_left_out(tmp_path, header, rows):
    path = tmp_path / "t.txt"
    lines = [f"  {i} | {'north' if i % 2 else ''} | {i + 0.5}" for i in range(rows)]
    path.write_text("\n".join([" id | region |  x", "----+--------+-----", *lines, f"({rows} rows)", ""]))
    source = read(path, Reading(header=header))
    assert source.table["id"].tolist() == list(range(rows))
    assert source.table["x"].tolist() == [i + 0.5 for i in range(rows)]
    assert source.table["region"].dropna().tolist() == ["north"] * (rows // 2)
    assert "line 2 is ruled and is left out: '----+--------+-----'" in source.notes


@pytest.mark.parametrize("header", [None, True])
@pytest.mark.parametrize(("name", "rule"), [("id", "----"), ("x", "---")])
def test_the_ruled_line_of_one_column_is_left_out_above_the_number_of_rows(tmp_path, header, name, rule):
    path = tmp_path / "t.txt"
    path.write_text("\n".join([f" {name} ", rule, "  1", "  2", "(2 rows)", ""]))
    source = read(path, Reading(header=header))
    assert source.table[name].tolist() == [1, 2]
    assert f"line 2 is ruled and is left out: {rule!r}" in source.notes
    path.write_text("\n".join([name, rule, "a", "b", ""]))
    assert read(path, Reading(header=True)).table[name].tolist() == [rule, "a", "b"]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("piece", [6, 8, 1 << 20])
def test_lines_end_with_cr_lf_or_both(tmp_path, monkeypatch, end, piece):
    monkeypatch.setattr(text_files, "PIECE", piece)
    path = tmp_path / "t.csv"
    lines = ["qty,y", "7,1.5", "8,2.5", "(2 rows)", "Time: 5,2 ms", ""]
    path.write_bytes(end.join(lines).encode())
    assert "line 4 is not a row and is left out: '(2 rows)" in read(path).notes[0]
    path.write_bytes(end.join([*lines[:3], "9,\xff", ""]).encode("latin-1"))
    with pytest.raises(DataError, match="line 4 is not UTF-8 text"):
        read(path)


@pytest.mark.parametrize("size", [100, 1 << 20])
def test_the_number_of_rows_is_left_out_of_every_way_to_read(tmp_path, monkeypatch, size):
    monkeypatch.setattr(text_files, "SAMPLE", size)  # the codes, short row and quote stand below it, or within
    path = tmp_path / "t.csv"
    rows = [f"{i},text {i}" for i in range(500, 1000)]
    path.write_text("\n".join(["zip,text", *rows, "007,x", "008", '999,"a ""b"""', "(503 rows)\n"]))
    source = read(path)
    assert len(source.table) == 503
    assert source.table["zip"].tolist()[-3:] == ["007", "008", "999"]
    assert "line 505 is not a row and is left out: '(503 rows)'" in source.notes
    path.write_text("x\n" + "5\n" * 60 + "(60 rows)\n")
    assert read(path).table["x"].tolist() == [5] * 60


def test_values_in_parentheses_stay_values(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x\n5 kg\n7 kg\n(6 kg)\n")
    assert read(path).table["x"].tolist() == [5, 7, -6]
    path.write_text('x,y\n1,"a\n(2 rows)"\n')
    assert read(path).table["y"].tolist() == ["a\n(2 rows)"]
    path.write_text("x,y\n(0 rows)\n")
    with pytest.raises(DataError, match="has no rows"):
        read(path)
