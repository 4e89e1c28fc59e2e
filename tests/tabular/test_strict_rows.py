"""Quotes that swallow rows of a text file, and lines of quoted text that are no rows."""

import pandas as pd
import pytest

from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.reading import read


@pytest.fixture
def reader(tmp_path):
    def read_text(content):
        path = tmp_path / "t.csv"
        path.write_text(content)
        return read(path)

    return read_text


def test_a_quote_that_swallows_most_rows_is_found(reader):
    lines = [f"{i},{i % 7},w{i % 3}\n" for i in range(300)]
    lines[100] = '100,2,"w1\n'
    with pytest.raises(DataError, match="a quote that opens in line 102 is not closed"):
        reader("a,b,c\n" + "".join(lines))
    lines[290] = '290,3,"w2"\n'
    with pytest.raises(DataError, match="a quote that opens in line 102 is not closed"):
        reader("a,b,c\n" + "".join(lines))


ADDRESS = "Anna 3\nMain St 3, Town, CA\nUSA"
ROWS_ALIKE = "see\nrome, mild, sun\nnice, warm, sun"  # as wide as rows, but with words where these have numbers


@pytest.mark.parametrize("names", ["id,n,at", "id,at,n", "at,id,n"])
@pytest.mark.parametrize("text", [ADDRESS, ROWS_ALIKE])
def test_lines_of_an_address_are_no_rows_that_a_quote_swallows(reader, names, text):
    table = pd.DataFrame({"id": range(5), "n": 0.5, "at": [text, "x", text, "y", "z"]})[names.split(",")]
    assert reader(table.to_csv(index=False)).table.to_dict("list") == table.to_dict("list")


@pytest.mark.parametrize(
    "lines",
    ['ann,"rome,hi\nbob,oslo,yo\ncid,paris",ho\n', 'ann,rome,"hi\nbob,oslo,yo\ncid,paris,ho"\n',
     '"ann,rome,hi\nbob,oslo,yo\ncid",paris,ho\n', '"ann,rome,hi\nbob,oslo,yo\ncid,paris",ho\n'],
)  # fmt: skip
def test_rows_of_words_that_a_quote_swallows_are_found(reader, lines):
    with pytest.raises(DataError, match="the quote that opens in line 2 closes only in line 4"):
        reader("name,city,said\n" + lines + "dan,bonn,hm\n")
