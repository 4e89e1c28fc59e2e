"""Imports run one way: down the list of rooms in CONTRIBUTING, and within a room in no circle, types included."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from support.fresh import run

import viva_tensor

PACKAGE = Path(viva_tensor.__file__).parent
CONTRIBUTING = Path(__file__).parent.parent / "CONTRIBUTING.md"
ABOVE_ALL = ("__init__", "__main__")
pytestmark = pytest.mark.skipif(not CONTRIBUTING.exists(), reason="no CONTRIBUTING.md, whose list of rooms is meant")


def rooms():
    """The names of rooms, from the ground up: rows of the table that begins with `error.py`."""
    table = CONTRIBUTING.read_text(encoding="utf-8").partition("| room | subject |")[2].partition("\n\n")[0]
    rows = [re.findall(r"`(\w+)(?:\.py|/)`", row.split("|")[1]) for row in table.splitlines() if "`" in row]
    return [name for row in rows for name in row]


def modules():
    """The files of every module, by its name without the package's own; a package goes by its folder."""
    found = {}
    for file in (*PACKAGE.rglob("*.pxd"), *PACKAGE.rglob("*.pyx"), *PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found.setdefault(name, []).append(file)
    return found


def imported(file, known):
    """The modules that a file names in its imports, those for types alone and those within functions included."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        pairs = re.findall(r"^ *from viva_tensor([\w.]*) c?import (\([^)]*\)|[^\n]+)", text, re.MULTILINE)
        named = [(module.removeprefix("."), re.findall(r"(\w+)(?: as \w+)?", names)) for module, names in pairs]
    else:
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
        named = [
            (node.module.removeprefix("viva_tensor").removeprefix("."), [alias.name for alias in node.names])
            for node in nodes
            if node.module == "viva_tensor" or (node.module or "").startswith("viva_tensor.")
        ]
    found = set()
    for module, names in named:
        for name in names:
            inner = f"{module}.{name}".removeprefix(".")
            found.add(inner if inner in known else module or "__init__")
    return found


def arrows():
    known = modules()
    return {name: set().union(*(imported(file, known) for file in files)) - {name} for name, files in known.items()}


def test_every_module_is_in_a_room():
    listed = set(rooms())
    assert {name.partition(".")[0] for name in modules()} - set(ABOVE_ALL) == listed


def test_each_file_of_a_room_is_named_and_no_other():
    inside = CONTRIBUTING.read_text(encoding="utf-8").partition("### Inside the rooms")[2].partition("###")[0]
    _, *texts = re.split(r"^(`\w+/`.*)\n\n\|", inside, flags=re.MULTILINE)
    named = {
        (room, file)
        for title, text in zip(texts[::2], texts[1::2], strict=True)
        for room in re.findall(r"\w+", title)
        for file in re.findall(r"`(\w+\.pyx?)`", text)
    }
    found = [(name.split(".")[0], file) for name, files in modules().items() for file in files if "." in name]
    own = [one for one in found if one[0] != "examples" and one[1].parent.name != "core"]
    there = {(room, file.name) for room, file in own if file.suffix != ".pxd" and file.name != "__init__.py"}
    assert there - named == set()
    assert {file for _, file in named - there} <= {file for _, file in there}  # rooms of one table share it


def test_no_import_runs_up_or_sideways():
    order = {name: place for place, name in enumerate(rooms())}
    wrong = []
    for module, targets in arrows().items():
        room = module.partition(".")[0]
        for target in targets:
            other = target.partition(".")[0]
            if room not in ABOVE_ALL and other != room and order.get(other, len(order)) >= order[room]:
                wrong.append(f"{module} imports {target}")
    assert not wrong


def test_what_other_rooms_use_has_a_public_name():
    wrong = []
    for module, files in modules().items():
        room = module.partition(".")[0]
        for file in files:
            if file.suffix != ".py" or room in ABOVE_ALL:
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("viva_tensor."):
                    path = [*node.module.split(".")[1:]]
                    names = [[*path, alias.name] for alias in node.names]
                    wrong += [f"{module}: {name}" for name in names if name[0] != room and private(name[1:])]
    assert not wrong


def private(path):
    return any(name.startswith("_") and not name.startswith("__") for name in path)


def test_no_imports_go_in_a_circle():
    TopologicalSorter(arrows()).prepare()  # raises CycleError with the circle


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("kernels.sums", "kernels._sums"),
        ("autograd.tape", "kernels.arrays"),
        ("program._executor", "kernels.cores"),
        ("kernels._team", "kernels.cores"),
        ("train.fitting", "train.progress"),
    ],
)
def test_imports_are_found(module, target):
    assert target in arrows()[module]


def test_importing_the_package_imports_its_parts_only_when_they_are_used():
    loaded = run("import sys, viva_tensor; print(*(name for name in sys.modules if name.startswith('viva_tensor.')))")
    parts = {name.split(".")[1] for name in loaded.split()}
    assert "kernels" in parts
    assert not parts & {"autograd", "nn", "optim", "program", "tabular", "train"}
    assert set(viva_tensor.__all__) <= set(dir(viva_tensor))
    assert run("import viva_tensor; print(viva_tensor.nn.__name__)") == "viva_tensor.nn"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        viva_tensor.nothing  # noqa: B018
