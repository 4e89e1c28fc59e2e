"""A fixed run ends with the same bits: at 1 to 8 threads, eager and compiled, broken off and resumed, anywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.fixed_runs import CLASS, RUNS, eagerly, in_batches, in_program, known, resumed

import viva_tensor as vt
from viva_tensor.kernels import _dispatch

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(CLASS is None, reason=f"no digests are stored for the instruction set {_dispatch.isa}")


@pytest.mark.parametrize("name", RUNS)
class TestTheStoredBits:
    def test_compiled_at_1_to_8_threads(self, name):
        for threads in range(1, 9):
            with vt.num_threads(threads):
                assert in_program(name) == known()[name][0], f"{name} on {threads} threads"

    def test_in_shuffled_batches(self, name):
        for threads in (1, 3):
            with vt.num_threads(threads):
                assert in_batches(name) == known()[name][1], f"{name} in batches on {threads} threads"

    def test_eager(self, name):
        assert eagerly(name) == known()[name][0], f"{name}, eager"

    def test_broken_off_and_resumed(self, name, tmp_path):
        assert resumed(name, tmp_path) == known()[name][0], f"{name}, resumed"


@pytest.mark.parametrize("isa", _dispatch.supported())
def test_in_another_process_on_each_instruction_set(isa):
    path = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    environment = os.environ | {"VIVA_TENSOR_ISA": isa, "OMP_NUM_THREADS": "2", "PYTHONPATH": path}
    code = "import json; from support import fixed_runs; print(json.dumps([fixed_runs.digests(), fixed_runs.known()]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    found, stored = json.loads(done.stdout)
    other = [name for name in RUNS if found[name] != stored[name]]
    assert not other, f"other bits on {isa}: {', '.join(other)}"


@pytest.mark.skipif("MSC" in _dispatch.compiler, reason="Microsoft's compiler has no such flag")
def test_what_is_fused_is_said_by_the_cores_not_chosen_by_the_compiler():
    assert "-ffp-contract=off" in vt.config()["flags"].split()
