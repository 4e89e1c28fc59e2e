import numpy as np
import pandas as pd
import pytest

from viva_tensor.tabular.data import DataError, split_rows, target_kind

TABLE = pd.DataFrame({"size": [1.5, 2.0, np.nan, 4.0], "kind": ["a", None, "b", "a"], "price": [10, 20, 30, 40]})


class TestTargetKind:
    @pytest.mark.parametrize(
        ("column", "kind"),
        [
            ([1, 2], "number"),
            ([1.5, np.nan], "number"),
            (["a", "b"], "class"),
            (["1", "2"], "class"),
            (pd.Categorical([1, 2]), "class"),
            ([True, False], "class"),
            (pd.array([True, None], dtype="boolean"), "class"),
        ],
    )
    def test_kinds(self, column, kind):
        assert target_kind(pd.DataFrame({"y": column}), "y") == kind

    def test_unknown_column_names_the_columns_and_the_nearest(self):
        with pytest.raises(DataError, match=r"no column 'PIRCE'; did you mean 'price'\? .*: size, kind, price$"):
            target_kind(TABLE, "PIRCE")
        with pytest.raises(DataError, match=r"no column 'zzz'\. The columns are: size, kind, price$"):
            target_kind(TABLE, "zzz")

    @pytest.mark.parametrize(
        ("column", "held"), [(pd.to_datetime(["2020-01-01", "2020-01-02"]), "dates"), ([[1], [2]], "other")]
    )
    def test_neither_numbers_nor_classes(self, column, held):
        with pytest.raises(DataError, match=f"column 'y' holds {held}"):
            target_kind(pd.DataFrame({"y": column}), "y")

    def test_no_values(self):
        with pytest.raises(DataError, match="'y' has no values"):
            target_kind(pd.DataFrame({"y": [None, np.nan]}), "y")


class TestSplitRows:
    @pytest.mark.parametrize(("n_rows", "fraction"), [(4, 0.2), (5, 0.2), (101, 0.2), (10, 0.01)])
    def test_parts_are_disjoint_and_complete(self, n_rows, fraction):
        split = split_rows(n_rows, fraction)
        assert sorted(np.concatenate(split)) == list(range(n_rows))
        assert min(map(len, split)) >= 1
        assert len(split.train) >= 2

    def test_sizes(self):
        assert [len(part) for part in split_rows(1000, 0.3)] == [630, 70, 300]

    def test_seed_decides(self):
        assert np.array_equal(split_rows(50, seed=1).test, split_rows(50, seed=1).test)
        assert not np.array_equal(split_rows(50, seed=1).test, split_rows(50, seed=2).test)
        assert split_rows(50).test.tolist() != list(range(10))

    @pytest.mark.parametrize(("n_rows", "fraction"), [(0, 0.2), (1, 0.2), (3, 0.2), (10, 0.9), (10, 0.999)])
    def test_too_few_rows(self, n_rows, fraction):
        with pytest.raises(DataError, match=f"^{n_rows} rows? with a target (is|are) too few to split") as caught:
            split_rows(n_rows, fraction)
        wanted = int(str(caught.value).split("wanted ")[1].split()[0].replace(",", ""))
        assert len(split_rows(wanted, fraction).train) == 2
        with pytest.raises(DataError, match=f"wanted {wanted:,} or more"):
            split_rows(wanted - 1, fraction)

    def test_one_row_is_too_few(self):
        with pytest.raises(DataError, match=r"^1 row with a target is too few to split into training, .* wanted 4 or"):
            split_rows(1)
        with pytest.raises(DataError, match=r"^2 rows with a target are too few .* validation rows; wanted 3 or more"):
            split_rows(2, 0)
