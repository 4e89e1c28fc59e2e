import io

import pandas as pd
import pytest

from viva_tensor.tabular.saving import write_csv

TABLE = pd.DataFrame({"Größe": ["5 Ω", "7"]})


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_a_stream_gets_the_bytes_that_a_file_gets(tmp_path, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding, newline="\r\n")
    stream.write("# ")  # and after what was printed before
    write_csv(TABLE, stream)
    write_csv(TABLE, tmp_path / "t.csv")
    assert stream.buffer.getvalue() == b"# " + (tmp_path / "t.csv").read_bytes()
    assert (tmp_path / "t.csv").read_text("utf-8") == "Größe\n5 Ω\n7\n"


def test_a_stream_without_bytes_gets_text():
    stream = io.StringIO()
    write_csv(TABLE, stream)
    assert stream.getvalue() == "Größe\n5 Ω\n7\n"
