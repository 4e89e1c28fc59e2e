"""A folder of tables and the command line run on them, for the tests of both."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from viva_tensor.cli import cli
from viva_tensor.tabular import members, runs

N = 400


class Folder:
    """A folder with tables, and the command line run on them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, content: str | pd.DataFrame) -> None:
        if isinstance(content, pd.DataFrame):
            content = content.to_csv(index=False)
        (self.path / name).write_text(content)

    def call(self, *arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(one) for one in arguments])

    def train(self, name: str, target: str, *flags: object) -> Any:
        said = ["--target", target, "--output", self.path / "run", "--force", *flags]
        done = self.call("train", self.path / name, *said)
        assert done.exit_code == 0, done.output
        self.report = json.loads((self.path / "run" / "report.json").read_text())
        self.said = "\n".join([*self.report["notes"], *map(str, self.report["left_out"].items())])
        scores = "training mean" if "training mean" in self.report["test"] else "most frequent class"
        for note in self.report["notes"]:
            assert note in done.stdout.partition(scores)[0]  # said on the terminal, too, and before
        return self.report["test"]["network"]

    def refused(self, name: str, target: str, *flags: object) -> str:
        said = ["--target", target, "--output", self.path / "run", *flags]
        done = self.call("train", self.path / name, *said)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.output
        return done.stderr

    def predict(self, name: str, *flags: object) -> tuple[pd.DataFrame, str]:
        done = self.call("predict", self.path / "run", self.path / name, *flags)
        assert done.exit_code == 0, done.output
        return pd.read_csv(io.StringIO(done.stdout)), done.stderr


def quick(monkeypatch: pytest.MonkeyPatch, folder: Folder) -> Folder:
    """Spare the time of scikit-learn's baselines, and of several networks where one tells as much."""
    monkeypatch.setattr(runs, "imports_scikit_learn", lambda use: False)
    monkeypatch.setattr(members, "LEAST_ROWS", 10 * N)
    return folder


def plane() -> pd.DataFrame:
    """Return numbers x and z, and y = 3 x + z, which a network learns exactly."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=N).round(3) * 100, "z": rng.normal(size=N)})
    return table.assign(y=3 * table["x"] + 100 * table["z"])
