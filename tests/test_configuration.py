import ast
import subprocess
import sys

from support.fresh import run

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
    assert "fast" not in vt.config()["flags"]
    assert "-march=native" not in vt.config()["flags"] or vt.config()["instruction set"] == "native"


def test_import_needs_numpy_alone():
    code = "import sys, numpy; before = set(sys.modules); import viva_tensor; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    outside = {name.partition(".")[0] for name in ast.literal_eval(done.stdout)} - set(sys.stdlib_module_names)
    assert {name for name in outside if not name.startswith("_")} <= {"viva_tensor", "cython_runtime", "numpy"}


def test_no_text_is_read_in_an_encoding_that_nobody_named():
    code = """
from viva_tensor import bench
from viva_tensor.tabular import memory
print(memory.free_memory() > 0, *bench.compare(1, ["viva_tensor"], seconds=0.001, rounds=1))
"""
    strict = {"PYTHONWARNDEFAULTENCODING": "1", "PYTHONWARNINGS": "error::EncodingWarning"}
    assert run(code, **strict) == "True viva_tensor"
