"""Files in blocks: what they give is what reading them as a whole gives."""

import gzip
import os
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given
from support.mangled import tables

from viva_tensor import tabular
from viva_tensor.error import InvalidValue
from viva_tensor.tabular import features, memory, packed, streamed_rows, streaming
from viva_tensor.tabular.column_choice import fit_encoding
from viva_tensor.tabular.columns import Categorical
from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.packed import Packed
from viva_tensor.tabular.packing import Packing
from viva_tensor.tabular.reading import Reading, read
from viva_tensor.tabular.recognition import Writing
from viva_tensor.tabular.streaming import Stream, read_or_stream, sample, stream
from viva_tensor.train import Settings

QUICK = Settings(hidden=(8,), epochs=2, batch_size=64)
ROWS = 3000
ANY = Expected()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(streaming, "SAMPLE", 400)
    monkeypatch.setattr(streaming, "BLOCK", 256)
    monkeypatch.setattr(streaming, "BYTES", 4096)
    monkeypatch.setattr(streaming, "FIRST", 8192)


def made(rows=ROWS):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"size": rng.normal(size=rows).round(3), "kind": rng.choice(["a", "b", "c"], rows)})
    table["when"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), unit="D")
    table["price"] = (3 * table["size"] + (table["kind"] == "b")).round(3)
    table.loc[7::11, "size"] = np.nan
    return table


def whole(frames):
    return pd.concat(list(frames), ignore_index=True)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_blocks_and_sample_are_the_rows_of_the_file(suffix, tmp_path):
    path = tmp_path / f"table.{suffix}"
    getattr(made(), "to_parquet" if suffix == "parquet" else "to_csv")(path, index=False)
    expected = read(path).table
    drawn = stream(path)
    assert drawn.rows == ROWS
    assert len(drawn.indices) == 400
    pd.testing.assert_frame_equal(drawn.source.table, expected.iloc[drawn.indices])
    known = Expected(notations=drawn.source.notations, text=["kind"])
    frames = list(drawn.frames(known))
    assert len(frames) > 5
    pd.testing.assert_frame_equal(whole(frames), expected)
    assert [frame.index[0] for frame in frames] == np.cumsum([0, *map(len, frames)])[:-1].tolist()


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_how_many_rows_there_are_is_no_row_of_a_file_in_blocks(suffix, tmp_path):
    path = tmp_path / f"table.{suffix}"
    text = made().to_csv(index=False) + f"({ROWS} rows)\n"
    path.write_bytes(gzip.compress(text.encode()) if suffix == "csv.gz" else text.encode())
    drawn = stream(path)
    assert drawn.rows == ROWS
    pd.testing.assert_frame_equal(whole(drawn.frames(Expected(notations=drawn.source.notations))), read(path).table)


@given(tables())
@hypothesis.settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_read_in_blocks_is_what_is_read_as_a_whole(made):
    blocks_are_the_whole(*made)


def blocks_are_the_whole(data, separator):
    """Check that a file read in blocks has the same rows as when it is read as a whole, or is refused in words."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("t.tsv" if separator == "\t" else "t.csv")
        path.write_bytes(data)
        try:
            expected = read(path)
        except DataError:
            with pytest.raises(DataError):
                stream(path)
            return
        try:
            drawn = stream(path)
        except DataError as error:
            if "in blocks" in str(error):  # of rows that are too short, and other encodings
                return
            raise
        assert drawn.rows == len(expected.table)
        pd.testing.assert_frame_equal(drawn.source.table, expected.table, check_index_type=False)
        assert drawn.source.notations == expected.notations
        texts = [
            name for name in expected.table if pd.api.types.infer_dtype(expected.table[name]) in ("string", "empty")
        ]
        known = Expected(notations=expected.notations, text=texts)
        again = pd.concat(list(drawn.frames(known)))
        for name in expected.table.columns.difference(texts):
            pd.testing.assert_series_equal(again[name], expected.table[name], check_index=False, check_dtype=False)


def test_each_row_has_the_same_chance_to_be_drawn():
    tables = [pa.table({"a": range(begin, begin + 10)}) for begin in range(0, 100, 10)]
    counts = sum(np.bincount(sample(tables, 10, seed).indices, minlength=100) for seed in range(400))
    assert abs(counts - 40).max() < 5 * np.sqrt(36)  # five standard deviations


@pytest.fixture(params=[1, 2])
def arrow_threads(request):
    before = pa.cpu_count()
    pa.set_cpu_count(request.param)
    yield
    pa.set_cpu_count(before)


@pytest.mark.usefixtures("arrow_threads")
def test_a_column_may_hold_more_than_its_first_rows_do(tmp_path):
    rows = [f"{i},,{i % 5},2020-01-0{i % 9 + 1}" for i in range(ROWS)]
    rows[2000] = "2000.5,7,n/k,2020-01-01T10:00"
    path = tmp_path / "table.csv"
    path.write_text("a,b,c,d\n" + "\n".join(rows) + "\n")
    drawn = stream(path)
    notations = {name: one for name, one in drawn.source.notations.items() if name != "c"}
    table = whole(drawn.frames(Expected(text=["c"], notations=notations)))
    assert table["a"][2000] == 2000.5
    assert table["a"][1999] == 1999
    assert table["b"][2000] == 7
    assert table["b"].notna().sum() == 1
    assert table["c"][1999:2001].tolist() == ["4", "n/k"]
    assert table["d"][2000] == pd.Timestamp("2020-01-01T10:00")


def test_a_reader_that_was_given_up_takes_nothing_from_the_next(tmp_path):
    path = tmp_path / "table.csv.gz"
    table = pd.DataFrame({"a": range(ROWS), "b": range(ROWS), "c": range(ROWS)}).astype({"b": object, "c": object})
    table.loc[ROWS // 2, "b"], table.loc[ROWS - 9, "c"] = 0.5, 0.5
    table.to_csv(path, index=False)
    for _ in range(10):
        drawn = stream(path)
        assert (drawn.source.table["a"] == drawn.indices).all()
        assert whole(drawn.frames(ANY))["a"].tolist() == list(range(ROWS))


def test_decimal_commas_and_dates_of_digits_are_read_again(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(
        "a;b;d\n" + "".join(f"{i % 7},5;{i % 3 + 1}.{i % 900 + 100};0{i % 9 + 1}012024\n" for i in range(ROWS))
    )
    way = Reading(writing=Writing(date_format="%d%m%Y"))
    drawn, expected = stream(path, way), read(path, way).table
    assert expected["b"][0] == 1100
    assert expected["d"].dt.year.eq(2024).all()
    pd.testing.assert_frame_equal(drawn.source.table, expected.iloc[drawn.indices])
    pd.testing.assert_frame_equal(whole(drawn.frames(Expected(notations=drawn.source.notations))), expected)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["1,2"] * 900 + ["3"] + ["1,2"] * 100, "line 902 has 1 fields, the header has 2"),
        (["1,x"] * 900 + ['1,"x'] + ["1,x"] * 1000, "line 902"),
        (["1,x"] * 900 + ["2,\xff"] + ["1,x"] * 100, "line 902 is not UTF-8 text"),
    ],
)
def test_broken_rows_are_refused_with_their_line(rows, words, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(("a,b\n" + "\n".join(rows) + "\n").encode("latin-1"))
    with pytest.raises(DataError, match=words):
        stream(path)


def test_what_cannot_be_read_in_blocks_is_refused(tmp_path):
    made(20).to_json(tmp_path / "table.json", orient="records", date_format="iso")
    made(20).to_csv(tmp_path / "table.csv", encoding="utf-16")
    (tmp_path / "none.csv").write_text("a,b\n")
    for name, words in (("table.json", "in blocks"), ("table.csv", "wanted UTF-8"), ("none.csv", "no rows")):
        with pytest.raises(DataError, match=words):
            stream(tmp_path / name)


@pytest.mark.parametrize("name", ["x", "y"])
def test_two_columns_of_a_parquet_file_with_one_name_are_named(name, tmp_path):
    table = pa.Table.from_arrays(
        [pa.array(["a", "b"] * 20), pa.array(range(40)), pa.array(range(40))], ["x", "y", name]
    )
    pyarrow.parquet.write_table(table, tmp_path / "table.parquet")
    for reader in (read, stream):
        with pytest.raises(DataError, match=rf"table\.parquet has two columns named '{name}'; rename one$"):
            reader(tmp_path / "table.parquet")


def test_a_value_unlike_the_sample_is_refused_with_its_row(tmp_path):
    path = tmp_path / "table.csv"
    rows = [f"${i % 50},{i % 7}" for i in range(ROWS)]
    path.write_text("a,b\n" + "\n".join(rows) + "\n")
    absent = sorted(set(range(ROWS)) - set(stream(path).indices.tolist()))[1500]
    rows[absent] = "cheap,3"
    path.write_text("a,b\n" + "\n".join(rows) + "\n")
    with pytest.raises(DataError, match=f"'a' must hold numbers .*'cheap' in row {absent}"):
        tabular.run(stream(path), "b", QUICK)


class TestRun:
    @pytest.mark.parametrize(
        "words", [("true", "false"), ("True", "False"), ("yes", "no"), ("2020-01-01", "2020-02-01")]
    )
    def test_labels_are_the_same_in_every_block(self, words, tmp_path):
        path = tmp_path / "table.csv"
        made().assign(label=lambda table: np.where(table["size"] > 0, *words)).to_csv(path, index=False)
        task = tabular.Task("label", "class")
        drawn = stream(path, expected=Expected(text=["label"])) if words[0].startswith("20") else stream(path)
        run = tabular.run(drawn, task, QUICK)
        assert run.rows["train"] + run.rows["validation"] + run.rows["test"] == ROWS

    def test_a_class_that_differs_by_letter_case_is_another(self, tmp_path):
        path = tmp_path / "table.csv"
        table = made()
        absent = sorted(set(range(ROWS)) - set(sample([pa.table({"a": range(ROWS)})], 400).indices.tolist()))
        table.loc[absent[5], "kind"] = "A"
        table.to_csv(path, index=False)
        run = tabular.run(stream(path), "kind", QUICK)
        assert any("left out 1 row of classes not in the sample, such as 'A'" in note for note in run.notes)

    def test_numbers_as_labels_beside_one_that_is_none(self, tmp_path):
        path = tmp_path / "table.csv"
        label = [f"{i % 3}.0" for i in range(ROWS)]
        absent = sorted(set(range(ROWS)) - set(sample([pa.table({"a": range(ROWS)})], 400).indices.tolist()))
        label[absent[9]] = "A"
        made().assign(label=label).to_csv(path, index=False)
        run = tabular.run(stream(path, expected=Expected(text=["label"])), tabular.Task("label", "class"), QUICK)
        assert run.rows["train"] + run.rows["validation"] + run.rows["test"] == ROWS - 1
        assert run.rows["without_target"] == 0
        assert any("left out 1 row of classes not in the sample, such as 'A'" in note for note in run.notes)

    def test_dates_as_categories_are_the_same_in_every_block(self, tmp_path):
        path = tmp_path / "table.csv"
        table = made()
        table["month"] = [f"2020-0{i % 3 + 1}-01" for i in range(ROWS)]
        table["price"] = np.arange(ROWS) % 3
        table.to_csv(path, index=False)
        task = tabular.Task("price", roles=tabular.Roles(categorical=("month",), drop=("size", "kind", "when")))
        settings = Settings(hidden=(), epochs=20, batch_size=32)
        assert tabular.run(stream(path), task, settings).scores["network"].rmse < 0.01

    def test_a_named_index_of_pandas_names_the_rows(self, tmp_path):
        path = tmp_path / "table.parquet"
        made().set_axis(pd.RangeIndex(1000, 1000 + 2 * ROWS, 2, name="key")).to_parquet(path, row_group_size=700)
        run = tabular.run(stream(path), tabular.Task("price", roles=tabular.Roles(id="key")), QUICK)
        assert (run.test["key"] == 1000 + 2 * run.test["row"]).all()

    def test_a_column_that_numbers_the_rows_is_left_out(self, tmp_path):
        path = tmp_path / "table.csv"
        made().reset_index(names="i").to_csv(path, index=False)
        assert dict(tabular.run(stream(path), "price", QUICK).encoding.left_out) == {
            "i": "it numbers the rows; --numeric keeps it"
        }

    def test_a_file_that_changes_is_noticed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(streaming, "_version", lambda path: (0, 0, 0))  # a disk that tells nothing
        path = tmp_path / "table.csv"
        made().to_csv(path, index=False)
        drawn = stream(path)
        made()[:2000].to_csv(path, index=False)
        with pytest.raises(DataError, match="the file had 3,000 rows and now 2,000"):
            tabular.run(drawn, "price", QUICK)

    def test_all_rows_but_those_held_out_are_trained_on(self, tmp_path):
        path = tmp_path / "table.csv"
        table = made()
        table.loc[5::100, "price"] = np.nan
        table.to_csv(path, index=False)
        drawn = stream(path)
        run = tabular.run(drawn, "price", QUICK)
        lacking = int(table["price"].isna().sum())
        assert run.rows["read"] == ROWS
        assert run.rows["without_target"] == lacking
        assert run.rows["train"] + run.rows["validation"] + run.rows["test"] + lacking == ROWS
        assert run.fit.rows_per_second * run.fit.seconds == pytest.approx(2 * run.rows["train"])
        np.testing.assert_array_equal(run.test["actual"], table["price"][run.test["row"]])
        assert "random sample of 400 of 3,000 rows" in run.notes[0]
        predicted = run.model.predict(table.iloc[run.test["row"]].reset_index(drop=True))["predicted"]
        np.testing.assert_allclose(predicted, run.test["predicted"], rtol=1e-5, atol=1e-5)

    def test_the_network_is_as_good_as_with_all_rows_in_memory(self, tmp_path):
        path = tmp_path / "table.parquet"
        made().to_parquet(path)
        settings = Settings(hidden=(16,), epochs=10, batch_size=32)
        streamed, stored = tabular.run(stream(path), "price", settings), tabular.run(read(path), "price", settings)
        assert streamed.scores["network"].rmse < 1.5 * stored.scores["network"].rmse + 0.05

    def test_rows_of_a_class_that_the_sample_lacks_are_named(self, tmp_path):
        path = tmp_path / "table.csv"
        table = made()
        absent = sorted(set(range(ROWS)) - set(sample([pa.table({"a": range(ROWS)})], 400).indices.tolist()))
        table.loc[absent[3:5], "kind"] = "rare"
        table.to_csv(path, index=False)
        run = tabular.run(stream(path), "kind", QUICK)
        assert run.target.labels == ("a", "b", "c")
        assert any("left out 2 rows of classes not in" in note and "'rare'" in note for note in run.notes)
        assert run.rows["without_target"] == 0
        assert run.rows["train"] == ROWS - 2 - run.rows["validation"] - run.rows["test"]

    def test_the_same_run_again_has_the_same_bits(self, tmp_path):
        path = tmp_path / "table.csv"
        made().to_csv(path, index=False)
        one, other = (tabular.run(stream(path), "price", QUICK).fit.layers for _ in range(2))
        assert all(np.array_equal(a.w.data, b.w.data) for a, b in zip(one, other, strict=True))

    def test_a_checkpoint_knows_every_target(self, tmp_path, monkeypatch):
        monkeypatch.setattr(packed, "PIECE", 64)
        path, options = tmp_path / "table.csv", {"checkpoint": tmp_path / "run.safetensors"}
        table = made()
        table.to_csv(path, index=False)
        one = tabular.run(stream(path), "price", QUICK, **options)
        other = tabular.run(stream(path), "price", QUICK, **options, resume=True)
        assert other.fit.history == one.fit.history
        absent = sorted(set(range(ROWS)) - set(stream(path).indices.tolist()))
        pair = [absent[700], next(i for i in absent[701:] if table["price"][i] != table["price"][absent[700]])]
        table.loc[pair, "price"] = table.loc[pair[::-1], "price"].to_numpy()
        table.to_csv(path, index=False)
        with pytest.raises(InvalidValue, match="other rows"):
            tabular.run(stream(path), "price", QUICK, **options, resume=True)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk_is_named(self, tmp_path, monkeypatch):
        path, folder = tmp_path / "table.csv", tmp_path / "run"
        made().to_csv(path, index=False)
        monkeypatch.setattr(streamed_rows, "TemporaryFile", lambda **_: open("/dev/full", "w+b"))  # noqa: SIM115
        for shared, named in ((folder, folder), (None, tempfile.gettempdir())):
            with pytest.raises(OSError, match="No space left on device") as caught:
                tabular.run(stream(path), "price", QUICK, shared_folder=shared)
            assert caught.value.filename == str(named)


class TestPacked:
    def test_features_are_those_of_the_encoding(self):
        table = made(500)
        encoding = fit_encoding(table)
        other = table.assign(kind=np.where(np.arange(500) % 7, table["kind"], "new"))
        other.loc[3, "kind"] = None
        packed = Packed(Packing(encoding, (1,)), other, np.zeros((500, 1), np.float32))
        np.testing.assert_array_equal(packed[:], encoding.encode(other))
        assert packed.records.itemsize < 4 * len(encoding.feature_names)

    @pytest.mark.parametrize("target", ["price", "kind"])
    def test_the_network_is_that_of_spread_features_bit_for_bit(self, target, monkeypatch):
        table = made(600).assign(other=lambda frame: frame["kind"].map({"a": "x", "b": "y", "c": "z"}))
        spread = tabular.run(table, target, QUICK)
        monkeypatch.setattr(features, "DENSE", 0)
        packed = tabular.run(table, target, QUICK)
        for a, b in zip(spread.fit.layers, packed.fit.layers, strict=True):
            np.testing.assert_array_equal(a.w.data, b.w.data)
        assert packed.scores == spread.scores

    def test_codes_fit_in_a_byte(self):
        categories = tuple(map(str, range(64)))
        column = Categorical("c", categories, missing=True)
        assert len(column.one_hot) <= 256


class TestMemory:
    def test_a_file_that_needs_more_is_read_in_blocks(self, tmp_path):
        for name in ("table.csv", "table.parquet"):
            path = tmp_path / name
            getattr(made(), "to_csv" if name.endswith("csv") else "to_parquet")(path, index=False)
            needed = memory.needed_memory(path)
            assert isinstance(read_or_stream(path, Reading(), ANY, needed - 1), Stream)
            assert not isinstance(read_or_stream(path, Reading(), ANY, needed), Stream)
            assert not isinstance(read_or_stream(path, Reading(), ANY), Stream)

    def test_a_control_group_leaves_what_it_grants_and_has_not_given(self, tmp_path):
        group = tmp_path / "job" / "step"
        group.mkdir(parents=True)
        (tmp_path / "job" / "memory.max").write_text("1000\n")
        (tmp_path / "job" / "memory.current").write_text("700\n")
        (tmp_path / "job" / "memory.stat").write_text("anon 500\ninactive_file 200\n")
        (group / "memory.max").write_text("max\n")
        (group / "memory.current").write_text("300\n")
        (group / "memory.stat").write_text("anon 300\n")
        assert memory.granted(tmp_path, "0::/job/step\n") == [500]
        assert memory.granted(tmp_path, "4:memory:/job\n") == []
        assert memory.free_memory() > 0


@pytest.mark.parametrize(
    ("asked", "columns"),
    [({"interval": 0.8}, ["lower", "upper"]), ({"loss": "quantile", "quantile": (0.1, 0.5)}, ["10%", "50%"])],
)
def test_intervals_and_quantiles_are_learned_from_rows_in_blocks(asked, columns, tmp_path):
    made().assign(price=lambda table: table["price"] + np.random.default_rng(1).normal(size=len(table))).to_csv(
        tmp_path / "table.csv", index=False
    )
    run = tabular.run(stream(tmp_path / "table.csv"), "price", replace(QUICK, epochs=6), **asked)
    assert run.rows["train"] > 2000
    assert (run.test[columns[0]] < run.test[columns[1]]).mean() > 0.9
    assert list(run.test.columns[-2:]) == columns
    assert all(0.5 < value < 1 for name, value in run.metric.items() if name == "coverage")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_stream_can_be_pickled(suffix, tmp_path):
    path = tmp_path / f"table.{suffix}"
    getattr(made(), "to_parquet" if suffix == "parquet" else "to_csv")(path, index=False)
    drawn = stream(path)
    again = pickle.loads(pickle.dumps(drawn))
    assert again.note == drawn.note
    pd.testing.assert_frame_equal(whole(again.frames(ANY)), whole(drawn.frames(ANY)))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_that_is_written_to_while_it_is_read_is_refused(suffix, tmp_path):
    path = tmp_path / f"table.{suffix}"

    def write(table):
        getattr(table, "to_parquet" if suffix == "parquet" else "to_csv")(path, index=False)

    write(made())
    os.utime(path, ns=(1, 1))  # long ago, so that a coarse clock does not matter
    drawn = stream(path)
    write(made().assign(price=made()["price"].sample(frac=1, random_state=0).to_numpy()))
    with pytest.raises(DataError, match="has changed since its sample was drawn; it must not change"):
        tabular.run(drawn, "price", QUICK)
    frames = stream(path).frames(ANY)
    next(frames)
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match="it must not change"):
        list(frames)
