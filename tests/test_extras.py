"""Whatever needs a package that is not installed says what to install."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from viva_tensor import tabular, train
from viva_tensor.examples import burgers, molecule, uncertainty
from viva_tensor.extras import extra

IMPORTS = """
import importlib, sys
sys.modules[sys.argv[1]] = None
for name in sys.argv[2:]:
    try:
        importlib.import_module("viva_tensor." + name)
    except ImportError as error:
        print(error)
"""
TABLES = ("tabular", *(f"examples.{name}" for name in ("diamonds", "burgers", "molecule", "uncertainty")))
OF_SKLEARN = ("sklearn", "examples.digits", "examples.cancer")


@pytest.mark.parametrize(
    ("package", "names", "name"),
    [
        ("pandas", TABLES, "train"),
        ("tqdm", TABLES, "train"),
        ("click", (*TABLES[1:], *OF_SKLEARN[1:]), "train"),
        ("sklearn", OF_SKLEARN, "sklearn"),
    ],
)
def test_modules(package, names, name):
    told = subprocess.run([sys.executable, "-c", IMPORTS, package, *names], capture_output=True, text=True, check=True)
    lines = told.stdout.splitlines()
    assert len(lines) == len(names)
    for line in lines:
        assert line.startswith(f"this needs {package}")
        assert line.endswith(f'; pip install "viva-tensor[{name}]"')


def test_pictures(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    history = {"epoch": [1, 2], "train_loss": [1.0, 0.1]}
    for call in (
        lambda: train.plot_losses(history),
        lambda: burgers.draw("x.png", None, None, None, None),
        lambda: molecule.draw("x.png", None, None, None),
        lambda: uncertainty.draw("x.png", None, None, None, None),
    ):
        with pytest.raises(ImportError, match=r'this needs matplotlib.*; pip install "viva-tensor\[plot\]"'):
            call()


def test_tables_of_other_libraries(monkeypatch):
    table = pa.table({"x": np.arange(60.0), "y": np.arange(60.0)})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'this needs pyarrow; pip install "viva-tensor\[train\]"'):
        tabular.run(table, "y")
    assert tabular.fit(pd.DataFrame({"x": np.arange(60.0), "y": np.arange(60.0)}), "y", train.Settings(epochs=1))


def test_a_package_that_is_there_and_broken_says_so_itself():
    with pytest.raises(ImportError, match=r"^failed to import$"), extra("plot"):
        raise ImportError("failed to import")
