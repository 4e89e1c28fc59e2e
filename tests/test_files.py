import errno
import os
import subprocess
import sys
import threading
import time

import pytest
from support.fresh import run_module

from viva_tensor import files


def test_a_file_is_replaced_whole_and_alone(tmp_path):
    path = tmp_path / "model"
    assert files.replace(path, b"first") == path
    assert files.replace(str(path), b"second").read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and permissions, which Windows has otherwise")
def test_a_link_stays_and_its_file_keeps_its_permissions(tmp_path):
    path, link, dangling = tmp_path / "model", tmp_path / "link", tmp_path / "dangling"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to("model")
    dangling.symlink_to("other")
    assert files.replace(link, b"new") == link
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    files.replace(dangling, b"new")
    assert dangling.is_symlink()
    assert (tmp_path / "other").read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs mkfifo, which Windows lacks")
def test_a_pipe_is_written_to(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    files.replace(pipe, b"new")
    reader.join(10)
    assert read == [b"new"]
    assert pipe.is_fifo()


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="needs /dev/stdout, which Windows lacks")
def test_what_a_descriptor_leads_to_goes_on_where_it_is(tmp_path):
    code = "from viva_tensor import files; print('before', flush=True); files.replace('/dev/stdout', b'whole\\n')"
    with open(tmp_path / "log", "ab") as log:
        log.write(b"old\n")
        log.flush()
        subprocess.run([sys.executable, "-c", f"{code}; print('after')"], stdout=log, check=True)
    assert (tmp_path / "log").read_text().split() == ["old", "before", "whole", "after"]


def test_what_a_killed_process_left_is_removed_after_an_hour(tmp_path):
    for name, age in (
        (".model.1.2.tmp", 3700),
        (".model.3.4.tmp", 3500),
        (".other.1.2.tmp", 9999),
        (".model[1].1.2.tmp", 0),
    ):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    files.replace(tmp_path / "model", b"new")
    assert sorted(os.listdir(tmp_path)) == [".model.3.4.tmp", ".model[1].1.2.tmp", ".other.1.2.tmp", "model"]
    os.utime(tmp_path / ".model[1].1.2.tmp", (0, 0))
    files.replace(tmp_path / "model[1]", b"new")
    assert not (tmp_path / ".model[1].1.2.tmp").exists()


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
@pytest.mark.parametrize("raised", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_any_step_leaves_the_old_file_alone(tmp_path, monkeypatch, step, raised):
    path = tmp_path / "model"
    path.write_bytes(b"old")

    def fail(*arguments, **options):
        raise raised

    monkeypatch.setattr("builtins.open" if step == "open" else f"os.{step}", fail)
    with pytest.raises(type(raised)) as caught:
        files.replace(path, b"new")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["model"]
    assert path.read_bytes() == b"old"
    if isinstance(raised, OSError):
        assert str(caught.value) == f"[Errno 28] No space left on device: '{path}'"


def test_a_name_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("é" * 127 + "n")  # of 255 bytes
    try:
        path.write_bytes(b"old")
    except OSError:
        pytest.skip("this file system has shorter names")
    assert files.replace(path, b"new").read_bytes() == b"new"
    assert os.listdir(tmp_path) == [path.name]
    with pytest.raises(OSError, match=f"{path.name}s"):
        files.replace(f"{path}s", b"new")
    assert os.listdir(tmp_path) == [path.name]


def test_a_temporary_file_that_cannot_be_removed_does_not_hide_why(tmp_path, monkeypatch):
    def failing(error):
        def fail(*arguments, **options):
            raise error

        return fail

    monkeypatch.setattr(os, "fsync", failing(OSError(28, "No space left on device")))
    monkeypatch.setattr(os, "unlink", failing(OSError(30, "Read-only file system")))
    with pytest.raises(OSError, match="No space left on device") as caught:
        files.replace(tmp_path / "model", b"new")
    assert caught.value.filename == str(tmp_path / "model")


@pytest.mark.skipif(sys.platform == "win32", reason="needs the module resource, which Windows lacks")
def test_a_full_disk_half_way_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"old")
    said = run_module("support.process_programs.full_disk", path)
    assert "File too large" in said
    assert str(path) in said
    assert os.listdir(tmp_path) == ["model"]
    assert path.read_bytes() == b"old"


def test_the_content_reaches_the_disk_before_the_name_and_the_folder_after(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def synchronised(handle):
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        fsync(handle)

    def replaced(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        done.append("name")
        replace(source, target)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to tell what a descriptor is")
    monkeypatch.setattr(os, "fsync", synchronised)
    monkeypatch.setattr(os, "replace", replaced)
    files.replace(tmp_path / "model", b"new")
    assert done == ["file", "name", "folder"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="model"):
        files.replace(tmp_path / "none" / "model", b"")


def test_whether_a_file_can_be_written_is_found_out_before(tmp_path):
    path = tmp_path / "new" / "model"
    files.check_writable(path)
    assert os.listdir(tmp_path) == []
    path.parent.mkdir()
    path.write_bytes(b"old")
    files.check_writable(path)
    files.check_writable(tmp_path / os.devnull)
    assert path.read_bytes() == b"old"
    for wrong in (path / "model", path.with_name("n" * 1000), path.parent / ("n" * 1000) / "model"):
        with pytest.raises(OSError, match=r"model|nnn") as caught:
            files.check_writable(wrong)
        assert caught.value.filename == str(wrong)
    assert os.listdir(path.parent) == ["model"]


@pytest.mark.skipif(not hasattr(os, "O_DIRECTORY"), reason="Windows cannot open a folder")
def test_a_folder_that_cannot_be_read_is_written_to(tmp_path, monkeypatch):
    def refuse(path, flags, *arguments, **options):
        if flags & os.O_DIRECTORY:
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, *arguments, **options)

    opened = os.open
    monkeypatch.setattr(os, "open", refuse)
    assert files.replace(tmp_path / "model", b"new").read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "O_DIRECTORY"), reason="Windows cannot open a folder")
def test_a_folder_that_cannot_be_synchronised_is_told(tmp_path, monkeypatch):
    def refuse(path, flags, *arguments, **options):
        if flags & os.O_DIRECTORY:
            raise OSError(errno.EIO, "Input/output error", path)
        return opened(path, flags, *arguments, **options)

    opened = os.open
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="Input/output error") as caught:
        files.replace(tmp_path / "model", b"new")
    assert caught.value.filename == str(tmp_path)


def test_a_file_that_is_protected_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda one, mode: os.path.basename(one) != "model")  # root may write to all
    for write in (
        lambda: files.replace(path, b"new"),
        lambda: files.replace_all({tmp_path / "other": b"new", path: b"new"}),
        lambda: files.replace_all({tmp_path / "other": b"new", path: None}),
        lambda: files.check_writable(path),
    ):
        with pytest.raises(PermissionError) as caught:
            write()
        assert caught.value.filename == str(path)
        assert os.listdir(tmp_path) == ["model"]
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize("content", [b"new", None])
def test_a_folder_of_the_name_is_found_before_any_file_is_replaced(tmp_path, content):
    path = tmp_path / "model"
    path.mkdir()
    for write in (lambda: files.replace_all({tmp_path / "other": b"new", path: content}),
                  lambda: files.check_writable(path)):  # fmt: skip
        with pytest.raises(IsADirectoryError) as caught:
            write()
        assert caught.value.filename == str(path)
        assert os.listdir(tmp_path) == ["model"]


def test_a_file_that_is_mounted_is_said_to_be(tmp_path, monkeypatch):
    def busy(*paths):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(os, "replace", busy)
    with pytest.raises(OSError, match=r"busy \(a file that is mounted cannot be replaced; mount its folder\): '/"):
        files.replace(tmp_path / "model", b"new")


def test_of_several_files_none_is_replaced_before_all_are_on_the_disk(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    old, removed, new = (tmp_path / name for name in ("old", "removed", "new"))
    old.write_bytes(b"old")
    removed.touch()

    def full(handle):
        done.append("file")
        if done == ["file", "file"]:
            raise OSError(28, "No space left on device")
        fsync(handle)

    def replaced(source, target):
        done.append(os.path.basename(target))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(os, "replace", replaced)
    contents = {old: b"new", removed: None, new: b"new"}
    with pytest.raises(OSError, match="No space left on device") as caught:
        files.replace_all(contents)
    assert caught.value.filename == str(new)
    assert sorted(os.listdir(tmp_path)) == ["old", "removed"]
    assert old.read_bytes() == b"old"
    assert files.replace_all(contents) == [old, new]
    assert done[:6] == ["file", "file", "file", "file", "old", "new"]
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]


def hold(folder):
    code = f"""if True:
        import pathlib, sys, time
        from viva_tensor import files
        with files.held(pathlib.Path({os.fspath(folder)!r})) as alone:
            print(alone, flush=True)
            time.sleep(60)
    """
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="folders cannot be held")
def test_a_folder_is_held_until_its_holder_ends_even_if_it_is_killed(tmp_path):
    with hold(tmp_path / "a" / "b") as process:
        assert process.stdout.readline() == "True\n"
        with files.held(tmp_path / "a" / "b") as alone:
            assert not alone
        process.kill()
    with files.held(tmp_path / "a" / "b") as alone:
        assert alone
        (tmp_path / "a" / "b" / "model").touch()
    assert os.listdir(tmp_path / "a" / "b") == ["model"]


def test_where_folders_cannot_be_held_nobody_is_kept_out(tmp_path, monkeypatch):
    class NoLocks:
        LOCK_EX, LOCK_NB = 2, 4

        @staticmethod
        def flock(handle, how):
            raise OSError(37, "No locks available")

    for system in (NoLocks, None):
        monkeypatch.setattr(files, "fcntl", system)
        with files.held(tmp_path / "a") as first, files.held(tmp_path / "a") as second:
            assert first
            assert second
        assert os.listdir(tmp_path) == []
