"""Codes such as 007 anywhere in a text file, which are text, and read as numbers would lose their zeros."""

import pandas as pd
import pytest

from viva_tensor.tabular import streaming
from viva_tensor.tabular.codes import suspects
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.reading import Reading, read
from viva_tensor.tabular.recognition import Writing, recognise
from viva_tensor.tabular.streaming import stream

ROWS = 3000  # more than are looked at for the layout


@pytest.fixture
def path(tmp_path):
    return tmp_path / "t.csv"


@pytest.fixture(params=["whole", "in blocks"])
def reader(request, monkeypatch):
    monkeypatch.setattr(streaming, "FIRST", 4096)
    monkeypatch.setattr(streaming, "BYTES", 4096)
    return read if request.param == "whole" else lambda *given: stream(*given).source


def sorted_zips(text="x"):
    zips = [*range(99_999, 99_999 - ROWS + 2, -1), 2139, 1067]
    return pd.DataFrame({"n": range(ROWS), "text": text, "zip": [f"{one:05}" for one in zips], "y": 0.5})


@pytest.mark.parametrize("quoting", [0, 1, 2])
@pytest.mark.parametrize("text", ["x", "one, two", "one, 007, two", "St 3, 1\nTown, 007", 'an "x", 1', None])
def test_codes_below_many_rows_of_plain_numbers(reader, path, text, quoting):
    table = sorted_zips(text)
    table.to_csv(path, index=False, quoting=quoting)
    found = reader(path)
    assert found.table["zip"].tolist() == table["zip"].tolist()
    assert found.table[["n", "y"]].equals(table[["n", "y"]])
    assert any(note.startswith("zip: text, since values such as '02139' begin with a zero") for note in found.notes)


@pytest.mark.parametrize("text", ["x", "one, two", 'an "x", 1', "St 3, 1\nTown"])
def test_only_columns_with_codes_are_suspected_of_them_in_a_file_of_quotes(text):
    lines = sorted_zips(text).to_csv(index=False, header=False, quoting=1, columns=["n", "text", "y", "zip"])
    found = suspects([lines.encode()], ",", {0, 2, 3})
    assert found == ({0, 2, 3} if "\n" in text else {3})  # below a break within quotes it is not known


@pytest.mark.parametrize("line", ['5" disk, 3" disk,1,02139', 'Town",1,02139', 'an ""x"", y",02139', 'a, "b, c",02139'])
def test_quotes_that_begin_no_field_hide_no_separators(line):
    assert suspects([f"{line}\n".encode()], ",", {0, 1, 2, 3}) == {0, 1, 2, 3}


def test_codes_that_are_known_as_numbers_or_stand_in_text_change_nothing(reader, path):
    table = sorted_zips("1, 007")
    table.to_csv(path, index=False)
    known = Expected(numbers=["zip"])
    assert reader(path, Reading(), known).table["zip"].tolist() == table["zip"].astype(int).tolist()
    table.drop(columns="zip").to_csv(path, index=False)
    assert reader(path).table["n"].tolist() == table["n"].tolist()


@pytest.mark.parametrize("slip", ["05", "00", "0"])
def test_a_zero_before_one_of_many_numbers_is_a_slip(reader, path, slip):
    numbers = [str(10 + one % 490) for one in range(ROWS)]
    numbers[2700] = slip
    path.write_text("\n".join(["x,y", *(f"{one},{i}" for i, one in enumerate(numbers))]))
    assert reader(path).table["x"].tolist() == [int(one) for one in numbers]


@pytest.mark.parametrize("slips", [["05", "-05"], ["-05", "-0", "00"]])
def test_behind_a_sign_a_zero_says_nothing(path, reader, slips):
    numbers = [*slips, *(str(one - 50) for one in range(400))]
    path.write_text("\n".join(["x,y", *(f"{one},{i}" for i, one in enumerate(numbers))]))
    assert reader(path).table["x"].tolist() == list(map(int, numbers))


@pytest.mark.parametrize("at", [0, 2700])
def test_a_word_for_missing_values_may_look_like_a_code(path, at):
    numbers = [str(10 + one % 490) for one in range(ROWS)]
    numbers[at] = "00"
    path.write_text("\n".join(["x,y", *(f"{one},{i}" for i, one in enumerate(numbers))]))
    source = read(path, Reading(writing=Writing(missing=("00",))))
    assert source.table.index[source.table["x"].isna()].tolist() == [at]
    assert source.table["x"].dropna().tolist() == [int(one) for one in numbers if one != "00"]


@pytest.mark.parametrize("first", ["codes", "numbers"])
def test_the_order_of_many_rows_decides_nothing(first):
    codes, numbers = [f"0{one}" for one in range(1, 2600)], [str(7 * one + 1) for one in range(10_000)]
    column = pd.Series([*codes, *numbers] if first == "codes" else [*numbers, *codes])
    found = recognise("x", column, Writing())
    assert found.notation is not None
    assert "(2,599 of 12,599)" in found.note


@pytest.mark.parametrize("at", [0, 1500, 2700])
@pytest.mark.parametrize("marker", ["", "?"])  # beside which Arrow reads text
def test_a_slip_is_one_wherever_it_stands_and_is_told(reader, path, at, marker):
    numbers = [str(10 + one % 490) for one in range(ROWS)]
    numbers[at], numbers[20] = "007", marker
    path.write_text("\n".join(["x,y", *(f"{one},{i}" for i, one in enumerate(numbers))]))
    source = reader(path)
    assert source.table["x"].dropna().tolist() == [int(one) for one in numbers if one != marker]
    told = "values that begin with a zero are read as numbers (1 of 2,999); --categorical 'x' reads all as categories"
    assert [note for note in source.notes if note.startswith("x: ") and note.endswith(told)]


@pytest.mark.parametrize("filler", ["0", "-1"])
@pytest.mark.parametrize("share", [0.1, 0.6])
@pytest.mark.parametrize("marker", ["", "?"])  # beside which Arrow reads text
def test_fillers_say_nothing_beside_zip_codes(reader, path, filler, share, marker):
    zips = [filler if one < share * ROWS else str(10_000 + 7 * one) for one in range(ROWS)]
    zips[1], zips[2700] = marker, "01067"
    path.write_text("\n".join(["zip,y", *(f"{one},{i}" for i, one in enumerate(zips))]))
    found = reader(path).table["zip"]
    assert (found[0], found[2700], found[2701]) == (filler, "01067", "28907")
    numbers = [one[1:] if len(one) > 2 else one for one in zips]
    numbers[2700] = "067"  # beside a 0, numbers of three digits may be a count
    path.write_text("\n".join(["n,y", *(f"{one[-3:]},{i}" for i, one in enumerate(numbers))]))
    source = reader(path)
    assert source.table["n"][2700] == 67
    assert any("begin with a zero are read as numbers" in note for note in source.notes)


@pytest.mark.parametrize("suffix", ["jsonl", "feather", "csv"])
def test_other_files_tell_slips_from_codes_in_the_same_way(tmp_path, suffix):
    table = pd.DataFrame({"x": ["12", "007", "1500", "260"] * 5, "zip": ["80331", "01067", "80333", "80335"] * 5})
    path = tmp_path / f"t.{suffix}"
    match suffix:
        case "jsonl":
            table.to_json(path, orient="records", lines=True)
        case "feather":
            table.to_feather(path)
        case _:
            table.to_csv(path, index=False)
    source = read(path)
    assert source.table["x"].tolist() == [12, 7, 1500, 260] * 5
    assert source.table["zip"].tolist() == table["zip"].tolist()
    assert sum("begin with a zero are read as numbers (5 of 20)" in note for note in source.notes) == 1
    assert read(path, expected=Expected(text=["x"])).table["x"].tolist() == table["x"].tolist()


def test_numbers_with_decimals_beside_a_slip_are_numbers(reader, path):
    path.write_text("\n".join(["x,y", *(f"{i}.5,{i}" for i in range(ROWS)), "007,1"]))
    assert reader(path).table["x"].dtype == "float64"


@pytest.mark.parametrize(
    "words", [["012", "7", "0145"], ["05", "7a", "7b", "12"], ["0x1F", "12", "007"], ["007", "odd"]]
)
def test_codes_of_several_lengths_or_beside_other_words_are_kept(reader, path, words):
    table = pd.DataFrame({"x": words * 3, "y": range(3 * len(words))})
    table.to_csv(path, index=False)
    assert reader(path).table["x"].tolist() == table["x"].tolist()


def test_first_rows_of_codes_among_many_numbers_are_no_codes(path):
    numbers = [*(f"{i:04}" for i in range(2500)), *map(str, range(10_000, 30_000))]
    pd.DataFrame({"x": numbers, "y": range(len(numbers))}).to_csv(path, index=False)
    assert read(path).table["x"].tolist() == [int(one) for one in numbers]


def test_rows_in_blocks_have_the_codes_that_their_sample_has(path, monkeypatch):
    monkeypatch.setattr(streaming, "SAMPLE", 100)
    table = sorted_zips()
    table.to_csv(path, index=False)
    zips = [one for frame in stream(path).frames(Expected()) for one in frame["zip"]]
    assert zips == table["zip"].tolist()


def test_rows_in_blocks_have_codes_that_their_sample_lacks(path, monkeypatch):
    monkeypatch.setattr(streaming, "SAMPLE", 200)
    monkeypatch.setattr(streaming, "BYTES", 4096)
    zips = [*map(str, range(10_000, 15_000)), "02139", *map(str, range(20_000, 21_000))]
    pd.DataFrame({"zip": zips, "y": range(len(zips))}).to_csv(path, index=False)
    found = stream(path)
    assert "02139" not in found.source.table["zip"].tolist()
    assert found.source.notes[0].startswith("zip: text, since values of other rows begin with a zero")
    for known in (Expected(notations=found.source.notations), Expected()):
        assert [one for frame in found.frames(known) for one in frame["zip"]] == zips
    assert stream(path, expected=Expected(numbers=["zip"])).source.table["zip"].dtype == "int64"


@pytest.mark.parametrize(
    ("last", "read_as"), [("11.2020", "10.2020"), ("0", "10.2020"), ("-1", "10.2020"), ("12.3456", 10.202)]
)
def test_a_month_before_a_year_is_a_code_if_all_values_are(reader, path, last, read_as):
    months = [*["10.2020"] * ROWS, "01.2021", *["10.2020"] * ROWS, last]  # those that tell are in blocks far apart
    pd.DataFrame({"m": months, "y": range(len(months))}).to_csv(path, index=False)
    assert reader(path).table["m"][0] == read_as


@pytest.mark.parametrize("at", [0, 2700])
@pytest.mark.parametrize("marker", ["", "?"])  # beside which Arrow reads text
def test_a_month_before_a_year_among_decimals_is_a_slip_and_told(reader, path, at, marker):
    numbers = [f"{3 + one / 1000:.3f}" for one in range(ROWS)]
    numbers[at], numbers[20] = "01.2020", marker
    path.write_text("\n".join(["x,y", *(f"{one},{i}" for i, one in enumerate(numbers))]))
    source = reader(path)
    assert source.table["x"].dropna().tolist() == [float(one) for one in numbers if one != marker]
    told = "values that begin with a zero are read as numbers (1 of 2,999); --categorical 'x' reads all as categories"
    assert [note for note in source.notes if note.startswith("x: ") and note.endswith(told)]


def test_codes_below_rows_that_are_too_short(path):
    table = sorted_zips()
    text = table.to_csv(index=False).replace("7,x,99992,0.5\n", "7,x,99992\n", 1)
    path.write_text(text)
    assert read(path).table["zip"].tolist() == table["zip"].tolist()
