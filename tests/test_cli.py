import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from support.commands import QUICK, invoke, shop

import viva_tensor as vt
from viva_tensor import train as training


@pytest.fixture
def csv(tmp_path):
    return shop(tmp_path)


def call(*arguments, cwd, code="from viva_tensor.__main__ import main; main()"):
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "viva_tensor"]
    return subprocess.run([*command, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120)


class TestTrain:
    def test_own_table(self, csv, tmp_path):
        result = invoke("train", csv, "--target", "price", "--output", tmp_path / "run", *QUICK)
        assert (result.exit_code, result.stderr) == (0, "")
        for word in ("network", "least squares", "training mean", "RMSE", "R2", "rows/s"):
            assert word in result.stdout
        assert "left out: fixed (constant)" in result.stdout
        assert "left out: 1 row without a value of price" in result.stdout
        for name in ("model.safetensors", "preprocessing.json", "history.csv", "loss.png", "predictions.csv",
                     "report.json", "report.md"):  # fmt: skip
            assert str(tmp_path / "run" / name) in result.stdout
            assert (tmp_path / "run" / name).stat().st_size > 0

    def test_a_table_that_memory_does_not_hold_is_read_in_blocks(self, csv, tmp_path):
        result = invoke("train", csv, "--target", "price", "--output", tmp_path / "run", "--memory", 0, *QUICK)
        assert (result.exit_code, result.stderr) == (0, "")
        assert "read in blocks: encodings are chosen" in result.stdout
        assert "left out: 1 row without a value of price" in result.stdout
        assert sorted(os.listdir(tmp_path / "run"))[0] == "history.csv"  # nothing temporary is left
        assert invoke("predict", tmp_path / "run", csv).exit_code == 0

    def test_results_that_find_no_room_do_not_cost_the_run(self, csv, tmp_path, monkeypatch):
        def full(*arguments):
            raise OSError(28, "No space left on device")

        flags = ["train", csv, "--target", "price", "--output", tmp_path / "run", *QUICK]
        with monkeypatch.context() as patched:
            patched.setattr("viva_tensor.tabular.saving.save", full)
            result = invoke(*flags)
        assert result.exit_code == 2
        kept = f"the same command with --resume continues from {tmp_path / 'run' / 'checkpoint.safetensors'}"
        assert result.stderr == f"Error: cannot write to {tmp_path / 'run'}: No space left on device; {kept}\n"
        assert os.listdir(tmp_path / "run") == ["checkpoint.safetensors"]
        assert invoke(*flags, "--resume").exit_code == 0
        assert "checkpoint.safetensors" not in os.listdir(tmp_path / "run")
        assert invoke(*flags).exit_code == 2
        assert invoke(*flags, "--force").exit_code == 0

    def test_options_reach_the_run(self, csv, tmp_path):
        options = {"hidden": "5, 3", "epochs": 3, "batch-size": 7, "lr": 0.01, "momentum": 0.5, "test-fraction": 0.4,
                   "seed": 9, "threads": 1, "patience": 3, "activation": "identity"}  # fmt: skip
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        result = invoke("train", csv, "--target", "price", "--output", tmp_path / "run", *flags)
        assert result.exit_code == 0, result.output
        report = json.loads((tmp_path / "run" / "report.json").read_text())
        threads = options.pop("threads")
        optimizer = {name: options.pop(name) for name in ("lr", "momentum")}
        expected = {name.replace("-", "_"): value for name, value in options.items()} | {"hidden": [5, 3]}
        assert expected.items() <= report["settings"].items()
        assert ({"name": "SGD"} | optimizer).items() <= report["settings"]["optimizer"].items()
        assert report["threads"] == threads
        assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 3

    def test_same_seed_same_files(self, csv, tmp_path):
        for folder in ("a", "b"):
            invoke("train", csv, "--target", "price", "--output", tmp_path / folder, *QUICK)
        for name in ("model.safetensors", "preprocessing.json", "history.csv", "predictions.csv"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    def test_bundled_table_as_a_program(self, tmp_path):
        result = call("train", "--epochs", 1, "--hidden", "8", "--batch-size", 2048, cwd=tmp_path, code=None)
        assert (result.returncode, result.stderr) == (0, "")  # no progress bar where stderr is no terminal
        report = json.loads((tmp_path / "viva-tensor-run" / "report.json").read_text())
        assert report["target"] == "price"
        assert report["rows"]["test"] == 10_788
        assert 1000 < report["test"]["least squares"]["rmse"] < 1300

    def test_a_network_that_learned_nothing_is_called_so(self, csv, tmp_path):
        flags = ["--target", "price", "--lr", "1e-9", *QUICK]
        result = invoke("train", csv, *flags, "--activation", "tanh", "--output", tmp_path / "tanh")
        assert "no better than a baseline" in result.stdout
        result = invoke("train", csv, *flags, "--output", tmp_path / "relu")  # begins as a linear model
        assert "The linear model that the network began as was kept" in result.stdout
        assert "kept the linear model that it began as" in result.stdout


class TestReport:
    def test_says_where_the_page_is_and_what_it_says(self, csv, tmp_path, monkeypatch):
        invoke("train", csv, "--target", "price", "--output", tmp_path / "run", *QUICK)
        result = invoke("report", tmp_path / "run")
        assert result.exit_code == 0
        assert result.stdout.startswith("# price of shop.csv\n")
        assert result.stdout.endswith(f"{tmp_path / 'run' / 'report.html'}\n")
        opened = []
        monkeypatch.setattr("click.launch", lambda address: opened.append(address) or 0)
        assert invoke("report", tmp_path / "run", "--open").exit_code == 0
        assert opened == [(tmp_path / "run" / "report.html").as_uri()]
        monkeypatch.setattr("click.launch", lambda address: 1)
        assert "no browser was found" in invoke("report", tmp_path / "run", "--open").stderr
        assert "none holds no report; it is not the folder of a run" in invoke("report", "none").stderr
        (tmp_path / "run" / "report.html").unlink()
        result = invoke("report", tmp_path / "run")
        assert (result.exit_code, result.stdout[:9]) == (2, "# price o")
        assert 'holds no report.html, which viva-tensor train writes with plotly: pip install "viva-' in result.stderr


class TestResume:
    def test_interrupted_without_a_checkpoint_says_that_nothing_is_left(self, csv, tmp_path, monkeypatch):
        def press(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("viva_tensor.tabular.runs.run", press)
        result = invoke("train", csv, "--target", "price", "--output", tmp_path / "a")
        assert result.exit_code == 130
        assert result.stderr == "Error: interrupted; nothing had been written yet\n"
        assert not (tmp_path / "a").exists()

    def stopped(self, csv, tmp_path, monkeypatch, *more):
        """A command whose run a full disk has stopped, so that its checkpoint is left."""

        def stop(*_):
            raise OSError(28, "No space left on device")

        command = ["train", csv, "--target", "price", *QUICK, *more, "--output", tmp_path / "a"]
        with monkeypatch.context() as patch:
            patch.setattr("viva_tensor.tabular.saving.save", stop)
            invoke(*command)
        return command

    @pytest.mark.parametrize("when", ["viva_tensor.tabular.streaming.read_or_stream", "viva_tensor.tabular.page.page"])
    def test_whenever_it_is_interrupted_it_says_what_is_left(self, csv, tmp_path, monkeypatch, when):
        def press(*_, **__):
            raise KeyboardInterrupt

        command = self.stopped(csv, tmp_path, monkeypatch)
        with monkeypatch.context() as patch:
            patch.setattr(when, press)
            result = invoke(*command, "--resume")
        assert result.exit_code == 130
        kept = f"the same command with --resume continues from {tmp_path / 'a' / 'checkpoint.safetensors'}\n"
        assert result.stderr.endswith(kept)
        saved = f"complete files in {tmp_path / 'a'}: model.safetensors, preprocessing.json, history.csv, predictions"
        assert (saved in result.stderr) == when.endswith("page")
        assert invoke(*command, "--resume").exit_code == 0

    def test_options_that_mend_it_are_named(self, csv, tmp_path, monkeypatch):
        command = self.stopped(csv, tmp_path, monkeypatch)
        result = invoke(*command, "--memory", 0, "--resume")
        assert result.exit_code == 2
        assert "other rows" in result.stderr
        told = "it decides whether rows are read in blocks; or start anew with --force in place of --resume)"
        assert f"(use the same --memory, too: {told}" in result.stderr
        (tmp_path / "a" / "checkpoint.safetensors").write_bytes(b"{}")
        result = invoke(*command, "--resume")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert result.stderr.endswith("; or start anew with --force in place of --resume\n")
        assert invoke(*command, "--force").exit_code == 0

    @pytest.mark.parametrize("column", ["price", "size"])
    @pytest.mark.parametrize("more", [[], ["--memory", "0"]])
    def test_other_rows_for_the_test_are_refused(self, csv, tmp_path, monkeypatch, column, more):
        invoke("train", csv, "--target", "price", *QUICK, *more, "--output", tmp_path / "b")
        command = self.stopped(csv, tmp_path, monkeypatch, *more)
        row = pd.read_csv(tmp_path / "b" / "predictions.csv")["row"][3]
        table = pd.read_csv(csv)
        table.loc[row, column] += 0.25
        table.to_csv(csv, index=False)
        result = invoke(*command, "--resume")
        assert result.exit_code == 2
        assert "was written with other rows for the test, or features made of them; resume with" in result.stderr

    def test_interrupted_run_goes_on(self, csv, tmp_path, monkeypatch):
        command = ["train", csv, "--target", "price", "--epochs", "6", "--hidden", "8", "--batch-size", "8"]
        advance = training.training.Training.advance

        def press(self, each_step):
            if self.epoch == 3:
                raise KeyboardInterrupt
            advance(self, each_step)

        with monkeypatch.context() as patch:
            patch.setattr(training.training.Training, "advance", press)
            result = invoke(*command, "--output", tmp_path / "a")
        assert result.exit_code == 130
        assert "the same command with --resume continues" in result.stderr
        assert os.listdir(tmp_path / "a") == ["checkpoint.safetensors"]

        result = invoke(*command, "--seed", "1", "--output", tmp_path / "a", "--resume")
        assert result.exit_code == 2
        assert "was written with other seed=0" in result.stderr
        assert result.stderr.endswith("(or start anew with --force in place of --resume)\n")
        assert invoke(*command, "--output", tmp_path / "a", "--resume").exit_code == 0
        assert invoke(*command, "--output", tmp_path / "b").exit_code == 0
        for name in ("model.safetensors", "history.csv", "predictions.csv"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert not (tmp_path / "a" / "checkpoint.safetensors").exists()


class TestPredict:
    @pytest.fixture(params=["price", "kind"])
    def target(self, request):
        return request.param

    @pytest.fixture
    def model(self, csv, tmp_path, target):
        result = invoke("train", csv, "--target", target, "--output", tmp_path / "run", *QUICK)
        assert result.exit_code == 0, result.output
        return tmp_path / "run"

    def test_predictions_of_the_training_run_again(self, csv, tmp_path, model, target):
        result = invoke("predict", model, csv, "-o", tmp_path / "out.csv")
        assert result.exit_code == 0
        assert all("outside the range of the training rows" in line for line in result.stderr.splitlines())
        expected = pd.read_csv(model / "predictions.csv", index_col="row").drop(columns="actual")
        predicted = pd.read_csv(tmp_path / "out.csv", index_col="row")
        assert len(predicted) == 60
        pd.testing.assert_frame_equal(predicted.loc[expected.index], expected, check_exact=True)

    def test_without_target_to_standard_output_with_a_note_on_unknown_columns(self, csv, tmp_path, model, target):
        pd.read_csv(csv).drop(columns=target).assign(id=1).to_csv(tmp_path / "new.csv", index=False)
        result = invoke("predict", model, tmp_path / "new.csv")
        assert result.exit_code == 0
        assert result.stdout.startswith("row,predicted")
        assert result.stdout.count("\n") == 61
        assert result.stderr.splitlines()[-1] == "Not used, unknown to the model: id"

    def test_info(self, model, target):
        result = invoke("info", model)
        assert result.exit_code == 0
        assert f"predicts  {target}: " + {"price": "a number", "kind": "one of a, b"}[target] in result.stdout
        assert "size" in result.stdout
        assert "left out  fixed (constant)" in result.stdout

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["predict", "run", "none.csv"], "no such file: none.csv"),
            (["predict", "none", "shop.csv"], "none holds no trained model: preprocessing.json is missing"),
            (["predict", "shop.csv", "shop.csv"], "shop.csv is not the folder of a run"),
            (["predict", "run", "renamed.csv"], "the table lacks columns used in training: size"),
            (["predict", "run", "text.csv"], "column 'size' must hold numbers"),
            (["predict", "run", "shop.csv", "-o", "shop.csv/out.csv"], "cannot write to"),
            (["info", "none"], "none holds no trained model"),
        ],
    )
    def test_one_line_and_code_2(self, csv, tmp_path, monkeypatch, model, arguments, message):
        monkeypatch.chdir(tmp_path)
        table = pd.read_csv(csv)
        table.rename(columns={"size": "sizes"}).to_csv("renamed.csv", index=False)
        table.assign(size="large").to_csv("text.csv", index=False)
        before = sorted(os.listdir(tmp_path))
        result = invoke(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
        assert message in result.stderr
        assert sorted(os.listdir(tmp_path)) == before

    def test_text_that_looks_like_numbers(self, tmp_path):
        rows = 60
        table = pd.DataFrame(
            {"code": [f"0{i % 3}" if i else "x" for i in range(rows)], "y": [i % 3 for i in range(rows)]}
        )
        table.to_csv(tmp_path / "t.csv", index=False)
        assert invoke("train", tmp_path / "t.csv", "--target", "y", "--output", tmp_path / "run", *QUICK).exit_code == 0
        whole = invoke("predict", tmp_path / "run", tmp_path / "t.csv").stdout.splitlines()
        table.iloc[1:].to_csv(tmp_path / "new.csv", index=False)  # without the x, all of them are digits
        part = invoke("predict", tmp_path / "run", tmp_path / "new.csv").stdout.splitlines()
        assert [line.split(",")[1] for line in part[1:]] == [line.split(",")[1] for line in whole[2:]]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
class TestStandardOutput:
    def shell(self, command, cwd, **options):
        program = f"{sys.executable} -m viva_tensor"
        command = command.replace("viva-tensor", program)
        return subprocess.run(["sh", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=120, **options)

    @pytest.fixture
    def folder(self, csv, tmp_path):
        assert invoke("train", csv, "--target", "price", "--output", tmp_path / "run", *QUICK).exit_code == 0
        return tmp_path

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    @pytest.mark.parametrize("arguments", ["info", "info run", "report run", "predict run shop.csv", "--help",
                                           "--version", "train --help"])  # fmt: skip
    def test_one_that_is_full(self, folder, arguments):
        result = self.shell(f"viva-tensor {arguments} > /dev/full", folder)
        assert result.stderr.endswith("Error: cannot write to standard output: No space left on device\n")
        assert "Traceback" not in result.stderr
        assert result.returncode == 2

    def test_none(self, folder):
        result = self.shell("viva-tensor predict run shop.csv >&-", folder)
        assert result.stderr == "Error: there is no standard output to write to; name a file with --output\n"
        assert result.returncode == 2

    @pytest.mark.parametrize("arguments", ["report run", "predict run shop.csv"])
    def test_one_that_nobody_reads(self, folder, arguments):
        result = self.shell(f"viva-tensor {arguments} | true", folder)
        assert "pipe" not in result.stderr
        assert "Error" not in result.stderr

    def test_a_working_folder_that_was_removed(self, folder):
        here = folder / "gone"
        here.mkdir()
        for arguments in (f"train {folder}/shop.csv --target price --output a", f"predict {folder}/run x -o a/b.csv"):
            named = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # perhaps from there
            result = self.shell(f"rmdir {here} && viva-tensor {arguments}; mkdir {here}", here, env=named)
            assert result.stderr == "Error: cannot write to a: the working directory is no longer there\n"


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["none.csv", "--target", "price"], "no such file: none.csv"),
            ([".", "--target", "price"], "is a directory"),
            (["shop.xls", "--target", "price"], "cannot tell the format of shop.xls"),
            (["bad.parquet", "--target", "price"], "cannot read bad.parquet"),
            (["empty.csv", "--target", "price"], "empty.csv is empty"),
            (["header.csv", "--target", "price"], "header.csv has no rows"),
            (["shop.csv"], "name the column to predict: viva-tensor train shop.csv --target COLUMN"),
            (
                ["shop.csv", "--target", "prise"],
                "did you mean 'price'? The columns are: size, kind, fixed, price, flag",
            ),
            (["shop.csv", "--target", "kind", "--task", "regression"], "column 'kind' does not hold numbers"),
            (["names.csv", "--target", "a"], "'a' has 20 classes for 13 training rows"),
            (["shop.csv", "--target", "price", "--output", "new", "--resume"], "nothing to resume in new"),
            (["shop.csv", "--target", "fixed"], "target 'fixed' is constant"),
            (["short.csv", "--target", "b"], "2 rows with a target are too few"),
            (["useless.csv", "--target", "b"], "no usable feature column (a: constant)"),
            (
                ["shop.csv", "--target", "price", "--hidden", "8,x"],
                "--hidden takes layer widths such as 128,64; got '8,x'",
            ),
            (["shop.csv", "--target", "price", "--hidden", "8,0"], "got '8,0'"),
            (["shop.csv", "--target", "price", "--hidden", ""], "got ''"),
            (["none.csv"], "no such file: none.csv"),
            (["bad.csv", "--target", "price", "--output", "shop.csv"], "cannot write to shop.csv"),  # before it is read
            (["bad.csv", "--target", "price", "--output", "shop.csv/run"], "cannot write to shop.csv"),
            (["bad.csv", "--target", "price", "--output", "n" * 999], "File name too long"),
        ],
    )
    def test_one_line_and_code_2(self, csv, tmp_path, monkeypatch, arguments, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "shop.xls").write_bytes(b"PK")
        (tmp_path / "bad.csv").write_bytes(b"\0")
        (tmp_path / "bad.parquet").write_bytes(b"a,b\n1,2\n")
        (tmp_path / "empty.csv").write_bytes(b"")
        (tmp_path / "header.csv").write_text("price\n")
        (tmp_path / "short.csv").write_text("a,b\n1,2\n3,4\n")
        (tmp_path / "useless.csv").write_text("a,b\n" + "".join(f"1,{i}\n" for i in range(20)))
        (tmp_path / "names.csv").write_text("a,b\n" + "".join(f"n{i},{i}\n" for i in range(20)))
        before = sorted(os.listdir(tmp_path))
        result = invoke("train", *arguments)
        assert isinstance(result.exception, SystemExit)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
        assert message in result.stderr
        assert sorted(os.listdir(tmp_path)) == before  # nothing half made

    def test_divergence(self, csv, tmp_path):
        flags = ["--lr", "1e30", "--activation", "tanh", "--batch-size", "4", "--output", tmp_path / "run"]
        result = invoke("train", csv, "--target", "price", *flags)
        assert result.exit_code == 2
        *warned, refused = result.stderr.splitlines()
        assert [line.startswith("Warning: fit: the loss became") for line in warned] == [True] * 3
        assert "try a smaller learning rate" in refused
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        "flags",
        [["--epochs", "0"], ["--batch-size", "-1"], ["--lr", "0"], ["--momentum", "1.1"], ["--test-fraction", "1"],
         ["--seed", "-1"], ["--threads", "0"]],
    )  # fmt: skip
    def test_option_out_of_range(self, csv, flags):
        result = invoke("train", csv, "--target", "price", *flags)
        assert result.exit_code == 2
        assert flags[0] in result.stderr

    def test_momentum_is_for_sgd(self, csv, tmp_path):
        flags = ["--optimizer", "adam", "--momentum", "0.5", "--output", tmp_path / "run"]
        result = invoke("train", csv, "--target", "price", *flags)
        assert result.exit_code == 2
        assert "momentum (0.5) is for the optimizer 'sgd' only, but this is 'adam'" in result.stderr

    def test_file_that_breaks_off_as_a_program(self, tmp_path):
        (tmp_path / "t.csv.gz").write_bytes(b"\x1f\x8b\x08\x00 broken")
        result = call("train", "t.csv.gz", "--target", "price", cwd=tmp_path)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("Error: cannot read t.csv.gz")
        assert "Traceback" not in result.stderr

    def test_parquet_without_pyarrow(self, tmp_path, monkeypatch):
        pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "t.parquet")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        result = invoke("train", tmp_path / "t.parquet", "--target", "a", "--output", tmp_path / "run")
        assert result.exit_code == 2
        assert 'without pyarrow; pip install -U "viva-tensor[train]"' in result.stderr


class TestProgram:
    @pytest.mark.parametrize("package", ["click", "pandas", "safetensors", "tqdm"])
    def test_missing_package(self, tmp_path, package):
        code = f"import sys; sys.modules['{package}'] = None; from viva_tensor.__main__ import main; main()"
        result = call("info", cwd=tmp_path, code=code)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == f'Error: the command line needs {package}; pip install "viva-tensor[train]"\n'

    def test_library_needs_none_of_them(self, tmp_path):
        code = (
            "import sys, viva_tensor;"
            "print({'click', 'matplotlib', 'pandas', 'pyarrow', 'safetensors', 'sklearn', 'tqdm'} & set(sys.modules))"
        )
        result = call(cwd=tmp_path, code=code)
        assert result.stdout == "set()\n", result.stderr

    def test_info(self, capsys):
        result = invoke("info")
        vt.show_config()
        assert result.exit_code == 0
        assert result.stdout == capsys.readouterr().out
        assert result.stdout

    def test_version_and_help(self):
        assert invoke("--version").stdout == f"viva-tensor, version {vt.__version__}\n"
        assert "train" in invoke("-h").stdout
        assert "--target" in invoke("train", "--help").stdout
