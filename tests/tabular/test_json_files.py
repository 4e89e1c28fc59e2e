"""Files of JSON, through reading them."""

import json

import pytest

from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.reading import read


@pytest.fixture
def reader(tmp_path):
    def read_text(content, name, expected=None):
        path = tmp_path / name
        path.write_bytes(content.encode())
        return read(path, None, expected)

    return read_text


def rows(source):
    return source.table.astype(object).where(source.table.notna(), None).to_numpy().tolist()


def in_json(values, name):
    objects = [json.dumps({"a": value, "n": i}) for i, value in enumerate(values)]
    return "[" + ",".join(objects) + "]" if name == "t.json" else "\n".join(objects)


@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
@pytest.mark.parametrize(
    ("values", "read_as"),
    [
        (["n/a", 1, 2], [None, 1, 2]),
        ([1, None, "x", 2.5], [1, None, "x", 2.5]),
        (["1.200,5", 3], [1200.5, 3]),
        ([True, "x", 1], ["true", "x", 1]),
        ([10**30, "x"], [10**30, "x"]),
    ],
)
def test_values_of_several_kinds_in_json_are_those_of_text_files(reader, name, values, read_as):
    source = reader(in_json(values, name), name=name)
    assert rows(source) == [[value, i] for i, value in enumerate(read_as)]


@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
@pytest.mark.parametrize(("nested", "kind"), [([1], "a list"), ({"b": 1}, "an object")])
def test_lists_and_objects_beside_other_values_are_refused_with_their_row(reader, name, nested, kind):
    content = in_json(["x", None, nested, 1], name)
    with pytest.raises(DataError, match=rf"t\.json.*: column 'a' holds {kind} in row 2, .*--drop 'a'"):
        reader(content, name=name)
    assert reader(content, name=name, expected=Expected(unused=["a"])).table["n"].tolist() == [0, 1, 2, 3]


def test_integers_beyond_64_bits_in_json_stay_exact(reader):
    assert reader(in_json([10**30 + 1, 7], "t.json"), name="t.json").table["a"].tolist() == [10**30 + 1, 7]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n\n{"a": \n', "line 3: Expecting value"),
        ('{"a": 1}\n[1]\n', "line 2 is not an object"),
        ('null\n{"a": 1}\n', "line 1 is not an object"),
        ('{"a": 1}\nnull\n', "line 2 is not an object"),
        ('{"a": 1, "a": 2}\n', "line 1: a row has two values of 'a'"),
    ],
)
def test_lines_of_json_are_refused_with_their_number(reader, content, message):
    with pytest.raises(DataError, match=rf"cannot read .*t\.jsonl.*{message}"):
        reader(content, name="t.jsonl")


def test_integers_of_json_lines_are_exact_beyond_64_bits_of_a_float(reader):
    numbers = [2**63 + 1, 2**63 + 2, 2**64 - 1]
    lines = "\n".join(json.dumps({"a": number, "x": 0.5}) for number in numbers)
    assert reader(lines, name="t.jsonl").table["a"].tolist() == numbers


LINES = '{"a": 1, "b": "x"}\n\n{"a": null, "b": "y"}\n'


@pytest.mark.parametrize("name", ["t.json", "t.jsonl", "t.ndjson", "T.NDJSON"])
def test_lines_of_json_may_have_other_names(reader, name):
    assert rows(reader(LINES, name)) == [[1, "x"], [None, "y"]]


@pytest.mark.parametrize(("content", "message"), [(LINES + "{", "line 4"), ("[1]\n[2]", "line 1 is not an object")])
def test_lines_that_are_no_json_are_refused_with_their_number_in_any_file(reader, content, message):
    with pytest.raises(DataError, match=rf"t\.json.*{message}"):
        reader(content, "t.json")
