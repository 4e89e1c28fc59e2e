"""What the cells of a sheet are read as: as those of a text file would be."""

import math
import zipfile
from datetime import datetime, time

import openpyxl
import pandas as pd
import pytest

from viva_tensor import tabular
from viva_tensor.tabular.data import DataError, numbers_of
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.reading import Reading, as_written, check_reading, read
from viva_tensor.tabular.recognition import Writing
from viva_tensor.train import Settings


@pytest.fixture
def sheet(tmp_path):
    """Write columns of cells as a workbook, and return its path."""

    def write(**columns):
        book = openpyxl.Workbook()
        for row in (list(columns), *zip(*columns.values(), strict=True)):
            book.active.append(row)
        book.save(tmp_path / "t.xlsx")
        return tmp_path / "t.xlsx"

    return write


def test_cells_of_text_with_leading_zeros_stay_text(sheet):
    source = read(sheet(zip=["01067", "80331", None], phone=["+4915112345"] * 3, n=[1, 2, 3]))
    assert source.table["zip"].dropna().tolist() == ["01067", "80331"]
    assert source.table["n"].tolist() == [1, 2, 3]
    assert source.notes[0].startswith("zip: text, since values such as '01067' begin with a zero")


def test_cells_of_text_are_numbers_as_they_are_said_to_be_written(sheet):
    path = sheet(price=["12.645", "1.100"], n=[1.5, None])
    assert read(path, Reading(writing=Writing(decimal=",", thousands="."))).table["price"].tolist() == [12645, 1100]
    assert read(path).table["price"].tolist() == [12.645, 1.1]


DAYS = [datetime(2024, 1, 31), datetime(2024, 2, 29, 10, 30)]


@pytest.mark.parametrize(
    ("cells", "read_as"),
    [
        ([True, False, "-"], ["true", "false", "-"]),
        ([True, None, "x", 1.5], ["true", None, "x", 1.5]),
        ([*DAYS, "x", "x"], ["2024-01-31", "2024-02-29 10:30:00", "x", "x"]),
        ([time(10, 30), "x"], ["10:30:00", "x"]),
        ([*DAYS, "unknown"], [*map(pd.Timestamp, DAYS * 4), None]),
    ],
)
def test_booleans_and_dates_beside_text_are_words(sheet, cells, read_as):
    cells = cells if len(cells) == len(read_as) else DAYS * 4 + ["unknown"]
    found = read(sheet(a=cells, n=list(range(len(cells))))).table["a"].astype(object)
    assert found.where(found.notna(), None).tolist() == read_as


def test_columns_without_text_hold_what_their_cells_are(sheet):
    table = read(sheet(i=[1, 2], g=[1, None], b=[True, False], t=[time(6), time(18)], d=DAYS, m=[True, 2])).table
    assert [str(kind).partition("[")[0] for kind in table.dtypes] == [
        "int64", "float64", "bool", "float64", "datetime64", "int64"]  # fmt: skip


def test_cells_of_a_column_that_is_to_be_text_are_words(sheet):
    path = sheet(a=[1, 2.5, "x"], d=[DAYS[0]] * 3, b=[True, False, True])
    words = [["1", "2024-01-31", "True"], ["2.5", "2024-01-31", "False"], ["x", "2024-01-31", "True"]]
    assert read(path, expected=Expected(text=("a", "d", "b"))).table.to_numpy().tolist() == words
    assert as_written(path, Reading()).to_numpy().tolist() == words


def test_the_first_sheet_that_is_shown_is_read(tmp_path):
    book = openpyxl.Workbook()
    for name, state in (("old", "hidden"), ("sales", "visible"), ("notes", "visible")):
        sheet = book.create_sheet(name)
        sheet.sheet_state = state
        for row in (["a"], [name], [name]):
            sheet.append(row)
    del book["Sheet"]
    book.save(tmp_path / "t.xlsx")
    source = read(tmp_path / "t.xlsx")
    assert source.table["a"].tolist() == ["sales", "sales"]
    assert source.notes == ("read only the sheet 'sales', not 'old', 'notes' (--sheet names another)",)
    for name in ("old", "notes"):
        source = read(tmp_path / "t.xlsx", Reading(sheet=name))
        assert (source.table["a"].tolist(), source.notes, source.doubt) == ([name, name], (), "")
    with pytest.raises(DataError, match=r"t\.xlsx has no sheet 'Notes'; its sheets are 'old', 'sales', 'notes'$"):
        read(tmp_path / "t.xlsx", Reading(sheet="Notes"))
    with pytest.raises(DataError, match=r"columns are: a; read only the sheet 'sales', not 'old', 'notes' \(--sheet"):
        tabular.fit(read(tmp_path / "t.xlsx"), "b", Settings())


def test_blank_sheets_are_passed_over(tmp_path):
    book = openpyxl.Workbook()
    for name, state, cells in (("old", "hidden", ["a", 1]), ("styled", "visible", []), ("sales", "visible", ["b", 2])):
        sheet = book.create_sheet(name)
        sheet.sheet_state = state
        sheet["B9"].number_format = "0.00"
        for cell in cells:
            sheet.append([cell])
    book.save(tmp_path / "t.xlsx")
    source = read(tmp_path / "t.xlsx")
    assert source.table["b"].tolist() == [2]
    assert source.notes == ("read only the sheet 'sales', not 'Sheet', 'old', 'styled' (--sheet names another)",)
    del book["sales"]
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(DataError, match=r"t\.xlsx: no cell of the sheets read has a value \('Sheet', 'styled'\); name"):
        read(tmp_path / "t.xlsx")


def test_merged_cells_have_their_value_in_each_row(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["Sales"], [], ["region", "n", "x"], ["north", 1, "a"], [None, 2], [None, 3, "b"], ["south", 4, None]):
        sheet.append(row)
    for place in ("A1:C2", "A4:A6", "B7:C7", "C4:C5", "A9:A12", "E4:E5"):  # titles, a region, some without rows
        sheet.merge_cells(place)
    book.save(tmp_path / "t.xlsx")
    source = read(tmp_path / "t.xlsx")
    assert source.table["region"].tolist() == ["north"] * 3 + ["south"]
    assert source.table["n"].tolist() == [1, 2, 3, 4]
    assert source.table["x"].astype(object).where(source.table["x"].notna(), None).tolist() == ["a", "a", "b", None]
    assert source.notes[-1] == "region (2), x (1): merged cells all get the value of the first"


def test_workbooks_that_cannot_be_read_are_refused_in_words(sheet, tmp_path):
    path = sheet(a=[1, 2])
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    with zipfile.ZipFile(path, "w") as book:
        for name, part in parts.items():
            book.writestr(name, part[: len(part) // 2] if name.endswith("sheet1.xml") else part)
    with pytest.raises(DataError, match=r"cannot read .*t\.xlsx as XLSX; it seems to be damaged"):
        read(path)
    path.write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(512))
    with pytest.raises(DataError, match=r"t\.xlsx: it is encrypted or an old \.xls; save it as \.xlsx"):
        read(path)
    book = openpyxl.Workbook()
    book.create_chartsheet("empty", 0)
    book.save(path)
    with pytest.raises(DataError, match=r"cannot read .*t\.xlsx as XLSX"):
        read(path)


def test_a_sheet_may_have_no_names(sheet):
    path = sheet(**{"5.1": [4.9, 5.0], "a": ["b", "c"]})
    book = openpyxl.load_workbook(path)
    book.active["A1"] = 5.1
    book.save(path)
    assert read(path).doubt == "'5.1' looks like a value: if there is no header line, give --no-header"
    assert read(path, Reading(header=True)).doubt == ""
    source = read(path, Reading(header=False))
    assert list(source.table.columns) == ["column1", "column2"]
    assert source.table.to_numpy().tolist() == [[5.1, "a"], [4.9, "b"], [5.0, "c"]]
    book.create_sheet("notes")
    book.save(path)
    told = (
        r"not 'notes' \(--sheet names another\); '5\.1' looks like a value: if there is no header line, "
        "give --no-header$"
    )
    with pytest.raises(DataError, match=told):
        tabular.fit(read(path), "y", Settings())
    check_reading(path, Reading(header=False))
    with pytest.raises(DataError, match="needs no options such as"):
        check_reading(path, Reading(separator=";"))


@pytest.mark.parametrize("odd", ["n/a", None])
@pytest.mark.parametrize("form", ["h:mm", "[h]:mm"])
def test_durations_and_times_beyond_a_day_are_hours(tmp_path, odd, form):
    book = openpyxl.Workbook()
    book.active.append(["t", "y"])
    for i in range(60):
        book.active.append([odd if i == 4 else i / 48, i])
        book.active.cell(i + 2, 1).number_format = form
    book.save(tmp_path / "t.xlsx")
    found = numbers_of(read(tmp_path / "t.xlsx").table["t"])
    assert found.tolist() == pytest.approx([math.nan if i == 4 else i / 2 for i in range(60)], nan_ok=True)


def test_formulas_that_no_spreadsheet_has_calculated_are_told(sheet):
    said = "formulas without stored values; open the file once in a spreadsheet and save it"
    source = read(sheet(a=[1, 2], b=["=A2+1", "=A3+1"], c=[None, None], d=[None, "=A3*2"]))
    assert source.notes == (f"b (2, the first in row 0), d (1, the first in row 1): {said}",)
    assert source.table["a"].tolist() == [1, 2]
    assert read(sheet(a=[1, 2], b=[None, None])).notes == ()


def test_formulas_without_a_value_in_any_row_are_told(sheet):
    cells = [f"=B{i}*2" if i % 200 == 199 else i for i in range(1000)]
    source = read(sheet(a=cells, b=[None, *range(999)]))
    assert source.notes[0].startswith("a (5, the first in row 199): formulas without stored values; ")
    assert source.table["a"].isna().sum() == 5


def test_formulas_whose_value_is_an_empty_text_have_one(sheet):
    path = sheet(a=[1, 2, 3], b=['=IF(A2>1,A2,"")', 2, "=A4*2"])
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    with zipfile.ZipFile(path, "w") as book:  # as spreadsheets store it
        for name, part in parts.items():
            book.writestr(name, part.replace(b'<c r="B2">', b'<c r="B2" t="str">'))
    assert read(path).notes[0].startswith("b (1, the first in row 2): formulas without stored values; ")


def dates_and(path, *others):
    """Write dates above other cells, of a number and its format, and what Excel shows as an early date."""
    book = openpyxl.Workbook()
    book.active.append(["d", "n"])
    for i, (cell, form) in enumerate([*[(day, "yyyy-mm-dd") for day in DAYS * 2], *others, (15, "yyyy-mm-dd")]):
        book.active.append([cell, i])
        book.active.cell(i + 2, 1).number_format = form
    book.save(path)
    return path


def test_the_date_0_of_excel_is_missing_among_dates(tmp_path):
    path = dates_and(tmp_path / "t.xlsx", (0, "yyyy-mm-dd"), (0, "dd.mm.yyyy"))
    source = read(path)
    assert source.table["d"].astype(object).where(source.table["d"].notna(), None).tolist() == [
        *map(pd.Timestamp, DAYS * 2), None, None, pd.Timestamp("1900-01-15")]  # fmt: skip
    assert source.notes == ("d: missing where the date is 0, Excel's 1900-01-00 (2, the first in row 4)",)
    assert read(path, expected=Expected(text=["d"])).table["d"][4] == "00:00:00"


def test_any_number_of_dates_0_beside_a_date_is_missing(tmp_path):
    source = read(dates_and(tmp_path / "t.xlsx", *[(0, "yyyy-mm-dd")] * 20))
    assert source.table["d"].notna().tolist() == [True] * 4 + [False] * 20 + [True]


def test_a_date_0_alone_is_missing_in_new_rows_of_a_column_of_dates(sheet):
    day = pd.DataFrame({"d": pd.date_range("2024-01-01", periods=40), "y": range(40)})
    model = tabular.fit(day, "y", Settings(hidden=(4,), epochs=1)).model
    path = sheet(d=[time()])
    source = read(path, expected=model.expected())
    assert source.notes == ("d: missing where the date is 0, Excel's 1900-01-00 (1, the first in row 0)",)
    assert len(model.predict(source.table)) == 1
    assert read(path).table["d"].tolist() == [0]


@pytest.mark.parametrize(("cell", "form", "said"), [(0.3, "h:mm", "7:12:00"), (1.5, "[h]:mm", "36:00:00")])
def test_times_among_dates_are_refused_with_their_row(tmp_path, cell, form, said):
    path = dates_and(tmp_path / "t.xlsx", (0, "yyyy-mm-dd"), (cell, form))
    with pytest.raises(DataError, match=f"column 'd' holds dates, but not '{said}' in row 5; correct the cell"):
        read(path)
    assert read(path, expected=Expected(unused=["d"])).table["n"].tolist() == list(range(7))
