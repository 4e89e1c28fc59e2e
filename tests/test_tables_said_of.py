"""What is said of tables on the command line, of columns and how they are written: taken, or refused in words."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from support.folders import Folder, N, plane, quick

from viva_tensor import tabular
from viva_tensor.options import Failure, names
from viva_tensor.tabular import Writing
from viva_tensor.tabular.notation import Numbers
from viva_tensor.tabular.recognition import overruled
from viva_tensor.train.training import Training


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return quick(monkeypatch, Folder(tmp_path))


def test_names_are_separated_by_commas_stand_in_quotes_and_may_be_given_again():
    assert names(None, None, ('a, "size, cm"', "b,", "-999")) == ("a", "size, cm", "b", "-999")
    assert names(None, None, ()) == ()


@pytest.mark.parametrize("given", [('"a', "b"), ('"',), ('"size" cm',)])
def test_quotes_that_do_not_close_are_refused(given):
    class Parameter:
        opts = ("--drop",)

    with pytest.raises(Failure, match="--drop takes names separated by commas, with quotes around"):
        names(None, Parameter, given)


@pytest.mark.parametrize("preset", [[], ["--preset", "fast"], ["--preset", "default"]])
def test_the_same_command_with_resume_goes_on(folder, preset, monkeypatch):
    folder.write("t.csv", plane())
    flags = ["--target", "y", "--output", folder.path / "run", *preset]
    advance, epochs = Training.advance, []

    def interrupted(training, each_step):
        epochs.append(training.epoch)
        if len(epochs) == 4:
            raise KeyboardInterrupt
        advance(training, each_step)

    monkeypatch.setattr(Training, "advance", interrupted)
    done = folder.call("train", folder.path / "t.csv", *flags)
    assert (done.exit_code, "the same command with --resume continues" in done.stderr) == (130, True)
    done = folder.call("train", folder.path / "t.csv", *flags, "--resume")
    assert done.exit_code == 0, done.output
    assert epochs[:6] == [0, 1, 2, 3, 3, 4]


def test_each_of_several_options_counts(folder):
    table = plane().astype({"x": str}).assign(**{"size, cm": np.arange(N) % 7, "shop": np.arange(N) % 3})
    table.loc[::9, "x"], table.loc[::7, "z"] = "nil", -999
    folder.write("t.csv", table)
    flags = ["--missing", "nil", "--missing", "-999", "--drop", '"size, cm"', "--drop", "shop"]
    folder.train("t.csv", "y", *flags, "--epochs", "2")
    assert set(folder.report["left_out"]) == {"size, cm", "shop"}
    assert "x: numbers, missing where they say 'nil' (45)" in folder.said
    assert "z: read as missing: '-999' (58)" in folder.said
    wrong = folder.refused("t.csv", "y", "--missing", "nil", "--drop", "size", "--force")
    assert """did you mean 'size, cm' (in a list of names: '"size, cm"')?""" in wrong


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_words_for_missing_values_hold_wherever_the_model_is_used(folder, suffix):
    table = plane()
    table.loc[::5, "x"] = -999
    table["kind"] = np.where(np.arange(N) % 4 == 0, "n/a", np.where(np.arange(N) % 2, "a", "b"))
    path = folder.path / f"t.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    flags = ["--missing", "-999,n/a", "--epochs", "3"]
    folder.train(path.name, "y", *flags)
    model = tabular.load(folder.path / "run")
    known = table.mask(table.isin([-999, "n/a"]))
    expected = model.predict(known)
    assert not np.allclose(expected["predicted"], model.predict(known.fillna({"x": 0.0}))["predicted"])
    pd.testing.assert_frame_equal(model.predict(table), expected)
    table.to_parquet(folder.path / "new.parquet")
    np.testing.assert_allclose(folder.predict("new.parquet")[0]["predicted"], expected["predicted"], rtol=1e-6)


def test_missing_words_of_a_parquet_file_that_is_read_in_blocks(folder):
    table = plane()
    table.loc[::5, "x"] = -999
    table.to_parquet(folder.path / "t.parquet")
    flags = ["--missing", "-999", "--epochs", "3", "--seed", "4"]
    folder.train("t.parquet", "y", *flags, "--memory", "0")
    model = tabular.load(folder.path / "run")
    x = model.encoding.columns[0]
    assert x.missing
    assert x.low > -999


def test_what_is_said_of_decimals_turns_thousands_round():
    german = Numbers(",", ".", suffix="€")
    assert overruled(german, Writing(decimal=".")).value("1414.52 €") == 1414.52
    assert overruled(german, Writing(decimal=".")).value("1,414.52 €") == 1414.52
    assert overruled(german, Writing(thousands=",")).value("1,414.52 €") == 1414.52
    assert overruled(Numbers(".", ","), Writing(decimal=",")).value("1.414,52") == 1414.52
    assert overruled(Numbers(",", " "), Writing(decimal=".")).value("1 414.52") == 1414.52
    assert Writing(decimal=".").or_else(Writing(decimal=",", thousands=".")) == Writing(decimal=".", thousands=",")


@pytest.mark.parametrize("flags", [["--epochs", "5"], ["--hidden", "8"], ["--lr", "0.1"]])
@pytest.mark.parametrize("preset", ["fast", "default", "best"])
def test_no_preset_takes_settings_of_one_network(folder, preset, flags):
    folder.write("t.csv", plane())
    told = folder.refused("t.csv", "y", "--preset", preset, *flags)
    assert f"{flags[0]} is for one network, and the preset {preset}" in told


def test_columns_cannot_be_two_things(folder):
    folder.write("t.csv", plane().assign(kind=np.where(np.arange(N) % 2, "a", "b")))
    assert "'x' cannot be both numeric and categorical" in folder.refused(
        "t.csv", "y", "--numeric", "x", "--categorical", "x"
    )
    how = "--task or kind= says how to predict it"
    for flag, role, hint in (
        ("--id", "the name of rows", "name another with --id"),
        ("--drop", "dropped", "leave it out of --drop"),
        ("--categorical", "categorical", how),
        ("--numeric", "numeric", how),
    ):
        told = folder.refused("t.csv", "y", flag, "y")
        assert f"the column 'y' cannot be both {role} and predicted; {hint}" in told
    told = folder.refused("t.csv", "y", "--id", "kind", "--categorical", "kind")
    assert "'kind' cannot be both categorical and the name of rows" in told
    assert "the column 'kind' is to be numeric, but holds text: row 0 has 'b'" in folder.refused(
        "t.csv", "y", "--numeric", "kind"
    )


def test_predictions_go_to_a_folder_that_is_not_there_yet(folder):
    folder.write("t.csv", plane())
    folder.train("t.csv", "y", "--epochs", "2")
    folder.predict_to = folder.path / "new" / "deep" / "x.csv"
    done = folder.call("predict", folder.path / "run", folder.path / "t.csv", "-o", folder.predict_to)
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv(folder.predict_to)) == N


def test_appending_again_and_again_gives_each_column_its_name(folder):
    folder.write("0.csv", plane())
    folder.train("0.csv", "y", "--epochs", "2")
    for i in range(3):
        done = folder.call(
            "predict", folder.path / "run", folder.path / f"{i}.csv", "-o", folder.path / f"{i + 1}.csv", "--append"
        )
        assert done.exit_code == 0, done.output
    last = pd.read_csv(folder.path / "3.csv")
    new = ["predicted", "predicted of the model", "predicted of the model (2)"]
    assert list(last.columns) == [*plane().columns, *new]


def test_columns_that_new_rows_lack_are_named_with_the_nearest(folder):
    folder.write("t.csv", plane())
    folder.train("t.csv", "y", "--epochs", "2")
    folder.write("new.csv", "X,z\n1,2\n")
    done = folder.call("predict", folder.path / "run", folder.path / "new.csv")
    assert "lacks columns used in training: x; did you mean 'X'?" in done.stderr
    folder.write("bare.csv", "\n".join(f"{i},{i % 7},{3 * i + i % 7}" for i in range(20, N)))
    folder.train("bare.csv", "column3", "--no-header", "--epochs", "2")
    done = folder.call("predict", folder.path / "run", folder.path / "bare.csv")
    assert "if the file has no header line, give --no-header" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has files without a name")
def test_nothing_is_left_of_a_process_that_was_killed_while_it_read_in_blocks(tmp_path):
    table = pd.concat([plane()] * 50)
    table.to_csv(tmp_path / "t.csv", index=False)
    flags = ["--target", "y", "--output", str(tmp_path / "run"), "--memory", "0", "--epochs", "100000"]
    command = [sys.executable, "-m", "viva_tensor", "train", str(tmp_path / "t.csv"), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 120
            while not (tmp_path / "run").is_dir() and time.monotonic() < deadline:  # made for the encoded rows
                time.sleep(0.05)
            time.sleep(0.5)
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGKILL)
    assert [one.name for one in (tmp_path / "run").iterdir() if "features" in one.name] == []


def test_names_of_rows_keep_the_text_of_the_file(folder):
    named = [" 1.1", "1.10", "1.20 ", "1e1", "16.0", "+49301234001", "1.100"]
    table = plane().assign(name=[named[i % len(named)] for i in range(N)])
    folder.write("t.csv", table)
    folder.train("t.csv", "y", "--id", "name", "--epochs", "2")
    tested = pd.read_csv(folder.path / "run" / "predictions.csv", dtype=str)
    assert tested["name"].tolist() == [named[int(row) % len(named)].strip() for row in tested["row"]]
    done = folder.call("predict", folder.path / "run", folder.path / "t.csv")
    assert [line.split(",")[1] for line in done.stdout.splitlines()[1:8]] == [one.strip() for one in named]


@pytest.mark.parametrize("flags", [[], ["--memory", "0"]])
def test_versions_that_are_one_number_stay_two_categories_and_two_classes(folder, flags):
    versions = ["1.1", "1.10", "2"]
    table = plane().assign(ver=[versions[i % 3] for i in range(N)])
    folder.write("t.csv", table.assign(y=np.arange(N) % 3 * 10))
    folder.train("t.csv", "y", "--categorical", "ver", "--epochs", "40", *flags)
    folder.write("new.csv", "x,z,ver\n0,0,1.10\n0,0,1.10\n0,0,1.1\n0,0,2.0\n")
    predicted, said = folder.predict("new.csv")
    assert predicted["predicted"].round(-1).tolist() == [10, 10, 0, 20]
    folder.write("one.csv", "x,z,ver\n0,0,1.10\n")
    assert folder.predict("one.csv")[0]["predicted"].round(-1).tolist() == [10]
    assert "no category" not in said
    folder.train("t.csv", "ver", "--task", "classification", "--epochs", "2", *flags)
    assert {f"ver={one}" for one in versions} <= set(folder.predict("t.csv")[0].columns)
    assert folder.report["rows"]["without_target"] == 0


@pytest.mark.parametrize("flags", [[], ["--memory", "0"]])
@pytest.mark.parametrize("words", [("TRUE", "FALSE"), ("1", "0")])
def test_words_for_missing_values_are_no_class_beside_truths_and_numbers(folder, words, flags):
    table = plane()
    labels = np.where(table["y"] > 0, *words).astype(object)
    labels[::20] = "NA"
    folder.write("t.csv", table.assign(y=labels))
    folder.train("t.csv", "y", "--task", "classification", "--epochs", "2", *flags)
    assert f"y: read as missing: 'NA' ({N // 20})" in folder.said
    assert folder.report["rows"]["without_target"] == N // 20
    assert list(folder.predict("t.csv")[0].columns) == ["row", "predicted", *(f"y={one}" for one in sorted(words))]


def test_durations_of_a_parquet_file_are_taken_from_text_as_pandas_writes_it(folder):
    hours = np.arange(N) % 40 - 3.5
    table = pd.DataFrame({"d": pd.to_timedelta(hours, unit="h"), "z": np.arange(N) % 7, "y": hours})
    table.to_parquet(folder.path / "t.parquet")
    folder.train("t.parquet", "y", "--epochs", "2")
    expected = folder.predict("t.parquet")[0]
    folder.write("t.csv", table)
    assert "0 days 00:30:00" in (folder.path / "t.csv").read_text()
    np.testing.assert_allclose(folder.predict("t.csv")[0]["predicted"], expected["predicted"], atol=1e-5)
    frame = tabular.load(folder.path / "run").predict(table.assign(d=table["d"].astype(str)))
    np.testing.assert_allclose(frame["predicted"], expected["predicted"], atol=1e-5)
    folder.write("numbers.csv", table.assign(d=hours / 24))
    done = folder.call("predict", folder.path / "run", folder.path / "numbers.csv")
    assert "column 'd' must hold times, not '-0.1458" in done.stderr


@pytest.mark.parametrize("form", ["{}:{:02}", "{:02}:{:02}:00"])
def test_plain_numbers_are_no_times(folder, form):
    minutes = 13 * np.arange(N) % 1440
    clock = [form.format(one // 60, one % 60) for one in minutes.tolist()]
    table = pd.DataFrame({"t": clock, "z": np.arange(N) % 7, "y": minutes / 60})
    folder.write("t.csv", table)
    folder.train("t.csv", "y", "--epochs", "2")
    expected = folder.predict("t.csv")[0]
    numbers = table.assign(t=minutes / 1440)
    folder.write("new.csv", numbers)
    numbers.to_json(folder.path / "new.jsonl", orient="records", lines=True)
    for name in ("new.csv", "new.jsonl"):
        done = folder.call("predict", folder.path / "run", folder.path / name)
        assert done.exit_code == 2
        assert "column 't'" in done.stderr
        assert "H:MM or H:MM:SS" in done.stderr
    times = (pd.Timestamp(0) + pd.to_timedelta(pd.Series(minutes), unit="min")).dt.time
    for name in ("as.feather", "as.parquet"):
        getattr(table.assign(t=times), f"to_{name[3:]}")(folder.path / name)
        pd.testing.assert_frame_equal(folder.predict(name)[0], expected)


@pytest.mark.parametrize("words", [("t", "f"), ("Yes", "no"), ("WAHR", "FALSCH"), ("y", "n"), ("TRUE", "FALSE")])
def test_truths_in_other_words_are_those_of_training(folder, words):
    table = plane().assign(b=np.arange(N) % 3 == 0)
    folder.write("t.csv", table)
    folder.train("t.csv", "y", "--epochs", "2")
    expected = folder.predict("t.csv")[0]
    folder.write("new.csv", table.assign(b=np.where(table["b"], *words)))
    pd.testing.assert_frame_equal(folder.predict("new.csv")[0], expected)
    folder.write("new.csv", table.assign(b=np.where(table["b"], words[0], "perhaps")))
    done = folder.call("predict", folder.path / "run", folder.path / "new.csv")
    assert "column 'b' must hold numbers, not " in done.stderr
