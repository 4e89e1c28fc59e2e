"""Converters for skl2onnx that packages name by entry points: `import viva_tensor.export` loads them."""

from importlib.metadata import entry_points
from importlib.util import find_spec

import pytest
from support.fresh import run

from viva_tensor.export.converters import GROUP


@pytest.fixture
def installed(tmp_path):
    """A folder with an empty skl2onnx and a package that has converters, of which one module cannot be imported."""
    (tmp_path / "skl2onnx").mkdir()
    (tmp_path / "skl2onnx" / "__init__.py").touch()
    (tmp_path / "bends.py").write_text("print('told')\n", encoding="utf-8")
    (tmp_path / "breaks.py").write_text("1 / 0\n", encoding="utf-8")
    package = tmp_path / "bends-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: bends\nVersion: 1.0\n", encoding="utf-8")
    (package / "entry_points.txt").write_text(f"[{GROUP}]\nbends = bends\nbreaks = breaks\n", encoding="utf-8")
    return tmp_path


def test_the_networks_are_among_them():
    assert "viva_tensor.sklearn.onnx" in {one.value for one in entry_points(group=GROUP)}
    assert find_spec("viva_tensor.sklearn.onnx") is not None


def test_those_of_other_packages_are_loaded_and_failing_ones_told(installed):
    printed = run(
        f"import sys, warnings; sys.path.insert(0, {str(installed)!r});"
        "warnings.showwarning = lambda message, *where: print(message);"
        "import viva_tensor.export; print('imported')"
    )
    assert "told\n" in printed
    assert "the converters of 'breaks' (breaks) are not loaded: division by zero" in printed
    assert printed.endswith("imported")


def test_nothing_is_loaded_without_skl2onnx():
    code = "import sys; sys.modules['skl2onnx'] = None; import viva_tensor.export; print('sklearn' in sys.modules)"
    assert run(code) == "False"
