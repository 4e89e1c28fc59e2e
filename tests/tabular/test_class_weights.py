"""Weights of the classes of a table: as good as rows that are there more often, and words for what they are not."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.utils.class_weight import compute_class_weight

from viva_tensor import tabular
from viva_tensor.cli import cli
from viva_tensor.sklearn import TabularClassifier
from viva_tensor.tabular.class_weights import weights_of_classes
from viva_tensor.tabular.targets import Classes, Number
from viva_tensor.train import Settings

QUICK = Settings(hidden=(8,), epochs=6, batch_size=32, validation_fraction=0.2)
SEVERAL = tabular.Members(3, 8, (8,), steps=40, cycles=1)


def rare(rows, seed=0):
    """Return a table in which one row of twenty is of the class yes, the more often the larger x."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(rows)
    return pd.DataFrame({"x": x, "kind": np.where(rng.random(rows) < 0.1 / (1 + np.exp(-x)), "yes", "no")})


@pytest.mark.parametrize("settings", [QUICK, SEVERAL])
@pytest.mark.parametrize("given", ["balanced", {"yes": 19.0}])
def test_probabilities_are_those_of_a_table_with_so_many_rows(settings, given):
    table, new = rare(1500), rare(4000, 1)
    plain = tabular.fit(table, "kind", settings).model.predict(new)["kind=yes"]
    weighed = tabular.fit(table, "kind", settings, class_weight=given)
    found = weighed.model.predict(new)["kind=yes"]
    assert plain.mean() == pytest.approx(0.05, abs=0.03)
    assert found.mean() == pytest.approx(0.5, abs=0.1)
    assert any("rows of a class count as no" in note for note in weighed.notes)


def test_as_good_as_weights_of_the_rows():
    table = rare(400)
    by_class = tabular.fit(table, "kind", QUICK, class_weight={"yes": 4.0})
    by_row = tabular.fit(table, "kind", QUICK, weights=np.where(table["kind"] == "yes", 4.0, 1.0))
    both = tabular.fit(
        table, "kind", QUICK, class_weight={"yes": 2.0}, weights=np.where(table["kind"] == "yes", 2.0, 1.0)
    )
    new = rare(50, 1)
    for other in (by_row, both):
        np.testing.assert_allclose(
            by_class.model.predict(new)["kind=yes"], other.model.predict(new)["kind=yes"], rtol=1e-4
        )


def test_balanced_is_that_of_scikit_learn(rng):
    codes = rng.choice(3, 50, p=[0.7, 0.2, 0.1]).astype(float)
    found = weights_of_classes("balanced", Classes("y", ("a", "b", "c")), codes).weights
    np.testing.assert_allclose(found, compute_class_weight("balanced", classes=np.unique(codes), y=codes))


def test_balanced_counts_rows_by_their_weights(rng):
    codes, often = rng.choice(3, 50, p=[0.7, 0.2, 0.1]).astype(float), rng.integers(1, 5, 50)
    classes = Classes("y", ("a", "b", "c"))
    repeated = weights_of_classes("balanced", classes, np.repeat(codes, often)).weights
    np.testing.assert_allclose(weights_of_classes("balanced", classes, codes, often / 4).weights, repeated)
    table = rare(300)
    even = np.where(table["kind"] == "yes", (table["kind"] == "no").sum() / (table["kind"] == "yes").sum(), 1.0)
    notes = tabular.fit(table, "kind", QUICK, weights=even, class_weight="balanced").notes
    assert any("rows of a class count as no 1, yes 1:" in note for note in notes)


def test_estimators_take_classes_as_y_has_them():
    table = rare(300)
    y = (table["kind"] == "yes").astype(int)
    by_name = TabularClassifier(settings=QUICK, class_weight={1: 4.0}).fit(table[["x"]], y)
    other = TabularClassifier(settings=QUICK).fit(table[["x"]], y, sample_weight=np.where(y == 1, 4.0, 1.0))
    np.testing.assert_allclose(by_name.predict_proba(table[["x"]]), other.predict_proba(table[["x"]]), rtol=1e-4)
    lacks = r"fit: class_weight has 2, which y has not; its classes are \[0, 1\]"
    for given, same in (({2: 4.0}, None), ({2: 4.0, 1: 3.0}, {1: 3.0})):  # y may be a part of all
        with pytest.warns(UserWarning, match=lacks) as told:
            other = TabularClassifier(settings=QUICK, class_weight=given).fit(table[["x"]], y)
        assert told[0].filename == __file__
        alike = TabularClassifier(settings=QUICK, class_weight=same).fit(table[["x"]], y)
        np.testing.assert_array_equal(other.predict_proba(table[["x"]]), alike.predict_proba(table[["x"]]))


def test_classes_are_named_by_their_values():
    table = rare(300)
    table["kind"] = (table["kind"] == "yes").astype(int)
    task = tabular.Task("kind", kind="class")
    told = [
        [note for note in tabular.fit(table, task, QUICK, class_weight=given).notes if "count as" in note]
        for given in ({1: 4.0}, {1.0: 4.0}, {"1": 4.0})
    ]
    assert told[0] == told[1] == told[2] != []
    with pytest.raises(tabular.DataError, match="names a class twice"):
        tabular.fit(table, task, QUICK, class_weight={1: 4.0, "1": 4.0})


def test_classes_are_known_by_any_form_of_their_names():
    def weights(labels, given):
        return weights_of_classes(given, Classes("y", labels), np.array([0.0, 1.0])).weights.tolist()

    assert weights(("1", "2"), {"2.0": 3}) == [1, 3]
    assert weights(("False", "True"), {"true": 3}) == [1, 3]
    assert weights(("Red", "red"), {"red": 3}) == [1, 3]  # the very name goes before
    with pytest.raises(tabular.DataError, match="a class weight for 'RED'"):
        weights(("Red", "red"), {"RED": 3})
    with pytest.raises(tabular.DataError, match="names a class twice"):
        weights(("1", "2"), {"2.0": 3, "2": 4})


def test_the_command_line_has_them(tmp_path):
    table = rare(300)
    table["kind"] = table["kind"].replace("yes", "a=b")
    table.to_csv(tmp_path / "t.csv", index=False)
    flags = ["train", str(tmp_path / "t.csv"), "--target", "kind", "--output", str(tmp_path / "run"), "--force"]
    for given, wanted in ((["a=b=3"], "count as a=b 3, no 1:"), (["a=b=3", "no=2"], "count as a=b 3, no 2:")):
        result = CliRunner().invoke(cli, [*flags, *(flag for one in given for flag in ("--class-weight", one))])
        assert result.exit_code == 0, result.output
        assert wanted in result.stdout
    result = CliRunner().invoke(cli, [*flags, "--class-weight", "balanced"])
    assert result.exit_code == 0, result.output
    for wrong in (["a=b"], ["balanced", "no=2"]):
        result = CliRunner().invoke(cli, [*flags, *(flag for one in wrong for flag in ("--class-weight", one))])
        assert result.exit_code == 2
        assert "--class-weight takes balanced alone, or a label and a number such as yes=2; got" in result.stderr
    result = CliRunner().invoke(cli, [*flags, "--class-weight", "no=2", "--class-weight", "no=3"])
    assert result.exit_code == 2
    assert "--class-weight has two weights for 'no', wanted one" in result.stderr


@pytest.mark.parametrize("scale", [2.0**600, 2.0**-600])
def test_weights_whose_squares_are_infinite_or_zero_are_as_good_as_others(scale):
    table = rare(300)
    other, plain = (
        tabular.fit(table, "kind", QUICK, class_weight={"yes": 4 * one, "no": one}).model for one in (scale, 1.0)
    )
    np.testing.assert_array_equal(other.predict(table)["kind=yes"], plain.predict(table)["kind=yes"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "x", "class_weight": "balanced"}, "class weights are for classes, and 'x' is learned as a number"),
        ({"class_weight": "even"}, "class_weight='even', wanted 'balanced' or a weight for each label"),
        ({"class_weight": 3.0}, r"class_weight=3\.0, wanted 'balanced' or a weight for each label"),
        ({"class_weight": ()}, r"class_weight=\(\), wanted 'balanced' or a weight for each label"),
        ({"class_weight": {"maybe": 2.0}}, "a class weight for 'maybe'; the classes of 'kind' are 'no', 'yes'"),
        ({"class_weight": {"yes": 0.0}}, r"the class weight of 'yes' is 0\.0, wanted a number above 0"),
        ({"class_weight": {"yes": "2"}}, "the class weight of 'yes' is '2', wanted a number above 0"),
    ],
)
def test_refused(given, message):
    with pytest.raises(tabular.DataError, match=message):
        tabular.run(rare(120), **{"task": "kind", "settings": QUICK, **given})


def test_numbers_have_no_classes():
    with pytest.raises(tabular.DataError, match="class weights are for classes"):
        weights_of_classes({"1": 2.0}, Number("y", 0.0, 1.0), np.zeros(3))


def test_a_network_with_weights_is_not_measured_by_baselines_without():
    run = tabular.run(rare(1000), "kind", SEVERAL, class_weight="balanced")
    assert run.scores["network"].log_loss > 1.5 * run.scores["most frequent class"].log_loss
    told = tabular.report.verdict(run)
    assert "with class weights, which these scores and the baselines ignore" in told[-1]
    assert not any("no better than a baseline" in line for line in told)
