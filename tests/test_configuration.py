import ast
import subprocess
import sys
from pathlib import Path

import viva_tensor as vt


def test_show_config_prints_what_config_holds(capsys):
    vt.show_config()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(vt.config())
    for name, value in vt.config().items():
        assert any(line.startswith(name) and line.endswith(str(value)) for line in lines)
    for name in ("version", "compiler", "flags", "OpenMP", "instruction set", "threads", "threads decided by"):
        assert name in vt.config()


def test_no_flag_reorders_sums():
    assert "fast" not in vt.config()["flags"].replace("-ffp-contract=fast", "")
    assert "-march=native" not in vt.config()["flags"] or vt.config()["instruction set"] == "native"


def test_import_needs_numpy_alone():
    code = "import sys, numpy; before = set(sys.modules); import viva_tensor; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    outside = {name.partition(".")[0] for name in ast.literal_eval(done.stdout)} - set(sys.stdlib_module_names)
    assert {name for name in outside if not name.startswith("_")} <= {"viva_tensor", "cython_runtime", "numpy"}


def test_rooms_import_only_from_rooms_below():
    rooms = ["error", "extras", "files", "kernels", "telemetry", "autograd", "nn", "optim"]
    root = Path(vt.__file__).parent
    for place, room in enumerate(rooms):
        files = [*root.glob(f"{room}.py"), *(root / room).rglob("*.py")]
        assert files
        for file in files:
            for node in ast.walk(ast.parse(file.read_text())):
                names = []
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("viva_tensor"):
                    inner = node.module.split(".")[1:2]
                    names = inner or [alias.name for alias in node.names]
                for name in names:
                    assert name in rooms[: place + 1], f"{file.name} imports {name}"
