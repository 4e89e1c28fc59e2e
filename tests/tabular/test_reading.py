import csv
import gzip
import io
import tempfile
import warnings
from functools import partial
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from support.mangled import tables

from viva_tensor.error import TensorError
from viva_tensor.tabular import runs, streaming
from viva_tensor.tabular.columns import Numeric
from viva_tensor.tabular.data import DataError, diamonds_path, labels_of, numbers_of
from viva_tensor.tabular.encoding import Encoding
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.labels import normal
from viva_tensor.tabular.preparing import Task, source_of
from viva_tensor.tabular.reading import Reading, read, read_table
from viva_tensor.tabular.recognition import Writing
from viva_tensor.train import Settings

TABLE = pd.DataFrame({"size": [1.5, 2.0, np.nan, 4.0], "kind": ["a", None, "b", "a"], "price": [10, 20, 30, 40]})


def trained_or_refused(folder, data, separator):
    """Read a table, train on it and use the model: "read" and "trained", or refused in one line."""
    path = folder / ("t.tsv" if separator == "\t" else "t.csv")
    path.write_bytes(data)
    try:
        table = read_table(path)
    except DataError as refused:
        said = str(refused)
        if "\n" in said or path.name not in said:
            raise AssertionError(said) from refused
        return "refused"
    agrees_with_csv(path, separator)
    outcome = "read"
    for target in table.columns:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".* rows have no finite target")
                model = runs.run(table, target, Settings(hidden=(2,), epochs=1, batch_size=4)).model
            assert Encoding.from_dict(model.encoding.to_dict()) == model.encoding
            predicted = model.predict(read(path, expected=model.expected()).table)
            assert len(predicted) == len(table)
            assert predicted["predicted"].notna().all()
            outcome = "trained"
        except (DataError, TensorError):
            pass
    return outcome


def agrees_with_csv(path, separator):
    """Compare with what the module csv reads: names, rows, and each cell that is not missing.

    Line breaks within a cell may be any of the three that files have, and numbers of any form that means them.
    """
    try:
        names = read(path, Reading(separator, header=True)).table.columns
        cells = read(path, Reading(separator, header=True), Expected(text=names)).table
    except DataError:
        return
    csv.field_size_limit(1 << 24)
    content = path.read_bytes()
    marks = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    text = content.decode(next((marks[mark] for mark in marks if content.startswith(mark)), "utf-8-sig"))
    header, *rows = (
        row
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        if "".join(row).strip(" \t") or len(row) > 1
    )
    assert [name.strip() or f"Unnamed: {i}" for i, name in enumerate(header)] == list(names)[: len(header)]
    assert all(name.startswith("Unnamed: ") for name in names[len(header) :])  # where each row ends with a separator
    assert len(rows) == len(cells)
    for row, line in zip(rows, cells.itertuples(index=False), strict=True):
        for i, cell in enumerate(line):
            written = row[i].strip() if i < len(row) else ""
            assert pd.isna(cell) or normal(cell) in (
                normal(written), normal(written.replace("\r\n", "\n").replace("\r", "\n"))
            )  # fmt: skip


class TestReadTable:
    @pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "T.TSV.GZ", "t.parquet"])
    def test_every_format_gives_the_same_table(self, tmp_path, name):
        path = tmp_path / name
        table = TABLE.assign(kind=["a", "ü", "b", "a b"], size=[1.5, -3e-300, np.nan, 0.14972674906437028])
        if name.endswith("parquet"):
            table.to_parquet(path)
        else:
            separator = "\t" if ".tsv" in name.lower() else ","
            content = table.to_csv(index=False, sep=separator).encode()
            path.write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
        pd.testing.assert_frame_equal(read_table(path), table, check_dtype=False, rtol=1e-15)
        assert read_table(str(path))["price"].dtype == np.int64

    def test_bundled_table(self):
        table = read_table(diamonds_path())
        assert table.shape == (53_940, 10)
        assert table["price"].sum() == 212_135_217

    def test_text_columns_keep_leading_zeros(self, tmp_path):
        (tmp_path / "t.csv").write_text("code,n\n007,1\n012,2\n")
        table = read_table(tmp_path / "t.csv", text=["code", "absent"])
        assert table["code"].tolist() == ["007", "012"]
        assert table["n"].tolist() == [1, 2]

    def test_a_number_of_400_digits_is_infinite_and_so_missing(self, tmp_path):
        (tmp_path / "t.csv").write_text(f"a\n1\n{'9' * 400}\n-{'9' * 400}\n{'9' * 300}\n")
        numbers = numbers_of(read_table(tmp_path / "t.csv")["a"])
        np.testing.assert_array_equal(numbers, [1, np.nan, np.nan, 1e300])

    def test_late_text_makes_the_whole_column_text(self, tmp_path):
        # wide and long enough to be read in several pieces
        row, last = (",".join([first, *"abcdefgh" * 12]) + "\n" for first in "1x")
        names = ",".join(["code", *map("c{}".format, range(96))]) + "\n"
        (tmp_path / "t.csv").write_text(names + row * 12_000 + last * 9_000)
        assert set(read_table(tmp_path / "t.csv")["code"]) == {"1", "x"}

    def test_named_index_of_parquet_is_a_column(self, tmp_path):
        TABLE.set_index("price").iloc[1:].to_parquet(tmp_path / "t.parquet")
        table = read_table(tmp_path / "t.parquet")
        assert set(table.columns) == set(TABLE.columns)
        assert table.index.tolist() == [0, 1, 2]

    @pytest.mark.parametrize("names", [["a", "a"], ["a", "b"]])
    def test_two_columns_of_one_name(self, tmp_path, names):
        columns = pa.table([[1, 2], [3, 4]], names=names)
        if names == ["a", "b"]:  # the index of the stored data frame has the name of a column
            frame = pd.DataFrame({"b": [3, 4]}, index=pd.Index([1, 2], name="a"))
            columns = pa.Table.from_pandas(frame).rename_columns({"b": "a"}).append_column("b", columns["b"])
        pq.write_table(columns, tmp_path / "t.parquet")
        with pytest.raises(DataError, match=r"t\.parquet"):
            read_table(tmp_path / "t.parquet")

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("t.csv", b"", "is empty"),
            ("t.csv", b"a,b\n", "has no rows"),
            ("t.csv", b"a,b\n1\x002,3\n", "byte 5 is NUL"),
            ("t.csv", "a,b\n1,2\n".encode("utf-16-le"), "byte 1 is NUL"),
            ("t.csv", bytes(99), "byte 0 is NUL"),
            ("t.csv.gz", gzip.compress(b"a\n" + b"1\n" * (1 << 20) + b"\0", mtime=0), f"byte {(1 << 21) + 2} is NUL"),
            ("t.csv", b"a,b,a\n1,2,3\n", "two columns named 'a'"),
            ("t.csv", b"\xef\xbb\xbfa,a\n1,2\n", "two columns named 'a'"),
            ("t.tsv", b'"Unnamed: 1"\t\n1\t2\n', "two columns named 'Unnamed: 1'"),
            ("t.csv", b"a,b\n1,2\n1,2,3\n", "line 3 has 3 fields, the header has 2"),
            ("t.csv", b"a,b\n1,2,3\n4,5,6\n", "line 2 has 3 fields, the header has 2"),
            ("t.csv", "a,b\n1,é\n".encode("latin-1"), "UTF-8"),
            ("t.csv", bytes(range(128, 256)), "cannot read"),
            ("t.csv.gz", b"a,b\n1,2\n", "cannot read"),
            ("t.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-20], "cannot read"),
            ("t.parquet", b"a,b\n1,2\n", "PARQUET"),
            ("t.xls", b"PK", "format"),
            ("t", b"a,b\n1,2\n", "format"),
            ("t.parquet.gz", b"", "format"),
        ],
    )
    def test_unusable_file(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message) as error:
            read_table(tmp_path / name)
        assert "\n" not in str(error.value)
        assert name in str(error.value)

    @given(tables())
    @hypothesis.settings(max_examples=25, deadline=None)
    def test_whatever_a_table_holds_is_used_or_refused_in_words(self, table):
        with tempfile.TemporaryDirectory() as folder:
            trained_or_refused(Path(folder), *table)

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_blank_lines_of_any_ending_are_no_rows(self, tmp_path, end, mark):
        (tmp_path / "t.csv").write_bytes((mark + end.join(["a,b", "1,2", "", ",3", "", "4,5"])).encode())
        table = read_table(tmp_path / "t.csv")
        np.testing.assert_array_equal(table.astype(float), [[1, 2], [np.nan, 3], [4, 5]])
        assert list(table.columns) == ["a", "b"]

    @pytest.mark.parametrize("before", range(4))
    def test_a_carriage_return_alone_is_found_anywhere(self, tmp_path, before):
        rows = b"1,2\r\n" * ((1 << 20) // 5 - 2)
        rows += b"1," + b"2" * ((1 << 20) - len(rows) - 8 - before + 4)  # ends near the end of a piece of the file
        (tmp_path / "t.csv").write_bytes(b"a,b\n" + rows + b"\r\r,3\n")
        last = read_table(tmp_path / "t.csv").astype(float).iloc[-1]
        assert last.tolist() == pytest.approx([np.nan, 3], nan_ok=True)

    def test_a_byte_order_mark_is_no_part_of_a_name(self, tmp_path):
        (tmp_path / "t.csv").write_bytes("a,b\n1,2\n".encode("utf-8-sig"))
        assert list(read_table(tmp_path / "t.csv").columns) == ["a", "b"]

    def test_missing_file_and_directory(self, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            read_table(tmp_path / "none.csv")
        with pytest.raises(DataError, match="is a directory"):
            read_table(tmp_path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda file, table: table.to_csv(file, compression="gzip"), "it is gzip; its name must end with .gz"),
        (lambda file, table: table.to_csv(file, compression="xz"), "it is xz; its name must end with .xz"),
        (lambda file, table: table.to_excel(file, engine="openpyxl"), "it is a workbook or a zip archive; .*.xlsx or"),
        (lambda file, table: table.to_parquet(file), "it is Parquet; its name must end with .parquet"),
        (lambda file, table: table.to_feather(file), "it is Feather; its name must end with .feather"),
        (lambda file, _: file.write(bytes.fromhex("d0cf11e0a1b11ae1")), "it is an old or encrypted workbook;"),
    ],
)
def test_files_named_as_text_that_are_none_are_refused_with_what_they_are(tmp_path, write, message):
    content = io.BytesIO()
    write(content, pd.DataFrame({"a": [1]}))
    (tmp_path / "t.csv").write_bytes(content.getvalue())
    with pytest.raises(DataError, match=rf"cannot read .*t\.csv as text: .*{message}"):
        read(tmp_path / "t.csv")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "feather", "parquet", "xlsx"])
@pytest.mark.parametrize("kind", ["text", "date"])
def test_dates_have_the_same_labels_in_every_format(tmp_path, suffix, kind):
    path, days = tmp_path / f"t.{suffix}", ["2024-01-31", "2024-02-29"]
    table = pd.DataFrame({"n": [1, 2], "day": days if kind == "text" or "json" in suffix else pd.to_datetime(days)})
    {
        "csv": partial(table.to_csv, index=False),
        "jsonl": partial(table.to_json, orient="records", lines=True),
        "json": partial(table.to_json, orient="records"),
        "feather": table.to_feather,
        "parquet": table.to_parquet,
        "xlsx": partial(table.to_excel, index=False),
    }[suffix](path)
    found = read_table(path, text=["day"])
    assert labels_of(found["day"])[1] == days
    assert list(found.columns) == ["n", "day"]


def test_sheets_that_are_not_read_are_named(tmp_path):
    path = tmp_path / "book.xlsx"
    with pd.ExcelWriter(path) as book:
        for name in ("sales", "notes", "old"):
            pd.DataFrame({"a": [1, 2]}).to_excel(book, sheet_name=name, index=False)
    assert read(path).notes == ("read only the sheet 'sales', not 'notes', 'old' (--sheet names another)",)


def test_booleans_are_no_numbers_for_a_model_of_numbers():
    column = Numeric("a", median=3.0, mean=3.0, std=1.0, low=0.0, high=5.0)
    with pytest.raises(DataError, match=r"'a' must hold numbers \(0 to 5\), not booleans"):
        column.encode(pd.Series([True, False]))
    assert Numeric("a", 0.0, 0.5, 1.0, low=0.0, high=1.0).encode(pd.Series([True]))[0, 0] == 0.5


def test_memory_for_arrow_comes_from_where_it_came_before_when_a_file_has_been_read(tmp_path):
    before = pa.default_memory_pool().backend_name
    (tmp_path / "right.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "wrong.csv").write_text('a,b\n1,2\n"3,4\n5,6\n')
    read_table(tmp_path / "right.csv")
    assert pa.default_memory_pool().backend_name == before
    with pytest.raises(DataError):
        read_table(tmp_path / "wrong.csv")
    assert pa.default_memory_pool().backend_name == before


@pytest.mark.parametrize("memory", [None, 0])
def test_a_thread_that_the_system_refuses_to_arrow_is_a_matter_of_limits(tmp_path, monkeypatch, memory):
    def refused(*_, **__):
        raise pa.ArrowException("Unknown error: Failed to launch worker thread: Resource temporarily unavailable")

    monkeypatch.setattr("pyarrow.csv.read_csv", refused)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(
        DataError, match=r"t\.csv: Unknown error: .* allow more processes and threads \(ulimit -u\), or"
    ):
        streaming.read_or_stream(tmp_path / "t.csv", Reading(), Expected(), memory)


@pytest.mark.parametrize(
    ("last", "word"),
    [
        ("Total;;198;66", "Total"),
        ("\n Grand Total ;-;198;66", "Grand Total"),
        ("SUMME:;n/a;198", "SUMME:"),
        ("east;x;198;66", None),
        ("Total;x;198;66", None),
        ("north;;198;66", None),
        (";;198;66", None),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.xlsx"])
def test_a_total_below_the_rows_is_told_and_kept(tmp_path, name, last, word):
    lines = [f"{'north' if i % 2 else 'south'};x;{i};{i / 2}" for i in range(10)]
    (tmp_path / "t.csv").write_text("\n".join(["region;kind;n;y", *lines, last, ""]))
    if name == "t.xlsx":
        read(tmp_path / "t.csv").table.to_excel(tmp_path / name, index=False)
    source = read(tmp_path / name)
    told = [note for note in source.notes if "seems to be a total" in note]
    seems = (
        f"row 10, the last, seems to be a total ({word!r} in region) but is used like any other row; if it is a total"
    )
    assert told == ([seems + ", remove it"] if word else [])
    assert source.table["n"].tolist() == [*range(10), 198]
    assert source_of(source.table, Task("y")).notes == tuple(told)


@pytest.mark.parametrize("way", [Reading(), Reading(writing=Writing(missing=("Total",)))], ids=["", "missing"])
@pytest.mark.parametrize("below", ["", ";;\n;;\n"])
@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_total_is_told_however_a_file_is_read(tmp_path, name, below, way):
    lines = [f"{'north' if i % 2 else 'south'};{i}:30;{i / 2}" for i in range(10)]
    (tmp_path / "t.csv").write_text("\n".join(["region;n;y", *lines, "Total;50:00;22.5", below]))
    if name == "t.parquet":
        table = read(tmp_path / "t.csv", expected=Expected(text=["n"])).table[:11]
        table.astype({"region": "category"} if below else {}).to_parquet(tmp_path / name)
    last = "the last" if name == "t.parquet" or not below else "the last with a value"
    seems = f"row 10, {last}, seems to be a total ('Total' in region) but is used like any other row; if it is a total"
    for source in (read(tmp_path / name, way, whole=False), streaming.stream(tmp_path / name, way).source):
        assert [note for note in source.notes if "seems to be" in note] == [seems + ", remove it"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_words_for_missing_values_beside_a_total_are_no_texts(tmp_path, suffix):
    table = pd.DataFrame({"r": ["a", "b", "Total"], "k": ["u", "v", "gone"], "n": [1, 2, 3]})
    path = tmp_path / f"t.{suffix}"
    match suffix:
        case "csv":
            table.to_csv(path, index=False)
        case "jsonl":
            table.to_json(path, orient="records", lines=True)
        case _:
            pq.write_table(pa.Table.from_pandas(table), path, row_group_size=2)
    way, seems = Reading(writing=Writing(missing=("gone",))), "row 2, the last, seems to be a total ('Total' in r)"
    assert seems in str(read(path, way).notes)
    assert seems not in str(read(path).notes)
    assert seems in str(source_of(table, Task("n", writing=way.writing)).notes)


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_a_total_in_a_column_of_categories_is_told(tmp_path, suffix):
    table = pd.DataFrame({"r": pd.Categorical(["north"] * 3 + ["Total"]), "n": [1, 2, 3, 6]})
    getattr(table, f"to_{suffix}")(tmp_path / f"t.{suffix}")
    for notes in (source_of(table, Task("n")).notes, read(tmp_path / f"t.{suffix}").notes):
        assert "row 3, the last, seems to be a total ('Total' in r)" in str(notes)


def test_of_a_sample_the_last_row_of_the_file_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "SAMPLE", 5)
    (tmp_path / "t.csv").write_text("region;n\n" + "north;1\nTotal;1\n" * 50)
    assert "total" not in str(streaming.stream(tmp_path / "t.csv").source.notes)
    with (tmp_path / "t.csv").open("a") as file:
        file.write("Sum;100\n")
    assert "row 100, the last, seems to be a total" in str(streaming.stream(tmp_path / "t.csv").source.notes)


def test_a_word_for_totals_in_other_rows_is_none(tmp_path):
    (tmp_path / "t.csv").write_text("how,n\nsum,1\nmean,2\nsum,3\n")
    assert read(tmp_path / "t.csv").notes == ()
    (tmp_path / "t.csv").write_text("how,n\nsum,1\n")
    assert read(tmp_path / "t.csv").notes == ()


def test_numbers_without_a_point_are_read_whatever_stands_before_decimals(tmp_path):
    (tmp_path / "t.csv").write_text("a;b;c\n1,5;1e3;0.5\n2,5;2e3;1.5\n")
    assert read(tmp_path / "t.csv").table.to_numpy().tolist() == [[1.5, 1000, 0.5], [2.5, 2000, 1.5]]
