"""Whatever needs a package that is not installed says what to install."""

import subprocess
import sys
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES

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


def test_a_library_that_does_not_load_and_a_name_that_is_not_there_say_so_themselves(tmp_path, monkeypatch):
    (tmp_path / f"a_broken_library{EXTENSION_SUFFIXES[0]}").write_bytes(b"no library")
    (tmp_path / "a_package_without_names.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="a_broken_library") as raised, extra("plot"):
        import_module("a_broken_library")
    assert "pip install" not in str(raised.value)
    with pytest.raises(ImportError, match=r"^cannot import name 'missing'"), extra("plot"):
        from a_package_without_names import missing  # noqa: F401
