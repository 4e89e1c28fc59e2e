"""Numbers and dates in the notations that people use, and what is refused."""

import json
import math
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viva_tensor.tabular.columns import Effect
from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.expected import Expected
from viva_tensor.tabular.labels import index_among, normal
from viva_tensor.tabular.notation import Dates, Numbers, Times, notation_from_dict, notation_to_dict
from viva_tensor.tabular.reading import read, read_table
from viva_tensor.tabular.recognition import AmbiguousNumbers, Writing, recognise, recognise_all
from viva_tensor.tabular.word_forms import is_plain
from viva_tensor.tabular.words import MARKERS


def found(words, writing=None, decimal=""):
    """What a column of words is recognised as, and its values."""
    column = pd.Series(words)
    one = recognise("c", column, writing or Writing(), decimal)
    return one, None if one.notation is None else one.notation.parse(column).tolist()


def write_table(table, path):
    match path.suffix:
        case ".csv":
            table.to_csv(path, index=False, sep=";")
        case ".feather":
            table.to_feather(path)
        case ".jsonl":
            table.to_json(path, orient="records", lines=True)


class TestNumbers:
    @pytest.mark.parametrize(
        ("words", "values"),
        [
            (["1,234,567", "12", "-3,000"], [1234567, 12, -3000]),
            (["1,234.5", "0.25"], [1234.5, 0.25]),
            (["1.234,5", "12", ",25"], [1234.5, 12, 0.25]),
            (["1,00,000", "12,34,56,789", "12,500", "7"], [100000, 123456789, 12500, 7]),
            (["₹1,00,000.50", "₹ 950"], [100000.5, 950]),
            (["1.234.567", "12"], [1234567, 12]),
            (["1,5", "2,25", "-3,125"], [1.5, 2.25, -3.125]),
            (["0,125", "0,250"], [0.125, 0.25]),
            (["1 234", "1 234 567,5"], [1234, 1234567.5]),
            (["1\u202f234", "12\u00a0345"], [1234, 12345]),
            (["1'234.50", "999.90"], [1234.5, 999.9]),
            (["1_000", "20"], [1000, 20]),
            (["$1,200.50", "-$3", "($7)"], [1200.5, -3, -7]),
            (["1.200,50 €", "3 €"], [1200.5, 3]),
            (["USD 12", "USD 15"], [12, 15]),
            (["12%", "7.5 %"], [12, 7.5]),
            (["5 kg", "12.5kg", "3"], [5, 12.5, 3]),
            (["\u22125", "6"], [-5, 6]),
            (["1e3", "2.5E-1", "4"], [1000, 0.25, 4]),
            ([" 7", "8 "], [7, 8]),
        ],
    )
    def test_values(self, words, values):
        assert found(words)[1] == values

    @pytest.mark.parametrize("marker", [*sorted(MARKERS), "N/A", "NaN", "NULL", "None"])
    def test_words_for_missing_values_are_counted(self, marker):
        one, values = found(["1", "2", marker, "3", marker])
        assert values[:2] == [1, 2]
        assert pd.isna(values[2])
        assert f"missing where they say {marker!r} (2)" in one.note
        assert one.notation.missing == ()

    def test_another_word_is_refused_with_its_row_and_taken_when_it_is_named(self):
        words = [*map(str, range(30)), "n/k"]
        with pytest.raises(DataError, match=r"column 'c' holds numbers, but not 'n/k' in row 30; .*--missing 'n/k'"):
            found(words)
        one, values = found(words, Writing(missing=("n/k",)))
        assert pd.isna(values[30])
        assert one.notation == Numbers(missing=("n/k",))

    def test_a_comma_that_can_be_read_in_two_ways_is_asked_about(self):
        with pytest.raises(AmbiguousNumbers, match=r"'1,234' in row 0, which is 1234 or 1\.234; give --thou"):
            found(["1,234", "5,678"])
        assert found(["1,234", "5"], Writing(thousands=","))[1] == [1234, 5]
        assert found(["1,234", "5"], Writing(decimal=","))[1] == [1.234, 5]
        assert found(["1.234", "5"], Writing(thousands="."))[1] == [1234, 5]

    def test_other_columns_of_the_file_tell_how_it_is_meant(self):
        columns = {"a": pd.Series(["1,234", "5,678"]), "b": pd.Series(["1,5", "2,5"])}
        assert recognise_all(columns, Writing(), set())["a"].notation == Numbers(decimal=",")
        columns["b"] = pd.Series(["1,000.5", "2"])
        assert recognise_all(columns, Writing(), set())["a"].notation == Numbers(thousands=",")
        assert recognise_all({"a": columns["a"]}, Writing(), {"."})["a"].notation == Numbers(thousands=",")
        columns |= {"c": pd.Series(["1,5", "2,5"])}
        with pytest.raises(AmbiguousNumbers):
            recognise_all(columns, Writing(), set())

    @pytest.mark.parametrize("suffix", ["csv", "feather", "jsonl"])
    def test_hexadecimal_codes_are_text_in_every_format(self, tmp_path, suffix):
        table = pd.DataFrame({"a": ["0x1F", "0xA0", "17"], "b": [1, 2, 3]})
        write_table(table, tmp_path / f"t.{suffix}")
        source = read(tmp_path / f"t.{suffix}")
        assert source.table["a"].tolist() == ["0x1F", "0xA0", "17"]
        assert "a: text, since values such as '0x1F' are codes" in source.notes

    def test_points_between_groups_of_three_follow_decimal_commas(self):
        columns = {"a": pd.Series(["1.234", "950"]), "b": pd.Series(["1,5", "2,5"]), "c": pd.Series(["7", "-"])}
        of = {name: one.notation for name, one in recognise_all(columns, Writing()).items()}
        assert of == {"a": Numbers(",", "."), "b": Numbers(","), "c": Numbers(",", ".")}
        for shown in ({"d": pd.Series(["0.5", "2"])}, {"b": pd.Series(["x", "y"])}, {"b": pd.Series(["7.5", "2"])}):
            assert recognise_all(columns | shown, Writing())["a"].notation == Numbers()
        assert recognise_all(columns, Writing(), {"."})["a"].notation == Numbers()
        assert recognise_all(columns | {"a": pd.Series(["1.5", "950"])}, Writing())["a"].notation == Numbers()

    @pytest.mark.parametrize("suffix", ["csv", "feather", "jsonl"])
    def test_every_format_has_them_so(self, tmp_path, suffix):
        table, path = (
            pd.DataFrame({"a": ["12.645", "1.950", "430"], "b": ["1,5", "2,25", "7"]}),
            tmp_path / f"t.{suffix}",
        )
        write_table(table, path)
        assert read_table(path)["a"].tolist() == [12645, 1950, 430]

    @pytest.mark.parametrize(
        "words",
        [
            ["a", "b"],
            ["007", "012", "x"],
            ["01.2020", "02.2020"],
            ["1st", "2nd", "3rd"],
            ["1/2", "3/4"],
            ["1.2.3", "1.2.4"],
            ["12,34,56", "1,2,3"],
            ["100,00,000", "1.00.000"],
            ["3:1", "2:0"],
            ["10:61", "11:75"],
            ["Male", "Female", "None"],
            ["NA", "n/a", "?"],
            ["5 kg", "3 lb", "7 st"],
        ],
    )
    def test_text_stays_text(self, words):
        assert found(words)[0].notation is None

    def test_a_unit_that_some_lack_is_said(self):
        assert "with 'kg' beside them, 2 without 'kg'; " in found(["5 kg", "3", "12.5kg", "3"])[0].note
        assert "with '$' beside them, 1 without '$', missing where" in found(["$5", "3", "?"])[0].note

    @pytest.mark.parametrize(
        ("scaled", "other"),
        [("1.2k", "950"), ("1,2 Mio", "950000"), ("5 Tsd", "900"), ("12.5%", "0.5"), ("2 kW", "1500"), ("3 M€", "9 €")],
    )
    def test_numbers_of_two_scales_are_none(self, scaled, other):
        for words in ([scaled, other], [other, scaled]):
            one, values = found(words)
            assert values is None
            assert one.note.startswith("c: text, though 50% of its values are numbers; row ")
            told = f"not '{words[1]}' in row 40; row 40 has '{words[1]}', row 0 '{words[0]}': all must have one scale"
            with pytest.raises(DataError, match=re.escape(told)):
                found([words[0]] * 40 + words[1:])
        assert found([scaled, "0", "-"])[1][1] == 0
        with pytest.raises(DataError, match=re.escape(f"not '{other}' in row 1")):
            found([scaled] * 2)[0].notation.parse(pd.Series([scaled, other]))

    @pytest.mark.parametrize(
        ("words", "side"),
        [(["10.50", "10.50 CR"], "CR"), (["7,5 S", "8 H", "9 S"], "S"), (["5 Cr", "3 Dr", "0"], "Cr")],
    )
    def test_credit_and_debit_beside_some_amounts_are_not_dropped(self, words, side):
        one, values = found(words)
        assert values is None
        assert one.note.endswith(f": if {side!r} is a sign, write it as '-' or '+' before the number")
        with pytest.raises(DataError, match=re.escape(f"if {side!r} is a sign, write it as '-' or '+' before")):
            found([*words[:1] * 40, *words[1:2]])
        with pytest.raises(DataError, match=r"but not '7' in row 40; row 40 has '7', row 0 '5 CR': if 'CR' is a sign"):
            found([*["5 CR"] * 40, "7"])

    @pytest.mark.parametrize("unit", ["C", "D", "H", "S"])
    def test_one_letter_beside_numbers_is_a_unit_where_the_other_side_is_not_there(self, unit):
        assert found([f"20.5 {unit}", "21", "0", f"-3{unit}"])[1] == [20.5, 21, 0, -3]

    @pytest.mark.parametrize("suffix", ["C", "S", "CR"])
    def test_a_recorded_notation_takes_what_it_took(self, tmp_path, suffix):
        recorded = notation_from_dict({**notation_to_dict(Numbers()), "suffix": suffix})
        assert recorded.parse(pd.Series([f"20 {suffix}", "22", "n/a"])).tolist()[:2] == [20, 22]
        expected = Expected(numbers=["t"], notations={"t": recorded}, only=["t"])
        for name, lines in {"some.csv": [f"20 {suffix}", "22"], "none.csv": ["20", "22"]}.items():
            (tmp_path / name).write_text("\n".join(["t,n", *(f"{line},1" for line in lines)]))
            assert read(tmp_path / name, expected=expected).table["t"].tolist() == [20, 22]

    def test_points_and_commas_before_decimals_in_one_column_are_refused(self):
        told = "'1,234.5' in row 1 with a decimal point and '1.234,5' in row 0 with a decimal comma; write all of them"
        with pytest.raises(DataError, match=re.escape(told)):
            found(["1.234,5", "1,234.5", "17"])

    def test_one_scaled_number_among_thousands_is_refused(self):
        with pytest.raises(DataError, match=r"but not '1\.2k' in row 3999"):
            found([*map(str, range(3999)), "1.2k"])

    def test_a_sign_within_parentheses_is_refused(self):
        with pytest.raises(DataError, match=r"not '\(-5\)' in row 1"):
            found(["(5)", "(-5)"])

    def test_a_column_of_half_numbers_is_text_and_said_so(self):
        assert found(["1", "2", "x", "3"])[0].note == "c: text, though 75% of its values are numbers"

    def test_integers_never_pass_through_float64(self):
        assert found(["9007199254740993", "?", "9,007,199,254,740,992"])[1][::2] == [9007199254740993, 9007199254740992]

    @pytest.mark.parametrize("word", ["9" * 400, "1" + ",000" * 120])
    def test_a_number_beyond_float64_is_infinite(self, word):
        assert found([word, "1.5"])[1] == [math.inf, 1.5]

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"decimal": ";"}, "the decimal mark is '.' or ',', not ';'"),
            ({"thousands": "ab"}, "one character"),
            ({"thousands": "1"}, "one character"),
            ({"decimal": ",", "thousands": ","}, "cannot both be ','"),
        ],
    )
    def test_impossible_options(self, values, message):
        with pytest.raises(DataError, match=message):
            Writing(**values)

    @given(st.lists(st.decimals(-(10**9), 10**9, places=2), min_size=2, max_size=9), st.sampled_from("_,"))
    def test_what_python_writes_is_read(self, numbers, thousands):
        words = [f"{number:{thousands}.2f}" for number in map(float, numbers)]
        assert found(words)[1] == [float(number) for number in numbers]


class TestDates:
    @pytest.mark.parametrize(
        ("word", "time"),
        [
            ("2024-03", "2024-03-01"),
            ("2024/03/05", "2024-03-05"),
            ("2024-03-05 07:30", "2024-03-05 07:30"),
            ("2024-03-05T07:30:15.250", "2024-03-05 07:30:15.25"),
            ("2024-03-05T07:30:00+02:00", "2024-03-05 05:30"),
            ("2024-03-05T07:30:00Z", "2024-03-05 07:30"),
        ],
    )
    def test_iso_8601(self, word, time):
        one, values = found([word, "2020-01-31", "-"])
        assert one.notation == Dates()
        assert values[:2] == [pd.Timestamp(time), pd.Timestamp("2020-01-31")]
        assert pd.isna(values[2])

    def test_of_some_times_with_an_offset_those_without_are_said_to_be_in_utc(self):
        one, values = found(["2024-03-05T07:30+02:00", "2024-03-05T07:30", "-"])
        assert values[:2] == [pd.Timestamp("2024-03-05 05:30"), pd.Timestamp("2024-03-05 07:30")]
        assert ", times without an offset are taken as UTC; row 0 has" in one.note
        assert "offset" not in found(["2024-03-05T07:30Z", "2024-03-06T07:30+01:00", "-"])[0].note

    @pytest.mark.parametrize("count", [1, 10, 19])
    def test_beside_a_format_those_in_iso_8601_are_read_in_training_as_later(self, count):
        words = [*["31.12.2023"] * count, *["2024-02-03"] * (20 - count)]
        one, values = found(words, Writing(date_format="%d.%m.%Y"))
        assert one.notation == Dates("%d.%m.%Y")
        assert values == [*[pd.Timestamp("2023-12-31")] * count, *[pd.Timestamp("2024-02-03")] * (20 - count)]
        assert found(["2024-02-03", "-"], Writing(date_format="%d.%m.%Y"))[0].notation == Dates()

    def test_where_a_word_is_two_dates_the_format_alone_is_read(self):
        swapped = Writing(date_format="%Y-%d-%m")
        assert [day.month for day in found(["2023-31-12", "2023-12-30"], swapped)[1]] == [12, 12]
        with pytest.raises(DataError, match="dates written as %Y-%d-%m, but not '2023-12-30' in row 20"):
            found([*["2023-31-12"] * 19, "2024-02-03", "2023-12-30"], swapped)

    @pytest.mark.parametrize("word", ["now", "today"])
    def test_a_word_for_the_present_is_no_date(self, word):
        with pytest.raises(DataError, match=f"dates written as %d.%m.%Y, but not '{word}' in row 30"):
            found([*(f"{day:02}.01.2024" for day in range(1, 31)), word], Writing(date_format="%d.%m.%Y"))

    def test_a_word_among_dates_is_refused_with_its_row(self):
        words = [f"2024-01-{day:02}" for day in range(1, 29)]
        with pytest.raises(DataError, match=r"column 'c' holds dates, but not '2024-02-30' in row 28; "):
            found([*words, "2024-02-30"])

    @pytest.mark.parametrize(
        ("words", "written"),
        [
            (["05.03.2024", "31.12.2023"], "%d.%m.%Y"),
            (["3/5/2024", "12/31/2023"], "%m/%d/%Y"),
            (["05-03-2024", "31-12-2023"], "%d-%m-%Y"),
            (["5. März 2024", "31. Dezember 2023"], "%d %b %Y"),
            (["5. März 2024", "1. April 2023", "31. Dez. 2023"][:2], "%d %B %Y"),
            (["5 mars 2024", "1er févr. 2023", "31 déc. 2023"], "%d %b %Y"),
            (["5 de marzo de 2024", "31 de diciembre de 2023"], "%d %b %Y"),
            (["5 marzo 2024", "31 dicembre 2023"], "%d %b %Y"),
            (["5 de março de 2024", "31 de dezembro de 2023"], "%d %b %Y"),
            (["5 mrt 2024", "31 okt. 2023"], "%d %b %Y"),
            (["March 5th, 2024", "December 31st, 2023"], "%B %d, %Y"),
            (["2024年3月5日", "2023年12月31日"], "%Y年%m月%d日"),
            (["3/5/2024, 2:30 PM", "12/31/2023, 11:00 AM"], "%m/%d/%Y, %I:%M %p"),
            (["3/5/24", "12/31/23"], "%m/%d/%y"),
        ],
    )
    def test_dates_that_can_be_but_in_one_format_are_read(self, words, written):
        (notation, note, _), values = found(words)
        assert notation == Dates(written)
        assert note == f"c: dates written as {written}; row 0 has {words[0]!r}"
        assert values[0].normalize() == pd.Timestamp("2024-03-05")
        assert values == found(words, Writing(date_format=written))[1]

    @pytest.mark.parametrize("count", [1, 10, 19])
    def test_dates_in_one_clear_format_and_in_iso_8601_are_read_together(self, count):
        words = [*["2024-02-03"] * (20 - count), *["31.12.2023"] * count]
        one, values = found(words)
        assert one.notation == Dates("%d.%m.%Y")
        assert one.note == f"c: dates written as %d.%m.%Y, {20 - count} in ISO 8601; row 0 has '2024-02-03'"
        assert values == found(words, Writing(date_format="%d.%m.%Y"))[1]
        left_open = found(["2024-02-03", "03/04/2024", "05/06/2023"])[0].note
        assert left_open.startswith("c: text; if values such as '03/04/2024' are dates: --date-format")

    def test_dates_in_several_formats_are_told(self):
        days = pd.date_range("2024-01-01", periods=30)
        words = [day.strftime("%d/%m/%Y" if i % 2 else "%m/%d/%Y") for i, day in enumerate(days)]
        told = "its values are dates in several formats (70% '%m/%d/%Y', 70% '%d/%m/%Y'); write all of them in one"
        assert found(words)[0] == (None, f"c: text; {told}", "")

    @pytest.mark.parametrize(
        "words",
        [["05.03.24", "31.12.23"], ["24/08/29", "23/12/01"], ["1.2.3"], ["03/04/2024", "05/06/2023"], ["12.2024"]],
    )
    def test_what_may_be_no_dates_or_others_stays_text(self, words):
        assert not isinstance(found(words)[0].notation, Dates)

    def test_a_day_that_no_format_has_is_refused_among_dates(self):
        words = [*(f"{day:02}.01.2024" for day in range(1, 31)), "late"]
        with pytest.raises(DataError, match=r"written as %d.%m.%Y, but not 'late' in row 30; if 'late' means miss"):
            found(words)
        mostly_below = [f"{day:02}/{day % 12 + 1:02}/2024" for day in [*range(1, 12)] * 3] + ["13/01/2024"]
        assert found(mostly_below)[0].notation == Dates("%d/%m/%Y")  # which alone fits them all

    def test_other_formats_are_named(self):
        for word, written in {"03/2024": "%m/%Y", "3-2024": "%m-%Y", "Mar-24": "%b-%y", "March 2024": "%B %Y"}.items():
            assert found([word])[0].note == f"c: text; if values such as {word!r} are dates: --date-format {written!r}"
        both = found(["05/03/2024", "01/02/2024"])[0].note
        assert both.endswith("--date-format '%m/%d/%Y' or --date-format '%d/%m/%Y'")

    @pytest.mark.parametrize(
        ("word", "written"),
        [
            ("12/31/2023 11:00:00 AM", "%m/%d/%Y %I:%M:%S %p"),
            ("04.03.2024 10:00:00", "%d.%m.%Y %H:%M:%S"),
            ("2024-03-04 7:05 PM", "%Y-%m-%d %I:%M %p"),
            ("2024-03-04 7:05", "%Y-%m-%d %H:%M"),
            ("01-Mar-2024 06:05:00", "%d-%b-%Y %H:%M:%S"),
            ("Fri 01 Mar 2024", "%a %d %b %Y"),
            ("December 31, 2023", "%B %d, %Y"),
            ("31 December 2023 07:05", "%d %B %Y %H:%M"),
            ("31/12/2023 21:05:10.123", "%d/%m/%Y %H:%M:%S.%f"),
            ("2023.12.31", "%Y.%m.%d"),
            ("12/31/2023 9:05PM", "%m/%d/%Y %I:%M%p"),
            ("12/31/2023 9:05:10PM", "%m/%d/%Y %I:%M:%S%p"),
            ("12/31/2023 9PM", "%m/%d/%Y %I%p"),
        ],
    )
    def test_days_with_a_clock_or_the_name_of_the_day_are_read(self, word, written):
        assert found([word])[0] == (Dates(written), f"c: dates written as {written}; row 0 has {word!r}", "")
        both = found(["3/4/2024 7:05:00"])[0].note
        assert both.endswith("--date-format '%m/%d/%Y %H:%M:%S' or --date-format '%d/%m/%Y %H:%M:%S'")

    @pytest.mark.parametrize(
        "words", [["2008/09", "2009/10", "-"], ["1999-00", *(f"20{i:02}-{i + 1:02}" for i in range(14))]]
    )
    def test_seasons_are_no_months(self, words):
        for writing in (None, Writing(date_format="%d.%m.%Y")):
            told = f"c: text; values such as {words[0]!r} are a year and the next"
            assert found(words, writing)[0] == (None, told, "")
        assert found(["2008/09", "2009/11"])[0].notation == Dates()
        assert found(["2008/09"] * 3)[0].notation == Dates()

    def test_a_format_is_that_of_some_dates_and_others_are_those_of_iso_8601(self):
        given = Writing(date_format="%d.%m.%Y")
        for words in (["2024-03-05", "NULL"], ["2024/03/05", "2023/12/31"]):
            assert found(words, given)[0].notation == Dates()
        assert found(["05.03.2024", "NULL"], given)[0].notation == Dates("%d.%m.%Y")


class TestTimes:
    @pytest.mark.parametrize(
        ("words", "hours"),
        [
            (["10:30", "11:00"], [10.5, 11]),
            (["1:30:00", "24:00:00", "126:15:36"], [1.5, 24, 126.26]),
            (["-0:30", "00:00:00.5"], [-0.5, 0.5 / 3600]),
            (["9:15 AM", "12:30 pm", "12:00 AM", "12:00:00\u202fPM", "11:30 p.m."], [9.25, 12.5, 0, 12, 23.5]),
            (["08:30", "9:15 PM"], [8.5, 21.25]),
            (["0 days 00:05:00", "1 days 02:00:00", "-1 days +23:30:00.000000"], [5 / 60, 26, -0.5]),
        ],
    )
    def test_hours(self, words, hours):
        one, values = found([*words, "-"])
        assert one.notation == Times()
        assert one.note.startswith("c: times, as hours, missing where they say '-' (1); row 0 has ")
        assert values[:-1] == hours
        assert pd.isna(values[-1])

    def test_other_words_are_refused_or_leave_them_text(self):
        with pytest.raises(DataError, match="column 'c' holds times, but not '7:75' in row 20; "):
            found(["7:30"] * 20 + ["7:75"])
        assert found(["7:30", "8:00", "noon", "9:15"])[0] == (None, "c: text, though 75% of its values are times", "")
        with pytest.raises(DataError, match="column 'c' holds times, but not '13:05 PM' in row 20; "):
            found(["7:30"] * 20 + ["13:05 PM"])
        assert normal("9:05 AM") == "9:05 am"
        with pytest.raises(DataError, match="column 'c' must hold times, not '12' in row 1"):
            Times().parse(pd.Series(["7:30", "12"], name="c"))

    @pytest.mark.parametrize("suffix", ["csv", "feather", "jsonl"])
    def test_every_format_has_the_same_bits(self, tmp_path, suffix):
        words = [f"{7 * i % 24:02}:{11 * i % 60:02}:{13 * i % 60:02}" for i in range(500)]
        write_table(pd.DataFrame({"a": words, "b": range(500)}), tmp_path / f"t.{suffix}")
        pd.DataFrame({"a": [*words, "-"], "b": range(501)}).to_csv(tmp_path / "text.csv", index=False)
        of_text = read_table(tmp_path / "text.csv")["a"]
        assert read_table(tmp_path / f"t.{suffix}")["a"].tolist() == of_text.tolist()[:-1]


@pytest.mark.parametrize(
    "notation", [Times(("n/k",)), Numbers(",", ".", "€", "", ("n/k",)), Dates("%d.%m.%Y"), Dates()]
)
def test_record_gives_the_notation_again(notation):
    assert notation_from_dict(json.loads(json.dumps(notation_to_dict(notation)))) == notation


@pytest.mark.parametrize(
    "record", [{}, {"kind": "magic", "missing": []}, {"kind": "dates", "missing": 3}, [], {"kind": []}]
)
def test_foreign_record(record):
    with pytest.raises(DataError, match="not the description of how a column is written"):
        notation_from_dict(record)


def test_known_numbers_may_begin_with_a_zero():
    assert Numbers(",").parse(pd.Series(["05,50", "007", "12"])).tolist() == [5.5, 7, 12]


def test_a_notation_refuses_what_is_not_written_so():
    with pytest.raises(DataError, match=r"column 'c' must hold numbers with ',' before decimals, not '1.5' in row 1"):
        Numbers(",").parse(pd.Series(["1,5", "1.5"], name="c"))
    with pytest.raises(DataError, match=r"column 'c' must hold dates, not 'May' in row 0"):
        Dates().parse(pd.Series(["May"], name="c"))


@given(st.decimals(-(10**6), 10**6, places=3))
def test_all_forms_of_a_number_are_one_label(number):
    forms = (f"{number}", f"{number:.5f}", f" {number:+.4f} ", f"{number:e}", repr(float(number)))
    assert len(set(map(normal, forms))) == 1
    assert is_plain(forms[0])


def test_numbers_beside_text_stay_as_they_are_where_that_has_decimal_commas():
    cells = pd.Series([1.234, "1.234", 950, 1234.5, "2,5", None, math.nan, "-"])
    assert Numbers(",", ".").parse(cells).tolist()[:5] == [1.234, 1234, 950, 1234.5, 2.5]
    assert Numbers(",", ".").parse(cells).isna().sum() == 3
    with pytest.raises(DataError, match="not 'x' in row 1"):
        Numbers(",").parse(pd.Series([1.5, "x"], name="c"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2024-01-31 00:00:00", "2024-01-31"),
        ("07:30", "7:30:00"),
        ("00:30", "0:30:00"),
        ("0 days 07:30:00", "7:30"),
    ],
)
def test_dates_and_times_are_one_label_however_a_program_wrote_them(one, other):
    assert index_among([one])(other) == index_among([other])(one) == 0
    effect = Effect("c", (one,), ((1.0,),))
    assert effect.codes(pd.Series([other, one, "12:00"])).tolist() == [0, 0, -1]


def test_commas_of_lakhs_are_not_those_of_lists():
    lists = pd.Series(["10,20,300", "5,15,200", "1,30,100"])
    found = recognise("x", lists, Writing())
    assert found.notation is None
    assert "may be lists" in found.note
    assert recognise("x", lists, Writing(thousands=",")).notation is not None
    for other in ("45,000", "12,34,567.89", "300"):
        assert recognise("x", pd.Series([*lists, other]), Writing()).notation is not None
    assert recognise("x", "₹" + lists, Writing()).notation is not None


def test_a_misfit_in_the_last_row_may_be_a_total():
    days = [f"2024-01-{one:02}" for one in range(1, 29)]
    for below in ([], [None]):
        with pytest.raises(DataError, match="'Total' in row 28; the last row seems to be a total: remove it"):
            recognise("day", pd.Series([*days, "Total", *below]), Writing())
    with pytest.raises(DataError, match="if 'Total' means missing: --missing 'Total'"):
        recognise("day", pd.Series(["Total", *days]), Writing())


def test_hours_alone_may_have_am_and_pm():
    found = recognise("t", pd.Series(["12 AM", "9am", "3 p.m.", "12:30 PM"]), Writing())
    assert found.notation.parse(pd.Series(["12 AM", "9am", "3 p.m.", "12:30 PM"])).tolist() == [0.0, 9.0, 15.0, 12.5]


def test_a_word_that_is_two_dates_is_not_read_both_ways():
    with pytest.raises(DataError, match="'2020-12-31' in row 1"):
        Dates("%Y-%d-%m").parse(pd.Series(["2020-02-03", "2020-12-31"]))
    assert Dates("%Y-%d-%m").parse(pd.Series(["2020-31-12", "2020-12-31"])).dt.month.tolist() == [12, 12]


@pytest.mark.parametrize(("one", "other"), [("1234567.25", "1234567.2"), ("200000.015625", "200000.02")])
def test_numbers_that_differ_have_labels_of_their_own_though_float32_has_both(one, other):
    assert normal(one) == one
    assert index_among([other])(one) == -1


@pytest.mark.parametrize(
    ("words", "values", "suffix"),
    [
        (["٦٣٧٫٤", "١٬٠٣٣٫٥", "٨"], [637.4, 1033.5, 8], ""),
        (["１２．５", "３，０００．２５", "－７"], [12.5, 3000.25, -7], ""),
        (["14.5万", "3万"], [14.5, 3], "万"),
        (["3 Stück", "12 Stück"], [3, 12], "Stück"),
        (["10 тыс", "2,5 тыс"], [10, 2.5], "тыс"),
        (["24세", "7세"], [24, 7], "세"),
    ],
)
def test_numbers_of_other_scripts_and_units_in_any_letters(words, values, suffix):
    (notation, _, _), parsed = found(words, Writing(decimal="," if "2,5 тыс" in words else ""))
    assert notation.suffix == suffix
    assert parsed == values


@pytest.mark.parametrize("word", ["k.A.", "keine Angabe", "s/d", "N.D.", "нет данных", "不明", "Not available"])
def test_words_of_other_languages_for_missing_values(word):
    _, values = found([*map(str, range(1, 12)), word])
    assert values[:3] == [1, 2, 3]
    assert pd.isna(values[-1])
    assert found(["red", "green", word])[0].notation is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7e1234567", "7E1234568"),  # hexadecimal digits, as of commits
        ("5e12345678901234567890", "5e12345678901234567891"),
        ("1234567890123456789012345678901", "1234567890123456789012345678902"),
        ("0000-01-31 10:30Z", "0001-01-31 10:30Z"),
    ],
)
def test_words_like_numbers_and_dates_beyond_what_these_can_be_are_labels_of_their_own(one, other):
    index = index_among([one, other])
    assert (index(one), index(other), normal(one) == normal(other)) == (0, 1, False)


@pytest.mark.parametrize("clock", ["", " 00:00:00", " 10:30", "T10:30:00", " 10:30+02:00"])
def test_dates_with_slashes_have_the_labels_of_those_with_hyphens(clock):
    assert normal(f"2024/01/31{clock}") == normal(f"2024-01-31{clock}")
