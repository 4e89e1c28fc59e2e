"""Commands of the command line, run in this process, and a table for them."""

from pathlib import Path

import numpy as np
import pandas as pd
from click.testing import CliRunner, Result

from viva_tensor.cli import cli

QUICK = ["--epochs", "2", "--hidden", "8"]


def shop(folder: Path) -> Path:
    """Write a table to a folder and return its path."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"size": rng.uniform(1, 9, 60), "kind": rng.choice(["a", "b"], 60), "fixed": 1})
    table["price"] = table["size"] * 10
    table.loc[5, "price"] = np.nan
    table["flag"] = table["size"] > 5
    path = folder / "shop.csv"
    table.to_csv(path, index=False)
    return path


def invoke(*arguments: object) -> Result:
    """Return the result of a command."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])
