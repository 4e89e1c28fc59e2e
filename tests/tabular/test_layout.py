"""Where the table lies in a text file, through reading it."""

import gzip
from itertools import zip_longest

import pandas as pd
import pytest

from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.notation import Numbers
from viva_tensor.tabular.reading import Reading, read
from viva_tensor.tabular.recognition import Writing


@pytest.fixture
def reader(tmp_path):
    def read_text(content, reading=None, name="t.csv", expected=None):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read(path, reading, expected)

    return read_text


SHORT = "1 row without the last values, the first in line 2"


def rows(source):
    return source.table.astype(object).where(source.table.notna(), None).to_numpy().tolist()


LEFT = "line 1 is not a row and is left out:"


@pytest.mark.parametrize(
    ("content", "names", "values", "note"),
    [
        ("a;b\n1,5;x\n2,5;y\n", ["a", "b"], [[1.5, "x"], [2.5, "y"]], "columns are separated by ';'"),
        ("a\tb\n1\t2\n", ["a", "b"], [[1, 2]], "columns are separated by '\\t'"),
        ("a|b\n1|2\n", ["a", "b"], [[1, 2]], "columns are separated by '|'"),
        ("Report of May\n\na,b\n1,2\n", ["a", "b"], [[1, 2]], "line 1 is not a row and is left out: 'Report of May'"),
        ("Report,,\n,,\na,b,c\n1,2,x\n", ["a", "b", "c"], [[1, 2, "x"]], f"{LEFT} 'Report'"),
        ("# made by us\n# 2024\na,b\n1,2\n", ["a", "b"], [[1, 2]], "line 2 is not a row and is left out: '# 2024'"),
        ("# a,b\n1,2\n", ["a", "b"], [[1, 2]], None),
        ("#,name\n1,x\n2,y\n", ["#", "name"], [[1, "x"], [2, "y"]], None),
        (
            "name,load\ntext,kW\na,0.5\nb,2.5\nc,5.5\n",
            ["name", "load"],
            [["a", 0.5], ["b", 2.5], ["c", 5.5]],
            "line 2 has units and is left out: 'text, kW'",
        ),
        ("l,t\nm,s\n1,2\n2,3\n3,4\n", ["l", "t"], [[1, 2], [2, 3], [3, 4]], "line 2 has units and is left out: 'm, s'"),
        ("l,t\n?,n/a\n1,2\n2,3\n3,4\n", ["l", "t"], [[None, None], [1, 2], [2, 3], [3, 4]], None),
        ("a,b,\n1,2,\n3,4,\n", ["a", "b", "Unnamed: 2"], [[1, 2, None], [3, 4, None]], None),
        (" a , b \n 1 , x \n", ["a", "b"], [[1, "x"]], None),
        ("a,b,c\n1,2\n3,4,5\n", ["a", "b", "c"], [[1, 2, None], [3, 4, 5]], SHORT),
        ('a,b\n1,"two\nlines"\n2,"with ""quotes"""\n', ["a", "b"], [[1, "two\nlines"], [2, 'with "quotes"']], None),
        ('x\n1\n""\n\n  \n3\n', ["x"], [[1], [None], [3]], None),
        ('x\n"a"\n" "\n"b"\n \n""\n', ["x"], [["a"], [None], ["b"], [None]], None),
        ('x\n""\n""\nb\n', ["x"], [[None], [None], ["b"]], None),
        ('name,with;x\n"a;b",c\n', ["name", "with;x"], [["a;b", "c"]], None),
    ],
)  # fmt: skip
def test_names_rows_and_what_is_said(reader, content, names, values, note):
    source = reader(content)
    assert list(source.table.columns) == names
    assert rows(source) == values
    assert note is None or note in source.notes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,b,c\n1,"2,x\n2,3,y\n3,4,"z"\n4,5,u\n', "a quote that opens in line 2 is not closed where its field ends"),
        ('a,b,c\n1,2,x\n2,"3,y\n3,4,z\n', "a quote that opens in line 3 is not closed where its field ends"),
        ('a,b,c\n1,2,x\n2,3,"y\n3,4,z\n4,5,u"\n5,6,v\n', "the quote that opens in line 3 closes only in line 5"),
        ("a,b\n1,2\n\n1,2,3\n", "line 4 has 3 fields, the header has 2"),
        ("a,b\n1,2\n# a comment\n3,4,5\n", "line 4 has 3 fields"),
        ("a,b\nx,1\nMünchen,2\n".encode("cp1252"), "line 3 is not UTF-8 text; in cp1252 it would read 'a,b x,1 Mün"),
    ],
)  # fmt: skip
def test_refused_with_the_line(reader, content, message):
    with pytest.raises(DataError, match=r"t\.csv") as error:
        reader(content)
    assert message in str(error.value)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-32", "utf-8-sig"])
def test_encodings(reader, encoding):
    content = "ort,n\nKöln,1\n".encode(encoding)
    said = "" if encoding.startswith("utf") else encoding
    assert rows(reader(content, Reading(encoding=said))) == [["Köln", 1]]


def test_no_header(reader):
    content = "5.1,a\n4.9,b\n"
    source = reader(content, Reading(header=False))
    assert list(source.table.columns) == ["column1", "column2"]
    assert rows(source) == [[5.1, "a"], [4.9, "b"]]
    assert reader(content).doubt == "'5.1' looks like a value: if there is no header line, give --no-header"
    assert reader("x,2019\n1,2\n", Reading(header=True)).doubt == ""


def test_values_twice_in_a_first_line_may_be_no_names(reader):
    content = "p,x,p\n" + "e,y,p\n" * 3
    hint = "two columns named 'p'; rename one, or --no-header if the first line has values and no names"
    with pytest.raises(DataError, match=hint):
        reader(content)
    with pytest.raises(DataError, match=r"two columns named 'p'; rename one$"):
        reader(content, Reading(header=True))
    assert len(reader(content, Reading(header=False)).table) == 4


def test_options_decide(reader):
    assert rows(reader("a;b,c\n1;2,3\n", Reading(separator=";"))) == [[1, 2.3]]
    assert rows(reader("a;b\n1;1.234\n2;2.500\n", Reading(writing=Writing(decimal=",")))) == [[1, 1234], [2, 2500]]
    assert rows(reader("d,n\n20240131,1\n20240229,2\n", Reading(writing=Writing(date_format="%Y%m%d"))))[1][0].day == 29
    source = reader("a,b\n-999,x\n4,none\n", Reading(writing=Writing(missing=("-999", "none"))))
    assert rows(source) == [[None, "x"], [4, None]]
    assert source.notes == ("a: read as missing: '-999' (1)", "b: read as missing: 'none' (1)")


def written(date_format):
    return Reading(writing=Writing(date_format=date_format))


@pytest.mark.parametrize("content", ["m,y\n01.2020,1\n10.2020,2\n", "m;y\n01.2020;1,5\n10.2020;2,5\n"])
def test_months_before_a_year_are_no_numbers(reader, content):
    source = reader(content)
    assert source.table["m"].tolist() == ["01.2020", "10.2020"]
    hint = "; if values such as '01.2020' are dates: --date-format '%m.%Y'"
    assert any(note.startswith("m: text, ") and note.endswith(hint) for note in source.notes)
    source = reader(content, written("%m.%Y"))
    assert source.table["m"].tolist() == [pd.Timestamp("2020-01-01"), pd.Timestamp("2020-10-01")]
    assert "m: dates written as %m.%Y; row 0 has '01.2020'" in source.notes


def test_codes_are_text_unless_numbers_are_expected_and_decimals_may_begin_with_a_zero(reader):
    content = "a,b,c,d\n00.50,0.50,007,01.2020\n10.25,.25,12,10.2021\n"
    assert rows(reader(content)) == [[0.5, 0.5, "007", "01.2020"], [10.25, 0.25, "12", "10.2021"]]
    numbers = reader(content, expected=Expected(numbers=["c", "d"]))
    assert rows(numbers) == [[0.5, 0.5, 7, 1.202], [10.25, 0.25, 12, 10.2021]]
    commas = "a;b\n01,5;007\n12,5;012\n"
    for way in (None, Reading(writing=Writing(decimal=","))):
        assert rows(reader(commas, way)) == [[1.5, "007"], [12.5, "012"]]
        assert rows(reader(commas, way, expected=Expected(numbers=["b"]))) == [[1.5, 7], [12.5, 12]]


@pytest.mark.parametrize(
    ("name", "content"),
    [("t.csv", "m,n\n202001,12345\n202012,12346\n"), ("t.jsonl", '{"m":202001,"n":12345}\n{"m":202012,"n":12346}\n')],
)
def test_integers_of_a_year_and_a_month_are_dates_if_asked_for(reader, name, content):
    table = reader(content, written("%Y%m"), name).table
    assert table["m"].tolist() == [pd.Timestamp("2020-01-01"), pd.Timestamp("2020-12-01")]
    assert table["n"].tolist() == [12345, 12346]  # too short for a year of four digits and a month of two


def test_a_column_of_dates_in_digits_may_be_named_self(reader):
    table = reader("self,n\n202001,12345\n202012,12346\n", written("%Y%m")).table
    assert table["self"].tolist() == [pd.Timestamp("2020-01-01"), pd.Timestamp("2020-12-01")]


@pytest.mark.parametrize("suffix", ["json", "xlsx"])
def test_dates_of_digits_get_the_zero_back_that_numbers_have_lost(tmp_path, suffix):
    days = pd.date_range("2024-01-28", periods=40)
    table = pd.DataFrame({"day": days.strftime("%d%m%Y").astype(int), "y": range(40)})
    path = tmp_path / f"t.{suffix}"
    table.to_json(path, orient="records") if suffix == "json" else table.to_excel(path, index=False)
    assert read(path, written("%d%m%Y")).table["day"].tolist() == list(days)


def test_integers_of_four_digits_are_no_years(reader):
    source = reader("m,y\n2001,1\n1999,2\n", written("%Y"))
    assert source.table["m"].tolist() == [2001, 1999]
    assert source.notes == ("no column was taken for dates written as %Y",)


def test_a_point_is_between_thousands_where_commas_are_before_decimals(reader):
    source = reader("a;b;c\n1,5;1.234;5\n2,5;12.500;15\n")
    assert rows(source) == [[1.5, 1234, 5], [2.5, 12500, 15]]
    assert any(
        note.startswith("b: numbers with ',' before decimals and '.' between thousands") for note in source.notes
    )


@pytest.mark.parametrize("shown", [("47.1223", "47.7876"), ("0.5", "1.5")])
def test_a_point_is_before_decimals_where_another_column_shows_it(reader, shown):
    one, two = shown
    source = reader(f"a;b;c\n1,5;1.234;{one}\n2,5;12.500;{two}\n")
    assert rows(source) == [[1.5, 1.234, float(one)], [2.5, 12.5, float(two)]]
    assert "b: '.' is read as the decimal mark, as in c; row 0 has '1.234'" in source.notes
    assert source.notations["b"] == source.notations["c"] == Numbers()


def test_words_of_text_are_what_they_are(reader):
    source = reader("kind,n\nNone,1\nNA,2\nnull,3\nnan,4\nn/a,5\n,6\n")
    assert [row[0] for row in rows(source)] == ["None", "NA", "null", "nan", "n/a", None]


def test_integers_beyond_float64_beside_missing_values(reader):
    assert rows(reader("y,x\n9007199254740993,1\n,2\n9007199254740992,3\n"))[0][0] == 9007199254740993


def test_dates_of_csv_are_those_of_parquet(reader, tmp_path):
    table = reader("day,at\n2024-01-31,2024-01-31T10:30\n2024-02-29,2024-02-29T23:59\n").table
    table.to_parquet(tmp_path / "t.parquet")
    assert rows(read(tmp_path / "t.parquet")) == table.to_numpy().tolist()
    assert table["day"].dt.day.tolist() == [31, 29]


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.bz2", "t.csv.xz", "t.csv.zip"])
def test_compressed(tmp_path, name):
    pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}).to_csv(tmp_path / name, index=False)
    assert rows(read(tmp_path / name)) == [[1, "x"], [2, "y"]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.json", '[{"a": 1, "b": "x"}, {"a": null, "b": "y"}]'),
        ("t.jsonl", '{"a": 1, "b": "x"}\n{"a": null, "b": "y"}\n'),
        ("t.txt", "a\tb\n1\tx\n\ty\n"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,x\n,y\n", mtime=0)),
    ],
)
def test_other_formats(reader, name, content):
    assert rows(reader(content, name=name)) == [[1, "x"], [None, "y"]]


@pytest.mark.parametrize(
    ("values", "message"),
    [({"separator": ";;"}, "one char"), ({"separator": '"'}, "one char"), ({"encoding": "utf-99"}, "no encoding")],
)  # fmt: skip
def test_impossible_options(values, message):
    with pytest.raises(DataError, match=message):
        Reading(**values)


def test_what_other_formats_cannot_hold_is_refused_in_words(reader, tmp_path):
    for content in (
        '[{"a": 1, "a": 2}]',
        '[{"a": 1}, {"a": "\\ud800"}]',
        "[" * 100_000,
    ):
        with pytest.raises(DataError, match=r"cannot read .*t\.json"):
            reader(content, name="t.json")
    nested = reader('[{"a": [1], "b": {"c": 1}, "n": 1}]', name="t.json").table
    assert nested["n"].tolist() == [1]
    pd.DataFrame([["a", "a"], [1, 2]]).to_excel(tmp_path / "t.xlsx", index=False, header=False)
    with pytest.raises(DataError, match="two columns named 'a'"):
        read(tmp_path / "t.xlsx")
    with pytest.raises(DataError, match="cannot read"):
        reader("a,b\n1,2\n", Reading(encoding="hex"))


TITLE = "line {} is not a row and is left out: 'Sales of 2024'".format


@pytest.mark.parametrize(
    ("sheet", "names", "values", "notes"),
    [
        ([["Sales of 2024"], ["a", "b"], ["x", 1]], ["a", "b"], [["x", 1]], (TITLE(1),)),
        ([[], ["Sales of 2024"], [], [None, "b", "c"], [0, "x", 1]],
         ["Unnamed: 0", "b", "c"], [[0, "x", 1]], (TITLE(2),)),
        ([[], ["a", "b"], ["x", 1]], ["a", "b"], [["x", 1]], ()),
        ([["a"], ["x"], ["y"]], ["a"], [["x"], ["y"]], ()),
        ([[], ["a"], [1], [2]], ["a"], [[1], [2]], ()),
        ([["a"], ["x"], ["y", "odd"], ["z"], ["z"]], ["a", "Unnamed: 1"],
         [["x", None], ["y", "odd"], ["z", None], ["z", None]], ()),
        ([[None, "color"], ["ann", "red"], ["bob", "blue"]], ["Unnamed: 0", "color"],
         [["ann", "red"], ["bob", "blue"]], ()),
        ([["name"], ["ann", "red"], ["bob", "blue"]], ["name", "Unnamed: 1"],
         [["ann", "red"], ["bob", "blue"]], ()),
        ([["Colours"], [], ["name", "color"], ["ann", "red"]], ["name", "color"], [["ann", "red"]],
         ("line 1 is not a row and is left out: 'Colours'",)),
        ([["a"], ["x", 1], ["y", 2]], ["a", "Unnamed: 1"], [["x", 1], ["y", 2]], ()),
    ],
)  # fmt: skip
def test_rows_before_the_names_of_a_sheet(tmp_path, sheet, names, values, notes):
    pd.DataFrame(list(zip_longest(*sheet))).T.to_excel(tmp_path / "t.xlsx", index=False, header=False)
    source = read(tmp_path / "t.xlsx")
    assert list(source.table.columns) == names
    assert rows(source) == values
    assert source.notes == notes


TABLE = [["art", "a", "b", "y"], *([f"k{i % 3}", i, i / 4, i / 2] for i in range(8))]
STAND = ["Report", None, None, None, "of 31.12.2024"]


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
@pytest.mark.parametrize(
    ("above", "left", "right"),
    [
        ([["Report 2024"], []], 0, 3),
        ([["Report 2024"], []], 1, 0),
        ([STAND, []], 0, 0),
        ([["Report"], ["Customer:", "Meier"], []], 0, 0),
        ([["Report", None, "page", 1], []], 0, 0),
        ([["Report"], [], [None, "in millions"]], 0, 0),
    ],
)
def test_titles_beside_empty_columns_or_of_several_cells(tmp_path, suffix, above, left, right):
    lines = [[None] * left + row for row in (*above, *TABLE)]
    table = pd.DataFrame(list(zip_longest(*lines))).T.reindex(columns=range(max(map(len, lines)) + right))
    write = table.to_csv if suffix == "csv" else table.to_excel
    write(tmp_path / f"t.{suffix}", index=False, header=False)
    source = read(tmp_path / f"t.{suffix}")
    named = source.table[[name for name in source.table.columns if not name.startswith("Unnamed: ")]]
    assert list(named.columns) == TABLE[0]
    assert named.to_numpy().tolist() == TABLE[1:]
    assert suffix == "csv" or list(named.columns) == list(source.table.columns)
    assert len(source.notes) == sum(1 for row in above if row)


def test_units_stand_below_names(reader, tmp_path):
    units = pd.DataFrame([TABLE[0], [None, "kg", "m", "EUR"], *TABLE[1:]])
    units.to_excel(tmp_path / "t.xlsx", index=False, header=False)
    source = read(tmp_path / "t.xlsx")
    assert rows(source) == TABLE[1:]
    assert source.notes == ("line 2 has units and is left out: 'kg, m, EUR'",)
    with pytest.raises(DataError, match="holds numbers, but not 'a'"):  # which is no unit
        reader("Report,,page\nart,a,y\n" + "x,1,2\n" * 20)


VALUES = ["inf", "-inf", "nan", "<0.5", "\\N", "12.5-", "k.A.", "ND", "TRUE", "A12", "~3"]


@pytest.mark.parametrize("value", VALUES)
def test_a_first_row_of_values_is_no_line_of_units(reader, value):
    source = reader(f"name,result\nGus,{value}\n" + "Anna,1.5\nBob,2.5\nEva,3.5\n")
    assert len(source.table) == 4
    if value not in ("k.A.", "ND"):  # which could be units if there is no name beside them
        assert len(reader(f"name,result\n,{value}\n" + "Anna,1.5\nBob,2.5\nEva,3.5\n").table) == 4


@pytest.mark.parametrize("units", [",m2", ",km/h^2", "(text),s-1", "-,°C", ",10^6 m3", ",l/100km"])
@pytest.mark.parametrize("names", [["Anna", "Bob", "Eva", "Gus"], ["09:30", "09:40", "09:50", "10:00"]])
def test_units_have_exponents_and_stand_beside_brackets(reader, units, names):
    source = reader(f"name,x\n{units}\n" + "".join(f"{name},1.5\n" for name in names))
    assert len(source.table) == 4
    assert len(reader("at,x\nhh:mm,°C\n" + "".join(f"{name},1\n" for name in names)).table) == 4 + ("Anna" in names)


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_columns_without_names_are_told_where_a_value_does_not_fit(tmp_path, suffix):
    table = pd.DataFrame([["Report", None, None], ["art", 2024, "y"], *([f"k{i % 3}", i, i / 4] for i in range(20))])
    write = table.to_csv if suffix == "csv" else table.to_excel
    write(tmp_path / f"t.{suffix}", index=False, header=False)
    with pytest.raises(
        DataError, match=r"the line 'Report' was .*the header, but has no name for 2 columns; delete the li"
    ):
        read(tmp_path / f"t.{suffix}")


def test_numbers_and_dates_are_names_of_columns_of_a_sheet(tmp_path):
    table = pd.DataFrame([[1, 2, 3, 4]], columns=[2019, 2.5, pd.Timestamp("2020-01-01"), " y "])
    table.to_excel(tmp_path / "t.xlsx", index=False)
    assert list(read(tmp_path / "t.xlsx").table.columns) == ["2019", "2.5", "2020-01-01", "y"]
    table.set_axis(["y", "a", "b", " y "], axis=1).to_excel(tmp_path / "u.xlsx", index=False)
    with pytest.raises(DataError, match=r"u\.xlsx.*two columns.*'y'"):
        read(tmp_path / "u.xlsx")


def test_booleans_of_a_sheet_stay_such_beside_an_empty_cell(tmp_path):
    table = pd.DataFrame({"a": [True, None, False], "b": [1, None, 0], "c": [True, False, True]}, dtype=object)
    table.to_excel(tmp_path / "t.xlsx", index=False)
    found = read(tmp_path / "t.xlsx").table
    assert found["a"].astype(object).where(found["a"].notna(), None).tolist() == [True, None, False]
    assert [str(found[name].dtype) for name in "abc"] == ["boolean", "float64", "bool"]


def test_a_cell_of_spaces_is_empty(reader):
    assert rows(reader("kind,n\na,1\n   ,2\n"))[1] == [None, 2]


def test_integers_stay_exact_beside_words_for_missing_values(reader):
    source = reader("y,x\n9007199254740993,1\n-999,2\n", Reading(writing=Writing(missing=("-999",))))
    assert rows(source) == [[9007199254740993, 1], [None, 2]]
