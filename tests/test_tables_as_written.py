"""Tables as spreadsheets, databases and people write them, on the command line: learned from, or refused in words."""

import numpy as np
import pandas as pd
import pytest
from support.folders import Folder, N, plane, quick


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return quick(monkeypatch, Folder(tmp_path))


@pytest.fixture(name="plane")
def _plane():
    return plane()


@pytest.mark.parametrize("word", ["None", "NA", "null", "nan", "n/a"])
def test_a_class_may_be_called_anything(folder, plane, word):
    folder.write("t.csv", plane.assign(y=np.where(plane["y"] > 0, word, "yes")))
    assert folder.train("t.csv", "y")["accuracy"] > 0.95
    assert folder.report["rows"]["without_target"] == 0
    assert set(folder.predict("t.csv")[0]["predicted"].fillna("nan").replace("", word)) <= {word, "yes", "nan"}


def test_a_word_for_a_missing_value_is_asked_about_and_taken_when_named(folder, plane):
    plane["y"] = plane["y"].round(3).astype(str)
    plane.loc[17, "y"] = "n/k"
    folder.write("t.csv", plane)
    assert "column 'y' holds numbers, but not 'n/k' in row 17" in folder.refused("t.csv", "y")
    assert folder.train("t.csv", "y", "--missing", "n/k")["r2"] > 0.99
    assert folder.report["rows"]["without_target"] == 1
    assert "y: numbers, missing where they say 'n/k' (1)" in folder.said
    assert "'n/k'" in folder.refused("t.csv", "y", "--task", "regression", "--force")


def test_question_marks_among_numbers_are_missing_values(folder, plane):
    plane["x"] = plane["x"].astype(str)
    plane.loc[[3, 50, 90, 200, 201, 300], "x"] = "?"
    folder.write("t.csv", plane)
    assert folder.train("t.csv", "y")["r2"] > 0.9
    assert "x: numbers, missing where they say '?' (6); row 0 has" in folder.said


@pytest.mark.parametrize(
    "form",
    [
        lambda x: f"{x * 1000:,.0f}",
        lambda x: f"${x * 1000:,.2f}",
        lambda x: f"{x:.1f}%",
        lambda x: f"{x:.1f}".replace(".", ","),
        lambda x: f"{x * 1000:,.2f}".translate(str.maketrans(",.", ".,")) + " €",
        lambda x: f"{x * 1000:,.0f}".replace(",", " "),
    ],
)
def test_numbers_in_the_notations_of_people(folder, plane, form):
    folder.write("t.csv", plane.assign(x=plane["x"].map(form)).to_csv(index=False, sep=";"))
    assert folder.train("t.csv", "y")["r2"] > 0.99
    assert "columns are separated by ';'" in folder.said
    predicted, _ = folder.predict("t.csv")
    np.testing.assert_allclose(predicted["predicted"], plane["y"], atol=0.1 * plane["y"].std())
    folder.write("y.csv", plane.assign(y=plane["y"].map(form)).to_csv(index=False, sep=";"))
    assert folder.train("y.csv", "y")["r2"] > 0.99


def test_numbers_that_can_be_read_in_two_ways_are_asked_about(folder, plane):
    plane = plane.round(0).astype(int).assign(x=[f"{1 + i % 9},{i % 900 + 100}" for i in range(N)])
    folder.write("t.csv", plane.to_csv(index=False, sep=";"))
    assert "give --thousands , or --decimal ," in folder.refused("t.csv", "y")
    folder.train("t.csv", "y", "--decimal", ",")


def test_dates_of_csv_are_dates_and_later_ones_go_on(folder, tmp_path):
    days = pd.date_range("2021-01-01", periods=N)
    table = pd.DataFrame({"day": days, "y": np.arange(N) * 0.5})
    folder.write("t.csv", table.assign(day=days.strftime("%Y-%m-%d")))
    table.to_parquet(tmp_path / "t.parquet")
    assert folder.train("t.csv", "y")["r2"] > 0.999
    text = folder.report["test"]["network"]
    assert folder.train("t.parquet", "y") == text
    folder.write("new.csv", "day\n2022-03-01\n2022-04-01\n")
    predicted, said = folder.predict("new.csv")
    assert predicted["predicted"].diff()[1] == pytest.approx(31 * 0.5, rel=0.2)
    assert "day: 2 of 2 values lie outside the range of the training rows (2021-01-02 to 2022-02-04)" in said


def test_months_are_dates(folder):
    months = pd.date_range("2020-01-01", periods=49, freq="MS")
    rows = [(month.strftime("%Y-%m"), 5 + 0.35 * i) for i, month in enumerate(months) for _ in range(8)]
    folder.write("t.csv", pd.DataFrame(rows, columns=["month", "y"]))
    folder.train("t.csv", "y")
    new = pd.date_range("2024-02-01", periods=10, freq="MS").strftime("%Y-%m")
    folder.write("new.csv", pd.DataFrame({"month": new}))
    predicted, said = folder.predict("new.csv")
    assert predicted["predicted"].tolist() == pytest.approx([5 + 0.35 * i for i in range(49, 59)], rel=0.05)
    assert "month: 10 of 10 values lie outside" in said


def test_other_dates_by_their_format(folder):
    days = pd.date_range("2021-01-01", periods=N)
    folder.write("t.csv", pd.DataFrame({"day": days.strftime("%d.%m.%Y"), "n": np.arange(N) % 7, "y": np.arange(N)}))
    folder.train("t.csv", "y")
    assert "day: dates written as %d.%m.%Y; row 0 has '01.01.2021'" in folder.said
    assert folder.train("t.csv", "y", "--date-format", "%d.%m.%Y")["r2"] > 0.99
    months = ["Jan.", "Feb.", "März", "Apr.", "Mai", "Juni", "Juli", "Aug.", "Sept.", "Okt.", "Nov.", "Dez."]
    folder.write("new.csv", "day,n\n31.01.2021,2\n")
    same = folder.predict("new.csv")[0]
    german = [f"{day.day}. {months[day.month - 1]} {day.year}" for day in days]
    folder.write("new.csv", pd.DataFrame({"day": german, "n": 2}))
    assert folder.predict("new.csv")[0]["predicted"][30] == same["predicted"][0]
    folder.write("german.csv", pd.DataFrame({"day": german, "n": np.arange(N) % 7, "y": np.arange(N)}))
    assert folder.train("german.csv", "y")["r2"] > 0.99
    folder.write("new.csv", "day,n\n31.01.2021,2\n")
    assert folder.predict("new.csv")[0]["predicted"][0] == pytest.approx(30, abs=10)
    same = [folder.predict("new.csv")[0]]
    folder.write("new.csv", "day,n\n2021-01-31,2\n")
    same.append(folder.predict("new.csv")[0])
    pd.testing.assert_frame_equal(*same)


def test_an_open_quote_is_refused_with_its_line(folder):
    lines = [f"{i},{i % 7},w{i % 3}\n" for i in range(300)]
    lines[100] = '100,2,"w1\n'
    folder.write("t.csv", "a,b,c\n" + "".join(lines))
    assert "a quote that opens in line 102 is not closed" in folder.refused("t.csv", "b")


def test_large_integers_stay_apart_beside_a_missing_one(folder, plane):
    big = [2**53, 2**53 + 1]
    labels = [str(big[int(value > 0)]) for value in plane["y"]]
    labels[7] = ""
    folder.write("t.csv", plane.assign(y=labels))
    assert folder.train("t.csv", "y", "--task", "classification")["accuracy"] > 0.95
    columns = folder.predict("t.csv")[0].columns
    assert {f"y={one}" for one in big} <= set(columns)


def test_categories_in_other_forms_and_unseen_ones(folder, plane):
    code = (plane["x"] > 0).astype(int) + 1
    folder.write("t.csv", plane[["z"]].assign(code=code, colour=np.where(code > 1, " Red", "Blue"), y=code * 10))
    folder.train("t.csv", "y", "--categorical", "code", "--drop", "colour")
    folder.write("a.csv", "z,code\n0,1\n0,2\n")
    folder.write("b.csv", "z,code\n0,1.0\n0,2.0\n")
    assert folder.predict("a.csv")[0].equals(folder.predict("b.csv")[0])
    folder.train("t.csv", "y", "--drop", "code")
    folder.write("a.csv", "z,colour\n0,Red\n0,Blue\n")
    folder.write("b.csv", "z,colour\n0, red \n0,BLUE\n")
    assert folder.predict("a.csv")[0].equals(folder.predict("b.csv")[0])
    folder.write("c.csv", "z,colour\n0,Red\n0,green\n0,green\n")
    said = folder.predict("c.csv")[1]
    assert "colour: 2 of 3 values are in no category that was learned, the first in row 1: 'green'" in said


def test_rare_classes_are_learned_from_and_named(folder, plane):
    labels = np.where(plane["y"] > 0, "a", "b").astype(object)
    labels[[5, 300]] = ["once", "once"]
    labels[8] = "never again"
    folder.write("t.csv", plane.assign(y=labels))
    folder.train("t.csv", "y")
    assert "y: no test row is of class 'never again', which has 1 row" in folder.said
    tested = pd.read_csv(folder.path / "run" / "predictions.csv")["actual"].value_counts(normalize=True)
    assert abs(tested["a"] - (labels == "a").mean()) < 0.02


def test_a_target_of_zero_and_one_is_said_to_be_a_number(folder, plane):
    folder.write("t.csv", plane.assign(y=(plane["y"] > 0).astype(int)))
    folder.train("t.csv", "y")
    assert "y: predicted as a number, though the training rows have only 2 values of it; --task" in folder.said
    assert folder.train("t.csv", "y", "--task", "classification")["accuracy"] > 0.95


def test_an_index_that_was_written_along_is_no_feature(folder, plane):
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"z": rng.normal(size=N), "y": np.sort(plane["y"])})
    folder.write("t.csv", table.to_csv())
    assert folder.train("t.csv", "y")["r2"] < 0.2
    assert "Unnamed: 0" in folder.said
    assert "it numbers the rows; --numeric keeps it" in folder.said
    assert folder.train("t.csv", "y", "--numeric", "Unnamed: 0")["r2"] > 0.95
    table = table.assign(customer_id=rng.permutation(10_000)[:N])
    folder.write("t.csv", table)
    folder.train("t.csv", "y")
    assert "customer_id" in folder.said


def test_no_header(folder, plane):
    folder.write("t.csv", plane.to_csv(index=False, header=False))
    assert "looks like a value: if there is no header line, give --no-header" in folder.refused("t.csv", "y")
    assert folder.train("t.csv", "column3", "--no-header")["r2"] > 0.99


def test_codes_as_categories(folder):
    rng = np.random.default_rng(2)
    code, effect = rng.integers(0, 12, 1200), rng.permutation(12)
    folder.write("t.csv", pd.DataFrame({"code": code, "z": rng.normal(size=1200), "y": effect[code]}))
    without = folder.train("t.csv", "y", "--epochs", "40")  # bins of several networks would make up for it
    assert "code: a number, though the order of its 12 values says little about y; --categorical 'code'" in folder.said
    given = folder.train("t.csv", "y", "--epochs", "40", "--categorical", "code")
    assert given["r2"] > 0.99 > without["r2"]


def test_names_of_rows_are_carried_over(folder, plane):
    folder.write("t.csv", plane.assign(name=[f"n{i}" for i in range(N)]))
    folder.train("t.csv", "y", "--id", "name")
    tested = pd.read_csv(folder.path / "run" / "predictions.csv")
    assert (tested["name"] == "n" + tested["row"].astype(str)).all()
    folder.write("new.csv", "name,z,x\nfirst,0,1\nsecond,1,2\n")
    assert folder.predict("new.csv")[0]["name"].tolist() == ["first", "second"]
    whole = folder.predict("new.csv", "--append")[0]
    assert list(whole.columns) == ["name", "z", "x", "predicted"]
    assert whole["x"].tolist() == [1, 2]


def test_a_run_is_not_replaced_unasked(folder, plane):
    folder.write("t.csv", plane)
    folder.train("t.csv", "y")
    before = (folder.path / "run" / "model.safetensors").read_bytes()
    assert "has the model of another run; --force replaces it" in folder.refused("t.csv", "z")
    assert (folder.path / "run" / "model.safetensors").read_bytes() == before
    (folder.path / "run" / "checkpoint.safetensors").write_bytes(b"")
    assert "--resume goes on with it, --force starts anew" in folder.refused("t.csv", "y")


def test_comments_units_and_another_encoding(folder, plane):
    text = plane.round(3).rename(columns={"x": "Größe"}).to_csv(index=False).splitlines()
    content = "\n".join(["# measured in May", text[0], "mm,,EUR", *text[1:]])
    (folder.path / "t.csv").write_bytes(content.encode("cp1252"))
    assert "--encoding cp1252" in folder.refused("t.csv", "y")
    assert folder.train("t.csv", "y", "--encoding", "cp1252")["r2"] > 0.99
    assert "line 1 is not a row and is left out: '# measured in May'" in folder.said
    assert "line 3 has units and is left out: 'mm, EUR'" in folder.said


def test_xlsx(folder, plane, tmp_path):
    plane = plane.astype({"x": object})
    plane.loc[4, "x"] = "n/a"
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame({"said": ["of May"]}).to_excel(book, sheet_name="notes", index=False)
        plane.to_excel(book, sheet_name="sales", index=False)
    said = "columns are: said; read only the sheet 'notes', not 'sales' (--sheet names another)"
    assert said in folder.refused("t.xlsx", "y")
    assert folder.train("t.xlsx", "y", "--sheet", "sales")["r2"] > 0.98
    assert "x: numbers, missing where they say 'n/a' (1)" in folder.said
    assert len(folder.predict("t.xlsx", "--sheet", "sales")[0]) == len(plane)


def test_codes_that_begin_with_a_zero_are_text_and_kept(folder, plane):
    zips = [f"{1000 + 37 * (i % 40):05}" for i in range(N)]
    table = plane.assign(zip=zips, name=[f"{i:06}" for i in range(N)], y=[int(one) for one in zips])
    folder.write("t.csv", table.drop(columns=["x", "z"]))
    assert folder.train("t.csv", "y", "--id", "name")["r2"] > 0.9
    assert (
        "zip: text, since values such as '01000' begin with a zero; --numeric 'zip' reads them as numbers"
        in folder.said
    )
    assert pd.read_csv(folder.path / "run" / "predictions.csv", dtype=str)["name"].str.len().eq(6).all()
    assert folder.train("t.csv", "y", "--id", "name", "--numeric", "zip")["r2"] > 0.99
    assert "begin with a zero" not in folder.said


def test_columns_that_are_not_used_may_hold_anything(folder, plane):
    junk = [*map(str, range(N - 1)), "oops"]
    folder.write("t.csv", plane.assign(junk=junk))
    assert "column 'junk' holds numbers, but not 'oops'" in folder.refused("t.csv", "y")
    folder.train("t.csv", "y", "--drop", "junk")
    folder.write("new.csv", plane.assign(junk=junk, y=["open", *map(str, range(1, N))]))
    assert len(folder.predict("new.csv")[0]) == N


def test_options_of_predict_overrule_those_of_training(folder):
    days = pd.date_range("2021-01-01", periods=N)
    folder.write("t.csv", pd.DataFrame({"day": days.strftime("%Y-%m-%d"), "y": np.arange(N)}))
    folder.train("t.csv", "y")
    folder.write("iso.csv", "day\n2021-06-30\n")
    folder.write("german.csv", "day\n30.06.2021\n")
    same = [folder.predict("iso.csv")[0], folder.predict("german.csv", "--date-format", "%d.%m.%Y")[0]]
    assert same[0].equals(same[1])


def test_a_point_means_in_new_rows_what_it_meant_in_training(folder):
    rng = np.random.default_rng(3)
    count, rate = rng.integers(100, 5000, N), rng.uniform(0, 9, N).round(2)
    table = pd.DataFrame({"count": count, "rate": [str(one).replace(".", ",") for one in rate], "y": count * 1.0})
    folder.write("t.csv", table.to_csv(index=False, sep=";"))
    folder.train("t.csv", "y")
    folder.write("a.csv", "count;rate\n1.234;0,5\n2.500;1,5\n")
    folder.write("b.csv", "count;rate\n1234;0,5\n2500;1,5\n")
    assert folder.predict("a.csv")[0].equals(folder.predict("b.csv")[0])
    folder.write("t.csv", table.assign(count=count / 1000).to_csv(index=False, sep=";"))
    folder.train("t.csv", "y")  # here it stands before decimals
    folder.write("b.csv", "count;rate\n1,234;0,5\n2,500;1,5\n")
    np.testing.assert_allclose(folder.predict("a.csv")[0]["predicted"], [1234, 2500], rtol=0.05)


def test_options_for_text_are_refused_for_files_that_say_themselves(folder, plane, tmp_path):
    plane.to_parquet(tmp_path / "t.parquet")
    for flags in (["--encoding", "latin-1"], ["--sep", ";"], ["--no-header"]):
        assert "needs no options such as" in folder.refused("t.parquet", "y", *flags)
    assert "t.parquet has no sheets; the option --sheet is for .xlsx" in folder.refused("t.parquet", "y", "--sheet", 1)


def test_infinite_values_are_counted_and_shown(folder, plane):
    plane.loc[::20, "x"] = np.inf
    folder.write("t.csv", plane)
    folder.train("t.csv", "y")
    assert "x: infinite values count as missing (20)" in folder.said
    plane.loc[::40, "y"] = -np.inf
    folder.write("u.csv", plane)
    folder.train("u.csv", "y", "--force")
    assert "y: infinite values count as missing (10)" in folder.said


def test_labels_that_differ_in_letter_case_are_said(folder, plane):
    plane["kind"] = np.where(plane["x"] > 0, "Yes", "No")
    plane.loc[::3, "kind"] = plane["kind"].str.lower()
    folder.write("t.csv", plane)
    folder.train("t.csv", "kind")
    assert "kind: 'No' and 'no' are learned as two values; write them the same way if they mean one" in folder.said
    folder.train("t.csv", "y", "--force")
    assert "kind: 'No' and 'no' are learned as two values" in folder.said
    assert (folder.path / "run" / "report.html").stat().st_size > 0


def test_the_command_in_the_report_does_the_same_again(folder, plane, monkeypatch):
    folder.write("t.csv", plane)
    monkeypatch.setattr("sys.argv", ["viva-tensor", "train", "a b.csv", "--resume"])
    folder.train("t.csv", "y")
    assert "viva-tensor train 'a b.csv' --force" in (folder.path / "run" / "report.html").read_text()


@pytest.mark.parametrize("name", ["row", "predicted"])
def test_names_of_rows_may_not_be_called_like_predictions(folder, plane, name):
    folder.write("t.csv", plane.assign(**{name: [f"n{i}" for i in range(N)]}))
    assert f"the column {name!r}, which names rows, is called" in folder.refused("t.csv", "y", "--id", name)


def test_new_rows_write_dates_so_that_they_are_but_one_or_are_refused(folder):
    days = pd.date_range("2023-01-01", periods=N)
    folder.write("t.csv", pd.DataFrame({"day": days.strftime("%Y-%m-%d"), "y": np.arange(N)}))
    folder.train("t.csv", "y")
    for word in ("01/02/2024", "01.02.24", "today"):
        folder.write("new.csv", f"day\n{word}\n")
        done = folder.call("predict", folder.path / "run", folder.path / "new.csv")
        assert done.exit_code == 2
        assert f"column 'day' must hold dates, not {word!r} in row 0" in done.stderr
        if word[2:3] == ".":
            assert "; if values such as '01.02.24' are dates: --date-format '%d.%m.%y'" in done.stderr
    folder.write("new.csv", "day\n2024-02-13\n")
    same = folder.predict("new.csv")[0]
    for word in ("13.02.2024", "13/02/2024", "February 13, 2024"):
        folder.write("new.csv", f"day\n{word}\n".replace(word, f'"{word}"'))
        assert folder.predict("new.csv")[0].equals(same)
    folder.write("new.csv", "day\n?\n")
    assert "day: 1 of 1 values are missing, as none was in training" in folder.predict("new.csv")[1]


def test_beside_a_format_of_training_that_of_new_rows_is_named(folder):
    days = pd.date_range("2020-01-01", periods=2001).strftime("%d.%m.%Y")
    folder.write("t.csv", pd.DataFrame({"day": days[:N], "y": np.arange(N)}))
    folder.train("t.csv", "y", "--date-format", "%d.%m.%Y")
    must = "column 'day' must hold dates written as %d.%m.%Y, not"
    hint = "; if values such as '13/02/24' are dates: --date-format '%d/%m/%y'"
    for rows, said in ((["13/02/24"], f"'13/02/24' in row 0{hint}"), ([*days, "late"], "'late' in row 2001")):
        folder.write("new.csv", pd.DataFrame({"day": rows}))
        done = folder.call("predict", folder.path / "run", folder.path / "new.csv")
        assert done.stderr.endswith(f"{must} {said}\n")
    same = []
    for word in ("13.02.2024", "13/02/2024"):
        folder.write("new.csv", f"day\n{word}\n")
        same.append(folder.predict("new.csv")[0])
    assert same[0].equals(same[1])


def test_words_for_missing_values_hold_for_new_rows(folder, plane):
    folder.write("t.csv", plane)
    folder.train("t.csv", "y", "--missing", "tbd")
    folder.write("new.csv", "x,z\ntbd,1\n2,3\n")
    predicted, said = folder.predict("new.csv")
    assert len(predicted) == 2
    assert "x: 1 of 2 values are missing, as none was in training, the first in row 0" in said
    folder.write("new.csv", "x,z\noops,1\n2,3\n")
    assert len(folder.predict("new.csv", "--missing", "oops")[0]) == 2


@pytest.mark.parametrize(
    ("content", "flags", "said"),
    [
        ("Preis;x\n1.234 €;1\n950 €;2\n12.500 €;3\n", [], "'1.234 €' in row 0 (one of 1 such rows)"),
        ("km;x\n12.500;1,799\n9.800;1,659\n", [], "which is 1799 or 1.799; give --thousands , or --decimal ,"),
        ('a,x\n"say \\"hi\\"",1\nb,2\n', [], "a quote that opens in line 2 is not closed"),
        ("x,y\n1,2\n2,3\n", ["--drop", "x"], "the column 'x' cannot be both dropped and predicted"),
        ("x,y\n1,2\n2,3\n", ["--date-format", "%"], "--date-format takes a format such as %d.%m.%Y; got '%' (stray %"),
        ("x,y\n1,2\n2,3\n", ["--date-format", "%d%d"], "got '%d%d' (redefinition of group"),
    ],
)
def test_refused(folder, content, flags, said):
    folder.write("t.csv", content)
    message = folder.refused("t.csv", "x", *flags)
    assert said.replace(" (one of 1 such rows)", "") in message


def test_dates_of_digits_keep_the_zero_that_they_begin_with(folder):
    days = pd.date_range("2022-01-01", periods=N)
    folder.write("t.csv", pd.DataFrame({"day": days.strftime("%d%m%Y"), "z": [1, 2] * 200, "y": np.arange(N)}))
    assert folder.train("t.csv", "y", "--date-format", "%d%m%Y")["r2"] > 0.999
    folder.write("new.csv", "day,z\n01022022,1\n12022022,1\n")
    assert folder.predict("new.csv")[0]["predicted"].diff()[1] == pytest.approx(11, abs=1.5)
    folder.train("t.csv", "y", "--date-format", "%d/%m/%Y")
    assert "no column was taken for dates written as %d/%m/%Y" in folder.said


def test_rare_categories_are_counted(folder):
    rng = np.random.default_rng(4)
    kind = [f"k{i}" for i in rng.integers(0, 200, 2000)]
    folder.write("t.csv", pd.DataFrame({"kind": kind, "y": [int(one[1:]) for one in kind]}))
    folder.train("t.csv", "y")
    assert "kind: 200 categories in the training rows, of which the 64 most frequent are kept apart; " in folder.said


def test_years_in_order_are_no_row_numbers(folder):
    folder.write("t.csv", pd.DataFrame({"year": range(1980, 2030), "z": [1, 2] * 25, "y": range(50)}))
    assert folder.train("t.csv", "y")["r2"] > 0.99


def test_appending_keeps_the_columns_as_they_are_written(folder, plane):
    folder.write("t.csv", plane.assign(name=[f"{i:06}" for i in range(N)]))
    folder.train("t.csv", "y", "--id", "name")
    folder.write("new.csv", "name,x,z,at,predicted\n000007,1.50,2,09:30,?\n")
    done = folder.call("predict", folder.path / "run", folder.path / "new.csv", "--append")
    header, row = done.stdout.splitlines()
    assert header == "name,x,z,at,predicted,predicted of the model"
    assert row.startswith("000007,1.50,2,09:30,?,")


def test_a_number_that_stands_for_missing_ones_costs_little_and_is_named(folder, plane):
    plane.loc[[3, 17, 50, 99, 222, 301], "x"] = -99_999
    folder.write("t.csv", plane)
    assert folder.train("t.csv", "y")["r2"] > 0.9
    assert "x: 6 rows have -99999, far from most others; if it means missing: --missing -99999" in folder.said
    assert folder.train("t.csv", "y", "--missing", "-99999")["r2"] > 0.9
    assert "x: read as missing: '-99999' (6)" in folder.said


@pytest.mark.parametrize("flags", [(), ("--memory", "0")])
def test_text_in_parquet_files_is_recognised_as_in_text_files(folder, flags):
    rng = np.random.default_rng(5)
    share, day = rng.uniform(0, 100, N).round(1), pd.Timestamp("2023-01-01") + pd.to_timedelta(rng.permutation(N), "D")
    table = pd.DataFrame({
        "share": [f"{one} %".replace(".", ",") for one in share], "day": day.strftime("%Y-%m-%d"),
        "zip": [f"{1000 + i % 9:05}" for i in range(N)], "y": share + np.arange(N) % 9}).assign(
        day=lambda one: one["day"].where(one.index != 3, "unknown"))  # fmt: skip
    table.to_parquet(folder.path / "t.parquet", row_group_size=100)
    folder.train("t.parquet", "y", *flags)
    assert "share: numbers with ',' before decimals and '%' beside them; row 0 has" in folder.said
    assert "day: dates, missing where they say 'unknown' (1); row 0 has" in folder.said
    assert "zip: text, since values such as '01000' begin with a zero" in folder.said
    expected = folder.predict("t.parquet")[0]
    folder.write("t.csv", table.to_csv(index=False, sep=";"))
    pd.testing.assert_frame_equal(folder.predict("t.csv")[0], expected)


def test_values_that_do_not_fit_text_in_a_parquet_file_are_named_with_their_row(folder):
    table = pd.DataFrame({"x": [f"{i / 7:.2f} kg" for i in range(N)], "y": np.arange(N)})
    table.assign(x=table["x"].where(table.index != 250, "odd")).to_parquet(folder.path / "t.parquet", row_group_size=99)
    assert "beside them, but not 'odd' in row 250" in folder.refused("t.parquet", "y")
    folder.train("t.parquet", "y", "--missing", "odd")
    table.assign(x=[f"{i},{i % 1000:03}" for i in range(1, N + 1)]).to_parquet(folder.path / "u.parquet")
    assert "--thousands , or --decimal ," in folder.refused("u.parquet", "y", "--force")
    folder.train("u.parquet", "y", "--force", "--decimal", ",")


def test_plain_numbers_that_are_text_in_a_parquet_file_stay_text_unless_they_are_said_to_be_numbers(folder):
    x = np.arange(N) % 90 / 2
    pd.DataFrame({"x": [*map(str, x)], "y": x}).to_parquet(folder.path / "t.parquet")
    folder.train("t.parquet", "y")
    assert "x: text, as in the file, though values such as '0.0' are numbers: --numeric 'x'" in folder.said
    assert folder.train("t.parquet", "y", "--force", "--numeric", "x")["r2"] > 0.99


@pytest.mark.parametrize("option", ["--task", "--categorical"])
def test_an_error_of_a_spreadsheet_is_no_label_of_a_column_said_to_be_text(folder, plane, option):
    named = [" #N/A" if i % 10 == 0 else "ab"[one > 0] for i, one in enumerate(plane["y"])]
    folder.write("t.csv", plane.assign(c=named))
    if option == "--task":
        folder.train("t.csv", "c", "--task", "classification", "--drop", "y")
        assert folder.report["rows"]["without_target"] == len(plane) / 10
        assert set(folder.predict("t.csv")[0]["predicted"]) <= {"a", "b"}
    else:
        folder.train("t.csv", "y", "--categorical", "c")
    assert f"c: read as missing: '#N/A' ({len(plane) // 10})" in folder.said
