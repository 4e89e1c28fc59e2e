"""The digests of the fixed runs, with this Python and instruction set: what stress/determinism.py asks for."""

import json
import platform

import numpy
from support import fixed_runs

import viva_tensor
from viva_tensor.kernels import _dispatch

if __name__ == "__main__":
    found = {}
    for threads in (1, 2, 3, 8):
        with viva_tensor.num_threads(threads):
            found[threads] = fixed_runs.digests()
    eager = {name: fixed_runs.eagerly(name) for name in fixed_runs.RUNS}
    about = f"Python {platform.python_version()}, NumPy {numpy.__version__}"
    print(json.dumps([about, _dispatch.supported(), fixed_runs.CLASS, found, eager]))
