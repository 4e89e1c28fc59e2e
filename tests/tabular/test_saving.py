import io
import json
import os
import re

import numpy as np
import pandas as pd
import pytest

from viva_tensor import checkpoint, files
from viva_tensor.tabular import runs, saving
from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.model import load
from viva_tensor.tabular.saving import write_csv
from viva_tensor.train import Settings

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


def of_seed(seed):
    x = np.arange(60.0) % 17
    return runs.run(pd.DataFrame({"x": x, "y": 2 * x}), "y", Settings(hidden=(4,), epochs=1, seed=seed))


@pytest.fixture
def run():
    return of_seed(0)


def test_files_of_no_run_are_replaced_with_force_alone(run, tmp_path):
    (tmp_path / "history.csv").write_text("mine")
    with pytest.raises(DataError, match=r"it holds history\.csv, which belongs to no model; name another folder"):
        saving.save(run, tmp_path)
    assert os.listdir(tmp_path) == ["history.csv"]
    assert (tmp_path / "history.csv").read_text() == "mine"
    names = {path.name for path in saving.save(run, tmp_path, force=True)}
    assert names == {*saving.NAMES} - {"trees.safetensors"}
    saving.save(run, tmp_path)  # of a run


FOREIGN = [("model.safetensors", "mine"), *(("preprocessing.json", text) for text in ("{}", "[1]", "mine", "[" * 9999))]


@pytest.mark.parametrize(("name", "content"), FOREIGN, ids=["weights", "empty", "list", "text", "deep"])
def test_names_alone_do_not_make_a_run(run, tmp_path, name, content):
    def contents():
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    for one in (name, "history.csv", "loss.png"):
        (tmp_path / one).write_text(content)
    before = contents()
    for save in (lambda: saving.save(run, tmp_path), lambda: run.model.save(tmp_path)):
        with pytest.raises(DataError, match=rf"it holds {name}, which belongs to no model; name another folder"):
            save()
        assert contents() == before
    saving.save(run, tmp_path, force=True)
    assert load(tmp_path)


def test_trees_of_another_are_left(run, tmp_path):
    (tmp_path / "trees.safetensors").write_text("mine")
    for _ in range(2):
        run.model.save(tmp_path)
    assert (tmp_path / "trees.safetensors").read_text() == "mine"


def test_a_full_disk_leaves_the_run_that_is_there_and_the_new_model_beside_it(run, tmp_path, monkeypatch):
    def contents():
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(handle):
        counted.append(handle)
        if len(counted) == 8:  # the last of the files
            raise OSError(28, "No space left on device")

    folder, other, written = tmp_path / "run", of_seed(1), []
    saving.save(run, folder)
    before, counted = contents(), []
    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(OSError, match="No space left on device"),
        pytest.warns(UserWarning, match=r"now holds files of another run; this run is saved to .*run-2"),
    ):
        saving.save(other, folder, written=written)
    assert contents() == before
    assert written == [tmp_path / "run-2" / name for name in ("model.safetensors", "preprocessing.json")]
    assert np.array_equal(load(tmp_path / "run-2").layers[0].w.data, other.model.layers[0].w.data)


def test_a_model_for_which_alone_there_is_room_is_not_lost(run, tmp_path, monkeypatch):
    def full(contents):
        if any(path.name == "report.html" for path in contents):
            raise OSError(28, "No space left on device")
        return replace_all(contents)

    replace_all, written = files.replace_all, []
    monkeypatch.setattr(files, "replace_all", full)
    with pytest.raises(OSError, match="No space left on device"):
        saving.save(run, tmp_path, written=written)
    assert [path.name for path in written] == ["model.safetensors", "preprocessing.json"]
    assert load(tmp_path)


def test_the_model_comes_last_of_all_files(run, tmp_path, monkeypatch):
    names, replace = [], os.replace

    def replaced(source, target):
        names.append(os.path.basename(target))
        assert len(list(tmp_path.glob(".*.tmp"))) == 9 - len(names)
        replace(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    written = saving.save(run, tmp_path)
    assert len(names) == 8
    assert names[-2:] == ["model.safetensors", "preprocessing.json"]
    assert [path.name for path in written[:3]] == ["model.safetensors", "preprocessing.json", "history.csv"]


@pytest.mark.parametrize("last", ["report.md", "model.safetensors", "preprocessing.json"])
def test_a_kill_between_the_files_leaves_the_old_model_or_parts_that_are_refused(run, tmp_path, monkeypatch, last):
    def replaced(source, target):
        if os.path.basename(target) == last:
            raise KeyboardInterrupt
        replace(source, target)

    saving.save(run, tmp_path)
    replace = os.replace
    monkeypatch.setattr(os, "replace", replaced)
    with pytest.raises(KeyboardInterrupt):
        saving.save(of_seed(1), tmp_path)
    if last == "preprocessing.json":
        with pytest.raises(DataError, match=r"holds model\.safetensors of one run and preprocessing\.json of another"):
            load(tmp_path)
    else:
        assert np.array_equal(load(tmp_path).layers[0].w.data, run.model.layers[0].w.data)


def test_reports_of_the_run_before_do_not_stay(run, tmp_path, monkeypatch):
    saving.save(run, tmp_path)
    monkeypatch.delattr("viva_tensor.tabular.report.record")
    with pytest.raises(AttributeError):
        saving.save(run, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["model.safetensors", "preprocessing.json"]


def test_a_model_is_replaced_while_it_is_read(run, tmp_path, monkeypatch):
    first, second = run.model, of_seed(1).model
    first.save(tmp_path)
    read, left = checkpoint.load_weights, [second, first]

    def replaced(path):
        if left:
            left.pop().save(tmp_path)
            left.pop().save(tmp_path)
        return read(path)

    monkeypatch.setattr(checkpoint, "load_weights", replaced)
    assert np.array_equal(load(tmp_path).layers[0].w.data, second.layers[0].w.data)
    assert left == []


def test_a_model_of_a_newer_version_is_refused_and_one_of_an_older_version_is_taken(run, tmp_path):
    run.model.save(tmp_path)
    path = tmp_path / "preprocessing.json"
    record = json.loads(path.read_text())
    assert record.pop("format") == 1
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"preprocessing\.json was changed since it was written"):  # with its format
        load(tmp_path)
    del record["checksum"]
    path.write_text(json.dumps(record))
    assert load(tmp_path).target == run.target
    path.write_text(json.dumps({"format": 2, "all else": "is other"}))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(DataError, match="has format 2, wanted 1: written by a newer version of viva_tensor; update it"):
        load(tmp_path)


@pytest.mark.parametrize("found", [0, -1, 1.5, 2.5, "x", None, [2]])
def test_a_format_that_no_version_has_is_not_said_to_be_newer(tmp_path, found):
    (tmp_path / "preprocessing.json").write_text(json.dumps({"format": found}))
    with pytest.raises(DataError, match=rf"has format {re.escape(repr(found))}, wanted 1: not written by viva_tensor"):
        load(tmp_path)
