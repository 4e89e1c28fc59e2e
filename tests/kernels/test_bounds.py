"""Kernels read and write nothing outside their operands: arrays that end where the next page may not be touched."""

import subprocess
import sys

import pytest

CODE = """
import ctypes, itertools, mmap
import numpy as np
from viva_tensor import kernels

libc = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE

def guarded(values):
    '''A copy that ends at the end of its last page, or begins at the beginning of its first, between guards.'''
    for at_end in (True, False):
        pages = -(-values.nbytes // PAGE)
        memory = mmap.mmap(-1, (pages + 2) * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for guard in (start, start + (pages + 1) * PAGE):
            assert libc.mprotect(ctypes.c_void_p(guard), PAGE, 0) == 0
        offset = PAGE + (pages * PAGE - values.nbytes if at_end else 0)
        array = np.frombuffer(memory, values.dtype, values.size, offset).reshape(values.shape)
        array[...] = values
        yield array

rng = np.random.default_rng(0)
sizes = [1, 2, 3, 5, 7, 9, 15, 17, 31, 33, 65, 257]
for dtype in ("f4", "f8"):
    for m, k, n in itertools.islice(itertools.product(sizes, repeat=3), 0, None, 7):
        a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        for x, y, out in zip(guarded(a), guarded(b), guarded(np.zeros((m, n), dtype))):
            kernels.matmul(x, y, out=out)
            assert np.allclose(out, a @ b, atol=1e-3)
        for xt, yt, bias in zip(guarded(a.T.copy()), guarded(b.T.copy()), guarded(b[0])):
            kernels.linear(xt.T, yt, bias)
            kernels.matmul(xt.T, yt.T)
    for m, n in itertools.product(sizes, repeat=2):
        a = rng.standard_normal((m, n)).astype(dtype)
        for x, row, out in zip(guarded(a), guarded(a[0]), guarded(a)):
            kernels.add(x, row, out=out)
            kernels.add(x[:, ::-1], row, out=out.T.copy().T)
            kernels.relu_backward(x, x, out=out)
            for axis in (None, 0, 1):
                kernels.sum(x, axis)
            kernels.mean_squared_error(x, out)
            kernels.mean_squared_error_backward(1.0, x, out)
            kernels.sgd(x, out, 0.1, 0.9, x)
            kernels.softmax_backward(x, kernels.softmax(x))
            kernels.log_softmax_backward(x, kernels.log_softmax(x))
            kernels.normalize_backward(x, kernels.normalize(x))
        labels, shares = np.arange(m).astype(dtype) % n, kernels.softmax(a)
        for x, classes, target in zip(guarded(a), guarded(labels), guarded(shares)):
            for one in (classes, target):
                kernels.cross_entropy_backward(kernels.cross_entropy(x, one), x, one)
print("whole")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="guards pages with Linux's mprotect")
def test_nothing_outside_the_operands_is_touched():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "whole"), done.stderr
