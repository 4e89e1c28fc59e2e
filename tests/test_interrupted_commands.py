"""Commands that Ctrl-C or SIGTERM ends, in processes of their own: what they say and leave, and their exit status."""

import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from support.commands import QUICK, invoke, shop
from support.fresh import python_path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="os.kill ends a process of Windows at once")

AT_EPOCH = """
from viva_tensor.train.training import Training
advance = Training.advance
def press(self, each_step):
    if self.epoch == 1:
        os.kill(os.getpid(), SIGNAL)
    advance(self, each_step)
Training.advance = press
"""
AFTER_TWO_NETWORKS = """
import time
from viva_tensor.tabular import cycles
trained, done = cycles._cycles, []
def press(*arguments):
    if len(done) == 2:
        os.kill(os.getpid(), SIGNAL)
        while not arguments[-1].stopped:
            time.sleep(0.001)
    done.append(trained(*arguments))
    return done[-1]
cycles._cycles = press
"""


def command(hook, number, *arguments, ignored=False):
    """Call the command line in a process that does something else first, such as sending itself a signal later."""
    code = f"import os, signal\nSIGNAL = {int(number)}\n{hook}\nfrom viva_tensor.__main__ import main\nmain()"
    if ignored:
        code = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{code}"
    environment = os.environ | {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": "1"}
    started = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(started, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("number", "ignored"), [(signal.SIGINT, False), (signal.SIGTERM, False),
                                                 (signal.SIGTERM, True)])  # fmt: skip
def test_one_network_leaves_its_checkpoint(number, ignored, tmp_path):
    flags = ["train", shop(tmp_path), "--target", "price", *QUICK, "--output"]
    done = command(AT_EPOCH, number, *flags, tmp_path / "a", ignored=ignored)
    kept = f"the same command with --resume continues from {tmp_path / 'a' / 'checkpoint.safetensors'}"
    assert (done.returncode, done.stderr) == (130, f"Error: interrupted; {kept}\n")
    assert invoke(*flags, tmp_path / "a", "--resume").exit_code == 0
    assert invoke(*flags, tmp_path / "b").exit_code == 0
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_networks_that_are_done_are_kept(number, tmp_path):
    table = pd.DataFrame({"x": np.arange(200.0) % 17, "z": np.arange(200.0) % 5})
    table.assign(y=table["x"] * table["z"]).to_csv(tmp_path / "t.csv", index=False)
    flags = ["--target", "y", "--threads", "1", "--output", tmp_path / "run"]
    done = command(AFTER_TWO_NETWORKS, number, "train", tmp_path / "t.csv", *flags)
    kept = f"interrupted; {tmp_path / 'run'} holds the model of what had been trained by then"
    assert (done.returncode, done.stderr) == (130, f"Warning: interrupted; kept: 3 networks of 5\nError: {kept}\n")
    assert f"Wrote {tmp_path / 'run' / 'model.safetensors'}" in done.stdout
    assert invoke("predict", tmp_path / "run", tmp_path / "t.csv").exit_code == 0


@pytest.mark.parametrize("module", ["click", "pandas", "viva_tensor.tabular.runs"])
def test_during_the_imports_there_is_nothing_to_tell_but_that(module, tmp_path):
    hook = f"""
import sys
class Press:
    @staticmethod
    def find_spec(name, *_):
        if name == "{module}":
            os.kill(os.getpid(), SIGNAL)
sys.meta_path.insert(0, Press)
"""
    done = command(hook, signal.SIGINT, "train", tmp_path / "t.csv", "--target", "y")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Error: interrupted; nothing was written\n")


def test_the_handler_before_comes_back(tmp_path):
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert invoke("train", shop(tmp_path), "--target", "price", "--output", tmp_path / "run", *QUICK).exit_code == 0
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
