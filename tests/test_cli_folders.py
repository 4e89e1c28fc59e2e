"""Names and folders that commands are given, and what becomes of a training when one is not as it should be."""

import os
import subprocess
import sys

import pytest
from support.commands import QUICK, invoke, shop

from viva_tensor import files
from viva_tensor.tabular import runs


@pytest.fixture
def csv(tmp_path):
    return shop(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="file names are text")
@pytest.mark.parametrize("name", [b"M\xfcnchen.csv", "München.csv".encode()])
@pytest.mark.parametrize("coding", [{"PYTHONIOENCODING": "utf-8:strict"},
                                    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])  # fmt: skip
def test_a_name_that_is_no_text(csv, tmp_path, name, coding):
    (tmp_path / os.fsdecode(name)).write_bytes(csv.read_bytes())
    command = [sys.executable, "-m", "viva_tensor", "train", name, "--target", "price", "--output", "run", *QUICK]
    result = subprocess.run(command, cwd=tmp_path, env=os.environ | coding, capture_output=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, b"")
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert report.startswith(f"# price of {name.decode(errors='replace')}\n")


def test_a_disk_that_is_full_in_the_end_leaves_what_is_named(csv, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("viva_tensor.tabular.page.page", full)
    result = invoke("train", csv, "--target", "price", "--output", tmp_path / "run", *QUICK)
    assert result.exit_code == 2
    saved = f"complete files in {tmp_path / 'run'}: model.safetensors, preprocessing.json, history.csv, predictions"
    assert f"No space left on device; {saved}" in result.stderr
    assert "; the same command with --resume continues from" in result.stderr


def test_a_checkpoint_that_a_kill_left_half_written_goes_with_the_whole_one(csv, tmp_path):
    (tmp_path / "run").mkdir()
    for name in (".checkpoint.safetensors.1.1.tmp", ".history.csv.1.1.tmp", ".other.1.1.tmp"):
        (tmp_path / "run" / name).touch()
    assert invoke("train", csv, "--target", "price", "--output", tmp_path / "run", *QUICK).exit_code == 0
    assert [name for name in os.listdir(tmp_path / "run") if name.startswith(".")] == [".other.1.1.tmp"]


@pytest.mark.parametrize("message", ["", "Unable to allocate 8 GiB"])
def test_memory_that_is_lacking_in_the_end_leaves_what_is_named(csv, tmp_path, monkeypatch, message):
    def lack(*arguments):
        raise MemoryError(message)

    command = ["train", csv, "--target", "price", "--output", tmp_path / "run", *QUICK]
    with monkeypatch.context() as patch:
        patch.setattr("viva_tensor.tabular.report.record", lack)
        result = invoke(*command)
    assert result.exit_code == 2
    saved = f"complete files in {tmp_path / 'run'}: model.safetensors, preprocessing.json"
    told = f"not enough memory{message and f': {message}'}; {saved}; the same command with --resume continues from"
    assert result.stderr.startswith(f"Error: {told}")
    assert invoke(*command, "--resume").exit_code == 0


def test_pictures_that_memory_is_lacking_for_are_left_out(csv, tmp_path, monkeypatch):
    def lack(*arguments):
        raise MemoryError

    for name in ("page.page", "saving.plot_losses"):
        monkeypatch.setattr(f"viva_tensor.tabular.{name}", lack)
    result = invoke("train", csv, "--target", "price", "--output", tmp_path / "run", *QUICK)
    assert result.exit_code == 0
    assert result.stderr == "".join(
        f"Warning: {name} is left out: not enough memory\n" for name in ("report.html", "loss.png")
    )
    assert not {"report.html", "loss.png", "checkpoint.safetensors"} & {*os.listdir(tmp_path / "run")}


@pytest.mark.parametrize("more", [[], ["--force"], ["--resume"]])
def test_two_in_one_folder(csv, tmp_path, more):
    folder = tmp_path / "new" / "run"
    with files.held(folder) as alone:
        result = invoke("train", csv, "--target", "price", "--output", folder, *QUICK, *more)
        assert os.listdir(folder) == []
    assert alone == hasattr(os, "fork")
    assert result.exit_code == 2
    assert f"another training is writing to {folder}; wait for it, or name" in result.stderr
    assert not folder.parent.exists()


def test_a_run_that_came_meanwhile_is_not_replaced(csv, tmp_path, monkeypatch):
    def come(*arguments, **named):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "model.safetensors").write_bytes(b"another")
        return run(*arguments, **named)

    run = runs.run
    monkeypatch.setattr("viva_tensor.tabular.runs.run", come)
    result = invoke("train", csv, "--target", "price", "--output", tmp_path / "run", *QUICK)
    assert result.exit_code == 0
    assert f"Warning: {tmp_path / 'run'} now holds files of another run; this run is saved" in result.stderr
    assert f"Wrote {tmp_path / 'run-2' / 'model.safetensors'}" in result.stdout
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == b"another"


OTHERS = ["trees.safetensors", "history.csv", "predictions.csv", "report.json", "report.md", "report.html", "loss.png"]


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_a_folder_that_is_no_run_are_kept_without_force(csv, tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    before = sorted(os.listdir(tmp_path))
    result = invoke("train", csv, "--target", "price", "--output", tmp_path, *QUICK)
    assert result.exit_code == 2
    assert f"{tmp_path} already holds {name}, a name that the run would use; --force replaces" in result.stderr
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / name).read_bytes() == b"mine"


def test_what_came_into_the_folder_of_an_interrupted_run_is_kept_without_force(csv, tmp_path, monkeypatch):
    def lack(*arguments):
        raise MemoryError

    command = ["train", csv, "--target", "price", "--output", tmp_path / "run", *QUICK]
    with monkeypatch.context() as patch:
        patch.setattr("viva_tensor.tabular.saving.save", lack)
        assert invoke(*command).exit_code == 2
    mine = tmp_path / "run" / "report.json"
    mine.write_bytes(b"mine")
    result = invoke(*command, "--resume")
    wanted = f"cannot save to {tmp_path / 'run'}: it holds report.json, which belongs to no model; --resume --force re"
    assert (result.exit_code, wanted in result.stderr, mine.read_bytes()) == (2, True, b"mine")
    assert invoke(*command, "--resume", "--force").exit_code == 0
    assert mine.read_bytes() != b"mine"


@pytest.mark.skipif(os.name != "posix", reason="links need rights")
@pytest.mark.parametrize("name", [*OTHERS, "model.safetensors", "preprocessing.json", "checkpoint.safetensors"])
@pytest.mark.parametrize("link", [None, os.link, os.symlink])
def test_a_table_is_never_replaced_by_its_run(csv, tmp_path, name, link):
    (tmp_path / "run").mkdir()
    if link is not None:
        link(csv, tmp_path / "run" / name)
    elif name.endswith((".csv", ".json")):
        csv = csv.rename(tmp_path / "run" / name)
    else:
        pytest.skip("the name is not that of a table")
    content = csv.read_bytes()
    for more in ([], ["--force"], ["--resume"]):
        result = invoke("train", csv, "--target", "price", "--output", tmp_path / "run", *QUICK, *more)
        assert result.exit_code == 2
        assert f"it is the same file as {csv}, which is read; name another place with --output\n" in result.stderr
    assert csv.read_bytes() == content


def test_files_that_are_protected_are_told_before_the_work(csv, tmp_path, monkeypatch):
    command = ["train", csv, "--target", "price", "--output", tmp_path / "run", *QUICK]
    assert invoke(*command).exit_code == 0
    protected = tmp_path / "run" / "report.md"

    def access(path, mode):  # root may write to all
        return mode != os.W_OK or os.path.basename(path) != "report.md"

    monkeypatch.setattr(os, "access", access)
    for arguments in ([*command, "--force"], ["predict", tmp_path / "run", "none.csv", "-o", protected]):
        result = invoke(*arguments)
        assert (result.exit_code, result.stderr) == (2, f"Error: cannot write to {protected}: Permission denied\n")
    assert invoke("predict", tmp_path / "run", csv, "-o", tmp_path / "run" / "new.csv").exit_code == 0


@pytest.mark.parametrize("name", ["report.md", "checkpoint.safetensors"])
@pytest.mark.parametrize("more", [[], ["--force"], ["--resume"]])
def test_folders_with_names_of_files_are_told_before_the_work(csv, tmp_path, name, more):
    path = tmp_path / "run" / name
    path.mkdir(parents=True)
    result = invoke("train", csv, "--target", "price", "--output", tmp_path / "run", *QUICK, *more)
    assert (result.exit_code, result.stderr) == (2, f"Error: cannot write to {path}: Is a directory\n")
    assert os.listdir(tmp_path / "run") == [name]


@pytest.mark.parametrize("name", ["model.safetensors", "preprocessing.json"])
def test_a_model_is_not_replaced_by_its_predictions(csv, tmp_path, name):
    assert invoke("train", csv, "--target", "price", "--output", tmp_path / "run", *QUICK).exit_code == 0
    path = tmp_path / "run" / name
    content = path.read_bytes()
    result = invoke("predict", tmp_path / "run", csv, "-o", path)
    assert (result.exit_code, result.stderr.startswith(f"Error: cannot write to {path}: ")) == (2, True)
    assert path.read_bytes() == content


@pytest.mark.skipif(os.name != "posix", reason="links need rights")
@pytest.mark.parametrize("link", [None, os.link, os.symlink])
@pytest.mark.parametrize("more", [[], ["--append"]])
def test_a_table_is_not_replaced_by_its_predictions(csv, tmp_path, link, more):
    path, content = csv, csv.read_bytes()
    if link is not None:
        path = tmp_path / "new.csv"
        link(csv, path)
    result = invoke("predict", tmp_path / "run", csv, "-o", path, *more)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: cannot write to {path}: it is the same file as {csv}, which is read; ")
    assert csv.read_bytes() == content


@pytest.mark.skipif(os.name != "posix", reason="links need rights")
def test_predictions_through_a_link_into_a_folder_that_is_not_there(csv, tmp_path):
    os.symlink(tmp_path / "gone" / "a.csv", tmp_path / "link.csv")
    result = invoke("predict", tmp_path / "run", csv, "-o", tmp_path / "link.csv")
    told = f"{tmp_path / 'link.csv'}: it is a link to {tmp_path / 'gone' / 'a.csv'}, whose folder is not there; make"
    assert (result.exit_code, f"Error: cannot write to {told}" in result.stderr) == (2, True)


def test_a_folder_that_may_not_be_listed_is_trained_into(csv, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    opened = os.open

    def unlisted(path, flags, *more, **named):  # root may list all
        if os.fspath(path) == os.fspath(folder) and not flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *more, **named)

    access = os.access
    monkeypatch.setattr(os, "open", unlisted)
    monkeypatch.setattr(
        os, "access", lambda path, mode: access(path, mode) and not (path == folder and mode == os.R_OK)
    )
    assert invoke("train", csv, "--target", "price", "--output", folder, *QUICK).exit_code == 0


@pytest.mark.skipif(os.name != "posix", reason="links need rights")
@pytest.mark.parametrize("below", ["", "/run"])
def test_a_link_to_a_folder_that_is_not_there(csv, tmp_path, monkeypatch, below):
    monkeypatch.chdir(tmp_path)
    os.symlink("gone", "link")
    result = invoke("train", csv, "--target", "price", "--output", f"link{below}", *QUICK)
    link = tmp_path / "link" if below else "link"
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: cannot write to link{below}: {link} is a link to gone, which is not there; make that folder\n"
    )


@pytest.mark.parametrize("arguments", [["train", "", "--target", "price"], ["train", "a.csv", "--output", ""],
                                       ["predict", "run", "a.csv", "-o", ""], ["report", ""]])  # fmt: skip
def test_a_path_of_nothing(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.endswith(": an empty path names no file\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("arguments", [["train", "--target", "y"], ["predict", "run"]])
def test_a_table_from_a_pipe(tmp_path, arguments):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/fd/0"):
        result = invoke(*arguments, path)
        assert result.exit_code == 2
        assert f"{path} is a pipe or a device: it can be read only once; save its contents" in result.stderr


@pytest.mark.parametrize("arguments", [["train", "--target", "y"], ["predict", "run"]])
def test_a_table_that_cannot_be_reached(arguments, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "is_stream", refuse)
        result = invoke(*arguments, "closed/t.csv")
    assert result.exit_code == 2
    assert result.stderr.endswith(": cannot read closed/t.csv: Permission denied\n")
    result = invoke(*arguments, "n" * 1000)  # which some versions of Python take for a file that is not there
    assert result.exit_code == 2
    assert "n" * 1000 in result.stderr
    assert "standard output" not in result.stderr


@pytest.mark.parametrize("given", ["nan", "inf"])
@pytest.mark.parametrize("name", ["memory", "minutes", "interval", "quantile", "lr", "momentum", "test-fraction"])
def test_numbers_are_finite(given, name):
    result = invoke("train", "--preset", "best", f"--{name}", given)
    assert result.exit_code == 2
    assert f"Invalid value for '--{name}': {given} is not " in result.stderr
