"""What docs/TABLES.md says of its table of errors is what the table gives."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "TABLES.md"
if not PAGE.is_file():
    pytest.skip("docs are not beside this copy of the tests", allow_module_level=True)
WRITTEN = PAGE.read_text(encoding="utf-8")
TEXT = " ".join(WRITTEN.split())
ROWS = re.findall(r"^\| (\w+) \| (?:regression|classification) \| [\d,]+ \| [\d.]+ \| (.+) \|$", WRITTEN, re.MULTILINE)
RATIOS = {name: [1.0, *map(float, ratios.split(" | "))] for name, ratios in ROWS}
TREES, LIGHTGBM, XGBOOST, CATBOOST, OURS = np.array(list(RATIOS.values())).T


def better(theirs):
    return {name for name, worse in zip(RATIOS, theirs < OURS, strict=True) if worse}


def test_the_last_row_has_the_geometric_means():
    means = " | ".join(f"{np.exp(np.log(one).mean()):.3f}" for one in (LIGHTGBM, XGBOOST, CATBOOST, OURS))
    assert f"| geometric mean of {len(RATIOS)} | | | | {means} |" in TEXT


def test_mean_ranks():
    each = np.array([TREES, LIGHTGBM, XGBOOST, CATBOOST, OURS])
    ranks = ((each[None] < each[:, None]).sum(1) + ((each[None] == each[:, None]).sum(1) + 1) / 2).mean(1)
    others = f"{ranks[:3].min():.1f} to {ranks[:3].max():.1f}"
    wanted = f"mean rank is {ranks[4]:.1f} for viva_tensor, {ranks[3]:.1f} for CatBoost, and {others} for the others"
    assert wanted in TEXT
    assert f"better than HistGradientBoosting on {(OURS < 1).sum()} of the {len(OURS)}" in TEXT


def test_where_trees_are_better():
    assert better(TREES) == {"baseball", "mid", "star"}
    assert better(XGBOOST) == {"vietnam", "league"}
    most = [round(100 * (RATIOS[name][4] / RATIOS[name][3] - 1)) for name in ("bfi", "league", "mid")]
    number = {6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}[len(better(CATBOOST))]
    wanted = (
        f"CatBoost is better on {number} of the tables, by {min(most)} to {max(most)}% on `bfi`, `league` and `mid`"
    )
    assert wanted in TEXT
