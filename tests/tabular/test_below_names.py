"""What stands below the names of columns, or beside them, and is no row: texts of questions, names of rows."""

import json

import pandas as pd
import pytest

from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.reading import Reading, read


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


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("id;place;remark\n1;Rome, IT\n2;Bonn, DE\n3;Ulm, DE\n", ["id", "place", "remark"]),
        ("id;place;remark\nA;Rome, IT\nB;Bonn, DE\nC;Ulm, DE\n", ["id", "place", "remark"]),
        ("name;value;\nA, 1;2\nB, 2;3\nC, 3;4\n", ["name", "value", "Unnamed: 2"]),
        ("time\tvalue\tnote\n10:00, Mon\t1\n11:00, Tue\t2\n12:00, Wed\t3\n", ["time", "value", "note"]),
        ("Of May, 2024\n\nname;wert\nA, x;1\nB, y;2\n", ["name", "wert"]),
    ],
)
def test_a_comma_in_each_row_does_not_separate_columns_that_have_other_names(reader, content, names):
    assert reader(content).table.columns.tolist() == names


def test_names_below_a_title_of_several_cells_are_no_row_that_has_a_name(reader):
    with pytest.raises(DataError, match="line 2 has 3 fields, the header has 2"):
        reader("Bericht, Mai;x\nname;wert;z\nA;1,5;3\nB;2,5;4\nC;3,5;5\n")
    for missing in ("NA", ""):
        assert reader(f"x,y\nann,{missing},u\nbob,2,v\neva,3,w\n").table.columns.tolist() == ["Unnamed: 0", "x", "y"]


def qualtrics(count):
    table = pd.DataFrame({"QID1": range(20), "QID3": ["yes", "no"] * 10}).astype(object)
    questions = ["How old?", "Really?\nSay yes, or no"]
    identifiers = [json.dumps({"ImportId": name}) for name in table.columns]
    return table, pd.DataFrame([table.columns, questions, identifiers][: count + 1] + table.to_numpy().tolist())


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
@pytest.mark.parametrize("header", [None, True])
def test_questions_of_qualtrics_are_no_rows(tmp_path, suffix, header):
    table, written = qualtrics(2)
    write = written.to_csv if suffix == "csv" else written.to_excel
    write(tmp_path / f"t.{suffix}", index=False, header=False)
    source = read(tmp_path / f"t.{suffix}", Reading(header=header))
    assert source.table.to_dict("list") == table.to_dict("list")
    below = "2 and 4" if suffix == "csv" else "2 and 3"
    assert source.notes[0] == f"questions and identifiers of Qualtrics are left out, which begin in line {below}"


@pytest.mark.parametrize("names", [["1", "2", "3"], ["ann", "bob", "eva"], ["r1", "r2", "r3"]])
@pytest.mark.parametrize("quote", ["", '"'])
def test_rows_of_r_have_names(reader, names, quote):
    rows = "".join(f"{quote}{name}{quote},{i},0.5\n" for i, name in enumerate(names))
    source = reader('"x","y"\n' + rows)
    assert source.table.columns.tolist() == ["Unnamed: 0", "x", "y"]
    assert source.table["x"].tolist() == [0, 1, 2]
    assert source.notes[0] == "line 1 has one name fewer than there are columns: the first column names the rows"


DECIMALS = ["1,2,50\n2,3,75\n3,4,20\n4,4,10\n", "Anna,1,50\nBob,-2,75\nEva,3,20\n"]


@pytest.mark.parametrize("rows", ["1,5,2\n2,5,3\n4,5,4\n", "a,5,2\na,5,3\nb,5,4\n", *DECIMALS])
def test_values_that_are_no_names_of_rows_are_refused(reader, rows):
    with pytest.raises(DataError, match="line 2 has 3 fields, the header has 2"):
        reader("x,y\n" + rows)


def test_quotes_tell_names_of_rows_from_decimals_behind_a_comma(reader):
    assert reader('"x","y"\n"1",2,50\n"2",3,75\n"3",4,20\n').table["y"].tolist() == [50, 75, 20]


def test_columns_of_r_may_be_separated_by_spaces(reader):
    content = '"x" "y"\n' + "".join(f'"{i + 1}" {i} 0.5\n' for i in range(5))
    with pytest.raises(DataError, match="; --sep ' ' if columns are separated by spaces"):
        reader(content)
    assert reader(content, Reading(separator=" ")).table["x"].tolist() == list(range(5))
